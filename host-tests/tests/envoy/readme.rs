//! The pages are true: the module accepts what they tell people to paste and configure, and answers what they say.

use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::client::{Request, Response};
use host_tests::scene::{PLAN_URL, Pipeline, Scene, TAG_KEY, USER, now_ms};
use host_tests::{Envoy, PASSWORD, Setup, config, validate};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const README: &str = include_str!("../../../README.md");
const INSTALL: &str = include_str!("../../../envoy/README.md");
const GUIDE: &str = include_str!("../../../envoy/guide.md");
const REFERENCE: &str = include_str!("../../../envoy/reference.md");
const BEHAVIOUR: &str = include_str!("../../../envoy/behaviour.md");
const OPERATIONS: &str = include_str!("../../../envoy/operations.md");
const KUBERNETES: &str = include_str!("../../../envoy/kubernetes/README.md");
const STEPS: &str = include_str!("../../../envoy/azure-pipelines/steps/request-by-gitops.yml");
const SOON: Duration = Duration::from_secs(60);

/// The text of a page from a heading to the next one.
fn section(page: &'static str, heading: &str) -> Result<&'static str> {
    let start = page.find(&format!("\n{heading}\n")).with_context(|| format!("no {heading:?}"))?;
    let text = &page[start + heading.len() + 1..];
    let end = ["\n## ", "\n### "].iter().filter_map(|next| text.find(next)).min();
    Ok(&text[..end.unwrap_or(text.len())])
}

/// The fenced blocks of one language.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("\n```{language}\n");
    let blocks = text.split(open.as_str()).skip(1);
    blocks.filter_map(|block| Some(block.split_once("\n```")?.0)).collect()
}

/// The first fenced block of one language.
fn block(page: &'static str, heading: &str, language: &str) -> Result<&'static str> {
    let blocks = fenced(section(page, heading)?, language);
    blocks.first().copied().with_context(|| format!("{heading:?} has no block of {language}"))
}

/// The texts between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The cells of each row of a text's tables.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// The names in the first column of a text's tables.
fn names(text: &str) -> BTreeSet<String> {
    rows(text).flat_map(|row| quoted(row[0])).collect()
}

fn set(names: impl IntoIterator<Item = impl AsRef<str>>) -> BTreeSet<String> {
    names.into_iter().map(|name| name.as_ref().to_owned()).collect()
}

/// The check as Azure DevOps sends it when the guide's headers are in its form.
fn sent_by_azure_devops(run: &Pipeline, since_stage: bool) -> Result<Request> {
    let form = block(GUIDE, "## 5. Create the check", "json")?;
    ensure!(form.chars().count() < 2_000, "the form takes 2,000 characters, not {}", form.chars().count());
    let (spec, build) = (&run.spec, run.spec.build.unwrap_or_default().to_string());
    let variables = [
        ("$(system.CollectionUri)", PLAN_URL),
        ("$(system.TeamProjectId)", &spec.project),
        ("$(system.HostType)", &spec.hub),
        ("$(system.PlanId)", &spec.plan),
        ("$(system.JobId)", &spec.job),
        ("$(system.TimelineId)", &spec.timeline),
        ("$(system.TaskInstanceId)", &spec.task),
        ("$(system.AccessToken)", &spec.token),
        ("$(build.BuildId)", &build),
    ];
    let mut headers: BTreeMap<String, String> = serde_json::from_str(form)?;
    if !since_stage {
        headers.remove("Testrelay-Since-Stage").context("the field that may be taken out is not there")?;
    }
    let mut request = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD);
    for (name, value) in &headers {
        let value = variables.iter().fold(value.clone(), |text, (name, value)| text.replace(name, value));
        ensure!(!value.contains("$("), "{name}: {value} has a variable that a check does not have");
        request = request.header(name, value);
    }
    Ok(request)
}

#[test]
fn the_headers_to_paste_are_accepted_and_the_check_is_decided() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    for (n, since_stage) in [(1, false), (2, true)] {
        let run = scene.pipeline(n);
        for workflow in ["shop-e2e", "shop-api"] {
            let passed = execution(workflow).tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed);
            scene.execution(passed);
        }
        let answer = sent_by_azure_devops(&run, since_stage)?.send(envoy.address())?;
        assert_eq!(
            (answer.status, &answer.json()?["status"]),
            (200, &json!("accepted")),
            "{}",
            answer.text()
        );
        let decision = scene.decision(&run, SOON)?;
        assert_eq!(decision.result(), "succeeded", "{}", decision.text());
    }
    envoy.stop()
}

