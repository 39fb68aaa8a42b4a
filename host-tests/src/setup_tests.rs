//! What a setup changes in `envoy.yaml`, and what it leaves alone.

use super::*;
use std::collections::BTreeSet;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// JSON pointers of everything that differs.
fn differences(a: &Value, b: &Value, place: &str, found: &mut BTreeSet<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys()) {
                let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                differences(a, b, &format!("{place}/{name}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{place}/{index}"), found);
            }
        }
        _ if a == b => {}
        _ => {
            found.insert(place.to_owned());
        }
    }
}

fn changed_by(setup: &Setup) -> Vec<String> {
    let mut found = BTreeSet::new();
    differences(&config::shipped().unwrap(), &setup.bootstrap(ANY_PORT).unwrap(), "", &mut found);
    found.into_iter().collect()
}

fn plugin_of(setup: &Setup) -> Value {
    config::plugin(config::listener(&mut setup.bootstrap(ANY_PORT).unwrap()).unwrap()).unwrap()
}

#[test]
fn by_default_only_addresses_ports_resolution_and_file_paths_differ_from_the_shipped_file() {
    let setup = Setup::with_module(Path::new("/built/testrelay.wasm")).trusted_ca(Path::new("/test/ca.pem"));
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let endpoint = "load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    let tls = "transport_socket/typed_config/common_tls_context";
    let expected = [
        // The admin page is on loopback already.
        "/admin/address/socket_address/port_value".to_owned(),
        format!("/static_resources/clusters/0/{endpoint}/address"),
        format!("/static_resources/clusters/0/{endpoint}/port_value"),
        "/static_resources/clusters/0/type".to_owned(),
        format!("/static_resources/clusters/1/{endpoint}/address"),
        format!("/static_resources/clusters/1/{endpoint}/port_value"),
        "/static_resources/clusters/1/type".to_owned(),
        format!("/static_resources/clusters/2/{endpoint}/address"),
        format!("/static_resources/clusters/2/{endpoint}/port_value"),
        format!("/static_resources/clusters/2/{tls}/validation_context/trusted_ca/filename"),
        "/static_resources/clusters/2/type".to_owned(),
        "/static_resources/listeners/0/address/socket_address/address".to_owned(),
        "/static_resources/listeners/0/address/socket_address/port_value".to_owned(),
        format!("{manager}/http_filters/0/typed_config/config/vm_config/code/local/filename"),
    ];
    assert_eq!(changed_by(&setup), expected);
}

#[test]
fn everything_listens_on_loopback() {
    let mut bootstrap = Setup::without_filter().bootstrap(ANY_PORT).unwrap();
    let socket = json!({ "address": "127.0.0.1", "port_value": 0 });
    assert_eq!(bootstrap["admin"]["address"]["socket_address"], socket);
    assert_eq!(config::listener(&mut bootstrap).unwrap()["address"]["socket_address"], socket);
}

#[test]
fn the_plugins_configuration_is_changed_by_patch_closure_and_text() {
    let setup = Setup::with_module(Path::new("/built/testrelay.wasm"))
        .plugin(json!({ "tag": { "bind_to_build": false }, "read_body": null }))
        .edit_plugin(|plugin| plugin["credentials"][0]["allow"] = json!(["checks", "artifacts"]));
    let plugin = plugin_of(&setup);
    assert_eq!(plugin["tag"], json!({ "key": "ado-run", "bind_to_build": false }));
    assert_eq!(plugin.get("read_body"), None);
    assert_eq!(plugin["credentials"][0]["allow"], json!(["checks", "artifacts"]));
    assert_eq!(plugin["credentials"][1]["name"], "pipeline-jobs");
    assert_eq!(plugin_of(&setup.plugin_text("{}")), json!({}));
}

#[test]
fn one_asked_for_change_is_the_only_further_one() {
    let base = Setup::with_module(Path::new("/built/testrelay.wasm"));
    let further = |setup: &Setup| -> Vec<String> {
        let before = changed_by(&base);
        changed_by(setup).into_iter().filter(|place| !before.contains(place)).collect()
    };
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let wasm = format!("{manager}/http_filters/0/typed_config/config");
    assert_eq!(
        further(&base.clone().plain_azure_devops()),
        ["/static_resources/clusters/2/transport_socket"]
    );
    assert_eq!(
        further(&base.clone().without_headers_stop_iteration()),
        [format!("{wasm}/allow_on_headers_stop_iteration")]
    );
    assert_eq!(
        further(&base.clone().environment("TESTRELAY_PASSWORD_NEXT", "next")),
        [format!("{wasm}/vm_config/environment_variables/host_env_keys")]
    );
    assert!(further(&base.clone().environment("TESTRELAY_PASSWORD", "other")).is_empty());
    assert_eq!(
        further(&base.clone().edit_route("artifacts", |route| route["route"]["idle_timeout"] = json!("3s"))),
        [format!("{manager}/route_config/virtual_hosts/0/routes/0/route/idle_timeout")]
    );
    assert_eq!(
        further(&base.clone().route_everything()),
        [format!("{manager}/route_config/virtual_hosts/0/routes")]
    );
}

#[test]
fn a_change_to_a_place_that_is_not_there_says_which() {
    let setup = Setup::without_filter().edit_route("nowhere", |_| ());
    let error = format!("{:#}", setup.bootstrap(ANY_PORT).unwrap_err());
    assert!(error.contains("no \"nowhere\""), "{error}");
}
