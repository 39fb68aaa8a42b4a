//! The list of executions: filters, order, pages, and the counters that are wrong.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::execution::{State, Status};
use super::selector::{Database, TagSelector};
use super::wire::Totals;
use crate::timestamp;

const DAY: i64 = 86_400_000;

/// One page of executions, newest first, with Testkube's counters.
pub(crate) struct Page<'a> {
    pub(crate) totals: Totals,
    pub(crate) filtered: Totals,
    pub(crate) results: Vec<State<'a>>,
}

/// What `getWorkflowExecutionsFilterFromRequest` makes of a query.
pub(crate) struct Filter {
    database: Database,
    workflow: Option<String>,
    tags: Option<TagSelector>,
    labels: BTreeMap<String, String>,
    statuses: Option<Vec<Status>>,
    text: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    actor_name: Option<String>,
    actor_kind: Option<String>,
    page: i64,
    page_size: i64,
    has_nul: bool,
}

/// The order among equal `scheduledAt`: the sort has no tie-break.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tie {
    /// A different order with each call, by its number, as the database may choose.
    Call(u64),
    /// As PostgreSQL was seen to do it: the same as long as nothing changes; a change of its status rewrites a row, and so
    /// moves it behind the others.
    LastWritten,
}

impl Tie {
    fn place(self, state: &State) -> (i64, u64) {
        match self {
            Tie::Call(number) => (0, shuffle(&state.execution.id, number)),
            Tie::LastWritten => (state.status_at, shuffle(&state.execution.id, 0)),
        }
    }
}

impl Filter {
    /// Reads a raw query; silently drops what it cannot read, as Testkube does.
    pub(crate) fn parse(database: Database, workflow: Option<&str>, query: &str, now: i64) -> Self {
        let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let get = |name: &str| {
            parameters.iter().find(|(n, _)| n == name).map(|(_, value)| &**value).filter(|v| !v.is_empty())
        };
        let number = |name: &str| get(name).and_then(|text| text.parse::<i64>().ok());
        let since = get("startDate").and_then(timestamp::parse).map(|(at, _)| at);
        let last = number("last").filter(|days| *days > 0).map(|days| now - days * DAY);
        let until = get("endDate").and_then(timestamp::parse);
        Self {
            database,
            workflow: workflow.map(str::to_owned),
            tags: get("tagSelector").and_then(|text| TagSelector::parse(database, text)),
            labels: labels(get("selector").unwrap_or("")),
            // `WithStatus`: any one unknown item drops the whole filter.
            statuses: get("status").and_then(|text| text.split(',').map(Status::known).collect()),
            text: get("textSearch").map(str::to_owned),
            since: since.max(last),
            until: until.map(|(at, date_only)| if date_only { at + DAY - 1 } else { at }),
            actor_name: get("actorName").map(str::to_owned),
            actor_kind: get("actorType").map(str::to_owned),
            page: number("page").unwrap_or(0),
            has_nul: get("tagSelector").is_some_and(|text| text.contains('\0')),
            page_size: number("pageSize").filter(|size| *size != 0).unwrap_or(100),
        }
    }

