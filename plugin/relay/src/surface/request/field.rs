//! The fields of a check request, with all names by which they may be sent.

use crate::surface::accept::Headers;
use crate::surface::confidential::Confidential;
use crate::text::excerpt;
use crate::wire::percent::percent_decoded;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    PlanUrl,
    ProjectId,
    HubName,
    PlanId,
    JobId,
    TimelineId,
    TaskInstanceId,
    AuthToken,
    BuildId,
    Webhook,
    Tag,
    Expect,
    SinceStage,
    Settle,
    Timeout,
    AppearTimeout,
    Rerun,
    Optional,
    Grace,
    Retry,
    MaxAge,
    TestsBuild,
}

/// Each field, its name in the documentation, and the macro that Azure DevOps replaces. The check task's default
/// headers send the first eight (InvokeRestApiV1 `task.json`). Body members have the same names in any case,
/// Testrelay's own without the prefix.
const FIELDS: [(Field, &str, Option<&str>); 22] = [
    (Field::PlanUrl, "PlanUrl", Some("$(system.CollectionUri)")),
    (Field::ProjectId, "ProjectId", Some("$(system.TeamProjectId)")),
    (Field::HubName, "HubName", Some("$(system.HostType)")),
    (Field::PlanId, "PlanId", Some("$(system.PlanId)")),
    (Field::JobId, "JobId", Some("$(system.JobId)")),
    (Field::TimelineId, "TimelineId", Some("$(system.TimelineId)")),
    (Field::TaskInstanceId, "TaskInstanceId", Some("$(system.TaskInstanceId)")),
    (Field::AuthToken, "AuthToken", Some("$(system.AccessToken)")),
    (Field::BuildId, "BuildId", Some("$(build.BuildId)")),
    (Field::Webhook, "Testrelay-Webhook", None),
    (Field::Tag, "Testrelay-Tag", Some("shop-$(build.BuildId)")),
    (Field::Expect, "Testrelay-Expect", None),
    (Field::SinceStage, "Testrelay-Since-Stage", None),
    (Field::Settle, "Testrelay-Settle", None),
    (Field::Timeout, "Testrelay-Timeout", None),
    (Field::AppearTimeout, "Testrelay-Appear-Timeout", None),
    (Field::Rerun, "Testrelay-Rerun", None),
    (Field::Optional, "Testrelay-Optional", None),
    (Field::Grace, "Testrelay-Grace", None),
    (Field::Retry, "Testrelay-Retry", None),
    (Field::MaxAge, "Testrelay-Max-Age", None),
    (Field::TestsBuild, "Testrelay-Tests-Build", None),
];

/// Further names, in lower case; the older task sends PlanUrl as `VstsUrl`.
const ALSO: [(Field, &str); 3] =
    [(Field::PlanUrl, "vstsurl"), (Field::Webhook, "webhook"), (Field::Tag, "tag")];

/// The prefix of Testrelay's own field names, without the `-`.
const PREFIX: &str = "testrelay";

/// The fields that near misses of a header name are taken for, with their names in plain form, and whether `x-` before
/// the name is allowed.
const NEARLY: [(Field, &[u8], bool); 14] = [
    (Field::Tag, b"tag", false),
    (Field::Timeout, b"timeout", false),
    (Field::Expect, b"expect", true),
    (Field::SinceStage, b"sincestage", true),
    (Field::Settle, b"settle", true),
    (Field::AppearTimeout, b"appeartimeout", true),
    (Field::Rerun, b"rerun", true),
    (Field::Optional, b"optional", false),
    (Field::Grace, b"grace", false),
    (Field::Retry, b"retry", false),
    (Field::MaxAge, b"maxage", true),
    (Field::TestsBuild, b"testsbuild", true),
    (Field::Webhook, b"webhook", false),
    (Field::BuildId, b"buildid", false),
];

/// The header that HTTP uses for another purpose than a check's expectation (RFC 9110, 10.1.1), and its only value
/// there.
const HTTPS_OWN: &[u8] = b"expect";
const CONTINUE: &[u8] = b"100-continue";