#[test]
fn the_configuration_reference_names_the_fields_that_the_parser_knows() -> Result<()> {
    const STRANGE: &str = "field-of-no-version";
    let strange = |plugin: &mut Value| {
        let top = ["", "/testkube", "/azure_devops/0", "/credentials/0", "/tag", "/artifacts", "/checks"];
        for place in top.into_iter().chain(["/checks/test_results", "/store", "/store/kubernetes"]) {
            if let Some(object) = plugin.pointer_mut(place).and_then(Value::as_object_mut) {
                object.insert(STRANGE.into(), json!(1));
            }
        }
    };
    let store = json!({ "kubernetes": { "cluster": "kubernetes", "namespace": "testrelay-checks" } });
    let setup = Setup::new()?
        .plugin(json!({ "tag": {}, "artifacts": {}, "checks": { "test_results": {} }, "store": store }))
        .edit_plugin(strange);
    let said = validate(&setup)?.text;
    let errors = said.split_once("the plugin configuration is refused: ").context("it was not refused")?.1;
    let mut known = BTreeSet::new();
    let mut objects = 0;
    for error in errors.lines().next().unwrap_or_default().split(" | ") {
        let (place, allowed) = error
            .split_once(&format!("{STRANGE}: unknown field; allowed are "))
            .with_context(|| format!("another mistake: {error}"))?;
        let place = place.replace("[0]", "[]");
        known.extend(allowed.split(", ").map(|field| format!("{place}{field}")));
        objects += 1;
    }
    assert_eq!((objects, names(section(REFERENCE, "## Configuration")?)), (10, known));
    Ok(())
}

#[test]
fn every_configuration_in_the_pages_loads() -> Result<()> {
    let scene = Scene::new()?;
    let text = section(REFERENCE, "### Examples")?;
    let mut cluster: Value = serde_saphyr::from_str(fenced(text, "yaml").first().context("no cluster")?)?;
    let trusted = "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename";
    *config::at(&mut cluster, trusted)? = json!(scene.ca());
    let mut examples = fenced(text, "json");
    examples.push(block(README, "## Configuration", "json")?);
    // In a list, and so indented.
    let (_, observing) = OPERATIONS.split_once("\n   ```json\n").context("no observing credential")?;
    examples.push(observing.split("\n   ```").next().unwrap_or_default());
    assert_eq!(examples.len(), 4);
    for example in examples {
        let mut setup = scene.setup()?.cluster(cluster.clone()).plugin_text(example);
        for variable in quoted(&example.replace('"', "`")).iter().filter(|text| text.starts_with("TEST")) {
            setup = setup.environment(variable, "some-secret");
        }
        let said = validate(&setup)?;
        assert!(said.accepted, "{example}\n{}", said.text);
    }
    Ok(())
}

#[test]
fn the_table_of_fields_has_every_name_that_the_module_knows() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let send = |request: Request| -> Result<Response> { request.send(envoy.address()) };

    let empty = send(Request::post("/testrelay/v1/checks").basic(USER, PASSWORD))?.json()?;
    let missing = empty["errors"].as_array().context("no errors")?;
    let mut known: BTreeSet<String> =
        missing.iter().filter_map(|error| error["field"].as_str()).map(str::to_owned).collect();
    let strange = scene.pipeline(1).fields("shop-e2e").with("Testrelay-Field-Of-No-Version", "x").request();
    let message = send(strange)?.json()?["message"].as_str().context("no message")?.to_owned();
    let own = message.split_once(" is unknown; known are ").context("it was known")?.1;
    known.extend(set(own.trim_end_matches('.').split(", ")));
    // These two are optional, so the answer does not ask for them.
    known.extend(set(["TimelineId", "BuildId"]));
    let text = section(REFERENCE, "## The request")?;
    assert_eq!(names(text), known);

    let mut n = 1;
    for row in rows(text).filter(|row| row[0].starts_with('`')) {
        let field = quoted(row[0]).remove(0);
        n += 1;
        let wrong = scene.pipeline(n).fields("shop-e2e").with(&field, b"\xff").request();
        let said = send(wrong)?.text();
        assert!(said.contains(&format!("{field}: is not UTF-8 text")), "header {field}: {said}");
        for member in quoted(row[1]) {
            n += 1;
            let rest = scene.pipeline(n).fields("shop-e2e").without(&field);
            let said = send(rest.request().body(json!({ &member: {} }).to_string()))?.text();
            assert!(said.contains(&format!("{field}: must be a text or")), "member {member}: {said}");
        }
    }
    for (alias, field) in [("VstsUrl", "PlanUrl"), ("Webhook", "Testrelay-Webhook"), ("Tag", "Testrelay-Tag")]
    {
        n += 1;
        let said = send(scene.pipeline(n).fields("shop-e2e").with(alias, b"\xff").request())?.text();
        assert!(said.contains(&format!("{field}: is not UTF-8 text")), "header {alias}: {said}");
        assert!(text.contains(&format!("`{alias}`")), "{alias}");
    }
    envoy.stop()
}

