//! Faults: one at a time, of every kind, each counted against what the checks were just doing.

use super::{CLUSTERS, History};
use crate::coverage;
use crate::network::{Rule, outage};
use crate::reference::Kind;
use crate::setup::configuration_for;
use crate::state::{MINUTE, SECOND};
use crate::vm::TrapAt;
use fakes::azure::{Fault as AzureFault, Route as AzureRoute};
use fakes::testkube::{Fault as TestkubeFault, Route};
use fakes::{Span, Status};

impl History {
    pub(super) fn fault(&mut self) {
        match self.random.below(32) {
            0 | 1 => self.testkube_fails(),
            2..=4 => self.azure_fails(),
            5 | 6 => self.outage(),
            7 => self.unknown_cluster(),
            8..=11 => self.trap(),
            12 => {
                let thread = self.thread();
                let span = self.random.below(40 * SECOND);
                self.strike("a thread stalls");
                self.stalled = true;
                self.stalled_until = self.stalled_until.max(self.world.now() + span);
                self.world.stall(thread, span);
            }
            13 => {
                let day = 86_400_000;
                let skew = i64::try_from(self.random.below(2 * day)).unwrap_or(0) - 86_400_000;
                self.strike("the wall clock jumps");
                self.world.set_clock(skew);
            }
            28 => self.clock_steps(),
            14 | 15 => {
                self.strike("another configuration");
                self.another_configuration();
            }
            16 => {
                self.strike("a configuration that is refused");
                if let Ok(true) = self.world.reload("{\"no\": \"configuration\"}") {
                    self.world.violation("configuration", "a broken configuration was taken".into());
                }
            }
            17 => {
                self.version += 1;
                self.strike("new code");
                if !matches!(self.world.upgrade(self.version), Ok(true)) {
                    self.world.violation("configuration", "new code was refused".into());
                }
            }
            18 => {
                self.strike("a VM falls while a body is read");
                self.falls_while_it_waits();
            }
            19 if self.random.once_in(4) => {
                self.strike("an answer kills its reader");
                self.poison();
            }
            20 => {
                self.strike("the run ends by itself");
                self.run_ends();
            }
            21 => {
                self.strike("the same check with another tag");
                self.conflict();
            }
            22 => self.long_outage(),
            24 => {
                self.strike("the same check with an unusable token");
                self.unusable_token_again();
            }
            25 | 26 => {
                self.strike("something comes while an event is under way");
                self.while_an_event_is_under_way();
            }
            27 => {
                self.strike("one of two tokens is refused");
                self.token_is_refused();
            }
            23 if self.random.once_in(2) => {
                self.strike("hot restart");
                self.restart();
            }
            _ => {
                self.strike("delivered again");
                self.deliver_again();
            }
        }
    }

    /// A fault strikes now, whatever each check is doing.
    fn strike(&mut self, fault: &str) {
        coverage::strike(
            &mut self.world,
            &self.checks,
            self.waiting.iter().map(|waiting| waiting.check),
            fault,
        );
    }

    /// One of a few configurations: often one that has been there a moment ago.
    pub(super) fn another_configuration(&mut self) {
        let variant = u32::try_from(self.random.below(3)).unwrap_or(0);
        let configuration = configuration_for(self.room + variant);
        let taken = match self.other.clone().filter(|_| self.random.once_in(3)) {
            Some(other) => self.world.reload_one(&other, &configuration),
            None => self.world.reload(&configuration),
        };
        if !matches!(taken, Ok(true)) {
            self.world.violation("configuration", "a good configuration was refused".into());
        }
    }

    fn thread(&mut self) -> usize {
        usize::try_from(self.random.below(self.workers as u64 + 1)).unwrap_or(0)
    }

    fn span(&mut self) -> Span {
        let longest = self.random.one_of(&[60_000, 240_000]);
        let length = i64::try_from(self.random.below(longest)).unwrap_or(0);
        Span::Between { from: self.world.wall(), until: self.world.wall() + length }
    }

    fn testkube_fails(&mut self) {
        let fault = self.random.one_of(&[
            TestkubeFault::Status(502),
            TestkubeFault::Status(401),
            TestkubeFault::TruncatedJson,
            TestkubeFault::Html,
            TestkubeFault::Reset,
            TestkubeFault::Cut { bytes: 20 },
            TestkubeFault::Slow { millis: 12_000 },
            TestkubeFault::Dribble { chunk: 100, millis: 300 },
            TestkubeFault::ContentType("text/plain".into()),
        ]);
        let route = self.random.one_of(&[Route::All, Route::List, Route::Get, Route::Artifact]);
        let span = self.span();
        self.strike(&format!("Testkube: {}", name_of(&fault)));
        self.testkube_lies |= matches!(fault, TestkubeFault::TruncatedJson | TestkubeFault::Html);
        self.world.testkube(|testkube| testkube.fault(route, span, fault));
    }

