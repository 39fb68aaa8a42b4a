//! Suites that stand in several reports of an execution.

use super::producers::{fixture, names};
use super::{counted, told};
use crate::wire::junit::{Report, Suites, read, read_one_of};

/// Reads these reports of one execution.
fn all(bodies: &[&str]) -> Report {
    let (mut sum, mut suites) = (Report::default(), Suites::default());
    bodies.iter().for_each(|body| sum.add(read_one_of(body.as_bytes(), &mut suites).expect("a report")));
    sum
}

const CART: &str = "<testsuite name='shop.Cart' tests='2' failures='1' timestamp='2026-01-23T16:44:01'>\
    <testcase name='adds' classname='shop.Cart' time='0.012'/>\
    <testcase name='says &quot;no&quot;' classname='shop.Cart' time='0.001'><failure message='no'/></testcase></testsuite>";

/// The same as Ant's aggregation writes it: another name, other suites around it, attributes in another order.
const ALL: &str = "<testsuites><testsuite id='0' name='Cart' package='shop' failures='1' tests='2' timestamp='2026-01-23T16:44:01'>\
    <testcase classname='shop.Cart' name='says \"no\"' time='0.001'><failure>no</failure></testcase>\
    <testcase classname='shop.Cart' name='adds' time='0.012'><system-out/></testcase></testsuite>\
    <testsuite id='1' name='Stock' package='shop' tests='1' timestamp='2026-01-23T16:44:02'>\
    <testcase classname='shop.Stock' name='counts' time='0.2'/></testsuite></testsuites>";

#[test]
fn a_suite_in_two_reports_is_counted_once() {
    for bodies in [[CART, ALL], [ALL, CART]] {
        let sum = all(&bodies);
        assert_eq!(counted(sum.counts), [3, 2, 1, 0, 0, 0]);
        assert_eq!(sum.failures.iter().map(told).collect::<Vec<_>>(), ["shop.Cart / says \"no\": no"]);
    }
    assert_eq!(counted(all(&[CART, CART, ALL, ALL, CART]).counts), [3, 2, 1, 0, 0, 0]);
}

#[test]
fn a_report_is_counted_once_if_it_was_collected_twice() {
    for name in names() {
        let body = fixture(&name);
        let (once, mut suites) = (read(&body).expect("a report"), Suites::default());
        assert_eq!(read_one_of(&body, &mut suites).as_ref(), Ok(&once), "{name}");
        let again = read_one_of(&body, &mut suites).expect("a report");
        // Without any time, nothing tells it from another run of the same tests.
        let is_dated = !matches!(name.as_str(), "k6");
        assert_eq!(again.counts.tests == 0, is_dated, "{name}: {:?}", again.counts);
    }
}

#[test]
fn other_results_of_the_same_tests_are_counted() {
    let other = |from: &str, to: &str| {
        assert!(CART.contains(from));
        CART.replace(from, to)
    };
    for (from, to) in [
        ("T16:44:01", "T16:44:02"),
        ("0.012", "0.013"),
        ("name='adds'", "name='takes'"),
        ("classname='shop.Cart' time='0.012'", "classname='b.Cart' time='0.012'"),
        ("<failure message='no'/>", ""),
        ("<failure message='no'/>", "<error message='no'/>"),
        ("<testcase name='adds'", "<testcase name='more'/><testcase name='adds'"),
    ] {
        let other = other(from, to);
        let (one, two) = (counted(all(&[CART]).counts), counted(all(&[&other]).counts));
        assert_eq!(counted(all(&[CART, &other]).counts)[0], one[0] + two[0], "{from} {to}");
    }
}

#[test]
fn what_belongs_to_one_test_is_not_taken_for_what_belongs_to_another() {
    let suite = |tests: [(&str, &str, &str); 2]| {
        let case =
            |(name, time, inside)| format!("<testcase name='{name}' time='{time}'>{inside}</testcase>");
        format!("<testsuite>{}</testsuite>", tests.map(case).concat())
    };
    let first = suite([("a", "1", "<failure/>"), ("b", "2", "")]);
    for other in [
        suite([("a", "1", ""), ("b", "2", "<failure/>")]),
        suite([("a", "2", "<failure/>"), ("b", "1", "")]),
        suite([("b", "1", "<failure/>"), ("a", "2", "")]),
    ] {
        assert_eq!(counted(all(&[&first, &other]).counts), [4, 2, 2, 0, 0, 0], "{other}");
    }
    assert_eq!(counted(all(&[&first, &suite([("b", "2", ""), ("a", "1", "<failure/>")])]).counts)[0], 2);
}

#[test]
fn suites_without_any_time_may_be_other_runs() {
    let undated = "<testsuite name='s'><testcase name='t' time='0.000'><failure/></testcase></testsuite>";
    assert_eq!(counted(all(&[undated, undated]).counts), [2, 0, 2, 0, 0, 0]);
    let empty = "<testsuite name='s' timestamp='2026-01-23T16:44:01' failures='0'/>";
    assert_eq!(counted(all(&[empty, empty]).counts), [0; 6]);
}

#[test]
fn a_suite_around_one_that_was_told_has_not_failed_itself() {
    let around =
        format!("<testsuite name='all' failures='1'>{CART}<testcase name='own' time='1'/></testsuite>");
    assert_eq!(counted(all(&[CART, &around]).counts), [3, 2, 1, 0, 0, 0]);
    let failed = format!("<testsuite name='all'>{CART}<failure message='too late'/></testsuite>");
    assert_eq!(counted(all(&[CART, &failed]).counts), [3, 1, 2, 0, 0, 0]);
}

#[test]
fn a_report_that_is_broken_tells_no_suites() {
    let mut suites = Suites::default();
    assert!(read_one_of(format!("<testsuites>{CART}").as_bytes(), &mut suites).is_err());
    assert_eq!(read_one_of(CART.as_bytes(), &mut suites).expect("a report").counts.tests, 2);
}

#[test]
fn failures_that_were_told_leave_room_for_others() {
    let case = |n: u32| format!("<testcase name='{n}' time='1'><failure/></testcase>");
    let suite = |from, to| format!("<testsuite>{}</testsuite>", (from..to).map(case).collect::<String>());
    let (first, second) = (suite(0, 30), suite(30, 33));
    let mut suites = Suites::default();
    read_one_of(first.as_bytes(), &mut suites).expect("a report");
    let both = format!("<testsuites>{first}{second}</testsuites>");
    let report = read_one_of(both.as_bytes(), &mut suites).expect("a report");
    assert_eq!(counted(report.counts), [3, 0, 3, 0, 0, 0]);
    assert_eq!(
        report.failures.iter().map(|failure| failure.name.as_str()).collect::<Vec<_>>(),
        ["30", "31", "32"]
    );
}

#[test]
fn of_many_suites_two_hundred_are_remembered() {
    let suite = |n| format!("<testsuite timestamp='{n}'><testcase name='t'/></testsuite>");
    let body = format!("<testsuites>{}</testsuites>", (0..30_000).map(suite).collect::<String>());
    let mut suites = Suites::default();
    for tests in [30_000, 29_800, 29_800] {
        assert_eq!(read_one_of(body.as_bytes(), &mut suites).expect("a report").counts.tests, tests);
    }
}
