//! Reading a check request: from header fields and body members to a check.
//!
//! There are two kinds of mistake. A request that makes it impossible to call back (ids, token, PlanUrl) is answered
//! with 400, and nothing is stored. Any other mistake (tag, policies, bindings) makes a *rejected* check: it is stored
//! and posted as failed with the reason, because only that is sure to be seen by the people at the pipeline.

mod field;
mod policies;

use crate::check::{Ask, Given};
use crate::config::{Config, MAX_TIMEOUT, Rerun};
use crate::expect::Expect;
use crate::guid::Guid;
use crate::secret::Secret;
use crate::surface::accept::Headers;
use crate::surface::confidential::HIDDEN;
use crate::surface::problem::FieldError;
use crate::text::excerpt;
use crate::time::{in_words, parse_duration};
use crate::wire::azure::{Callback, Entry, HubName, PlanUrl, Webhook};
use field::{Field, Values};
pub(super) use policies::field_of;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A delivery of a check, as Azure DevOps sends it.
#[derive(Debug)]
pub struct CheckRequest {
    /// The address of its answer.
    pub callback: Callback,
    /// The token to answer with.
    pub token: Secret,
    /// Its request, or why that cannot be evaluated.
    pub ask: Result<Ask, Vec<FieldError>>,
}

/// Why Azure DevOps cannot be called back.
#[derive(Debug, PartialEq, Eq)]
pub struct Unanswerable {
    /// Whether `PlanUrl` was understood but is not configured.
    pub not_listed: bool,
    /// Every wrong field.
    pub errors: Vec<FieldError>,
}

/// A request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// No body.
    None,
    /// A body, or perhaps one, that this Envoy does not hand over, so its content is unknown.
    Unread,
    /// The whole body.
    Read(&'a [u8]),
}

impl<'a> From<Option<&'a [u8]>> for Body<'a> {
    fn from(body: Option<&'a [u8]>) -> Body<'a> {
        body.map_or(Body::None, Body::Read)
    }
}

/// The error about a body that is not read. It may hold a policy.
const UNREAD: &str = "was sent, but this Envoy does not hand bodies over, so its content would be lost. Leave the check's body empty and send every value as a header (Testrelay-Expect, Testrelay-Settle and so on), or let Envoy hand bodies over: `allow_on_headers_stop_iteration: true` on the filter and `\"read_body\": true` in the plugin's configuration";

/// Maximum body, in bytes.
pub const MAX_BODY: usize = 64 << 10;

/// Maximum token, in bytes. Microsoft documents no length; encrypted Entra tokens of 7,000 characters have been seen.
const MAX_TOKEN: usize = 8 << 10;

/// Whether the headers alone hold all fields that a check must have, so that no body is needed.
pub fn is_complete<B: AsRef<[u8]>>(headers: &Headers<B>) -> bool {
    let values = Values::from_headers(headers);
    let webhook = values.was_given(Field::Webhook);
    let ids = [Field::JobId, Field::TaskInstanceId, Field::AuthToken, Field::Tag];
    let place = [Field::PlanUrl, Field::ProjectId, Field::HubName, Field::PlanId];
    ids.iter().all(|f| values.was_given(*f)) && (webhook || place.iter().all(|f| values.was_given(*f)))
}

/// The request of an evaluation. Nobody is called back.
#[derive(Debug)]
pub struct EvaluationRequest {
    /// The tag and the policies.
    pub ask: Ask,
    /// `ProjectId`, if it was sent.
    pub project: Option<Guid>,
}

/// Whether the headers name a tag, so that an evaluation needs no body.
pub fn names_tag<B: AsRef<[u8]>>(headers: &Headers<B>) -> bool {
    Values::from_headers(headers).was_given(Field::Tag)
}

