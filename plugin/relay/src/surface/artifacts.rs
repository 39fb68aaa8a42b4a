//! Artifacts by tag, for a pipeline that knows its tag but not Testkube's ids: the list of files of the tag's
//! executions, and single files, archives or logs, which are streamed through.
//!
//! A request is a [`Visit`]: it asks Testkube for the executions, then for their artifacts, and ends with its own
//! answer or with a path at Testkube to which the request goes on. No part of a file passes through here.

mod ask;
mod downloads;
mod file;
mod find;
mod heads;
mod links;
mod mask;
mod memory;
mod refusals;
mod shown;

pub use downloads::{Download, Downloads};
pub use file::Forward;
pub use heads::to_take_off;
pub use memory::VisitMemory;
pub use refusals::lost;

use crate::check::verdict::{Rules, assess};
use crate::config::Config;
use crate::config::Rerun;
use crate::config::{Allow, Credential};
use crate::surface::accept::{Headers, caller};
use crate::surface::confidential::Confidential;
use crate::surface::exchange::Step;
use crate::surface::problem::Reply;
use crate::text::{listed, one_line, size_in_words};
use crate::time::{Mono, Now, Wall, in_words};
use crate::wire::call::{CallOutcome, Fault, Request, Response};
use crate::wire::testkube::MAX_NAMES;
use crate::wire::testkube::{self, Artifact, Execution};
use ask::{Scope, Target, Want};
use find::Presence;
use links::Links;
use refusals::{no_execution, not_read, too_many_executions};
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

/// How far back executions of a tag are looked for, unless the request says otherwise.
const LOOKBACK: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Executions on the first page. If there are more, all are asked for on one page: Testkube has no fixed order for
/// executions of the same instant, so one could fall between two pages.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// Maximum executions whose artifacts are listed for one request. Together they have at most [`MAX_NAMES`] artifacts,
/// because all are in memory at once.
const MAX_EXECUTIONS: usize = 100;

/// Maximum size of a list that is answered, in bytes. Envoy holds all of it until a slow reader has it.
const MAX_ANSWER: usize = 2 << 20;

/// Maximum time to find out what a request means, before the last call. Envoy itself ends a request after 30 s without
/// a sign (`stream_idle_timeout`).
const MAX_TIME: Duration = Duration::from_secs(15);

/// The caller of an artifact by Testkube's own path; `None` if everybody may call.
///
/// # Errors
/// The refusal of a caller that may not.
pub fn admit<'a, B: AsRef<[u8]>>(
    config: &'a Config,
    headers: &Headers<B>,
) -> Result<Option<&'a Credential>, Reply> {
    match caller(config, headers, Allow::Artifacts)? {
        // A path by an execution's id does not state its tag.
        Some(caller) if !caller.tags.is_empty() => Err(Reply::problem(
            403,
            "Not allowed",
            &format!("The credential `{}` is bound to tags, and this path names none.", caller.name),
        )),
        caller => Ok(caller),
    }
}

/// The caller of an artifact by tag; `None` if everybody may call.
///
/// # Errors
/// The refusal of a caller that may not ask for any.
pub fn admit_by_tag<'a, B: AsRef<[u8]>>(
    config: &'a Config,
    headers: &Headers<B>,
) -> Result<Option<&'a Credential>, Reply> {
    caller(config, headers, Allow::Artifacts)
}

/// The caller of a request, and where the request goes on to, if that was found out for the same target in the last
/// seconds. `rest` is the part of the target after `<base>/v1/artifacts/`. `None`: begin a [`Visit`], which also
/// refuses a caller that may not ask for it.
pub fn known<'c, 'm, B: AsRef<[u8]>>(
    config: &'c Config,
    now: Mono,
    headers: &Headers<B>,
    rest: &[u8],
    memory: &'m VisitMemory,
) -> Option<(Option<&'c Credential>, &'m Rc<Forward>)> {
    let (tag, forward) = memory.way(now, rest)?;
    let caller = caller(config, headers, Allow::Artifacts).ok()?;
    caller.is_none_or(|caller| caller.covers_tag(tag)).then_some((caller, forward))
}

