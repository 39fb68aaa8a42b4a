//! The tokens that came with a check's deliveries.

use crate::secret::Secret;
use crate::time::Mono;
use serde::{Deserialize, Serialize};

/// The newest token and the one before it. When one is refused, the other is tried. A token that Azure DevOps has taken
/// at the check's own plan stays the presented one, and gives way only to another that was taken there: anybody who
/// knows a check's ids can deliver it with another token, and what that token may do elsewhere says nothing about this
/// plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    newest: Secret,
    previous: Option<Secret>,
    use_previous: bool,
    #[serde(default)]
    about_newest: About,
    #[serde(default, skip_serializing_if = "super::is_default")]
    about_previous: About,
}

/// The state of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// The delivery that brought it, which identifies it in calls. 0 in records of modules that did not note it.
    delivery: u32,
    ends: Ends,
    /// Whether Azure DevOps has taken a call with it at the check's plan.
    taken: bool,
    /// Whether it was refused when it was tried beside a taken one.
    #[serde(default, skip_serializing_if = "super::is_default")]
    tried: bool,
}

/// When a token ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ends {
    /// The token's end, by this process's clock.
    pub at: Mono,
    /// The latest time of a decision that must be delivered before that.
    pub decide_by: Mono,
    /// Whether the token does not state its end, so that `azure_devops[].token_life` was assumed.
    pub assumed: bool,
}

impl Tokens {
    /// The token of a first delivery.
    pub fn new(token: Secret, delivery: u32, ends: Ends) -> Tokens {
        Tokens {
            newest: token,
            previous: None,
            use_previous: false,
            about_newest: About { delivery, ends, ..About::default() },
            about_previous: About::default(),
        }
    }

    /// Sets the delivery that brought the newest token.
    pub fn came_by(&mut self, delivery: u32) {
        self.about_newest.delivery = delivery;
    }

    /// The token to present.
    pub fn current(&self) -> &Secret {
        self.previous.as_ref().filter(|_| self.use_previous).unwrap_or(&self.newest)
    }

    /// The tokens, oldest first, each with the delivery that brought it and its end.
    pub fn all(&self) -> impl Iterator<Item = (&Secret, u32, Ends)> {
        let previous = self.previous.iter().map(|token| (token, self.about_previous));
        let all = previous.chain([(&self.newest, self.about_newest)]);
        all.map(|(token, about)| (token, about.delivery, about.ends))
    }

    /// Changes each time in it.
    pub(super) fn each_end(&mut self, change: impl Fn(&mut Mono)) {
        for about in [&mut self.about_newest, &mut self.about_previous] {
            change(&mut about.ends.at);
            change(&mut about.ends.decide_by);
        }
    }

    /// Number of tokens.
    pub fn count(&self) -> u32 {
        1 + u32::from(self.previous.is_some())
    }

    /// The delivery that brought the [current](Tokens::current) token.
    pub fn current_delivery(&self) -> u32 {
        if self.uses_previous() { self.about_previous.delivery } else { self.about_newest.delivery }
    }

    /// Adds a further delivery's token. A known one keeps its place: it may be older than the newest.
    pub fn add(&mut self, token: Secret, delivery: u32, ends: Ends) {
        if self.hold(&token) {
            return;
        }
        let old = std::mem::replace(&mut self.newest, token);
        let about_new = About { delivery, ends, ..About::default() };
        let about_old = std::mem::replace(&mut self.about_newest, about_new);
        if about_old.taken || !self.about_previous.taken {
            (self.previous, self.about_previous) = (Some(old), about_old);
        }
        self.use_previous = self.previous.is_some() && self.about_previous.taken;
    }

    /// The newest token and its delivery, if it should be tried beside the presented one because it may live longer. If
    /// it is refused, nothing is lost.
    pub fn trial(&self) -> Option<(&Secret, u32)> {
        let about = self.about_newest;
        let is_untried = self.uses_previous() && self.about_previous.taken && !about.taken && !about.tried;
        is_untried.then_some((&self.newest, about.delivery))
    }

    /// Whether this token is one of them.
    pub fn hold(&self, token: &Secret) -> bool {
        let is_it = |known: &Secret| known.is(token.reveal().as_bytes());
        is_it(&self.newest) || self.previous.as_ref().is_some_and(is_it)
    }

    /// Notes that Azure DevOps refused the token that this delivery brought.
    pub fn refused(&mut self, delivery: u32) {
        if self.about_newest.delivery == delivery && self.uses_previous() {
            self.about_newest.tried = true;
        } else if self.current_delivery() == delivery {
            self.use_previous = self.previous.is_some() && !self.use_previous;
        }
    }

