//! `POST /v1/checks/evaluate`, the synchronous check: one look at Testkube and one answer; nothing of the check is
//! kept.
//!
//! Azure DevOps asks again after each "time between evaluations", until the answer meets the check's success criterion,
//! `eq(root['status'], 'succeeded')`, or the check's time is over. It accepts an answer within three seconds (Microsoft
//! Learn, "Invoke Azure Function / REST API checks") and is not called itself, so nobody can say when the run or its
//! stage began: executions of the configured `lookback` count.
//!
//! The rules are those of the asynchronous check: the counted set, the expectation, one complete list, each execution
//! confirmed by its id. `settle` is judged by Testkube's own times, which may be off by the configured `clock_skew`.
//! The deletion of an execution is known only while an earlier look that saw it not passed is remembered ([`looks`]).

use crate::check::policies::is_optional;
use crate::check::reason;
use crate::check::verdict::{Rules, Standing, assess};
use crate::check::{Ask, Watch};
use crate::collections::{Few, tree};
use crate::config::Config;
use crate::config::{Allow, Credential};
use crate::expect::MAX_EXPECTED;
use crate::store::ledger::{Ledger, Store, StoreError};
use crate::store::looks;
use crate::surface::accept::{self, Admission, Headers, caller};
use crate::surface::exchange::{Ended, Step};
use crate::surface::problem::Reply;
use crate::surface::request::{self, Body};
use crate::text::{listed, one_line};
use crate::time::{Mono, Now, Wall, in_words};
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::testkube::{self, Execution, Status};
use serde_json::json;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Maximum time of the calls to Testkube for one answer.
const MAX_TIME: Duration = Duration::from_millis(1_800);
/// Time after which an evaluation whose calls are never answered is answered, at the next tick, which comes within a
/// second.
pub const GIVEN_UP: Duration = Duration::from_millis(1_900);
/// Minimum time left to begin a call.
const MIN_TIME: Duration = Duration::from_millis(50);

/// Executions on the first page: Testkube's own default. If there are more, all are asked for on one page, because
/// executions of the same instant have no fixed order and one could fall between two pages.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// Maximum confirmations under way.
const CONFIRMS: usize = 8;

/// Why an evaluation is not answered `succeeded` although all executions have passed.
const FORGOTTEN: &str = "All have passed. But in the last day this credential's tags had more executions that had not passed than can be remembered, so one of this tag's may have been deleted. Use the asynchronous check, or one credential for each project.";

/// The answer of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Not decided, or not known: ask again.
    Pending,
    /// The run may go on.
    Succeeded,
    /// The run may not go on.
    Failed,
}

/// One evaluation.
pub struct Evaluation {
    config: Rc<Config>,
    ledger: Ledger,
    /// The caller's name in the configuration; empty if everybody may call.
    credential: String,
    ask: Ask,
    observe: bool,
    bound: Wall,
    began: Mono,
    page_size: u32,
    confirm: Option<Confirmation>,
}

/// A verdict that rests on a list, while each execution is looked at again.
struct Confirmation {
    passed: bool,
    reason: String,
    todo: Vec<(String, Status)>,
    under_way: Few<usize, (String, Status)>,
    begun: usize,
    notes: Vec<String>,
}

/// Reads the headers of an evaluation: who sends it, and whether its body is needed.
pub fn admit<B: AsRef<[u8]>>(config: &Config, headers: &Headers<B>, has_body: bool) -> Admission {
    accept::admit_as(config, headers, has_body, request::names_tag)
}

/// The answer to an evaluation whose calls are never answered.
pub fn lost() -> Reply {
    shown(Answered::Pending, "Testkube has not answered in time.", None)
}

/// The answer to an evaluation when the ledger could not be opened.
pub fn unopened(status: StoreError) -> Reply {
    log::error!("an evaluation could not begin: shared data failed with status {}", status.0);
    shown(Answered::Pending, "Envoy's shared data failed: see its log.", None)
}

