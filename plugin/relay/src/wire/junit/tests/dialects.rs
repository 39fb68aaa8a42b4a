//! What is read, and what is passed over.

use super::{counted, read, told};
use crate::wire::junit::{Broken, MAX_DEPTH, MAX_FAILURES, MAX_PROLOGUE, looks_like};

fn failures(body: &str) -> Vec<String> {
    read(body).failures.iter().map(told).collect()
}

fn broken(body: impl AsRef<[u8]>) -> Broken {
    crate::wire::junit::read(body.as_ref()).expect_err("not a whole report")
}

/// A report with this inside of its only test.
fn test_with(inside: &str) -> String {
    format!("<testsuite name='s'><testcase classname='c' name='t'>{inside}</testcase></testsuite>")
}

#[test]
fn a_test_is_what_its_worst_mark_says() {
    for (inside, counts) in [
        ("", [1, 1, 0, 0, 0, 0]),
        ("<system-out>x</system-out>", [1, 1, 0, 0, 0, 0]),
        ("<skipped/>", [1, 0, 0, 0, 1, 0]),
        ("<error/>", [1, 0, 0, 1, 0, 0]),
        ("<failure/>", [1, 0, 1, 0, 0, 0]),
        ("<failure/><failure/><error/>", [1, 0, 1, 0, 0, 0]),
        ("<error/><failure/><skipped/>", [1, 0, 1, 0, 0, 0]),
        ("<flakyFailure/>", [1, 1, 0, 0, 0, 1]),
        ("<flakyError/><flakyFailure/>", [1, 1, 0, 0, 0, 1]),
        ("<failure/><rerunFailure/>", [1, 0, 1, 0, 0, 0]),
        ("<error/><rerunError/>", [1, 0, 0, 1, 0, 0]),
        ("<rerunFailure/>", [1, 1, 0, 0, 0, 1]),
        ("<x:failure xmlns:x='urn:x'/>", [1, 0, 1, 0, 0, 0]),
        ("<system-out><failure/></system-out>", [1, 1, 0, 0, 0, 0]),
        ("<!-- <failure/> --><?x <failure/> ?><![CDATA[<failure/>]]>", [1, 1, 0, 0, 0, 0]),
    ] {
        assert_eq!(counted(read(test_with(inside)).counts), counts, "{inside}");
    }
}

#[test]
fn suites_are_nested_and_tests_take_the_name_of_the_innermost() {
    let report = "<testsuites><testsuite name='a' file='a.py'><testcase name='1'><failure/></testcase>\
        <testsuite name='b'><testcase name='2'><failure/></testcase></testsuite>\
        <testsuite name='c' file='c.py'><testcase name='3' line='7'><error/></testcase></testsuite>\
        <testcase name='4' classname='K' file='k.py' line='+1'><failure/></testcase></testsuite></testsuites>";
    assert_eq!(counted(read(report).counts), [4, 0, 3, 1, 0, 0]);
    assert_eq!(failures(report), ["a / 1:  (a.py)", "b / 2:  (a.py)", "c / 3:  (c.py:7)", "K / 4:  (k.py)"]);
}

#[test]
fn sums_in_attributes_are_not_counted() {
    let report = "<testsuites tests='99' failures='9'><testsuite name='s' tests='98' errors='8' failures='1'>\
        <testcase name='1'/><testcase name='2'><failure message='no'/></testcase></testsuite></testsuites>";
    assert_eq!(counted(read(report).counts), [2, 1, 1, 0, 0, 0]);
}

