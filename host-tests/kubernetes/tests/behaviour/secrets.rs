//! One Secret: who wins, and what a write that lost is told.

use anyhow::{Context, Result, ensure};
use fakes::kubernetes::Verb;
use serde_json::{Value, json};

use crate::Behaviour;
use crate::api::{Answer, Api, secret};

pub(crate) const ALL: &[Behaviour] = &[
    ("a_name_is_taken_once", a_name_is_taken_once),
    ("what_is_made_has_uid_version_and_time", what_is_made_has_uid_version_and_time),
    ("of_many_updates_of_one_version_one_is_done", of_many_updates_of_one_version_one_is_done),
    ("an_update_without_version_overwrites", an_update_without_version_overwrites),
    ("an_update_that_changes_nothing_keeps_the_version", an_update_that_changes_nothing_keeps_the_version),
    ("an_update_of_what_is_gone_makes_nothing", an_update_of_what_is_gone_makes_nothing),
    ("an_update_knows_another_object_of_that_name", an_update_knows_another_object_of_that_name),
    ("an_update_must_repeat_the_type", an_update_must_repeat_the_type),
    ("an_update_replaces_all_of_it", an_update_replaces_all_of_it),
    ("managed_fields_go_when_an_update_empties_them", managed_fields_go_when_an_update_empties_them),
    ("a_delete_counts_its_conditions", a_delete_counts_its_conditions),
    ("a_misspelt_condition_is_none", a_misspelt_condition_is_none),
    ("each_verb_is_needed", each_verb_is_needed),
    ("an_account_is_told_its_own_rights", an_account_is_told_its_own_rights),
    ("a_token_is_proven_before_rights", a_token_is_proven_before_rights),
];

/// The Secret as it was answered, with another record.
pub(crate) fn changed(answer: &Answer, record: &str) -> Value {
    let mut body = answer.body.clone();
    body["data"]["record"] = record.into();
    body
}

fn put(api: &Api, body: &Value) -> Result<Answer> {
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    api.ask("PUT", &api.secrets(name), Some(body))
}

fn a_name_is_taken_once(api: &Api) -> Result<()> {
    api.make("a")?;
    let again = api.ask("POST", &api.secrets(""), Some(&secret("a")))?.refuses(409, "AlreadyExists")?;
    ensure!(again.body["details"]["name"] == "a", "{}", again.body);
    Ok(())
}

fn what_is_made_has_uid_version_and_time(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    let metadata = &made.body["metadata"];
    ensure!(metadata["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{metadata}");
    ensure!(made.version().parse::<u64>().is_ok_and(|version| version > 0), "{metadata}");
    let time = metadata["creationTimestamp"].as_str().unwrap_or_default();
    ensure!(time.len() == 20 && time.ends_with('Z'), "{metadata}");
    ensure!(metadata["managedFields"].as_array().is_some_and(|fields| fields.len() == 1), "{metadata}");
    let read = api.ask("GET", &api.secrets("a"), None)?.is(200)?;
    ensure!(read.body == made.body, "{} is not {}", read.body, made.body);
    api.ask("GET", &api.secrets("b"), None)?.refuses(404, "NotFound")?;
    Ok(())
}

fn of_many_updates_of_one_version_one_is_done(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    let (first, rest): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
        let started: Vec<_> = (0..8)
            .map(|n| {
                let body =
                    changed(&made, ["MA==", "MQ==", "Mg==", "Mw==", "NA==", "NQ==", "Ng==", "Nw=="][n]);
                scope.spawn(move || put(api, &body))
            })
            .collect();
        let ended = started.into_iter().filter_map(|one| one.join().ok()?.ok());
        ended.partition(|answer| answer.status == 200)
    });
    ensure!((first.len(), rest.len()) == (1, 7), "{first:?} {rest:?}");
    for lost in rest {
        lost.refuses(409, "Conflict")?;
    }
    let read = api.ask("GET", &api.secrets("a"), None)?;
    ensure!(first[0].body == read.body && read.uid() == made.uid(), "{} {:?}", read.body, first);
    let number = |answer: &Answer| answer.version().parse::<u64>().unwrap_or_default();
    ensure!(number(&read) > number(&made), "{} {}", read.version(), made.version());
    Ok(())
}