impl Evaluation {
    /// Begins an evaluation with a whole request, in the instance of this ledger.
    ///
    /// # Errors
    /// The refusal of a request that cannot be evaluated, or of a caller that may not ask for it. Nobody has been
    /// called.
    pub fn new<'b, B: AsRef<[u8]>>(
        config: &Rc<Config>,
        ledger: &Ledger,
        now: Now,
        headers: &Headers<B>,
        body: impl Into<Body<'b>>,
    ) -> Result<Evaluation, Reply> {
        let caller = caller(config, headers, Allow::Checks)?;
        let read = request::read_evaluation(config, headers, body);
        let read = read.and_then(|asked| {
            let ask = accept::allowed(asked.ask, caller)?;
            Ok(request::EvaluationRequest { ask, ..asked })
        });
        let asked = read.map_err(|errors| {
            let detail = format!("Testkube was not asked. {}", accept::in_one(&errors));
            Reply::problem_with(400, "This check cannot be evaluated", &detail, &errors)
        })?;
        if let Some(refusal) = caller.and_then(|caller| uncovered(caller, &asked)) {
            return Err(refusal);
        }
        Ok(Evaluation {
            config: config.clone(),
            ledger: ledger.clone(),
            credential: caller.map(|caller| caller.name.clone()).unwrap_or_default(),
            observe: caller.is_some_and(|caller| caller.observe),
            bound: now.wall.minus(config.checks.lookback),
            began: now.mono,
            page_size: PAGE,
            confirm: None,
            ask: asked.ask,
        })
    }

    /// The first step. A reading of the last seconds is enough to answer "pending".
    pub fn begin(&mut self, now: Now, store: &mut dyn Store) -> Step {
        looks::want(store, self.ledger.prefix(), now);
        let look = looks::recall(store, &self.ledger, &self.credential, &self.ask.tag);
        let pending = look.and_then(|look| {
            let age = look.age(now, self.bound)?;
            let why = self.why_pending(now, &look.executions)?;
            Some(format!("{why} Testkube said so {} ago.", in_words(age)))
        });
        match pending {
            Some(why) => self.reply(Answered::Pending, &why),
            None => self.list(now),
        }
    }

    /// Reads the answer to the call with this number. Returns the next step.
    pub fn answer(&mut self, now: Now, store: &mut dyn Store, call: usize, outcome: &CallOutcome) -> Step {
        match self.confirm.is_some() {
            true => self.confirmed(now, call, outcome),
            false => self.listed(now, store, outcome),
        }
    }

    fn list(&self, now: Now) -> Step {
        let tag = &self.ask.tag;
        let testkube = &self.config.testkube;
        // Older executions as well: a child of one is recognised by it, and is not what is expected.
        let since = self.bound.minus(self.config.checks.lookback);
        let list = testkube::list_executions(testkube, &tag.key, &[&tag.value], since, 0, self.page_size);
        self.in_time(now, vec![(0, list)])
    }

    /// Begins calls with the time that is left as their timeout.
    fn in_time(&self, now: Now, calls: Vec<(usize, Request)>) -> Step {
        let left = MAX_TIME.saturating_sub(now.mono.since(self.began));
        if left < MIN_TIME {
            return self.reply(Answered::Pending, "Testkube is too slow to answer in time.");
        }
        Step::Call(calls.into_iter().map(|(n, call)| (n, Request { timeout: left, ..call })).collect())
    }

    fn listed(&mut self, now: Now, store: &mut dyn Store, outcome: &CallOutcome) -> Step {
        let page = match outcome {
            CallOutcome::Failed(fault) => Err(fault.clone()),
            CallOutcome::Response(response) => {
                testkube::page(response).map_err(|fault| testkube::said(fault, response))
            }
        };
        let page = match page {
            Ok(page) => page,
            Err(fault) => return self.not_asked(&fault),
        };
        if page.filtered > self.page_size {
            if page.filtered > MAX_PAGE || self.page_size > PAGE {
                return self.too_many();
            }
            self.page_size = MAX_PAGE;
            return self.list(now);
        }
        let ids: BTreeSet<&str> = tree(page.executions.iter().map(|execution| execution.id.as_str()));
        if ids.len() < usize::try_from(page.filtered).unwrap_or(usize::MAX) {
            return self.reply(Answered::Pending, "Testkube's list was incomplete.");
        }
        let (look, memory) = looks::keep(
            store,
            &self.ledger,
            &self.credential,
            now,
            &self.ask.tag,
            self.bound,
            &page.executions,
        );
        if let Some(why) = self.why_pending(now, &look.executions) {
            return self.reply(Answered::Pending, &why);
        }
        let gone = listed(memory.lost(self.ask.rerun).map(|name| one_line(name, 80)), 5);
        if !gone.is_empty() {
            return self.reply(Answered::Failed, &self.vanished(&gone, &look.executions));
        }
        if !memory.is_whole && self.has_passed(&look.executions) {
            return self.reply(Answered::Pending, FORGOTTEN);
        }
        self.begin_to_confirm(now, &page.executions)
    }

    fn rules(&self) -> Rules<'_> {
        Rules::of_ask(&self.ask, self.bound)
    }

    /// Why the answer is still "pending", if it is.
    fn why_pending(&self, now: Now, executions: &[Execution]) -> Option<String> {
        let ask = &self.ask;
        let read = assess(executions, &self.rules());
        let settle = match ask.settle {
            Duration::ZERO => Duration::ZERO,
            settle => settle.saturating_add(self.config.checks.clock_skew),
        };
        let why = match read.standing() {
            Standing::Incomplete => {
                format!("Missing: {}. Found: {}.", reason::missing(&read), reason::or_none(read.statuses()))
            }
            Standing::Running => {
                let stuck = read.stuck_in_words(now.wall);
                format!("Not everything has ended: {}.{stuck}", read.statuses())
            }
            Standing::Ended { .. } if read.last_change()? > now.wall.minus(settle) => {
                format!("All have ended, but have not settled for {}: {}.", in_words(settle), read.statuses())
            }
            Standing::Ended { .. } => return None,
        };
        Some(format!("{why}{}", read.ignored_in_words()))
    }

    /// Why the result cannot be known: executions that would count were there recently, had not passed, and are gone.
    fn vanished(&self, gone: &str, executions: &[Execution]) -> String {
        let there = assess(executions, &self.rules()).statuses();
        format!(
            "Gone from Testkube, or no longer tagged, so the result is unknown: {gone}. Found now: {there}."
        )
    }

    fn has_passed(&self, executions: &[Execution]) -> bool {
        assess(executions, &self.rules()).standing() == Standing::Ended { passed: true }
    }

    fn begin_to_confirm(&mut self, now: Now, executions: &[Execution]) -> Step {
        let ask = &self.ask;
        let read = assess(executions, &self.rules());
        if read.counted.len() > usize::try_from(MAX_EXPECTED).unwrap_or(usize::MAX) {
            return self.too_many();
        }
        let watch = Watch {
            bound: self.bound,
            bound_from: format!("{} before this evaluation", in_words(self.config.checks.lookback)),
            attempt: None,
            fixed: None,
            seen: None,
            absent: Duration::ZERO,
            retries: crate::check::Retries::default(),
        };
        self.confirm = Some(Confirmation {
            passed: read.standing() == Standing::Ended { passed: true },
            reason: reason::ended(ask, &watch, &read, now),
            todo: read.counted.iter().map(|e| (e.id.clone(), e.status.clone())).collect(),
            under_way: Few::default(),
            begun: 0,
            notes: Vec::new(),
        });
        self.confirm_more(now)
    }

    fn confirm_more(&mut self, now: Now) -> Step {
        let Some(confirm) = &mut self.confirm else { return Step::Wait };
        let mut calls = Vec::new();
        while confirm.under_way.len() < CONFIRMS
            && let Some((id, status)) = confirm.todo.pop()
        {
            calls.push((confirm.begun, testkube::get_execution(&self.config.testkube, &id)));
            confirm.under_way.insert(confirm.begun, (id, status));
            confirm.begun += 1;
        }
        match (calls.is_empty(), confirm.under_way.is_empty()) {
            (false, _) => self.in_time(now, calls),
            (true, false) => Step::Wait,
            (true, true) => self.decided(),
        }
    }

    /// Reads the second look at an execution: it must be as the list had it.
    fn confirmed(&mut self, now: Now, call: usize, outcome: &CallOutcome) -> Step {
        let execution = match outcome {
            CallOutcome::Failed(fault) => Err(fault.clone()),
            CallOutcome::Response(response) => {
                testkube::single(response).map_err(|fault| testkube::said(fault, response))
            }
        };
        let Some(confirm) = &mut self.confirm else { return Step::Wait };
        let Some((id, status)) = confirm.under_way.remove(&call) else { return Step::Wait };
        match execution {
            Ok(found) if found.is_still(&id, &status, &self.ask.tag) => {
                if let Some(why) = found
                    .why_not_passed()
                    .filter(|_| !is_optional(&self.ask.policies.optional, &found.workflow))
                {
                    confirm.notes.push(format!("{}: {why}", one_line(&found.name, 80)));
                }
                self.confirm_more(now)
            }
            Ok(_) | Err(Fault::Status(404)) => {
                self.reply(Answered::Pending, "An execution differs from Testkube's list.")
            }
            Err(fault) => self.not_asked(&fault),
        }
    }

    fn decided(&self) -> Step {
        let Some(confirm) = &self.confirm else { return Step::Wait };
        let notes = match listed(confirm.notes.iter().cloned(), 3) {
            notes if notes.is_empty() => notes,
            notes => format!(" {notes}."),
        };
        let answered = if confirm.passed { Answered::Succeeded } else { Answered::Failed };
        self.reply(answered, &format!("{}{notes}", confirm.reason))
    }

    fn too_many(&self) -> Step {
        let why = format!("More than {MAX_EXPECTED} executions carry the tag {}.", self.ask.tag);
        self.reply(Answered::Failed, &why)
    }

    fn not_asked(&self, fault: &Fault) -> Step {
        self.reply(Answered::Pending, &format!("The request to Testkube failed: {fault}."))
    }

    fn reply(&self, answered: Answered, reason: &str) -> Step {
        let tag = self.ask.tag.to_string();
        let (answered, reason) = match (self.observe, answered) {
            (true, Answered::Succeeded | Answered::Failed) => {
                let told = format!("OBSERVE ONLY, would have been: {}. {reason}", answered.name());
                (Answered::Succeeded, told)
            }
            _ => (answered, reason.to_string()),
        };
        if answered != Answered::Pending {
            log::info!("evaluated {tag}: {}. {reason}", answered.name());
        }
        Step::Reply(shown(answered, &reason, Some(&tag)), Some(Ended::Evaluation(answered)))
    }
}

