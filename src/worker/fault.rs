//! An error of a call: where it is from, and how it is written for the caller.

use super::runtime::Worker;
use crate::error::{AppError, Error, Kind, Result, Source};
use crate::limits::INLINE_LEN;
use crate::shm::{BAD_REQUEST, DEADLINE, OVERRUN, STALLED};
use crate::sys::{clock, process};
use crate::wire::{self, Encoder, ErrorDetails};

impl Worker {
    /// An error that this app here ends a call with, with this worker in it.
    pub(super) fn raised_by(&self, app: &str, error: Error) -> Error {
        raised(error, || self.source(app))
    }

    fn source(&self, app: &str) -> Source {
        Source { app: app.to_owned(), pid: process::pid().as_raw() as u32, life: self.life().get() }
    }

    /// The body of an error's record, the record's flags, and the number that goes with these.
    pub(super) fn encode_error(&self, error: &Error) -> Result<(Vec<u8>, u64, u64)> {
        let (mut said, flags) = describe(error);
        said.source.get_or_insert_with(|| self.source(""));
        let number = match error.kind() {
            Kind::Stalled { after } => clock::saturating_ns(*after),
            Kind::Overrun { limit } => *limit,
            _ => 0,
        };
        Ok((encode(&said)?, flags, number))
    }
}

/// One of another worker's app, which this one only passes on, keeps its source, and this worker is noted behind it. What
/// says more about the call than about the app stays what it is.
fn raised(error: Error, here: impl FnOnce() -> Source) -> Error {
    if matches!(
        error.kind(),
        Kind::BadRequest(_)
            | Kind::Value(_)
            | Kind::Frame(_)
            | Kind::Deadline { .. }
            | Kind::Overloaded { .. }
            | Kind::Stalled { .. }
            | Kind::Overrun { .. }
    ) {
        return error;
    }
    let (mut said, _) = describe(&error);
    match said.source {
        None => said.source = Some(here()),
        Some(_) if said.relayed.len() < AppError::MAX_RELAYS => said.relayed.push(here()),
        Some(_) => {}
    }
    Error::new(Kind::App(said))
}

fn encode(said: &AppError) -> Result<Vec<u8>> {
    let more = wire::provenance(said);
    let details = ErrorDetails { traceback: &said.traceback, more: &more, ..ErrorDetails::default() };
    let mut body = vec![0; INLINE_LEN];
    loop {
        let mut e = Encoder::new(&mut body);
        wire::error(&said.class, &said.message, &details, &mut e)?;
        match e.finish() {
            Ok(len) => {
                body.truncate(len);
                return Ok(body);
            }
            Err(more) => body.resize(more.needed, 0),
        }
    }
}

/// An error as its caller gets it.
fn describe(error: &Error) -> (AppError, u64) {
    match error.kind() {
        Kind::App(said) => {
            let mut said = said.clone();
            said.message.insert_str(0, &error.contexts());
            (said, 0)
        }
        Kind::BadRequest(why) => (AppError::new("BadRequest", why.to_string()), BAD_REQUEST),
        Kind::Value(_) | Kind::Frame(_) => (AppError::new("BadRequest", error.to_string()), BAD_REQUEST),
        Kind::Deadline { .. } => (AppError::new("Deadline", error.to_string()), DEADLINE),
        Kind::Stalled { .. } => (AppError::new("Stalled", error.to_string()), STALLED),
        Kind::Overrun { .. } => (AppError::new("Overrun", error.to_string()), OVERRUN),
        _ => (AppError::new(format!("{:?}", error.code()), error.to_string()), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Bound, Limit};

    fn at(app: &str) -> Source {
        Source { app: app.to_owned(), pid: 7, life: 3 }
    }

    fn raised_in(error: Error, app: &str) -> AppError {
        match raised(error, || at(app)).kind() {
            Kind::App(said) => said.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_that_is_passed_on_keeps_its_source() {
        let leaf = raised_in(Error::app("Wet", "the coal is wet").context("stoking"), "leaf");
        assert_eq!((leaf.class.as_str(), leaf.message.as_str()), ("Wet", "stoking: the coal is wet"));
        assert_eq!((leaf.source.clone(), leaf.relayed.len()), (Some(at("leaf")), 0));
        let mid = raised_in(Error::new(Kind::App(leaf)).context("steaming").of_call(), "mid");
        assert_eq!(mid.message, "steaming: stoking: the coal is wet");
        assert_eq!((mid.source, mid.relayed), (Some(at("leaf")), vec![at("mid")]));
    }

    #[test]
    fn no_more_relays_are_noted_than_there_may_be() {
        let mut said = raised_in(Error::app("Wet", "x"), "leaf");
        for n in 0..20 {
            said = raised_in(Error::new(Kind::App(said)), &format!("relay{n}"));
        }
        assert_eq!(said.source, Some(at("leaf")));
        assert_eq!(said.relayed.len(), AppError::MAX_RELAYS);
        assert_eq!(said.relayed[7], at("relay7"));
    }

    #[test]
    fn what_is_no_apps_error_becomes_one_where_it_was_met() {
        let said = raised_in(Error::os("open", 2).context("reading the model"), "leaf");
        assert_eq!((said.class.as_str(), said.source), ("Os", Some(at("leaf"))));
        assert!(said.message.starts_with("reading the model: open: "), "{}", said.message);
        let stays = [
            Error::bad_request("x"),
            Error::new(Kind::Value("x".into())),
            Error::new(Kind::Deadline { started: true, limit: Limit::Call }),
            Error::new(Kind::Overloaded { bound: Bound::Results, limit: 1 }),
        ];
        for error in stays {
            let code = error.code();
            assert_eq!(raised(error, || unreachable!()).code(), code);
        }
    }

    #[test]
    fn a_record_of_any_length_is_written() {
        for len in [0, INLINE_LEN, 100_000] {
            let said = AppError { source: Some(at("leaf")), ..AppError::new("Wet", "x".repeat(len)) };
            assert!(encode(&said).unwrap().len() > len);
        }
    }
}
