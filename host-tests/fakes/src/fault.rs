//! Which requests a fault strikes: the next few, all until it is cleared, or all in a time window.

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The next requests of its route, this number of them.
    Next(u32),
    /// Every request until the faults are cleared.
    UntilCleared,
    /// Every request at `from <= now < until`, in Unix milliseconds.
    Between {
        /// The first millisecond in which it strikes.
        from: i64,
        /// The first millisecond in which it no longer strikes.
        until: i64,
    },
}

/// Faults of one fake, oldest first; at most one strikes a request.
#[derive(Clone, Debug)]
pub(crate) struct Faults<R, F> {
    armed: Vec<(R, Span, F)>,
}

impl<R, F> Default for Faults<R, F> {
    fn default() -> Self {
        Self { armed: Vec::new() }
    }
}

impl<R: PartialEq, F: Clone> Faults<R, F> {
    /// Arms a fault for a route.
    pub(crate) fn arm(&mut self, route: R, span: Span, fault: F) {
        self.armed.push((route, span, fault));
    }

    /// Disarms the faults whose route fits.
    pub(crate) fn clear(&mut self, fits: impl Fn(&R) -> bool) {
        self.armed.retain(|(route, ..)| !fits(route));
    }

    /// The fault that strikes a request now, if any; a counted one is used up by it, unless it is a preflight's: that comes
    /// at any time, and a test counts the others.
    pub(crate) fn strike(&mut self, now: i64, is_preflight: bool, fits: impl Fn(&R) -> bool) -> Option<F> {
        let index = self.armed.iter().position(|(route, span, _)| {
            fits(route)
                && match span {
                    Span::Next(left) => *left > 0,
                    Span::UntilCleared => true,
                    Span::Between { from, until } => (*from..*until).contains(&now),
                }
        })?;
        let (_, span, fault) = &mut self.armed[index];
        let fault = fault.clone();
        if let (Span::Next(left), false) = (span, is_preflight) {
            *left -= 1;
            if *left == 0 {
                self.armed.remove(index);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_strikes_so_often_and_no_more() {
        let mut faults = Faults::default();
        faults.arm('l', Span::Next(2), 502);
        assert_eq!(faults.strike(0, false, |r| *r == 'g'), None);
        assert_eq!(faults.strike(0, true, |r| *r == 'l'), Some(502), "a preflight uses none up");
        assert_eq!(faults.strike(0, false, |r| *r == 'l'), Some(502));
        assert_eq!(faults.strike(0, false, |r| *r == 'l'), Some(502));
        assert_eq!(faults.strike(0, false, |r| *r == 'l'), None);
    }

    #[test]
    fn a_window_includes_its_start_and_not_its_end() {
        let mut faults = Faults::default();
        faults.arm((), Span::Between { from: 10, until: 20 }, ());
        let struck: Vec<_> = [9, 10, 19, 20].map(|now| faults.strike(now, false, |()| true).is_some()).into();
        assert_eq!(struck, [false, true, true, false]);
    }

    #[test]
    fn a_fault_until_cleared_strikes_until_cleared() {
        let mut faults = Faults::default();
        faults.arm((), Span::UntilCleared, ());
        assert!((0..5).all(|now| faults.strike(now, false, |()| true).is_some()));
        faults.clear(|()| true);
        assert_eq!(faults.strike(9, false, |()| true), None);
    }
}
