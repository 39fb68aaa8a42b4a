//! Artifacts by tag, for a pipeline that knows its tag and not Testkube's ids: the list over the tag's executions, and one
//! file, archive or log that goes straight through.
//!
//! A request is a [`Visit`]: it asks Testkube for the executions, then for what they have kept, and ends with an answer of
//! its own or with a path at Testkube's to which the request goes on. Nothing of a file passes through here.

mod ask;
mod file;
mod heads;
mod memory;
mod shown;

pub use file::Forward;
pub use heads::to_take_off;
pub use memory::Memory;

use crate::accept::{Headers, caller};
use crate::auth::Allow;
use crate::call::{Fault, Outcome, Request, percent_encoded};
use crate::check::Rerun;
use crate::confidential::Confidential;
use crate::config::Config;
use crate::expect::Expect;
use crate::problem::Reply;
use crate::testkube::{self, Artifact, Execution};
use crate::text::{listed, one_line};
use crate::time::{Mono, Now, Wall, in_words};
use crate::verdict::assess;
use ask::{Ask, Scope, Want};
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

/// How far back a tag is looked for, unless the request says otherwise.
const LOOKBACK: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Executions on one page; when there are more of them, all are asked for at once: executions of one instant have no fixed
/// order in Testkube, so that one of them could fall between two pages.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1_000;

/// The artifacts of so many executions are listed for one request, and so many artifacts: they are in memory together.
const MOST_EXECUTIONS: usize = 100;
const MOST_ARTIFACTS: usize = 20_000;

/// How long a request may take to find out what it means, before the last call: Envoy itself ends it after 30 s without a
/// sign (`stream_idle_timeout`).
const MOST_TIME: Duration = Duration::from_secs(15);

/// What a visit needs next.
pub enum Step {
    /// Ask Testkube this.
    Call(Request),
    /// Answer this.
    Reply(Reply),
    /// Let the request go on to Testkube.
    Forward(Rc<Forward>),
}

/// Where a request goes on to that has been found out for the same target in the last seconds. `rest` is what follows
/// `<base>/v1/artifacts/` in it. `None`: begin a [`Visit`], which also says why this caller may not ask it.
pub fn known<'a, B: AsRef<[u8]>>(
    config: &Config,
    now: Mono,
    headers: &Headers<B>,
    rest: &[u8],
    memory: &'a Memory,
) -> Option<&'a Rc<Forward>> {
    let (tag, forward) = memory.way(now, rest)?;
    let caller = caller(config, headers, Allow::Artifacts).ok()?;
    caller.is_none_or(|caller| caller.covers_tag(tag)).then_some(forward)
}

/// One request for artifacts by tag.
pub struct Visit {
    config: Rc<Config>,
    /// What follows `<base>/v1/artifacts/` in its target.
    rest: Vec<u8>,
    ask: Ask,
    /// Scheme and host as the request has them: what links begin with.
    asked_at: (Vec<u8>, Vec<u8>),
    /// [`Visit::base`], once it was wanted: a request that goes on to a file wants no links.
    base: OnceCell<String>,
    since: Wall,
    /// What is being asked for: the executions, or the artifacts of the next one of the chosen ones.
    executions: Option<Rc<Vec<Execution>>>,
    /// Positions among the executions, and what these have kept.
    chosen: Vec<usize>,
    kept: Vec<Rc<Vec<Artifact>>>,
    /// What is wanted of the chosen ones.
    path: String,
    page_size: u32,
    began: Mono,
    /// When Testkube gave the oldest of the answers that it rests on, at the latest.
    oldest: Mono,
}