    /// The page of what is visible; an error is the database's text, which becomes a 502.
    pub(crate) fn apply<'a>(&self, visible: &[State<'a>], tie: Tie) -> Result<Page<'a>, String> {
        if self.database == Database::Postgres {
            // Both are int32 on their way to the database.
            #[allow(clippy::cast_possible_truncation)] // What Go does too.
            let (page, size) = (self.page as i32, self.page_size as i32);
            if page.wrapping_mul(size) < 0 {
                return Err("ERROR: OFFSET must not be negative (SQLSTATE 2201X)".into());
            }
            if size < 0 {
                return Err("ERROR: LIMIT must not be negative (SQLSTATE 2201W)".into());
            }
            if self.has_nul {
                return Err(
                    "ERROR: invalid byte sequence for encoding \"UTF8\": 0x00 (SQLSTATE 22021)".into()
                );
            }
        }
        let search = self.search()?;
        let mut all: Vec<State> =
            visible.iter().copied().filter(|state| self.is_of_workflow(state)).collect();
        let newest_first = |states: &mut Vec<State>| {
            states.sort_by_cached_key(|state| (-state.execution.scheduled(), tie.place(state)));
        };
        let mut found: Vec<State> =
            all.iter().copied().filter(|s| self.matches(s) && search.finds(&s.execution.name)).collect();
        newest_first(&mut found);
        // In Mongo a PageSize-100 filter reaches `$limit` of the unfiltered count.
        if self.database == Database::Mongo {
            newest_first(&mut all);
            all.truncate(100);
        }
        Ok(Page { totals: totals(&all), filtered: totals(&found), results: self.page_of(found) })
    }

    fn page_of<'a>(&self, found: Vec<State<'a>>) -> Vec<State<'a>> {
        let Ok(size) = usize::try_from(self.page_size) else { return found };
        let skipped = usize::try_from(self.page).unwrap_or(0).saturating_mul(size);
        found.into_iter().skip(skipped).take(size).collect()
    }

    fn search(&self) -> Result<Search, String> {
        match (&self.text, self.database) {
            (None, _) => Ok(Search::Anything),
            (Some(text), Database::Mongo) => {
                let pattern = RegexBuilder::new(text).case_insensitive(true).build();
                pattern
                    .map(Search::Pattern)
                    .map_err(|_| "(Location51091) Regular expression is invalid".into())
            }
            (Some(text), Database::Postgres) => Ok(Search::Contains(text.to_lowercase())),
        }
    }

    fn is_of_workflow(&self, state: &State) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == state.execution.workflow)
    }

    fn matches(&self, state: &State) -> bool {
        let execution = state.execution;
        let scheduled = execution.scheduled();
        self.tags.as_ref().is_none_or(|tags| tags.matches(state))
            && self.labels.iter().all(|(key, value)| execution.labels.get(key) == Some(value))
            && self.statuses.as_ref().is_none_or(|statuses| statuses.contains(state.status))
            && self.since.is_none_or(|since| scheduled >= since)
            && self.until.is_none_or(|until| scheduled <= until)
            && self.actor_name.as_ref().is_none_or(|name| *name == execution.actor.name)
            && self.actor_kind.as_ref().is_none_or(|kind| *kind == execution.actor.kind)
    }
}

/// `textSearch`: a regular expression in Mongo, `ILIKE` in Postgres; both look at the execution's name.
enum Search {
    Anything,
    Pattern(Regex),
    Contains(String),
}

impl Search {
    fn finds(&self, name: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Pattern(pattern) => pattern.is_match(name),
            Self::Contains(text) => name.to_lowercase().contains(text),
        }
    }
}

fn labels(selector: &str) -> BTreeMap<String, String> {
    let pairs = selector.split(',').filter_map(|item| item.split_once('='));
    pairs.map(|(key, value)| (key.trim().into(), value.trim().into())).collect()
}

/// The counters of `accumulateTotal`: each status of a group *assigns* the group's counter, so the last one wins;
/// only `results` is a sum.
fn totals(states: &[State]) -> Totals {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for state in states {
        *counts.entry(state.status.as_str()).or_default() += 1;
    }
    let mut totals = Totals::default();
    for (status, count) in counts {
        totals.results += count;
        match status {
            "queued" | "assigned" | "starting" | "scheduling" => totals.queued = count,
            "running" | "pausing" | "paused" | "resuming" | "stopping" => totals.running = count,
            "failed" | "aborted" | "canceled" => totals.failed = count,
            "passed" => totals.passed = count,
            _ => {}
        }
    }
    totals
}

