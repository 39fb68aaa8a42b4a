//! JSON of an object, made member by member. A tree of values would be more code for each kind of value in it.

/// Usual size of an object, in bytes.
const USUAL_SIZE: usize = 256;

/// Members of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members(Vec<u8>);

impl Members {
    /// Adds a member whose value is this JSON.
    #[inline(never)]
    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    #[inline(never)]
    fn name(&mut self, name: &str) {
        if self.0.is_empty() {
            self.0.reserve(USUAL_SIZE);
        } else {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Adds a text.
    #[inline(never)]
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        // A text has JSON.
        _ = super::add(&value, &mut self.0);
    }

    /// Adds a text, or null.
    pub(crate) fn text_or_null(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.raw(name, &value.to_string());
    }

    /// Adds members that were made before.
    pub(crate) fn extend(&mut self, members: &str) {
        if !self.0.is_empty() && !members.is_empty() {
            self.0.push(b',');
        }
        self.0.extend_from_slice(members.as_bytes());
    }

    /// The members alone, as [`Members::extend`] takes them.
    pub(crate) fn into_text(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }

    /// The object.
    #[inline(never)]
    pub(crate) fn object(mut self) -> String {
        self.0.insert(0, b'{');
        self.0.push(b'}');
        self.into_text()
    }
}

/// The members of an object's JSON.
pub(crate) fn members_of(object: &str) -> &str {
    object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()
}

/// JSON of a list of these values' JSON.
#[inline(never)]
pub(crate) fn list(values: &[String]) -> String {
    ["[", &values.join(","), "]"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_an_object() {
        let mut members = Members::default();
        assert_eq!(members.clone().object(), "{}");
        members.text("a", "\"<\n");
        members.text_or_null("b", None);
        members.number("c", 7);
        members.raw("d", &list(&["1".into(), "{}".into()]));
        members.extend("");
        members.extend("\"e\":true");
        let text = members.clone().object();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, serde_json::json!({"a": "\"<\n", "b": null, "c": 7, "d": [1, {}], "e": true}));
        assert_eq!(members_of(&text), members.into_text());
        assert_eq!(list(&[]), "[]");
    }
}