impl Visit {
    /// Begins with a request's headers; `rest` is what follows `<base>/v1/artifacts/` in its target.
    ///
    /// # Errors
    /// The refusal of a request that cannot be read or a caller that may not ask this; nobody has been called.
    pub fn new<B: AsRef<[u8]>>(
        config: &Rc<Config>,
        now: Now,
        headers: &Headers<B>,
        rest: &[u8],
    ) -> Result<Visit, Reply> {
        let caller = caller(config, headers, Allow::Artifacts)?;
        let mut confidential = Confidential::default();
        for (_, value) in headers.iter().filter(|(name, _)| name.as_ref() == b"authorization") {
            confidential.add_authorization(value.as_ref());
        }
        if confidential.is_in_target(rest) {
            return Err(ask::refusal(
                "The path holds a part of this request's credential, which is not repeated here.",
            ));
        }
        let ask = Ask::read(config, rest)?;
        if let Some(caller) = caller.filter(|caller| !caller.covers_tag(&ask.tag)) {
            let detail = format!(
                "The credential `{}` does not cover this tag: none of its `tags` patterns fits the value.",
                caller.name
            );
            return Err(Reply::problem(403, "Not allowed", &detail));
        }
        let since = match ask.scope {
            Scope::Counted => now.wall.minus(LOOKBACK),
            Scope::Since(since) => since,
            Scope::All => Wall(0),
        };
        Ok(Visit {
            asked_at: shown::asked_at(headers),
            base: OnceCell::new(),
            config: config.clone(),
            rest: rest.to_vec(),
            path: ask.path.clone(),
            ask,
            since,
            executions: None,
            chosen: Vec::new(),
            kept: Vec::new(),
            page_size: PAGE,
            began: now.mono,
            oldest: now.mono,
        })
    }

    /// What to do next, with what is remembered of earlier visits.
    pub fn step(&mut self, now: Now, memory: &mut Memory) -> Step {
        let step = self.resolve(now, memory);
        if let Step::Forward(forward) = &step {
            memory.keep_way(now, self.oldest, &self.rest, &self.ask, forward);
        }
        step
    }

    fn resolve(&mut self, now: Now, memory: &Memory) -> Step {
        if self.executions.is_none() {
            match memory.executions(now, &self.ask) {
                None => return Step::Call(self.list_executions()),
                Some((executions, at)) => {
                    self.executions = Some(executions);
                    self.oldest = self.oldest.min(at);
                }
            }
        }
        if self.chosen.is_empty()
            && let Err(reply) = self.choose()
        {
            return Step::Reply(reply);
        }
        match self.ask.want(&self.path) {
            Want::List | Want::File(_) => {}
            Want::Archive => return self.of_one("archive", |execution| self.archive(execution)),
            Want::Logs => return self.of_one("logs", |execution| self.logs(execution)),
        }
        while let Some(execution) = self.at(self.kept.len()) {
            if self.count() > MOST_ARTIFACTS {
                let detail = format!(
                    "The executions have more than {MOST_ARTIFACTS} artifacts: name one execution in the path."
                );
                return Step::Reply(Reply::problem(409, "Too many artifacts", &detail));
            }
            match memory.artifacts(now, &execution.id) {
                None if now.mono.since(self.began) > MOST_TIME => {
                    let detail = format!(
                        "Testkube has listed the artifacts of {} of {} executions in {}: name one of them in the path.",
                        self.kept.len(),
                        self.chosen.len(),
                        in_words(MOST_TIME)
                    );
                    return Step::Reply(Reply::problem(504, "Testkube is too slow", &detail));
                }
                None => return Step::Call(testkube::list_artifacts(&self.config.testkube, &execution.id)),
                Some((kept, at)) => {
                    self.kept.push(kept);
                    self.oldest = self.oldest.min(at);
                }
            }
        }
        match self.ask.want(&self.path) {
            Want::File(name) => self.file(name),
            _ => Step::Reply(self.list()),
        }
    }

    /// Reads the answer to the last [`Step::Call`], and says what to do next.
    pub fn answer(&mut self, now: Now, memory: &mut Memory, outcome: &Outcome) -> Step {
        let read = match (outcome, &self.executions) {
            (Outcome::Failed(fault), _) => Err(fault.clone()),
            (Outcome::Response(response), None) => match testkube::page(response) {
                Err(fault) => Err(fault),
                Ok(page) if page.filtered > self.page_size => {
                    if page.filtered > LARGEST_PAGE || self.page_size > PAGE {
                        return Step::Reply(too_many(page.filtered));
                    }
                    self.page_size = LARGEST_PAGE;
                    return Step::Call(self.list_executions());
                }
                Ok(page) => {
                    let executions = Rc::new(page.executions);
                    memory.keep_executions(now, &self.ask, &executions);
                    self.executions = Some(executions);
                    Ok(())
                }
            },
            (Outcome::Response(response), Some(_)) => match testkube::artifacts(response) {
                // Deleted since it was listed.
                Err(Fault::Status(404)) => {
                    self.kept.push(Rc::default());
                    Ok(())
                }
                Err(fault) => Err(fault),
                Ok(artifacts) => {
                    let artifacts = Rc::new(artifacts);
                    if let Some(execution) = self.at(self.kept.len()).filter(|execution| execution.ended) {
                        memory.keep_artifacts(now, &execution.id, &artifacts);
                    }
                    self.kept.push(artifacts);
                    Ok(())
                }
            },
        };
        match read {
            Ok(()) => self.step(now, memory),
            Err(fault) => Step::Reply(not_read(&fault)),
        }
    }

