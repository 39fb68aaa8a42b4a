//! A plain Envoy: the mistakes in `envoy/envoy.yaml`.

use super::*;

pub(super) const MISTAKES: &[Mistake] = &[
    ("A secret's variable is not exported", |scene, line| {
        refused(scene.setup()?.without_environment("TESTRELAY_PASSWORD"), line)
    }),
    ("A secret's variable is not in `host_env_keys`", |scene, line| {
        let list = "/vm_config/environment_variables/host_env_keys";
        let without = |bootstrap: &mut Value| -> Result<()> {
            let keys = config::list(config::wasm(config::listener(bootstrap)?)?, list)?;
            keys.retain(|key| key != "TESTRELAY_BEARER");
            Ok(())
        };
        refused(scene.setup()?.edit(without), line)
    }),
    ("The secret is written where its variable's name belongs", |scene, line| {
        let secret = json!("5f4dcc3b-5aa7-65d6");
        let plugin = move |plugin: &mut Value| plugin["credentials"][0]["secret_env"] = secret.clone();
        refused(scene.setup()?.edit_plugin(plugin), line)
    }),
    ("The authorities' file is not there", |scene, line| {
        refused(scene.setup()?.trusted_ca(std::path::Path::new("/etc/envoy/company-ca.pem")), line)
    }),
    ("`allow_on_headers_stop_iteration` is missing", |scene, line| {
        let envoy = Envoy::start(&scene.setup()?.concurrency(1).without_headers_stop_iteration())?;
        ensure!(in_body(&next(scene))?.send(envoy.address())?.status == 422);
        ensure!(holds(&envoy.log(), line), "{}", envoy.log());
        envoy.stop()
    }),
    ("Azure DevOps refuses every token", |scene, line| {
        let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
        let check = next(scene).fields("shop-e2e").with("AuthToken", "another-token");
        ensure!(check.request().send(envoy.address())?.status == 200);
        wait_until("the line", SOON, || holds(&envoy.log(), line)).with_context(|| envoy.log())?;
        envoy.stop()
    }),
    ("TLS to Azure DevOps hangs", |scene, line| {
        // The kernel completes the TCP handshake, and nobody answers the TLS handshake.
        let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
        logged(scene, scene.setup()?.azure_devops(silent.local_addr()?), line)
    }),
    ("One check is delivered too often", |scene, line| {
        let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
        let envoy = Envoy::start(&scene.setup()?.azure_devops(silent.local_addr()?).concurrency(1))?;
        let run = next(scene);
        for n in 0..6 {
            let forged = run.fields("shop-e2e").with("AuthToken", format!("another-token-{n}"));
            ensure!(forged.request().send(envoy.address())?.status == 200);
        }
        told(&run.check("shop-e2e"), &envoy, line)
    }),
    ("No check arrives any more", |scene, line| {
        let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
        let stats = envoy.admin_get("/stats")?;
        ensure!(stats.lines().any(|stat| stat == line), "{stats}");
        ensure!(stats.lines().any(|stat| stat == line.replace("accepted", "refused")), "{stats}");
        envoy.stop()
    }),
    ("The configuration is not JSON", |scene, line| {
        refused(scene.setup()?.plugin_text("{ \"testkube\": { \"cluster\": \"testkube\", } }"), line)
    }),
];
