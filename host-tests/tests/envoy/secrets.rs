//! Secrets go where they must and nowhere else: canaries pass through everything that can happen, and every output is
//! searched for them.

mod levels;
mod search;
mod story;

use anyhow::Result;
use host_tests::Setup;
use search::find;
use story::{CANARIES, MISPLACED, Place, tell};

#[test]
fn no_secret_is_in_any_output_in_any_encoding() -> Result<()> {
    let places = tell(Setup::new()?)?;
    let mut leaks = Vec::new();
    for place in &places {
        for canary in CANARIES {
            leaks.extend(find(&place.text, canary.value).map(|how| leak(canary.name, place, &how)));
        }
        // Envoy shows its configuration, so a secret that somebody writes into it is public.
        if !place.name.starts_with("/config_dump") {
            leaks.extend(find(&place.text, MISPLACED).map(|how| leak("misplaced secret", place, &how)));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    Ok(())
}

/// The same story told by a module that hides nothing: what is found nowhere now would never be found.
#[test]
fn every_secret_is_found_where_the_module_does_not_hide_it() -> Result<()> {
    let places = tell(Setup::with_test_hooks()?)?;
    for canary in CANARIES {
        let found = |place: &&Place| find(&place.text, canary.value).is_some();
        let places: Vec<&str> = places.iter().filter(found).map(|place| place.name.as_str()).collect();
        assert!(places.contains(&"Envoy's log"), "{} is in {places:?}", canary.name);
    }
    let bearer = CANARIES.iter().find(|canary| canary.name == "bearer").map(|canary| canary.value);
    let forwarded = |place: &Place| {
        place.name.starts_with("Testkube") && find(&place.text, bearer.unwrap_or_default()).is_some()
    };
    assert!(places.iter().any(forwarded), "the bearer secret was not found in what Testkube got");
    Ok(())
}

fn leak(canary: &str, place: &Place, how: &str) -> String {
    format!("{canary} is in {}: {how}", place.name)
}
