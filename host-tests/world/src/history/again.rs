//! One check delivered more than once: with another token, with an unusable token, with another tag, at the moment that
//! matters most.

use super::History;
use crate::coverage;
use crate::reference::{Delivered, Kind, is_owed};
use crate::rules::MARK;
use crate::state::{MILLISECOND, SECOND};
use crate::stream::By;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fakes::Span;
use fakes::azure::{Fault, Route};

impl History {
    /// Azure DevOps evaluates one of them again, with another token.
    pub(super) fn deliver_again(&mut self) {
        if let Some(index) = self.some_check(|check| !check.is_over && check.kind != Kind::Malformed) {
            self.deliver_once_more(index);
        }
    }

    fn deliver_once_more(&mut self, index: usize) {
        let ends = self.checks[index].pipeline.token_end;
        let now = self.world.wall();
        let fastest = self.world.skews(now, now).into_iter().max().unwrap_or(0).max(0);
        if ends.is_some_and(|end| now + fastest > end - 240_000) {
            return;
        }
        let mut pipeline = self.checks[index].pipeline.clone();
        self.world.another_delivery(&mut pipeline);
        self.checks[index].pipeline = pipeline;
        self.submit(index);
    }

    /// The same check with another tag while it is pending: the module must refuse it and change nothing.
    pub(super) fn conflict(&mut self) {
        let Some(index) = self.some_check(|check| check.kind == Kind::Good && check.newest_is_taken) else {
            return;
        };
        let check = self.checks[index].clone();
        if !is_owed(&self.world, &check) {
            return;
        }
        let tag = format!("{}-other", check.pipeline.tag);
        let request = check.pipeline.check(&[("Testrelay-Tag", &tag)]);
        let since = self.world.wall();
        let stream = self.world.send_in_pieces(&check.listener, request, Vec::new());
        let answer = self.world.wait(stream);
        let is_right = match (answer.by, answer.status) {
            (By::Module, 409) => {
                self.count(coverage::CONFLICT);
                true
            }
            // It was decided, or over, in the meantime: this is a new check.
            (By::Module, 200) => {
                self.checks[index].was_replaced = true;
                self.world.counts_as_delivery(&check.pipeline, &tag);
                !is_owed(&self.world, &check) || check.is_over
            }
            (By::Module, 400) => self.may_have_ended(index, since),
            (By::Envoy, 0 | 503) => true,
            _ => false,
        };
        if !is_right {
            self.wrong_answer(index, &answer);
        }
    }

    /// The same check with an unusable token: the module must refuse it and change nothing.
    pub(super) fn unusable_token_again(&mut self) {
        let Some(index) = self.some_check(|check| check.kind == Kind::Good) else { return };
        let token = self.unusable_token();
        let check = self.checks[index].clone();
        let request = check.pipeline.check(&[("AuthToken", &token)]);
        let stream = self.world.send_in_pieces(&check.listener, request, Vec::new());
        let answer = self.world.wait(stream);
        match (answer.by, answer.status) {
            (By::Module, 400) => self.count(coverage::UNUSABLE_TOKEN),
            (By::Envoy, 0 | 503) => {}
            _ => self.wrong_answer(index, &answer),
        }
    }

    /// A token that has expired, is too long, has characters that no token has, or was never filled in. Any piece of it
    /// with a few letters contains the mark of secrets.
    pub(super) fn unusable_token(&mut self) -> String {
        let part = MARK.repeat(20);
        match self.random.below(4) {
            0 => {
                // No clock in a history is ever that far off.
                let ended = self.world.wall() / 1_000 - 3 * 86_400;
                format!("e30.{}.{part}", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{ended}}}"#)))
            }
            1 => MARK.repeat(1_400 + usize::try_from(self.random.below(200)).unwrap_or(0)),
            2 => format!("{part}{}{part}", self.random.one_of(&[" ", "\t", "\u{e9}", "\u{7f}"])),
            _ => format!("$({part})"),
        }
    }

    /// Azure DevOps no longer accepts one of a check's two tokens.
    pub(super) fn token_is_refused(&mut self) {
        let has_both = |check: &Delivered| check.has_two_tokens && !check.token_was_refused;
        let Some(index) = self.some_check(has_both) else { return };
        let check = &mut self.checks[index];
        if !is_owed(&self.world, check) {
            return;
        }
        check.token_was_refused = true;
        let token = match self.random.once_in(2) {
            true => check.pipeline.token.clone(),
            false => check.pipeline.token_before(),
        };
        self.count(coverage::TOKEN_REFUSED);
        let now = self.world.wall();
        self.world.azure(|azure| azure.expire_token(&token, now));
    }

    /// Azure DevOps has accepted an event and answers slowly. Meanwhile the check comes again, or another configuration.
    pub(super) fn while_an_event_is_under_way(&mut self) {
        let (from, millis) = (self.world.wall(), 3_000 + self.random.below(15_000));
        let span = Span::Between { from, until: from + 60_000 };
        self.world.azure(|azure| azure.fault(Route::Events, span, Fault::Slow { millis }));
        let end = self.world.now() + 40 * SECOND;
        let index = loop {
            let under_way = |check: &Delivered| {
                check.owed_since.is_some()
                    && !check.is_over
                    && self.world.is_event_taken_unanswered(&check.pipeline.spec())
            };
            if let Some(index) = self.checks.iter().position(under_way) {
                break index;
            }
            if self.world.now() >= end {
                return;
            }
            self.world.pass(200 * MILLISECOND);
        };
        self.count(coverage::EVENT_UNDER_WAY);
        match self.random.once_in(2) {
            true => self.deliver_once_more(index),
            false => self.another_configuration(),
        }
    }
}
