//! The downloads under way in this VM, counted by credential. They end with their streams, and these with the VM, so no
//! count is left over.

use crate::config::Credential;
use crate::config::{Config, DEFAULT_MAX_DOWNLOADS};
use crate::surface::problem::Reply;
use std::cell::Cell;

/// Counters by credential; the last is of callers without one (`insecure_no_auth`).
#[derive(Debug)]
pub struct Downloads(Vec<Cell<u32>>);

/// A download under way; its stream gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download(usize);

impl Downloads {
    /// No downloads.
    pub fn new(config: &Config) -> Downloads {
        Downloads(vec![Cell::new(0); config.credentials.len() + 1])
    }

    /// Counts a download of this caller, one of the configuration's.
    ///
    /// # Errors
    /// The refusal: the caller's maximum is under way.
    pub fn take(&self, config: &Config, caller: Option<&Credential>) -> Result<Download, Reply> {
        let place = |caller: &Credential| config.credentials.iter().position(|one| std::ptr::eq(one, caller));
        let n = caller.and_then(place).unwrap_or(config.credentials.len());
        let most = caller.map_or(DEFAULT_MAX_DOWNLOADS, |caller| caller.max_downloads);
        match self.0.get(n) {
            Some(count) if count.get() < most => {
                count.set(count.get() + 1);
                Ok(Download(n))
            }
            _ => Err(full(caller, most)),
        }
    }

    /// Notes that a download has ended.
    pub fn give_back(&self, download: Download) {
        if let Some(count) = self.0.get(download.0) {
            count.set(count.get().saturating_sub(1));
        }
    }
}

fn full(caller: Option<&Credential>, most: u32) -> Reply {
    let who = caller.map_or("This caller".into(), |caller| format!("The credential `{}`", caller.name));
    let detail = format!(
        "{who} has {most} downloads under way through this worker of Envoy (`credentials[].max_downloads`): try again when one has ended."
    );
    Reply::problem(503, "Too many downloads", &detail).with("retry-after", "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_credential_has_its_own_places_and_gets_them_back() {
        let text = r#"{"testkube":{"cluster":"t"},"azure_devops":[{"url":"https://dev.azure.com/o","cluster":"a"}],
            "credentials":[{"name":"a","kind":"bearer","secret_env":"S","allow":["artifacts"],"max_downloads":2},
                           {"name":"b","kind":"bearer","secret_env":"S","allow":["artifacts"],"max_downloads":1}]}"#;
        let config = Config::parse(text.as_bytes(), &|_| Some("secret-of-24-characters!".into())).unwrap();
        let downloads = Downloads::new(&config);
        let [a, b] = [0, 1].map(|n| Some(&config.credentials[n]));
        let first = downloads.take(&config, a).unwrap();
        downloads.take(&config, a).unwrap();
        let refusal = downloads.take(&config, a).unwrap_err();
        assert_eq!(refusal.status, 503);
        assert!(refusal.body.contains("The credential `a` has 2 downloads under way"), "{}", refusal.body);
        assert!(refusal.headers.contains(&("retry-after", "2".into())));
        downloads.take(&config, b).unwrap();
        assert!(downloads.take(&config, b).is_err());
        downloads.give_back(first);
        downloads.take(&config, a).unwrap();
        for _ in 0..DEFAULT_MAX_DOWNLOADS {
            downloads.take(&config, None).unwrap();
        }
        assert!(downloads.take(&config, None).unwrap_err().body.contains("This caller has 32 downloads"));
    }
}
