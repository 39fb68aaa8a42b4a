//! `envoy/envoy.yaml` as a JSON value, and the places in it that tests change.
//!
//! Everything here finds its place by name and changes the parsed value, never the text.

pub use scenarios::merge;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// The file that users copy.
pub const ENVOY_YAML: &str = include_str!("../../envoy/envoy.yaml");

/// The clusters of [`ENVOY_YAML`] that lead to Testkube: for the module's own calls, and for downloads.
pub const OF_TESTKUBE: [&str; 2] = ["testkube", "testkube-artifacts"];

/// [`ENVOY_YAML`], parsed.
pub fn shipped() -> Result<Value> {
    serde_saphyr::from_str(ENVOY_YAML).context("envoy/envoy.yaml")
}

/// The value at a JSON pointer, which must be there.
pub fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    value.pointer_mut(pointer).with_context(|| format!("the configuration has no {pointer}"))
}

/// The member of the list at `pointer` whose `name` is `name`.
pub fn named<'a>(value: &'a mut Value, pointer: &str, name: &str) -> Result<&'a mut Value> {
    list(value, pointer)?
        .iter_mut()
        .find(|member| member["name"] == name)
        .with_context(|| format!("the configuration has no {name:?} in {pointer}"))
}

/// The list at `pointer`.
pub fn list<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Vec<Value>> {
    at(value, pointer)?.as_array_mut().with_context(|| format!("{pointer} is not a list"))
}

/// The listener `testrelay` of a bootstrap configuration.
pub fn listener(bootstrap: &mut Value) -> Result<&mut Value> {
    named(bootstrap, "/static_resources/listeners", "testrelay")
}

/// A cluster of a bootstrap configuration.
pub fn cluster<'a>(bootstrap: &'a mut Value, name: &str) -> Result<&'a mut Value> {
    named(bootstrap, "/static_resources/clusters", name)
}

/// The HTTP connection manager of a listener.
pub fn connection_manager(listener: &mut Value) -> Result<&mut Value> {
    let filter =
        named(listener, "/filter_chains/0/filters", "envoy.filters.network.http_connection_manager")?;
    at(filter, "/typed_config")
}

/// The routes of a listener, in their order.
pub fn routes(listener: &mut Value) -> Result<&mut Vec<Value>> {
    list(connection_manager(listener)?, ROUTES)
}

/// One route of a listener.
pub fn route<'a>(listener: &'a mut Value, name: &str) -> Result<&'a mut Value> {
    named(connection_manager(listener)?, ROUTES, name)
}

/// The wasm filter's `config` (`PluginConfig`) in a listener.
pub fn wasm(listener: &mut Value) -> Result<&mut Value> {
    let filter = named(connection_manager(listener)?, "/http_filters", WASM)?;
    at(filter, "/typed_config/config")
}

/// Removes the wasm filter from a listener.
pub fn remove_wasm(listener: &mut Value) -> Result<()> {
    let filters = list(connection_manager(listener)?, "/http_filters")?;
    filters.retain(|filter| filter["name"] != WASM);
    Ok(())
}

/// The plugin's own configuration in a listener.
pub fn plugin(listener: &mut Value) -> Result<Value> {
    let text = at(wasm(listener)?, "/configuration/value")?.as_str().context("the plugin's configuration")?;
    serde_json::from_str(text).context("the plugin's configuration")
}

/// Replaces the plugin's own configuration in a listener by a text, JSON or not.
pub fn set_plugin(listener: &mut Value, text: &str) -> Result<()> {
    *at(wasm(listener)?, "/configuration/value")? = json!(text);
    Ok(())
}

/// Gives a cluster one fixed address instead of a name to be resolved.
pub(crate) fn set_cluster_address(cluster: &mut Value, address: SocketAddr) -> Result<()> {
    *at(cluster, "/type")? = json!("STATIC");
    let endpoints = list(cluster, "/load_assignment/endpoints/0/lb_endpoints")?;
    ensure!(endpoints.len() == 1, "a cluster of envoy.yaml has {} endpoints, not one", endpoints.len());
    let socket = at(cluster, "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address")?;
    set_socket_address(socket, address);
    Ok(())
}

/// Moves a listener, or the admin page, to another address.
pub(crate) fn set_address(place: &mut Value, address: SocketAddr) -> Result<()> {
    set_socket_address(at(place, "/address/socket_address")?, address);
    Ok(())
}

/// The file from which a cluster takes the certificate authorities that it trusts.
pub(crate) fn set_trusted_ca(cluster: &mut Value, file: &Path) -> Result<()> {
    let place = "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename";
    *at(cluster, place)? = path(file)?;
    Ok(())
}

/// The file by which Envoy reads the pod's token, and where the token is as shipped.
const TOKEN: &str = include_str!("../../envoy/kubernetes/replicas/kubernetes-token.yaml");
const MOUNTED: &str = "/var/run/secrets/testrelay";

/// Lets a cluster take its token from a folder, where the file by which Envoy reads it is put too.
pub(crate) fn set_token(cluster: &mut Value, folder: &Path) -> Result<()> {
    const SOURCE: &str = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0/typed_config/credential/typed_config/credential/sds_config/path_config_source";
    let file = folder.join("kubernetes-token.yaml");
    let own = path(folder)?;
    std::fs::write(&file, TOKEN.replace(MOUNTED, own.as_str().unwrap_or_default()))?;
    let source = at(cluster, SOURCE)?;
    source["path"] = path(&file)?;
    source["watched_directory"]["path"] = own;
    Ok(())
}

/// A path as Envoy's configuration holds it.
pub(crate) fn path(path: &Path) -> Result<Value> {
    Ok(json!(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?))
}

const WASM: &str = "envoy.filters.http.wasm";
const ROUTES: &str = "/route_config/virtual_hosts/0/routes";

fn set_socket_address(socket: &mut Value, address: SocketAddr) {
    socket["address"] = json!(address.ip().to_string());
    socket["port_value"] = json!(address.port());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_setting_that_decides_safety_is_there() {
        let mut shipped = shipped().unwrap();
        let listener = listener(&mut shipped).unwrap();
        let wasm = wasm(listener).unwrap();
        assert_eq!(wasm["failure_policy"], "FAIL_RELOAD");
        assert_eq!(wasm["allow_on_headers_stop_iteration"], true);
        let manager = connection_manager(listener).unwrap();
        assert_eq!(manager["stream_idle_timeout"], "30s");
        assert_eq!(manager["path_with_escaped_slashes_action"], "KEEP_UNCHANGED");
        assert_eq!(manager["normalize_path"], false);
        assert_eq!(manager["merge_slashes"], false);
        for route in routes(listener).unwrap() {
            assert_eq!(route["route"]["timeout"], "0s", "{route}");
            assert_eq!(route["route"]["idle_timeout"], "300s", "{route}");
        }
    }

    #[test]
    fn the_shipped_secrets_are_named_not_written() {
        let mut shipped = shipped().unwrap();
        let listener = listener(&mut shipped).unwrap();
        let keys = wasm(listener).unwrap()["vm_config"]["environment_variables"]["host_env_keys"].clone();
        for credential in plugin(listener).unwrap()["credentials"].as_array().unwrap() {
            let key = &credential["secret_env"];
            assert!(keys.as_array().unwrap().contains(key), "{key} is not in host_env_keys");
        }
    }

    #[test]
    fn a_place_that_is_not_there_is_named() {
        let error = cluster(&mut shipped().unwrap(), "nowhere").unwrap_err();
        assert_eq!(error.to_string(), "the configuration has no \"nowhere\" in /static_resources/clusters");
    }
}
