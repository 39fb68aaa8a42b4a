//! A pipeline's run, and the check request that Azure DevOps sends for it.

use crate::rules::MARK;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fakes::{CheckSpec, Execution, Request, execution};
use siphasher::sip::SipHasher24;
use std::collections::BTreeMap;

/// The default project of a pipeline.
pub const PROJECT: &str = "69f48e94-bdb4-42d7-a560-0f2b54f91cc8";

/// The user name of the service connection.
pub(crate) const USER: &str = "testrelay";

/// The suffix that each further token adds to the one before.
const NEXT: char = 'x';

/// A stage of a run that waits for its check.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its project's id.
    pub project: &'static str,
    /// The check's number; the ids of its plan, job and task follow from it.
    pub n: u32,
    /// The build's id. Stages of one run have the same.
    pub build: u64,
    /// The tag's value.
    pub tag: String,
    /// The newest delivery's token.
    pub token: String,
    /// When its tokens end, in Unix milliseconds of the true clock; they then are JSON Web Tokens that say so. `None`: they
    /// are opaque, and live as long as any history.
    pub token_end: Option<i64>,
}

impl Pipeline {
    /// Check number `n`, of a build of its own, whose tag holds the build's id.
    pub fn new(n: u32) -> Pipeline {
        let build = 4_000 + u64::from(n);
        let (tag, token) = (format!("shop-{build}"), opaque_token(n));
        Pipeline { project: PROJECT, n, build, tag, token, token_end: None }
    }

    /// The same in another project.
    pub fn in_project(self, project: &'static str) -> Pipeline {
        Pipeline { project, ..self }
    }

    /// The same with tokens that end. RFC 7519: `exp` is in seconds.
    pub fn token_ends_at(mut self, at: i64) -> Pipeline {
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, at / 1_000));
        self.token = format!("e30.{claims}.{}", opaque_token(self.n));
        self.token_end = Some(at / 1_000 * 1_000);
        self
    }

    /// Another stage of this one's run, which waits for the same tag.
    pub fn stage_beside(&self, n: u32) -> Pipeline {
        Pipeline { project: self.project, build: self.build, tag: self.tag.clone(), ..Pipeline::new(n) }
    }

    /// The token of the delivery before the newest one.
    pub(crate) fn token_before(&self) -> String {
        self.token.strip_suffix(NEXT).unwrap_or(&self.token).into()
    }

    /// The token of a further evaluation.
    pub(crate) fn next_token(&mut self) {
        self.token.push(NEXT);
    }

    /// The ids that Azure DevOps knows it by.
    pub fn spec(&self) -> CheckSpec {
        let guid = |kind: u32| format!("{:08x}-{kind:04x}-5000-8000-000000000001", self.n);
        CheckSpec {
            project: self.project.into(),
            hub: "checks".into(),
            plan: guid(1),
            job: guid(2),
            timeline: guid(1),
            task: guid(3),
            token: self.token.clone(),
            build: Some(self.build),
        }
    }

    /// The bucket in which the module stores its check, by the process's hash key.
    pub fn bucket(&self, hash_key: &[u8; 16]) -> u64 {
        let spec = self.spec();
        let ids = [spec.plan, spec.job, spec.task].concat();
        let digits: Vec<u8> = ids.chars().filter_map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        SipHasher24::new_with_key(hash_key).hash(&bytes) % 256
    }

    /// `count` numbers of pipelines whose checks live in one bucket.
    pub fn in_one_bucket(count: usize, hash_key: &[u8; 16]) -> Vec<u32> {
        let bucket = Pipeline::new(1).bucket(hash_key);
        (1..).filter(|n| Pipeline::new(*n).bucket(hash_key) == bucket).take(count).collect()
    }

    /// An execution of this workflow with the run's tag.
    pub fn tagged(&self, workflow: &str) -> Execution {
        execution(workflow).tag("ado-run", &self.tag)
    }

    /// The request that Azure DevOps sends, every field in a header, with the service connection's password; `more`
    /// replaces or adds.
    pub fn check(&self, more: &[(&str, &str)]) -> Request {
        let mut request = Request::new("POST", "/testrelay/v1/checks");
        for (name, value) in self.fields(more) {
            request = request.header(&name, &value);
        }
        request.header("authorization", &credential())
    }

    /// The same check as a synchronous one: one request, one answer.
    pub fn evaluation(&self, more: &[(&str, &str)]) -> Request {
        Request { target: "/testrelay/v1/checks/evaluate".into(), ..self.check(more) }
    }

    /// The same with every field but the content type in a JSON body.
    pub fn check_in_body(&self, more: &[(&str, &str)]) -> Request {
        let members: serde_json::Map<String, serde_json::Value> = self
            .fields(more)
            .into_iter()
            .filter(|(name, _)| name != "content-type")
            .map(|(name, value)| (name.trim_start_matches("testrelay-").to_string(), value.into()))
            .collect();
        let body = serde_json::Value::from(members).to_string();
        Request::new("POST", "/testrelay/v1/checks")
            .header("content-type", "application/json")
            .header("content-length", &body.len().to_string())
            .header("authorization", &credential())
            .body(body)
    }

    fn fields(&self, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let spec = self.spec();
        let mut fields: BTreeMap<String, String> = [
            ("content-type", "application/json".to_string()),
            ("planurl", "https://dev.azure.com/fabrikam/".into()),
            ("projectid", spec.project),
            ("hubname", spec.hub),
            ("planid", spec.plan),
            ("jobid", spec.job),
            ("timelineid", spec.timeline),
            ("taskinstanceid", spec.task),
            ("authtoken", spec.token),
            ("buildid", self.build.to_string()),
            ("testrelay-tag", self.tag.clone()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into();
        fields.extend(more.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_string())));
        fields
    }
}

fn opaque_token(n: u32) -> String {
    format!("{MARK}-{MARK}-{n}-1")
}

pub(crate) fn password() -> String {
    format!("password-{MARK}-91c4")
}

fn credential() -> String {
    format!("Basic {}", STANDARD.encode(format!("{USER}:{}", password())))
}
