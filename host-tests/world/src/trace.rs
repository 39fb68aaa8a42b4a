//! The trace of a history: every event in order, recorded only on request.

use std::fmt::{Arguments, Write};

/// Lines with their times.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: Option<String>,
    /// The process that runs, where there are pods: `relay-1#3 `.
    pub(crate) who: String,
}

impl Trace {
    pub(crate) fn new(kept: bool) -> Trace {
        Trace { text: kept.then(String::new), who: String::new() }
    }

    pub(crate) fn line(&mut self, now: u64, line: Arguments<'_>) {
        if let Some(text) = &mut self.text {
            // Writing to a String cannot fail.
            let _done = writeln!(text, "{:>10}.{:06} {}{line}", now / 1_000_000, now % 1_000_000, self.who);
        }
    }

    /// The lines so far.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}
