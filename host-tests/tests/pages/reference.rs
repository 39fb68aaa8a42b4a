//! `envoy/reference.md`: each table has what the code has, and nothing else. For the table of settings see
//! [`crate::schema`].

use crate::page::{literals, names, quoted, rows, section, source, sources, text};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use testrelay::check::ReasonCode;
use testrelay::config::Config;
use testrelay::surface::route::{Route, route};

const PAGE: &str = include_str!("../../../envoy/reference.md");

/// A name of a field as a body may have it: without case, signs and prefix.
fn plain(name: &str) -> String {
    let name: String = name.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    name.to_lowercase().trim_start_matches("testrelay").to_owned()
}

/// Each field of a request and its other names, from the table in `request/field.rs`.
fn request_fields() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let code = source("request/field.rs")?;
    let (_, table) = code.split_once("const FIELDS: ").context("no table of fields")?;
    let table = table.split("\n];").next().unwrap_or_default();
    let mut fields: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in table.lines().filter(|line| line.trim_start().starts_with("(Field::")) {
        let variant = line.trim_start().split(',').next().unwrap_or_default();
        let name = literals(line).into_iter().next().context("no name")?;
        fields.insert(variant.to_owned(), (name.to_owned(), BTreeSet::from([plain(name)])));
    }
    let (_, also) = code.split_once("const ALSO: ").context("no table of further names")?;
    let also = also.split("];").next().unwrap_or_default();
    for pair in also.split("(Field::").skip(1) {
        let variant = format!("(Field::{}", pair.split(',').next().unwrap_or_default());
        let (_, more) = fields.get_mut(&variant).with_context(|| format!("no field {variant}"))?;
        more.extend(literals(pair).iter().map(|name| plain(name)));
    }
    ensure!(fields.len() > 10, "{fields:?}");
    Ok(fields.into_values().collect())
}

#[test]
fn its_request_fields_are_those_that_the_module_reads() -> Result<()> {
    let table = rows(section(PAGE, "## The request")?);
    let known = request_fields()?;
    assert_eq!(names(&table), known.keys().cloned().collect());
    for row in &table {
        let header = quoted(row[0]).pop().context("no header")?;
        let members: BTreeSet<String> = quoted(row[1]).into_iter().map(plain).collect();
        // `webhook` and `tag` are headers of their own too, and the same members.
        assert_eq!(Some(&members), known.get(header), "{header}");
        let default = quoted(row[2]);
        let is_setting = |name: &str| PAGE.contains(&format!("\n| `{name}` | "));
        assert!(default.iter().all(|name| is_setting(name)), "{header}: {default:?} is no setting");
    }
    Ok(())
}

/// What a request must be when it is one of the table's.
fn kind(route: &Route<'_>) -> Option<&'static str> {
    match route {
        Route::Check => Some("check"),
        Route::Checks(None) => Some("checks"),
        Route::Checks(Some(_)) => Some("one check"),
        Route::Page(None) => Some("page"),
        Route::Page(Some(_)) => Some("page of one check"),
        Route::Evaluate => Some("evaluation"),
        Route::Event => Some("event"),
        Route::Drain => Some("drain"),
        Route::Preflight => Some("preflight"),
        Route::Health => Some("health"),
        Route::Ready => Some("readiness"),
        Route::Artifact => Some("Testkube's own"),
        Route::Tagged(_) => Some("by tag"),
        Route::PassThrough | Route::WrongMethod(_) | Route::Traversal | Route::Blank(_) | Route::Unknown => {
            None
        }
    }
}

const KINDS: [&str; 13] = [
    "check",
    "checks",
    "one check",
    "page",
    "page of one check",
    "evaluation",
    "event",
    "drain",
    "preflight",
    "health",
    "readiness",
    "Testkube's own",
    "by tag",
];

pub(crate) fn shortest() -> Result<Config> {
    let text = r#"{"testkube": {"cluster": "t"}, "azure_devops": [{"url": "https://dev.azure.com/f", "cluster": "a"}],
        "insecure_no_auth": true}"#;
    Config::parse(text.as_bytes(), &|_| None).map_err(|error| anyhow::anyhow!("{error}"))
}

/// A path of the table with something in place of each `{…}`.
fn example(path: &str) -> String {
    let id = if path.contains("/checks/") { "0123456789abcdef" } else { "6973a5d2e1c4b0a7f3d9e202" };
    [
        ("{id}", id),
        ("{tag}", "shop-4711"),
        ("{path}", "results/junit.xml"),
        ("{name}", "results%252Fjunit.xml"),
    ]
    .iter()
    .fold(path.to_owned(), |path, (place, value)| path.replace(place, value))
}

