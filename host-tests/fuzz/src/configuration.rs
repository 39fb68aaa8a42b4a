//! The plugin's configuration: any bytes to a validated configuration, or to errors that show no secret.

use crate::leader::Leader;
use crate::logs;
use crate::setting::{CREDENTIAL, SECRETS, holds_a_secret};
use crate::store::Memory;
use crate::texts::{add_texts, assert_no_secret, assert_one_line, assert_repeats_little};
use serde_json::Value;
use std::time::Duration;
use testrelay::config::{Config, MAX_TIMEOUT};
use testrelay::route::{Route, route};

/// Runs one input.
pub fn run(input: &[u8]) {
    if holds_a_secret(input) {
        return;
    }
    let (_, lines) = logs::during(|| {
        check(input);
        // Some people write the secret itself where its variable's name belongs.
        let secret_inside = with_secrets(input);
        assert_no_secret("a configuration's error", &outcome(&secret_inside), &SECRETS);
    });
    for line in lines {
        assert_no_secret("a log line", &line, &SECRETS);
    }
}

fn check(input: &[u8]) {
    let config = match Config::parse(input, &environment) {
        Ok(config) => config,
        Err(errors) => {
            let text = errors.to_string();
            assert!(!text.is_empty(), "a refusal says why");
            assert_no_secret("a configuration's error", &text, &SECRETS);
            assert_one_line("a configuration's error", &text);
            let mut sent = Vec::new();
            match serde_json::from_slice(input) {
                Ok(value) => add_texts(&value, &mut sent),
                Err(_) => sent.push(String::from_utf8_lossy(input).into_owned()),
            }
            sent.iter().for_each(|sent| assert_repeats_little("a configuration's error", &text, sent));
            return;
        }
    };
    assert_no_secret("Debug", &format!("{config:?}"), &SECRETS);
    assert_is_valid(&config);
    assert_routes(&config);
    assert_is_strict(input, &config);
    Leader::new(config, Memory::default()).tick(Duration::ZERO);
}

/// `MISSING` is not set, `EMPTY` is empty, `BROKEN` fits no header; any other one holds the credential.
fn environment(name: &str) -> Option<String> {
    match name {
        "MISSING" => None,
        "EMPTY" => Some(String::new()),
        "BROKEN" => Some(format!("{CREDENTIAL}\n")),
        _ => Some(CREDENTIAL.into()),
    }
}

/// A configuration's text as an error or as what it means, without the fingerprint of the text itself.
fn outcome(text: &[u8]) -> String {
    match Config::parse(text, &environment) {
        Ok(config) => format!("{:?}", Config { fingerprint: 0, ..config }),
        Err(errors) => errors.to_string(),
    }
}

fn assert_is_valid(config: &Config) {
    let checks = &config.checks;
    let second = Duration::from_secs(1);
    assert!((second..=MAX_TIMEOUT).contains(&checks.timeout), "{:?}", checks.timeout);
    assert!((second..=MAX_TIMEOUT).contains(&checks.appear_timeout), "{:?}", checks.appear_timeout);
    assert!((1..=8192).contains(&checks.max_pending), "{}", checks.max_pending);
    assert!(!config.azure_devops.is_empty() && !config.testkube.cluster.is_empty());
    for entry in &config.azure_devops {
        let is_whole = !entry.prefix().is_empty() || entry.authority().contains(".visualstudio.com");
        assert!(is_whole && !entry.cluster.is_empty(), "{entry:?}");
    }
    for path in [&config.base_path, &config.testkube.api_prefix] {
        assert!(path.starts_with('/') && !path.ends_with('/') && !path.contains(['?', '#', '%']), "{path}");
    }
    for credential in &config.credentials {
        assert!(!credential.secrets.is_empty() && !credential.allow.is_empty());
    }
}

fn assert_routes(config: &Config) {
    for (method, path, expected) in [
        ("POST", "/v1/checks", Route::Check),
        ("GET", "/readyz", Route::Ready),
        ("GET", "/../v1/secrets", Route::Unknown),
    ] {
        let path = format!("{}{path}", config.base_path);
        assert_eq!(route(config, method.as_bytes(), path.as_bytes()), expected, "{method} {path}");
    }
}

/// Panics if an unknown field is let through anywhere, or if the same JSON in another spelling means something else.
fn assert_is_strict(input: &[u8], config: &Config) {
    // Numbers and texts in places that are skipped may be more than this reader takes.
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    assert_eq!(outcome(value.to_string().as_bytes()), outcome(input), "the same JSON in another spelling");
    if config.credentials.is_empty() {
        assert_eq!(value["insecure_no_auth"], true, "open without a word");
    }
    for path in objects(&value, "") {
        let mut value = value.clone();
        if let Some(members) = value.pointer_mut(&path).and_then(Value::as_object_mut) {
            members.insert("misspelt".into(), true.into());
        }
        let text = outcome(value.to_string().as_bytes());
        assert!(text.contains("misspelt: unknown field"), "{path}: {text}");
    }
}

/// JSON pointers of the objects in a value.
fn objects(value: &Value, path: &str) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
            let inner = members.iter().flat_map(|(name, v)| objects(v, &format!("{path}/{}", escaped(name))));
            std::iter::once(path.to_owned()).chain(inner).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(i, v)| objects(v, &format!("{path}/{i}"))).collect()
        }
        _ => Vec::new(),
    }
}

/// The text with a secret written into every field that names a variable.
fn with_secrets(input: &[u8]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(input).into_owned();
    for field in ["secret_env", "secret_env_next", "bearer_env"] {
        for space in ["", " "] {
            let before = format!("\"{field}\":{space}\"");
            text = text.replace(&before, &format!("{before}{}", CREDENTIAL));
        }
    }
    text.into_bytes()
}