/// A line with its times and numbers made alike.
pub(crate) fn alike(line: &str) -> String {
    let word = |word: &str| -> String {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return "#".into();
        }
        let mut out = String::new();
        for c in word.chars() {
            match c.is_ascii_digit() {
                true if out.ends_with('#') => {}
                true => out.push('#'),
                false => out.push(c),
            }
        }
        out
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_lines_of_the_checks_log_are_the_modules() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let runs: Vec<Pipeline> = (1..=4).map(|n| scene.pipeline(n)).collect();
    let now = now_ms();
    for (run, api) in [(&runs[0], Status::Passed), (&runs[1], Status::Failed)] {
        scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now, Status::Passed));
        scene.execution(execution("shop-api").tag(TAG_KEY, &run.tag).at(now + 5, api));
    }
    let expect = "shop-e2e, shop-api";
    for request in [
        runs[0].check(expect),
        runs[1].check(expect),
        runs[2].fields(expect).with("Testrelay-Appear-Timeout", "3s").request(),
        runs[3].fields(expect).with("Testrelay-Tag", "shop").request(),
    ] {
        assert_eq!(request.send(envoy.address())?.status, 200);
    }
    let logs = fenced(section(BEHAVIOUR, "## What the author of a pipeline sees")?, "text");
    let shown: Vec<&str> = logs.get(2).context("no third block")?.lines().collect();
    assert_eq!(shown.len(), runs.len());
    for (run, shown) in runs.iter().zip(shown) {
        let decision = scene.decision(run, SOON)?;
        assert_eq!(alike(decision.line()), alike(shown));
        assert_eq!(decision.result() == "succeeded", shown.contains("succeeded"));
    }
    envoy.stop()
}

#[test]
fn the_metrics_are_those_that_envoy_shows() -> Result<()> {
    let envoy = Envoy::start(&Setup::new()?)?;
    let stats = envoy.stats()?;
    let shown = stats.keys().filter(|name| name.contains("testrelay_"));
    let mut told = names(section(REFERENCE, "## Metrics")?);
    let codes = names(section(REFERENCE, "## Reason codes")?);
    told.extend(codes.into_iter().map(|code| format!("wasmcustom.testrelay_decided_{code}")));
    assert_eq!(told, set(shown));
    envoy.stop()
}

