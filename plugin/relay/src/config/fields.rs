//! Strict reading of one JSON object: every field is asked for by name, and a field that was not asked for is an error.

use crate::secret::Secret;
use crate::text::{excerpt, parse_size};
use crate::time::{in_words, parse_duration};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One mistake in a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The path of the field, such as `credentials[0].allow`; empty for the whole configuration.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub what: String,
}

/// All mistakes in a configuration; never empty as an error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

/// Minimum length of a secret. A shorter one can be guessed, and what a request may repeat is compared in pieces of
/// this length.
const MIN_SECRET: usize = 8;
/// Minimum length of a secret without a warning.
const SAFE_SECRET: usize = 16;

impl ConfigErrors {
    /// A single error.
    pub fn one(path: &str, what: String) -> ConfigErrors {
        ConfigErrors { errors: vec![ConfigError { path: path.into(), what }], warnings: Vec::new() }
    }

    pub(super) fn push(&mut self, path: &str, what: impl Into<String>) {
        self.errors.push(ConfigError { path: path.into(), what: what.into() });
    }

    /// Sentences about settings that are allowed but should be changed.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        let warnings = std::mem::take(&mut self.warnings).into_iter();
        warnings.map(|ConfigError { path, what }| format!("{path}: {what}")).collect()
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.errors.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ConfigError { path, what }) in self.errors.iter().enumerate() {
            let separator = if i == 0 { "" } else { " | " };
            let colon = if path.is_empty() { "" } else { ": " };
            write!(f, "{separator}{path}{colon}{what}")?;
        }
        Ok(())
    }
}

/// One object of the configuration that is being read.
pub(super) struct Fields<'a> {
    path: String,
    object: Option<&'a Map<String, Value>>,
    known: BTreeSet<&'static str>,
    errors: &'a mut ConfigErrors,
}

