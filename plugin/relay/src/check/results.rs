//! The results of tests: once an execution has ended, the JUnit reports among its artifacts are read, and the names of
//! failed tests are told.
//!
//! They are beside the check, like its live log. No verdict rests on them, no event waits for them for longer than
//! [`HOLD`], and they may be lost with the leader. Who may write an artifact writes them, so everything is bounded: the
//! files of a check and their size, one call at a time in the process ([`Room::Results`]), and after a VM has fallen over
//! the check nothing is read any more.

mod beside_log;
mod choice;
mod tested;

use super::{Call, LogCx, Outcome, Pending, Phase, Room, Space, Told};
use crate::check::scene::Mark;
use crate::check::verdict::Assessment;
use crate::config::Config;
use crate::text::{listed, one_line};
use crate::time::{Mono, in_words};
use crate::wire::call::{CallId, CallOutcome, Fault, Request, Response};
use crate::wire::junit;
use crate::wire::testkube::{self, Artifact};
use choice::File;
use std::time::Duration;
use tested::{MAX_NAMED, Search, Tested};

/// Maximum wait of a decision's last lines, and so of its event, for the names of failed tests, and for the counts of
/// executions that passed. The next tick comes up to a second later: 5 s in all.
pub(super) const HOLD: Duration = Duration::from_secs(4);
pub(super) const HOLD_COUNTS: Duration = Duration::from_secs(1);

/// How long after its event a check waits for the names.
pub(super) const OWED: Duration = Duration::from_secs(60);

/// Maximum size of a file, and of all files of a check, in bytes.
const MAX_FILE: u64 = 2 << 20;
const MAX_TOTAL: u64 = 5 << 20;

/// Maximum executions of a check whose artifacts are listed: those that passed, and the others.
const MAX_PASSED: usize = 10;
const MAX_FAILED: usize = 20;

/// Maximum calls of a check for lists: one may be tried twice, and Testkube may change its mind about an execution.
const MAX_LISTS: usize = 40;

/// Timeout of a call, its tries for an execution that did not pass, and the pause between them.
const TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u32 = 2;
const PAUSE: Duration = Duration::from_secs(2);

/// Maximum length of a file's name in a line, in characters.
const MAX_SHOWN: usize = 120;

/// What is told of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The names of the tests that failed.
    Names,
    /// The counts of an execution that passed.
    Counts,
}

/// The results of the tests of one check.
#[derive(Default)]
pub(crate) struct Results {
    /// The executions that have ended, in the order in which that was seen.
    tested: Vec<Tested>,
    /// Those whose results another context has told.
    told_before: Vec<u32>,
    /// Number of calls for lists.
    lists: usize,
    /// Number of calls for files, and their size by the lists.
    files: u32,
    bytes: u64,
    /// Number of counted executions that have not ended.
    unended: u32,
    calling: Option<Calling>,
    is_queued: bool,
    held_until: Mono,
}

/// The call under way.
struct Calling {
    id: CallId,
    /// The execution.
    of: String,
    /// The file; `None`: the list.
    file: Option<File>,
}

impl Results {
    /// The results of a check of which another context has told these.
    pub(super) fn after(told: &Told) -> Option<Box<Results>> {
        let told_before = told.results.clone();
        (!told_before.is_empty()).then(|| Box::new(Results { told_before, ..Results::default() }))
    }

    /// Whether a reading has an execution whose results are to be looked for.
    fn concern(read: &Assessment<'_>) -> bool {
        read.counted.iter().any(|e| e.ended && e.began)
    }

    /// Takes a complete reading. Returns whether there is something new to tell.
    pub(super) fn read(&mut self, read: &Assessment<'_>) -> bool {
        self.tested.iter_mut().for_each(|tested| tested.is_counted = false);
        let unended = read.counted.iter().filter(|e| !e.ended).count();
        self.unended = u32::try_from(unended).unwrap_or(u32::MAX);
        for execution in read.counted.iter().filter(|e| e.ended && e.began) {
            let new = Tested::of(execution, read.is_optional(execution), &self.told_before);
            match self.tested.iter_mut().find(|tested| tested.id == execution.id) {
                Some(tested) if tested.has_passed == new.has_passed => {
                    tested.is_counted = true;
                    tested.counts = tested.counts.or(new.counts);
                }
                // Testkube has changed its mind.
                Some(tested) => *tested = new,
                None => {
                    let most = if new.is_minor() { MAX_PASSED } else { MAX_FAILED };
                    let same = self.tested.iter().filter(|tested| tested.is_minor() == new.is_minor());
                    if same.count() < most {
                        self.tested.push(new);
                    }
                }
            }
        }
        self.has_news()
    }

