//! What an app said when a call of it failed.

use std::fmt;

/// What the app said: as it travels, and as the caller gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppError {
    /// The class of the error: `Panic`, `Error`, or what the app chose.
    pub class: String,
    /// What happened, for people.
    pub message: String,
    /// Backtrace or context chain, empty if there is none.
    pub traceback: String,
    /// The worker whose app it arose in, as that worker said. `None` for an error that no worker has sent.
    pub source: Option<Source>,
    /// The workers that passed it on after that, each to its own caller, the first one first. At most
    /// [`MAX_RELAYS`](AppError::MAX_RELAYS); later ones are not noted.
    pub relayed: Vec<Source>,
}

/// A worker that an error comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Source {
    /// The app that was called there.
    pub app: String,
    /// The worker's process.
    pub pid: u32,
    /// Its number among the workers of its pool: no other worker of that pool has it at the same time.
    pub life: u16,
}

impl AppError {
    /// How many workers are noted that passed an error on.
    pub const MAX_RELAYS: usize = 8;

    pub(crate) fn new(class: impl Into<String>, message: impl Into<String>) -> AppError {
        AppError { class: class.into(), message: message.into(), ..AppError::default() }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app error {}: {}", self.class, self.message)?;
        // Who was called is known to the caller; not so who that called in turn.
        let (Some(source), false) = (&self.source, self.relayed.is_empty()) else { return Ok(()) };
        write!(f, " (from {source}, passed on by ")?;
        for (at, relay) in self.relayed.iter().enumerate() {
            write!(f, "{}{relay}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app {:?} of worker {}", self.app, self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_was_passed_on_says_where_it_is_from() {
        let at = |app: &str, pid| Source { app: app.into(), pid, life: 1 };
        let mut error = AppError { source: Some(at("leaf", 7)), ..AppError::new("Wet", "the coal is wet") };
        assert_eq!(error.to_string(), "app error Wet: the coal is wet");
        error.relayed = vec![at("mid", 8), at("top", 9)];
        assert_eq!(
            error.to_string(),
            "app error Wet: the coal is wet (from app \"leaf\" of worker 7, passed on by app \"mid\" of worker 8, \
             app \"top\" of worker 9)"
        );
    }
}
