//! Is a recorded run a path of the model?
//!
//! Checks do not meet but in their replicas, so each is followed alone, with all that happens to the replicas. What a
//! recording does not say (a read that led to nothing, what of two writes of the same content was meant) is tried both ways:
//! the checker keeps every state of the model that the events so far may have led to, and the run leaves the model where
//! none is left. A call stands in the model at the moment at which the server executed it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::azure::{Deliveries, Kind, MAX_DELIVERIES};
use crate::environment::Left;
use crate::events::{Event, Request, Stage, Stored};
use crate::model::{Bounds, Model, Step};
use crate::properties::Broken;
use crate::replica::Call;
use crate::server::{Phase, Record, Status};
use crate::system::{Decision, Id, MAX_REPLICAS};

mod line;
mod path;

use line::{End, Lines};
use path::Path;

/// Where a run leaves the model, or breaks one of its rules.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// The check.
    pub check: String,
    /// The event, counted from 0.
    pub at: usize,
    /// What it is.
    pub event: Event,
    /// Why it does not fit.
    pub why: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = serde_json::to_string(&self.event).unwrap_or_default();
        write!(f, "check {}, event {}: {event}: {}", self.check, self.at, self.why)
    }
}

/// Checks that a recorded run is a path of the model, for each of its checks.
///
/// # Errors
/// The first event of a check after which no state of the model is left, or that breaks a rule.
pub fn conforms(events: &[Event]) -> Result<(), Box<Divergence>> {
    checks(events).into_iter().try_for_each(|check| follow(events, check).map(|_| ()))
}

/// The same, of a run that was recorded until nothing happened any more: nothing must be left that has to happen, and what
/// holds at the end of each run must hold.
///
/// # Errors
/// As for [`conforms`]; or, with the last event, what is still to come or does not hold.
pub fn conforms_to_the_end(events: &[Event]) -> Result<(), Box<Divergence>> {
    let model = model();
    for check in checks(events) {
        let paths = follow(events, check)?;
        let mut ends: Vec<Result<(), String>> = paths.iter().map(|path| path.ends(&model)).collect();
        if let (Some(Err(why)), false, Some(event)) =
            (ends.pop(), ends.iter().any(Result::is_ok), events.last())
        {
            let (check, at, event) = (check.to_owned(), events.len() - 1, event.clone());
            return Err(Box::new(Divergence { check, at, event, why }));
        }
    }
    Ok(())
}

fn checks(events: &[Event]) -> BTreeSet<&str> {
    events.iter().filter_map(Event::check).collect()
}

/// The protocol as it is followed: nothing that can go wrong is counted.
pub(crate) fn model() -> Model {
    let left = Left {
        crashes: 9,
        lost_answers: 9,
        partitions: 9,
        late_expiries: 9,
        redeliveries: 9,
        other_values: 9,
        drains: 9,
        deleted_secrets: 9,
        deleted_leases: 9,
        hot_restarts: 0,
    };
    let bounds =
        Bounds { replicas: MAX_REPLICAS as u8, checks: 1, left, accepts_on_outage: true, has_proof: true };
    Model { bounds, faults: &[], is_reduced: false }
}

fn follow(events: &[Event], check: &str) -> Result<Vec<Path>, Box<Divergence>> {
    let model = model();
    let lines = Lines::of(events, check);
    let mut paths = vec![Path::start(&model)];
    let concerns = |event: &Event| event.check().is_none_or(|of| of == check);
    for (at, event) in events.iter().enumerate().filter(|(_, event)| concerns(event)) {
        let stop =
            |why: String| Box::new(Divergence { check: check.to_owned(), at, event: event.clone(), why });
        let mut next: Vec<Path> = Vec::new();
        let mut why = String::from("the model knows no such step here");
        for path in &paths {
            match path.after(&model, event, at, &lines) {
                Ok(found) => found.into_iter().for_each(|path| {
                    if !next.contains(&path) {
                        next.push(path);
                    }
                }),
                Err(reason) => why = reason,
            }
        }
        if next.is_empty() {
            return Err(stop(why));
        }
        if let Some(broken) = next.iter().map(Path::broken).reduce(|all, it| all.and(it)).flatten() {
            return Err(stop(format!("it is a path of the model, and breaks a rule: {broken}")));
        }
        paths = next;
    }
    Ok(paths)
}
