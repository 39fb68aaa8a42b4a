//! Reports that are made to cost something. A reader that looked at anything more than a few times would not come to an
//! end with these sizes.

use super::counted;
use super::producers::{fixture, names};
use crate::wire::junit::xml::work;
use crate::wire::junit::{Broken, Failure, MAX_DEPTH, MAX_FAILURES, MAX_MESSAGE, MAX_NAME, Report, read};

/// The size of a large report.
const LARGE: usize = 2 << 20;

/// Reads a report. Panics if it keeps more than it may, or anything that a log could take for a command.
fn small(body: impl AsRef<[u8]>) -> Result<Report, Broken> {
    let report = read(body.as_ref())?;
    assert!(report.failures.len() <= MAX_FAILURES);
    let counts = report.counts;
    assert_eq!(counts.tests, counts.passed + counts.failed + counts.errored + counts.skipped);
    assert_eq!(report.failures.len() as u64, (counts.failed + counts.errored).min(MAX_FAILURES as u64));
    for Failure { suite, name, message, file, .. } in &report.failures {
        let names = [suite, name].into_iter().chain(file).map(|text| (text, MAX_NAME));
        for (text, most) in names.chain([(message, MAX_MESSAGE)]) {
            assert!(text.chars().count() <= most + 1 && text.capacity() <= 8 * MAX_NAME, "{text}");
            assert!(!text.contains("##") && !text.contains(char::is_control), "{text:?}");
        }
    }
    Ok(report)
}

/// `begin`, as many of `part` as a large report has room for, and `end`.
fn large(begin: &str, part: &str, end: &str) -> String {
    format!("{begin}{}{end}", part.repeat(LARGE / part.len()))
}

#[test]
fn of_a_million_tests_ten_are_kept() {
    let test = "<testcase name='t'><failure message='m'/></testcase>";
    let body = format!("<testsuite>{}</testsuite>", test.repeat(1_000_000));
    let report = small(body).expect("a report");
    assert_eq!(counted(report.counts), [1_000_000, 0, 1_000_000, 0, 0, 0]);
    assert_eq!(report.failures.len(), MAX_FAILURES);
}

#[test]
fn ten_thousand_elements_may_be_open_at_once() {
    for (open, close) in [
        ("<testsuite name='##vso[x]'>", "</testsuite>"),
        ("<testsuite><failure>", "</failure></testsuite>"),
        ("<testcase><failure>", "</failure></testcase>"),
        ("<x>", "</x>"),
    ] {
        let levels = (MAX_DEPTH - 1) / open.matches('<').count();
        let body = format!("<testsuites>{}{}</testsuites>", open.repeat(levels), close.repeat(levels));
        small(body).unwrap_or_else(|why| panic!("{open}: {why}"));
        let deeper = open.repeat(LARGE / open.len());
        assert_eq!(small(format!("<testsuites>{deeper}")), Err(Broken::TooDeep { line: 1 }), "{open}");
    }
}

#[test]
fn entities_that_grow_stay_what_they_are() {
    let laughs: String =
        (1..10).map(|i| format!("<!ENTITY l{i} '{}'>", format!("&l{};", i - 1).repeat(10))).collect();
    let body = format!(
        "<!DOCTYPE testsuite [<!ENTITY l0 'lol'>{laughs}]><testsuite name='s'><testcase name='&l9;'>\
         <failure message='&l9;&l9;'>&l9;</failure></testcase></testsuite>"
    );
    let report = small(body).expect("a report");
    assert_eq!((report.failures[0].name.as_str(), report.failures[0].message.as_str()), ("&l9;", "&l9;&l9;"));
}

#[test]
fn what_is_long_is_read_once_and_kept_in_part() {
    let test = "<testsuite name='s'><testcase name='t'>";
    let ends = "</testcase></testsuite>";
    for part in [
        "x",
        "é",
        "😀",
        "&amp;",
        "&#65;",
        "&",
        "#",
        "##vso[x]",
        "\u{1b}[",
        "\u{1b}[31m",
        "[31m",
        "[",
        "?",
        "\u{fffd}[1",
        " ",
        "\n",
        "\r\n",
        "\u{0}",
        "\u{202e}",
        "]]",
        "&#27;[1m",
        "x\n",
        "Failed\n",
        "=== \n",
        ":1\n",
    ] {
        let cases = [
            large("<testsuite name='s'><testcase name='", part, "'><failure/></testcase></testsuite>"),
            large(&format!("{test}<failure message='"), part, &format!("'/>{ends}")),
            large(&format!("{test}<failure>"), part, &format!("</failure>{ends}")),
            large(&format!("{test}<failure><![CDATA["), part, &format!("]]></failure>{ends}")),
            large(&format!("{test}<failure/><!--"), part, &format!("-->{ends}")),
            large("<!DOCTYPE x \"", part, &format!("\">{test}<failure/>{ends}")),
            large(&format!("{test}<failure "), &format!("a='{part}' "), &format!("/>{ends}")),
        ];
        for body in cases {
            let report = small(&body).unwrap_or_else(|why| panic!("{part:?} in {}…: {why}", &body[..60]));
            assert_eq!(counted(report.counts), [1, 0, 1, 0, 0, 0], "{part:?} in {}…", &body[..60]);
        }
    }
}

