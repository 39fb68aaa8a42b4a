//! JSON of an object, made member by member. A tree of values would be more code for each kind of value in it.

/// Members of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members(String);

impl Members {
    /// Adds a member whose value is this JSON.
    #[inline(never)]
    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
        self.0.push_str(json);
    }

    /// Adds a text.
    #[inline(never)]
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &super::text(&value));
    }

    /// Adds a text, or null.
    pub(crate) fn text_or_null(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    /// Adds a number.
    #[inline(never)]
    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.raw(name, &value.to_string());
    }

    /// Adds members that were made before.
    pub(crate) fn extend(&mut self, members: &str) {
        if !self.0.is_empty() && !members.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(members);
    }

    /// The members alone, as [`Members::extend`] takes them.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// The object.
    #[inline(never)]
    pub(crate) fn object(&self) -> String {
        ["{", &self.0, "}"].concat()
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
        assert_eq!(members.object(), "{}");
        members.text("a", "\"<\n");
        members.text_or_null("b", None);
        members.number("c", 7);
        members.raw("d", &list(&["1".into(), "{}".into()]));
        members.extend("");
        members.extend("\"e\":true");
        let text = members.object();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, serde_json::json!({"a": "\"<\n", "b": null, "c": 7, "d": [1, {}], "e": true}));
        assert_eq!(members_of(&text), members.into_text());
        assert_eq!(list(&[]), "[]");
    }
}