    fn list_executions(&self) -> Request {
        let tag = &self.ask.tag;
        testkube::list_executions(
            &self.config.testkube,
            &tag.key,
            &[&tag.value],
            self.since,
            0,
            self.page_size,
        )
    }

    /// The nth of the chosen executions.
    fn at(&self, n: usize) -> Option<&Execution> {
        self.executions.as_ref()?.get(*self.chosen.get(n)?)
    }

    fn all_chosen(&self) -> impl Iterator<Item = &Execution> {
        (0..self.chosen.len()).filter_map(|n| self.at(n))
    }

    /// Chooses the executions that the request is about: one that its path names, or the scope's.
    fn choose(&mut self) -> Result<(), Reply> {
        let executions = self.executions.clone().unwrap_or_default();
        let tag = &self.ask.tag;
        let (bound, rerun) = match self.ask.scope {
            Scope::All => (Wall(i64::MIN), Rerun::All),
            _ => (self.since, Rerun::Latest),
        };
        let assessment = assess(&executions, tag, bound, &Expect::Any, rerun);
        let mut chosen = assessment.counted.clone();
        let others = || assessment.ignored.iter().map(|(execution, _)| *execution);
        if self.ask.scope == Scope::All {
            chosen.extend(others());
        }
        let (first, rest) = self.ask.path.split_once('/').unwrap_or((&self.ask.path, ""));
        let named = chosen.iter().copied().chain(others()).find(|execution| execution.name == first);
        if let Some(named) = named {
            self.path = rest.into();
            chosen = vec![named];
        }
        let Some(last) = chosen.last() else {
            return Err(no_execution(&self.ask, self.since));
        };
        if let Some(running) = chosen.iter().find(|execution| !execution.ended && !self.ask.partial) {
            let (running, status) = (one_line(&running.name, 80), &running.status);
            let detail = format!(
                "{running} has not ended ({status}). Ask again when the check is decided, or take what is there with partial=true."
            );
            return Err(Reply::problem(409, "Not ended", &detail));
        }
        if chosen.len() > MOST_EXECUTIONS {
            let detail = format!(
                "{} executions are tagged {tag}, the newest is {}: name one of them in the path, or give since=TIME.",
                chosen.len(),
                one_line(&last.name, 80)
            );
            return Err(Reply::problem(409, "Too many executions", &detail));
        }
        let position = |execution: &&Execution| executions.iter().position(|other| other.id == execution.id);
        self.chosen = chosen.iter().filter_map(position).collect();
        Ok(())
    }

    /// The archive or the log of the one execution that was chosen.
    fn of_one(&self, what: &str, forward: impl Fn(&Execution) -> Forward) -> Step {
        match self.at(0).filter(|_| self.chosen.len() == 1) {
            Some(execution) => Step::Forward(Rc::new(forward(execution))),
            None => {
                let choices = self.all_chosen().map(|execution| self.link(execution, what, &self.ask.masks));
                Step::Reply(ambiguous(what, choices))
            }
        }
    }

    fn archive(&self, execution: &Execution) -> Forward {
        let path = testkube::archive_path(&self.config.testkube, &execution.id, &self.ask.masks);
        Forward::archive(path, &execution.name)
    }

    fn logs(&self, execution: &Execution) -> Forward {
        Forward::logs(testkube::logs_path(&self.config.testkube, &execution.id), &execution.name)
    }

    /// The file of this name.
    fn file(&self, name: &str) -> Step {
        let has_it = |kept: &[Artifact]| kept.iter().any(|artifact| artifact.name == name);
        let found: Vec<&Execution> =
            self.all_chosen().zip(&self.kept).filter(|(_, kept)| has_it(kept)).map(|(e, _)| e).collect();
        match found.as_slice() {
            [] => Step::Reply(self.no_file(name)),
            [execution] => {
                let path = testkube::artifact_path(&self.config.testkube, &execution.id, name);
                Step::Forward(Rc::new(Forward::file(path, name)))
            }
            several => {
                let choices = several.iter().map(|execution| self.link_to_file(execution, name));
                Step::Reply(ambiguous(&one_line(name, 80), choices.flatten()))
            }
        }
    }

