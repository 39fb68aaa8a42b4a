//! Acceptances: with the store, without it, and what the API server can do by itself.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use bench::figures::Spread;
use bench::load::{self, Expected, Sent};
use bench::scale::crowd;
use bench::scale::report::Line;
use bench::targets::Bound;
use fakes::Request;
use serde_json::{Value, json};

use super::Plan;
use super::stage::{Alone, Stage};

/// How many callers there are at once.
const CONNECTIONS: usize = 16;

/// What was measured, a value for each round.
#[derive(Default)]
struct Rounds {
    posts: Vec<f64>,
    rate: [Vec<f64>; 2],
    /// Of callers one by one, then of all at once; without the store, then with it.
    p50: [[Vec<f64>; 2]; 2],
}

/// Plays all rounds.
pub(super) fn measure(stage: &Stage<'_>, plan: &Plan) -> Result<Vec<Line>> {
    let secret = secret(stage)?;
    let mut rounds = Rounds::default();
    for round in 0..plan.rounds {
        rounds.posts.push(posts(stage, round, &secret, plan.at_once)?);
        for (place, has_store) in [false, true].into_iter().enumerate() {
            let alone = stage.alone(has_store)?;
            let one_by_one = send(stage, &alone, 1, plan.one_by_one)?;
            let at_once = send(stage, &alone, CONNECTIONS, plan.at_once)?;
            rounds.rate[place].push(at_once.rate());
            for (p50, sent) in rounds.p50.iter_mut().zip([&one_by_one, &at_once]) {
                p50[place].push(sent.percentile(50));
            }
            alone.envoy.stop()?;
        }
    }
    Ok(lines(&rounds))
}

fn lines(rounds: &Rounds) -> Vec<Line> {
    let line = |what: &str, values: &[f64]| {
        let spread = Spread::of(values.iter().copied());
        let Some(Spread { median, least, most }) = spread else { return Line::of(what, f64::NAN) };
        Line::of(what, median).note(format!("{} rounds: {least:.2} to {most:.2}", values.len()))
    };
    let pairs = |one: &[f64], other: &[f64], value: fn(f64, f64) -> f64| {
        one.iter().zip(other).map(|(one, other)| value(*one, *other)).collect::<Vec<f64>>()
    };
    let ([without, with], [[alone_without, alone_with], [_, with_all]]) = (&rounds.rate, &rounds.p50);
    vec![
        line("Secrets that the API server stores, 16 connections, a second", &rounds.posts),
        line("checks accepted without the store, 16 connections, a second", without),
        line("checks accepted with the store, 16 connections, a second", with),
        line("    of the API server's own rate", &pairs(with, &rounds.posts, |with, posts| with / posts))
            .promised(Bound::AtLeast(0.7)),
        line("    p50, ms", with_all),
        line("acceptance without the store, one by one: p50, ms", alone_without),
        line("acceptance with the store, one by one: p50, ms", alone_with),
        line("    above that without, ms", &pairs(alone_with, alone_without, |with, without| with - without))
            .promised(Bound::AtMost(10.0)),
    ]
}

/// Checks that are accepted.
fn send(stage: &Stage<'_>, alone: &Alone, connections: usize, checks: usize) -> Result<Sent> {
    let request = |_| load::request(&stage.pipeline(None)?.check(crowd::WORKFLOW));
    let requests = (0..checks).map(request).collect::<Result<Vec<_>>>()?;
    let accepted = Expected::Holds(r#""status":"accepted""#);
    load::send(alone.envoy.address(), connections, requests, accepted)
}

/// A Secret as the module writes it, without what the API server adds.
fn secret(stage: &Stage<'_>) -> Result<Value> {
    let alone = stage.alone(true)?;
    let account = &alone.account;
    let list = Request::new("GET", &format!("/api/v1/namespaces/{}/secrets", account.namespace));
    send(stage, &alone, 1, 1)?;
    let found: Value = serde_json::from_slice(&account.ask(&list)?.body)?;
    let found = found.pointer("/items/0").context("the check has no Secret")?;
    let metadata = &found["metadata"];
    let secret = json!({
        "metadata": { "name": "", "labels": metadata["labels"], "annotations": metadata["annotations"] },
        "type": found["type"],
        "data": found["data"],
    });
    alone.envoy.stop()?;
    Ok(secret)
}

/// How many such Secrets a second the API server stores for as many callers as checks have, each over its own connection.
fn posts(stage: &Stage<'_>, round: usize, secret: &Value, secrets: usize) -> Result<f64> {
    let server = &stage.server;
    let account = server.account(&format!("alone-{round}"))?;
    let path = format!("/api/v1/namespaces/{}/secrets", account.namespace);
    let each = secrets.div_ceil(CONNECTIONS);
    // And one that measures.
    let all = Barrier::new(CONNECTIONS + 1);
    let caller = |caller: usize| -> Result<()> {
        let client = server.client(Some(&account.token));
        let post = |name: String| {
            let mut secret = secret.clone();
            secret["metadata"]["name"] = name.into();
            let request = Request::new("POST", &path).header("content-type", "application/json");
            let answer =
                client.as_ref().map_err(|e| anyhow!("{e}"))?.ask(&request.body(secret.to_string()))?;
            ensure!(answer.status == 201, "a Secret was answered {}", answer.status);
            Ok(())
        };
        // The first one makes the connection.
        let first = post(format!("bench-{caller}-first"));
        all.wait();
        first.and_then(|()| (0..each).try_for_each(|n| post(format!("bench-{caller}-{n}"))))
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                let caller = &caller;
                scope.spawn(move || caller(n))
            })
            .collect();
        all.wait();
        let began = Instant::now();
        callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| anyhow!("a caller"))?)?;
        Ok((each * CONNECTIONS) as f64 / began.elapsed().as_secs_f64())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_compared_with_itself_and_each_promise_can_be_missed() {
        let rounds = |with: f64, p50: f64| Rounds {
            posts: vec![1_000.0, 500.0],
            rate: [vec![3_000.0; 2], vec![with, with / 2.0]],
            p50: [[vec![1.0; 2], vec![p50; 2]], [vec![5.0; 2], vec![20.0; 2]]],
        };
        let missed = |rounds: &Rounds| lines(rounds).iter().filter(|line| line.is_missed()).count();
        assert_eq!(missed(&rounds(700.0, 11.0)), 0);
        assert_eq!(missed(&rounds(690.0, 11.0)), 1);
        assert_eq!(missed(&rounds(700.0, 11.1)), 1);
        assert_eq!(missed(&Rounds::default()), 2, "nothing was measured");
    }
}
