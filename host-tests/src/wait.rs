//! Waits for something that another process does.

use anyhow::{Result, bail};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `condition` every 10 ms until it is true. The error names `what`: "waited 5s in vain for a second poll".
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, timeout, || condition().then_some(()))
}

/// Like [`wait_until`], and returns a value.
pub fn wait_for<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {timeout:?} in vain for {what}");
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_names_what_was_awaited() {
        let error = wait_until("the moon", Duration::from_millis(20), || false).unwrap_err();
        assert_eq!(error.to_string(), "waited 20ms in vain for the moon");
    }

    #[test]
    fn what_is_found_is_handed_over() {
        let mut looks = 0;
        let found = wait_for("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.unwrap(), 3);
    }
}
