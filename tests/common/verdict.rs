//! How calls end, as a journal has it.

use stokehold::{Cause, Code, Error, Kill, Kind};

/// How a call ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    /// 0 for a result.
    pub code: u16,
    pub started: Option<bool>,
    /// Of a worker's death, or of an app's error.
    pub cause: u8,
    pub pid: u32,
}

/// Causes of a death, as a verdict has them.
pub const UNKNOWN: u8 = 0;
pub const EXIT: u8 = 1;
pub const LATE: u8 = 2;
pub const OOM: u8 = 3;
pub const RECYCLED: u8 = 4;
pub const CORRUPT: u8 = 5;
pub const UNBORN: u8 = 6;
pub const FAILED: u8 = 7;
pub const CLOSED: u8 = 8;
pub const OTHER: u8 = 9;
pub const HUNG: u8 = 10;
pub const PANIC: u8 = 11;
/// An app could not do what takes an arbiter.
pub const ORPHANED: u8 = 12;
pub const SIGNAL: u8 = 0x80;

impl Verdict {
    pub fn of<T>(outcome: &Result<T, Error>) -> Verdict {
        let Err(error) = outcome else { return Verdict { code: 0, started: Some(true), cause: 0, pid: 0 } };
        let (cause, pid) = match error.kind() {
            Kind::WorkerDied { pid, cause, .. } => {
                let cause = match cause {
                    Cause::Unknown => UNKNOWN,
                    Cause::Exit(0) => EXIT,
                    Cause::Signal(signal) => SIGNAL | *signal as u8,
                    Cause::KilledByUs(Kill::Deadline | Kill::OthersDeadline) => LATE,
                    Cause::Hung => HUNG,
                    Cause::Oom => OOM,
                    Cause::Recycled => RECYCLED,
                    Cause::Corrupt => CORRUPT,
                    Cause::BootFailed => UNBORN,
                    Cause::Exit(_) => FAILED,
                    Cause::KilledByUs(Kill::Shutdown) => CLOSED,
                    _ => OTHER,
                };
                (cause, pid.unwrap_or(0))
            }
            // Where it arose.
            Kind::App(app) => {
                let cause = match &app.class[..] {
                    "Panic" => PANIC,
                    "ArbiterDied" => ORPHANED,
                    _ => UNKNOWN,
                };
                (cause, app.source.as_ref().map_or(0, |source| source.pid))
            }
            _ => (UNKNOWN, 0),
        };
        if error.code() != Code::WorkerDied && std::env::var_os("STOKEHOLD_STORM_SAYS").is_some() {
            eprintln!("{error}");
        }
        Verdict { code: error.code() as u16, started: error.started(), cause, pid }
    }

    pub fn pack(self) -> u64 {
        let started = match self.started {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        u64::from(self.pid) << 32 | u64::from(self.cause) << 24 | started << 16 | u64::from(self.code)
    }

    pub fn unpack(raw: u64) -> Verdict {
        let started = match raw >> 16 & 0xff {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        };
        Verdict { code: raw as u16, started, cause: (raw >> 24) as u8, pid: (raw >> 32) as u32 }
    }

    pub fn is(self, code: Code) -> bool {
        self.code == code as u16
    }
    /// One for each way of ending.
    pub fn name(self) -> String {
        match self.code {
            0 => "Ok".into(),
            2 => format!("WorkerDied({:#x}, started {:?})", self.cause, self.started),
            code => format!("{code}, started {:?}", self.started),
        }
    }
}