/// Runs a program that must succeed, in a folder and with nothing of the test's environment but PATH.
fn run(program: &mut Command, folder: &Path, path: &str) -> Result<String> {
    let output = program
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("BUILD_BUILDID", "4711")
        .env("TESTS_TAG", "shop-4711")
        .env("TESTS_WORKFLOWS", "shop-e2e shop-api")
        .envs(["AUTHOR", "COMMITTER"].iter().flat_map(|who| {
            [(format!("GIT_{who}_NAME"), "test"), (format!("GIT_{who}_EMAIL"), "test@example.com")]
        }))
        .output()
        .with_context(|| format!("{program:?} cannot be run"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{program:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

#[test]
fn the_lines_that_fetch_files_save_all_of_them_and_nothing_else() -> Result<()> {
    let scene = Scene::new()?;
    for workflow in ["shop-e2e", "shop-api"] {
        let passed = execution(workflow).tag(TAG_KEY, "shop-4711").at(now_ms() - 60_000, Status::Passed);
        let passed = passed
            .artifact("a b/junit.xml", workflow)
            .artifact("log.txt", "none")
            .artifact("..;/x.xml", "no");
        scene.execution(if workflow == "shop-e2e" {
            passed.artifact("results/junit.xml", "one")
        } else {
            passed
        });
    }
    let envoy = Envoy::start(&scene.setup()?)?;
    let shown = block(REFERENCE, "### Artifacts by tag", "bash")?;
    assert!(shown.contains("--proto =https") && shown.contains("artifacts=https://testrelay.example/"));
    let script = shown
        .replace("--proto =https", "--proto =http")
        .replace("https://testrelay.example/", &format!("http://{}/", envoy.address()));
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let script = format!("export TESTRELAY_BEARER={}\n{script}\n", host_tests::BEARER);
    run(Command::new("bash").args(["-c", &script]), folder, &std::env::var("PATH")?)?;
    assert_eq!(std::fs::read_to_string(folder.join("TEST-e2e.xml"))?, "one");
    let mut saved = Vec::new();
    for entry in std::fs::read_dir(folder.join("results"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            saved.push(std::fs::read_to_string(path)?);
        }
    }
    saved.sort();
    assert_eq!(saved, ["one", "shop-api", "shop-e2e"]);
    // As it stands, it sends the token only over https, and any answer but 200 ends it.
    let plain = format!(
        "export TESTRELAY_BEARER=x\n{}\n",
        shown.replace("https://testrelay.example/", &format!("http://{}/", envoy.address()))
    );
    assert!(run(Command::new("bash").args(["-c", &plain]), folder, &std::env::var("PATH")?).is_err());
    let refused = script.replace("shop-4711", "shop-4712");
    assert!(run(Command::new("bash").args(["-c", &refused]), folder, &std::env::var("PATH")?).is_err());
    envoy.stop()
}

#[test]
fn the_pipelines_step_pushes_a_new_file_for_each_attempt_even_when_another_run_is_faster() -> Result<()> {
    let step = block(GUIDE, "## 6. Run the pipeline, and see it wait", "bash")?;
    let steps: Value = serde_saphyr::from_str(STEPS)?;
    let steps = steps["steps"].as_array().context("no steps")?;
    assert!(steps.iter().any(|one| one["bash"].as_str().map(str::trim_end) == Some(step)), "{steps:?}");

    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    // A kustomize that does what this needs, and in whose first call another run pushes.
    let kustomize = folder.join("kustomize");
    let rival =
        "cd ../rival && echo '- rival.yaml' >> kustomization.yaml && git commit -qam r && git push -q";
    let script = format!(
        "#!/bin/sh\nset -e\n[ \"$1 $2 $3\" = 'edit add resource' ]\necho \"- $4\" >> kustomization.yaml\n\
         [ -e ../pushed ] || {{ touch ../pushed; {rival}; }}\n"
    );
    std::fs::write(&kustomize, script)?;
    std::fs::set_permissions(&kustomize, std::fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let git = |folder: &Path, arguments: &[&str]| run(Command::new("git").args(arguments), folder, &path);

    git(folder, &["init", "-q", "--bare", "-b", "main", "gitops"])?;
    git(folder, &["clone", "-q", "gitops", "rival"])?;
    let rival = folder.join("rival");
    std::fs::write(rival.join("kustomization.yaml"), "resources:\n")?;
    git(&rival, &["checkout", "-q", "-B", "main"])?;
    git(&rival, &["add", "."])?;
    git(&rival, &["commit", "-q", "-m", "begin"])?;
    git(&rival, &["push", "-q", "-u", "origin", "main"])?;
    git(folder, &["clone", "-q", "gitops", "checkout"])?;
    let checkout = folder.join("checkout");
    git(&checkout, &["checkout", "-q", "--detach"])?;
    for attempt in ["1", "2"] {
        let script = format!("export SYSTEM_STAGEATTEMPT={attempt}\n{step}\n");
        run(Command::new("bash").args(["-c", &script]), &checkout, &path)?;
    }

    let pushed = |file: &str| git(&folder.join("gitops"), &["show", &format!("main:{file}")]);
    let kustomization: Value = serde_saphyr::from_str(&pushed("kustomization.yaml")?)?;
    let attempt = |n: u32| [format!("shop-e2e-4711-{n}.yaml"), format!("shop-api-4711-{n}.yaml")];
    let expected = [&["rival.yaml".to_owned()][..], &attempt(1), &attempt(2)].concat();
    assert_eq!(kustomization["resources"], json!(expected));
    let examples = fenced(section(GUIDE, "## 4. Let Testkube run something with a tag")?, "yaml");
    let [workflow, example] = examples[..] else { anyhow::bail!("{examples:?}") };
    let [workflow, example]: [Value; 2] =
        [serde_saphyr::from_str(workflow)?, serde_saphyr::from_str(example)?];
    assert_eq!(
        (&workflow["kind"], &workflow["metadata"]["name"]),
        (&json!("TestWorkflow"), &json!("shop-api"))
    );
    for name in ["apiVersion", "/metadata/namespace"] {
        let name = format!("/{}", name.trim_start_matches('/'));
        assert_eq!(workflow.pointer(&name), example.pointer(&name), "{name}");
    }
    let resource: Value = serde_saphyr::from_str(&pushed("shop-e2e-4711-1.yaml")?)?;
    assert_eq!(resource, example);
    let second: Value = serde_saphyr::from_str(&pushed("shop-api-4711-2.yaml")?)?;
    assert_eq!(second["metadata"]["name"], "shop-api-4711-2");
    assert_eq!(second["spec"]["executionRequest"]["tags"], json!({ TAG_KEY: "shop-4711" }));
    Ok(())
}

/// Writes a program into a folder.
fn program(folder: &Path, name: &str, script: &str) -> Result<()> {
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\nset -eu\n{script}\n"))?;
    Ok(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?)
}

/// The lines that install it, with another folder in place of `/etc/envoy` and an Envoy that only says whether it would start.
#[test]
fn the_lines_that_install_it_end_with_an_envoy_that_would_start() -> Result<()> {
    let scene = Scene::new()?;
    for (page, heading, starts) in [(README, "## Install it", 1), (INSTALL, "## A plain Envoy", 2)] {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        let etc = folder.join("etc").display().to_string();
        let programs = folder.join("programs");
        std::fs::create_dir(&programs)?;
        std::fs::create_dir(folder.join("envoy"))?;
        std::fs::write(folder.join("envoy/envoy.yaml"), config::ENVOY_YAML)?;
        let module = host_tests::env::module()?;
        let build = format!(
            "[ \"$*\" = 'xtask build' ]\nmkdir -p target/testrelay\ncp {} target/testrelay/testrelay.wasm",
            module.display()
        );
        program(&programs, "cargo", &build)?;
        program(&programs, "openssl", "[ \"$*\" = 'rand -hex 24' ]\necho 0123456789abcdef0123456789abcdef")?;
        program(&programs, "curl", "true")?;
        let validate = format!(
            "[ \"$1\" = --mode ] || set -- --mode validate \"$@\"\n\
             sed -i -e 's#/etc/envoy/#{etc}/#' -e 's#/etc/ssl/certs/ca-certificates.crt#{}#' '{etc}/envoy.yaml'\n\
             exec {} \"$@\"",
            scene.ca().display(),
            host_tests::env::envoy()?.display()
        );
        program(&programs, "envoy", &validate)?;
        let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
        let lines = fenced(section(page, heading)?, "bash").join("\n").replace("/etc/envoy", &etc);
        let script = format!("set -e\n{lines}\nwait\n");
        let said = run(Command::new("bash").args(["-c", &script]), folder, &path)?;
        assert_eq!(said.matches(&format!("configuration '{etc}/envoy.yaml' OK")).count(), starts, "{said}");
    }
    Ok(())
}

/// A page's first block of commands under a heading, asked of an Envoy, with a `kubectl` that says nothing of use.
fn asked(page: &'static str, heading: &str, envoy: &Envoy) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    program(folder, "kubectl", "echo 'wasm log'")?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let lines = block(page, heading, "bash")?;
    ensure!(lines.contains("https://testrelay.example/"), "{lines}");
    let lines = lines.replace("https://testrelay.example/", &format!("http://{}/", envoy.address()));
    let script = format!("set -eu\nexport TESTRELAY_BEARER={}\n{lines}\n", host_tests::BEARER);
    run(Command::new("bash").args(["-c", &script]), folder, &path)
}

#[test]
fn the_commands_that_ask_whether_it_works_get_the_answers_that_the_pages_name() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    host_tests::wait_until("a leader", SOON, || {
        Request::get("/testrelay/readyz").send(envoy.address()).is_ok_and(|answer| answer.status == 200)
    })?;
    for (page, heading) in [(GUIDE, "## 3. Install Testrelay"), (KUBERNETES, "### 5. Does it work?")] {
        let told = quoted(section(page, heading)?);
        for line in asked(page, heading, &envoy)?.lines().filter(|line| *line != "wasm log") {
            assert!(told.iter().any(|told| told == line), "{heading}: {line:?} is not in {told:?}");
        }
    }
    let heading = "## 4. Let Testkube run something with a tag";
    let none = asked(GUIDE, heading, &envoy)?;
    assert!(none.contains("No such execution"), "{none}");
    let running =
        scene.execution(execution("shop-e2e").tag(TAG_KEY, "shop-4711").at(now_ms(), Status::Running));
    let not_ended = asked(GUIDE, heading, &envoy)?;
    assert!(not_ended.contains("has not ended"), "{not_ended}");
    let passed = |script: fakes::Execution| script.at(now_ms(), Status::Passed).artifact("junit.xml", "x");
    ensure!(scene.testkube().change(&running, passed));
    let links = asked(GUIDE, heading, &envoy)?;
    assert_eq!(links.lines().filter(|line| line.ends_with("shop-4711/junit.xml")).count(), 1, "{links}");
    envoy.stop()
}
