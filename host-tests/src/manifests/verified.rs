//! Whether everyone who is called by TLS is verified: chain and name. No module can see that from its answers.

use serde_json::Value;

/// What is wrong in these documents of a file, one sentence each: a call by TLS whose certificate or name nobody verifies,
/// and a call to port 443 without TLS.
pub fn unverified(documents: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for document in documents {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        match document["kind"].as_str() {
            Some("ConfigMap") => {
                for (_, text) in document["data"].as_object().into_iter().flatten() {
                    let Some(text) = text.as_str() else { continue };
                    if let Ok(value) = serde_saphyr::from_str::<Value>(text) {
                        envoys(&value, &mut wrong);
                    }
                }
            }
            Some("DestinationRule") => istios(name, &document["spec"], &mut wrong),
            Some("Backend") => gateways(name, &document["spec"], &mut wrong),
            Some("BackendTLSPolicy") => policys(name, &document["spec"]["validation"], &mut wrong),
            _ => envoys(document, &mut wrong),
        }
    }
    wrong
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => false,
    }
}

/// Envoy's own form: every cluster, wherever it is in the value.
fn envoys(value: &Value, wrong: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if members.contains_key("load_assignment") {
                cluster(value, wrong);
            }
            members.values().for_each(|member| envoys(member, wrong));
        }
        Value::Array(items) => items.iter().for_each(|item| envoys(item, wrong)),
        _ => {}
    }
}

fn cluster(cluster: &Value, wrong: &mut Vec<String>) {
    let name = cluster["name"].as_str().unwrap_or("?");
    let sockets: Vec<&Value> =
        match (&cluster["transport_socket"], cluster["transport_socket_matches"].as_array()) {
            (Value::Null, None) => {
                if cluster["load_assignment"].to_string().contains("\"port_value\":443") {
                    wrong.push(format!("the cluster {name} calls port 443 without TLS"));
                }
                return;
            }
            (socket, others) => [socket]
                .into_iter()
                .filter(|socket| !socket.is_null())
                .chain(others.into_iter().flatten().map(|one| &one["transport_socket"]))
                .collect(),
        };
    for socket in sockets {
        if !socket["typed_config"]["@type"].as_str().is_some_and(|kind| kind.ends_with(".UpstreamTlsContext"))
        {
            wrong.push(format!(
                "the cluster {name} has a transport_socket that is none for TLS to an upstream"
            ));
            continue;
        }
        let common = &socket["typed_config"]["common_tls_context"];
        let combined = &common["combined_validation_context"]["default_validation_context"];
        let validation = if combined.is_null() { &common["validation_context"] } else { combined };
        let comes_by_sds =
            is_filled(&common["combined_validation_context"]["validation_context_sds_secret_config"]);
        if !is_filled(&validation["trusted_ca"]) && !comes_by_sds {
            wrong.push(format!("the cluster {name} has no trusted_ca: Envoy takes any certificate"));
        }
        if !is_filled(&validation["match_typed_subject_alt_names"]) {
            wrong.push(format!(
                "the cluster {name} has no match_typed_subject_alt_names: Envoy takes a certificate of any name"
            ));
        }
        if validation["trust_chain_verification"] == "ACCEPT_UNTRUSTED" {
            wrong.push(format!("the cluster {name} has ACCEPT_UNTRUSTED: Envoy takes any certificate"));
        }
    }
}

/// Istio verifies the chain by the system's authorities where no others are named, and the name where one is.
fn istios(name: &str, value: &Value, wrong: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let tls = &value["tls"];
            if matches!(tls["mode"].as_str(), Some("SIMPLE" | "MUTUAL")) {
                if !is_filled(&tls["subjectAltNames"]) {
                    wrong.push(format!(
                        "the DestinationRule {name} has no subjectAltNames: Envoy takes a certificate of any name"
                    ));
                }
                if tls["insecureSkipVerify"] == true {
                    wrong.push(format!("the DestinationRule {name} has insecureSkipVerify"));
                }
            }
            members.values().for_each(|member| istios(name, member, wrong));
        }
        Value::Array(items) => items.iter().for_each(|item| istios(name, item, wrong)),
        _ => {}
    }
}

/// Envoy Gateway takes the name from `sni`, or from the endpoint.
fn gateways(name: &str, spec: &Value, wrong: &mut Vec<String>) {
    let tls = &spec["tls"];
    if tls.is_null() {
        if spec["endpoints"].to_string().contains("\"port\":443") {
            wrong.push(format!("the Backend {name} calls port 443 without TLS"));
        }
        return;
    }
    if !is_filled(&tls["wellKnownCACertificates"]) && !is_filled(&tls["caCertificateRefs"]) {
        wrong.push(format!("the Backend {name} names no authorities: Envoy takes any certificate"));
    }
    if !is_filled(&tls["sni"]) {
        wrong.push(format!("the Backend {name} has no sni: Envoy takes a certificate of any name"));
    }
    if tls["insecureSkipVerify"] == true {
        wrong.push(format!("the Backend {name} has insecureSkipVerify"));
    }
}

