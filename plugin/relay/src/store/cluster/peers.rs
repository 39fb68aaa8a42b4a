//! The other replicas as one replica observes them: by its own monotonic clock, counting observed time only.

use super::lease::Word;
use crate::time::Mono;
use std::time::Duration;

/// Observed time without a renewal after which a replica is dead.
pub(super) const DEAD: Duration = Duration::from_secs(20);

/// Maximum time between two answered lists that counts as observed. During an outage of the API server nobody can renew,
/// and everybody lives.
const MAX_GAP: Duration = Duration::from_secs(5);

/// The other replicas.
#[derive(Default)]
pub(super) struct Peers {
    all: Vec<Peer>,
    listed: Option<Mono>,
}

struct Peer {
    word: Word,
    /// Observed time since its renewal changed.
    still: Duration,
    /// Whether it had this process's pod name before this process had a Lease: the same container before its restart.
    is_predecessor: bool,
}

impl Peer {
    fn is_dead(&self) -> bool {
        self.is_predecessor || self.still >= DEAD
    }
}

impl Peers {
    /// Takes the list of all other Leases. `pod` is this process's while it has had no Lease of its own. `renews`: it has just
    /// renewed its own; where it cannot, nobody else may be able to either, and no time counts.
    pub(super) fn list(
        &mut self,
        now: Mono,
        words: impl Iterator<Item = Word>,
        pod: Option<&str>,
        renews: bool,
    ) {
        let gap = self.listed.replace(now).map(|before| now.since(before));
        let observed = gap.filter(|gap| renews && *gap <= MAX_GAP).unwrap_or_default();
        let before = std::mem::take(&mut self.all);
        for word in words {
            let seen =
                before.iter().find(|seen| seen.word.id == word.id && seen.word.renewed == word.renewed);
            let is_predecessor = seen.is_some_and(|seen| seen.is_predecessor)
                || pod.is_some_and(|pod| !pod.is_empty() && pod == word.pod);
            let still = seen.map_or(Duration::ZERO, |seen| seen.still.saturating_add(observed));
            self.all.push(Peer { word, still, is_predecessor });
        }
    }

    /// Whether a complete list was answered.
    pub(super) fn are_known(&self) -> bool {
        self.listed.is_some()
    }

    /// The ids of dead replicas.
    pub(super) fn dead(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter(|seen| seen.is_dead()).map(|seen| seen.word.id.as_str())
    }

    /// Whether a replica has a Lease, dead or alive.
    pub(super) fn has(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    /// Whether this process has taken a replica's place: nobody else knows yet that it is dead.
    pub(super) fn is_predecessor(&self, id: &str) -> bool {
        self.all.iter().any(|seen| seen.word.id == id && seen.is_predecessor)
    }

    /// What a replica's Lease said last.
    pub(super) fn get(&self, id: &str) -> Option<&Word> {
        self.all.iter().map(|seen| &seen.word).find(|word| word.id == id)
    }

    /// Whether a replica is not dead.
    pub(super) fn lives(&self, id: &str) -> bool {
        self.living().any(|word| word.id == id)
    }

    /// The replicas that are not dead.
    pub(super) fn living(&self) -> impl Iterator<Item = &Word> {
        self.all.iter().filter(|seen| !seen.is_dead()).map(|seen| &seen.word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(id: &str, renewed: u32) -> Word {
        let (id, pod, renewed) = (id.to_owned(), format!("pod-{id}"), renewed.to_string());
        let version = serde_json::from_str(r#"{"uid":"u","resource_version":"1"}"#).unwrap();
        Word { name: id.clone(), id, pod, format: Some(1), drains: false, renewed, version }
    }

    /// Whether `a` is dead after lists at these seconds, each with its renewal.
    fn dies(lists: &[(u64, u32)]) -> bool {
        let mut peers = Peers::default();
        for (second, renewed) in lists {
            peers.list(Mono(second * 1_000), [word("a", *renewed)].into_iter(), None, true);
        }
        peers.dead().count() == 1
    }

    #[test]
    fn whoever_does_not_renew_for_twenty_seconds_is_dead() {
        let lists: Vec<(u64, u32)> = (0..=20).map(|second| (second, 7)).collect();
        assert!(dies(&lists));
        assert!(!dies(&lists[..20]));
        let renewed: Vec<(u64, u32)> = (0..=60).map(|second| (second, (second / 15) as u32)).collect();
        assert!(!dies(&renewed), "slowly renewed");
    }

    #[test]
    fn time_that_was_not_observed_is_not_counted_and_the_rest_stays_counted() {
        // An outage of ten minutes: nobody could renew.
        assert!(!dies(&[(0, 7), (600, 7), (601, 7)]));
        // Ten seconds, a gap, ten seconds.
        let seconds = (0..=10).chain(16..=26);
        assert!(dies(&seconds.map(|second| (second, 7)).collect::<Vec<_>>()));
        let seconds = (0..=10).chain(16..=25);
        assert!(!dies(&seconds.map(|second| (second, 7)).collect::<Vec<_>>()));
    }

    #[test]
    fn the_dead_live_again_when_they_renew() {
        let mut lists: Vec<(u64, u32)> = (0..=30).map(|second| (second, 7)).collect();
        lists.push((31, 8));
        assert!(!dies(&lists));
    }

    #[test]
    fn what_stands_at_the_own_start_under_the_own_pods_name_is_dead_and_nothing_later() {
        let mut peers = Peers::default();
        let both = || [word("a", 1), word("b", 1)].into_iter();
        peers.list(Mono(0), both(), Some("pod-a"), true);
        assert_eq!(peers.dead().collect::<Vec<_>>(), ["a"]);
        peers.list(Mono(1_000), both(), None, true);
        assert_eq!(peers.dead().collect::<Vec<_>>(), ["a"], "it stays so");
        peers.list(Mono(2_000), [word("a", 2), word("b", 1)].into_iter(), None, true);
        assert_eq!(peers.dead().count(), 0, "a hot restart: both live");
        let mut peers = Peers::default();
        let unnamed = Word { pod: String::new(), ..word("a", 1) };
        peers.list(Mono(0), [unnamed].into_iter(), Some(""), true);
        assert_eq!(peers.dead().count(), 0, "an empty name equals nothing");
    }
}
