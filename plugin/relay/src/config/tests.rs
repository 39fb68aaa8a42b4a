use super::*;
use serde_json::json;

fn environment(name: &str) -> Option<String> {
    match name {
        "PASSWORD" => Some("canary-password".into()),
        "EMPTY" => Some(String::new()),
        "BLANK" => Some(" ".repeat(20)),
        "SEVEN" => Some("canary7".into()),
        "SHORT_AND_BLANKS" => Some("x       ".into()),
        "BLANK_BEFORE" => Some(" canary-of-16-char".into()),
        "BLANK_AFTER" => Some("canary-of-16-char ".into()),
        "EIGHT" => Some("canary-8".into()),
        "SIXTEEN" => Some("canary-of-16-char".into()),
        _ => None,
    }
}

fn good() -> Value {
    json!({
        "testkube": {"cluster": "testkube"},
        "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"}],
        "credentials": [{"name": "a", "kind": "basic", "username": "u", "secret_env": "PASSWORD", "allow": ["checks"]}]
    })
}

fn parse(value: &Value) -> Result<Config, String> {
    Config::parse(value.to_string().as_bytes(), &environment).map_err(|e| e.to_string())
}

fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut value = good();
    change(&mut value);
    parse(&value).map(|_| "accepted".to_string()).unwrap_or_else(|e| e)
}

#[test]
fn the_smallest_configuration_gets_the_documented_defaults() {
    let config = parse(&good()).unwrap();
    assert_eq!(config.base_path, "/testrelay");
    assert_eq!(config.passthrough, Passthrough::Artifacts);
    assert_eq!(config.testkube.api_prefix, "/v1");
    assert_eq!(config.tag.key, "ado-run");
    assert!(config.tag.bind_to_build && !config.read_body && !config.checks.require_expect);
    assert_eq!(config.checks.timeout, Duration::from_secs(12 * 3600));
    assert_eq!((config.checks.max_pending, config.checks.test_files), (10_000, 5));
    assert_eq!(config.public_url, None);
    assert_eq!((config.artifacts.cluster.as_str(), config.artifacts.max_archive), ("testkube", 64 << 20));
    assert_eq!(config.credentials[0].max_downloads, 32);
}

#[test]
fn what_pipelines_fetch_has_its_own_cluster_bounds_and_address() {
    let mut value = good();
    value["public_url"] = json!("https://relay.example:8443/tests");
    value["artifacts"] = json!({"cluster": "testkube-downloads", "max_archive": "1.5GiB"});
    value["credentials"][0]["max_downloads"] = json!(4.0);
    assert!(parse(&value).unwrap_err().contains("artifacts.max_archive: is \"1.5GiB\""));
    value["artifacts"]["max_archive"] = json!("2GiB");
    let config = parse(&value).unwrap();
    assert_eq!(config.public_url.as_deref(), Some("https://relay.example:8443/tests"));
    assert_eq!(
        (config.artifacts.cluster.as_str(), config.artifacts.max_archive),
        ("testkube-downloads", 2 << 30)
    );
    assert_eq!(config.credentials[0].max_downloads, 4);
    for url in [
        "testrelay.example",
        "ftp://testrelay.example",
        "https://",
        "https://testrelay.example/",
        "https://user@testrelay.example",
        "https://testrelay.example?x",
        "https://testrelay.example/a/../b",
        "https://testrelay.example/a b",
    ] {
        let text = with(|v| v["public_url"] = json!(url));
        assert!(text.contains("public_url: is"), "{url}: {text}");
    }
    for size in [json!("0MiB"), json!(64), json!("64MB"), json!("64 MiB"), json!("99999999TiB")] {
        let text = with(|v| v["artifacts"] = json!({"max_archive": size}));
        assert!(
            text.contains("a whole number from 1 to 9999 and a unit, such as \"64MiB\", \"2GiB\""),
            "{text}"
        );
    }
}