/// Maximum unknown names in an error.
const MAX_UNKNOWN: usize = 8;

impl Field {
    /// The name in documentation and errors.
    pub(super) fn name(self) -> &'static str {
        FIELDS.iter().find(|(field, ..)| *field == self).map_or("", |(_, name, _)| name)
    }

    /// The text to write into the check's form.
    pub(super) fn macro_text(self) -> Option<&'static str> {
        FIELDS.iter().find(|(field, ..)| *field == self).and_then(|(.., text)| *text)
    }

    /// Whether a correct value is repeated in answers, log lines and lists.
    pub(super) fn is_repeated(self) -> bool {
        matches!(self, Field::Tag | Field::Expect | Field::SinceStage | Field::Optional)
    }

    fn of_header(name: &[u8]) -> Option<Field> {
        let own = FIELDS.iter().find(|(_, own, _)| is_same(own, name)).map(|(field, ..)| *field);
        let also = || ALSO.iter().find(|(_, also)| is_same(also, name)).map(|(field, _)| *field);
        own.or_else(also)
    }

    /// The optional field that a header name nearly matches. Compared without `-`, `_` and a leading `x-`; a policy
    /// also without the prefix, as in a body. A required field is not matched: its absence is an error anyway.
    ///
    /// Not matched are HTTP's own names (`expect`), and names with `x-` that a proxy on the way may well add.
    fn nearly_of_header(name: &[u8]) -> Option<Field> {
        // Few headers begin with these letters.
        let may_be =
            matches!(name, [b'x' | b'a'..=b'b' | b'e' | b'g' | b'm' | b'o' | b'r'..=b't' | b'w', ..]);
        let name = std::str::from_utf8(name).ok().filter(|_| may_be)?;
        let behind = behind_prefix(bare(name));
        let wanted = behind.unwrap_or(bare(name));
        let has_x = wanted.len() < name.len() && behind.is_none();
        let is_taken = |field: Field, with_x: bool| match behind {
            Some(_) => field != Field::BuildId,
            // `grace` alone is what caches call their own.
            None => field != Field::Grace && (with_x || !has_x),
        };
        let first = wanted.bytes().next();
        let names = |(field, plain, with_x): &&(Field, &[u8], bool)| {
            plain.first().copied() == first
                && is_taken(*field, *with_x)
                && self::plain(wanted).eq(plain.iter().copied())
        };
        NEARLY.iter().find(names).map(|(field, ..)| *field)
    }

    /// The field of a body member. Compared without case, `-` and `_`, and without the prefix.
    fn of_member(name: &str) -> Option<Field> {
        let name: Vec<u8> = plain(name).collect();
        let wanted = name.strip_prefix(b"testrelay").unwrap_or(&name);
        let own = FIELDS.iter().map(|(field, own, _)| (field, own.strip_prefix("Testrelay").unwrap_or(own)));
        let also = ALSO.iter().map(|(field, also)| (field, *also));
        let is_wanted = |(_, name): &(&Field, &str)| plain(name).eq(wanted.iter().copied());
        own.chain(also).find(is_wanted).map(|(field, _)| *field)
    }
}

/// Whether two names are equal except for case; usually most of their characters are the same.
#[inline]
fn is_same(one: &str, other: &[u8]) -> bool {
    let is_same = |(a, b): (&u8, &u8)| a == b || a.eq_ignore_ascii_case(b);
    one.len() == other.len() && one.as_bytes().iter().zip(other).all(is_same)
}

/// A name without case, `-` and `_`.
fn plain(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(|c| !matches!(c, b'-' | b'_')).map(|c| c.to_ascii_lowercase())
}

/// A header's name, if it begins like one of Testrelay's own fields.
fn meant_for_us(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.starts_with(['t', 'x']))?;
    behind_prefix(bare(name)).map(|_rest| name)
}

/// A header's name without a leading `x-`.
fn bare(name: &str) -> &str {
    name.strip_prefix("x-").or_else(|| name.strip_prefix("x_")).unwrap_or(name)
}

