//! Public links to what this Envoy serves.

use super::Config;
use crate::tag::Tag;
use crate::wire::percent::percent_encoded;

impl Config {
    /// The link to the files of a tag's executions, for texts that are not answers to a request; `None` without
    /// `public_url`.
    pub fn public_files(&self, tag: &Tag) -> Option<String> {
        Some(self.files_at(self.public_url.as_ref()?, tag))
    }

    /// The same link with this origin, such as `https://relay.example:8443`.
    pub fn files_at(&self, origin: &str, tag: &Tag) -> String {
        let (key, value) = (percent_encoded(&tag.key), percent_encoded(&tag.value));
        format!("{origin}{}/v1/artifacts/{key}={value}", self.base_path)
    }
}