    /// Notes that Azure DevOps took a call at the check's plan with the token that this delivery brought. False if that
    /// was known, or the token is gone.
    pub fn note_taken(&mut self, delivery: u32) -> bool {
        let has_previous = self.previous.is_some();
        if self.about_newest.delivery == delivery && !self.about_newest.taken {
            self.use_previous = false;
        }
        let about = match (self.about_newest.delivery == delivery, has_previous) {
            (true, _) => &mut self.about_newest,
            (false, true) if self.about_previous.delivery == delivery => &mut self.about_previous,
            _ => return false,
        };
        !std::mem::replace(&mut about.taken, true)
    }

    /// Whether the token that this delivery brought is held and has never been taken.
    pub fn can_take(&self, delivery: u32) -> bool {
        let newest = self.about_newest.delivery == delivery && !self.about_newest.taken;
        let previous = self.about_previous.delivery == delivery && !self.about_previous.taken;
        newest || (self.previous.is_some() && previous)
    }

    /// Whether the token that this delivery brought is held.
    pub fn came_with(&self, delivery: u32) -> bool {
        self.about_newest.delivery == delivery
            || (self.previous.is_some() && self.about_previous.delivery == delivery)
    }

    /// Whether the token that this delivery brought has been taken at the check's plan.
    pub fn was_taken_with(&self, delivery: u32) -> bool {
        let newest = self.about_newest.delivery == delivery && self.about_newest.taken;
        let previous = self.about_previous.delivery == delivery && self.about_previous.taken;
        newest || (self.previous.is_some() && previous)
    }

    /// Whether one of them has been taken at the check's plan.
    pub fn are_proven(&self) -> bool {
        self.about_newest.taken || (self.previous.is_some() && self.about_previous.taken)
    }

    /// Whether a module that did not note the fate of tokens wrote them.
    pub fn are_of_old_record(&self) -> bool {
        self.about_newest == About::default()
    }

    /// The later end of the taken tokens; while none was taken, of all. `None` if it was not noted.
    pub fn ends(&self) -> Option<Ends> {
        let both = [Some(self.about_newest), self.previous.as_ref().map(|_| self.about_previous)];
        let noted = || both.into_iter().flatten().filter(|about| about.delivery > 0);
        let taken = noted().filter(|about| about.taken).map(|about| about.ends).max();
        taken.or_else(|| noted().map(|about| about.ends).max())
    }

    fn uses_previous(&self) -> bool {
        self.use_previous && self.previous.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Secret {
        Secret::new(text.into())
    }

    fn ends(at: u64) -> Ends {
        Ends { at: Mono(at), decide_by: Mono(at), assumed: false }
    }

    #[test]
    fn a_refused_token_gives_way_to_the_other_and_back() {
        let mut tokens = Tokens::new(token("a"), 1, ends(10));
        tokens.refused(1);
        assert_eq!(tokens.current(), &token("a"));
        tokens.add(token("b"), 2, ends(20));
        assert_eq!(tokens.current(), &token("b"));
        tokens.refused(2);
        assert_eq!(tokens.current(), &token("a"));
        tokens.refused(1);
        assert_eq!(tokens.current(), &token("b"));
    }

    #[test]
    fn a_late_refusal_of_one_token_says_nothing_of_the_other() {
        let mut tokens = Tokens::new(token("a"), 1, ends(10));
        tokens.add(token("b"), 2, ends(20));
        tokens.refused(1);
        assert_eq!(tokens.current(), &token("b"));
    }

    #[test]
    fn the_newest_stays_the_newest_when_an_older_one_comes_again() {
        let mut tokens = Tokens::new(token("a"), 1, ends(10));
        tokens.add(token("b"), 2, ends(20));
        tokens.add(token("a"), 3, ends(10));
        assert_eq!((tokens.current(), tokens.current_delivery()), (&token("b"), 2));
        assert_eq!(tokens.ends(), Some(ends(20)));
    }

    #[test]
    fn a_token_that_was_taken_is_displaced_only_by_another_that_was() {
        let mut tokens = Tokens::new(token("true"), 1, ends(10));
        assert!(tokens.note_taken(1) && !tokens.note_taken(1));
        for n in 2..20 {
            tokens.add(token(&format!("forged {n}")), n, ends(99));
            tokens.refused(n);
            assert_eq!(tokens.current(), &token("true"), "{n}");
            assert_eq!(tokens.ends(), Some(ends(10)), "a token that was never taken sets no deadline");
        }
        tokens.add(token("newer"), 20, ends(30));
        assert!(tokens.note_taken(20));
        assert_eq!(tokens.ends(), Some(ends(30)));
        tokens.add(token("newest"), 21, ends(40));
        tokens.refused(21);
        assert_eq!(tokens.current(), &token("newer"));
    }
}
