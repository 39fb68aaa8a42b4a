//! Authentication: the credentials of a configuration against an `Authorization` header.

use crate::config::{Allow, Credential, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Why a caller is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Denied {
    /// No credential, an unknown one, or more than one.
    Unknown,
    /// A known credential that does not open this route; holds its name.
    NotAllowed(String),
}

/// The credential that opens `route` for the `Authorization` headers of a request; `None` if no credential is
/// configured (`insecure_no_auth`) and everybody may call. Every credential is compared, in a time that does not reveal
/// a near match.
///
/// # Errors
/// Why the caller is refused.
pub fn authorize<'a, 'h>(
    credentials: &'a [Credential],
    headers: impl IntoIterator<Item = &'h [u8]>,
    route: Allow,
) -> Result<Option<&'a Credential>, Denied> {
    if credentials.is_empty() {
        return Ok(None);
    }
    let mut headers = headers.into_iter();
    let (Some(header), None) = (headers.next(), headers.next()) else { return Err(Denied::Unknown) };
    let presented = Presented::read(header).ok_or(Denied::Unknown)?;
    let mut found: Option<&Credential> = None;
    for credential in credentials {
        if presented.fits(credential) {
            found = Some(credential);
        }
    }
    match found {
        None => Err(Denied::Unknown),
        Some(credential) if credential.allow.contains(&route) => Ok(Some(credential)),
        Some(credential) => Err(Denied::NotAllowed(credential.name.clone())),
    }
}

/// The credential that a caller presents.
enum Presented<'h> {
    Basic { pair: Vec<u8>, colon: usize },
    Bearer(&'h [u8]),
}

impl Presented<'_> {
    /// Reads a header by RFC 7235: the scheme in any case, then the credentials.
    fn read(header: &[u8]) -> Option<Presented<'_>> {
        let space = header.iter().position(|c| *c == b' ')?;
        let (scheme, rest) = header.split_at_checked(space)?;
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return Some(Presented::Bearer(rest));
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let pair = STANDARD.decode(rest).ok()?;
        let colon = pair.iter().position(|c| *c == b':')?;
        Some(Presented::Basic { pair, colon })
    }

    fn fits(&self, credential: &Credential) -> bool {
        let (user_fits, given) = match (self, &credential.kind) {
            (Presented::Basic { pair, colon }, Kind::Basic { username }) => {
                let (given, password) = pair.split_at_checked(*colon).unwrap_or_default();
                (username.as_bytes() == given, password.get(1..).unwrap_or_default())
            }
            (Presented::Bearer(token), Kind::Bearer) => (true, *token),
            _ => return false,
        };
        let mut secret_fits = false;
        for secret in &credential.secrets {
            secret_fits |= secret.is(given);
        }
        user_fits & secret_fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn credentials() -> Vec<Credential> {
        let credential = |name: &str, kind, secrets: &[&str], allow| Credential {
            name: name.into(),
            kind,
            secrets: secrets.iter().map(|v| Secret::new((*v).into())).collect(),
            allow: vec![allow],
            policies: Vec::new(),
            projects: Vec::new(),
            tags: Vec::new(),
            max_pending: 256,
            max_downloads: 32,
            abort_on_cancel: false,
            observe: false,
        };
        let basic = Kind::Basic { username: "testrelay".into() };
        vec![
            credential("azure-pipelines", basic, &["old:er", "newer"], Allow::Checks),
            credential("jobs", Kind::Bearer, &["token"], Allow::Artifacts),
        ]
    }

    /// The name of the credential that opens the route.
    fn opens(headers: &[&[u8]], route: Allow) -> Result<String, Denied> {
        let all = credentials();
        authorize(&all, headers.iter().copied(), route)
            .map(|found| found.map(|c| c.name.clone()).unwrap_or_default())
    }

    fn check(header: &str) -> Result<String, Denied> {
        opens(&[header.as_bytes()], Allow::Checks)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn both_secrets_of_a_rotation_open_the_route() {
        assert_eq!(check(&basic("testrelay:old:er")), Ok("azure-pipelines".into()));
        assert_eq!(check(&basic("testrelay:newer")), Ok("azure-pipelines".into()));
        assert!(check(&basic("testrelay:newer").replace("Basic", "bAsIc")).is_ok());
    }

    #[test]
    fn anything_else_is_unknown() {
        for header in [
            basic("testrelay:wrong"),
            basic("someone:newer"),
            basic("testrelay:"),
            basic("testrelay"),
            basic(""),
            "Basic".into(),
            "Basic ".into(),
            "Basic !!!".into(),
            "Bearer newer".into(),
            "Bearer ".into(),
            "Digest x".into(),
            String::new(),
        ] {
            assert_eq!(check(&header), Err(Denied::Unknown), "{header}");
        }
        let good = basic("testrelay:newer");
        assert_eq!(opens(&[], Allow::Checks), Err(Denied::Unknown));
        assert_eq!(opens(&[good.as_bytes(), good.as_bytes()], Allow::Checks), Err(Denied::Unknown));
    }

    #[test]
    fn a_credential_opens_only_its_own_routes() {
        assert_eq!(check("Bearer token"), Err(Denied::NotAllowed("jobs".into())));
        assert_eq!(opens(&[b"Bearer token"], Allow::Artifacts), Ok("jobs".into()));
    }

    #[test]
    fn without_credentials_everybody_may() {
        assert!(matches!(authorize(&[], [], Allow::Checks), Ok(None)));
    }
}