    /// The place of the execution to call for next. Those that must pass and did not come first, and of them the one with
    /// the fewest files.
    fn next(&self) -> Option<usize> {
        let open = self.tested.iter().enumerate().filter(|(_, tested)| tested.is_open());
        open.min_by_key(|(_, tested)| u64::from(tested.asked) + (u64::from(tested.is_minor()) << 32))
            .map(|(at, _)| at)
    }

    /// Number of files to keep when this execution gets one: one for each other that did not pass and has none, or may
    /// still fail. The first file of one that did not pass leaves none to keep, and what passed has a share of its own.
    fn kept(&self, of: &Tested) -> u32 {
        if of.is_minor() || of.asked == 0 {
            return 0;
        }
        let waiting = self.tested.iter().filter(|t| t.is_open() && !t.is_minor() && t.asked == 0);
        u32::try_from(waiting.count()).unwrap_or(u32::MAX).saturating_add(self.unended)
    }

    /// When to call next, if nothing else happens.
    pub(super) fn wakes(&self) -> Option<Mono> {
        let is_free = self.calling.is_none() && !self.is_queued;
        self.next().filter(|_| is_free).map(|_| self.held_until)
    }

    /// Whether results of this kind may still be found.
    pub(super) fn are_awaited(&self, kind: Kind) -> bool {
        let is_of_kind = |t: &Tested| t.is_minor() == (kind == Kind::Counts);
        self.tested.iter().any(|t| t.is_open() && is_of_kind(t))
    }

    /// Whether names of failed tests are known that are not told.
    pub(super) fn has_news(&self) -> bool {
        self.tested.iter().any(|tested| !tested.has_passed && tested.has_news())
    }

    /// Gives up what was not found yet.
    fn give_up(&mut self, which: impl Fn(&Tested) -> bool) {
        self.tested.iter_mut().filter(|tested| which(tested)).for_each(Tested::end);
    }

    /// Gives up what did not pass and is still sought, and says so where nothing was read.
    fn run_out_of_time(&mut self) {
        let open = |tested: &&mut Tested| !tested.has_passed && tested.search != Search::Done;
        for tested in self.tested.iter_mut().filter(open) {
            tested.end();
            if tested.report.is_none() && tested.note.is_none() {
                let within = in_words(OWED);
                tested.note = Some(format!("its test reports could not be read within {within}"));
            }
        }
    }

    /// Notes that there is room for the call that waited for it.
    pub(super) fn take_room(&mut self) {
        self.is_queued = false;
    }

    /// Starts the next call, if there is room. If `others_wait`, their turn is first. Returns it, or whether it waits for room from
    /// now on.
    pub(super) fn act(
        &mut self,
        cx: &mut LogCx<'_>,
        pending: &Pending,
        others_wait: bool,
    ) -> (Option<Call>, bool) {
        if self.calling.is_some() || self.is_queued || cx.now.mono < self.held_until {
            return (None, false);
        }
        if !may_look(pending) {
            self.give_up(|_| true);
        } else if pending.decided().is_some_and(|decided| !decided.next.is_before_lines()) {
            // After the last lines only names are told.
            self.give_up(|tested| tested.has_passed);
        }
        while let Some(at) = self.next() {
            match (cx.space)(Room::Results, &pending.callback) {
                Space::Free if !others_wait => {}
                Space::Free | Space::Full => {
                    self.is_queued = true;
                    return (None, true);
                }
                Space::Quiet(until) => {
                    self.held_until = until;
                    return (None, false);
                }
            }
            if let Some(request) = self.request(cx.config, at, (cx.name)()) {
                let Some(Calling { id, .. }) = self.calling else { break };
                return (Some(Call { id, room: Room::Results, request, report: None }), false);
            }
        }
        (None, false)
    }