#[test]
fn attributes_are_looked_at_a_few_times_whatever_their_number() {
    let failures = "<testcase name='t'><failure/></testcase>".repeat(MAX_FAILURES);
    let nested = |attributes: &str| {
        let open = format!("<testsuite {attributes}>");
        let levels = (LARGE / open.len()).min(MAX_DEPTH - 4);
        format!("{}{failures}{}", open.repeat(levels), "</testsuite>".repeat(levels))
    };
    for body in [
        large("<testsuite ", "a='' ", &format!(">{failures}</testsuite>")),
        large("<testsuite ", "a='' ", &format!("x>{failures}</testsuite>")),
        large("<testsuite a", "b", &format!(">{failures}</testsuite>")),
        large("<testsuite a='", "b", &format!("'>{failures}</testsuite>")),
        large("<testsuite><testcase ", "a='' ", "><failure/></testcase></testsuite>"),
        large("<testsuite><testcase ", "a='' ", "/></testsuite>"),
        large("<testsuite>", "<testcase a='' b='' c=''/>", "</testsuite>"),
        large("<testsuite>", &format!("<testcase {}/>", "a='' ".repeat(200)), "</testsuite>"),
        nested(
            "a='' b='' c='' d='' e='' f='' g='' h='' i='' j='' k='' l='' m='' n='' o='' p='' q='' r='' s='' t=''",
        ),
        nested(&"a='' ".repeat(100)),
        nested(&"a='' ".repeat(3_000)),
        nested(&format!("a='{}'", "b".repeat(20_000))),
    ] {
        work::take();
        small(&body).unwrap_or_else(|why| panic!("{}…: {why}", &body[..60]));
        let units = work::take();
        assert!(units < 3 * body.len(), "{}…: {units} units for {} bytes", &body[..60], body.len());
    }
}

#[test]
fn of_a_long_tag_the_first_attributes_are_read() {
    let case = |attributes: &str| {
        let body = format!("<testsuite><testcase {attributes}><failure/></testcase></testsuite>");
        small(body).expect("a report").failures.remove(0)
    };
    let found = case(&format!("name='t' classname='{}' file='f'", "c".repeat(100_000)));
    assert_eq!((found.name.as_str(), found.file), ("t", None));
    assert!(found.suite.starts_with("ccc"), "{}", found.suite);
    assert_eq!(case(&format!("{}name='t'", "a='' ".repeat(63))).name, "t");
    assert_eq!(case(&format!("{}name='t'", "a='' ".repeat(64))).name, "");
    let wide = case(&format!("name='t' classname='{}'", "é".repeat(10_000)));
    assert!(wide.suite.starts_with("éé") && !wide.suite.contains('\u{fffd}'));
}

#[test]
fn what_never_ends_is_broken() {
    for part in [
        "<",
        "<a",
        "<a ",
        "<a b='",
        "<!--",
        "<![CDATA[",
        "<!DOCTYPE x [",
        "<?x",
        "&",
        "</",
        "<!",
        "<?",
        "<a b=\"'>",
        "<![",
        "<!DOCTYPE x [<!ENTITY ",
        "<testsuite",
        "<testsuite><testcase><failure>",
    ] {
        assert!(small(large("<testsuite>", part, "")).is_err(), "{part}");
        assert!(small(large("", part, "")).is_err(), "{part}");
        assert!(small(large("<testsuite><testcase ", part, "")).is_err(), "{part}");
    }
}

#[test]
fn a_report_that_was_cut_is_broken_wherever_it_was_cut() {
    for name in names() {
        let whole = fixture(&name);
        let utf_16: Vec<u8> =
            String::from_utf8_lossy(&whole).encode_utf16().flat_map(u16::to_le_bytes).collect();
        for body in [&whole, &utf_16] {
            let root = String::from_utf8_lossy(body).trim_end_matches(['\n', '\0', ' ']).len();
            for end in (0..body.len()).step_by(3) {
                match small(&body[..end]) {
                    Ok(_) => assert!(end >= root, "{name}: {end} of {root} bytes"),
                    Err(why) => assert!(end <= root, "{name}: {end} of {root} bytes: {why}"),
                }
            }
        }
    }
}
