//! Evaluations: the same checks, asked synchronously.

use super::History;
use crate::coverage;
use crate::reference::{Kind, may_have_failed, may_have_succeeded};
use crate::state::{MILLISECOND, SECOND};
use crate::stream::{Answer, By};
use serde_json::Value;

/// Azure DevOps wants an answer within this time.
const IN_TIME: u64 = 3 * SECOND;

/// An evaluation that is under way.
pub(super) struct Evaluation {
    stream: u64,
    /// Of the check that it is about.
    check: usize,
    /// When it was sent: Unix milliseconds, and microseconds of the monotonic clock.
    since: (i64, u64),
    /// For how long its thread had stood still until then, in microseconds.
    stood_still: u64,
}

impl History {
    /// Azure DevOps evaluates a known check as if it were a synchronous one.
    pub(super) fn evaluate(&mut self) {
        let Some(check) = self.some_check(|check| check.kind == Kind::Good) else { return };
        let expect = self.checks[check].expect.clone();
        let request = self.checks[check].pipeline.evaluation(&[("Testrelay-Expect", &expect)]);
        let listener = self.some_listener();
        // Its request to Testkube differs from a check's in its start date.
        self.world.pass(MILLISECOND);
        let since = (self.world.wall(), self.world.now());
        let stream = self.world.send_in_pieces(&listener, request, Vec::new());
        let stood_still = self.world.stood_still(stream);
        self.evaluations.push(Evaluation { stream, check, since, stood_still });
        self.world.pass(MILLISECOND);
    }

    pub(super) fn collect_evaluations(&mut self) {
        for evaluation in std::mem::take(&mut self.evaluations) {
            match self.world.answer(evaluation.stream) {
                Some(answer) => self.evaluated(&evaluation, &answer),
                None => self.evaluations.push(evaluation),
            }
        }
    }

    fn evaluated(&mut self, evaluation: &Evaluation, answer: &Answer) {
        if answer.by != By::Module {
            return;
        }
        let Evaluation { check, since: (wall, sent), .. } = *evaluation;
        let took = answer.at.saturating_sub(sent);
        let stood_still = self.world.stood_still(evaluation.stream).saturating_sub(evaluation.stood_still);
        if took > IN_TIME + stood_still {
            self.wrong_evaluation(evaluation, &format!("it took {} ms", took / MILLISECOND));
        }
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = said["reason"].as_str().unwrap_or_default();
        let until = wall + i64::try_from(took / MILLISECOND).unwrap_or(0);
        let (name, borne_out) = match said["status"].as_str() {
            _ if answer.status != 200 => ("", Err(answer.text())),
            Some("pending") if reason.contains("Testkube said so") => {
                (coverage::EVALUATED_BY_OTHERS_LOOK, Ok(()))
            }
            Some("pending") => (coverage::EVALUATED_PENDING, Ok(())),
            Some("succeeded") => {
                let borne_out = may_have_succeeded(&self.world, &self.checks[check], wall, until);
                (coverage::EVALUATED_SUCCEEDED, borne_out)
            }
            Some("failed") => {
                let may_have = may_have_failed(&self.world, &self.checks[check], wall, until);
                (coverage::EVALUATED_FAILED, may_have.then_some(()).ok_or_else(|| reason.to_string()))
            }
            _ => ("", Err(answer.text())),
        };
        self.count(name);
        if let Err(why) = borne_out {
            self.wrong_evaluation(evaluation, &format!("{}, but {why}", answer.text().trim_end()));
        }
    }

    fn wrong_evaluation(&mut self, evaluation: &Evaluation, text: &str) {
        let n = self.checks[evaluation.check].pipeline.n;
        self.world.violation("verdict", format!("an evaluation of run {n}: {text}"));
    }
}