impl Answered {
    /// `status` in the answer.
    fn name(self) -> &'static str {
        match self {
            Answered::Pending => "pending",
            Answered::Succeeded => "succeeded",
            Answered::Failed => "failed",
        }
    }
}

fn shown(answered: Answered, reason: &str, tag: Option<&str>) -> Reply {
    let reply = Reply::json(200, &json!({"status": answered.name(), "reason": reason, "tag": tag}));
    reply.with("cache-control", "no-store")
}

/// The refusal of an evaluation that its caller's credential does not cover.
fn uncovered(caller: &Credential, asked: &request::EvaluationRequest) -> Option<Reply> {
    let name = &caller.name;
    let what = match &asked.project {
        _ if !caller.covers_tag(&asked.ask.tag) => format!(
            "The credential `{name}` does not cover this tag: none of its `tags` patterns fits the value."
        ),
        None if !caller.projects.is_empty() => format!(
            "The credential `{name}` is bound to projects, and this request names none: send \"ProjectId\": \"$(system.TeamProjectId)\"."
        ),
        Some(project) if !caller.covers_project(project) => {
            format!("The credential `{name}` does not cover this ProjectId: its `projects` do not list it.")
        }
        _ => return None,
    };
    Some(Reply::problem(403, "Not allowed", &what))
}

#[cfg(test)]
mod tests;
