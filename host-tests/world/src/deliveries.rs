//! Checks on their way from the fake Azure DevOps to the module.

use crate::pipeline::Pipeline;
use crate::state::START;
use crate::stream::Answer;
use crate::world::World;
use fakes::CheckSpec;
use fakes::{Build, Stage};

/// How long before the world every build began, in milliseconds. Its stage `Test` began with it.
pub const BUILD_BEGAN: i64 = START - 600_000;

impl World {
    /// A new run, number `n`, whose gated stage waits from now on. Its build began ten minutes before the world.
    pub fn pipeline(&mut self, n: u32) -> Pipeline {
        let pipeline = Pipeline::new(n);
        self.begin(&pipeline);
        pipeline
    }

    /// Azure DevOps begins to wait for a check.
    pub fn begin(&mut self, pipeline: &Pipeline) {
        self.azure(|azure| azure.add_build(build_of(pipeline)));
        self.wait_for(pipeline);
    }

    /// Somebody cancels a run, with all of its checks.
    pub fn cancel_build(&mut self, pipeline: &Pipeline) {
        let now = self.wall();
        self.azure(|azure| azure.add_build(build_of(pipeline).status_at(now, "cancelling")));
    }

    /// The check waits again, with another token, as when Azure DevOps evaluates it again.
    pub fn another_delivery(&mut self, pipeline: &mut Pipeline) {
        pipeline.next_token();
        self.wait_for(pipeline);
    }

    fn wait_for(&mut self, pipeline: &Pipeline) {
        let now = self.wall();
        self.azure(|azure| {
            azure.start_check(now, pipeline.spec());
            if let Some(end) = pipeline.token_end {
                azure.expire_token(&pipeline.token, end);
            }
        });
        self.process.state.borrow_mut().network.tokens.hand_out(&pipeline.spec());
    }

    /// Delivers a check on some worker and waits for the answer.
    pub fn deliver(&mut self, pipeline: &Pipeline, more: &[(&str, &str)]) -> Answer {
        self.note_delivery(pipeline);
        self.ask(pipeline.check(more))
    }

    /// A token that Azure DevOps does not know. Only this pipeline's check may present it.
    pub fn forged_token(&mut self, pipeline: &Pipeline, token: &str) {
        let spec = CheckSpec { token: token.into(), ..pipeline.spec() };
        self.process.state.borrow_mut().network.tokens.hand_out(&spec);
    }

    /// Tells the rules that a check was delivered with another tag, and taken.
    pub fn counts_as_delivery(&mut self, pipeline: &Pipeline, tag: &str) {
        self.process.state.borrow_mut().own.rules.delivery(&pipeline.spec(), tag);
    }

    /// Tells the rules that a check is about to be delivered.
    pub fn note_delivery(&mut self, pipeline: &Pipeline) {
        self.process.state.borrow_mut().own.rules.delivery(&pipeline.spec(), &pipeline.tag);
    }
}

/// A run's build, in progress.
fn build_of(pipeline: &Pipeline) -> Build {
    let stage =
        Stage { name: "Test".into(), identifier: "test".into(), attempt: 1, start_time: Some(BUILD_BEGAN) };
    Build::new(pipeline.project, pipeline.build).started_at(BUILD_BEGAN).stage(stage)
}