#[test]
fn a_suite_that_failed_itself_is_one_more_test() {
    let own = "<testsuite name='s'><testcase name='1'/><failure message='no'/><error/></testsuite>";
    assert_eq!(counted(read(own).counts), [2, 1, 1, 0, 0, 0]);
    assert_eq!(failures(own), ["s / : no"]);
    let silent = "<testsuites><testsuite name='a' errors='2' failures='0'><testsuite name='b' errors='2'>\
        <testcase name='1'/></testsuite></testsuite></testsuites>";
    assert_eq!(counted(read(silent).counts), [2, 1, 0, 1, 0, 0]);
    assert_eq!(failures(silent), ["b / : "]);
    let failed = "<testsuite name='s' failures='1' errors='1'><testcase name='1'/></testsuite>";
    assert_eq!(counted(read(failed).counts), [2, 1, 1, 0, 0, 0]);
    let skipped = "<testsuite name='s' failures='-1' errors='x'><skipped/><testcase name='1'/></testsuite>";
    assert_eq!(counted(read(skipped).counts), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn a_message_is_the_first_line_that_says_something() {
    for (inside, message) in [
        ("<failure message='a&#10;b'>c</failure>", "a"),
        ("<failure message=\"'a'\">c</failure>", "'a'"),
        ("<failure message=''>\n  \n  a  \nb</failure>", "a"),
        ("<failure>a &lt;<![CDATA[<&b>]]> &#x41;&#66;&nbsp;c & d</failure>", "a <<&b> AB&nbsp;c & d"),
        ("<failure message='&lt;&#x1F600;&unknown;&#xD800;&'>x</failure>", "<😀&unknown;&#xD800;&"),
        ("<failure>one<br/>more</failure>", "onemore"),
        ("<failure message='first'/><failure message='second'/>", "first"),
        ("<skipped message='later'/><error message='first'/>", "first"),
        ("<failure message='Failed'>=== RUN   T\n    t_test.go:3: why\n</failure>", "t_test.go:3: why"),
        ("<failure message='Failed'/>", ""),
        ("<failure message='a::b is not c'>x</failure>", "a::b is not c"),
        ("<failure message='until 12:30'>x</failure>", "until 12:30"),
        ("<failure message='a::b'>why it is</failure>", "why it is"),
        ("<failure message='a.cc:4'/>", "a.cc:4"),
        ("<failure>(in test file a.bats, line 4)\n  `false' failed</failure>", "`false' failed"),
        ("<failure>● Test suite failed to run\n\nwhy it is</failure>", "why it is"),
        ("<failure>thread 't' panicked at src/lib.rs:1:2:\nwhy it is\n</failure>", "why it is"),
        (
            "<failure>thread 't' panicked at src/lib.rs:1:2:</failure>",
            "thread 't' panicked at src/lib.rs:1:2:",
        ),
        (
            "<failure>thread 't' panicked at 'why', src/lib.rs:1:2\nnote</failure>",
            "thread 't' panicked at 'why', src/lib.rs:1:2",
        ),
    ] {
        assert_eq!(read(test_with(inside)).failures[0].message, message, "{inside}");
    }
}

#[test]
fn colours_are_taken_out_and_brackets_stay() {
    for (given, message) in [
        ("\u{1b}[31mred\u{1b}[0m text", "red text"),
        ("&#27;[1;38;5;9mred&#x1b;[m text", "red text"),
        ("#x1B[31mred#x1B[0m text", "red text"),
        ("\u{fffd}[31mred?[0m [2mtext[22m", "red text"),
        ("rate(x[5m]) [5m:1m] a[0] [message] [", "rate(x[5m]) [5m:1m] a[0] [message] ["),
        ("#\u{1b}[0m#vso[x]", "# #vso[x]"),
        ("a\tb\u{0}\u{202e}c", "a b··c"),
    ] {
        let report = test_with(&format!("<failure message=\"{given}\"/>"));
        assert_eq!(read(report).failures[0].message, message, "{given:?}");
    }
}

#[test]
fn names_are_safe_to_be_shown() {
    let report = "<testsuite><testcase classname='a&#10;##vso[x]' name='&#35;#[error]&#x202e;' file='##vso[y]'>\
        <failure message='##vso[task.complete]'/></testcase></testsuite>";
    assert_eq!(failures(report), ["a # #vso[x] / # #[error]·: # #vso[task.complete] (# #vso[y])"]);
}

#[test]
fn a_document_type_is_passed_over_and_defines_nothing() {
    let report = "<?xml version='1.0'?><!DOCTYPE testsuite SYSTEM 'file:///etc/passwd' [<!ENTITY x SYSTEM \
        'file:///etc/passwd'><!ENTITY y '<failure/>'>]><testsuite name='s'><testcase name='&x;'>&y;\
        <failure message='&y;'>&x;</failure></testcase></testsuite>";
    assert_eq!(failures(report), ["s / &x;: &y;"]);
}

#[test]
fn reports_one_after_another_are_read_as_one() {
    let one = format!("<?xml version='1.0'?>\n{}\n", test_with("<failure/>"));
    assert_eq!(counted(read(one.repeat(3)).counts), [3, 0, 3, 0, 0, 0]);
    let mut sum = read(&one);
    (0..MAX_FAILURES + 4).for_each(|_| sum.add(read(&one)));
    assert_eq!((sum.counts.failed, sum.failures.len()), (15, MAX_FAILURES));
}

#[test]
fn what_is_no_whole_report_says_why_and_where() {
    let line = |line| Broken::CutOff { line };
    for (body, why) in [
        ("", Broken::NotJunit),
        ("plain text", Broken::NotJunit),
        ("<html><testsuite/></html>", Broken::NotJunit),
        ("<testcase/>", Broken::NotJunit),
        ("<testsuite>", line(1)),
        ("<testsuite>\n<testcase", line(2)),
        ("<testsuite>\n<testcase name='a>\n</testsuite>", line(2)),
        ("<testsuite>\n\n<![CDATA[", line(3)),
        ("<testsuite>\n<!-- ", line(2)),
        ("<testsuite>\n<testcase>\n</testsuite>", Broken::Malformed { line: 3 }),
        ("<testsuite/>\n</testsuite>", Broken::Malformed { line: 2 }),
        ("<testsuite>\n<!x></testsuite>", Broken::Malformed { line: 2 }),
    ] {
        assert_eq!(broken(body), why, "{body}");
    }
    assert_eq!(broken("<testsuite>").to_string(), "it ends before its elements do (line 1)");
    let deep = "<testsuite>\n".repeat(MAX_DEPTH + 1);
    assert_eq!(broken(deep), Broken::TooDeep { line: MAX_DEPTH + 1 });
}

#[test]
fn a_report_is_recognised_by_its_beginning() {
    let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    assert!(looks_like(b"<testsuite/>") && looks_like(b"<?xml version='1.0'?>\n<testsuites>"));
    assert!(looks_like(&utf_16("<testsuites>")) && looks_like(&utf_16("\u{feff}<testsuites>")));
    let late = format!("<!--{}--><testsuite>", " ".repeat(MAX_PROLOGUE));
    for other in ["", "<", "<html>", "<test-run/>", "<coverage/>", "testsuite", late.as_str()] {
        assert!(!looks_like(other.as_bytes()), "{other}");
    }
}
