//! Bounded lists and maps in answers: items beyond a maximum are not kept.
//!
//! A row takes far more memory than its text: 8 MiB of `{},` would be 1.7 GB of rows.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// The first `N` items of a list; the rest is skipped.
#[derive(Debug)]
pub(crate) struct AtMost<T, const N: usize> {
    pub(crate) items: Vec<T>,
    /// Whether there were more.
    pub(crate) is_cut: bool,
}

impl<T, const N: usize> Default for AtMost<T, N> {
    fn default() -> AtMost<T, N> {
        AtMost { items: Vec::new(), is_cut: false }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AtMost<T, N>, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

struct List<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for List<T, N> {
    type Value = AtMost<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AtMost<T, N>, A::Error> {
        let mut items = Vec::new();
        while items.len() < N {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(AtMost { items, is_cut: false }),
            }
        }
        let mut is_cut = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            is_cut = true;
        }
        Ok(AtMost { items, is_cut })
    }
}

/// The first `N` members of an object whose members are of one type; the rest is skipped.
#[derive(Debug)]
pub(crate) struct MapOfAtMost<T, const N: usize> {
    pub(crate) items: BTreeMap<String, T>,
}

impl<T, const N: usize> Default for MapOfAtMost<T, N> {
    fn default() -> MapOfAtMost<T, N> {
        MapOfAtMost { items: BTreeMap::new() }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for MapOfAtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MapOfAtMost<T, N>, D::Error> {
        deserializer.deserialize_map(Map(PhantomData))
    }
}

struct Map<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Map<T, N> {
    type Value = MapOfAtMost<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MapOfAtMost<T, N>, A::Error> {
        let mut items = BTreeMap::new();
        while items.len() < N {
            match map.next_entry()? {
                Some((name, item)) => items.insert(name, item),
                None => return Ok(MapOfAtMost { items }),
            };
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(MapOfAtMost { items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_that_is_too_long_the_first_items_are_kept_and_the_rest_must_still_be_json() {
        let read = |text: &str| serde_json::from_str::<AtMost<u32, 3>>(text);
        for (text, items, is_cut) in
            [("[]", &[][..], false), ("[1,2,3]", &[1, 2, 3], false), ("[1,2,3,{}]", &[1, 2, 3], true)]
        {
            let list = read(text).unwrap();
            assert_eq!((list.items.as_slice(), list.is_cut), (items, is_cut), "{text}");
        }
        for text in ["{}", "1", "[1,\"x\"]", "[1,2,3,4", "[1,2,3,]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_a_map_that_is_too_long_the_first_members_are_kept() {
        let read = |text: &str| serde_json::from_str::<MapOfAtMost<u32, 2>>(text);
        for (text, count) in [("{}", 0), (r#"{"a":1,"b":2}"#, 2), (r#"{"a":1,"a":3,"b":2,"c":[]}"#, 2)] {
            assert_eq!(read(text).unwrap().items.len(), count, "{text}");
        }
        for text in ["[]", r#"{"a":""}"#, r#"{"a":1,"b":2,"c":}"#, r#"{"a":1,"b":2,3:1}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
