//! Collections in little code.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// A `BTreeMap` or `BTreeSet` of these items. `collect` would sort them first, which is 8 KB of code for each type.
pub(crate) fn tree<T, C: Default + Extend<T>>(items: impl IntoIterator<Item = T>) -> C {
    let mut tree = C::default();
    tree.extend(items);
    tree
}

/// The places of `count` items, sorted by comparing two of them. The one sort of the module: each is 6 KB of code.
pub(crate) fn in_order(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|a, b| compare(*a, *b));
    places
}

/// A map of few entries: a list in the order of the keys. Adding or removing an entry moves those behind it. A
/// `BTreeMap` does not, but is 5 KB of code for each pair of types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Few<K, V> {
        Few(Vec::new())
    }
}

impl<K: Ord, V> Few<K, V> {
    /// The place of a key; as an error, the place where it would be added.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(self.place(key).ok()?).map(|(_, value)| value)
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// Adds a value, or replaces the one that is there.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.place(&key) {
            Ok(place) => {
                if let Some((_, old)) = self.0.get_mut(place) {
                    *old = value;
                }
            }
            Err(place) => self.0.insert(place, (key, value)),
        }
    }

    /// The value of a key, which is `new` if there was none. Never `None`.
    pub(crate) fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> Option<&mut V> {
        let place = match self.place(&key) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, (key, new()));
                place
            }
        };
        self.0.get_mut(place).map(|(_, value)| value)
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        Some(self.0.remove(place).1)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Keeps the entries for which `is` holds.
    pub(crate) fn retain(&mut self, is: impl Fn(&K, &V) -> bool) {
        self.0.retain(|(key, value)| is(key, value));
    }

    /// All entries in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The same, with values that can be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Ord> Few<K, u32> {
    /// Adds 1 to the number of a key.
    pub(crate) fn count(&mut self, key: K) {
        if let Some(number) = self.entry(key, || 0) {
            *number = number.saturating_add(1);
        }
    }
}

impl<K, V> IntoIterator for Few<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_put_in_order_by_their_places() {
        let items = ["b", "c", "a"];
        assert_eq!(in_order(items.len(), &|a, b| items[a].cmp(items[b])), [2, 0, 1]);
    }

    #[test]
    fn entries_are_found_in_the_order_of_their_keys() {
        let mut few: Few<String, u32> = Few::default();
        for (key, value) in [("b", 1), ("c", 2), ("a", 3), ("b", 4)] {
            few.insert(key.into(), value);
        }
        assert_eq!(few.keys().cloned().collect::<String>(), "abc");
        assert_eq!(few.values().copied().collect::<Vec<_>>(), [3, 4, 2]);
        *few.entry("b".into(), || 0).unwrap() += 1;
        few.count("d".into());
        assert_eq!((few.get("b"), few.get("d"), few.get("e")), (Some(&5), Some(&1), None));
        assert_eq!((few.remove("a"), few.remove("a"), few.len()), (Some(3), None, 3));
        few.retain(|key, _| key == "c");
        assert!(few.contains_key("c") && !few.contains_key("b"));
        few.iter_mut().for_each(|(_, value)| *value = 0);
        assert_eq!(few.get_mut("c"), Some(&mut 0));
        assert_eq!((few.pop_first(), few.pop_first()), (Some(("c".into(), 0)), None));
        assert!(few.is_empty());
    }
}
