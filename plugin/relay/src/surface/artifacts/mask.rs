//! Masks of an archive: regular expressions in Go's syntax, as far as the size of the chosen files can be computed
//! here.
//!
//! Testkube applies them. Here they only tell how large an archive will be, so a mask that cannot be read chooses
//! everything.

/// One alternative of a mask: characters, `.`, `[…]`, each with `*`, `+` or `?`, and `^` and `$` at the ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mask {
    atoms: Vec<(Atom, Repeat)>,
    from_start: bool,
    to_end: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Atom {
    Any,
    One(char),
    /// A character in one of these ranges, or in none of them.
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Once,
    Optional,
    Any,
    Many,
}

/// Maximum atoms: one bit for each, and one for the end.
const MAX_ATOMS: usize = 63;

impl Mask {
    /// Reads a mask; `None` if it has more than is understood here.
    pub(super) fn read(text: &str) -> Option<Mask> {
        let (from_start, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let mut chars = text.chars().peekable();
        let (mut atoms, mut to_end) = (Vec::new(), false);
        while let Some(c) = chars.next() {
            let atom = match c {
                '$' if chars.peek().is_none() => {
                    to_end = true;
                    break;
                }
                '.' => Atom::Any,
                '\\' => Atom::One(chars.next().filter(char::is_ascii_punctuation)?),
                '[' => class(&mut chars)?,
                '(' | ')' | '|' | '{' | '}' | '*' | '+' | '?' | '^' | '$' | ']' => return None,
                c => Atom::One(c),
            };
            let repeat = match chars.peek() {
                Some('*') => Repeat::Any,
                Some('+') => Repeat::Many,
                Some('?') => Repeat::Optional,
                _ => Repeat::Once,
            };
            if repeat != Repeat::Once {
                chars.next();
            }
            atoms.push((atom, repeat));
        }
        (atoms.len() <= MAX_ATOMS).then_some(Mask { atoms, from_start, to_end })
    }

    /// Whether the mask chooses a file of this name: it matches some part of it.
    pub(super) fn chooses(&self, name: &str) -> bool {
        let end = 1_u64 << self.atoms.len();
        let mut states = self.skipped(1);
        for c in name.chars() {
            if states & end != 0 && !self.to_end {
                return true;
            }
            let mut next = u64::from(!self.from_start);
            for (n, (atom, repeat)) in self.atoms.iter().enumerate() {
                let here = 1_u64 << n;
                if states & here != 0 && atom.fits(c) {
                    next |= here << 1;
                    if matches!(repeat, Repeat::Any | Repeat::Many) {
                        next |= here;
                    }
                }
            }
            states = self.skipped(next);
        }
        states & end != 0
    }

    /// Adds the states that follow atoms that may be absent.
    fn skipped(&self, mut states: u64) -> u64 {
        for (n, (_, repeat)) in self.atoms.iter().enumerate() {
            let here = 1_u64 << n;
            if states & here != 0 && matches!(repeat, Repeat::Any | Repeat::Optional) {
                states |= here << 1;
            }
        }
        states
    }
}

impl Atom {
    fn fits(&self, c: char) -> bool {
        match self {
            Atom::Any => c != '\n',
            Atom::One(own) => *own == c,
            Atom::Class { is_negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *is_negated
            }
        }
    }
}

/// Reads a class, after its opening bracket.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Atom> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let from = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Atom::Class { is_negated, ranges }),
            '[' | ']' | '-' => return None,
            '\\' => chars.next().filter(char::is_ascii_punctuation)?,
            c => c,
        };
        let to = match chars.next_if_eq(&'-') {
            None => from,
            Some(_) => match chars.next()? {
                ']' | '[' | '\\' | '-' => return None,
                to if to >= from => to,
                _ => return None,
            },
        };
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_that_is_understood_chooses_what_go_chooses() {
        for (mask, names, others) in [
            (r".*\.xml", &["a.xml", "r/a.xml", "a.xml.gz"][..], &["a.xm", "axml"][..]),
            (r"\.xml$", &["a.xml"], &["a.xml.gz"]),
            ("^results/", &["results/a"], &["x/results/a", "results"]),
            (
                "^r[^/]*/j+unit-?[0-9a-c]*$",
                &["r/junit", "res/jjunit-1b"],
                &["r/x/junit", "r/junit-d", "r/unit"],
            ),
            ("junit", &["junit", "a/junit.xml"], &["juni", ""]),
            ("^$", &[""], &["a"]),
            ("", &["", "a"], &[]),
            ("a*", &["", "b", "aa"], &[]),
            ("ab+c?d", &["abd", "xabbcd"], &["ad", "abc"]),
            ("é.", &["é1"], &["é"]),
        ] {
            let read = Mask::read(mask).unwrap();
            for name in names {
                assert!(read.chooses(name), "{mask} {name}");
            }
            for name in others {
                assert!(!read.chooses(name), "{mask} {name}");
            }
        }
    }

    #[test]
    fn a_mask_that_is_not_understood_is_none() {
        for mask in [
            "(a|b)",
            "a|b",
            "a{2}",
            r"\d",
            r"\Qa",
            "a**",
            "a*?",
            "a$b",
            "a^",
            "*",
            "[",
            "[a",
            "[]",
            "[b-a]",
            "[[:alpha:]]",
            r"\",
        ] {
            assert_eq!(Mask::read(mask), None, "{mask}");
        }
        assert!(Mask::read(&"a".repeat(MAX_ATOMS)).is_some_and(|mask| mask.chooses(&"a".repeat(64))));
        assert_eq!(Mask::read(&"a".repeat(MAX_ATOMS + 1)), None);
    }
}
