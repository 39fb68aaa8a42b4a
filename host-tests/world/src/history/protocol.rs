//! Whether what the replicas wrote is what their protocol writes. The rules of one write are the model's
//! ([`model::change`]); here they meet the real Secrets, and the time: who was dead, what was answered, what was sent.

use crate::network::CALLER;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::Request;
use fakes::azure::Event;
use fakes::kubernetes::{Change as Write, Resource};
use model::change::{Change, Seen, Stage, change};
use serde_json::Value;
use std::collections::BTreeMap;

/// Milliseconds without a renewal after which a replica may be taken for dead.
const DEAD: i64 = 20_000;

/// Milliseconds for which an adoption may be under way.
const ADOPTING: i64 = 120_000;

/// Milliseconds for which what is done stays.
const DONE_STAYS: i64 = 600_000;

/// Milliseconds for which an event may be on its way.
const SENT: i64 = 5_000;

/// What is known of one check besides the writes.
pub(super) struct Life {
    /// The name of its Secret.
    pub(super) secret: String,
    /// Its id in log lines; empty if no delivery of it was answered 200.
    pub(super) id: String,
    /// The deliveries that were answered 200: by which process, and the Unix milliseconds between which that was done.
    pub(super) accepted: Vec<(u32, i64, i64)>,
    /// What Azure DevOps got.
    pub(super) events: Vec<Event>,
}

/// All writes of a history.
pub(super) struct Protocol<'a> {
    writes: &'a [Write],
    log: &'a [String],
    /// The replica that a process is, once it has a Lease.
    replicas: BTreeMap<u32, String>,
    leases: BTreeMap<String, Lease>,
}

/// A replica's Lease in time.
#[derive(Default)]
struct Lease {
    pod: String,
    /// When it was renewed, in Unix milliseconds.
    renewed: Vec<i64>,
    /// When it was deleted.
    deleted: Vec<i64>,
}

/// A write to a check's Secret that was judged.
struct Judged<'a> {
    at: i64,
    by: &'a str,
    what: Change,
    after: Option<Seen<String, String>>,
    /// Whether it has more deliveries than before.
    adds: bool,
}