    /// The next call for the execution at this place; `None` if there is nothing more to do for it.
    fn request(&mut self, config: &Config, at: usize, id: CallId) -> Option<Request> {
        let most = config.checks.test_files;
        let kept = self.kept(self.tested.get(at)?).min(most);
        let tested = self.tested.get_mut(at)?;
        // Executions that passed leave half for those that may still fail.
        let share = if tested.is_minor() { 2 } else { 1 };
        let files = most.div_ceil(share).min(most.saturating_sub(share - 1)).saturating_sub(kept);
        let of_kept = (MAX_TOTAL * u64::from(kept)).checked_div(u64::from(most)).unwrap_or_default();
        let bytes = (MAX_TOTAL / u64::from(share)).saturating_sub(of_kept);
        let fits = |file: &File| self.bytes.saturating_add(file.size) <= bytes;
        let (file, request) = match &mut tested.search {
            _ if self.files >= files => (None, None),
            Search::List if self.lists >= MAX_LISTS => (None, None),
            Search::List => (None, Some(testkube::list_artifacts(&config.testkube, &tested.id))),
            Search::Read(left) => {
                let best = left.iter().rposition(fits).map(|best| left.remove(best));
                let most = usize::try_from(MAX_FILE).unwrap_or(usize::MAX);
                let request = best
                    .as_ref()
                    .map(|file| testkube::get_artifact(&config.testkube, &tested.id, &file.name, most));
                (best, request)
            }
            Search::Done => (None, None),
        };
        let Some(request) = request else {
            let is_unread = match &tested.search {
                Search::List => true,
                Search::Read(left) => tested.read == 0 && !left.is_empty(),
                Search::Done => false,
            };
            if is_unread && !tested.has_passed {
                tested.note = Some(format!(
                    "its test reports are not read: the limit of {most} files and {} MiB for this check is reached ({} files read; checks.test_results.files)",
                    MAX_TOTAL >> 20,
                    self.files
                ));
            }
            tested.end();
            return None;
        };
        match &file {
            None => self.lists = self.lists.saturating_add(1),
            Some(file) => {
                tested.asked = tested.asked.saturating_add(1);
                self.files = self.files.saturating_add(1);
                self.bytes = self.bytes.saturating_add(file.size);
            }
        }
        self.calling = Some(Calling { id, of: tested.id.clone(), file });
        Some(Request { cluster: config.artifacts.cluster.clone(), timeout: TIMEOUT, ..request })
    }

    /// Notes that a call was not started, because another context leads by now: it is to be made yet.
    pub(super) fn not_started(&mut self, id: CallId) {
        let Some(Calling { of, file, .. }) = self.calling.take_if(|calling| calling.id == id) else { return };
        let Some(file) = file else {
            self.lists = self.lists.saturating_sub(1);
            return;
        };
        self.files = self.files.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(file.size);
        let tested = self.tested.iter_mut().find(|tested| tested.id == of);
        if let Some(Tested { search: Search::Read(left), asked, .. }) = tested {
            *asked = asked.saturating_sub(1);
            left.push(file);
        }
    }

    /// Takes the outcome of a call. Returns whether it was awaited.
    pub(super) fn answered(&mut self, now: Mono, id: CallId, outcome: &CallOutcome) -> bool {
        let Some(Calling { of, file, .. }) = self.calling.take_if(|calling| calling.id == id) else {
            return false;
        };
        let Some(tested) = self.tested.iter_mut().find(|tested| tested.id == of) else { return true };
        let answer = match (&file, outcome) {
            (_, CallOutcome::Failed(fault)) => Err(fault.clone()),
            (None, CallOutcome::Response(response)) => testkube::artifacts(response).map(|list| {
                if tested.search == Search::List {
                    tested.choose(list)
                }
            }),
            (Some(file), CallOutcome::Response(response)) => {
                // An execution about which Testkube has changed its mind is listed anew.
                let is_awaited = matches!(tested.search, Search::Read(_));
                body(response).map(|body| {
                    if is_awaited {
                        tested.look(&file.name, body)
                    }
                })
            }
        };
        match answer {
            Ok(()) => tested.tries = 0,
            Err(fault) => {
                tested.tries = tested.tries.saturating_add(1);
                let is_final = tested.has_passed
                    || tested.tries >= TRIES
                    || matches!(fault, Fault::TooLarge(_) | Fault::Status(404));
                if is_final {
                    tested.give_up(file.as_ref().map(|file| file.name.as_str()), &fault);
                } else {
                    self.held_until = now.plus(PAUSE);
                    if let (Some(file), Search::Read(left)) = (file, &mut tested.search) {
                        left.push(File { size: 0, ..file });
                    }
                }
            }
        }
        if tested.search == Search::Read(Vec::new()) {
            tested.end();
        }
        true
    }

    /// Adds the lines that are not told. Returns the executions whose results the log then tells.
    pub(super) fn lines(
        &self,
        config: &Config,
        pending: &Pending,
        lines: &mut Vec<(Mark, String)>,
    ) -> Vec<u32> {
        let tag = pending.ask.as_ref().map(|ask| &ask.tag);
        let new = self.tested.iter().filter(|tested| tested.has_news());
        let told = new.map(|tested| {
            let file = tested.file.as_ref().zip(tag);
            let link = file.and_then(|(file, tag)| config.public_file(tag, &tested.name, file));
            tested.lines(link.filter(|link| link.len() <= MAX_LINK), lines);
            tested.print
        });
        let mut all: Vec<u32> = told.collect();
        all.extend(self.tested.iter().filter(|tested| tested.is_told).map(|tested| tested.print));
        for print in &self.told_before {
            if !all.contains(print) {
                all.push(*print);
            }
        }
        all.truncate(MAX_FAILED + MAX_PASSED);
        all
    }

