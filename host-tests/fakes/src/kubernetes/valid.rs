//! What an object may be: names, labels, sizes, times. The limits are Kubernetes 1.36's.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

use super::call::Resource;
use super::object::{Content, Lease, Metadata, Object, Secret};
use super::status::Cause;
use crate::timestamp;

/// Of a request's body.
pub(super) const MAX_BODY: usize = 3 << 20;
/// Of a Secret's data, decoded.
const MAX_DATA: usize = 1 << 20;
/// Of all annotations together.
const MAX_ANNOTATIONS: usize = 256 << 10;
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const KEY: &str = "[-._a-zA-Z0-9]+";

/// Takes what a body gives into the form that is kept: base64 checked and put together, `stringData` merged, times in UTC.
/// The error says what does not fit the type.
pub(super) fn normalise(object: &mut Object) -> Result<(), String> {
    match &mut object.content {
        Content::Secret(secret) => normalise_secret(secret),
        Content::Lease(Lease { spec }) => {
            for text in [&mut spec.acquire_time, &mut spec.renew_time].into_iter().flatten() {
                *text = micro_time(text)?;
            }
            Ok(())
        }
    }
}

fn normalise_secret(secret: &mut Secret) -> Result<(), String> {
    for value in secret.data.values_mut() {
        // Go's decoder passes over line breaks, and nothing else.
        value.retain(|c| !matches!(c, '\r' | '\n'));
        if STANDARD.decode(&value).is_err() {
            return Err("illegal base64 data at input byte 0".to_owned());
        }
    }
    for (name, text) in std::mem::take(&mut secret.string_data) {
        secret.data.insert(name, STANDARD.encode(text));
    }
    if secret.r#type.is_empty() {
        "Opaque".clone_into(&mut secret.r#type);
    }
    Ok(())
}

/// A `MicroTime`: exactly six digits of a second; an offset is turned into `Z`.
pub(super) fn micro_time(text: &str) -> Result<String, String> {
    static FORM: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{6})(Z|[+-]\d\d:\d\d)$").ok());
    let digits = FORM.as_ref().and_then(|form| Some(form.captures(text)?.get(1)?.as_str()));
    match (digits, timestamp::parse(text)) {
        (Some(digits), Some((millis, false))) => {
            let seconds = timestamp::go(millis - millis.rem_euclid(1000));
            Ok(format!("{}.{digits}Z", seconds.trim_end_matches('Z')))
        }
        _ => Err(format!("parsing time \"{text}\" as \"2006-01-02T15:04:05.000000Z07:00\"")),
    }
}

/// What makes a new object impossible, or an update one.
pub(super) fn causes(object: &Object) -> Vec<Cause> {
    let mut causes = of_metadata(&object.metadata);
    match &object.content {
        Content::Secret(secret) => causes.extend(of_secret(secret)),
        Content::Lease(Lease { spec }) => {
            if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
                let why = format!("Invalid value: {seconds}: must be greater than 0");
                causes.push(Cause::new("spec.leaseDurationSeconds", "FieldValueInvalid", why));
            }
            if let Some(transitions) = spec.lease_transitions.filter(|transitions| *transitions < 0) {
                let why = format!("Invalid value: {transitions}: must be greater than or equal to 0");
                causes.push(Cause::new("spec.leaseTransitions", "FieldValueInvalid", why));
            }
        }
    }
    causes
}

/// What an update may not change.
pub(super) fn immutable(old: &Object, new: &Object) -> Vec<Cause> {
    let (Content::Secret(before), Content::Secret(after)) = (&old.content, &new.content) else {
        return Vec::new();
    };
    let mut causes = Vec::new();
    if before.r#type != after.r#type {
        let why = format!("Invalid value: \"{}\": field is immutable", after.r#type);
        causes.push(Cause::new("type", "FieldValueInvalid", why));
    }
    if before.immutable == Some(true) {
        let why = "Forbidden: field is immutable when `immutable` is set";
        if after.immutable != Some(true) {
            causes.push(Cause::new("immutable", "FieldValueForbidden", why));
        }
        if before.data != after.data {
            causes.push(Cause::new("data", "FieldValueForbidden", why));
        }
    }
    causes
}

