//! A check's Secret: its name, its labels, and its record.

use super::lease::{INSTANCE, KIND, Replica};
use crate::check::{CheckKey, Placed, State, View, remains};
use crate::guid::Guid;
use crate::json;
use crate::seal::{Closed, Sealing};
use crate::store::hints;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall, millis};
use crate::wire::kubernetes::{MetadataOnly, Object, SecretBody, StoredObject, Texts, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

pub(super) const OWNER: &str = "testrelay.dev/owner";
const CHECK: &str = "check";
pub(super) const TAG: &str = "testrelay.dev/tag";
const EXPIRES: &str = "testrelay.dev/expires";
const VIEW: &str = "testrelay.dev/view";
const WRITTEN: &str = "testrelay.dev/written";

/// The newest format of records that this code reads and writes.
pub(crate) const FORMAT: u8 = 1;

/// Length of a GUID as text, in bytes.
const GUID: usize = 36;

/// The record in a Secret: a state, with the clocks of its writer.
#[derive(Serialize)]
struct Written<'a> {
    format: u8,
    now: Now,
    state: &'a State,
}

#[derive(Deserialize)]
struct Read {
    now: Now,
    state: State,
}

/// A Secret that was read.
#[derive(Clone, Debug)]
pub(crate) struct StoredCheck {
    /// The owner's id; empty if the check was given up by its owner.
    pub(crate) owner: String,
    /// The check, in this process's times.
    pub(crate) state: State,
    /// The Secret's version.
    pub(crate) version: Version,
}

/// The owner in an object's labels; empty if there is none.
pub(crate) fn owner_of<B>(object: &Object<B>) -> &str {
    owner_label(object).unwrap_or_default()
}

/// The same; `None` if somebody has removed the label. A check that was given up has an empty one.
pub(super) fn owner_label<B>(object: &Object<B>) -> Option<&str> {
    object.labels.get(OWNER)
}

/// What a Secret shows of its check.
pub(crate) struct OwnedView<'a> {
    /// The owner's id; empty if there is none.
    pub(crate) owner: &'a str,
    /// A [`View`] as JSON; empty if there is none.
    pub(crate) view: &'a str,
    /// When it was written, by the writer's clock.
    pub(crate) written: Option<&'a str>,
}

/// What an object's labels and annotations show of a check.
pub(crate) fn owned_view<B>(object: &Object<B>) -> OwnedView<'_> {
    let annotations = &object.annotations;
    OwnedView {
        owner: owner_of(object),
        view: annotations.get(VIEW).unwrap_or_default(),
        written: annotations.get(WRITTEN),
    }
}

/// The hash of the tag in an object's labels.
pub(super) fn tag_of<B>(object: &Object<B>) -> Option<u64> {
    u64::from_str_radix(object.labels.get(TAG)?, 16).ok()
}

impl Replica {
    /// The label selector of all checks' Secrets.
    pub(crate) fn checks(&self) -> String {
        format!("{INSTANCE}={},{KIND}={CHECK}", self.instance)
    }

    /// Whether [`Replica::checks`] selects this object.
    pub(super) fn marks<B>(&self, object: &Object<B>) -> bool {
        object.labels.get(INSTANCE) == Some(&self.instance) && object.labels.get(KIND) == Some(CHECK)
    }

    /// The label selector of the checks' Secrets of one owner.
    pub(crate) fn checks_of(&self, owner: &str) -> String {
        format!("{},{OWNER}={owner}", self.checks())
    }

    /// The label selector of the pending checks' Secrets with this tag, and of those whose tag has the same hash.
    pub(crate) fn checks_with(&self, tag: &Tag) -> String {
        format!("{},{TAG}={}", self.checks(), tag_label(tag))
    }

    /// The label selector of the pending checks' Secrets whose tag has one of these hashes.
    pub(super) fn checks_with_any(&self, tags: &[u64]) -> String {
        let tags: Vec<String> = tags.iter().map(|tag| hash_label(*tag)).collect();
        format!("{},{TAG} in ({})", self.checks(), tags.join(","))
    }

    /// The name of a check's Secret.
    pub(crate) fn secret_name(&self, key: &CheckKey) -> String {
        format!("{}-{}-{}-{}", self.instance, key.plan, key.job, key.task).to_ascii_lowercase()
    }

    /// The check that a Secret's name names.
    pub(crate) fn check_of(&self, object: &StoredObject<MetadataOnly>) -> Option<CheckKey> {
        let ids = object.object.name.strip_prefix(&self.instance)?.as_bytes();
        let mut guids = ids.chunks(GUID + 1).map(|id| Guid::parse(std::str::from_utf8(id.get(1..)?).ok()?));
        let (plan, job, task) = (guids.next()??, guids.next()??, guids.next()??);
        let key = CheckKey { plan, job, task };
        (guids.next().is_none() && self.secret_name(&key) == object.object.name).then_some(key)
    }

