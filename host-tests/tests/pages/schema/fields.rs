//! The schema's fields, and where they stand in a configuration.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// One field.
pub(crate) struct Field<'a> {
    /// As the reference and the parser's errors write it: `credentials[].name`.
    pub(crate) path: String,
    pub(crate) schema: &'a Value,
    /// Whether its object cannot be without it.
    pub(crate) required: bool,
}

/// All fields of a schema, those of objects in objects and lists too.
pub(crate) fn fields(schema: &Value) -> Vec<Field<'_>> {
    let mut all = Vec::new();
    add("", schema, &mut all);
    all
}

fn add<'a>(path: &str, schema: &'a Value, all: &mut Vec<Field<'a>>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        all.push(Field { path: path.clone(), schema: field, required });
        add(&path, field, all);
        add(&format!("{path}[]"), &field["items"], all);
    }
}

impl Field<'_> {
    pub(crate) fn examples(&self) -> &[Value] {
        self.schema["examples"].as_array().map_or(&[], Vec::as_slice)
    }

    /// An example that is not the default.
    pub(crate) fn another(&self) -> Result<Value> {
        let other = self.examples().iter().find(|example| **example != self.schema["default"]);
        other.cloned().with_context(|| format!("{} has no example but its default", self.path))
    }

    /// A configuration with this field, and without what the field excludes.
    pub(crate) fn with(&self, configuration: &Value, value: &Value) -> Result<Value> {
        let mut configuration = configuration.clone();
        let (object, name) = self.parent().context("a field of nothing")?;
        placed(configuration.pointer_mut(&object).context(object)?, &name, Some(value));
        match (self.path.as_str(), value.as_bool(), value.as_str()) {
            ("insecure_no_auth", Some(true), _) => placed(&mut configuration, "credentials", None),
            ("credentials[].kind", _, Some("bearer")) => {
                placed(&mut configuration["credentials"][0], "username", None);
            }
            ("azure_devops[].fallback_cluster", ..) => {
                placed(&mut configuration["azure_devops"][0], "cluster", Some(&json!("its-own")));
            }
            _ => {}
        }
        Ok(configuration)
    }

    /// The JSON pointer of the object that it stands in, and its name there.
    pub(crate) fn parent(&self) -> Option<(String, String)> {
        let pointer = format!("/{}", self.path.replace("[]", "/0").replace('.', "/"));
        let (object, name) = pointer.rsplit_once('/')?;
        Some((object.to_owned(), name.to_owned()))
    }
}

/// Puts a member into an object, or takes it away.
pub(crate) fn placed(object: &mut Value, name: &str, value: Option<&Value>) {
    if let Some(members) = object.as_object_mut() {
        match value {
            Some(value) => drop(members.insert(name.to_owned(), value.clone())),
            None => drop(members.remove(name)),
        }
    }
}