impl<'a> Protocol<'a> {
    pub(super) fn of(writes: &'a [Write], log: &'a [String]) -> Protocol<'a> {
        let mut replicas = BTreeMap::new();
        let mut leases: BTreeMap<String, Lease> = BTreeMap::new();
        for write in writes.iter().filter(|write| write.resource == Resource::Leases) {
            let Some(lease) = write.after.as_ref().or(write.before.as_ref()) else { continue };
            if lease["metadata"]["labels"]["testrelay.dev/kind"] != "replica" {
                continue;
            }
            let holder = text(&lease["spec"]["holderIdentity"]).to_owned();
            let known = leases.entry(holder.clone()).or_default();
            if write.after.is_none() {
                known.deleted.push(write.at);
                continue;
            }
            text(&lease["metadata"]["annotations"]["testrelay.dev/pod"]).clone_into(&mut known.pod);
            known.renewed.push(write.at);
            if let Some(process) = caller(&write.request) {
                replicas.insert(process, holder);
            }
        }
        Protocol { writes, log, replicas, leases }
    }

    /// The number of writes of a check's life, if the protocol knows each of them, each event and each 200.
    ///
    /// # Errors
    /// The first that it does not know.
    pub(super) fn judge(&self, life: &Life) -> Result<u64, String> {
        let mut judged: Vec<Judged<'_>> = Vec::new();
        let is_its = |write: &&Write| {
            let object = write.after.as_ref().or(write.before.as_ref());
            write.resource == Resource::Secrets
                && object.is_some_and(|it| it["metadata"]["name"] == *life.secret)
        };
        for write in self.writes.iter().filter(is_its) {
            // What a person does is no write of the protocol's.
            let Some(process) = caller(&write.request) else { continue };
            let one = self.write(write, process, &judged, life);
            judged.push(one.map_err(|why| format!("at {} ms process {process}: {why}", write.at))?);
        }
        life.events.iter().try_for_each(|event| self.event(event, &judged, life))?;
        for (process, since, until) in &life.accepted {
            let by = self.replicas.get(process);
            let is_it = |one: &&Judged<'_>| {
                (*since..=*until).contains(&one.at) && by.is_some_and(|by| one.by == by) && one.adds
            };
            if !judged.iter().any(|one| is_it(&one)) {
                return Err(format!(
                    "Accept: process {process} answered 200 at {until} ms and stored nothing"
                ));
            }
        }
        Ok(judged.len() as u64)
    }

    fn write(
        &self,
        write: &Write,
        process: u32,
        earlier: &[Judged<'a>],
        life: &Life,
    ) -> Result<Judged<'_>, String> {
        let by = self.replicas.get(&process).filter(|by| {
            self.leases.get(*by).is_some_and(|lease| lease.renewed.first().is_some_and(|at| *at <= write.at))
        });
        let by = by.ok_or("Lease: it writes before it has one")?;
        let read = |object: &Option<Value>| object.as_ref().map(seen).transpose();
        let (before, after) = (read(&write.before)?, read(&write.after)?);
        let what = change(before.as_ref(), after.as_ref(), by)
            .map_err(|sentence| format!("{sentence}: {before:?} becomes {after:?}"))?;
        let owner = before.as_ref().and_then(|before| before.owner.as_ref());
        match (what, owner) {
            (Change::Adopted, Some(owner)) if !self.seems_dead(owner, by, write.at) => {
                return Err(format!("Death: {by} adopts from {owner}, which lives"));
            }
            (Change::Deleted, owner) => {
                let is_its = owner.is_some_and(|owner| owner == by || self.seems_dead(owner, by, write.at));
                let ended = earlier.iter().rev().find(|one| one.what == Change::Ended);
                if !is_its || ended.is_some_and(|ended| write.at - ended.at < DONE_STAYS) {
                    return Err(format!("Delete: {by} deletes what {owner:?} has ended"));
                }
            }
            (Change::Reopened, _) if !life.events.iter().any(|event| event.at <= write.at) => {
                return Err("Reopen: nothing was sent".into());
            }
            _ => {}
        }
        let deliveries = |seen: &Option<Seen<String, String>>| seen.as_ref().map_or(0, |it| it.deliveries);
        let adds =
            matches!(what, Change::Created | Change::Revived) || deliveries(&after) > deliveries(&before);
        Ok(Judged { at: write.at, by, what, after, adds })
    }

    /// An event follows the write of its decision, or a fence that could not be reached.
    fn event(&self, event: &Event, judged: &[Judged<'_>], life: &Life) -> Result<(), String> {
        let is_decided = |one: &&Judged<'_>| {
            let stage = one.after.as_ref().map(|after| &after.stage);
            stage.is_some_and(|stage| *stage != Stage::Undecided)
        };
        let earlier = judged.iter().take_while(|one| one.at <= event.at);
        let stands = earlier.clone().last().filter(is_decided).is_some();
        let was_sent = earlier.filter(|one| one.at + SENT > event.at).any(|one| is_decided(&one));
        // A check that was refused has no id here: then it may be any.
        let name = if life.id.is_empty() { String::new() } else { format!("check {}", life.id) };
        let unreached = |line: &&String| line.contains(&format!("{name}: its decision could not be stored"));
        if event.name != "TaskCompleted" || stands || was_sent || self.log.iter().any(|line| unreached(&line))
        {
            return Ok(());
        }
        Err(format!("Fence: an event at {} ms before its decision was stored", event.at))
    }

    /// Whether `by` may have taken a replica for dead, at most as long ago as an adoption takes.
    fn seems_dead(&self, owner: &str, by: &str, at: i64) -> bool {
        let (Some(lease), Some(own)) = (self.leases.get(owner), self.leases.get(by)) else { return true };
        let lately = at - ADOPTING;
        let is_predecessor = !own.pod.is_empty() && own.pod == lease.pod && own.renewed[0] > lease.renewed[0];
        let was_deleted = lease.deleted.iter().any(|deleted| {
            let next = lease.renewed.iter().find(|renewed| *renewed >= deleted);
            *deleted <= at && next.is_none_or(|next| *next >= lately)
        });
        let renewed = lease.renewed.iter().copied().take_while(|renewed| *renewed < at);
        let next = lease.renewed.iter().copied().skip(1).take_while(|renewed| *renewed < at).chain([at]);
        let was_silent = renewed.zip(next).any(|(from, to)| to - from >= DEAD && to >= lately);
        is_predecessor || was_deleted || was_silent
    }
}