fn policys(name: &str, validation: &Value, wrong: &mut Vec<String>) {
    if !is_filled(&validation["wellKnownCACertificates"]) && !is_filled(&validation["caCertificateRefs"]) {
        wrong.push(format!("the BackendTLSPolicy {name} names no authorities: Envoy takes any certificate"));
    }
    if !is_filled(&validation["hostname"]) {
        wrong.push(format!(
            "the BackendTLSPolicy {name} has no hostname: Envoy takes a certificate of any name"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::documents;

    /// The sentences about a text, after `from` was replaced in it.
    fn wrong(text: &str, from: &str, to: &str) -> Vec<String> {
        assert!(text.contains(from), "{from}");
        unverified(&documents(&text.replacen(from, to, 1)).unwrap())
    }

    const ENVOY: &str = r#"
static_resources:
  clusters:
  - name: azure-devops
    load_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: dev.azure.com, port_value: 443 } } } }] }] }
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: dev.azure.com
        common_tls_context:
          validation_context:
            trusted_ca: { filename: /etc/ssl/certs/ca-certificates.crt }
            match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: dev.azure.com } }]
  - name: testkube
    load_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: testkube, port_value: 8088 } } } }] }] }
"#;

    #[test]
    fn a_cluster_without_authorities_a_name_or_tls_is_refused_in_a_file_and_in_a_config_map() {
        let cases = [
            (
                "trusted_ca: { filename: /etc/ssl/certs/ca-certificates.crt }",
                "verify_certificate_hash: []",
                "no trusted_ca",
            ),
            (
                "[{ san_type: DNS, matcher: { exact: dev.azure.com } }]",
                "[]",
                "no match_typed_subject_alt_names",
            ),
            (
                "match_typed_subject_alt_names:",
                "match_subject_alt_names:",
                "no match_typed_subject_alt_names",
            ),
            (
                "trusted_ca:",
                "trust_chain_verification: ACCEPT_UNTRUSTED\n            trusted_ca:",
                "ACCEPT_UNTRUSTED",
            ),
            (
                "transport_sockets.tls.v3.UpstreamTlsContext",
                "transport_sockets.raw_buffer.v3.RawBuffer",
                "none for TLS",
            ),
            ("    transport_socket:\n", "    metadata:\n", "calls port 443 without TLS"),
        ];
        assert_eq!(wrong(ENVOY, "sni", "sni"), Vec::<String>::new());
        let map = |text: &str| {
            let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
            format!("kind: ConfigMap\ndata:\n  envoy.yaml: |\n{lines}")
        };
        assert_eq!(wrong(&map(ENVOY), "sni", "sni"), Vec::<String>::new());
        for (from, to, expected) in cases {
            let found = wrong(ENVOY, from, to);
            assert!(
                matches!(&found[..], [one] if one.contains("cluster azure-devops") && one.contains(expected)),
                "{from}: {found:?}"
            );
            let inside = map(&ENVOY.replacen(from, to, 1));
            assert_eq!(unverified(&documents(&inside).unwrap()), found, "{from}");
        }
        let both = wrong(ENVOY, "validation_context:", "no_validation_context:");
        assert_eq!(both.len(), 2, "{both:?}");
    }

    #[test]
    fn istio_and_envoy_gateway_must_know_the_name_and_the_authorities() {
        const RULE: &str = "kind: DestinationRule\nmetadata: { name: a }\nspec: { trafficPolicy: { portLevelSettings: [{ tls: { mode: SIMPLE, subjectAltNames: [dev.azure.com] } }] } }";
        assert_eq!(wrong(RULE, "SIMPLE", "MUTUAL"), Vec::<String>::new());
        assert_eq!(wrong(RULE, "SIMPLE", "ISTIO_MUTUAL"), Vec::<String>::new());
        assert!(wrong(RULE, "[dev.azure.com]", "[]")[0].contains("no subjectAltNames"));
        assert!(wrong(RULE, "mode:", "insecureSkipVerify: true, mode:")[0].contains("insecureSkipVerify"));
        const BACKEND: &str = "kind: Backend\nmetadata: { name: b }\nspec: { endpoints: [{ fqdn: { hostname: dev.azure.com, port: 443 } }], tls: { sni: dev.azure.com, wellKnownCACertificates: System } }";
        assert_eq!(
            wrong(BACKEND, "wellKnownCACertificates: System", "caCertificateRefs: [{ name: c }]"),
            Vec::<String>::new()
        );
        assert!(wrong(BACKEND, ", wellKnownCACertificates: System", "")[0].contains("no authorities"));
        assert!(wrong(BACKEND, "sni: dev.azure.com, ", "")[0].contains("no sni"));
        assert!(wrong(BACKEND, "sni:", "insecureSkipVerify: true, sni:")[0].contains("insecureSkipVerify"));
        assert!(wrong(BACKEND, "tls:", "tlss:")[0].contains("without TLS"));
        const POLICY: &str = "kind: BackendTLSPolicy\nmetadata: { name: p }\nspec: { validation: { hostname: h, wellKnownCACertificates: System } }";
        assert_eq!(wrong(POLICY, "hostname: h", "hostname: i"), Vec::<String>::new());
        assert!(wrong(POLICY, "hostname: h, ", "")[0].contains("no hostname"));
        assert!(wrong(POLICY, ", wellKnownCACertificates: System", "")[0].contains("no authorities"));
    }
}