/// Reads an evaluation from the header fields and, if there is one, the JSON body. Ignores the fields for calling back,
/// which a check's default headers contain.
///
/// # Errors
/// Every wrong field.
pub fn read_evaluation<'b, B: AsRef<[u8]>>(
    config: &Config,
    headers: &Headers<B>,
    body: impl Into<Body<'b>>,
) -> Result<EvaluationRequest, Vec<FieldError>> {
    let mut values = Values::from_headers(headers);
    let mut reader = Reader { config, errors: Vec::new(), wrong: Vec::new(), not_listed: false };
    if let Some(error) = add_body(&mut values, body.into()) {
        return Err(vec![error]);
    }
    let project = reader.policy(&values, Field::ProjectId, guid);
    let build = reader.build(&values);
    for field in [
        Field::SinceStage,
        Field::Timeout,
        Field::AppearTimeout,
        Field::Grace,
        Field::Retry,
        Field::TestsBuild,
        Field::MaxAge,
    ] {
        if values.was_given(field) {
            let detail = "is for the asynchronous check: this one is answered at once, and Azure DevOps is not asked when a stage or a build began. Leave it out, or post to /v1/checks".into();
            reader.wrong.push(FieldError { field: field.name(), detail });
        }
    }
    match reader.ask(&values, build).filter(|_| reader.wrong.is_empty()) {
        Some(ask) => Ok(EvaluationRequest { ask, project }),
        None => Err(reader.wrong),
    }
}

/// Adds the members of a body. Returns the error, if it cannot be read.
fn add_body(values: &mut Values<'_>, body: Body<'_>) -> Option<FieldError> {
    let detail = match body {
        Body::None => return None,
        Body::Unread => UNREAD.into(),
        Body::Read(body) => values.add_body(body).err()?,
    };
    Some(FieldError { field: "body", detail })
}

/// Reads a check from the header fields and, if there is one, the JSON body. If the body cannot be read but the headers
/// allow calling back, the check is rejected.
///
/// # Errors
/// Why nobody could be told the outcome.
pub fn read<'b, B: AsRef<[u8]>>(
    config: &Config,
    headers: &Headers<B>,
    body: impl Into<Body<'b>>,
) -> Result<CheckRequest, Unanswerable> {
    let mut values = Values::from_headers(headers);
    let mut reader = Reader { config, errors: Vec::new(), wrong: Vec::new(), not_listed: false };
    let in_body = add_body(&mut values, body.into());
    reader.wrong.extend(in_body.clone());
    let callback = reader.callback(&values);
    let token = reader.token(&values);
    let ask = reader.ask(&values, callback.as_ref().and_then(|c| c.build));
    match (callback, token, reader.errors.is_empty()) {
        (Some(callback), Some(token), true) => {
            let ask = if reader.wrong.is_empty() { ask.ok_or_else(Vec::new) } else { Err(reader.wrong) };
            Ok(CheckRequest { callback, token, ask })
        }
        _ => {
            // The missing fields may be in the body.
            let errors = in_body.into_iter().chain(reader.errors).collect();
            Err(Unanswerable { not_listed: reader.not_listed, errors })
        }
    }
}

/// Reads fields and collects mistakes: `errors` in the fields for calling back, `wrong` in the rest.
struct Reader<'a> {
    config: &'a Config,
    errors: Vec<FieldError>,
    wrong: Vec<FieldError>,
    not_listed: bool,
}

