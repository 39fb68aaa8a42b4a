//! The check, created by the script and by Terraform, and the agentless job's task: sent to a real Envoy as Azure DevOps
//! sends it, and decided.

use super::azure::{Connection, invoke_rest_api};
use super::configurations::{CONNECTION, CONNECTION_ID, Configurations, ENVIRONMENT, PROJECT, TOKEN};
use super::{json, members, shipped, text, yaml};
use anyhow::{Context as _, Result, anyhow, ensure};
use fakes::{Status, execution};
use hcl::eval::{Context, Evaluate, FuncArgs, FuncDef, ParamType};
use host_tests::scene::{Decision, Pipeline, Scene, TAG_KEY, USER, now_ms};
use host_tests::{Envoy, PASSWORD};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// The check that `create-check.sh` creates.
pub(crate) fn created() -> Result<Value> {
    let api = Configurations::new()?;
    let ended = api.run("create-check.sh", TOKEN, &[PROJECT, ENVIRONMENT, CONNECTION])?;
    assert_eq!((ended.code, ended.said.contains(TOKEN)), (Some(0), false), "{}", ended.said);
    api.checks().pop().context("no check was created")
}

/// The service connection that the guide tells people to make.
pub(super) fn connection() -> Connection {
    Connection {
        url: "https://testrelay.example/testrelay".into(),
        user: USER.into(),
        password: PASSWORD.into(),
    }
}

/// Sends a task of a run to an Envoy, ends its executions with these statuses, and returns the decision.
fn decided(inputs: &Value, connection: &Connection, run: &Pipeline, ends: [Status; 2]) -> Result<Decision> {
    // Otherwise Azure DevOps does not wait for anybody.
    assert_eq!(inputs["waitForCompletion"], "true");
    let scene = Scene::new()?;
    scene.pipeline(1);
    scene.azure().start_check(now_ms(), run.spec.clone());
    let envoy = Envoy::start(&scene.setup()?)?;
    let answer = invoke_rest_api(inputs, connection, run)?.send(envoy.address())?;
    assert_eq!((answer.status, &answer.json()?["status"]), (200, &json!("accepted")), "{}", answer.text());
    for (workflow, end) in ["shop-e2e", "shop-api"].into_iter().zip(ends) {
        scene.execution(execution(workflow).tag(TAG_KEY, &run.tag).at(now_ms(), end));
    }
    let decision = scene.decision(run, SOON)?;
    envoy.stop()?;
    Ok(decision)
}

fn first_run() -> Result<Pipeline> {
    Ok(Scene::new()?.pipeline(1))
}

#[test]
fn the_check_that_the_script_creates_waits_for_the_tests_and_passes_with_them() -> Result<()> {
    let check = created()?;
    assert_eq!((&check["settings"]["retryInterval"], &check["timeout"]), (&json!(0), &json!(1440)));
    let ends = [Status::Passed, Status::Passed];
    let decision = decided(&check["settings"]["inputs"], &connection(), &first_run()?, ends)?;
    assert_eq!(decision.result(), "succeeded", "{}", decision.text());
    assert!(decision.line().contains("start of stage `Test`, attempt 1"), "{}", decision.text());
    Ok(())
}

#[test]
fn a_script_that_cannot_create_the_check_says_why() -> Result<()> {
    let api = Configurations::new()?;
    let not_there = "or the token may not see it";
    for (token, arguments, why) in [
        (TOKEN, [PROJECT, "production", CONNECTION], "there is no environment production, "),
        (TOKEN, [PROJECT, ENVIRONMENT, "other"], "there is no service connection other, "),
        ("wrong", [PROJECT, ENVIRONMENT, CONNECTION], "Azure DevOps did not answer with JSON"),
        ("", [PROJECT, ENVIRONMENT, CONNECTION], "AZURE_DEVOPS_EXT_PAT is not set"),
        (TOKEN, ["elsewhere", ENVIRONMENT, CONNECTION], "404"),
    ] {
        let ended = api.run("create-check.sh", token, &arguments)?;
        assert_eq!((ended.code, ended.said.contains(why)), (Some(2), true), "{}", ended.said);
        assert!(!why.starts_with("there") || ended.said.contains(not_there), "{}", ended.said);
        assert!(!ended.said.contains(TOKEN), "{}", ended.said);
    }
    assert_eq!(api.checks(), Vec::<Value>::new());
    Ok(())
}

#[test]
fn the_check_of_terraform_is_the_one_of_the_script_and_fails_with_the_tests() -> Result<()> {
    let (check, connection) = terraform()?;
    let mut created = created()?;
    let inputs = created["settings"]["inputs"].as_object_mut().context("no inputs")?;
    // The provider takes the connection's name, and omits what is empty or 0.
    assert_eq!(inputs.insert("connectedServiceName".into(), json!(CONNECTION)), Some(json!(CONNECTION_ID)));
    assert_eq!(inputs.remove("body"), Some(json!("")));
    created["settings"].as_object_mut().and_then(|settings| settings.remove("retryInterval"));
    assert_eq!((&check["settings"], &check["timeout"]), (&created["settings"], &created["timeout"]));

    let ends = [Status::Passed, Status::Failed];
    let decision = decided(&check["settings"]["inputs"], &connection, &first_run()?, ends)?;
    assert_eq!(decision.result(), "failed");
    assert!(decision.text().contains("1 of 2 executions"), "{}", decision.text());
    Ok(())
}