impl<'a> Fields<'a> {
    pub(super) fn new(path: &str, value: &'a Value, errors: &'a mut ConfigErrors) -> Fields<'a> {
        let object = value.as_object();
        if object.is_none() {
            errors.push(path, format!("is {}; an object is expected", shown(value)));
        }
        Fields { path: path.into(), object, known: BTreeSet::new(), errors }
    }

    /// Reports the fields that nobody asked for, without their values: one may be a secret.
    pub(super) fn finish(self) {
        for name in self.object.into_iter().flat_map(Map::keys) {
            if !self.known.contains(name.as_str()) {
                let known = self.known.iter().copied().collect::<Vec<_>>().join(", ");
                let path = join(&self.path, &excerpt(name));
                self.errors.push(&path, format!("unknown field; allowed are {known}"));
            }
        }
    }

    pub(super) fn was_given(&self, name: &str) -> bool {
        self.object.is_some_and(|o| o.contains_key(name))
    }

    pub(super) fn error(&mut self, name: &str, what: impl Into<String>) {
        let path = join(&self.path, name);
        self.errors.push(&path, what);
    }

    pub(super) fn object(&mut self, name: &'static str) -> Option<Fields<'_>> {
        let value = self.take(name)?;
        let path = join(&self.path, name);
        Some(Fields::new(&path, value, self.errors))
    }

    pub(super) fn required_object(&mut self, name: &'static str) -> Option<Fields<'_>> {
        if !self.was_given(name) {
            self.known.insert(name);
            self.error(name, "missing; an object is expected");
            return None;
        }
        self.object(name)
    }

    /// A list of objects, each read by `read`. An empty list is an error, because it is always an oversight.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        required: bool,
        mut read: impl FnMut(Fields<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.take(name) else {
            if required {
                self.error(name, "missing; a list of objects is expected");
            }
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            self.error(name, format!("is {}; a list of objects is expected", shown(value)));
            return Vec::new();
        };
        if items.is_empty() {
            self.error(name, "is empty; at least one entry is expected");
        }
        let path = join(&self.path, name);
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| read(Fields::new(&format!("{path}[{i}]"), item, self.errors)))
            .collect()
    }

    pub(super) fn text(
        &mut self,
        name: &'static str,
        allowed: &str,
        is_valid: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let value = self.take(name)?;
        match value.as_str().filter(|text| is_valid(text)) {
            Some(text) => Some(text.into()),
            None => {
                self.error(name, format!("is {}; allowed: {allowed}", shown(value)));
                None
            }
        }
    }

    pub(super) fn required_text(
        &mut self,
        name: &'static str,
        allowed: &str,
        is_valid: impl Fn(&str) -> bool,
    ) -> String {
        if !self.was_given(name) {
            self.known.insert(name);
            self.error(name, format!("missing; expected: {allowed}"));
        }
        self.text(name, allowed, is_valid).unwrap_or_default()
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        if value.as_bool().is_none() {
            self.error(name, format!("is {}; allowed are true and false", shown(value)));
        }
        value.as_bool()
    }

    /// A whole number. Istio passes numbers through a protobuf Struct, where they are doubles: `5.0` counts as 5.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(name)?;
        let number = value
            .as_f64()
            .filter(|n| n.fract() == 0.0 && *n >= 0.0 && *n <= f64::from(u32::MAX))
            .map(|n| n as u32);
        let number = number.filter(|n| range.contains(n));
        if number.is_none() {
            let (from, to) = (range.start(), range.end());
            self.error(name, format!("is {}; allowed are whole numbers from {from} to {to}", shown(value)));
        }
        number
    }

    pub(super) fn duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
        into: &mut Duration,
    ) {
        let Some(value) = self.take(name) else { return };
        match value.as_str().and_then(parse_duration).filter(|d| range.contains(d)) {
            Some(d) => *into = d,
            None => {
                let (from, to) = (in_words(*range.start()), in_words(*range.end()));
                self.error(
                    name,
                    format!("is {}; allowed: a number and a unit, such as \"5s\", \"10m\", \"12h\", from {from} to {to}", shown(value)),
                );
            }
        }
    }

    /// A number of bytes with its unit.
    pub(super) fn size(&mut self, name: &'static str, into: &mut u64) {
        let Some(value) = self.take(name) else { return };
        match value.as_str().and_then(parse_size) {
            Some(size) => *into = size,
            None => self.error(
                name,
                format!(
                    "is {}; allowed: a whole number from 1 to 9999 and a unit, such as \"64MiB\", \"2GiB\"",
                    shown(value)
                ),
            ),
        }
    }

    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let path = join(&self.path, name);
        chosen(&path, value, choices, self.errors)
    }

    pub(super) fn required_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        if !self.was_given(name) {
            self.known.insert(name);
            self.error(name, format!("missing; allowed are {}", names(choices)));
        }
        self.choice(name, choices)
    }

    /// A required, non-empty list of words out of `choices`.
    pub(super) fn choices<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Vec<T> {
        let given = self.take(name);
        self.chosen_of(name, given, choices)
    }

    /// The same; empty if it is absent.
    pub(super) fn any_choices<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Vec<T> {
        let given = self.take(name);
        given.map(|given| self.chosen_of(name, Some(given), choices)).unwrap_or_default()
    }

    fn chosen_of<T: Copy>(
        &mut self,
        name: &'static str,
        given: Option<&Value>,
        choices: &[(&str, T)],
    ) -> Vec<T> {
        let Some(items) = given.and_then(Value::as_array).filter(|items| !items.is_empty()) else {
            let held = given.map_or("missing".into(), |v| format!("is {}", shown(v)));
            self.error(name, format!("{held}; a list of at least one of {} is expected", names(choices)));
            return Vec::new();
        };
        let path = join(&self.path, name);
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| chosen(&format!("{path}[{i}]"), item, choices, self.errors))
            .collect()
    }

    /// A list of texts; empty if it is absent.
    pub(super) fn texts(
        &mut self,
        name: &'static str,
        expected: &str,
        is_good: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let items = value.as_array().filter(|items| (1..=256).contains(&items.len()));
        let texts: Option<Vec<String>> = items.and_then(|items| {
            items.iter().map(|item| item.as_str().filter(|text| is_good(text)).map(str::to_string)).collect()
        });
        if texts.is_none() {
            self.error(name, format!("is {}; expected: {expected}, at most 256", shown(value)));
        }
        texts.unwrap_or_default()
    }

    /// The secret in the environment variable that this field names. The field's own text is never repeated: some
    /// people write the secret itself there.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Secret> {
        let value = self.take(name)?;
        let Some(variable) = value.as_str().filter(|text| is_variable(text)) else {
            self.error(name, "does not look like the name of an environment variable (its text is not shown here); write the name, never the secret itself");
            return None;
        };
        let secret = environment(variable).filter(|secret| !secret.is_empty());
        match secret {
            None => self.error(name, "the environment variable that it names is not set or empty in this VM; list it under vm_config.environment_variables.host_env_keys and set it for Envoy's process"),
            Some(ref s) if !s.bytes().all(|c| (0x20..0x7f).contains(&c)) => {
                self.error(name, "the environment variable that it names contains characters that no HTTP header can carry (a line break at its end?)");
            }
            Some(ref s) if s.trim().is_empty() => {
                self.error(name, "the environment variable that it names is blank");
            }
            Some(ref s) if s.trim() != s => {
                self.error(name, "the environment variable that it names begins or ends with a blank, which HTTP headers ignore: remove it");
            }
            Some(ref s) if s.len() < MIN_SECRET => {
                self.error(name, format!("the environment variable that it names has fewer than {MIN_SECRET} characters: use at least {SAFE_SECRET} random ones"));
            }
            Some(secret) => {
                if secret.len() < SAFE_SECRET {
                    let what = format!("the secret has fewer than {SAFE_SECRET} characters, so it can be guessed: use a longer random one");
                    self.errors.warnings.push(ConfigError { path: join(&self.path, name), what });
                }
                return Some(Secret::new(secret));
            }
        }
        None
    }

    pub(super) fn required_secret(
        &mut self,
        name: &'static str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Secret> {
        if !self.was_given(name) {
            self.known.insert(name);
            self.error(name, "missing; expected: the name of an environment variable that holds the secret");
        }
        self.secret(name, environment)
    }

    fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.insert(name);
        self.object?.get(name)
    }
}

fn chosen<T: Copy>(path: &str, value: &Value, choices: &[(&str, T)], errors: &mut ConfigErrors) -> Option<T> {
    let found = choices.iter().find(|(name, _)| value.as_str() == Some(name)).map(|(_, choice)| *choice);
    if found.is_none() {
        errors.push(path, format!("is {}; allowed are {}", shown(value), names(choices)));
    }
    found
}

fn names<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", excerpt(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        other => excerpt(&other.to_string()),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

pub(super) fn is_variable(text: &str) -> bool {
    text.len() <= 256
        && text.bytes().next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}
