//! `GET /v1/preflight`: whether all that this process needs is there and answers. Never a secret.
//!
//! Requests that come at the same time, on whichever worker, share one look, and its answer serves for half a minute.

use crate::config::{Allow, Config, Credential};
use crate::store::ledger::{Store, StoreError};
use crate::store::preflight::{Preflight, kept, shown};
use crate::surface::accept::{CallerId, Headers, caller};
use crate::surface::exchange::Step;
use crate::surface::problem::Reply;
use crate::time::{Mono, Now};
use crate::wire::call::CallOutcome;
use kept::Last;
use std::rc::Rc;
use std::time::Duration;

/// Time after which a request is answered although answers are missing: longer than the calls may take.
pub const GIVEN_UP: Duration = Duration::from_secs(12);

/// A request for a preflight.
pub struct Inquiry {
    config: Rc<Config>,
    prefix: String,
    caller: CallerId,
    /// The own look; `None`: another one's is waited for.
    preflight: Option<Preflight>,
    began: Mono,
}

/// The answer to a request whose calls, or those of the request that it waits for, are never answered.
pub fn lost() -> Reply {
    let detail = "Some of its calls were not answered at all. Ask again.";
    Reply::problem(503, "No preflight", detail).with("retry-after", "5")
}

/// The answer to a request beyond [`MAX_LISTS`](super::listing::MAX_LISTS), with which it shares its room.
pub fn busy() -> Reply {
    let detail = "Two requests of this credential, or eight of this worker, wait for a list or a preflight. Try again.";
    Reply::problem(429, "Too many requests at the same time", detail).with("retry-after", "1")
}

fn failed(status: StoreError) -> Reply {
    log::error!("shared data failed with status {}: no preflight can be made", status.0);
    Reply::problem(503, "No preflight", "Envoy's shared data does not answer.")
}

fn reply(result: String) -> Reply {
    let headers = vec![("content-type", "application/json".into()), ("cache-control", "no-store".into())];
    Reply { status: 200, headers, body: result + "\n" }
}

impl Inquiry {
    /// Admits a request.
    ///
    /// # Errors
    /// The refusal, or the answer if a recent look has it.
    pub fn new<B: AsRef<[u8]>>(
        config: &Rc<Config>,
        prefix: &str,
        store: &mut dyn Store,
        now: Now,
        headers: &Headers<B>,
    ) -> Result<Inquiry, Reply> {
        let caller = caller(config, headers, Allow::Status)?;
        if caller.is_some_and(Credential::is_bound) {
            let detail = "A preflight shows what the whole process needs: use a credential without `projects` and `tags`.";
            return Err(Reply::problem(403, "Not allowed", detail));
        }
        let caller = CallerId::of(config, caller);
        match kept::last(store, prefix, now.mono, config.fingerprint) {
            Ok(Last::Fresh(result)) => Err(reply(result)),
            Ok(_) => Ok(Inquiry {
                config: config.clone(),
                prefix: prefix.to_owned(),
                caller,
                preflight: None,
                began: now.mono,
            }),
            Err(status) => Err(failed(status)),
        }
    }

    /// Who asks.
    pub fn caller(&self) -> CallerId {
        self.caller
    }

    /// The first step: the calls, unless another request makes them.
    pub fn begin(&mut self, now: Now, store: &mut dyn Store) -> Step {
        let prefix = &self.prefix;
        let mut claim = || -> Result<bool, StoreError> {
            match kept::last(store, prefix, now.mono, self.config.fingerprint)? {
                Last::Old(seen) => kept::claim(store, prefix, now.mono, self.config.fingerprint, seen),
                Last::Fresh(_) | Last::UnderWay => Ok(false),
            }
        };
        match claim() {
            Ok(true) => {
                let (preflight, calls) = Preflight::begin(&self.config, now);
                self.preflight = Some(preflight);
                Step::Call(calls)
            }
            Ok(false) => Step::Pause(now.mono),
            Err(status) => failed(status).into(),
        }
    }

    /// Takes the outcome of the call with this number.
    pub fn answer(&mut self, now: Now, store: &mut dyn Store, number: usize, outcome: &CallOutcome) -> Step {
        let is_whole = |preflight: &mut Preflight| preflight.answer(now, number, outcome);
        match self.preflight.take_if(is_whole) {
            None => Step::Wait,
            Some(preflight) => {
                let result = shown(&preflight.findings(), now.wall);
                kept::keep(store, &self.prefix, now.mono, self.config.fingerprint, &result);
                reply(result).into()
            }
        }
    }

    /// Looks whether the request that makes the calls has its answers.
    pub fn resume(&mut self, now: Now, store: &mut dyn Store) -> Step {
        match kept::last(store, &self.prefix, now.mono, self.config.fingerprint) {
            Ok(Last::Fresh(result)) => reply(result).into(),
            Ok(Last::UnderWay) if now.mono.since(self.began) < GIVEN_UP => {
                Step::Pause(now.mono.plus(Duration::from_millis(1)))
            }
            // It is gone; the next request makes them.
            Ok(_) => lost().into(),
            Err(status) => failed(status).into(),
        }
    }
}

#[cfg(test)]
mod tests;
