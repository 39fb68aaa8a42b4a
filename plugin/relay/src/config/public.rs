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

    /// The link to one file of an execution; `None` without `public_url`, and where the name has something in it that a path
    /// may not have.
    pub fn public_file(&self, tag: &Tag, execution: &str, name: &str) -> Option<String> {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['%', '\\', ';']);
        if !name.split('/').all(is_plain) || name.contains(char::is_control) {
            return None;
        }
        let parts = std::iter::once(execution).chain(name.split('/'));
        Some(parts.fold(self.public_files(tag)?, |link, part| format!("{link}/{}", percent_encoded(part))))
    }

    /// The same link with this origin, such as `https://relay.example:8443`.
    pub fn files_at(&self, origin: &str, tag: &Tag) -> String {
        let (key, value) = (percent_encoded(&tag.key), percent_encoded(&tag.value));
        format!("{origin}{}/v1/artifacts/{key}={value}", self.base_path)
    }
}