/// One request for artifacts by tag.
pub struct Visit {
    config: Rc<Config>,
    /// The part of its target after `<base>/v1/artifacts/`.
    rest: Vec<u8>,
    ask: Target,
    /// Scheme and host of the request, with which links begin.
    asked_at: (Vec<u8>, Vec<u8>),
    /// [`Visit::links`], made on first use: a request for one file needs none.
    links: OnceCell<Links>,
    since: Wall,
    /// The last question to Testkube.
    asked: Asked,
    executions: Option<Rc<Vec<Execution>>>,
    /// Indices of the chosen executions, and the artifacts of each.
    chosen: Vec<usize>,
    kept: Vec<Rc<Vec<Artifact>>>,
    /// For each chosen execution, whether it has the wanted file; and for the next one, what its head said if that was
    /// not enough.
    found: Vec<Presence>,
    by_head: Option<Presence>,
    /// Number of artifacts looked at, and whether some cannot be listed.
    names: usize,
    is_unlisted: bool,
    /// The wanted path within the chosen executions.
    path: String,
    page_size: u32,
    began: Mono,
    /// An upper limit of the age of the answers that it rests on: when Testkube gave the oldest.
    oldest: Mono,
}

/// A question to Testkube.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The executions.
    Executions,
    /// The artifacts of the next chosen execution.
    Names,
    /// The head of a file that the next chosen execution may have.
    Head,
}

