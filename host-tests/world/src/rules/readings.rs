//! The lists of executions that the module has read: it must not forget what it has seen.

use super::{Rules, tags_of};
use crate::network::Call;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// When Testkube gave the lists that were read to their end, in Unix milliseconds, by the value of the tag.
#[derive(Debug, Default)]
pub(super) struct Readings(BTreeMap<String, Vec<i64>>);

impl Rules {
    /// The module has read the answer to a call.
    pub(super) fn note_reading(&mut self, call: &Call) {
        let Some((answer, at)) = call.answer.as_ref().zip(call.reached_at) else { return };
        let is_list = answer.status == 200
            && call.outgoing.cluster == "testkube"
            && answer.value("content-type").is_some_and(|kind| kind.starts_with("application/json"))
            && serde_json::from_slice::<IgnoredAny>(&answer.body).is_ok();
        if is_list {
            for tag in tags_of(&call.outgoing.request) {
                self.readings.0.entry(tag).or_default().push(at);
            }
        }
    }

    /// When the module has read a list for this tag.
    pub(crate) fn readings(&self, tag: &str) -> &[i64] {
        self.readings.0.get(tag).map(Vec::as_slice).unwrap_or_default()
    }
}
