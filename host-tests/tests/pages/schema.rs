//! `envoy/testrelay.schema.json` accepts and refuses what the module's own parser does.
//!
//! Both are asked about the same values: the fields' examples, values of every other kind and length, the edges of every
//! bound. A value that only one of them takes is a mistake here, unless it stands in one of the two lists below.

mod fields;
mod repository;
mod strangers;

use crate::page::{names, rows, section};
use anyhow::{Context, Result, ensure};
use fields::{fields, placed};
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use strangers::strangers;
use testrelay::config::Config;
use testrelay::time::{in_words, parse_duration};

const REFERENCE: &str = include_str!("../../../envoy/reference.md");
const SCHEMA: &str = include_str!("../../../envoy/testrelay.schema.json");

type Change = fn(&mut Value);

/// What the parser refuses and a schema cannot say.
const ONLY_THE_PARSER_REFUSES: &[(&str, Change)] = &[
    ("two entries of azure_devops with one URL", |c| {
        c["azure_devops"] = json!([
            { "url": "https://dev.azure.com/fabrikam", "cluster": "a" },
            { "url": "https://dev.azure.com/Fabrikam/", "cluster": "b" },
        ]);
    }),
    ("a fallback_cluster that is the entry's own cluster", |c| {
        c["azure_devops"][0]["fallback_cluster"] = c["azure_devops"][0]["cluster"].clone();
    }),
    ("two credentials with one name", |c| {
        let mut other = c["credentials"][0].clone();
        other["name"] = json!("A");
        c["credentials"] = json!([c["credentials"][0], other]);
    }),
    ("a variable that is not set", |c| c["credentials"][0]["secret_env"] = json!("MISSING")),
    ("whose secret no header can carry", |c| c["credentials"][0]["secret_env"] = json!("BROKEN")),
    ("more than 64 workflows", |c| {
        let names: Vec<String> = (0..65).map(|n| format!("w{n}")).collect();
        c["checks"]["expect"] = json!(names.join(","));
    }),
    ("or 200 executions", |c| c["checks"]["expect"] = json!("a*150, b*51")),
    ("encoding them twice", |c| {
        c["azure_devops"][0]["url"] = json!("https://dev.azure.com/fabrikam/%252e%252e/contoso");
    }),
];

struct Judges {
    schema: Value,
    validator: Validator,
}

impl Judges {
    fn new() -> Result<Judges> {
        let schema: Value = serde_json::from_str(SCHEMA)?;
        let validator = jsonschema::draft7::new(&schema).context("the schema")?;
        Ok(Judges { schema, validator })
    }

    fn schema_takes(&self, configuration: &Value) -> bool {
        self.validator.is_valid(configuration)
    }

    /// Whether both take it.
    fn agree(&self, what: &str, configuration: &Value) -> Result<bool> {
        let (parser, schema) = (parsed(configuration), self.validator.validate(configuration));
        ensure!(
            parser.is_ok() == schema.is_ok(),
            "{what}: the parser says {:?}, the schema {:?}: {configuration}",
            parser.err(),
            schema.err().map(|error| format!("{}: {error}", error.instance_path()))
        );
        Ok(parser.is_ok())
    }
}

/// What a configuration means, or why it is refused. The fingerprint of its text is left out.
fn parsed(configuration: &Value) -> Result<String, String> {
    match Config::parse(configuration.to_string().as_bytes(), &environment) {
        Ok(config) => Ok(format!("{:?}", Config { fingerprint: 0, ..config })),
        Err(errors) => Err(errors.to_string()),
    }
}

/// `MISSING` is not set, `BROKEN` fits no header, every other one is a good secret.
fn environment(name: &str) -> Option<String> {
    match name {
        "MISSING" => None,
        "BROKEN" => Some("a-secret\n".into()),
        // Long enough for a password, and a key for sealed records too.
        _ => Some("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=".into()),
    }
}

/// A configuration that both take and that has every object.
fn smallest() -> Value {
    json!({
        "testkube": { "cluster": "testkube" },
        "azure_devops": [{ "url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops" }],
        "credentials": [
            { "name": "a", "kind": "basic", "username": "testrelay", "secret_env": "A", "allow": ["checks"] },
        ],
        "tag": {},
        "artifacts": {},
        "checks": { "test_results": {} },
        "store": { "kubernetes": { "cluster": "kubernetes", "namespace": "testrelay-checks" } },
    })
}

