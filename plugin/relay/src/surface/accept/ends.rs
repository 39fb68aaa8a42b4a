//! The end of a check's token.

use crate::check::Ends;
use crate::secret::Secret;
use crate::time::{Now, Wall};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::time::Duration;

/// Maximum life of a token: Microsoft Learn states 48 hours for a check's token ("Invoke Azure Function / REST API
/// checks", 2023). A later end in a token is not believed: anybody can write one.
const MAX_LIFE: Duration = Duration::from_secs(48 * 3600);

/// The part of a token's life that is kept for delivering the decision; of a short life, a quarter.
const RESERVE: Duration = Duration::from_secs(30 * 60);

/// The end of a token that arrives now, and the latest time of a decision that can be delivered before. A readable JSON
/// Web Token states its end, give or take `clock_skew`. Azure DevOps promises no form, so any other token is assumed to
/// live for `token_life`. `None` if it has ended.
pub(super) fn ends_of(token: &Secret, now: Now, token_life: Duration, clock_skew: Duration) -> Option<Ends> {
    let expiry = jwt_expiry(token.reveal());
    let left = match expiry {
        None => token_life,
        Some(expiry) => {
            let left = expiry.plus(clock_skew).0.saturating_sub(now.wall.0);
            Duration::from_millis(u64::try_from(left).ok().filter(|left| *left > 0)?)
        }
    };
    let left = left.min(MAX_LIFE);
    let reserve = RESERVE.min(left / 4);
    Some(Ends {
        at: now.mono.plus(left),
        decide_by: now.mono.plus(left.saturating_sub(reserve)),
        assumed: expiry.is_none(),
    })
}

/// The `exp` claim of a JSON Web Token (RFC 7519); `None` if the token is not one.
fn jwt_expiry(token: &str) -> Option<Wall> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (_header, claims, _signature, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let claims: Claims =
        crate::json::read(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()?;
    let plausible = claims.exp.is_finite() && claims.exp > 0.0 && claims.exp < 1e12;
    plausible.then_some(Wall((claims.exp * 1_000.0) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Mono;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const SKEW: Duration = Duration::from_secs(30);

    fn now() -> Now {
        Now { mono: Mono(5_000), wall: Wall(1_769_186_642_000) }
    }

    fn ends(token: &str) -> Option<Ends> {
        ends_of(&Secret::new(token.into()), now(), DAY, SKEW)
    }

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn after(left: Duration, decide_by: Duration, assumed: bool) -> Option<Ends> {
        let at = |after| now().mono.plus(after);
        Some(Ends { at: at(left), decide_by: at(decide_by), assumed })
    }

    #[test]
    fn a_token_ends_when_it_says_so_and_else_after_what_the_entry_assumes() {
        let hour = Duration::from_secs(3600);
        let opaque = after(DAY, DAY - hour / 2, true);
        let unreadable = ["opaque", "a.b.c", "a.b.c.d", "..", "52-opaque-characters"].map(str::to_string);
        for token in unreadable.into_iter().chain([jwt("{}"), jwt(r#"{"exp":"soon"}"#), jwt(r#"{"exp":-1}"#)])
        {
            assert_eq!(ends(&token), opaque, "{token}");
        }
        let exp = |seconds: i64| jwt(&format!(r#"{{"exp":{}}}"#, now().wall.0 / 1_000 + seconds));
        assert_eq!(ends(&exp(2 * 3600 - 30)), after(2 * hour, hour + hour / 2, false));
        assert_eq!(ends(&exp(370)), after(hour / 9, hour / 12, false), "a quarter of a short life is kept");
    }

    #[test]
    fn a_clock_that_is_a_little_ahead_ends_no_token() {
        let exp = |seconds: i64| jwt(&format!(r#"{{"exp":{}}}"#, now().wall.0 / 1_000 + seconds));
        assert!(ends(&exp(-29)).is_some());
        assert_eq!(ends(&exp(-30)), None);
        assert_eq!(ends(&exp(-3600)), None);
    }

    #[test]
    fn what_a_token_says_beyond_48_hours_is_not_believed() {
        let hours = Duration::from_secs(48 * 3600);
        let most = after(hours, hours - RESERVE, false);
        assert_eq!(ends(&jwt(r#"{"exp":900000000000}"#)), most);
        let life = |life| ends_of(&Secret::new("opaque".into()), now(), life, SKEW).map(|ends| ends.at);
        assert_eq!(life(Duration::from_secs(3600)), Some(now().mono.plus(Duration::from_secs(3600))));
    }
}
