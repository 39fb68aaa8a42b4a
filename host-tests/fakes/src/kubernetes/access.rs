//! Who asks, and what that account may do: bearer tokens and roles.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Resource, Target, Verb};
use crate::http::Request;
use serde_json::{Value, json};

/// How long an expired token is still accepted, in milliseconds: the leeway that the server grants clocks.
const LEEWAY: i64 = 60_000;

const ANONYMOUS: &str = "system:anonymous";

/// A ServiceAccount's token, or an administrator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    user: String,
    is_administrator: bool,
    from: i64,
    until: i64,
}

impl Token {
    /// Of a ServiceAccount, which may do what roles allow it; good for ever.
    pub fn of(namespace: &str, account: &str) -> Token {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        Token { user, is_administrator: false, from: i64::MIN, until: i64::MAX - LEEWAY }
    }

    /// Of somebody who may do everything.
    pub fn administrator() -> Token {
        Token { is_administrator: true, user: "admin".into(), ..Token::of("", "") }
    }

    /// Good only from and until these times, in Unix milliseconds. The server takes it a minute longer.
    pub fn between(self, from: i64, until: i64) -> Token {
        Token { from, until, ..self }
    }
}

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    is_administrator: bool,
    /// The request had a token, in a form that the server does not read.
    pub(super) is_misread: bool,
}

impl User {
    pub(super) fn administrator() -> User {
        User { name: "admin".into(), is_administrator: true, is_misread: false }
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }
}

/// All tokens and roles.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    tokens: BTreeMap<String, Token>,
    /// User, namespace, resource and verb.
    roles: BTreeSet<(String, String, Resource, Verb)>,
    /// Whether a request without credentials is refused at once, instead of being anybody's.
    pub(super) refuses_anonymous: bool,
}

impl Access {
    pub(super) fn set_token(&mut self, text: &str, token: Token) {
        self.tokens.insert(text.to_owned(), token);
    }

    pub(super) fn remove_token(&mut self, text: &str) {
        self.tokens.remove(text);
    }

    pub(super) fn allow(&mut self, token: &Token, namespace: &str, resource: Resource, verbs: &[Verb]) {
        for verb in verbs {
            self.roles.insert((token.user.clone(), namespace.to_owned(), resource, *verb));
        }
    }

    pub(super) fn forbid(&mut self, token: &Token, verb: Verb) {
        self.roles.retain(|(user, _, _, allowed)| *user != token.user || *allowed != verb);
    }

    /// Who asks; `None`: credentials that are not good.
    pub(super) fn user(&self, now: i64, request: &Request) -> Option<User> {
        let authorization = request.value("authorization").unwrap_or_default();
        let mut words = authorization.trim().splitn(3, ' ');
        let is_bearer = words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"));
        let presented = words.next().filter(|_| is_bearer).unwrap_or_default();
        if presented.is_empty() {
            let is_misread = is_bearer && words.next().is_some();
            let anonymous = User { name: ANONYMOUS.into(), is_administrator: false, is_misread };
            return (!self.refuses_anonymous).then_some(anonymous);
        }
        let token = self.tokens.get(presented)?;
        let is_good = token.from <= now && now < token.until + LEEWAY;
        is_good.then(|| User {
            name: token.user.clone(),
            is_administrator: token.is_administrator,
            is_misread: false,
        })
    }

    /// The status of a `SelfSubjectRulesReview`: what a user may do in a namespace.
    pub(super) fn rules(&self, user: &User, namespace: &str) -> Value {
        let rule = |verbs: &[&str], group: &str, resource: &str| json!({"verbs": verbs, "apiGroups": [group], "resources": [resource]});
        let mut rules = vec![rule(&["create"], "authorization.k8s.io", "selfsubjectrulesreviews")];
        if user.is_administrator {
            rules.push(rule(&["*"], "*", "*"));
        }
        for resource in [Resource::Secrets, Resource::Leases] {
            let here = |role: &&(String, String, Resource, Verb)| {
                (role.0.as_str(), role.1.as_str(), role.2) == (user.name.as_str(), namespace, resource)
            };
            let verbs: Vec<&str> = self.roles.iter().filter(here).map(|role| role.3.name()).collect();
            if !verbs.is_empty() {
                rules.push(rule(&verbs, resource.group(), resource.plural()));
            }
        }
        json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false})
    }

    pub(super) fn allows(&self, user: &User, target: &Target, resource: Option<Resource>) -> bool {
        let Some(resource) = resource else { return user.is_administrator };
        let role = (user.name.clone(), target.namespace.clone(), resource, target.verb);
        user.is_administrator || self.roles.contains(&role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(access: &Access, now: i64, authorization: &str) -> Option<String> {
        let request = Request::new("GET", "/").header("Authorization", authorization);
        access.user(now, &request).map(|user| user.name)
    }

    #[test]
    fn a_token_is_taken_a_minute_longer_than_it_is_good() {
        let mut access = Access::default();
        access.set_token("T", Token::of("n", "a").between(1_000, 2_000));
        let good = Some("system:serviceaccount:n:a".to_owned());
        assert_eq!(user(&access, 999, "Bearer T"), None);
        assert_eq!(user(&access, 1_000, "bearer T "), good);
        assert_eq!(user(&access, 61_999, "Bearer T"), good);
        assert_eq!(user(&access, 62_000, "Bearer T"), None);
    }

    #[test]
    fn whoever_shows_no_token_is_anybody_unless_that_is_off() {
        let mut access = Access::default();
        for header in ["", "Basic YTpi", "Bearer", "Bearer  T"] {
            assert_eq!(user(&access, 0, header).as_deref(), Some(ANONYMOUS), "{header}");
        }
        access.refuses_anonymous = true;
        assert_eq!(user(&access, 0, ""), None);
    }
}