#[test]
fn an_error_names_the_field_what_it_held_and_what_is_allowed() {
    let cases = [
        (with(|v| v["testkube"]["clutser"] = json!("x")), "testkube.clutser: unknown field; allowed are"),
        (
            with(|v| v["passthrough"] = json!("everything")),
            "passthrough: is \"everything\"; allowed are \"artifacts\", \"all\"",
        ),
        (
            with(|v| v["checks"] = json!({"timeout": 30})),
            "checks.timeout: is 30; allowed: a number and a unit, such as \"5s\", \"10m\", \"12h\"",
        ),
        (with(|v| v["checks"] = json!({"timeout": "3d"})), "checks.timeout: is \"3d\""),
        (with(|v| v["checks"] = json!({"timeout": "48h"})), "from 1s to 47h 30m"),
        (
            with(|v| v["checks"] = json!({"max_pending": 20000})),
            "checks.max_pending: is 20000; allowed are whole numbers from 1 to 16384",
        ),
        (
            with(|v| v["credentials"][0]["allow_policies"] = json!(["optional", "everything"])),
            "credentials[0].allow_policies[1]: is \"everything\"; allowed are \"optional\", \"grace\"",
        ),
        (
            with(|v| v["credentials"][0]["allow_policies"] = json!([])),
            "credentials[0].allow_policies: is a list; a list of at least one of",
        ),
        (with(|v| v["read_body"] = json!("yes")), "read_body: is \"yes\"; allowed are true and false"),
        (
            with(|v| v["azure_devops"][0]["url"] = json!("https://dev.azure.com")),
            "azure_devops[0].url: is \"https://dev.azure.com\"; allowed",
        ),
        (with(|v| v["azure_devops"] = json!([])), "azure_devops: is empty"),
        (
            with(|v| v["azure_devops"][0]["fallback_cluster"] = json!("azure-devops")),
            "azure_devops[0].fallback_cluster: is also a `cluster`",
        ),
        (
            with(|v| {
                v["azure_devops"][0]["fallback_cluster"] = json!("other");
                v["insecure_no_auth"] = json!(true);
                drop(v.as_object_mut().unwrap().remove("credentials"));
            }),
            "azure_devops[0].fallback_cluster: cannot be combined with insecure_no_auth",
        ),
        (
            with(|v| v["credentials"][0]["allow"] = json!(["deploy"])),
            "credentials[0].allow[0]: is \"deploy\"; allowed are \"checks\", \"artifacts\", \"status\", \"events\"",
        ),
        (with(|v| v["credentials"][0]["kind"] = json!("bearer")), "credentials[0].username"),
        (with(|v| v["credentials"] = json!([])), "credentials: is empty"),
        (with(|v| drop(v.as_object_mut().unwrap().remove("credentials"))), "insecure_no_auth"),
        (with(|v| v["base_path"] = json!("testrelay/")), "base_path: is \"testrelay/\""),
        (with(|v| v["tag"] = json!({"key": "a=b"})), "tag.key: is \"a=b\""),
        (with(|v| v["testkube"] = json!("testkube")), "testkube: is \"testkube\"; an object is expected"),
    ];
    for (got, want) in cases {
        assert!(got.contains(want), "{got}\n  lacks: {want}");
    }
}

