//! The plugin's configuration: what is refused and with which text, what the log says at the start, and what a change
//! keeps.

use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::client::Request;
use host_tests::scene::{Pipeline, Scene, TAG_KEY, USER, now_ms};
use host_tests::{BEARER, Envoy, PASSWORD, Reload, Setup, validate, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Errors must never repeat it, wherever in a configuration somebody writes it by mistake.
const CANARY: &str = "canary-7d20";

/// A mistake, and what the log must say: the field, its value, what is allowed.
type Mistake = (fn(&mut Value), &'static [&'static str]);

const MISTAKES: &[Mistake] = &[
    (|p| p["tag"]["kye"] = json!("run"), &["tag.kye: unknown field; allowed are bind_to_build, key"]),
    (
        |p| p["paswords"] = json!(CANARY),
        &["paswords: unknown field; allowed are artifacts, azure_devops, base_path"],
    ),
    (
        |p| p["passthrough"] = json!("everything"),
        &["passthrough: is \"everything\"; allowed are \"artifacts\", \"all\""],
    ),
    (
        |p| p["azure_devops"][0]["url"] = json!("https://dev.azure.com/"),
        &[
            "azure_devops[0].url: is \"https://dev.azure.com/\"; allowed: https://dev.azure.com/<organisation>",
        ],
    ),
    (|p| p["azure_devops"] = json!([]), &["azure_devops: is empty; at least one entry is expected"]),
    (
        |p| p["credentials"][0]["secret"] = json!(CANARY),
        &[
            "credentials[0].secret: unknown field; allowed are abort_on_cancel, allow, allow_policies, kind, max_downloads",
        ],
    ),
    (|p| p["credentials"][0]["secret_env"] = json!(CANARY), &["credentials[0].secret_env"]),
    (
        |p| p["credentials"][0]["secret_env"] = json!("TESTRELAY_PASSWORT"),
        &["credentials[0].secret_env", "is not set or empty"],
    ),
    (
        |p| drop(p.as_object_mut().map(|p| p.remove("credentials"))),
        &["credentials: missing: without credentials anyone", "\"insecure_no_auth\": true"],
    ),
    (
        |p| p["insecure_no_auth"] = json!(true),
        &["insecure_no_auth: is true although credentials are configured"],
    ),
    (
        |p| p["checks"] = json!({ "timeout": "48h", "max_pending": 0 }),
        &[
            "checks.timeout: is \"48h\"; allowed: a number and a unit",
            "47h 30m",
            "checks.max_pending: is 0; allowed are whole numbers from 1 to 16384",
        ],
    ),
    (|p| *p = json!([]), &["a list; an object is expected"]),
];

#[test]
fn a_mistake_is_refused_with_the_field_what_it_held_and_what_is_allowed() -> Result<()> {
    let mut envoy = Envoy::start(&Setup::new()?.concurrency(1).dynamic_listener())?;
    let good = envoy.plugin()?;
    for (n, (mistake, words)) in MISTAKES.iter().enumerate() {
        let mut plugin = good.clone();
        mistake(&mut plugin);
        let Reload::Refused(log) = envoy.reload(&plugin)? else {
            panic!("mistake {n} was accepted: {plugin}")
        };
        ensure!(log.contains("the plugin configuration is refused: "), "mistake {n}: {log}");
        for word in *words {
            ensure!(log.contains(word), "mistake {n}: {word:?} expected: {log}");
        }
        ensure!(!log.contains(CANARY) && !log.contains(PASSWORD), "mistake {n}: a secret: {log}");
        ensure!(Request::get("/testrelay/healthz").send(envoy.address())?.status == 200);
    }
    envoy.stop()
}

#[test]
fn what_is_not_json_or_lacks_its_secret_does_not_start() -> Result<()> {
    let broken = Setup::new()?.plugin_text("{\"testkube\": canary-7d20");
    let unset = Setup::new()?.without_environment("TESTRELAY_BEARER");
    for (setup, words) in [(broken, "is not JSON"), (unset, "credentials[1].secret_env")] {
        let validation = validate(&setup)?;
        assert!(!validation.accepted && validation.text.contains(words), "{}", validation.text);
        let error = format!("{:#}", Envoy::start(&setup).expect_err(words));
        assert!(error.contains(words) && !error.contains(CANARY), "{error}");
    }
    Ok(())
}

fn check_is_decided(scene: &Scene, envoy: &Envoy, n: u32) -> Result<()> {
    let run: Pipeline = scene.pipeline(n);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    let answer = run.check("shop-e2e").send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    ensure!(scene.decision(&run, SOON)?.result() == "succeeded");
    Ok(())
}

