//! The order of the list, and one page of it.

use crate::check::CheckKey;
use crate::collections::in_order;
use crate::time::Wall;
use std::cmp::Ordering;
use std::fmt;

/// A check's place in the list: first what is pending, the oldest first; then what has ended, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) is_done: bool,
    /// Milliseconds since 1970 of the acceptance or, negative, of the end.
    at: i64,
    id: u64,
}

impl Rank {
    pub(super) fn pending(accepted: Wall, key: &CheckKey) -> Rank {
        Rank { is_done: false, at: accepted.0, id: key.hash() }
    }

    pub(super) fn done(ended: Wall, key: &CheckKey) -> Rank {
        Rank { is_done: true, at: ended.0.saturating_neg(), id: key.hash() }
    }

    /// Whether this is the end of the check that stands at the other place; of a pending one, if it has ended just now,
    /// after its record was read.
    pub(super) fn ends(self, other: Rank, now: Wall) -> bool {
        const JUST: u64 = 20_000;
        let ended = self.at.saturating_neg();
        match other.is_done {
            true => self == other,
            false => self.id == other.id && ended >= other.at && ended.abs_diff(now.0) <= JUST,
        }
    }

    /// The inverse of its text.
    pub(super) fn parse(text: &str) -> Option<Rank> {
        let (kind, rest) = text.split_at_checked(1)?;
        let (at, id) = rest.split_once('.')?;
        let is_id = id.len() == 16 && id.bytes().all(|c| c.is_ascii_hexdigit());
        let is_done = match kind {
            "p" => false,
            "d" => true,
            _ => return None,
        };
        let id = u64::from_str_radix(id, 16).ok().filter(|_| is_id)?;
        Some(Rank { is_done, at: at.parse().ok()?, id })
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_done { 'd' } else { 'p' };
        write!(f, "{kind}{}.{:016x}", self.at, self.id)
    }
}

/// The first rows after a place, of which there are few, whatever their number in all.
pub(super) struct Page<T> {
    after: Option<Rank>,
    limit: usize,
    rows: Vec<(Rank, T)>,
    /// The first row that was left out: there is no room for it or anything behind it.
    end: Option<Rank>,
}

impl<T> Page<T> {
    /// At most `limit` rows after this place.
    pub(super) fn new(after: Option<Rank>, limit: usize) -> Page<T> {
        Page { after, limit, rows: Vec::new(), end: None }
    }

    /// Whether it has a row of a pending check.
    pub(super) fn holds_pending(&self) -> bool {
        self.rows.iter().any(|(rank, _)| !rank.is_done)
    }

    /// Whether a row at this place may be on the page, as far as is known.
    pub(super) fn may_hold(&self, rank: Rank) -> bool {
        self.after.is_none_or(|after| rank > after) && self.end.is_none_or(|end| rank < end)
    }

    /// Adds a row, unless it is not on the page.
    pub(super) fn add(&mut self, rank: Rank, row: T) {
        if self.may_hold(rank) {
            self.rows.push((rank, row));
        }
        if self.rows.len() > 2 * self.limit + 16 {
            self.cut();
        }
    }

    /// Notes that there is a row at this place which is not on the page, so that nothing behind it is.
    pub(super) fn leave_out(&mut self, rank: Rank) {
        self.end = Some(self.end.map_or(rank, |end| end.min(rank)));
    }

    /// Takes out the rows for which `is` does not hold.
    pub(super) fn retain(&mut self, is: impl Fn(&T) -> bool) {
        self.rows.retain(|(_, row)| is(row));
    }

    /// Leaves the first rows, in order.
    fn cut(&mut self) {
        let compare = |a: usize, b: usize| -> Ordering {
            let rank = |at: usize| self.rows.get(at).map(|(rank, _)| *rank);
            rank(a).cmp(&rank(b))
        };
        let order = in_order(self.rows.len(), &compare);
        if let Some(end) = order.get(self.limit).and_then(|at| self.rows.get(*at)).map(|(rank, _)| *rank) {
            self.leave_out(end);
        }
        let mut rows: Vec<Option<(Rank, T)>> = std::mem::take(&mut self.rows).into_iter().map(Some).collect();
        let first = order.into_iter().take(self.limit);
        self.rows = first.filter_map(|at| rows.get_mut(at)?.take()).collect();
    }

    /// The rows in order, and the place of the first that was left out.
    pub(super) fn finish(mut self) -> (Vec<(Rank, T)>, Option<Rank>) {
        self.cut();
        if let Some(end) = self.end {
            self.rows.retain(|(rank, _)| *rank < end);
        }
        (self.rows, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;

    fn rank(n: i64) -> Rank {
        Rank { is_done: n >= 1_000, at: n, id: 7 }
    }

    /// A page, and the place of its last row if there are more.
    fn page(after: Option<Rank>, limit: usize, all: &[i64]) -> (Vec<i64>, Option<Rank>) {
        let mut page = Page::new(after, limit);
        for n in all {
            page.add(rank(*n), *n);
        }
        let (rows, end) = page.finish();
        let last = rows.last().map(|(rank, _)| *rank);
        (rows.into_iter().map(|(_, n)| n).collect(), end.and(last))
    }

    #[test]
    fn pages_hold_each_row_once_and_in_order() {
        // In an order that is none: 7 has no divisor in common with 1,999.
        let all: Vec<i64> = (0..1_999).map(|n| n * 7 % 1_999).collect();
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let (rows, next) = page(after, 23, &all);
            assert!(rows.len() <= 23);
            seen.extend(rows);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert!(seen.iter().copied().eq(0..1_999), "{seen:?}");
    }

    #[test]
    fn a_row_that_is_taken_out_leaves_no_gap() {
        let mut page = Page::new(None, 5);
        for n in 0..100 {
            page.add(rank(n), n);
        }
        page.retain(|n| *n > 2);
        let (rows, end) = page.finish();
        let rows: Vec<i64> = rows.into_iter().map(|(_, n)| n).collect();
        assert!(!rows.is_empty() && rows.iter().copied().eq((3..).take(rows.len())), "{rows:?}");
        assert_eq!(end, rows.last().map(|n| rank(*n + 1)));
    }

    #[test]
    fn a_place_comes_back_from_its_text() {
        let key = record(7).key;
        for rank in [Rank::pending(Wall(1_769_186_640_000), &key), Rank::done(Wall(1_769_186_640_000), &key)]
        {
            assert_eq!(Rank::parse(&rank.to_string()), Some(rank));
        }
        for text in [
            "",
            "p",
            "p1",
            "x1.0123456789abcdef",
            "p1.0123",
            "p.0123456789abcdef",
            "p1.+123456789abcdef",
            "é",
        ] {
            assert_eq!(Rank::parse(text), None, "{text}");
        }
        let [old, new] = [1, 2].map(|at| Rank::done(Wall(at), &key));
        assert!(Rank::pending(Wall(9), &key) < new && new < old);
    }
}
