//! Rule `one leader`: each instance of the module has one poller, and is never without one for long.

use super::Rules;
use crate::network::Outgoing;
use crate::shared_data::SharedData;
use crate::state::{MILLISECOND, SECOND};
use crate::vm::VmId;
use std::collections::{BTreeMap, BTreeSet};

/// The longest time without a leader, apart from the brake after a fall.
const MAX_LEADERLESS: u64 = 25 * SECOND;
/// Two contexts that take turns faster than this lead both.
const ONE_LEASE: u64 = 10 * SECOND;

/// A root context of a VM.
type Root = (VmId, u32);

/// Who starts the calls of one instance.
#[derive(Debug, Default)]
pub(super) struct Poller {
    /// The last one, and its thread.
    caller: Option<(Root, usize)>,
    since: u64,
    /// Which context was replaced, when, and by which one.
    replaced: BTreeMap<Root, (u64, Root)>,
    leaderless_since: Option<u64>,
}

impl Rules {
    /// First half: a context that was replaced starts no calls while its successor lives. A callback that began before the
    /// successor took over does not count, because no lease can stop a thread that has already read it.
    pub(super) fn one_poller(&mut self, now: u64, outgoing: &Outgoing) {
        let (me, thread) = ((outgoing.vm, outgoing.root), outgoing.thread);
        let poller = self.pollers.entry(outgoing.instance.clone()).or_default();
        let Some((other, before)) = poller.caller.filter(|(other, _)| *other != me) else {
            if poller.caller.is_none() {
                poller.since = now;
            }
            poller.caller = Some((me, thread));
            return;
        };
        let was_replaced = poller.replaced.get(&me).copied();
        let overlaps = was_replaced.is_some_and(|(at, _)| outgoing.callback_began <= at)
            || outgoing.callback_began < poller.since;
        self.handovers.push(now);
        if !overlaps {
            poller.replaced.insert(other, (now, me));
            (poller.since, poller.caller) = (now, Some((me, thread)));
        }
        self.checked("one leader (calls)");
        let stalled =
            |thread: usize| self.stalled_until.get(&thread).is_some_and(|until| now < until + 60 * SECOND);
        let is_excused = overlaps || stalled(thread) || stalled(before) || self.gone.contains(&other);
        if was_replaced.is_some_and(|(at, by)| by == other && now < at + ONE_LEASE) && !is_excused {
            let text = format!("vm {} root {} and vm {} root {}", me.0.0, me.1, other.0.0, other.1);
            self.violation(now, "one leader", format!("{text} start calls in turns"));
        }
    }

    /// Second half, once a second; `ahead`: how far the process's monotonic clock is ahead of `now`, in microseconds.
    /// `ticking`: vm_id and instance wherever some context ticks and its thread runs.
    pub(crate) fn each_second(
        &mut self,
        now: u64,
        ahead: u64,
        spaces: &[(String, SharedData)],
        ticking: &BTreeSet<(String, String)>,
    ) {
        // Nothing happened for longer than a tick: no context ticked.
        if now - std::mem::replace(&mut self.looked_at, now) > 2 * SECOND {
            self.pollers.values_mut().for_each(|poller| poller.leaderless_since = None);
        }
        for (vm_id, instance) in ticking {
            self.checked("one leader (a leader)");
            let key = format!("testrelay/1/{instance}/leader");
            let mut leases = spaces.iter().filter(|(space, _)| space == vm_id);
            let lease = leases.find_map(|(_, shared)| shared.get(key.as_bytes()));
            let leads = lease.is_some_and(|(value, _)| is_held(&value, now + ahead));
            let poller = self.pollers.entry(instance.clone()).or_default();
            let since = match leads {
                false => *poller.leaderless_since.get_or_insert(now),
                true => {
                    poller.leaderless_since = None;
                    now
                }
            };
            if now - since > MAX_LEADERLESS {
                poller.leaderless_since = None;
                let text = format!("{instance} has no leader since {} s", (now - since) / SECOND);
                self.violation(now, "one leader", text);
            }
        }
        for (name, poller) in &mut self.pollers {
            if !ticking.iter().any(|(_, instance)| instance == name) {
                poller.leaderless_since = None;
            }
        }
    }
}

/// Whether a lease holds. Its first byte is its layout's version; numbers of eight bytes follow, the first of which is its
/// holder (0: nobody), the fourth its end in milliseconds.
fn is_held(lease: &[u8], now: u64) -> bool {
    let number = |n: usize| {
        let bytes = lease.get(1 + 8 * n..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes))
    };
    lease.first() == Some(&1)
        && number(0).is_some_and(|holder| holder != 0)
        && number(3).is_some_and(|until| until.saturating_mul(MILLISECOND) > now)
}