    /// For minutes Azure DevOps takes everything but decisions.
    pub(super) fn events_are_refused(&mut self) {
        let from = self.world.wall() + i64::try_from(self.random.below(60_000)).unwrap_or(0);
        let until = from + 120_000 + i64::try_from(self.random.below(180_000)).unwrap_or(0);
        let fault = self.random.one_of(&[
            AzureFault::Status { status: 503, retry_after: None },
            AzureFault::Status { status: 500, retry_after: None },
            AzureFault::ResetBefore,
        ]);
        self.world.azure(|azure| azure.fault(AzureRoute::Events, Span::Between { from, until }, fault));
    }

    fn azure_fails(&mut self) {
        let soon = self.world.wall() + 10_000;
        let fault = self.random.one_of(&[
            AzureFault::StatusUntil { status: 429, until: soon },
            AzureFault::Status { status: 503, retry_after: Some(3) },
            AzureFault::Status { status: 500, retry_after: None },
            AzureFault::Status { status: 429, retry_after: Some(10) },
            AzureFault::ResetBefore,
            AzureFault::ResetAfter,
            AzureFault::Slow { millis: 25_000 },
            AzureFault::Html { status: 203 },
        ]);
        let route = self.random.one_of(&[
            AzureRoute::All,
            AzureRoute::Events,
            AzureRoute::Events,
            AzureRoute::LogCreate,
            AzureRoute::Build,
            AzureRoute::Timeline,
        ]);
        let span = self.span();
        self.strike(&format!("Azure DevOps: {}", name_of(&fault)));
        self.world.azure(|azure| azure.fault(route, span, fault));
    }

    fn cluster(&mut self) -> &'static str {
        self.random.one_of(&CLUSTERS)
    }

    fn outage(&mut self) {
        let (cluster, rule) = (self.cluster(), outage(&mut self.random));
        self.strike(&format!("outage of {cluster}"));
        self.world.network(cluster, rule);
        let span = self.random.below(90 * SECOND);
        self.idle(span);
        self.recover(cluster);
    }

    /// Nothing gets through for longer than any wait between two tries.
    fn long_outage(&mut self) {
        if !self.random.once_in(4) {
            return;
        }
        let cluster = self.cluster();
        self.strike(&format!("long outage of {cluster}"));
        let all = Rule { fails: 1, ..outage(&mut self.random) };
        self.world.network(cluster, all);
        let span = 5 * MINUTE + self.random.below(15 * MINUTE);
        self.idle(span);
        self.recover(cluster);
    }

    fn unknown_cluster(&mut self) {
        let cluster = self.cluster();
        self.strike(&format!("{cluster} is unknown"));
        self.world.network(cluster, Rule { is_known: false, ..Rule::default() });
        self.idle(10 * SECOND);
        self.recover(cluster);
    }

    fn trap(&mut self) {
        let at = match self.random.below(6) {
            0 => TrapAt::NextCallback,
            1..=3 => TrapAt::In(self.random.one_of(&coverage::HOST_CALLS)),
            4 => TrapAt::HostCall(u32::try_from(self.random.below(600)).unwrap_or(0)),
            _ => TrapAt::Fuel(self.random.below(400_000)),
        };
        let thread = self.thread();
        self.strike(if thread == 0 { "a trap on the main thread" } else { "a trap on a worker" });
        self.world.trap(thread, at);
    }

    /// Somebody sets the wall clock, as a correction by NTP or a host that was suspended does: less than `clock_skew`, more, and
    /// far more. At any moment, in the middle of a callback as well.
    fn clock_steps(&mut self) {
        let by = self.random.one_of(&[25_000, 300_000, 3_600_000]);
        self.strike(&format!("the wall clock steps by {} s", by / 1_000));
        let after = self.random.below(20 * SECOND);
        self.world.step_clock(after, if self.random.once_in(2) { by } else { -by });
    }

    /// No VM survives reading an execution of one check.
    fn poison(&mut self) {
        let Some(check) =
            self.checks.iter_mut().find(|check| check.kind == Kind::Good).filter(|_| !self.is_poisoned)
        else {
            return;
        };
        self.is_poisoned = true;
        let now = self.world.wall();
        let execution = check.pipeline.tagged("poison").at(now, Status::Passed);
        self.world.poison("\"name\":\"poison-");
        self.world.testkube(|testkube| testkube.add(execution));
    }
}

/// Only the variant's name: with its numbers each would be counted separately.
fn name_of(fault: &impl std::fmt::Debug) -> String {
    let text = format!("{fault:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_string()
}
