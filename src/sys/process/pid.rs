//! The number of a process.

use std::fmt;
use std::num::NonZeroI32;

/// The number of a process or of a group: positive, so that none of the meanings that `kill(2)` gives to zero and
/// to negative numbers can be meant by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// The process with this number, if it can be one.
    pub const fn from_raw(number: i32) -> Option<Pid> {
        match NonZeroI32::new(number) {
            Some(number) if number.get() > 0 => Some(Pid(number)),
            _ => None,
        }
    }

    /// The number.
    pub const fn as_raw(self) -> i32 {
        self.0.get()
    }

    /// From a call that cannot fail and answers a positive number; were it wrong, 1 is the safest to be.
    pub(super) fn of(pid: nix::unistd::Pid) -> Pid {
        Pid::from_raw(pid.as_raw()).unwrap_or(Pid(NonZeroI32::MIN.saturating_abs()))
    }

    pub(super) fn nix(self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.as_raw())
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_numbers_are_processes() {
        assert_eq!(Pid::from_raw(1).map(Pid::as_raw), Some(1));
        for number in [0, -1, i32::MIN] {
            assert_eq!(Pid::from_raw(number), None);
        }
    }
}
