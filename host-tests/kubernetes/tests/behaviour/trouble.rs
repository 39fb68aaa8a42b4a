//! Quotas, and an etcd that does not answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fakes::Span;
use fakes::kubernetes::{Fault, Route};
use host_tests::wait_until;
use kubernetes::ApiServer;

use crate::Behaviour;
use crate::api::{Api, secret};

pub(crate) const ALL: &[Behaviour] = &[
    ("a_quota_frees_when_it_is_counted_anew", a_quota_frees_when_it_is_counted_anew),
    ("a_quota_is_charged_for_a_create_that_is_refused", a_quota_is_charged_for_a_create_that_is_refused),
    ("a_stalled_etcd_ends_requests_at_their_own_time", a_stalled_etcd_ends_requests_at_their_own_time),
];

fn a_quota_frees_when_it_is_counted_anew(api: &Api) -> Result<()> {
    api.make("a")?;
    api.set_quota(2)?;
    // A quota is known a moment after it was made.
    let post = |name: &str| api.ask("POST", &api.secrets(""), Some(&secret(name)));
    let made = std::cell::Cell::new(0);
    wait_until("the quota", Duration::from_secs(20), || {
        made.set(made.get() + 1);
        let refused = post(&format!("b-{}", made.get())).is_ok_and(|answer| answer.status == 403);
        refused || api.count_quota().is_err()
    })?;
    let refused = post("c")?.refuses(403, "Forbidden")?;
    ensure!(
        refused.message().contains("exceeded quota: q, requested: count/secrets=1"),
        "{}",
        refused.message()
    );
    let existing = post("a")?;
    ensure!(existing.status == 403, "the quota is looked at before the name: {}", existing.body);
    // An update costs nothing.
    let one = api.ask("GET", &api.secrets("a"), None)?.is(200)?;
    api.ask("PUT", &api.secrets("a"), Some(&crate::secrets::changed(&one, "MQ==")))?.is(200)?;
    for n in 1..made.get() {
        api.ask("DELETE", &api.secrets(&format!("b-{n}")), None)?.is(200)?;
    }
    post("c")?.refuses(403, "Forbidden")?;
    api.count_quota()?;
    wait_until("the count", Duration::from_secs(20), || post("c").is_ok_and(|answer| answer.status == 201))
}

/// What was counted for it comes back with the next count.
fn a_quota_is_charged_for_a_create_that_is_refused(api: &Api) -> Result<()> {
    api.make("a")?;
    api.set_quota(30)?;
    let post = |name: &str| api.ask("POST", &api.secrets(""), Some(&secret(name)));
    let mut refused = 0;
    wait_until("a refusal by quota", Duration::from_secs(20), || {
        refused += 1;
        post("a").is_ok_and(|answer| answer.status == 403)
    })?;
    let found = api.ask("GET", &api.secrets(""), None)?.is(200)?;
    ensure!(found.names() == ["a"] && refused > 29, "{refused}: {:?}", found.names());
    Ok(())
}

/// A real server of its own: others must go on.
fn a_stalled_etcd_ends_requests_at_their_own_time(api: &Api) -> Result<()> {
    let own = match api.as_real() {
        Some(_) => {
            let programs = kubernetes::programs().unwrap_or_default();
            let server = std::sync::Arc::new(ApiServer::start(&programs)?);
            Some(Api::real(server, "stalled".into())?)
        }
        None => None,
    };
    let api = own.as_ref().unwrap_or(api);
    let made = api.make("a")?;
    wait_until("the cache", Duration::from_secs(10), || {
        let cached = api.ask("GET", &format!("{}?resourceVersion=0", api.secrets("a")), None);
        cached.is_ok_and(|cached| cached.status == 200)
    })?;
    match (api.as_fake(), api.as_real()) {
        (Some(mut fake), _) => fake.service.fault(Route::All, Span::UntilCleared, Fault::EtcdAway),
        (_, Some(server)) => server.pause_etcd()?,
        (None, None) => {}
    }
    let began = Instant::now();
    let target = |name: &str| format!("{}?timeout=2s", api.secrets(name));
    let post = api.ask("POST", &target(""), Some(&secret("b")))?.is(504)?;
    let took = began.elapsed();
    ensure!((1_900..10_000).contains(&took.as_millis()), "{took:?}");
    ensure!(post.body.get("kind").is_none() && post.body["reason"] == "Timeout", "{}", post.body);
    let form = post.response.value("content-type").unwrap_or_default();
    ensure!(form.starts_with("text/plain"), "{form}");
    let mut put = made.body.clone();
    put["data"]["record"] = "MQ==".into();
    api.ask("PUT", &target("a"), Some(&put))?.is(504)?;
    // The real server closes the connection, or answers 504 like a write: whichever of its timers is first.
    if let Ok(list) = api.ask("GET", &target(""), None) {
        list.is(504)?;
    }
    let cached = format!("{}?resourceVersion=0", api.secrets("a"));
    ensure!(api.ask("GET", &cached, None)?.is(200)?.body == made.body);
    match (api.as_fake(), api.as_real()) {
        (Some(mut fake), _) => fake.service.clear_faults(),
        (_, Some(server)) => server.resume_etcd()?,
        (None, None) => {}
    }
    wait_until("etcd", Duration::from_secs(20), || {
        api.ask("GET", &target("a"), None).is_ok_and(|answer| answer.status == 200)
    })?;
    // What was answered 504 may have been sent to etcd, which does it now: the real server was seen with "b" and without.
    let found = api.ask("GET", &api.secrets(""), None)?.is(200)?;
    ensure!(found.names().first() == Some(&"a"), "{:?}", found.names());
    Ok(())
}
