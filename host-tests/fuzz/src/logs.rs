//! What the core logs, kept per thread.

use log::{LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Keep;

impl Log for Keep {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Runs `what`, and answers with its result what it logged on this thread.
pub(crate) fn during<T>(what: impl FnOnce() -> T) -> (T, Vec<String>) {
    // An error says that the logger is there already.
    let _ = log::set_logger(&Keep);
    log::set_max_level(LevelFilter::Trace);
    LINES.with_borrow_mut(Vec::clear);
    let result = what();
    (result, LINES.take())
}
