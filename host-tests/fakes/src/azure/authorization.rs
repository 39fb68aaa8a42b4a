//! The check's token: how it is presented, how long it is valid, and what happens without it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{AtPlans, answer};
use crate::http::{Request, Response};

/// A job access token; 48 hours is the real lifetime, a test chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) expires_at: Option<i64>,
}

impl Token {
    pub(crate) fn is_good(&self, presented: &str, now: i64) -> bool {
        self.text == presented && self.expires_at.is_none_or(|at| now < at)
    }
}

/// The token of `Authorization: Bearer {token}` or `Basic base64(any user ":" token)`.
pub(crate) fn presented(request: &Request) -> Option<String> {
    let authorization = request.value("authorization")?;
    let (scheme, credentials) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
        return decoded.split_once(':').map(|(_, token)| token.to_owned());
    }
    None
}

/// The answer to a request without a valid token: JSON only for clients that ask not to be redirected.
pub(crate) fn refusal(request: &Request, base: &str, page_instead_of_redirect: bool) -> Response {
    let suppressed =
        request.value("x-tfs-fedauthredirect").is_some_and(|value| value.eq_ignore_ascii_case("suppress"));
    if suppressed {
        let message = "TF400813: The user 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa' is not authorized to access this \
                       resource.";
        return answer::failure(401, "UnauthorizedRequestException", message)
            .header("www-authenticate", "Bearer, Basic realm=\"https://dev.azure.com/\"");
    }
    if page_instead_of_redirect {
        return answer::sign_in_page(203);
    }
    Response::with_body(
        302,
        "text/html; charset=utf-8",
        "<html><head><title>Object moved</title></head></html>",
    )
    .header("location", &format!("{base}/_signin?realm=dev.azure.com"))
}

/// The answer to a token that may do nothing at a plan.
pub(crate) fn closed_plan(plan: &str, at_plans: AtPlans) -> Response {
    match at_plans {
        AtPlans::Forbidden => {
            let message = "Access denied: the identity needs permissions on this plan.";
            answer::failure(403, "AccessDeniedException", message)
        }
        AtPlans::Hidden => {
            let message = format!("No plan found for identifier {plan}.");
            answer::failure(404, "TaskOrchestrationPlanNotFoundException", &message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_both_schemes_whatever_the_user() {
        for (header, token) in [
            ("Bearer AUTHTOKEN", Some("AUTHTOKEN")),
            ("Basic OkFVVEhUT0tFTg==", Some("AUTHTOKEN")),
            ("Basic UEFUOkFVVEhUT0tFTg==", Some("AUTHTOKEN")),
            ("Basic AUTHTOKEN", None),
            ("Digest x", None),
        ] {
            let request = Request::new("GET", "/").header("Authorization", header);
            assert_eq!(presented(&request).as_deref(), token, "{header}");
        }
    }

    #[test]
    fn a_token_dies_at_its_time() {
        let token = Token { text: "t".into(), expires_at: Some(10) };
        assert!(token.is_good("t", 9));
        assert!(!token.is_good("t", 10));
        assert!(!token.is_good("u", 0));
    }
}
