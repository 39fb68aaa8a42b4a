//! Namespaces: whether they take new objects, and how many Secrets.

/// A namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    /// It is being deleted.
    pub(super) is_ending: bool,
    pub(super) quota: Option<Quota>,
}

/// A `ResourceQuota` with `count/secrets`.
#[derive(Clone, Debug)]
pub struct Quota {
    name: String,
    limit: usize,
    recounts_after: Option<i64>,
    /// As its status says; `None`: it has none yet, and nothing is enforced.
    used: Option<usize>,
    recount_at: Option<i64>,
}

impl Quota {
    /// Maximum Secrets.
    pub fn secrets(name: &str, limit: usize) -> Quota {
        Quota { name: name.into(), limit, recounts_after: None, used: None, recount_at: None }
    }

    /// So many milliseconds after a delete the controller has counted anew. Without this it never does.
    pub fn recounts_after(self, millis: i64) -> Quota {
        Quota { recounts_after: Some(millis), ..self }
    }

    /// Why one more is refused.
    pub(super) fn refuses(&self) -> Option<String> {
        let used = self.used.filter(|used| used + 1 > self.limit)?;
        let Quota { name, limit, .. } = self;
        Some(format!(
            "exceeded quota: {name}, requested: count/secrets=1, used: count/secrets={used}, limited: count/secrets={limit}"
        ))
    }

    /// One more is let in, whatever becomes of it.
    pub(super) fn charge(&mut self) {
        self.used = self.used.map(|used| used + 1);
    }

    /// Something was deleted: that is seen later.
    pub(super) fn gives_back(&mut self, now: i64) {
        if let (Some(millis), None) = (self.recounts_after, self.recount_at) {
            self.recount_at = Some(now + millis);
        }
    }

    /// Whether the controller counts now.
    pub(super) fn is_due(&self, now: i64) -> bool {
        self.recount_at.is_some_and(|at| at <= now)
    }

    /// The controller has counted.
    pub(super) fn counted(&mut self, used: usize) {
        (self.used, self.recount_at) = (Some(used), None);
    }
}
