//! Detection of doubled keys in one object of the configuration. A map would silently keep the last one.

use crate::text::excerpt;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// Any JSON without doubled keys in an object, at any depth. Otherwise the error names the key and its line.
pub(super) struct Undoubled;

impl<'de> Deserialize<'de> for Undoubled {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Undoubled, D::Error> {
        d.deserialize_any(NoDoubles)
    }
}

struct NoDoubles;

impl<'de> Visitor<'de> for NoDoubles {
    type Value = Undoubled;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Undoubled, E> {
        Ok(Undoubled)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Undoubled, E> {
        Ok(Undoubled)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Undoubled, E> {
        Ok(Undoubled)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Undoubled, E> {
        Ok(Undoubled)
    }

    fn visit_str<E>(self, _: &str) -> Result<Undoubled, E> {
        Ok(Undoubled)
    }

    fn visit_unit<E>(self) -> Result<Undoubled, E> {
        Ok(Undoubled)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Undoubled, A::Error> {
        while items.next_element::<Undoubled>()?.is_some() {}
        Ok(Undoubled)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Undoubled, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = members.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(Error::custom(format!(
                    "the key `{}` appears twice in one object",
                    excerpt(&key)
                )));
            }
            seen.insert(key);
            members.next_value::<Undoubled>()?;
        }
        Ok(Undoubled)
    }
}
