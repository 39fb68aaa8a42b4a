//! A Lease, and where it differs from a Secret.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::Behaviour;
use crate::api::{Answer, Api};

pub(crate) const ALL: &[Behaviour] = &[
    ("a_lease_is_renewed_in_the_version_it_was_read_in", a_lease_is_renewed_in_the_version_it_was_read_in),
    ("a_lease_that_is_gone_is_made_again_by_an_update", a_lease_that_is_gone_is_made_again_by_an_update),
    (
        "a_lease_that_is_gone_is_not_made_again_with_its_uid",
        a_lease_that_is_gone_is_not_made_again_with_its_uid,
    ),
    ("lease_times_have_six_digits", lease_times_have_six_digits),
    ("a_lease_is_told_by_its_group", a_lease_is_told_by_its_group),
];

fn lease(renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
        "spec": {"holderIdentity": "replica-a", "leaseDurationSeconds": 15, "renewTime": renewed},
    })
}

fn make(api: &Api) -> Result<Answer> {
    api.ask("POST", &api.leases(""), Some(&lease("2026-11-28T07:00:00.000000Z")))?.is(201)
}

fn put(api: &Api, body: &Value) -> Result<Answer> {
    api.ask("PUT", &api.leases("a"), Some(body))
}

fn renewed(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    body["spec"]["renewTime"] = "2026-11-28T07:00:05.000000Z".into();
    body
}

fn a_lease_is_renewed_in_the_version_it_was_read_in(api: &Api) -> Result<()> {
    let made = make(api)?;
    let second = put(api, &renewed(&made))?.is(200)?;
    ensure!(second.body["spec"]["renewTime"] == "2026-11-28T07:00:05.000000Z", "{}", second.body);
    put(api, &renewed(&made))?.refuses(409, "Conflict")?;
    let mut blind = renewed(&made);
    blind["metadata"]["resourceVersion"] = Value::Null;
    put(api, &blind)?.refuses(422, "Invalid").map(drop)
}

fn a_lease_that_is_gone_is_made_again_by_an_update(api: &Api) -> Result<()> {
    let made = make(api)?;
    api.ask("DELETE", &api.leases("a"), None)?.is(200)?;
    let mut body = renewed(&made);
    body["metadata"]["uid"] = Value::Null;
    let again = put(api, &body)?.is(201)?;
    ensure!(again.uid() != made.uid() && !again.uid().is_empty(), "{}", again.body);
    Ok(())
}

fn a_lease_that_is_gone_is_not_made_again_with_its_uid(api: &Api) -> Result<()> {
    let made = make(api)?;
    api.ask("DELETE", &api.leases("a"), None)?.is(200)?;
    put(api, &renewed(&made))?.refuses(409, "Conflict")?;
    api.ask("GET", &api.leases("a"), None)?.refuses(404, "NotFound").map(drop)
}

fn lease_times_have_six_digits(api: &Api) -> Result<()> {
    for wrong in ["2026-11-28T07:00:00Z", "2026-11-28T07:00:00.1234567Z", "yesterday", ""] {
        api.ask("POST", &api.leases(""), Some(&lease(wrong)))?.refuses(400, "BadRequest")?;
    }
    let made = api.ask("POST", &api.leases(""), Some(&lease("2026-11-28T08:00:00.123456+01:00")))?.is(201)?;
    ensure!(made.body["spec"]["renewTime"] == "2026-11-28T07:00:00.123456Z", "{}", made.body);
    Ok(())
}

fn a_lease_is_told_by_its_group(api: &Api) -> Result<()> {
    let missing = api.ask("GET", &api.leases("b"), None)?.refuses(404, "NotFound")?;
    ensure!(missing.body["details"]["group"] == "coordination.k8s.io", "{}", missing.body);
    let list = api.ask("GET", &api.leases(""), None)?.is(200)?;
    ensure!(list.body["kind"] == "LeaseList" && list.body["items"] == json!([]), "{}", list.body);
    Ok(())
}