impl Reader<'_> {
    fn callback(&mut self, values: &Values) -> Option<Callback> {
        let webhook =
            self.optional(values, Field::Webhook, |text| Webhook::parse(text).map_err(str::to_string));
        let plan_url = self.plan_url(values, webhook.as_ref());
        let project = self.place(values, Field::ProjectId, webhook.as_ref().map(|w| w.project), guid);
        let hub_of = |text: &str| HubName::parse(text).map_err(|e| format!("`{}` {e}", excerpt(text)));
        let webhook_hub = webhook.as_ref().map(|w| hub_of(&w.hub));
        let hub = match webhook_hub {
            Some(Err(e)) => {
                let is_hidden = webhook.as_ref().is_some_and(|w| values.confidential().may_be_in(&w.hub));
                self.unusable(Field::Webhook, if is_hidden { HIDDEN.into() } else { e });
                None
            }
            other => self.place(values, Field::HubName, other.and_then(Result::ok), hub_of),
        };
        let plan = self.place(values, Field::PlanId, webhook.as_ref().map(|w| w.plan), guid);
        let job = self.place(values, Field::JobId, None, guid);
        let task = self.place(values, Field::TaskInstanceId, None, guid);
        let timeline = self.policy(values, Field::TimelineId, guid);
        let build = self.build(values);
        let entry = self.entry(&plan_url?)?;
        Some(Callback {
            entry,
            project: project?,
            hub: hub?,
            plan: plan?,
            job: job?,
            task: task?,
            timeline,
            build,
        })
    }

    fn build(&mut self, values: &Values) -> Option<u64> {
        self.policy(values, Field::BuildId, build_number)
    }

    fn plan_url(&mut self, values: &Values, webhook: Option<&Webhook>) -> Option<PlanUrl> {
        let parse = |text: &str| {
            PlanUrl::parse(text).map_err(|e| format!("PlanUrl {e}; send `$(system.CollectionUri)`"))
        };
        self.place(values, Field::PlanUrl, webhook.map(|w| w.plan_url.clone()), parse)
    }

    fn entry(&mut self, plan_url: &PlanUrl) -> Option<String> {
        let entry = self.config.azure_devops.iter().find(|entry| entry.admits(plan_url)).map(Entry::url);
        if entry.is_none() {
            self.not_listed = true;
            self.unusable(Field::PlanUrl, "this Testrelay is not configured to answer there; the URL must be one of its `azure_devops` entries, with organisation or collection".into());
        }
        entry
    }

    fn token(&mut self, values: &Values) -> Option<Secret> {
        let text = match values.get(Field::AuthToken) {
            Err(e) => {
                self.unusable(Field::AuthToken, e);
                return None;
            }
            Ok(None) => {
                self.unusable(Field::AuthToken, missing(Field::AuthToken));
                return None;
            }
            Ok(Some(text)) => text,
        };
        let fault = if holds_macro(text) {
            "was not replaced by Azure DevOps: send `$(system.AccessToken)`".to_string()
        } else if text.len() > MAX_TOKEN {
            format!("is longer than {MAX_TOKEN} bytes")
        } else if !text.bytes().all(|c| c.is_ascii_graphic()) {
            "contains characters that a token cannot have".to_string()
        } else {
            return Some(Secret::new(text.into()));
        };
        self.unusable(Field::AuthToken, fault);
        None
    }

    fn ask(&mut self, values: &Values, build: Option<u64>) -> Option<Ask> {
        let policies = self.policies(values);
        let checks = &self.config.checks;
        let (timeout, appear_timeout, require_expect) =
            (checks.timeout, checks.appear_timeout, checks.require_expect);
        for detail in values.unknown() {
            self.wrong.push(FieldError { field: "request", detail });
        }
        let tag = self.tag(values, build, &policies);
        let expect = self.policy(values, Field::Expect, |text| match text.len() {
            ..=1_024 => Expect::parse(text),
            _ => Err("is longer than 1024 bytes".into()),
        });
        let expect = expect.or_else(|| checks.expect.clone()).unwrap_or(Expect::Any);
        if require_expect && expect == Expect::Any && !values.was_given(Field::Expect) {
            let detail = "missing, and this Testrelay requires it: name the workflows that must have run, such as `shop-api, shop-e2e`".into();
            self.wrong.push(FieldError { field: Field::Expect.name(), detail });
        }
        let second = Duration::from_secs(1);
        let settle = self
            .policy(values, Field::Settle, |text| duration(text, Duration::ZERO..=Duration::from_secs(3600)));
        let timeout = self
            .policy(values, Field::Timeout, |text| duration(text, second..=MAX_TIMEOUT))
            .unwrap_or(timeout);
        let appear_timeout = self
            .policy(values, Field::AppearTimeout, |text| duration(text, second..=MAX_TIMEOUT))
            .unwrap_or(appear_timeout);
        let since_stage = self.policy(values, Field::SinceStage, |text| match text.len() {
            1..=256 => Ok(text.to_string()),
            _ => Err("is longer than 256 bytes".into()),
        });
        if since_stage.is_some() && build.is_none() && !values.was_given(Field::BuildId) {
            let detail =
                "needs a BuildId, whose timeline has the stage: add \"BuildId\": \"$(build.BuildId)\"".into();
            self.wrong.push(FieldError { field: Field::SinceStage.name(), detail });
        }
        let settle = settle.or(checks.settle).unwrap_or_else(|| expect.default_settle());
        let rerun = self.policy(values, Field::Rerun, |text| {
            Rerun::parse(text).ok_or_else(|| format!("`{}` must be `latest`, `all` or `none`", excerpt(text)))
        });
        let rerun = rerun.unwrap_or(self.config.checks.rerun);
        self.contradictions(&policies, &expect, rerun, timeout, since_stage.as_deref());
        let given = Some(Given {
            expect: values.was_given(Field::Expect),
            settle: values.was_given(Field::Settle),
            timeout: values.was_given(Field::Timeout),
            appear_timeout: values.was_given(Field::AppearTimeout),
            rerun: values.was_given(Field::Rerun),
        });
        Some(Ask { tag: tag?, expect, settle, timeout, appear_timeout, since_stage, rerun, policies, given })
    }

    /// A field that calling back needs, from the webhook or from the field itself; if both are given, they must agree.
    fn place<T: PartialEq>(
        &mut self,
        values: &Values,
        field: Field,
        from_webhook: Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match (parsed(values, field, parse), from_webhook) {
            (Err(e), _) => self.unusable(field, e),
            (Ok(Some(own)), Some(other)) if own != other => {
                self.unusable(field, "contradicts the webhook URL".into());
            }
            (Ok(Some(value)), _) | (Ok(None), Some(value)) => return Some(value),
            (Ok(None), None) => self.unusable(field, missing(field)),
        }
        None
    }

    /// A field that may be absent, but that calling back needs if it is given.
    fn optional<T>(
        &mut self,
        values: &Values,
        field: Field,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parsed(values, field, parse) {
            Ok(value) => value,
            Err(e) => {
                self.unusable(field, e);
                None
            }
        }
    }

    /// A field that calling back does not need.
    fn policy<T>(
        &mut self,
        values: &Values,
        field: Field,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parsed(values, field, parse) {
            Ok(value) => value,
            Err(detail) => {
                self.wrong.push(FieldError { field: field.name(), detail });
                None
            }
        }
    }

    fn unusable(&mut self, field: Field, detail: String) {
        self.errors.push(FieldError { field: field.name(), detail });
    }
}