    /// How many artifacts have been listed so far.
    fn count(&self) -> usize {
        self.kept.iter().map(|kept| kept.len()).sum()
    }

    fn no_file(&self, name: &str) -> Reply {
        let count = self.count();
        let of = listed(self.all_chosen().map(|execution| one_line(&execution.name, 80)), 5);
        let detail = match count {
            0 => format!("{of} kept no artifacts, or Testkube no longer has them."),
            _ => format!(
                "`{}` is not among the {count} artifacts of {of}. They are listed at {}{}.",
                one_line(name, 80),
                self.base(),
                self.ask.parameters("")
            ),
        };
        Reply::problem(404, "No such artifact", &detail)
    }

    /// What every link begins with, the tag included.
    fn base(&self) -> &str {
        self.base.get_or_init(|| {
            let (tag, (scheme, host)) = (&self.ask.tag, &self.asked_at);
            let tag = format!("{}={}", percent_encoded(&tag.key), percent_encoded(&tag.value));
            format!("{}{}/v1/artifacts/{tag}", shown::origin(scheme, host), self.config.base_path)
        })
    }

    /// A link to the archive or the log of one execution.
    fn link(&self, execution: &Execution, what: &str, masks: &str) -> String {
        let parameters = self.ask.parameters("");
        let rest = match (parameters.as_str(), masks.strip_prefix('?')) {
            ("", Some(masks)) => format!("?{masks}"),
            (parameters, Some(masks)) => format!("{parameters}&{masks}"),
            (parameters, None) => parameters.into(),
        };
        format!("{}/{}/{what}{rest}", self.base(), percent_encoded(&execution.name))
    }

    /// A link to a file, if one can lead there. It names the execution where the name alone could be another's.
    fn link_to_file(&self, execution: &Execution, name: &str) -> Option<String> {
        if !ask::can_be_linked(name) {
            return None;
        }
        let first = name.split('/').next().unwrap_or_default();
        let all = self.executions.as_deref().map(Vec::as_slice).unwrap_or_default();
        let is_alone = self.chosen.len() == 1 && !all.iter().any(|other| other.name == first);
        // A name in the path brought the request here, so the execution may not be the scope's only one.
        let is_named = self.path != self.ask.path;
        let scope = match is_alone && !is_named {
            true => String::new(),
            false => format!("{}/", percent_encoded(&execution.name)),
        };
        let name_encoded = name.split('/').map(percent_encoded).collect::<Vec<_>>().join("/");
        Some(format!("{}/{scope}{name_encoded}{}", self.base(), self.ask.parameters(name)))
    }
}

fn ambiguous(what: &str, choices: impl Iterator<Item = String>) -> Reply {
    let choices: Vec<String> = choices.collect();
    let detail = format!("{} executions have `{what}`: take one of the links.", choices.len());
    Reply::problem_with_member(409, "More than one", &detail, "links", choices.into())
}

fn no_execution(ask: &Ask, since: Wall) -> Reply {
    let tag = &ask.tag;
    let detail = match ask.scope {
        Scope::All => format!("Testkube has no execution tagged {tag}, or no longer."),
        _ => format!(
            "Testkube has no execution tagged {tag} that was scheduled since {since}, or no longer. since=TIME looks back to another time, all=true at everything."
        ),
    };
    Reply::problem(404, "No such execution", &detail)
}

fn too_many(count: u32) -> Reply {
    let detail = format!(
        "{count} executions have this tag, more than {LARGEST_PAGE}: give since=TIME, and use a tag that only one run has."
    );
    Reply::problem(409, "Too many executions", &detail)
}

fn not_read(fault: &Fault) -> Reply {
    let status = match fault {
        Fault::NoAnswer => 504,
        Fault::NoConnection | Fault::Refused | Fault::UnknownCluster(_) => 503,
        _ => 502,
    };
    Reply::problem(status, "Testkube could not be asked", &format!("Testkube could not be asked: {fault}."))
}

/// The answer to a request whose call is never answered.
pub fn lost() -> Reply {
    not_read(&Fault::NoAnswer)
}

#[cfg(test)]
mod tests;