/// The part of a header's name after [`PREFIX`], with any signs in between.
fn behind_prefix(name: &str) -> Option<&str> {
    let mut wanted = PREFIX.bytes();
    let mut next = wanted.next();
    for (at, c) in name.bytes().enumerate() {
        match c {
            b'-' | b'_' => {}
            c if next == Some(c) => next = wanted.next(),
            _ => return None,
        }
        if next.is_none() {
            return name.get(at + 1..).map(|rest| rest.trim_start_matches(['-', '_']));
        }
    }
    None
}

/// The values in a request, with their mistakes.
#[derive(Debug, Default)]
pub(super) struct Values<'a> {
    /// In the order of [`Field`].
    given: [Option<Result<Cow<'a, str>, String>>; FIELDS.len()],
    unknown: Vec<Unknown<'a>>,
    confidential: Confidential<'a>,
}

/// An unknown name that was probably meant for Testrelay.
#[derive(Debug)]
enum Unknown<'a> {
    Header(&'a str),
    Member(String),
    /// The header `expect` with a value that HTTP does not define.
    Expect,
    /// The URL's query.
    Query(&'a [u8]),
}

impl<'a> Values<'a> {
    /// Takes every known header field. An empty value counts as none.
    pub(super) fn from_headers<B: AsRef<[u8]>>(headers: &'a Headers<B>) -> Values<'a> {
        let mut values = Values::default();
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), value.as_ref());
            match name {
                b"authorization" => values.confidential.add_authorization(value),
                b":path" => values.unknown.extend(query(value).map(Unknown::Query)),
                HTTPS_OWN if value.trim_ascii().eq_ignore_ascii_case(CONTINUE) => {}
                HTTPS_OWN => values.unknown.push(Unknown::Expect),
                _ => match Field::of_header(name).or_else(|| Field::nearly_of_header(name)) {
                    Some(field) => match std::str::from_utf8(value) {
                        Ok(text) => values.add(field, text.trim().into()),
                        Err(_) => values.fail(field, "is not UTF-8 text".into()),
                    },
                    None => values.unknown.extend(meant_for_us(name).map(Unknown::Header)),
                },
            }
        }
        values
    }

    /// Adds the members of a JSON object.
    pub(super) fn add_body(&mut self, body: &[u8]) -> Result<(), String> {
        if body.trim_ascii().is_empty() {
            return Ok(());
        }
        let Members(members) = serde_json::from_slice(body).map_err(|e| {
            // The place, not the content: the parser's own message repeats what it found, which may be a token.
            let (line, column) = (e.line(), e.column());
            format!("is not a JSON object (line {line}, column {column}): its content would be lost. Leave it empty, or write the fields as members of an object")
        })?;
        for (name, value) in members {
            let Some(field) = Field::of_member(&name) else {
                self.unknown.push(Unknown::Member(name));
                continue;
            };
            match text_of(field, &value) {
                Some(text) => self.add(field, text.trim().to_string().into()),
                None => self.fail(field, "must be a text or a number in the body".into()),
            }
        }
        Ok(())
    }

    /// The value of a field, if it was given once.
    pub(super) fn get(&self, field: Field) -> Result<Option<&str>, String> {
        match self.given.get(field as usize).and_then(Option::as_ref) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(e)) => Err(e.clone()),
        }
    }

    pub(super) fn was_given(&self, field: Field) -> bool {
        self.given.get(field as usize).is_some_and(Option::is_some)
    }

    /// Sentences about unknown names that were probably meant for Testrelay: the first ones, and the number of the
    /// others, so that the answer to a large body, and its log line, stay small.
    pub(super) fn unknown(&self) -> Vec<String> {
        let shown = |name: &str| match self.confidential.may_be_in(name) {
            true => {
                "(it contains a part of this request's token or credential and is not repeated)".to_string()
            }
            false => format!("`{}`", excerpt(name)),
        };
        let sentence = |unknown: &Unknown<'_>| {
            match unknown {
            Unknown::Member(name) => format!("the body's member {} is unknown", shown(name)),
            Unknown::Header(name) => {
                let known =
                    FIELDS.iter().map(|(_, name, _)| *name).filter(|name| name.starts_with("Testrelay-"));
                let known = known.collect::<Vec<_>>().join(", ");
                format!("the header {} is unknown; known are {known}", shown(name))
            }
            Unknown::Expect => "the header `expect` belongs to HTTP, and proxies on the way act on it: send the expectation as Testrelay-Expect".into(),
            Unknown::Query(query) => {
                let parameters = || query.split(|c| *c == b'&').filter(|parameter| !parameter.is_empty());
                let names = parameters().take(MAX_UNKNOWN).map(|parameter| {
                    let name = parameter.split(|c| *c == b'=').next().unwrap_or_default();
                    shown(&String::from_utf8_lossy(&percent_decoded(name)))
                });
                let names = names.collect::<Vec<_>>().join(", ");
                let more = match parameters().count().saturating_sub(MAX_UNKNOWN) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!(
                    "the URL has a query ({names}{more}), which is not read: send each value as a header (Testrelay-Expect, Testrelay-Settle and so on) and remove the query from the check's `URL suffix and parameters`, or from the URL of its service connection"
                )
            }
        }
        };
        let mut sentences: Vec<String> = self.unknown.iter().take(MAX_UNKNOWN).map(sentence).collect();
        match self.unknown.len().saturating_sub(MAX_UNKNOWN) {
            0 => {}
            more => sentences.push(format!("{more} more names are unknown")),
        }
        sentences
    }

    /// The texts of this request that must not be repeated.
    pub(super) fn confidential(&self) -> &Confidential<'a> {
        &self.confidential
    }

    fn add(&mut self, field: Field, text: Cow<'a, str>) {
        if field == Field::AuthToken && !text.is_empty() {
            self.confidential.add_token(match &text {
                Cow::Borrowed(token) => Cow::Borrowed(token.as_bytes()),
                Cow::Owned(token) => Cow::Owned(token.clone().into_bytes()),
            });
        }
        let Some(place) = self.given.get_mut(field as usize).filter(|_| !text.is_empty()) else { return };
        match place {
            None => *place = Some(Ok(text)),
            Some(Ok(other)) if *other != text => {
                self.fail(field, "was sent twice with different values".into())
            }
            Some(_) => {}
        }
    }

    fn fail(&mut self, field: Field, what: String) {
        if let Some(place) = self.given.get_mut(field as usize) {
            *place = Some(Err(what));
        }
    }
}

