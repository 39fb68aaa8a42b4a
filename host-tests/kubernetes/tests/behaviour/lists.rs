//! Lists: pages, selectors, metadata alone.

use anyhow::{Result, ensure};
use fakes::Request;
use serde_json::json;

use crate::Behaviour;
use crate::api::{Answer, Api, secret};

pub(crate) const ALL: &[Behaviour] = &[
    ("the_pages_of_a_list_show_one_state", the_pages_of_a_list_show_one_state),
    ("a_selected_list_may_go_on_with_nothing", a_selected_list_may_go_on_with_nothing),
    ("selectors_choose", selectors_choose),
    ("metadata_comes_alone_when_asked_for", metadata_comes_alone_when_asked_for),
    ("a_list_of_any_age_ignores_its_limit", a_list_of_any_age_ignores_its_limit),
    ("what_is_no_option_is_refused", what_is_no_option_is_refused),
];

fn list(api: &Api, query: &str) -> Result<Answer> {
    api.ask("GET", &format!("{}?{query}", api.secrets("")), None)
}

fn go_on(answer: &Answer) -> &str {
    answer.body["metadata"]["continue"].as_str().unwrap_or_default()
}

fn the_pages_of_a_list_show_one_state(api: &Api) -> Result<()> {
    for name in ["a", "b", "c", "d", "e"] {
        api.make(name)?;
    }
    let first = list(api, "limit=2")?.is(200)?;
    ensure!(first.names() == ["a", "b"], "{:?}", first.names());
    ensure!(first.body["metadata"]["remainingItemCount"] == 3, "{}", first.body["metadata"]);
    api.ask("DELETE", &api.secrets("c"), None)?.is(200)?;
    api.make("bb")?;
    let second = list(api, &format!("limit=2&continue={}", go_on(&first)))?.is(200)?;
    ensure!(second.names() == ["c", "d"] && second.version() == first.version(), "{}", second.body);
    let third = list(api, &format!("limit=2&continue={}", go_on(&second)))?.is(200)?;
    ensure!(third.names() == ["e"] && go_on(&third).is_empty(), "{}", third.body);
    let now = list(api, "")?.is(200)?;
    ensure!(now.names() == ["a", "b", "bb", "d", "e"], "{:?}", now.names());
    ensure!(now.body["items"][0].get("kind").is_none() && now.body["kind"] == "SecretList", "{}", now.body);
    Ok(())
}

fn labelled(api: &Api, name: &str, owner: &str) -> Result<Answer> {
    let mut body = secret(name);
    body["metadata"]["labels"] = json!({"testrelay.dev/owner": owner});
    api.ask("POST", &api.secrets(""), Some(&body))?.is(201)
}

/// A page that is full may be followed by others that do not fit: then it goes on, to an empty page.
fn a_selected_list_may_go_on_with_nothing(api: &Api) -> Result<()> {
    for (name, owner) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")] {
        labelled(api, name, owner)?;
    }
    let query = "labelSelector=testrelay.dev%2Fowner%3Dx&limit=2";
    let first = list(api, query)?.is(200)?;
    ensure!(first.names() == ["a", "c"], "{:?}", first.names());
    ensure!(first.body["metadata"].get("remainingItemCount").is_none(), "{}", first.body["metadata"]);
    ensure!(!go_on(&first).is_empty(), "{}", first.body["metadata"]);
    let second = list(api, &format!("{query}&continue={}", go_on(&first)))?.is(200)?;
    ensure!(second.names().is_empty() && go_on(&second).is_empty(), "{}", second.body);
    Ok(())
}

fn selectors_choose(api: &Api) -> Result<()> {
    labelled(api, "a", "x")?;
    labelled(api, "b", "y")?;
    let opaque = json!({"metadata": {"name": "c"}});
    api.ask("POST", &api.secrets(""), Some(&opaque))?.is(201)?;
    for (query, expected) in [
        ("labelSelector=testrelay.dev%2Fowner", vec!["a", "b"]),
        ("labelSelector=testrelay.dev%2Fowner%20in%20(y,z)", vec!["b"]),
        ("labelSelector=testrelay.dev%2Fowner!%3Dx", vec!["b", "c"]),
        ("labelSelector=!testrelay.dev%2Fowner", vec!["c"]),
        ("fieldSelector=type%3Dtestrelay.dev%2Fcheck", vec!["a", "b"]),
        ("fieldSelector=metadata.name%3Dc&limit=5", vec!["c"]),
    ] {
        let found = list(api, query)?.is(200)?;
        ensure!(found.names() == expected, "{query}: {:?}", found.names());
    }
    for wrong in ["labelSelector=a%20in%20b", "labelSelector=a%3Db%2Fc", "fieldSelector=data.record%3Dx"] {
        list(api, wrong)?.refuses(400, "BadRequest")?;
    }
    Ok(())
}

fn metadata_comes_alone_when_asked_for(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    let accept = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v=v1");
    let get =
        |target: &str, kind: &str| api.send(&Request::new("GET", target).header("accept", &accept(kind)));
    let all = get(&api.secrets(""), "PartialObjectMetadataList")?.is(200)?;
    ensure!(all.body["kind"] == "PartialObjectMetadataList", "{}", all.body);
    let item = &all.body["items"][0];
    ensure!(item["metadata"] == made.body["metadata"] && item.get("data").is_none(), "{item}");
    let one = get(&api.secrets("a"), "PartialObjectMetadata")?.is(200)?;
    ensure!(one.body["kind"] == "PartialObjectMetadata" && one.body.get("data").is_none(), "{}", one.body);
    let none = format!("{}?labelSelector=testrelay.dev%2Fowner%3Dnobody", api.secrets(""));
    let none = get(&none, "PartialObjectMetadataList")?.is(200)?;
    ensure!(none.body.get("items").is_some_and(serde_json::Value::is_null), "{}", none.body);
    ensure!(
        list(api, "labelSelector=testrelay.dev%2Fowner%3Dnobody")?.body["items"] == json!([]),
        "not null"
    );
    get(&api.secrets("a"), "PartialObjectMetadataList")?.refuses(406, "NotAcceptable")?;
    get(&api.secrets(""), "PartialObjectMetadata")?.refuses(406, "NotAcceptable").map(drop)
}

fn a_list_of_any_age_ignores_its_limit(api: &Api) -> Result<()> {
    for name in ["a", "b", "c"] {
        api.make(name)?;
    }
    // The real server's cache may be a moment behind.
    host_tests::wait_until("the cache", std::time::Duration::from_secs(10), || {
        let found = list(api, "resourceVersion=0&limit=1");
        found.is_ok_and(|found| found.status == 200 && found.names().len() == 3 && go_on(&found).is_empty())
    })
}

fn what_is_no_option_is_refused(api: &Api) -> Result<()> {
    for wrong in ["limit=x", "continue=bogus", "resourceVersion=x", "timeout=5", "timeout=x"] {
        list(api, wrong)?.refuses(400, "BadRequest")?;
    }
    list(api, "resourceVersionMatch=Exact")?.refuses(422, "Invalid")?;
    list(api, "timeout=4s&limit=1")?.is(200)?;
    let head = api.send(&Request::new("HEAD", &api.secrets("a")))?.is(405)?;
    ensure!(head.response.body.is_empty(), "{:?}", head.response);
    Ok(())
}
