//! Rule `secrets`: where a secret may be, and how to find it in any other place and encoding.

use super::Rules;
use crate::network::{KUBERNETES, is_azure_devops};
use crate::setup::kubernetes_token;
use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::{CheckSpec, Request};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Every secret of a world contains this text, so that one search finds any of them. It has only letters, which no escaping
/// of URLs, JSON or HTML changes, and stands in nothing else: not in the paths of Kubernetes' Secrets either.
pub const MARK: &str = "ARCANE";

/// Whose token it is.
#[derive(Debug)]
struct Owner {
    plan: String,
    build: Option<u64>,
}

/// The tokens that Azure DevOps has issued, whichever process they came to.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<String, Owner>);

impl Tokens {
    /// One more.
    pub(crate) fn hand_out(&mut self, spec: &CheckSpec) {
        let owner = Owner { plan: spec.plan.to_ascii_lowercase(), build: spec.build };
        self.0.insert(spec.token.clone(), owner);
    }
}

impl Rules {
    /// Looks for a secret in what leaves the module.
    pub(crate) fn scan(&mut self, now: u64, place: impl AsRef<[u8]>, bytes: &[u8]) {
        if holds_secret(bytes) {
            let (place, text) = (String::from_utf8_lossy(place.as_ref()), String::from_utf8_lossy(bytes));
            self.violation(now, "secrets", format!("a secret in {place}: {text}"));
        }
    }

    /// A request that leaves Envoy. A token may be in two places: the `Authorization` of a call to Azure DevOps about the check,
    /// or the build, for which it was issued, and the data of the Secret that the check is stored in. The API server's own token
    /// goes to the API server.
    pub(crate) fn scan_call(&mut self, now: u64, cluster: &str, request: &Request, tokens: &Tokens) {
        self.checked("secrets (no secret)");
        self.scan(now, "a call's path", request.target.as_bytes());
        match cluster == KUBERNETES && request.path().contains("/secrets") {
            true => self.secret_stored(now, request, tokens),
            false => self.scan(now, "a call's body", &request.body),
        }
        for (name, value) in &request.headers {
            if name == "authorization" && is_azure_devops(cluster) {
                self.token_presented(now, request, value, tokens);
                continue;
            }
            if name == "authorization"
                && cluster == KUBERNETES
                && *value == format!("Bearer {}", kubernetes_token()).into_bytes()
            {
                continue;
            }
            self.scan(now, "a header's name", name.as_bytes());
            self.scan(now, format!("the header `{name}` of a call to {cluster}"), value);
        }
    }

    /// A Secret is written. Its `data` may hold the tokens of the check that it is named after, and no other secret.
    fn secret_stored(&mut self, now: u64, request: &Request, tokens: &Tokens) {
        let Ok(mut secret) = serde_json::from_slice::<Value>(&request.body) else {
            return self.scan(now, "a call's body", &request.body);
        };
        self.checked("secrets (a Secret holds its own check's tokens)");
        let data = secret.as_object_mut().and_then(|secret| secret.remove("data")).unwrap_or_default();
        self.scan(now, "a Secret outside of its data", secret.to_string().as_bytes());
        let name = secret["metadata"]["name"].as_str().unwrap_or_default();
        let own: Vec<&String> =
            tokens.0.iter().filter(|(_, owner)| name.contains(&owner.plan)).map(|(token, _)| token).collect();
        for (key, value) in data.as_object().into_iter().flatten() {
            let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
            let Some(bytes) = bytes else {
                self.scan(now, "a Secret's data", value.to_string().as_bytes());
                continue;
            };
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            // The longest first: one may begin as another does.
            for token in own.iter().rev() {
                text = text.replace(token.as_str(), "");
            }
            self.scan(now, format!("`{key}` of the Secret {name}"), text.as_bytes());
        }
    }

    fn token_presented(&mut self, now: u64, request: &Request, value: &[u8], tokens: &Tokens) {
        self.checked("secrets (a token goes to its own check)");
        let owner = presented(value).and_then(|token| tokens.0.get(&token));
        let is_own = owner.is_some_and(|owner| match place(request.path()) {
            Some(("plans", id)) => id.eq_ignore_ascii_case(&owner.plan),
            Some(("builds", id)) => owner.build.is_some_and(|build| build.to_string() == id),
            _ => false,
        });
        if !is_own {
            self.violation(
                now,
                "secrets",
                format!("a token that is not of this check goes to {}", request.path()),
            );
        }
    }
}

/// The token of `Bearer TOKEN` or `Basic base64(user:TOKEN)`.
fn presented(value: &[u8]) -> Option<String> {
    let (scheme, rest) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.into());
    }
    let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    text.split_once(':').map(|(_, token)| token.to_string())
}

/// Which plan or build a call is about.
fn place(path: &str) -> Option<(&str, &str)> {
    let mut segments = path.split('/').skip_while(|segment| !matches!(*segment, "plans" | "builds"));
    Some((segments.next()?, segments.next()?))
}