    /// The Secret of a check that `owner` owns. The parts of the record that concern this process alone are left out.
    pub(crate) fn secret(
        &self,
        key: &CheckKey,
        mut state: State,
        owner: &str,
        now: Now,
    ) -> Option<Object<SecretBody>> {
        // It was reported: the rest of its log is its owner's affair.
        if let State::Pending(pending) = &state
            && let Some(done) = pending.reported()
        {
            state = State::Done(done);
        }
        state.set_kept(None);
        let (expires, tag) = match &mut state {
            State::Pending(pending) => {
                pending.place = Placed::Unnoted;
                (pending.token_end, pending.ask.as_ref().map(|ask| &ask.tag))
            }
            State::Done(done) => (done.at.mono.plus(crate::check::DONE_STAYS), None),
        };
        let tag = tag.map_or_else(String::new, tag_label);
        let expires: Wall = now.wall.plus(Duration::from_millis(millis(expires.since(now.mono))));
        let view = json::text(&View::of(key, &state, now));
        let mut record = Vec::new();
        json::add(&Written { format: FORMAT, now, state: &state }, &mut record).ok()?;
        let name = self.secret_name(key);
        let record = self.sealing.seal(&name, record)?;
        Some(Object {
            name,
            labels: Texts::of(&[(INSTANCE, &self.instance), (KIND, CHECK), (OWNER, owner), (TAG, &tag)]),
            annotations: Texts::of(&[
                (EXPIRES, &expires.to_string()),
                (VIEW, &view),
                (WRITTEN, &now.wall.to_string()),
            ]),
            body: SecretBody { record: Some(record) },
        })
    }
}

/// Why the record of a Secret cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is none.
    Broken,
    /// It has a newer format, this one.
    Newer(u8),
    /// It is sealed with a key that this replica does not have, or was changed.
    Sealed,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Broken => f.write_str("somebody has edited it"),
            Unreadable::Newer(format) => {
                write!(f, "a newer Testrelay has written it, in format {format}; this one reads {FORMAT}")
            }
            Unreadable::Sealed => {
                f.write_str("it is sealed with a key that this replica does not have (`seal_env`, `seal_env_previous`), or somebody has edited it")
            }
        }
    }
}

impl StoredCheck {
    /// Reads a Secret.
    pub(crate) fn of(
        secret: &StoredObject<SecretBody>,
        sealing: &Sealing,
        now: Now,
    ) -> Result<StoredCheck, Unreadable> {
        let record = secret.object.body.record.as_ref().ok_or(Unreadable::Broken)?;
        let record = sealing.open(&secret.object.name, record).map_err(|Closed| Unreadable::Sealed)?;
        StoredCheck::read(secret, &record, now)
    }

    fn read(secret: &StoredObject<SecretBody>, record: &[u8], now: Now) -> Result<StoredCheck, Unreadable> {
        #[derive(Deserialize)]
        struct Format {
            format: u8,
        }
        let Format { format } = crate::json::read(record).map_err(|_| Unreadable::Broken)?;
        if format > FORMAT {
            return Err(Unreadable::Newer(format));
        }
        let read: Read = crate::json::read(record).map_err(|_| Unreadable::Broken)?;
        let mut state = read.state;
        state.rebase(read.now, now);
        let owner = owner_of(&secret.object).to_owned();
        Ok(StoredCheck { owner, state, version: secret.version.clone() })
    }

    /// The rest of a pending check whose record cannot be read as a whole, and its deadline: enough to report that. `None` if
    /// there is not enough, or if it was decided.
    pub(crate) fn rest(
        secret: &StoredObject<SecretBody>,
        sealing: &Sealing,
        now: Now,
    ) -> Option<(Mono, StoredCheck)> {
        let record = secret.object.body.record.as_ref()?;
        let record = sealing.open(&secret.object.name, record).ok()?;
        let rests = remains(&record, FORMAT);
        let mut rest = rests.iter().find_map(|rest| StoredCheck::read(secret, rest, now).ok())?;
        let State::Pending(pending) = &mut rest.state else { return None };
        // Its own time limit may be in what cannot be read.
        let shown = serde_json::from_slice::<Value>(owned_view(&secret.object).view.as_bytes()).ok();
        let shown = shown.as_ref().and_then(|view| Wall::parse(view.get("decided_by")?.as_str()?));
        if let Some(at) = shown {
            let left = u64::try_from(at.0.saturating_sub(now.wall.0)).unwrap_or_default();
            pending.decide_by = pending.decide_by.min(now.mono.plus(Duration::from_millis(left)));
        }
        Some((pending.deadline().at, rest))
    }
}

