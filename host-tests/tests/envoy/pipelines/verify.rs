//! `verify-check.sh`: the check as it must be is accepted, and each way to open the gate is named.

use super::check::created;
use super::configurations::{Configurations, ENVIRONMENT, PROJECT, TOKEN};
use anyhow::{Context, Result};
use serde_json::{Value, json};

const NAME: &str = "Testkube's tests have passed";
const SECRET: &str = "token-in-a-header-e1d9";

/// Changes the headers inside a check.
fn headers(check: &mut Value, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let input = &mut check["settings"]["inputs"]["headers"];
    let mut headers: Value = serde_json::from_str(input.as_str().unwrap()).unwrap();
    change(headers.as_object_mut().unwrap());
    *input = json!(headers.to_string());
}

#[test]
fn a_check_as_it_must_be_is_accepted() -> Result<()> {
    let api = Configurations::new()?;
    let mut check = created()?;
    let approval = json!({"type": {"name": "Approval"}, "settings": {"approvers": []}, "timeout": 43200});
    let mut other = check.clone();
    other["settings"]["inputs"] =
        json!({"urlSuffix": "/tickets", "waitForCompletion": "false", "headers": "{}"});
    // The form writes the headers in its own way; their names have no case.
    headers(&mut check, |headers| {
        let value = headers.remove("BuildId").unwrap();
        headers.insert("buildid".into(), value);
    });
    api.set(vec![approval, other, check]);
    for arguments in [&[PROJECT, ENVIRONMENT][..], &[PROJECT, ENVIRONMENT, "1439"]] {
        let ended = api.run("verify-check.sh", TOKEN, arguments)?;
        assert_eq!(
            (ended.code, ended.said.as_str()),
            (Some(0), "production eu: the check is as it must be.\n")
        );
    }
    Ok(())
}

#[test]
fn each_way_to_open_the_gate_is_named_with_what_to_change() -> Result<()> {
    type Change = fn(&mut Value);
    let table: [(Change, &[&str]); 16] = [
        (
            |check| check["settings"]["inputs"]["waitForCompletion"] = json!("false"),
            &[
                "the completion event is ApiResponse, so the stage passes before any test has run. Choose Callback.",
            ],
        ),
        (
            |check| drop(check["settings"]["inputs"].as_object_mut().unwrap().remove("waitForCompletion")),
            &[
                "the completion event is ApiResponse, so the stage passes before any test has run. Choose Callback.",
            ],
        ),
        (
            |check| check["settings"]["retryInterval"] = json!(5),
            &[
                "the time between evaluations is 5 minutes, so Azure DevOps asks again after a negative decision. \
               Set it to 0.",
            ],
        ),
        (
            |check| check["timeout"] = json!(720),
            &["the timeout is 720 minutes, but Testrelay decides after up to 720. Set it to more than that."],
        ),
        (
            |check| check["isDisabled"] = json!(true),
            &["it is disabled, so no stage waits for it. Enable it."],
        ),
        (
            |check| check["settings"]["inputs"]["method"] = json!("GET"),
            &["the method is not POST. Choose POST."],
        ),
        (
            |check| {
                check["settings"]["inputs"]["urlSuffix"] = json!("/v1/checks/?code=token-in-a-header-e1d9")
            },
            &["the URL suffix is not /v1/checks. Set it to that."],
        ),
        (
            |check| check["settings"]["inputs"]["headers"] = json!("Testrelay-Tag: token-in-a-header-e1d9"),
            &["the headers are not a JSON object. Paste check-headers.json."],
        ),
        (
            |check| check["settings"]["inputs"]["headers"] = json!(""),
            &["the headers are not a JSON object. Paste check-headers.json."],
        ),
        (
            |check| headers(check, |headers| drop(headers.remove("BuildId"))),
            &["the header BuildId is missing. Add it as check-headers.json has it."],
        ),
        (
            |check| headers(check, |headers| drop(headers.insert("AuthToken".into(), json!(SECRET)))),
            &["the header AuthToken has another value than in check-headers.json. Set it to that one."],
        ),
        (
            |check| headers(check, |headers| drop(headers.insert("Testrelay-Expect".into(), json!("1")))),
            &[
                "the header Testrelay-Expect has another value than in check-headers.json. Set it to that one.",
            ],
        ),
        (
            |check| headers(check, |headers| drop(headers.insert("Authorization".into(), json!(SECRET)))),
            &["the header Authorization is not in check-headers.json. Take it away, or add it there."],
        ),
        (
            |check| {
                headers(check, |headers| drop(headers.insert("Testrelay-Timeout".into(), json!("30h"))));
            },
            &["the header Testrelay-Timeout is not in check-headers.json. Take it away, or add it there."],
        ),
        (
            |check| {
                check["settings"]["inputs"]["waitForCompletion"] = json!("false");
                check["settings"]["retryInterval"] = json!(1);
            },
            &[
                "the completion event is ApiResponse, so the stage passes before any test has run. Choose Callback.",
                "the time between evaluations is 1 minutes, so Azure DevOps asks again after a negative decision. \
                 Set it to 0.",
            ],
        ),
        (
            |check| drop(check.as_object_mut().unwrap().remove("timeout")),
            &["the timeout is 0 minutes, but Testrelay decides after up to 720. Set it to more than that."],
        ),
    ];
    let api = Configurations::new()?;
    let good = created()?;
    for (change, mistakes) in table {
        let mut check = good.clone();
        change(&mut check);
        api.set(vec![check]);
        let ended = api.run("verify-check.sh", TOKEN, &[PROJECT, ENVIRONMENT])?;
        let expected: String = mistakes.iter().map(|mistake| format!("{NAME}: {mistake}\n")).collect();
        assert_eq!((ended.code, ended.said), (Some(1), expected));
    }
    Ok(())
}