/// The mark in the clear and in hexadecimal, in any case, and inside Base64 at each of its three places in a group.
static MARKS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let hex: String = MARK.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = [0, 1, 2].map(|shift: usize| {
        let text = STANDARD.encode(format!("{}{MARK}", "\0".repeat(shift)));
        let (first, last) = ((shift * 8).div_ceil(6), (shift + MARK.len()) * 8 / 6);
        text.get(first..last).unwrap_or_default().to_string()
    });
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .build([MARK.to_string(), hex].iter().chain(&base64))
        .expect("five short patterns")
});

fn holds_secret(bytes: &[u8]) -> bool {
    MARKS.is_match(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check of its own plan, with a token that bears the mark.
    fn spec(n: u64) -> CheckSpec {
        CheckSpec {
            project: "p".into(),
            hub: "checks".into(),
            plan: format!("plan-{n}"),
            job: "j".into(),
            timeline: "t".into(),
            task: "k".into(),
            token: format!("token-{MARK}-{n}"),
            build: Some(n),
        }
    }

    #[test]
    fn a_secret_is_found_in_the_clear_in_hexadecimal_and_in_base64() {
        for user in ["", "u", "us", "user"] {
            let text = format!("{user}:token-{MARK}-1");
            assert!(holds_secret(text.as_bytes()));
            assert!(holds_secret(text.to_ascii_lowercase().as_bytes()));
            assert!(holds_secret(STANDARD.encode(&text).as_bytes()), "{user}");
            let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
            assert!(holds_secret(hex.as_bytes()));
        }
        assert!(!holds_secret(b"nothing to see"));
    }

    #[test]
    fn a_token_may_go_to_its_own_check_and_its_own_build_and_nowhere_else() {
        let sent = |cluster: &str, path: &str, token: &str| {
            let (mut rules, mut tokens) = (Rules::default(), Tokens::default());
            for n in [1, 2] {
                tokens.hand_out(&spec(n));
            }
            let basic = format!("Basic {}", STANDARD.encode(format!(":{token}")));
            let request = Request::new("POST", path).header("authorization", &basic);
            rules.scan_call(0, cluster, &request, &tokens);
            rules.violations.len()
        };
        let own = format!("token-{MARK}-1");
        assert_eq!(
            sent("azure-devops", "/f/p/_apis/distributedtask/hubs/checks/plans/plan-1/events", &own),
            0
        );
        assert_eq!(sent("azure-devops", "/f/p/_apis/build/builds/1/timeline", &own), 0);
        assert_eq!(
            sent("azure-devops", "/f/p/_apis/distributedtask/hubs/checks/plans/plan-2/events", &own),
            1
        );
        assert_eq!(sent("azure-devops", "/f/p/_apis/build/builds/2", &own), 1);
        assert_eq!(
            sent("azure-devops", "/f/p/_apis/distributedtask/hubs/checks/plans/plan-1/events", "x"),
            1
        );
        assert_eq!(sent("testkube", "/v1/test-workflow-executions", &own), 1);
    }

    #[test]
    fn the_api_server_gets_its_own_token_and_a_checks_tokens_only_inside_the_data_of_its_secret() {
        let sent = |cluster: &str, path: &str, token: &str, body: String| {
            let (mut rules, mut tokens) = (Rules::default(), Tokens::default());
            for n in [1, 2] {
                tokens.hand_out(&spec(n));
            }
            let request = Request::new("PUT", path).header("authorization", &format!("Bearer {token}"));
            rules.scan_call(0, cluster, &request.body(body), &tokens);
            rules.violations.len()
        };
        let secret = |record: &str, note: &str| {
            let record = STANDARD.encode(record);
            format!(
                r#"{{"metadata":{{"name":"testrelay-plan-1-j-k","annotations":{{"view":"{note}"}}}},"data":{{"record":"{record}"}}}}"#
            )
        };
        let (path, own) =
            ("/api/v1/namespaces/testrelay/secrets/testrelay-plan-1-j-k?timeout=1s", kubernetes_token());
        let kept = |record: &str| sent(KUBERNETES, path, &own, secret(record, ""));
        assert_eq!(kept(&format!(r#"{{"tokens":["token-{MARK}-1","token-{MARK}-1"]}}"#)), 0);
        assert_eq!(kept("sealed"), 0);
        assert_eq!(kept(&format!("token-{MARK}-2")), 1, "another check's");
        assert_eq!(kept(&own), 1);
        assert_eq!(
            sent(KUBERNETES, path, &own, secret("", &format!("token-{MARK}-1"))),
            1,
            "outside of the data"
        );
        assert_eq!(sent(KUBERNETES, path, &format!("token-{MARK}-1"), secret("", "")), 1);
        let leases = "/apis/coordination.k8s.io/v1/namespaces/testrelay/leases/testrelay-1";
        assert_eq!(sent(KUBERNETES, leases, &own, secret(&format!("token-{MARK}-1"), "")), 1, "no Secret");
        for cluster in ["testkube", "azure-devops"] {
            assert_eq!(sent(cluster, "/v1/agents", &own, String::new()), 1, "{cluster}");
        }
    }
}
