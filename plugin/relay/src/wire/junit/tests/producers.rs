//! Reports that test runners wrote: `host-tests/fakes/fixtures/junit`, whose README says which and how.

use super::{counted, read, told};
use crate::wire::junit::looks_like;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../host-tests/fakes/fixtures/junit")
}

/// The producers' names, which are the files' without `.xml`.
pub(super) fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("a file").path());
    let reports = files.filter(|path| path.extension().is_some_and(|end| end == "xml"));
    let mut names: Vec<String> = reports
        .map(|path| path.file_stem().expect("a name").to_str().expect("a readable name").into())
        .collect();
    names.sort();
    names
}

/// The report of a producer.
pub(super) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name).with_extension("xml")).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A report, `tests passed failed errored skipped flaky`, and its failures.
type Row = (&'static str, [u64; 6], &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "bats",
        [4, 1, 2, 0, 1, 0],
        &[
            "shop.bats / sums up: `[ 41 -eq 42 ]' failed",
            "shop.bats / greets <&> # #vso[task.complete result=Succeeded;]: `@test \"greets <&> # #vso[task.complete result=Succeeded;]\" { printf '\\033no nam…",
        ],
    ),
    (
        "cargo-nextest",
        [4, 2, 2, 0, 0, 1],
        &[
            "shop / checkout::colours: no name # #vso[task.complete result=Succeeded;]",
            "shop / checkout::sums_up: assertion `left == right` failed: the total is wrong",
        ],
    ),
    ("ctest", [5, 1, 1, 0, 3, 0], &["sums_up / sums_up: "]),
    (
        "googletest",
        [5, 1, 2, 0, 2, 0],
        &[
            "Checkout / SumsUp: Expected equality of these values: (shop_test.cc:4)",
            "Checkout / Connects: C++ exception with description \"connection refused # #vso[task.complete result=S… (shop_test.cc:7)",
        ],
    ),
    (
        "gotestsum",
        [8, 1, 5, 0, 2, 0],
        &[
            "example.com/shop / TestSumsUp/41_<&>_42: shop_test.go:12: total = 41, want 42",
            "example.com/shop / TestSumsUp/# #vso[task.complete_result=Succeeded;]: shop_test.go:13: no name",
            "example.com/shop / TestSumsUp: ",
            "example.com/shop / TestIsFlaky: shop_test.go:21: not yet",
            "example.com/shop/broken / TestMain: FAIL example.com/shop/broken [build failed]",
        ],
    ),
    (
        "gotestsum-reruns",
        [16, 2, 12, 0, 2, 0],
        &[
            "example.com/shop / TestSumsUp/41_<&>_42: shop_test.go:12: total = 41, want 42",
            "example.com/shop / TestSumsUp/# #vso[task.complete_result=Succeeded;]: shop_test.go:13: no name",
            "example.com/shop / TestSumsUp: ",
            "example.com/shop / TestIsFlaky: shop_test.go:21: not yet",
            "example.com/shop / TestSumsUp/41_<&>_42: shop_test.go:12: total = 41, want 42",
            "example.com/shop / TestSumsUp: ",
            "example.com/shop / TestSumsUp/# #vso[task.complete_result=Succeeded;]: shop_test.go:13: no name",
            "example.com/shop / TestSumsUp: ",
            "example.com/shop / TestSumsUp/41_<&>_42: shop_test.go:12: total = 41, want 42",
            "example.com/shop / TestSumsUp: ",
        ],
    ),
    (
        "gradle",
        [4, 1, 2, 0, 1, 0],
        &[
            "shop.CheckoutTest / sumsUp: java.lang.AssertionError: the total is wrong expected:<42> but was:<41>",
            "shop.CheckoutTest / connects: java.io.IOException: connection refused # #vso[task.complete result=Succeeded;]",
        ],
    ),
    (
        "gradle-class",
        [1, 0, 1, 0, 0, 0],
        &["shop.StockTest / classMethod: java.lang.IllegalStateException: stock service: connection refused"],
    ),
    (
        "jest-junit",
        [7, 2, 3, 1, 1, 0],
        &[
            "checkout sums up / checkout sums up: Error: expect(received).toBe(expected) // Object.is equality (shop.test.js)",
            "checkout greets <&> # #vso[task.complete result=Succeeded;] / checkout greets <&> # #vso[task.complete result=Succeeded;]: Error: no name (shop.test.js)",
            "Test suite failed to run / broken.test.js: Cannot find module './missing' from 'broken.test.js' (broken.test.js)",
            "Test suite failed to run / broken.test.js: {\"code\":\"MODULE_NOT_FOUND\",\"hint\":\"\",\"requireStack\":[\"/src/broken.test.js\"],\"sib… (broken.test.js)",
        ],
    ),
    (
        "k6",
        [4, 2, 2, 0, 0, 0],
        &[
            "Unnamed folder / checks - rate>0.99: rate threshold failed: rate value: 0, passes value: 0, fails value: 3",
            "Unnamed folder / iteration_duration{scenario:default} - p(95)<0: trend threshold failed: max value: 0.055283, p(90) value: 0.045458200000000004, …",
        ],
    ),
    (
        "mocha-junit-reporter",
        [4, 1, 3, 0, 0, 0],
        &[
            "sums up / checkout sums up: 41 == 42 (/src/shop.cy.js)",
            "greets <&> # #vso[task.complete result=Succeeded;] / checkout greets <&> # #vso[task.complete result=Succeeded;]: no name (/src/shop.cy.js)",
            "\"before all\" hook: opens a session for \"never runs\" / checkout guest \"before all\" hook: opens a session for \"never runs\": session service: connection refused (/src/shop.cy.js)",
        ],
    ),
    (
        "newman",
        [5, 2, 2, 1, 0, 0],
        &[
            "CartAddsToTheCart / sums up: expected 41 to deeply equal 42",
            "CartUnreachable / answers: expected PostmanResponse{ …(5) } to have property 'code'",
            "script error # #vso[task.complete result=Succeeded;] / : ",
        ],
    ),
    (
        "node",
        [4, 1, 2, 0, 1, 0],
        &[
            "test / sums up: the total is wrong",
            "test / greets <&> # #vso[task.complete result=Succeeded;]: no nameat all",
        ],
    ),
    (
        "phpunit",
        [4, 1, 1, 1, 1, 0],
        &[
            "ShopTest / testSumsUp: the total is wrong (/src/ShopTest.php:7)",
            "ShopTest / testConnects: RuntimeException: connection refused # #vso[task.complete result=Succeeded;] (/src/ShopTest.php:9)",
        ],
    ),
    (
        "playwright",
        [5, 2, 1, 1, 1, 0],
        &[
            "shop.spec.ts / checkout › sums up: the total",
            "shop.spec.ts / checkout › greets <&> # #vso[task.complete result=Succeeded;]: no name",
        ],
    ),
    (
        "pytest",
        [10, 1, 6, 1, 2, 0],
        &[
            "test_shop.TestCheckout / test_sums_up: AssertionError: the total is wrong",
            "test_shop.TestCheckout / test_greets[<&>]: AssertionError: assert '<&>' == 'Ann'",
            "test_shop.TestCheckout / test_greets[red]: AssertionError: assert 'red' == 'Ann'",
            "test_shop.TestCheckout / test_greets[# #vso[task.complete result=Succeeded;]]: AssertionError: assert '# #vso[task.c...t=Succeeded;]' == 'Ann'",
            "test_shop.TestCheckout / test_greets[\\xfc\\u202e]: AssertionError: assert 'ü\\u202e' == 'Ann'",
            "test_shop / test_needs_stock: failed on setup with \"ConnectionError: stock service: connection refused\"",
            "test_shop / test_colours: ValueError: expected 1",
        ],
    ),
    (
        "pytest-xunit1",
        [10, 1, 6, 1, 2, 0],
        &[
            "test_shop.TestCheckout / test_sums_up: AssertionError: the total is wrong (test_shop.py:10)",
            "test_shop.TestCheckout / test_greets[<&>]: AssertionError: assert '<&>' == 'Ann' (test_shop.py:22)",
            "test_shop.TestCheckout / test_greets[red]: AssertionError: assert 'red' == 'Ann' (test_shop.py:22)",
            "test_shop.TestCheckout / test_greets[# #vso[task.complete result=Succeeded;]]: AssertionError: assert '# #vso[task.c...t=Succeeded;]' == 'Ann' (test_shop.py:22)",
            "test_shop.TestCheckout / test_greets[\\xfc\\u202e]: AssertionError: assert 'ü\\u202e' == 'Ann' (test_shop.py:22)",
            "test_shop / test_needs_stock: failed on setup with \"ConnectionError: stock service: connection refused\" (test_shop.py:26)",
            "test_shop / test_colours: ValueError: expected 1 (test_shop.py:29)",
        ],
    ),
    ("robot-framework", [4, 1, 1, 0, 2, 0], &["Shop / Sums Up The Checkout: the total is wrong: 41 != 42"]),
    (
        "rspec",
        [4, 1, 2, 0, 1, 0],
        &[
            "shop_spec / checkout sums up: the total is wrong (./shop_spec.rb)",
            "shop_spec / checkout greets <&> # #vso[task.complete result=Succeeded;]: no name (./shop_spec.rb)",
        ],
    ),
    (
        "surefire",
        [7, 2, 3, 1, 1, 1],
        &[
            "shop.CheckoutTest / greets(String)[1]: expected: <Ann> but was: <<&>>",
            "shop.CheckoutTest / greets(String)[2]: expected: <Ann> but was: <# #vso[task.complete result=Succeeded;]>",
            "shop.CheckoutTest / sumsUp: the total is wrong ==> expected: <42> but was: <41>",
            "shop.CheckoutTest / connects: connection refused",
        ],
    ),
    ("surefire-class", [1, 0, 0, 1, 0, 0], &["shop.StockTest / : stock service: connection refused"]),
    (
        "vitest",
        [5, 2, 2, 0, 1, 0],
        &[
            "shop.test.ts / checkout > sums up: expected 41 to be 42 // Object.is equality",
            "shop.test.ts / checkout > greets <&> # #vso[task.complete result=Succeeded;]: no name",
        ],
    ),
];

#[test]
fn reports_of_all_producers_are_read() {
    assert_eq!(ROWS.iter().map(|row| row.0).collect::<Vec<_>>(), names());
    for (name, counts, failures) in ROWS {
        let report = read(fixture(name));
        assert_eq!(counted(report.counts), *counts, "{name}");
        assert_eq!(report.failures.iter().map(told).collect::<Vec<_>>(), *failures, "{name}");
    }
}

#[test]
fn every_report_reads_the_same_in_utf_16_and_with_a_mark() {
    for name in names() {
        let body = fixture(&name);
        let text = String::from_utf8(body.clone()).expect("UTF-8");
        let marked = format!("\u{feff}{text}");
        let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        let expected = read(&body);
        assert!(looks_like(&body), "{name}");
        for other in [little(&text), little(&marked), big(&text), big(&marked), marked.clone().into_bytes()] {
            assert_eq!(read(&other), expected, "{name}");
            assert!(looks_like(&other), "{name}");
        }
    }
}
