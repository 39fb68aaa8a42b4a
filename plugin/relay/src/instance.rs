//! Under which name a filter's checks are kept.

/// Without a name of any kind.
const DEFAULT: &str = "testrelay";

/// What istiod puts behind a plugin's name. Up to 1.29 a WasmPlugin's filter is called `NAMESPACE.NAME`; from 1.30 on istiod makes
/// a TrafficExtension of it and calls it so with this behind, and a TrafficExtension's own filter `NAMESPACE.NAME` again. An
/// upgrade must not leave behind what is pending.
const TRANSLATED: &str = "~istio-translated-wasmplugin";

/// The configured instance; else the plugin's name as Envoy says it, without what istiod has put behind it. Never empty.
pub fn instance<'a>(configured: Option<&'a str>, plugin_name: Option<&'a str>) -> &'a str {
    let named = || plugin_name.map(|name| name.strip_suffix(TRANSLATED).unwrap_or(name));
    configured.or_else(named).filter(|name| !name.is_empty()).unwrap_or(DEFAULT)
}

/// What the keys of an instance begin with. The number is the layout's version.
pub fn key_prefix(instance: &str) -> String {
    format!("testrelay/1/{instance}/")
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
    fn only_that_end_of_a_name_is_left_out() {
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