#[test]
fn the_agentless_job_waits_in_the_builds_own_plan() -> Result<()> {
    let pipeline = yaml("agentless.yml")?;
    let mut jobs = members(&pipeline["stages"][0]["jobs"]);
    let job = jobs.find(|job| job["pool"] == "server").context("no agentless job")?;
    assert!(job["timeoutInMinutes"].as_u64() > Some(12 * 60));
    let [task] = members(&job["steps"]).collect::<Vec<_>>()[..] else { panic!("not one task: {job}") };
    let inputs = &task["inputs"];
    assert_eq!(
        (&task["task"], &inputs["serviceConnection"]),
        (&json!("InvokeRESTAPI@1"), &json!(CONNECTION))
    );
    let names = |inputs: &Value| -> Result<Value> {
        Ok(serde_json::from_str(inputs["headers"].as_str().context("no headers")?)?)
    };
    assert_eq!(names(inputs)?, json("check-headers.json")?);

    let mut run = first_run()?;
    run.spec.hub = "build".into();
    run.spec.plan = run.spec.plan.replace('0', "b");
    run.spec.timeline = run.spec.plan.clone();
    let decision = decided(inputs, &connection(), &run, [Status::Passed, Status::Passed])?;
    assert_eq!(decision.result(), "succeeded", "{}", decision.text());
    Ok(())
}

#[test]
fn the_headers_are_those_of_the_guide() -> Result<()> {
    const GUIDE: &str = include_str!("../../../../envoy/guide.md");
    let step = GUIDE.split("\n## 5. Create the check\n").nth(1).context("no step 5")?;
    let block = step.split("\n```").find_map(|block| block.strip_prefix("json\n")).context("no headers")?;
    let headers: Value = serde_json::from_str(block)?;
    assert_eq!(headers, json("check-headers.json")?);
    Ok(())
}

/// What `check.tf` makes: the check, as the provider sends it, and the service connection.
fn terraform() -> Result<(Value, Connection)> {
    let body: hcl::Body = hcl::parse(&text("check.tf")?)?;
    let defaults = body.blocks().filter(|block| block.identifier() == "variable").filter_map(|block| {
        let default = block.body().attributes().find(|attribute| attribute.key() == "default");
        let name = block.labels().first()?.as_str().to_owned();
        Some((name, default.map_or(hcl::Value::from(PASSWORD), |default| default.expr().clone().into())))
    });
    let mut context = Context::new();
    context.declare_var("var", defaults.collect::<hcl::Map<_, _>>());
    let folder = shipped("").to_str().context("a path is not UTF-8")?.to_owned();
    context.declare_var("path", hcl::value!({ module = (folder) }));
    context.declare_func("file", FuncDef::builder().param(ParamType::String).build(file));
    context.declare_var(
        "data",
        hcl::value!({
            azuredevops_project = { project = { id = "p" } }
            azuredevops_environment = { environment = { id = "7" } }
        }),
    );
    let resource = |context: &Context, kind: &str| -> Result<Value> {
        let labels = [kind, "testrelay"];
        let mut blocks = body.blocks().filter(|block| block.identifier() == "resource");
        let found = blocks.find(|block| block.labels().iter().map(hcl::BlockLabel::as_str).eq(labels));
        let mut resource = serde_json::Map::new();
        for attribute in found.with_context(|| kind.to_owned())?.body().attributes() {
            let value =
                attribute.expr().evaluate(context).map_err(|e| anyhow!("{}: {e}", attribute.key()))?;
            resource.insert(attribute.key().to_owned(), serde_json::to_value(value)?);
        }
        Ok(resource.into())
    };
    let endpoint = resource(&context, "azuredevops_serviceendpoint_generic")?;
    let part = |name: &str| Ok(endpoint[name].as_str().with_context(|| name.to_owned())?.to_owned());
    let connection =
        Connection { url: part("server_url")?, user: part("username")?, password: part("password")? };
    let name: Result<String> = part("service_endpoint_name");
    let endpoint = hcl::value!({ testrelay = { service_endpoint_name = (name?) } });
    context.declare_var("azuredevops_serviceendpoint_generic", endpoint);
    Ok((provided(&resource(&context, "azuredevops_check_rest_api")?)?, connection))
}

fn file(arguments: FuncArgs) -> Result<hcl::Value, String> {
    let path = arguments.first().and_then(hcl::Value::as_str).unwrap_or_default();
    std::fs::read_to_string(path).map(hcl::Value::from).map_err(|e| format!("{path}: {e}"))
}

/// What the provider sends for `azuredevops_check_rest_api` (its `expandRestAPI`): completion event Callback unless it is
/// said otherwise, beside which it refuses a `retry_interval`.
fn provided(resource: &Value) -> Result<Value> {
    let attributes = resource.as_object().context("no attributes")?;
    let known = [
        ("project_id", ""),
        ("target_resource_type", ""),
        ("target_resource_id", ""),
        ("display_name", ""),
        ("completion_event", ""),
        ("timeout", ""),
        ("connected_service_name_selector", "connectedServiceNameSelector"),
        ("connected_service_name", "connectedServiceName"),
        ("method", "method"),
        ("url_suffix", "urlSuffix"),
        ("headers", "headers"),
    ];
    let mut inputs = serde_json::Map::new();
    for (name, value) in attributes {
        let (_, input) = known.iter().find(|(known, _)| known == name).with_context(|| name.clone())?;
        if !input.is_empty() {
            inputs.insert((*input).to_owned(), value.clone());
        }
    }
    let event = resource["completion_event"].as_str().unwrap_or("Callback");
    ensure!(["Callback", "ApiResponse"].contains(&event), "{event} is no completion event");
    inputs.insert("waitForCompletion".into(), json!((event == "Callback").to_string()));
    Ok(json!({
        "settings": {
            "definitionRef": {
                "id": "9c3e8943-130d-4c78-ac63-8af81df62dfb", "name": "InvokeRESTAPI", "version": "1.220.0"
            },
            "displayName": resource["display_name"],
            "inputs": inputs,
        },
        "timeout": resource["timeout"],
    }))
}
