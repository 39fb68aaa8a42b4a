//! The tokens that came with a check's deliveries.

use crate::hash::fnv1a;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// The newest token and the one before it. On a refusal the other one is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    newest: Secret,
    previous: Option<Secret>,
    use_previous: bool,
}

impl Tokens {
    /// The token of a first delivery.
    pub fn new(token: Secret) -> Tokens {
        Tokens { newest: token, previous: None, use_previous: false }
    }

    /// The token to present.
    pub fn current(&self) -> &Secret {
        self.previous.as_ref().filter(|_| self.use_previous).unwrap_or(&self.newest)
    }

    /// A further delivery's token; false if it is the one that is there.
    pub fn add(&mut self, token: Secret) -> bool {
        let is_new = !self.newest.is(token.reveal().as_bytes());
        if is_new {
            self.previous = Some(std::mem::replace(&mut self.newest, token));
            self.use_previous = false;
        }
        is_new
    }

    /// Azure DevOps refused the current one.
    pub fn refused(&mut self) {
        self.use_previous = self.previous.is_some() && !self.use_previous;
    }

    /// What remains of the newest token in a [`Done`].
    pub fn print(&self) -> u64 {
        fnv1a(self.newest.reveal().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_gives_way_to_the_other_and_back() {
        let token = |text: &str| Secret::new(text.into());
        let mut tokens = Tokens::new(token("a"));
        tokens.refused();
        assert_eq!(tokens.current(), &token("a"));
        assert!(tokens.add(token("b")));
        assert_eq!(tokens.current(), &token("b"));
        tokens.refused();
        assert_eq!(tokens.current(), &token("a"));
        tokens.refused();
        assert_eq!(tokens.current(), &token("b"));
        assert!(!tokens.add(token("b")), "the same again is nothing new");
        tokens.refused();
        assert_eq!(tokens.current(), &token("a"));
    }
}
