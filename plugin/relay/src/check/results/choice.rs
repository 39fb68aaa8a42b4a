//! Which of an execution's artifacts are read for the results of its tests.

use super::MAX_FILE;
use crate::collections::in_order;
use crate::wire::testkube::Artifact;

/// A file that may be a JUnit report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: String,
    /// In bytes, by the list.
    pub(super) size: u64,
}

/// The files to read of an execution.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The best last, at most [`MAX_CHOSEN`].
    pub(super) files: Vec<File>,
    /// Number of files that may be reports and are not too large.
    pub(super) all: usize,
    /// The largest of the others.
    pub(super) too_large: Option<Artifact>,
}

/// Maximum files that are remembered of one execution: no setting allows more.
const MAX_CHOSEN: usize = 20;

/// Maximum length of a name, in bytes: encoded twice it is up to nine times as long, and Testkube's server refuses
/// request heads of more than 4096 bytes.
const MAX_NAME: usize = 400;

/// Parts of names of other files in XML: coverage, linters, lists of parts.
const OTHERS: [&str; 10] = [
    "coverage",
    "cobertura",
    "jacoco",
    "clover",
    "checkstyle",
    "pmd",
    "spotbugs",
    "findbugs",
    "lint",
    "bom.xml",
];

/// Parts of paths of reports.
const REPORTS: [&str; 5] = ["test", "xunit", "surefire", "report", "result"];

/// Chooses the files that look like reports by their names, and of these the largest first: a failed test has a message.
/// Others in XML come after them. Files that are known to repeat what others say are left out.
pub(super) fn choose(list: Vec<Artifact>) -> Choice {
    let mut choice = Choice::default();
    let mut fits: Vec<(u8, File)> = Vec::new();
    let (mut has_classes, mut repeats) = (false, None);
    for artifact in list {
        let Some(rank) = rank(&artifact.name) else { continue };
        match artifact.size {
            Some(size) if size <= MAX_FILE => {
                has_classes |= rank == OF_CLASS;
                choice.all += usize::from(rank != REPEATS);
                fits.push((rank, File { name: artifact.name, size }));
            }
            _ if rank == REPEATS => repeats = Some(artifact),
            _ => {
                let is_larger = |than: &Artifact| artifact.size.is_none_or(|size| Some(size) > than.size);
                if choice.too_large.as_ref().is_none_or(is_larger) {
                    choice.too_large = Some(artifact);
                }
            }
        }
    }
    if !has_classes {
        choice.all = fits.len();
        choice.too_large = choice.too_large.or(repeats);
    }
    let of =
        |at: usize| fits.get(at).map(|(rank, file)| ((*rank).max(BY_NAME), u64::MAX - file.size, &file.name));
    let order = in_order(fits.len(), &|a, b| of(a).cmp(&of(b)));
    // What repeats others comes last.
    let best = order.into_iter().take(MAX_CHOSEN.min(choice.all));
    choice.files = best.rev().filter_map(|at| fits.get(at).map(|(_, file)| file.clone())).collect();
    choice
}

/// What looks like a report of one class by its name, and like any.
const OF_CLASS: u8 = 0;
const BY_NAME: u8 = 1;

/// What repeats the reports of classes if there are any: Ant's file of all, and the folder that TestNG writes beside
/// what Surefire and Gradle write.
const REPEATS: u8 = 4;