impl Visit {
    /// Begins a visit with a request's headers; `rest` is the part of its target after `<base>/v1/artifacts/`.
    ///
    /// # Errors
    /// The refusal of a request that cannot be read, or of a caller that may not ask for it. Nobody has been called.
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
                "The path contains a part of this request's credential, which is not repeated here.",
            ));
        }
        let ask = Target::read(config, rest)?;
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
            links: OnceCell::new(),
            config: config.clone(),
            rest: rest.to_vec(),
            path: ask.path.clone(),
            ask,
            since,
            asked: Asked::Executions,
            executions: None,
            chosen: Vec::new(),
            kept: Vec::new(),
            found: Vec::new(),
            by_head: None,
            names: 0,
            is_unlisted: false,
            page_size: PAGE,
            began: now.mono,
            oldest: now.mono,
        })
    }

    /// The next step, using the answers that earlier visits have remembered.
    pub fn step(&mut self, now: Now, memory: &mut VisitMemory) -> Step {
        let step = self.resolve(now, memory);
        if let Step::Forward(forward) = &step {
            memory.keep_way(now, self.oldest, &self.rest, &self.ask, forward);
        }
        step
    }

    fn resolve(&mut self, now: Now, memory: &VisitMemory) -> Step {
        if self.executions.is_none() {
            match memory.executions(now, &self.ask) {
                None => return self.ask_executions(),
                Some((executions, at)) => {
                    self.executions = Some(executions);
                    self.oldest = self.oldest.min(at);
                }
            }
        }
        if self.chosen.is_empty()
            && let Err(reply) = self.choose()
        {
            return Step::from(reply);
        }
        let path = self.path.clone();
        match self.ask.want(&path) {
            Want::List => self.all(now, memory),
            Want::File(name) => self.file(now, memory, name),
            Want::Archive => self.archive(now, memory),
            Want::Logs => self.logs(),
        }
    }

    /// The list, once the artifacts of all chosen executions are known.
    fn all(&mut self, now: Now, memory: &VisitMemory) -> Step {
        while let Some(execution) = self.at(self.kept.len()) {
            match memory.artifacts(now, &execution.id) {
                None if self.is_late(now) => return Step::from(self.too_slow(self.kept.len())),
                None => {
                    let request = testkube::list_artifacts(&self.config.testkube, &execution.id);
                    return self.ask(Asked::Names, request);
                }
                Some((kept, at)) => {
                    self.keep(kept);
                    self.oldest = self.oldest.min(at);
                }
            }
            if self.is_too_much() {
                return Step::from(self.too_many());
            }
        }
        Step::from(self.list().unwrap_or_else(|| self.too_many()))
    }

    fn keep(&mut self, kept: Rc<Vec<Artifact>>) {
        self.names += kept.len();
        self.kept.push(kept);
    }

    /// Whether there are too many names, or bytes of names: each is in the list twice.
    fn is_too_much(&self) -> bool {
        let bytes =
            || self.kept.iter().flat_map(|kept| kept.iter()).map(|one| 2 * one.name.len()).sum::<usize>();
        self.names > MAX_NAMES || bytes() > MAX_ANSWER
    }

    /// Reads the answer to the last [`Step::Call`]. Returns the next step.
    pub fn answer(&mut self, now: Now, memory: &mut VisitMemory, outcome: &CallOutcome) -> Step {
        let next = match (outcome, self.asked) {
            (CallOutcome::Failed(fault), _) => Some(Step::from(not_read(fault))),
            (CallOutcome::Response(response), Asked::Executions) => {
                self.read_executions(now, memory, response)
            }
            (CallOutcome::Response(response), Asked::Names) => self.read_names(now, memory, response),
            (CallOutcome::Response(response), Asked::Head) => self.read_head(response),
        };
        next.unwrap_or_else(|| self.step(now, memory))
    }

    /// Reads the executions. `None`: go on.
    fn read_executions(&mut self, now: Now, memory: &mut VisitMemory, response: &Response) -> Option<Step> {
        let page = match testkube::page(response) {
            Ok(page) => page,
            Err(fault) => return Some(Step::from(not_read(&fault))),
        };
        if page.filtered > self.page_size {
            if page.filtered > MAX_PAGE || self.page_size > PAGE {
                return Some(Step::from(too_many_executions(page.filtered)));
            }
            self.page_size = MAX_PAGE;
            return Some(self.ask_executions());
        }
        let executions = Rc::new(page.executions);
        memory.keep_executions(now, &self.ask, &executions);
        self.executions = Some(executions);
        None
    }

    /// Reads the artifacts of an execution. `None`: go on.
    fn read_names(&mut self, now: Now, memory: &mut VisitMemory, response: &Response) -> Option<Step> {
        let path = self.path.clone();
        let want = self.ask.want(&path);
        let asked = self.at(self.kept.len().max(self.found.len()));
        let kept = match (testkube::artifacts(response), want) {
            (Ok(kept), _) => {
                let kept = Rc::new(kept);
                if let Some(execution) = asked.filter(|execution| execution.ended) {
                    memory.keep_artifacts(now, &execution.id, &kept);
                }
                kept
            }
            // Deleted since it was listed, or lost for a moment: Testkube is asked again the next time.
            (Err(Fault::Status(404)), _) => Rc::default(),
            (Err(Fault::TooLarge(_)), Want::File(_)) => {
                self.read_for_file(None);
                return None;
            }
            (Err(Fault::TooLarge(_)), Want::Archive) => {
                let refusal =
                    |execution| self.too_large(execution, "There are more files than can be listed");
                return Some(Step::from(self.at(0).map_or_else(|| self.too_many(), refusal)));
            }
            (Err(Fault::TooLarge(_)), _) => return Some(Step::from(self.too_many())),
            (Err(fault), _) => return Some(Step::from(not_read(&fault))),
        };
        match want {
            Want::File(_) => self.read_for_file(Some(&kept)),
            _ => self.keep(kept),
        }
        None
    }

    /// Asks through the cluster for artifacts, so that the checks' own calls have room whatever jobs download.
    fn ask(&mut self, asked: Asked, request: Request) -> Step {
        self.asked = asked;
        Step::call(Request { cluster: self.config.artifacts.cluster.clone(), ..request })
    }

    fn ask_executions(&mut self) -> Step {
        let request = self.list_executions();
        self.ask(Asked::Executions, request)
    }

    fn is_late(&self, now: Now) -> bool {
        now.mono.since(self.began) > MAX_TIME
    }

    fn too_slow(&self, asked: usize) -> Reply {
        let detail = format!(
            "Testkube has listed the artifacts of {asked} of {} executions in {}: name one of them in the path.",
            self.chosen.len(),
            in_words(MAX_TIME)
        );
        Reply::problem(504, "Testkube is too slow", &detail)
    }

    fn too_many(&self) -> Reply {
        let of = listed(self.all_chosen().map(|execution| one_line(&execution.name, 80)), 5);
        let also = if self.chosen.len() > 1 { "Name one execution in the path, or get" } else { "Get" };
        let single =
            self.all_chosen().next().map(|execution| self.single_files(execution)).unwrap_or_default();
        let detail = format!(
            "There are more than {MAX_NAMES} artifacts of {of}, or their list would be longer than {}. {also} single files by their names: {single}.",
            size_in_words(MAX_ANSWER as u64)
        );
        Reply::problem(409, "Too many artifacts", &detail)
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

    /// The chosen execution with this index.
    fn at(&self, n: usize) -> Option<&Execution> {
        self.executions.as_ref()?.get(*self.chosen.get(n)?)
    }

    fn all_chosen(&self) -> impl Iterator<Item = &Execution> {
        (0..self.chosen.len()).filter_map(|n| self.at(n))
    }

    /// Chooses the executions of the request: the one that its path names, or those of its scope.
    fn choose(&mut self) -> Result<(), Reply> {
        let executions = self.executions.clone().unwrap_or_default();
        let tag = &self.ask.tag;
        let (bound, rerun) = match self.ask.scope {
            Scope::All => (Wall(i64::MIN), Rerun::All),
            _ => (self.since, Rerun::Latest),
        };
        let assessment = assess(&executions, &Rules::of_tag(tag, bound, rerun));
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
                "{running} has not ended ({status}). Ask again when the check is decided, or get what is there with partial=true."
            );
            return Err(Reply::problem(409, "Not ended", &detail));
        }
        if chosen.len() > MAX_EXECUTIONS {
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
}

#[cfg(test)]
mod tests;
