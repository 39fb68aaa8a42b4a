//! The name under which a filter's checks are kept.

/// The instance, if neither the configuration nor Envoy gives a name.
const DEFAULT: &str = "testrelay";

/// The suffix that istiod adds to a plugin's name. Up to 1.29 a WasmPlugin's filter is called `NAMESPACE.NAME`. From
/// 1.30 on istiod translates it into a TrafficExtension and adds this suffix, while a TrafficExtension's own filter is
/// again called `NAMESPACE.NAME`. An upgrade must not abandon pending checks.
const TRANSLATED: &str = "~istio-translated-wasmplugin";

/// The configured instance, else the plugin's name as Envoy gives it, without istiod's suffix. Never empty.
pub fn instance<'a>(configured: Option<&'a str>, plugin_name: Option<&'a str>) -> &'a str {
    let named = || plugin_name.map(|name| name.strip_suffix(TRANSLATED).unwrap_or(name));
    configured.or_else(named).filter(|name| !name.is_empty()).unwrap_or(DEFAULT)
}

/// The first part of all keys. The number is the layout's version.
const KEYS: &str = "testrelay/1/";

/// The prefix of an instance's keys.
pub fn key_prefix(instance: &str) -> String {
    format!("{KEYS}{instance}/")
}

/// The instance whose keys have this prefix.
pub(crate) fn of_prefix(prefix: &str) -> &str {
    let instance = prefix.strip_prefix(KEYS).unwrap_or(prefix);
    instance.strip_suffix('/').unwrap_or(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_istiod_has_renamed_is_the_same_instance() {
        let names = ["testrelay.testrelay", "testrelay.testrelay~istio-translated-wasmplugin"];
        assert_eq!(names.map(|name| instance(None, Some(name))), ["testrelay.testrelay"; 2]);
    }

    #[test]
    fn only_istiods_suffix_is_removed() {
        for name in ["testrelay", "a~b", "~istio-translated-wasmplugin.a"] {
            assert_eq!(instance(None, Some(name)), name);
        }
    }

    #[test]
    fn what_is_configured_comes_first_and_no_instance_is_without_a_name() {
        assert_eq!(instance(Some("shop"), Some("testrelay.testrelay")), "shop");
        for nameless in [None, Some(""), Some(TRANSLATED)] {
            assert_eq!(instance(None, nameless), "testrelay");
        }
    }
}