#[test]
fn it_is_a_schema_of_draft_07_and_both_take_the_smallest_configuration() -> Result<()> {
    let judges = Judges::new()?;
    assert_eq!(judges.schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert!(jsonschema::draft7::meta::is_valid(&judges.schema));
    assert!(judges.agree("the smallest", &smallest())?);
    for example in judges.schema["examples"].as_array().context("no example")? {
        assert!(judges.agree("the example of the whole", example)?);
    }
    Ok(())
}

#[test]
fn it_has_the_fields_that_the_parser_knows_and_takes_no_other() -> Result<()> {
    const STRANGE: &str = "field-of-no-version";
    let judges = Judges::new()?;
    let places = [
        "",
        "/testkube",
        "/azure_devops/0",
        "/credentials/0",
        "/tag",
        "/artifacts",
        "/checks",
        "/checks/test_results",
        "/store",
        "/store/kubernetes",
    ];
    let mut known = BTreeSet::new();
    for place in places {
        let mut configuration = smallest();
        let object = configuration.pointer_mut(place).and_then(Value::as_object_mut).context(place)?;
        object.insert(STRANGE.into(), json!(1));
        assert!(!judges.agree(place, &configuration)?, "{place}");
        let error = parsed(&configuration).err().unwrap_or_default();
        let (path, allowed) =
            error.split_once(&format!("{STRANGE}: unknown field; allowed are ")).context(error.clone())?;
        known.extend(allowed.split(", ").map(|field| format!("{}{field}", path.replace("[0]", "[]"))));
    }
    let own: BTreeSet<String> = fields(&judges.schema).into_iter().map(|field| field.path).collect();
    assert_eq!(own, known);
    Ok(())
}

#[test]
fn each_field_is_described_and_both_take_its_examples() -> Result<()> {
    let judges = Judges::new()?;
    for field in fields(&judges.schema) {
        let description = field.schema["description"].as_str().unwrap_or_default();
        assert!(description.len() > 20 && description.ends_with('.'), "{}: {description:?}", field.path);
        let examples = field.examples();
        assert!(!examples.is_empty(), "{} has no example", field.path);
        for example in examples {
            let configuration = field.with(&smallest(), example)?;
            assert!(judges.agree(&field.path, &configuration)?, "{}: {example}", field.path);
        }
    }
    Ok(())
}

#[test]
fn what_one_refuses_the_other_refuses_too() -> Result<()> {
    let judges = Judges::new()?;
    let all = fields(&judges.schema);
    let strangers = strangers(&all);
    for field in &all {
        let (mut taken, mut refused) = (0, 0);
        for value in &strangers {
            let configuration = field.with(&smallest(), value)?;
            match judges.agree(&field.path, &configuration)? {
                true => taken += 1,
                false => refused += 1,
            }
        }
        // The wrong types alone are more than ten.
        assert!(taken > 0 && refused > 10, "{}: {taken} taken, {refused} refused", field.path);
    }
    Ok(())
}

#[test]
fn both_have_the_same_lengths() -> Result<()> {
    let judges = Judges::new()?;
    for field in fields(&judges.schema) {
        for example in field.examples() {
            let grown: Vec<Value> = match example {
                Value::String(text) => (0..400).map(|n| json!(format!("{text}{}", "a".repeat(n)))).collect(),
                Value::Array(items) if items[0].is_string() => {
                    let one = items[0].as_str().unwrap_or_default();
                    let many = (0..260).map(|n| json!(vec![one; n]));
                    many.chain((0..200).map(|n| json!([format!("{one}{}", "a".repeat(n))]))).collect()
                }
                _ => continue,
            };
            for value in grown {
                judges.agree(&field.path, &field.with(&smallest(), &value)?)?;
            }
        }
    }
    Ok(())
}

#[test]
fn both_have_the_same_least_and_greatest_number() -> Result<()> {
    let judges = Judges::new()?;
    let mut seen = 0;
    for field in fields(&judges.schema).iter().filter(|field| field.schema["type"] == "integer") {
        let bound =
            |name: &str| field.schema[name].as_i64().with_context(|| format!("{}: {name}", field.path));
        let (least, greatest) = (bound("minimum")?, bound("maximum")?);
        for (number, good) in [(least, true), (least - 1, false), (greatest, true), (greatest + 1, false)] {
            let configuration = field.with(&smallest(), &json!(number))?;
            assert_eq!(judges.agree(&field.path, &configuration)?, good, "{}: {number}", field.path);
        }
        seen += 1;
    }
    assert_eq!(seen, 5);
    Ok(())
}

#[test]
fn both_have_the_same_shortest_and_longest_time() -> Result<()> {
    let judges = Judges::new()?;
    let mut seen = 0;
    for field in &fields(&judges.schema) {
        let error = parsed(&field.with(&smallest(), &json!("99999h"))?).err().unwrap_or_default();
        let Some((_, bounds)) = error.split_once("such as \"5s\", \"10m\", \"12h\", from ") else { continue };
        let (least, greatest) = bounds.split_once(" to ").context(error.clone())?;
        let (least, greatest) = (read(least)?, read(greatest)?);
        for unit in [1, 1_000, 60_000, 3_600_000] {
            let name = ["ms", "s", "m", "h"]
                [(unit > 1) as usize + (unit > 1_000) as usize + (unit > 60_000) as usize];
            for number in [least.div_ceil(unit), greatest / unit] {
                for number in number.saturating_sub(2)..number + 3 {
                    let text = format!("{number}{name}");
                    let good = (least..=greatest).contains(&(number * unit));
                    let configuration = field.with(&smallest(), &json!(text))?;
                    assert_eq!(judges.agree(&field.path, &configuration)?, good, "{}: {text}", field.path);
                }
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
    Ok(())
}

/// Milliseconds of a time as the parser's errors write it: `47h 30m`.
fn read(words: &str) -> Result<u64> {
    let parts = words.split(' ').map(|part| parse_duration(part).with_context(|| words.to_owned()));
    let sum = parts.sum::<Result<Duration>>()?;
    ensure!(in_words(sum) == words, "{words}");
    Ok(u64::try_from(sum.as_millis())?)
}

#[test]
fn what_a_schema_cannot_say_only_the_parser_refuses() -> Result<()> {
    let judges = Judges::new()?;
    for (words, change) in ONLY_THE_PARSER_REFUSES {
        let mut configuration = smallest();
        change(&mut configuration);
        assert!(
            judges.schema_takes(&configuration) && parsed(&configuration).is_err(),
            "{words}: {configuration}"
        );
    }
    Ok(())
}

#[test]
fn fields_that_need_or_exclude_each_other_do_so_for_both() -> Result<()> {
    let judges = Judges::new()?;
    let changes: [(bool, Change); 12] = [
        (true, |c| c["azure_devops"][0]["fallback_cluster"] = json!("other")),
        (false, |c| {
            c["azure_devops"][0]["fallback_cluster"] = json!("other");
            c["insecure_no_auth"] = json!(true);
            placed(c, "credentials", None);
        }),
        (false, |c| c["insecure_no_auth"] = json!(true)),
        (true, |c| c["insecure_no_auth"] = json!(false)),
        (true, |c| {
            c["insecure_no_auth"] = json!(true);
            placed(c, "credentials", None);
        }),
        (false, |c| placed(c, "credentials", None)),
        (false, |c| {
            c["insecure_no_auth"] = json!(false);
            placed(c, "credentials", None);
        }),
        (false, |c| c["credentials"][0]["kind"] = json!("bearer")),
        (true, |c| {
            c["credentials"][0]["kind"] = json!("bearer");
            placed(&mut c["credentials"][0], "username", None);
        }),
        (false, |c| placed(&mut c["credentials"][0], "username", None)),
        (false, |c| placed(c, "testkube", None)),
        (false, |c| placed(c, "azure_devops", None)),
    ];
    for (n, (good, change)) in changes.iter().enumerate() {
        let mut configuration = smallest();
        change(&mut configuration);
        assert_eq!(judges.agree("both", &configuration)?, *good, "change {n}: {configuration}");
    }
    for field in fields(&judges.schema) {
        let Some((object, name)) = field.parent() else { continue };
        let mut configuration = field.with(&smallest(), &field.examples()[0])?;
        let object = configuration.pointer_mut(&object).context(field.path.clone())?;
        placed(object, &name, None);
        judges.agree(&format!("{} taken away", field.path), &configuration)?;
    }
    Ok(())
}

#[test]
fn the_table_of_the_reference_has_each_field_with_the_parsers_default_and_nothing_else() -> Result<()> {
    let judges = Judges::new()?;
    let without = parsed(&smallest()).map_err(anyhow::Error::msg)?;
    let table = section(REFERENCE, "## Configuration")?;
    let own: BTreeSet<String> = fields(&judges.schema).into_iter().map(|field| field.path).collect();
    assert_eq!(names(&rows(table)), own);
    for field in fields(&judges.schema) {
        let row = format!("| `{}` | ", field.path);
        let row = table.lines().find_map(|line| line.strip_prefix(&row));
        let told =
            row.and_then(|row| row.split(" | ").next()).with_context(|| format!("{}: no row", field.path))?;
        match &field.schema["default"] {
            Value::Null => assert!(!told.starts_with('`'), "{}: no default, but {told}", field.path),
            default => {
                let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                assert_eq!(told, format!("`{text}`"), "{}", field.path);
                let with = parsed(&field.with(&smallest(), default)?).map_err(anyhow::Error::msg)?;
                assert_eq!(with, without, "{}: its default changes something", field.path);
                // Another value is seen in what is compared: else every default would be right.
                let other = field.another()?;
                let with = parsed(&field.with(&smallest(), &other)?).map_err(anyhow::Error::msg)?;
                assert_ne!(with, without, "{}: {other} changes nothing", field.path);
            }
        }
        let is_required = told.starts_with("required") && !told.contains(',') && !told.contains(" for ");
        assert_eq!(is_required, field.required, "{}: {told}", field.path);
    }
    Ok(())
}