/// An order that depends on the call (FNV-1a over the call's number and the id).
fn shuffle(id: &str, tie: u64) -> u64 {
    let bytes = tie.to_le_bytes().into_iter().chain(id.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::super::execution::{Execution, execution};
    use super::*;

    fn fleet() -> Vec<Execution> {
        let statuses = [Status::Failed, Status::Aborted, Status::Canceled, Status::Passed, Status::Running];
        let build = |(index, status): (usize, Status)| {
            let mut one = execution("shop").tag("run", "1").at(1000 * index as i64, status);
            one.id = format!("{index:024x}");
            one.name = format!("shop-{index}");
            one
        };
        statuses.into_iter().enumerate().map(build).collect()
    }

    fn names(database: Database, query: &str) -> Result<Vec<String>, String> {
        let fleet = fleet();
        let states: Vec<_> = fleet.iter().filter_map(|one| one.state(9000)).collect();
        let page = Filter::parse(database, None, query, 9000).apply(&states, Tie::Call(0))?;
        Ok(page.results.iter().map(|state| state.execution.name.clone()).collect())
    }

    #[test]
    fn the_newest_comes_first_and_pages_cut_the_rest() {
        let all = ["shop-4", "shop-3", "shop-2", "shop-1", "shop-0"];
        assert_eq!(names(Database::Mongo, "").unwrap(), all);
        assert_eq!(names(Database::Mongo, "pageSize=2&page=1").unwrap(), all[2..4]);
        assert_eq!(names(Database::Mongo, "pageSize=0").unwrap(), all);
        assert_eq!(names(Database::Mongo, "pageSize=-1&page=-3").unwrap(), all);
    }

    #[test]
    fn negative_paging_is_an_error_of_postgres_only() {
        assert!(names(Database::Postgres, "page=-1").is_err());
        assert!(names(Database::Postgres, "pageSize=-1").is_err());
    }

    #[test]
    fn what_is_beyond_32_bits_is_an_error_of_postgres_or_another_number() {
        for (query, is_good) in [
            ("pageSize=2147483648", false),
            ("pageSize=99999999999", true),
            ("page=30000000&pageSize=100", false),
            ("page=1000&pageSize=100", true),
            ("tagSelector=a%00b%3D1", false),
        ] {
            assert_eq!(names(Database::Postgres, query).is_ok(), is_good, "{query}");
        }
    }

    #[test]
    fn a_row_whose_status_changes_moves_among_those_of_its_time() {
        let instant = |index: i64| {
            let mut one = execution("shop").at(0, Status::Running);
            one.id = format!("{index:024x}");
            one
        };
        let fleet: Vec<Execution> = (0..60).map(instant).collect();
        let page = |fleet: &[Execution], number: usize, now| -> Vec<String> {
            let states: Vec<_> = fleet.iter().filter_map(|one| one.state(now)).collect();
            let query = format!("pageSize=10&page={number}");
            let filter = Filter::parse(Database::Postgres, None, &query, now);
            let page = filter.apply(&states, Tie::LastWritten).unwrap();
            page.results.iter().map(|state| state.execution.id.clone()).collect()
        };
        let read = |change: Option<usize>| {
            let mut fleet = fleet.clone();
            let mut ids = std::collections::BTreeSet::new();
            for number in 0..6 {
                ids.extend(page(&fleet, number, 9));
                if let Some(changed) = change.filter(|_| number == 0) {
                    fleet[changed] = fleet[changed].clone().at(5, Status::Passed);
                }
            }
            ids.len()
        };
        assert_eq!(read(None), 60);
        assert!(
            (0..60).any(|changed| read(Some(changed)) < 60),
            "a row moved to a page that was read already"
        );
    }

    #[test]
    fn one_unknown_status_drops_the_whole_filter() {
        assert_eq!(names(Database::Postgres, "status=failed,passed").unwrap(), ["shop-3", "shop-0"]);
        assert_eq!(names(Database::Postgres, "status=failed,pending").unwrap().len(), 5);
        assert_eq!(names(Database::Postgres, "status=Failed").unwrap().len(), 5);
    }

    #[test]
    fn dates_are_inclusive_and_a_bare_end_date_is_the_end_of_that_day() {
        let between = "startDate=1970-01-01T00:00:01Z&endDate=1970-01-01T00:00:03Z";
        assert_eq!(names(Database::Mongo, between).unwrap(), ["shop-3", "shop-2", "shop-1"]);
        assert_eq!(names(Database::Mongo, "endDate=1970-01-01").unwrap().len(), 5);
        assert_eq!(names(Database::Mongo, "startDate=1970-01-02").unwrap().len(), 0);
        assert_eq!(names(Database::Mongo, "startDate=soon").unwrap().len(), 5);
    }

    #[test]
    fn a_counter_holds_the_last_status_of_its_group() {
        let fleet = fleet();
        let states: Vec<_> = fleet.iter().filter_map(|one| one.state(9000)).collect();
        let counted = totals(&states);
        assert_eq!((counted.results, counted.failed, counted.passed, counted.running), (5, 1, 1, 1));
    }

    #[test]
    fn equal_times_come_in_an_order_that_differs_between_calls() {
        let mut fleet = fleet();
        for one in &mut fleet {
            *one = one.clone().scheduled_at(5);
        }
        let states: Vec<_> = fleet.iter().filter_map(|one| one.state(9000)).collect();
        let filter = Filter::parse(Database::Mongo, None, "", 9000);
        let order = |tie| -> Vec<String> {
            filter
                .apply(&states, Tie::Call(tie))
                .unwrap()
                .results
                .iter()
                .map(|s| s.execution.id.clone())
                .collect()
        };
        assert!((1..9).any(|tie| order(tie) != order(0)));
        assert_eq!(order(3), order(3));
    }
}