/// A field's value, if it was sent. Azure DevOps leaves an unknown variable as `$(name)`. A value that is repeated,
/// here or by its reader, is not a part of the request's token or credential.
fn parsed<T>(
    values: &Values,
    field: Field,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let Some(text) = values.get(field)? else { return Ok(None) };
    if field.is_repeated() && values.confidential().is_in(text) {
        return Err(HIDDEN.into());
    }
    let value = match holds_macro(text) {
        true => Err(format!(
            "`{}` was not replaced by Azure DevOps: this variable does not exist where the check runs",
            excerpt(text)
        )),
        false => parse(text).map(Some),
    };
    value.map_err(|what| if values.confidential().may_be_in(text) { HIDDEN.into() } else { what })
}

/// Whether a text contains a macro. Few contain a `$`, so that is searched first: a search for both characters is
/// prepared for longer patterns.
fn holds_macro(text: &str) -> bool {
    text.as_bytes().contains(&b'$') && text.contains("$(")
}

fn guid(text: &str) -> Result<Guid, String> {
    Guid::parse(text).ok_or_else(|| format!("`{}` is not a GUID of the form 8-4-4-4-12", excerpt(text)))
}

fn build_number(text: &str) -> Result<u64, String> {
    let number = crate::text::number(text).filter(|n| *n > 0);
    number.ok_or_else(|| format!("`{}` is not a build's number; send `$(build.BuildId)`", excerpt(text)))
}

fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    parse_duration(text).filter(|d| range.contains(d)).ok_or_else(|| {
        let (from, to) = (in_words(*range.start()), in_words(*range.end()));
        let days = if *range.end() >= Duration::from_secs(7 * 86_400) { ", `7d`" } else { "" };
        format!(
            "`{}` is not a time from {from} to {to}: write a number and a unit, such as `30s`, `10m`, `2h`{days}",
            excerpt(text)
        )
    })
}

fn missing(field: Field) -> String {
    match field.macro_text() {
        Some(text) => format!("missing: send `{text}`"),
        None => "missing".into(),
    }
}

#[cfg(test)]
mod tests;