#[test]
fn policies_and_what_a_credential_covers_are_read() {
    let mut value = good();
    value["checks"] = json!({"expect": "a, b", "settle": "5s", "rerun": "all", "max_pending_per_project": 9});
    value["credentials"][0]["projects"] = json!(["69f48e94-bdb4-42d7-a560-0f2b54f91cc8"]);
    value["credentials"][0]["tags"] = json!(["shop-*"]);
    value["credentials"][0]["max_pending"] = json!(7);
    value["credentials"][0]["mode"] = json!("observe");
    value["testkube"]["dashboard"] = json!("https://t.example/w/{workflow}/e/{id}");
    let config = parse(&value).unwrap();
    assert_eq!(config.checks.expect, Some(Expect::parse("a, b").unwrap()));
    assert_eq!((config.checks.settle, config.checks.rerun), (Some(Duration::from_secs(5)), Rerun::All));
    let credential = &config.credentials[0];
    assert!(credential.observe && credential.max_pending == 7 && credential.projects.len() == 1);
    let link = config.testkube.dashboard.unwrap().link("a b", "1");
    assert_eq!(link, "https://t.example/w/a%20b/e/1");
    for (text, want) in [
        (with(|v| v["checks"] = json!({"expect": "A B"})), "checks.expect: is \"A B\""),
        (with(|v| v["checks"] = json!({"expect": " "})), "checks.expect: is \" \""),
        (with(|v| v["checks"] = json!({"rerun": "first"})), "allowed are \"latest\", \"all\", \"none\""),
        (with(|v| v["credentials"][0]["projects"] = json!(["shop"])), "credentials[0].projects: is a list"),
        (with(|v| v["credentials"][0]["tags"] = json!([])), "credentials[0].tags: is a list"),
        (with(|v| v["credentials"][0]["mode"] = json!("off")), "allowed are \"enforce\", \"observe\""),
        (with(|v| v["testkube"]["dashboard"] = json!("javascript:{id}")), "testkube.dashboard: is"),
        (with(|v| v["testkube"]["dashboard"] = json!("https://t.example/")), "testkube.dashboard: is"),
    ] {
        assert!(text.contains(want), "{text}\n  lacks: {want}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let text = with(|v| {
        v["passthrough"] = json!(1);
        v["read_body"] = json!(2);
    });
    assert!(text.contains("passthrough") && text.contains("read_body"), "{text}");
}

#[test]
fn a_secret_written_into_the_configuration_is_not_repeated() {
    for text in [
        with(|v| v["credentials"][0]["secret"] = json!("hunter2")),
        with(|v| v["credentials"][0]["secret_env"] = json!("hunter2")),
        with(|v| v["credentials"][0]["secret_env"] = json!("hunter2!")),
        with(|v| v["credentials"][0]["secret_env"] = json!(["hunter2"])),
        with(|v| v["testkube"]["bearer_env"] = json!("hunter2")),
    ] {
        assert!(text != "accepted" && !text.contains("hunter2"), "{text}");
    }
    assert!(with(|v| v["credentials"][0]["secret_env"] = json!("EMPTY")).contains("not set or empty"));
}

#[test]
fn a_secret_that_can_be_guessed_is_refused_or_warned_of() {
    let with_secret = |name: &str| {
        let mut value = good();
        value["credentials"][0]["secret_env"] = json!(name);
        value["credentials"][0]["secret_env_next"] = json!("SIXTEEN");
        parse(&value).map(|config| config.warnings)
    };
    assert!(
        with_secret("BLANK")
            .unwrap_err()
            .contains("credentials[0].secret_env: the environment variable that it names is blank")
    );
    let short = with_secret("SEVEN").unwrap_err();
    assert!(
        short.contains("credentials[0].secret_env: ")
            && short.contains("fewer than 8")
            && !short.contains("canary"),
        "{short}"
    );
    // A blank at either end does not count as a character, and is lost in a header.
    for name in ["SHORT_AND_BLANKS", "BLANK_BEFORE", "BLANK_AFTER"] {
        let blank = with_secret(name).unwrap_err();
        assert!(
            blank.contains("credentials[0].secret_env: ") && blank.contains("begins or ends with a blank"),
            "{blank}"
        );
    }
    let warnings = with_secret("EIGHT").unwrap();
    assert!(
        warnings.len() == 1
            && warnings[0].starts_with("credentials[0].secret_env: the secret has fewer than 16 characters"),
        "{warnings:?}"
    );
    assert_eq!(with_secret("SIXTEEN"), Ok(vec![]));
    assert!(with(|v| v["testkube"]["bearer_env"] = json!("SEVEN")).contains("testkube.bearer_env: "));
    assert!(with(|v| v["credentials"][0]["secret_env_next"] = json!("BLANK")).contains("secret_env_next: "));
}