    /// Notes that the lines about these executions are in the log.
    pub(super) fn note_told(&mut self, told: &[u32]) {
        self.tested.iter_mut().filter(|t| told.contains(&t.print)).for_each(Tested::note_told);
    }

    /// Notes that what is known now is in the last lines, which are under way.
    pub(super) fn offer(&mut self) {
        self.tested.iter_mut().for_each(|tested| tested.is_offered = tested.has_news());
    }

    /// Notes that the last lines were taken.
    pub(super) fn note_taken(&mut self) {
        self.tested.iter_mut().filter(|tested| tested.is_offered).for_each(Tested::note_told);
    }

    /// ` Failed tests: CartTest › adds, CartTest › removes and 40 more.`, or nothing.
    pub(super) fn failed_in_words(&self) -> String {
        let (mut names, mut all) = (Vec::new(), 0u64);
        for tested in &self.tested {
            let (first, of_it) = tested.failed();
            names.extend(first);
            all = all.saturating_add(of_it);
        }
        names.truncate(MAX_NAMED);
        let more = all.saturating_sub(names.len() as u64);
        match (names.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" Failed tests: {}.", listed(names, MAX_NAMED)),
            (false, more) => format!(" Failed tests: {} and {more} more.", listed(names, MAX_NAMED)),
        }
    }
}

/// Maximum length of a link in a line, in bytes.
const MAX_LINK: usize = 700;

/// Whether results are looked for in this state of a check.
fn may_look(pending: &Pending) -> bool {
    let is_wanted = match &pending.phase {
        Phase::Watching(_) => true,
        Phase::Decided(decided) => match decided.outcome {
            Outcome::Failed => true,
            outcome => outcome == Outcome::Passed && decided.next.is_before_lines(),
        },
        Phase::Owing(owing) => owing.decided.owed.results || owing.decided.owed.lines,
        _ => false,
    };
    is_wanted && pending.falls.count == 0 && pending.log != super::Log::Off
}

/// The body of a 200.
fn body(response: &Response) -> Result<&[u8], Fault> {
    match &response.body {
        _ if response.status != 200 || response.from_envoy => Err(response.fault()),
        Ok(body) => Ok(body),
        Err(size) => Err(Fault::TooLarge(*size)),
    }
}

impl Tested {
    fn choose(&mut self, list: Vec<Artifact>) {
        let choice = choice::choose(list);
        self.all = choice.all;
        if let Some(Artifact { name, size }) = choice.too_large {
            self.note = Some(too_large(&name, size));
        }
        self.search = Search::Read(choice.files);
    }

    /// Reads a file. What is no report is passed over.
    fn look(&mut self, file: &str, body: &[u8]) {
        if !junit::looks_like(body) {
            self.all = self.all.saturating_sub(1);
            return;
        }
        // Only of several files, some may say the same.
        let report = match self.all {
            0 | 1 => junit::read(body),
            _ => junit::read_one_of(body, &mut self.suites),
        };
        match report {
            Ok(report) => self.add(file, report),
            Err(why) => self.note = Some(format!("{} is not read: {why}", one_line(file, MAX_SHOWN))),
        }
    }

    /// Gives up a file, or the list, after a fault.
    fn give_up(&mut self, file: Option<&str>, fault: &Fault) {
        self.tries = 0;
        match (file, fault) {
            (Some(file), Fault::TooLarge(size)) => {
                self.note = Some(too_large(file, u64::try_from(*size).ok()));
            }
            (Some(file), _) => {
                self.note = Some(format!("{} could not be read ({fault})", one_line(file, MAX_SHOWN)));
            }
            (None, _) => {
                self.end();
                self.note = (!self.has_passed).then(|| {
                    format!("its artifacts could not be listed ({fault}), so its test reports are not read")
                });
            }
        }
    }
}

fn too_large(file: &str, size: Option<u64>) -> String {
    let tenths = size.unwrap_or(2 << 30).saturating_mul(10).div_ceil(1 << 20);
    let (file, most) = (one_line(file, MAX_SHOWN), MAX_FILE >> 20);
    format!("{file} is not read: it has {}.{} MiB; the limit is {most} MiB", tenths / 10, tenths % 10)
}
