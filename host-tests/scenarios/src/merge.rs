//! JSON merge patch.

use serde_json::{Value, json};

/// JSON merge patch (RFC 7396): members replace or are added, `null` removes, lists are replaced whole.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_replaces_adds_and_removes() {
        let mut value = json!({ "a": { "b": 1, "c": 2 }, "list": [1, 2] });
        merge(&mut value, &json!({ "a": { "b": null, "d": 3 }, "list": [9], "new": { "x": null, "y": 1 } }));
        assert_eq!(value, json!({ "a": { "c": 2, "d": 3 }, "list": [9], "new": { "y": 1 } }));
    }
}
