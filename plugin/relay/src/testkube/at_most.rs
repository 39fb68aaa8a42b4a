//! A list in an answer, of which no more is kept than can be meant.
//!
//! A row takes far more memory than its text: 8 MiB of `{},` would be 1.7 GB of rows.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The first `N` items of a list; what follows them is read over.
#[derive(Debug)]
pub(super) struct AtMost<T, const N: usize> {
    pub(super) items: Vec<T>,
    /// There were more.
    pub(super) is_cut: bool,
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
}
