//! Where an error is from, as its record's details say it: in gunicorn's keys where it has one, `app_path` and `worker_id`
//! (a process), and in `worker_life` and `relayed` beside them, which its clients pass over.
//!
//! These are hints for people. One that makes no sense is none, and does not make the error unreadable.

use super::{DictRef, ErrorRef, Value, ValueRef, memory};
use crate::error::{AppError, Source};
use crate::limits::MAX_NAME;

const APP: &str = "app_path";
const PID: &str = "worker_id";
const LIFE: &str = "worker_life";
const RELAYED: &str = "relayed";

impl ErrorRef<'_> {
    /// The worker that it arose in. `None` if that is not said, or in a way that makes no sense.
    pub fn source(&self) -> Option<Source> {
        source(self.details)
    }

    /// The workers that passed it on after that: the first ones, if more are named than are ever noted.
    pub fn relayed(&self) -> Vec<Source> {
        let Ok(Some(ValueRef::List(all))) = self.details.get(RELAYED) else { return Vec::new() };
        let relays = all.iter().take(AppError::MAX_RELAYS).map_while(Result::ok);
        relays
            .filter_map(|relay| if let ValueRef::Dict(relay) = relay { source(relay) } else { None })
            .collect()
    }
}

fn source(said: DictRef<'_>) -> Option<Source> {
    let (mut app, mut pid, mut life) = ("", None, 0);
    for pair in said {
        match pair.ok()? {
            (APP, ValueRef::Str(name)) => app = name,
            (PID, ValueRef::Int(n)) => pid = u32::try_from(n).ok(),
            (LIFE, ValueRef::Int(n)) => life = u16::try_from(n).unwrap_or_default(),
            _ => {}
        }
    }
    let pid = pid.filter(|pid| *pid != 0 && app.len() <= MAX_NAME)?;
    Some(Source { app: memory::copy_str(app).ok()?, pid, life })
}

/// The pairs that say it, for [`ErrorDetails::more`](super::ErrorDetails::more).
pub fn provenance(said: &AppError) -> Vec<(&'static str, Value)> {
    let mut pairs = said.source.iter().flat_map(pairs_of).collect::<Vec<_>>();
    let relays = said.relayed.iter().take(AppError::MAX_RELAYS);
    let relays = relays.map(|relay| Value::Dict(pairs_of(relay).map(|(k, v)| (k.to_owned(), v)).into()));
    if !said.relayed.is_empty() {
        pairs.push((RELAYED, Value::List(relays.collect())));
    }
    pairs
}

fn pairs_of(source: &Source) -> [(&'static str, Value); 3] {
    let Source { app, pid, life } = source;
    [(APP, app.as_str().into()), (PID, i64::from(*pid).into()), (LIFE, i64::from(*life).into())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Encoder, ErrorDetails, Kind, NoReferences, Outcome, ResponseRef, error};

    fn written(more: &[(&str, Value)]) -> Vec<u8> {
        let mut body = Vec::new();
        let details = ErrorDetails { traceback: "line 1", more, ..ErrorDetails::default() };
        error("Wet", "the coal is wet", &details, &mut Encoder::to_vec(&mut body)).unwrap();
        body
    }

    fn read(body: &[u8]) -> (Option<Source>, Vec<Source>) {
        match ResponseRef::decode(Kind::Error, body, &NoReferences).unwrap() {
            Outcome::Error(e) => {
                assert_eq!((e.class, e.message, e.traceback), ("Wet", "the coal is wet", "line 1"));
                (e.source(), e.relayed())
            }
            other => panic!("{other:?}"),
        }
    }

    fn at(app: &str, pid: u32, life: u16) -> Source {
        Source { app: app.into(), pid, life }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut said = AppError::new("Wet", "the coal is wet");
        assert_eq!(read(&written(&provenance(&said))), (None, vec![]));
        said.source = Some(at("leaf:Leaf", u32::MAX, u16::MAX));
        assert_eq!(read(&written(&provenance(&said))), (said.source.clone(), vec![]));
        said.relayed = (1..=8).map(|n| at(&"n".repeat(MAX_NAME), n, 3)).collect();
        assert_eq!(read(&written(&provenance(&said))), (said.source.clone(), said.relayed.clone()));
    }

    #[test]
    fn gunicorns_own_keys_are_enough() {
        let more = [("app_path", "m:C".into()), ("worker_id", 4711.into()), ("timeout", 3.into())];
        assert_eq!(read(&written(&more)).0, Some(at("m:C", 4711, 0)));
    }

    #[test]
    fn what_makes_no_sense_is_not_said() {
        let dict = |pairs: Vec<(&str, Value)>| {
            Value::Dict(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
        };
        for pid in [Value::None, 0.into(), (-1).into(), i64::MAX.into(), "7".into(), Value::List(vec![])] {
            assert_eq!(read(&written(&[("app_path", "m:C".into()), ("worker_id", pid)])).0, None);
        }
        let long = "n".repeat(MAX_NAME + 1);
        assert_eq!(read(&written(&[("app_path", long.as_str().into()), ("worker_id", 7.into())])).0, None);
        let life = [("worker_id", 7.into()), ("worker_life", 65_536.into())];
        assert_eq!(read(&written(&life)).0, Some(at("", 7, 0)));
        for relayed in [Value::None, 7.into(), "x".into(), dict(vec![("worker_id", 7.into())])] {
            assert_eq!(read(&written(&[("relayed", relayed)])).1, []);
        }
        let good = || dict(vec![("worker_id", 7.into()), ("app_path", "m:C".into()), ("more", "x".into())]);
        let mixed = Value::List(vec![7.into(), good(), dict(vec![]), good()]);
        assert_eq!(read(&written(&[("relayed", mixed)])).1, [at("m:C", 7, 0), at("m:C", 7, 0)]);
        // More than are ever noted, and said twice: the last counts, and no more of it than that.
        let many = Value::List((0..if cfg!(miri) { 20 } else { 100_000 }).map(|_| good()).collect());
        let twice = [("relayed", Value::List(vec![])), ("relayed", many)];
        assert_eq!(read(&written(&twice)).1.len(), AppError::MAX_RELAYS);
    }

    #[test]
    fn more_relays_than_are_noted_are_not_written() {
        let mut said = AppError::new("Wet", "x");
        said.relayed = (1..100).map(|n| at("a", n, 1)).collect();
        assert_eq!(
            read(&written(&provenance(&AppError { message: "the coal is wet".into(), ..said }))).1.len(),
            8
        );
    }
}