fn of_metadata(metadata: &Metadata) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = &metadata.name;
    if name.is_empty() {
        let why = "Required value: name or generateName is required";
        causes.push(Cause::new("metadata.name", "FieldValueRequired", why));
    } else if name.len() > MAX_NAME || !is_all(SUBDOMAIN, name) {
        let why = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
             characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
             used for validation is '{SUBDOMAIN}')"
        );
        causes.push(Cause::new("metadata.name", "FieldValueInvalid", why));
    }
    for (key, value) in &metadata.labels {
        if let Some(why) = wrong_key(key).or_else(|| wrong_label(value)) {
            causes.push(Cause::new("metadata.labels", "FieldValueInvalid", why));
        }
    }
    for key in metadata.annotations.keys() {
        if let Some(why) = wrong_key(&key.to_ascii_lowercase()) {
            causes.push(Cause::new("metadata.annotations", "FieldValueInvalid", why));
        }
    }
    let size: usize = metadata.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        let why = format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes");
        causes.push(Cause::new("metadata.annotations", "FieldValueTooLong", why));
    }
    causes
}

fn of_secret(secret: &Secret) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut size = 0;
    for (key, value) in &secret.data {
        if key.len() > MAX_NAME || !is_all(KEY, key) {
            let why = format!(
                "Invalid value: \"{key}\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
                 (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '{KEY}')"
            );
            causes.push(Cause::new(format!("data[{key}]"), "FieldValueInvalid", why));
        }
        size += STANDARD.decode(value).map_or(0, |decoded| decoded.len());
    }
    if size > MAX_DATA {
        let why = format!("Too long: may not be more than {MAX_DATA} bytes");
        causes.push(Cause::new("data", "FieldValueTooLong", why));
    }
    causes
}

/// Why a label or a selector cannot have this value.
pub(super) fn wrong_label(value: &str) -> Option<String> {
    if value.len() > MAX_LABEL {
        return Some(format!("Invalid value: \"{value}\": must be no more than {MAX_LABEL} bytes"));
    }
    (!is_all(LABEL, value)).then(|| {
        format!(
            "Invalid value: \"{value}\": a valid label must be an empty string or consist of alphanumeric characters, \
             '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  \
             or '12345', regex used for validation is '{LABEL}')"
        )
    })
}

/// Why a label, an annotation or a selector cannot have this key: a prefix that is a DNS name, a slash, and a name.
pub(super) fn wrong_key(key: &str) -> Option<String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_name = !name.is_empty() && name.len() <= MAX_LABEL && is_all(LABEL, name);
    let is_prefix = prefix.is_none_or(|prefix| prefix.len() <= MAX_NAME && is_all(SUBDOMAIN, prefix));
    (!is_name || !is_prefix).then(|| format!("Invalid value: \"{key}\": name part must be a qualified name"))
}

/// The resource's own rule of which update needs a version: a Lease's always does.
pub(super) fn needs_version(resource: Resource) -> bool {
    resource == Resource::Leases
}

fn is_all(pattern: &str, text: &str) -> bool {
    static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
        let compiled = |pattern| Some((pattern, Regex::new(&format!("^{pattern}$")).ok()?));
        [SUBDOMAIN, LABEL, KEY].into_iter().filter_map(compiled).collect()
    });
    PATTERNS.iter().any(|(known, regex)| *known == pattern && regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_time_has_six_digits_and_ends_in_utc() {
        let utc = "2026-11-28T07:00:00.123456Z";
        assert_eq!(micro_time(utc).as_deref(), Ok(utc));
        assert_eq!(micro_time("2026-11-28T08:00:00.123456+01:00").as_deref(), Ok(utc));
        for text in ["", "yesterday", "2026-11-28T07:00:00Z", "2026-11-28T07:00:00.1234567Z"] {
            assert!(micro_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_a_name_behind_a_prefix() {
        for key in ["a", "testrelay.dev/tag", "a_b.c"] {
            assert_eq!(wrong_key(key), None, "{key}");
        }
        for key in ["", "/a", "a/", "Testrelay.dev/a", "a/b/c", "-a"] {
            assert!(wrong_key(key).is_some(), "{key}");
        }
    }
}