#[test]
fn a_key_that_stands_twice_is_refused_with_its_name_and_line() {
    let text = serde_json::to_string_pretty(&good()).unwrap();
    let refused = |text: &str| Config::parse(text.as_bytes(), &environment).unwrap_err().to_string();
    for (from, to, want) in [
        (
            "\"testkube\"",
            "\"read_body\": true, \"read_body\":\nfalse,\n\"testkube\"",
            "`read_body` appears twice in one object at line 19",
        ),
        ("\"kind\"", "\"kind\": \"bearer\",\n\"kind\"", "`kind` appears twice in one object at line 14"),
        (
            "\"cluster\": \"testkube\"",
            "\"cluster\": \"testkube\", \"x\": [[{\"a\": 1, \"\\u0061\": 2}]]",
            "`a` appears twice in one object at line",
        ),
    ] {
        let told = refused(&text.replacen(from, to, 1));
        assert!(told.contains(want), "{told}\n  lacks: {want}");
    }
    assert!(Config::parse(text.as_bytes(), &environment).is_ok());
}

#[test]
fn a_configuration_without_credentials_must_say_so() {
    let mut value = good();
    value.as_object_mut().unwrap().remove("credentials");
    value["insecure_no_auth"] = json!(true);
    assert!(parse(&value).unwrap().credentials.is_empty());
    value["credentials"] = good()["credentials"].clone();
    assert!(parse(&value).unwrap_err().contains("insecure_no_auth"));
}

#[test]
fn what_is_not_json_is_an_error_and_no_panic() {
    for text in ["", "{", "[]", "null", "\"x\"", "{\"testkube\": [1]}", "\u{feff}{}"] {
        assert!(Config::parse(text.as_bytes(), &environment).is_err(), "{text}");
    }
    assert!(Config::parse(&[0xff, 0xfe], &environment).is_err());
    assert!(Config::parse("[".repeat(10_000).as_bytes(), &environment).is_err());
}

#[test]
fn reports_of_tests_are_bounded_and_can_be_switched_off() {
    let files = |results: Value| {
        let mut value = good();
        value["checks"] = json!({"test_results": results});
        parse(&value).map(|config| config.checks.test_files)
    };
    assert_eq!(
        (files(json!({})), files(json!({"files": 0})), files(json!({"files": 20}))),
        (Ok(5), Ok(0), Ok(20))
    );
    let refused = "checks.test_results.files: is 21; allowed are whole numbers from 0 to 20";
    assert_eq!(files(json!({"files": 21})), Err(refused.into()));
    assert!(files(json!({"file": 1})).unwrap_err().contains("unknown field; allowed are files"));
}

#[test]
fn a_file_is_linked_unless_its_name_may_not_be_in_a_path() {
    let mut value = good();
    value["public_url"] = json!("https://relay.example");
    let config = parse(&value).unwrap();
    let tag = crate::tag::Tag { key: "ado-run".into(), value: "shop-1".into() };
    let link = |name: &str| config.public_file(&tag, "e2e-1", name);
    let base = "https://relay.example/testrelay/v1/artifacts/ado-run=shop-1/e2e-1";
    assert_eq!(link("a b/junit.xml"), Some(format!("{base}/a%20b/junit.xml")));
    for name in
        ["", "/junit.xml", "a//b.xml", "../b.xml", "a/./b.xml", "a%2e.xml", "a\\b.xml", "a;b.xml", "a\n.xml"]
    {
        assert_eq!(link(name), None, "{name:?}");
    }
    assert_eq!(parse(&good()).unwrap().public_file(&tag, "e2e-1", "junit.xml"), None);
}
