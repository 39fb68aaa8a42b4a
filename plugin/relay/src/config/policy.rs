//! The policies that a credential may allow.

/// A policy of a check that its credential must allow (`allow_policies`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `Testrelay-Optional`.
    Optional,
    /// `Testrelay-Grace`.
    Grace,
    /// `Testrelay-Retry`, for which Testrelay starts executions.
    Retry,
    /// `Testrelay-Max-Age`.
    MaxAge,
    /// `Testrelay-Tests-Build`.
    TestsBuild,
    /// `Testrelay-Since-Stage` after "Rerun failed jobs": what passed in an earlier attempt of the stage counts.
    RerunJobs,
}

impl Policy {
    /// Each with its name in `allow_policies`.
    pub(crate) const ALL: [(&'static str, Policy); 6] = [
        ("optional", Policy::Optional),
        ("grace", Policy::Grace),
        ("retry", Policy::Retry),
        ("max_age", Policy::MaxAge),
        ("tests_build", Policy::TestsBuild),
        ("rerun_jobs", Policy::RerunJobs),
    ];

    /// Its name in `allow_policies`.
    pub fn name(self) -> &'static str {
        Policy::ALL.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }
}
