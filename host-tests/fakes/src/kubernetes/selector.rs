//! `labelSelector` and `fieldSelector`.

use std::collections::BTreeMap;

use super::object::Object;
use super::valid::{wrong_key, wrong_label};

/// What objects of a list must be; empty: anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    /// Field, value, and whether it must be that or must not.
    fields: Vec<(Field, String, bool)>,
}

/// One condition on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    wants: Wants,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wants {
    Exists,
    Missing,
    In(Vec<String>),
    /// A label that is missing fits too.
    NotIn(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Type,
}

impl Selector {
    /// Both as they stand in a query, decoded. The error is the server's message.
    pub(super) fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Selector, String> {
        let labels = requirements(labels.unwrap_or_default())?.into_iter().map(|one| label(&one));
        let fields = fields.unwrap_or_default().split(',').filter(|one| !one.is_empty()).map(field);
        let labels =
            labels.collect::<Result<_, _>>().map_err(|why| format!("unable to parse requirement: {why}"))?;
        Ok(Selector { labels, fields: fields.collect::<Result<_, _>>()? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn fits(&self, object: &Object) -> bool {
        let field = |field: Field| match field {
            Field::Name => object.metadata.name.as_str(),
            Field::Namespace => &object.metadata.namespace,
            Field::Type => object.secret_type().unwrap_or_default(),
        };
        self.labels.iter().all(|requirement| requirement.fits(&object.metadata.labels))
            && self.fields.iter().all(|(name, value, is)| (field(*name) == value) == *is)
    }
}

impl Requirement {
    fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.wants {
            Wants::Exists => value.is_some(),
            Wants::Missing => value.is_none(),
            Wants::In(values) => value.is_some_and(|value| values.contains(value)),
            Wants::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
        }
    }
}

/// The requirements between commas; those inside brackets separate values.
fn requirements(text: &str) -> Result<Vec<String>, String> {
    let (mut found, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match (c, found.last_mut()) {
            (',', _) if depth == 0 => found.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    if depth != 0 {
        return Err("unable to parse requirement: found '', expected: ',' or ')'".to_owned());
    }
    Ok(found.into_iter().filter(|one| !one.trim().is_empty()).collect())
}

fn label(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, wants) = if let Some(key) = text.strip_prefix('!') {
        (key, Wants::Missing)
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Wants::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Wants::In(one(value)))
    } else if let Some((key, rest)) = text.split_once(char::is_whitespace) {
        let (operator, values) = rest.trim().split_once('(').ok_or_else(|| {
            let found = rest.split_whitespace().nth(1).unwrap_or_default();
            format!("found '{found}' expected: '('")
        })?;
        let values = values.trim().trim_end_matches(')').split(',').map(|value| value.trim().to_owned());
        match operator.trim() {
            "in" => (key, Wants::In(values.collect())),
            "notin" => (key, Wants::NotIn(values.collect())),
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    } else {
        (text, Wants::Exists)
    };
    let key = key.trim().to_owned();
    if let Some(why) = wrong_key(&key) {
        return Err(format!("key: {why}"));
    }
    if let Wants::In(values) | Wants::NotIn(values) = &wants {
        for (place, value) in values.iter().enumerate() {
            if let Some(why) = wrong_label(value) {
                return Err(format!("values[{place}][{key}]: {why}"));
            }
        }
    }
    Ok(Requirement { key, wants })
}

fn field(text: &str) -> Result<(Field, String, bool), String> {
    let (name, value, is) = if let Some((name, value)) = text.split_once("!=") {
        (name, value, false)
    } else {
        let (name, value) = text
            .split_once("==")
            .or_else(|| text.split_once('='))
            .ok_or_else(|| format!("invalid field selector: {text}"))?;
        (name, value, true)
    };
    let field = match name {
        "metadata.name" => Field::Name,
        "metadata.namespace" => Field::Namespace,
        "type" => Field::Type,
        _ => return Err(format!("field label not supported: {name}")),
    };
    Ok((field, value.to_owned(), is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::call::Resource;

    fn fits(selector: &str) -> bool {
        let body = serde_json::json!({"metadata": {"name": "n", "labels": {"a": "1", "x.dev/b": "2"}}});
        let object = Object::read(Resource::Secrets, &body).unwrap();
        Selector::parse(Some(selector), None).unwrap().fits(&object)
    }

    #[test]
    fn labels_are_selected_as_kubernetes_documents_it() {
        for selector in ["", "a", "a=1", "a==1,x.dev/b=2", "a in (0, 1),!c", "c!=1", "c notin (1)", "x.dev/b"]
        {
            assert!(fits(selector), "{selector}");
        }
        for selector in ["c", "a=2", "a!=1", "!a", "a in (2)", "a notin (1,2)", "a=1,c"] {
            assert!(!fits(selector), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for selector in ["owner in a", "a=b c", "a in (b", "=", "a=b/c"] {
            let parsed = Selector::parse(Some(selector), None);
            assert!(parsed.is_err(), "{selector}: {parsed:?}");
        }
        assert!(Selector::parse(None, Some("data.record=x")).is_err());
    }
}