/// When a Secret's check expires, by the wall clock; `None` if it does not say.
pub(super) fn expires(object: &Object<SecretBody>) -> Option<Wall> {
    object.annotations.get(EXPIRES).and_then(Wall::parse)
}

/// A tag as a label's value, which cannot hold every tag: a hash. Only a pending check has it: nothing waits for
/// another one's tag. Two tags with one hash are taken for one: an execution is not aborted that could be.
fn tag_label(tag: &Tag) -> String {
    hash_label(hints::fingerprint(&tag.value))
}

/// The hash of a tag as a label's value.
pub(super) fn hash_label(hash: u64) -> String {
    format!("{hash:016x}")
}

/// An instance's name as a label and as the beginning of names: lower-case letters, digits and `-`, at most 63 bytes. One that
/// is changed ends with a hash of what it was, so that no two are the same.
pub(crate) fn name_of(instance: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_good = instance.len() <= 63
        && instance.starts_with(fits)
        && instance.ends_with(fits)
        && instance.chars().all(|c| fits(c) || c == '-');
    if is_good {
        return instance.into();
    }
    let name: String =
        instance.chars().map(|c| c.to_ascii_lowercase()).map(|c| if fits(c) { c } else { '-' }).collect();
    let name: String = name.trim_matches('-').chars().take(40).collect();
    format!("t{name}-{:016x}", crate::hash::fnv1a(instance.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;
    use crate::wire::call::{Asks, CallOutcome, Response};
    use crate::wire::kubernetes::{ApiAnswer, stored};
    use serde_json::json;

    fn replica(instance: &str) -> Replica {
        Replica {
            instance: name_of(instance),
            id: "a1".into(),
            pod: "pod-1".into(),
            format: FORMAT,
            sealing: Sealing::default(),
        }
    }

    fn metadata(name: &str) -> StoredObject<MetadataOnly> {
        let body = json!({"metadata": {"name": name, "uid": "u", "resourceVersion": "1"}}).to_string();
        let response = Response {
            status: 200,
            content_type: String::new(),
            asks: Asks::default(),
            from_envoy: false,
            body: Ok(body.into_bytes()),
        };
        let ApiAnswer::Done(object) = stored(&CallOutcome::Response(response)) else { panic!() };
        object
    }

    #[test]
    fn a_secrets_name_names_its_check() {
        let key = record(0xab).key;
        for instance in ["testrelay", "shop-1", "Testrelay.Shop"] {
            let replica = replica(instance);
            let name = replica.secret_name(&key);
            assert_eq!(replica.check_of(&metadata(&name)), Some(key), "{name}");
            for other in
                [&name[1..], &name[..name.len() - 1], &format!("{name}0"), &format!("{name}-{name}"), ""]
            {
                assert_eq!(replica.check_of(&metadata(other)), None, "{other}");
            }
        }
    }

    #[test]
    fn an_instances_name_is_a_label_and_no_other_instances() {
        let long = "x".repeat(64);
        let names = ["testrelay", "Testrelay", "test_relay", "test.relay", "-", "a-", &long].map(name_of);
        for name in &names {
            assert!(
                name.len() <= 63 && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'),
                "{name}"
            );
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        }
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        assert_eq!(names[0], "testrelay");
    }

    #[test]
    fn a_record_comes_back_from_its_secret_without_what_concerns_its_owner_alone() {
        let record = record(1);
        let now = Now { mono: Mono(5_000), wall: Wall(1_769_186_640_000) };
        let secret = replica("t").secret(&record.key, record.state.clone(), "a1", now).unwrap();
        assert_eq!(secret.labels.get(OWNER), Some("a1"));
        let text = String::from_utf8(secret.body.record.clone().unwrap()).unwrap();
        assert!(!text.contains("place") && !text.contains("kept"), "{text}");
        let version = metadata("a").version;
        let of = |body: SecretBody| {
            let secret = StoredObject { object: Object { body, ..secret.clone() }, version: version.clone() };
            StoredCheck::of(&secret, &Sealing::default(), now)
        };
        let read = of(secret.body.clone()).unwrap();
        assert_eq!((read.owner.as_str(), &read.state), ("a1", &record.state));
        for (broken, why) in [
            ("", Unreadable::Broken),
            ("{", Unreadable::Broken),
            (r#"{"format":2,"now":{"mono":1,"wall":1},"state":{}}"#, Unreadable::Newer(2)),
            (r#"{"format":1}"#, Unreadable::Broken),
            ("sealed\u{1}", Unreadable::Sealed),
        ] {
            assert_eq!(of(SecretBody { record: Some(broken.into()) }).unwrap_err(), why, "{broken}");
        }
        assert_eq!(of(SecretBody { record: None }).unwrap_err(), Unreadable::Broken);
    }
}