#[test]
fn its_paths_answer_to_their_methods_and_there_are_no_others() -> Result<()> {
    let config = shortest()?;
    let surface = section(PAGE, "## HTTP surface")?.split("\n### ").next().unwrap_or_default();
    let mut methods: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for row in rows(surface) {
        let (method, path) = quoted(row[0]).pop().and_then(|cell| cell.split_once(' ')).context("no path")?;
        let own = methods.entry(example(path)).or_default();
        own.insert(method);
        if method == "GET" {
            own.insert("HEAD");
        }
    }
    let mut seen = BTreeSet::new();
    for (path, own) in &methods {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let route = route(&config, method.as_bytes(), path.as_bytes());
            match own.contains(method) {
                true => _ = seen.insert(kind(&route).with_context(|| format!("{method} {path}: {route:?}"))?),
                false => {
                    let Route::WrongMethod(allow) = route else {
                        anyhow::bail!("{method} {path}: {route:?}")
                    };
                    assert_eq!(&allow.split(", ").collect::<BTreeSet<_>>(), own, "{path}");
                }
            }
        }
    }
    assert_eq!(seen, KINDS.into_iter().collect());
    Ok(())
}

#[test]
fn its_credentials_are_those_that_the_configuration_can_allow() -> Result<()> {
    let schema: serde_json::Value = serde_json::from_str(&text("envoy/testrelay.schema.json")?)?;
    let allow = &schema["properties"]["credentials"]["items"]["properties"]["allow"]["items"]["enum"];
    let allow: BTreeSet<&str> =
        allow.as_array().context("no enum")?.iter().filter_map(|one| one.as_str()).collect();
    let surface = section(PAGE, "## HTTP surface")?.split("\n### ").next().unwrap_or_default();
    let table = rows(surface);
    let used: BTreeSet<&str> = table.iter().flat_map(|row| quoted(row[1])).collect();
    assert_eq!(used, allow);
    Ok(())
}

/// Status and title of every problem document that the sources make: `409, "Not ended"`. Where a variable has the status, the
/// statuses that the match before it names.
fn problems() -> Result<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for (_, code) in sources()? {
        let parts: Vec<&str> = code.split('"').collect();
        for pair in parts.windows(2).step_by(2) {
            let before = pair[0].trim_end().strip_suffix(',').unwrap_or_default();
            let status = &before[before.len().saturating_sub(3)..];
            let is_error = status.starts_with(['4', '5']) && status.bytes().all(|c| c.is_ascii_digit());
            if is_error && pair[1].starts_with(|c: char| c.is_ascii_uppercase()) {
                found.insert((status.to_owned(), pair[1].to_owned()));
            }
            if let Some(before) = before.strip_suffix("Reply::problem(status") {
                let (_, chosen) = before.rsplit_once("let status = match").context("no status")?;
                let arms = chosen.split("=> ").skip(1).filter_map(|arm| arm.get(..3));
                found.extend(arms.map(|status| (status.to_owned(), pair[1].to_owned())));
            }
        }
    }
    Ok(found)
}

#[test]
fn its_errors_are_those_that_the_module_answers() -> Result<()> {
    let table = rows(section(PAGE, "### Errors")?);
    let told: BTreeSet<(String, String)> =
        table.iter().filter_map(|row| Some((row[0].to_owned(), quoted(row[1]).pop()?.to_owned()))).collect();
    assert_eq!(told.len(), table.len(), "a row stands twice");
    assert_eq!(told, problems()?);
    Ok(())
}

/// The module's counters, as Envoy shows them.
pub(crate) fn metrics() -> Result<BTreeSet<String>> {
    let code = source("plugin/src/host/metrics.rs")?;
    let own =
        literals(&code).into_iter().filter(|name| name.starts_with("testrelay_") && !name.contains('{'));
    Ok(own.map(|name| format!("wasmcustom.{name}")).collect())
}

#[test]
fn its_reason_codes_are_those_of_the_code_each_with_its_verdict() -> Result<()> {
    let code = source("plugin/src/host/metrics.rs")?;
    assert!(code.contains("\"testrelay_decided_{code}\""), "the module counts no codes");
    let told: Vec<(String, String)> = rows(section(PAGE, "## Reason codes")?)
        .iter()
        .map(|row| (row[0].trim_matches('`').into(), row[1].trim_matches('`').into()))
        .collect();
    let of_code = |code: ReasonCode| (code.to_string(), code.outcome().code().to_string());
    assert_eq!(told, ReasonCode::all().map(of_code).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn its_metrics_are_those_that_the_module_defines() -> Result<()> {
    assert_eq!(names(&rows(section(PAGE, "## Metrics")?)), metrics()?);
    Ok(())
}

/// Metrics are named on other pages too, with and without Envoy's prefix.
#[test]
fn every_metric_that_a_page_names_is_defined() -> Result<()> {
    let mut known = metrics()?;
    known.extend(ReasonCode::all().map(|code| format!("wasmcustom.testrelay_decided_{code}")));
    let mut seen = 0;
    for page in crate::page::pages()? {
        let text = std::fs::read_to_string(&page)?;
        // What a release before the first one called a metric.
        let old = ["wasmcustom.testrelay_delivered_passed"];
        for name in quoted(&text).into_iter().filter_map(|code| code.split([':', ' ', '=']).next()) {
            let name = name.trim_start_matches("wasmcustom.");
            let is_name = name.starts_with("testrelay_") && !name.contains(['*', '.', '…', '<']);
            let full = format!("wasmcustom.{name}");
            if is_name && !old.contains(&full.as_str()) {
                assert!(known.contains(&full), "{}: there is no {name}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen}");
    Ok(())
}