/// The process that has sent a request; none: a person.
fn caller(request: &Request) -> Option<u32> {
    request.value(CALLER)?.parse().ok()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A check's Secret as it shows.
fn seen(secret: &Value) -> Result<Seen<String, String>, String> {
    let record = STANDARD.decode(text(&secret["data"]["record"])).map_err(|error| error.to_string())?;
    let record: Value = serde_json::from_slice(&record).map_err(|error| error.to_string())?;
    let owner = text(&secret["metadata"]["labels"]["testrelay.dev/owner"]);
    let owner = Some(owner.to_owned()).filter(|owner| !owner.is_empty());
    let (pending, done) = (&record["state"]["pending"], &record["state"]["done"]);
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    if let Some(deliveries) = number(&done["served"]) {
        return Ok(Seen { owner, deliveries, proven: true, stage: Stage::Done });
    }
    let deliveries = number(&pending["delivery"]).ok_or("its record is none")?;
    let decided = &pending["phase"]["decided"];
    let stage = match decided.is_object() {
        true => Stage::Decided(format!("{} at {}", decided["outcome"], decided["at"])),
        false => Stage::Undecided,
    };
    let is_waiting = pending["phase"].get("watching").is_some();
    Ok(Seen { owner, deliveries, proven: is_waiting || stage != Stage::Undecided, stage })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// When, in seconds, by which process, and what is there then.
    type One = (i64, u32, Option<Value>);

    const WATCHING: &str = r#"{"watching": {}}"#;
    const DECIDED: &str = r#"{"decided": {"outcome": "passed", "at": 5}}"#;
    const PASSED_LATER: &str = r#"{"decided": {"outcome": "passed", "at": 6}}"#;

    /// A Secret; `phase` is JSON, `done` for one that is done.
    fn secret(owner: &str, deliveries: u32, phase: &str) -> Option<Value> {
        let state = match phase {
            "done" => json!({"done": {"served": deliveries}}),
            _ => {
                let phase: Value = serde_json::from_str(phase).unwrap();
                json!({"pending": {"delivery": deliveries, "phase": phase}})
            }
        };
        let record = STANDARD.encode(json!({"format": 1, "state": state}).to_string());
        Some(json!({"metadata": {"name": "check", "labels": {"testrelay.dev/owner": owner}},
            "data": {"record": record}}))
    }

    fn write(at: i64, process: u32, resource: Resource, after: Option<Value>) -> Write {
        let request = Request::new("PUT", "/").header(CALLER, &process.to_string());
        Write { at, resource, request, before: None, after }
    }

    fn renewed(at: i64, process: u32) -> Write {
        let (holder, pod) = (format!("replica-{process}"), format!("pod-{process}"));
        let lease = json!({"spec": {"holderIdentity": holder},
            "metadata": {"labels": {"testrelay.dev/kind": "replica"}, "annotations": {"testrelay.dev/pod": pod}}});
        write(at, process, Resource::Leases, Some(lease))
    }

    /// Judges these writes to the Secret; processes 1 and 2 renew their Leases
    /// from the first second on, process 2 alone after the thirtieth. One delivery was answered 200 in the first 3 s, and an
    /// event was got at 20 s.
    fn judged(writes: &[One]) -> Result<u64, String> {
        let leases = (0..500).flat_map(|n| [(n, 1), (n, 2)]).filter(|(n, process)| *n <= 6 || *process == 2);
        let mut all: Vec<Write> = leases.map(|(n, process)| renewed(1_000 + 5_000 * n, process)).collect();
        let mut before = None;
        for (at, process, after) in writes {
            let next = write(at * 1_000, *process, Resource::Secrets, after.clone());
            all.push(Write { before, ..next });
            before = after.clone();
        }
        let event = Event {
            at: 20_000,
            name: "TaskCompleted".into(),
            result: Some("succeeded".into()),
            task: String::new(),
            job: String::new(),
            token_used: None,
            accepted: true,
        };
        let (secret, id) = ("check".into(), "id".into());
        let life = Life { secret, id, accepted: vec![(1, 0, 3_000)], events: vec![event] };
        Protocol::of(&all, &[]).judge(&life)
    }

    fn life() -> Vec<One> {
        vec![
            (2, 1, secret("replica-1", 1, r#""accepted""#)),
            (4, 1, secret("replica-1", 1, WATCHING)),
            (6, 2, secret("replica-1", 2, WATCHING)),
            (18, 1, secret("replica-1", 2, DECIDED)),
            (55, 2, secret("replica-2", 2, DECIDED)),
            (57, 2, secret("replica-2", 2, "done")),
            (660, 2, None),
        ]
    }

    #[test]
    fn a_life_with_an_heir_is_the_protocols() {
        assert_eq!(judged(&life()), Ok(7));
    }

    #[test]
    fn what_breaks_one_sentence_is_named_by_it() {
        let broken: [(&str, usize, One); 9] = [
            ("Lease", 0, (0, 1, secret("replica-1", 1, r#""accepted""#))),
            ("Accept", 0, (4, 1, secret("replica-1", 1, r#""accepted""#))),
            ("Merge", 2, (6, 2, secret("replica-1", 1, WATCHING))),
            ("Fence", 3, (22, 1, secret("replica-1", 2, DECIDED))),
            ("Death", 4, (40, 2, secret("replica-2", 2, DECIDED))),
            ("Adopt", 4, (55, 2, secret("replica-2", 2, PASSED_LATER))),
            ("Merge", 5, (57, 1, secret("replica-2", 2, "done"))),
            ("Delete", 6, (600, 2, None)),
            ("Delete", 6, (660, 1, None)),
        ];
        for (sentence, at, write) in broken {
            let mut life = life();
            life[at] = write;
            let why = judged(&life).expect_err(sentence);
            assert!(why.contains(&format!("{sentence}: ")), "{sentence}: {why}");
        }
    }
}
