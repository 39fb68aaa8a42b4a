//! The signature of an execution: its steps in their groups, up to a maximum.
//!
//! Groups nest, so the maximum holds for all of them together and not for each list: 8 MiB of `{},` would become 300 MB
//! of steps.

use super::execution::MAX_STEPS;
use super::execution::wire::Node;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// The first [`MAX_STEPS`] steps and groups; the rest is skipped.
#[derive(Default)]
pub(super) struct Signature(pub(super) Vec<Node>);

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Signature, D::Error> {
        let left = Cell::new(MAX_STEPS);
        Nodes(&left).deserialize(deserializer).map(Signature)
    }
}

/// Reads a list of nodes, or null. The cell holds how many more may be read.
struct Nodes<'l>(&'l Cell<usize>);

/// Reads one node.
struct One<'l>(&'l Cell<usize>);

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Member {
    Ref,
    Name,
    Category,
    Optional,
    Children,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Nodes<'_> {
    type Value = Vec<Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Node>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Nodes<'_> {
    type Value = Vec<Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of steps")
    }

    fn visit_none<E>(self) -> Result<Vec<Node>, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Vec<Node>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Node>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Node>, A::Error> {
        let mut nodes = Vec::new();
        while let Some(left) = self.0.get().checked_sub(1) {
            self.0.set(left);
            match list.next_element_seed(One(self.0))? {
                Some(node) => nodes.push(node),
                None => {
                    self.0.set(left + 1);
                    return Ok(nodes);
                }
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(nodes)
    }
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut node = Node::default();
        while let Some(member) = map.next_key()? {
            match member {
                Member::Ref => node.reference = map.next_value()?,
                Member::Name => node.name = map.next_value()?,
                Member::Category => node.category = map.next_value()?,
                Member::Optional => node.optional = map.next_value()?,
                Member::Children => node.children = map.next_value_seed(Nodes(self.0))?,
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(node)
    }
}