fn an_update_without_version_overwrites(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    put(api, &changed(&made, "MQ=="))?.is(200)?;
    for version in [Value::Null, "0".into()] {
        let mut blind = changed(&made, "Mg==");
        blind["metadata"]["resourceVersion"] = version;
        put(api, &blind)?.is(200)?;
    }
    let mut wrong = changed(&made, "Mw==");
    wrong["metadata"]["resourceVersion"] = "x".into();
    put(api, &wrong)?.is(500).map(drop)
}

fn an_update_that_changes_nothing_keeps_the_version(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    let same = put(api, &made.body)?.is(200)?;
    ensure!(same.version() == made.version(), "{} {}", same.version(), made.version());
    Ok(())
}

fn an_update_of_what_is_gone_makes_nothing(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    api.ask("DELETE", &api.secrets("a"), None)?.is(200)?;
    put(api, &changed(&made, "MQ=="))?.refuses(404, "NotFound")?;
    put(api, &secret("a"))?.refuses(404, "NotFound").map(drop)
}

fn an_update_knows_another_object_of_that_name(api: &Api) -> Result<()> {
    let first = api.make("a")?;
    api.ask("DELETE", &api.secrets("a"), None)?.is(200)?;
    let second = api.make("a")?;
    ensure!(first.uid() != second.uid(), "{}", first.uid());
    let mut late = changed(&first, "MQ==");
    put(api, &late)?.refuses(409, "Conflict")?;
    late["metadata"]["resourceVersion"] = second.version().into();
    put(api, &late)?.refuses(409, "Conflict").map(drop)
}

fn an_update_must_repeat_the_type(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    for given in [Value::Null, "Opaque".into()] {
        let mut body = changed(&made, "MQ==");
        body["type"] = given;
        let refused = put(api, &body)?.refuses(422, "Invalid")?;
        ensure!(refused.body["details"]["causes"][0]["field"] == "type", "{}", refused.body);
    }
    Ok(())
}

fn an_update_replaces_all_of_it(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    let mut bare = json!({"metadata": {"name": "a"}, "type": "testrelay.dev/check"});
    bare["metadata"]["uid"] = made.uid().into();
    bare["metadata"]["resourceVersion"] = made.version().into();
    let written = put(api, &bare)?.is(200)?;
    for gone in ["/metadata/labels", "/metadata/annotations", "/data"] {
        ensure!(written.body.pointer(gone).is_none(), "{gone}: {}", written.body);
    }
    ensure!(written.body["metadata"]["creationTimestamp"] == made.body["metadata"]["creationTimestamp"]);
    Ok(())
}

fn managed_fields_go_when_an_update_empties_them(api: &Api) -> Result<()> {
    let made = api.make("a")?;
    let mut body = changed(&made, "MQ==");
    body["metadata"]["managedFields"] = Value::Null;
    let kept = put(api, &body)?.is(200)?;
    ensure!(kept.body["metadata"]["managedFields"].is_array(), "{}", kept.body);
    let mut body = changed(&kept, "Mg==");
    body["metadata"]["managedFields"] = json!([]);
    let gone = put(api, &body)?.is(200)?;
    ensure!(gone.body["metadata"]["managedFields"].is_null(), "{}", gone.body);
    let still = put(api, &changed(&gone, "Mw=="))?.is(200)?;
    ensure!(still.body["metadata"]["managedFields"].is_null(), "{}", still.body);
    Ok(())
}

fn a_delete_counts_its_conditions(api: &Api) -> Result<()> {
    let first = api.make("a")?;
    let second = put(api, &changed(&first, "MQ=="))?.is(200)?;
    let conditions =
        |uid: &str, version: &str| json!({"preconditions": {"uid": uid, "resourceVersion": version}});
    let delete = |body: Value| api.ask("DELETE", &api.secrets("a"), Some(&body));
    delete(conditions(first.uid(), first.version()))?.refuses(409, "Conflict")?;
    delete(conditions("11111111-1111-1111-1111-111111111111", second.version()))?.refuses(409, "Conflict")?;
    let done = delete(conditions(second.uid(), second.version()))?.is(200)?;
    ensure!(done.body["status"] == "Success" && done.body["details"]["uid"] == second.uid(), "{}", done.body);
    delete(conditions(second.uid(), second.version()))?.refuses(404, "NotFound").map(drop)
}