/// How much a file looks like a report, from the most; 2 for that by its path, 3 for other XML; `None` for what is none.
fn rank(name: &str) -> Option<u8> {
    let path = name.to_ascii_lowercase();
    let file = path.rsplit('/').next().unwrap_or_default();
    let has = |of: &str, parts: &[&str]| parts.iter().any(|part| of.contains(part));
    match () {
        () if !file.ends_with(".xml") || name.len() > MAX_NAME || path.starts_with(".testkube/") => None,
        () if file == "tests-testsuites.xml" || has(&path, &["junitreports/"]) => Some(REPEATS),
        () if file.contains("junit") => Some(BY_NAME),
        () if file == "pom.xml" || has(file, &OTHERS) => None,
        () if file.starts_with("test-") => Some(OF_CLASS),
        () if has(&path, &REPORTS) => Some(2),
        () => Some(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(files: &[(&str, Option<u64>)]) -> Vec<Artifact> {
        files.iter().map(|(name, size)| Artifact { name: (*name).into(), size: *size }).collect()
    }

    /// The chosen names, the best first.
    fn chosen(choice: &Choice) -> Vec<&str> {
        choice.files.iter().rev().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn reports_come_first_and_of_them_the_largest() {
        let choice = choose(list(&[
            ("output.xml", Some(900_000)),
            ("target/surefire-reports/TEST-b.xml", Some(9_000)),
            ("target/surefire-reports/TEST-a.xml", Some(12_000)),
            ("JUnit.XML", Some(10_000)),
            ("report.html", Some(10)),
            ("results/trace.zip", None),
        ]));
        assert_eq!(
            chosen(&choice),
            [
                "target/surefire-reports/TEST-a.xml",
                "JUnit.XML",
                "target/surefire-reports/TEST-b.xml",
                "output.xml"
            ]
        );
        assert_eq!((choice.all, choice.too_large), (4, None));
    }

    #[test]
    fn what_is_something_else_is_never_read() {
        let others = [
            "coverage.xml",
            "results/test-coverage.xml",
            "pom.xml",
            "checkstyle-result.xml",
            ".testkube/r1/junit.xml",
            "a.xml.gz",
            "xml",
        ];
        let files: Vec<_> = others.iter().map(|name| (*name, Some(10))).collect();
        assert_eq!(choose(list(&files)), Choice::default());
        let long = "x".repeat(MAX_NAME) + "junit.xml";
        assert_eq!(choose(list(&[(&long, Some(1))])), Choice::default());
    }

    #[test]
    fn of_what_is_too_large_the_largest_is_named() {
        let (most, more) = (Some(MAX_FILE), Some(MAX_FILE + 1));
        let choice = choose(list(&[("a/junit.xml", most), ("b/junit.xml", more), ("c/junit.xml", None)]));
        assert_eq!(chosen(&choice), ["a/junit.xml"]);
        assert_eq!(choice.too_large.map(|file| file.name).as_deref(), Some("c/junit.xml"));
    }

    #[test]
    fn files_that_repeat_others_are_left_out() {
        let left = |names: &[&str]| {
            let files: Vec<_> = names.iter().map(|name| (*name, Some(10))).collect();
            let choice = choose(list(&files));
            assert_eq!((choice.all, &choice.too_large), (choice.files.len(), &None), "{names:?}");
            let mut left: Vec<String> = choice.files.into_iter().map(|file| file.name).collect();
            left.sort();
            left
        };
        for (names, kept) in [
            (&["r/TEST-a.xml", "r/TESTS-TestSuites.xml"][..], &["r/TEST-a.xml"][..]),
            (&["TEST-a.xml", "TESTS-TestSuites.xml"], &["TEST-a.xml"]),
            (&["r/raw/TEST-a.xml", "r/html/TESTS-TestSuites.xml"], &["r/raw/TEST-a.xml"]),
            (&["r/TESTS-TestSuites.xml"], &["r/TESTS-TestSuites.xml"]),
            (
                &["t/surefire-reports/TEST-TestSuite.xml", "t/surefire-reports/junitreports/TEST-a.xml"],
                &["t/surefire-reports/TEST-TestSuite.xml"],
            ),
            (
                &["build/test-results/test/TEST-a.xml", "build/reports/tests/test/junitreports/TEST-a.xml"],
                &["build/test-results/test/TEST-a.xml"],
            ),
            (&["test-output/junitreports/TEST-a.xml"], &["test-output/junitreports/TEST-a.xml"]),
            (&["junitreports/TEST-a.xml", "junit.xml"], &["junit.xml", "junitreports/TEST-a.xml"]),
        ] {
            assert_eq!(left(names), kept, "{names:?}");
        }
        let large = choose(list(&[("r/TESTS-TestSuites.xml", None)]));
        assert!(large.too_large.is_some(), "{large:?}");
    }

    #[test]
    fn of_many_files_no_more_are_kept_than_may_be_read() {
        let names: Vec<String> = (0..20_000).map(|n| format!("TEST-{n}.xml")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), Some(10))).collect();
        let choice = choose(list(&files));
        assert_eq!((choice.files.len(), choice.all), (MAX_CHOSEN, 20_000));
    }
}