#[test]
fn a_check_that_is_not_there_is_a_mistake_and_one_that_cannot_be_read_is_not_an_answer() -> Result<()> {
    let api = Configurations::new()?;
    let ended = api.run("verify-check.sh", TOKEN, &[PROJECT, ENVIRONMENT])?;
    let none = "production eu: no check calls Testrelay. Create it with create-check.\n";
    assert_eq!((ended.code, ended.said.as_str()), (Some(1), none));

    api.set(vec![created()?]);
    for (token, arguments, why) in [
        (
            "wrong",
            &[PROJECT, ENVIRONMENT][..],
            "Azure DevOps did not answer with JSON: the token is wrong or has expired\n",
        ),
        ("", &[PROJECT, ENVIRONMENT], "AZURE_DEVOPS_EXT_PAT is not set: README.md says which token it is\n"),
        (
            TOKEN,
            &[PROJECT, "production"],
            "there is no environment production, or the token may not see it\n",
        ),
        (TOKEN, &[PROJECT], "three or four arguments: COLLECTION PROJECT ENVIRONMENT [MINUTES]\n"),
    ] {
        let ended = api.run("verify-check.sh", token, arguments)?;
        assert_eq!((ended.code, ended.said.as_str()), (Some(2), why));
    }
    let ended = api.run("verify-check.sh", TOKEN, &["elsewhere", ENVIRONMENT])?;
    assert_eq!((ended.code, ended.said.contains("404"), ended.said.contains(TOKEN)), (Some(2), true, false));
    Ok(())
}

#[test]
fn testrelays_own_timeout_is_the_arguments_or_the_shipped_headers() -> Result<()> {
    let api = Configurations::new()?;
    let mut check = created()?;
    api.set(vec![check.clone()]);
    let ended = api.run("verify-check.sh", TOKEN, &[PROJECT, ENVIRONMENT, "1440"])?;
    let late = format!(
        "{NAME}: the timeout is 1440 minutes, but Testrelay decides after up to 1440. Set it to more than that.\n"
    );
    assert_eq!((ended.code, ended.said), (Some(1), late));

    // A copy of the folder whose headers set a timeout.
    let folder = tempfile::tempdir()?;
    for name in ["verify-check.sh", "check-headers.json"] {
        std::fs::copy(super::shipped(name), folder.path().join(name))?;
    }
    headers(&mut check, |headers| drop(headers.insert("Testrelay-Timeout".into(), json!("24h"))));
    let text = check["settings"]["inputs"]["headers"].as_str().context("no headers")?;
    std::fs::write(folder.path().join("check-headers.json"), text)?;
    let script = folder.path().join("verify-check.sh");
    let script = script.to_str().context("a path is not UTF-8")?;
    api.set(vec![check.clone()]);
    let ended = api.run(script, TOKEN, &[PROJECT, ENVIRONMENT])?;
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("decides after up to 1440."), "{}", ended.said);
    check["timeout"] = json!(1441);
    api.set(vec![check]);
    assert_eq!(api.run(script, TOKEN, &[PROJECT, ENVIRONMENT])?.code, Some(0));
    Ok(())
}