#[test]
fn a_wrong_change_keeps_the_old_configuration_at_work_and_a_right_one_comes_after_it() -> Result<()> {
    let scene = Scene::new()?;
    let setup = scene.setup()?.concurrency(1).drain_time(Duration::from_secs(2)).dynamic_listener();
    let mut envoy = Envoy::start(&setup)?;
    check_is_decided(&scene, &envoy, 1)?;
    let good = envoy.plugin()?;
    for wrong in [json!({ "tag": { "key": "a b" } }), json!({ "read_body": "yes" })] {
        let mut plugin = good.clone();
        host_tests::config::merge(&mut plugin, &wrong);
        let Reload::Refused(log) = envoy.reload(&plugin)? else { panic!("{wrong} was accepted") };
        assert!(
            log.contains("is \"a b\"; allowed") || log.contains("read_body: is \"yes\"; allowed"),
            "{log}"
        );
        check_is_decided(&scene, &envoy, if wrong["tag"].is_object() { 2 } else { 3 })?;
    }
    let mut plugin = good.clone();
    plugin["base_path"] = json!("/gate");
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    wait_until("the new base path", SOON, || {
        Request::get("/gate/healthz").send(envoy.address()).is_ok_and(|answer| answer.status == 200)
    })?;
    assert_eq!(envoy.reload(&good)?, Reload::Accepted, "the old one again");
    wait_until("the old base path", SOON, || {
        Request::get("/testrelay/healthz").send(envoy.address()).is_ok_and(|answer| answer.status == 200)
    })?;
    check_is_decided(&scene, &envoy, 4)?;
    envoy.stop()
}

#[test]
fn the_start_says_version_revision_and_compiler_and_no_secret() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1).log_level("wasm", "debug"))?;
    check_is_decided(&scene, &envoy, 1)?;
    let log = envoy.log();
    let line = log.lines().find(|line| line.contains("testrelay 0.")).context("no line with the version")?;
    let (_, said) = line.split_once("testrelay 0.").unwrap_or_default();
    let [version, _git, revision, _rust, compiler] = said.split(' ').collect::<Vec<_>>()[..] else {
        panic!("another form: {line}")
    };
    assert!(version.chars().all(|c| c.is_ascii_digit() || c == '.'), "{line}");
    assert!(revision.len() > 7 && revision.chars().take(7).all(|c| c.is_ascii_hexdigit()), "{line}");
    assert!(compiler.starts_with("1."), "{line}");
    for secret in [PASSWORD, BEARER, "azure-token-"] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
    envoy.stop()
}

#[test]
fn without_credentials_it_works_for_everybody_and_says_so_at_every_start() -> Result<()> {
    const WARNING: &str = "insecure_no_auth: everybody";
    let scene = Scene::new()?;
    let open = json!({ "credentials": null, "insecure_no_auth": true });
    let setup =
        scene.setup()?.concurrency(1).plugin(open).drain_time(Duration::from_secs(1)).dynamic_listener();
    let mut envoy = Envoy::start(&setup)?;
    let warnings = |envoy: &Envoy| envoy.log().matches(WARNING).count();
    let first = warnings(&envoy);
    assert!(first > 0, "{}", envoy.log());
    let run = scene.pipeline(1);
    assert_eq!(run.fields("shop-e2e").anonymous_request().send(envoy.address())?.status, 200);
    let mut plugin = envoy.plugin()?;
    plugin["read_body"] = json!(false);
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    wait_until("the warning of the new configuration", SOON, || warnings(&envoy) > first)?;
    envoy.stop()
}

#[test]
fn while_a_secret_is_rotated_both_are_good_and_afterwards_only_the_new_one() -> Result<()> {
    const NEXT: &str = "password-after-the-rotation-41c9";
    let scene = Scene::new()?;
    let mut credential = json!({ "name": "azure-pipelines", "kind": "basic", "username": USER,
        "secret_env": "TESTRELAY_PASSWORD", "secret_env_next": "TESTRELAY_PASSWORD_NEXT", "allow": ["checks"] });
    let both = scene
        .setup()?
        .concurrency(1)
        .environment("TESTRELAY_PASSWORD_NEXT", NEXT)
        .plugin(json!({ "credentials": [credential] }))
        .drain_time(Duration::from_secs(1))
        .dynamic_listener();
    let mut envoy = Envoy::start(&both)?;
    let run = scene.pipeline(1);
    let with = |envoy: &Envoy, password: &str| -> Result<u16> {
        Ok(run.fields("shop-e2e").anonymous_request().basic(USER, password).send(envoy.address())?.status)
    };
    assert_eq!([with(&envoy, PASSWORD)?, with(&envoy, NEXT)?, with(&envoy, "")?], [200, 200, 401]);

    credential["secret_env"] = json!("TESTRELAY_PASSWORD_NEXT");
    credential.as_object_mut().map(|fields| fields.remove("secret_env_next"));
    let mut plugin = envoy.plugin()?;
    plugin["credentials"] = json!([credential]);
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    wait_until("the end of the old password", SOON, || {
        with(&envoy, PASSWORD).is_ok_and(|status| status == 401)
    })?;
    assert_eq!(with(&envoy, NEXT)?, 200);
    envoy.stop()
}

#[test]
fn probes_are_open_and_depend_on_nobody() -> Result<()> {
    // Neither Testkube nor Azure DevOps is there.
    let envoy = Envoy::start(&Setup::new()?.concurrency(1))?;
    let get = |method: &str, path: &str| Request::new(method, path).send(envoy.address());
    let healthy = get("GET", "/testrelay/healthz")?;
    assert_eq!((healthy.status, healthy.text().as_str()), (200, "ok\n"));
    wait_until("readiness", SOON, || {
        get("GET", "/testrelay/readyz").is_ok_and(|answer| answer.status == 200)
    })?;
    assert_eq!(get("GET", "/testrelay/readyz")?.text(), "ready; pending checks: 0\n");
    let head = get("HEAD", "/testrelay/readyz")?;
    assert_eq!((head.status, head.body.len()), (200, 0));
    envoy.stop()
}
