//! The tag by which a check finds its executions.

use crate::text::excerpt;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A tag that is safe in Testkube's selector grammar, in which `=` and `,` cannot be escaped. Testkube silently drops a
/// selector that it cannot use, and then returns every execution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tag {
    /// The key, such as `ado-run`.
    pub key: String,
    /// The value, such as `shop-4711`.
    pub value: String,
}

/// The configured rule for tags.
#[derive(Clone, Debug)]
pub struct TagRule {
    /// The key of a tag that is given by its value alone.
    pub key: String,
    /// Whether the value must contain the BuildId as one of its parts between `-`, `_` or `.`, so that no two runs can
    /// share a tag.
    pub bind_to_build: bool,
}

impl TagRule {
    /// Reads `key=value`, or a value alone, which gets the configured key. Does not check its build.
    ///
    /// # Errors
    /// What is wrong with it, without a full stop.
    pub fn name(&self, text: &str) -> Result<Tag, String> {
        let (key, value) = text.split_once('=').unwrap_or((&self.key, text));
        if key != self.key {
            return Err(format!(
                "the tag's key is `{}`; this Testrelay is configured for `{}`",
                excerpt(key),
                self.key
            ));
        }
        if !is_value(value) {
            return Err(format!(
                "`{}` cannot be a tag's value: use letters, digits and `-_.:/@+`, at most 128 characters (Testkube's selector cannot contain `=`, `,` or spaces)",
                excerpt(value)
            ));
        }
        Ok(Tag { key: key.into(), value: value.into() })
    }

    /// Reads the tag of a check, which must belong to its build if the rule says so.
    ///
    /// # Errors
    /// A sentence for the people at the pipeline.
    pub fn read(&self, text: &str, build: Option<u64>) -> Result<Tag, String> {
        let tag = self.name(text)?;
        if self.bind_to_build {
            let Some(build) = build else {
                return Err("no BuildId was sent, and this Testrelay binds tags to builds: add \"BuildId\": \"$(build.BuildId)\" to the check's headers".into());
            };
            if !tag.is_of(build) {
                return Err(format!(
                    "the tag's value `{}` does not contain the BuildId {build} as one of its parts between `-`, `_` or `.`, so another run could have the same tag: use a value such as `shop-$(build.BuildId)`",
                    excerpt(&tag.value)
                ));
            }
        }
        Ok(tag)
    }
}

impl Tag {
    /// Whether its value contains the BuildId as one of its parts, so that it belongs to this build and no other.
    pub fn is_of(&self, build: u64) -> bool {
        let build = build.to_string();
        self.value.split(['-', '_', '.']).any(|part| part == build)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// Whether `text` can be a tag's key.
pub fn is_key(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_./".contains(&c))
}

/// Whether `text` can be a pattern for tag values: their characters, and `*`.
pub fn is_pattern(text: &str) -> bool {
    text.len() <= 128 && is_value(&text.replace('*', "x"))
}

/// Whether a tag's value matches a pattern, in which `*` stands for any characters or none.
pub fn fits(pattern: &str, value: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = value.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn is_value(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.:/@+".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_values() {
        for (pattern, value, want) in [
            ("shop-*", "shop-4711", true),
            ("shop-*", "workshop-4711", false),
            ("shop", "shop-1", false),
            ("*", "anything", true),
            ("*-4711", "shop-4711", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(fits(pattern, value), want, "{pattern} {value}");
        }
        assert!(is_pattern("shop-*") && !is_pattern("a b") && !is_pattern(""));
    }

    fn rule() -> TagRule {
        TagRule { key: "ado-run".into(), bind_to_build: true }
    }

    #[test]
    fn a_value_alone_gets_the_configured_key() {
        let tag = rule().read("shop-4711", Some(4711)).unwrap();
        assert_eq!(tag, rule().read("ado-run=shop-4711", Some(4711)).unwrap());
        assert_eq!(tag.to_string(), "ado-run=shop-4711");
    }

    #[test]
    fn a_tag_is_bound_to_its_build_by_a_whole_part() {
        for good in ["4711", "shop-4711", "shop.4711.x", "a_4711_b", "4711-shop"] {
            assert!(rule().read(good, Some(4711)).is_ok(), "{good}");
        }
        for bad in ["shop", "shop-47110", "shop4711", "shop-04711", "shop/4711"] {
            assert!(rule().read(bad, Some(4711)).unwrap_err().contains("BuildId 4711"), "{bad}");
        }
        assert!(rule().read("shop-4711", None).unwrap_err().contains("$(build.BuildId)"));
    }

    #[test]
    fn what_testkubes_grammar_cannot_hold_is_refused() {
        for bad in
            ["ado-run=a=4711", "a,4711", "ado-run=", "", "a 4711", " 4711", "ä-4711", "other=4711", "a\n4711"]
        {
            assert!(rule().read(bad, Some(4711)).is_err(), "{bad}");
        }
    }
}