fn a_misspelt_condition_is_none(api: &Api) -> Result<()> {
    api.make("a")?;
    let misspelt = json!({"precondition": {"resourceVersion": "1"}});
    // With a body, what the query says does not count.
    let target = format!("{}?dryRun=All", api.secrets("a"));
    api.ask("DELETE", &target, Some(&misspelt))?.is(200)?;
    api.ask("GET", &api.secrets("a"), None)?.is(404)?;
    api.make("b")?;
    let in_query = format!("{}?preconditions.resourceVersion=1", api.secrets("b"));
    api.ask("DELETE", &in_query, None)?.is(200)?;
    api.ask("GET", &api.secrets("b"), None)?.is(404).map(drop)
}

fn each_verb_is_needed(api: &Api) -> Result<()> {
    api.make("a")?;
    for verb in Verb::NEEDED {
        api.without(verb, "a")?;
        let refused = api.try_verb(verb, "a")?.refuses(403, "Forbidden")?;
        let name = format!("{verb:?}").to_lowercase();
        let words = format!(
            "cannot {name} resource \"secrets\" in API group \"\" in the namespace \"{}\"",
            api.namespace
        );
        ensure!(refused.message().contains(&words), "{}", refused.message());
        for other in Verb::NEEDED.into_iter().filter(|other| *other != verb) {
            let answer = api.try_verb(other, "a")?;
            ensure!(answer.status < 300, "{other:?} without {verb:?}: {} {}", answer.status, answer.body);
        }
    }
    Ok(())
}

fn an_account_is_told_its_own_rights(api: &Api) -> Result<()> {
    api.make("a")?;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews?timeout=4s";
    let review = json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"namespace": api.namespace},
    });
    for missing in [None, Some(Verb::Create), Some(Verb::Delete)] {
        if let Some(verb) = missing {
            api.without(verb, "a")?;
        }
        let said = api.ask("POST", path, Some(&review))?.is(201)?.body;
        ensure!(said["status"]["incomplete"] == false, "{said}");
        let rules = said["status"]["resourceRules"].as_array().context("no rules")?;
        for resource in ["secrets", "leases"] {
            let rule = rules.iter().find(|rule| rule["resources"] == json!([resource]));
            let verbs = &rule.with_context(|| format!("no {resource}: {said}"))?["verbs"];
            let has = |verb: &Verb| {
                let name = format!("{verb:?}").to_lowercase();
                verbs.as_array().is_some_and(|all| all.iter().any(|each| *each == *name))
            };
            let lacks: Vec<Verb> = Verb::NEEDED.into_iter().filter(|verb| !has(verb)).collect();
            ensure!(lacks == missing.into_iter().collect::<Vec<_>>(), "{lacks:?} {said}");
        }
    }
    let nobody = fakes::Request::new("POST", path).body(review.to_string());
    api.with_token(None, &nobody)?.refuses(403, "Forbidden").map(drop)
}

fn a_token_is_proven_before_rights(api: &Api) -> Result<()> {
    let list = fakes::Request::new("GET", &api.secrets(""));
    let wrong = api.with_token(Some("wrong"), &list)?.refuses(401, "Unauthorized")?;
    ensure!(wrong.message() == "Unauthorized", "{}", wrong.message());
    let nobody = api.with_token(None, &list)?.refuses(403, "Forbidden")?;
    ensure!(nobody.message().contains("system:anonymous"), "{}", nobody.message());
    let elsewhere = fakes::Request::new("GET", "/api/v1/namespaces/kube-system/secrets");
    api.send(&elsewhere)?.refuses(403, "Forbidden").map(drop)
}