/// The part of a request's target after `?`, if it has a parameter.
fn query(target: &[u8]) -> Option<&[u8]> {
    let at = target.iter().position(|c| *c == b'?')?;
    target.get(at + 1..).filter(|query| query.iter().any(|c| *c != b'&'))
}

/// The members of an object in order, with doubled names: a map would silently keep one of them.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Members, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        d.deserialize_map(Visit)
    }
}

/// A member's text. `expect` may be a list; its items are joined as in the header.
fn text_of(field: Field, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(items) if matches!(field, Field::Expect | Field::Optional) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_stands_at_its_own_place() {
        for (place, (field, name, ..)) in FIELDS.iter().enumerate() {
            assert_eq!((*field as usize, Field::of_member(name)), (place, Some(*field)));
        }
        for (field, name, _) in NEARLY {
            assert_eq!(Field::of_member(std::str::from_utf8(name).unwrap()), Some(field));
        }
        let policies = FIELDS.iter().filter(|(_, name, ..)| name.starts_with("Testrelay-"));
        assert!(policies.clone().all(|(field, ..)| NEARLY.iter().any(|(near, ..)| near == field)));
        for name in ["expect", "Testrelay-Expect", "TESTRELAY_EXPECT", "testrelayexpect"] {
            assert_eq!(Field::of_member(name), Some(Field::Expect), "{name}");
        }
        assert_eq!(Field::of_member("testrelay-planurl"), Some(Field::PlanUrl));
        assert_eq!(Field::of_member("relay-expect"), None);
    }
}
