//! Named crash points: steps of the protocol at which a test has a process die, stop, dawdle or fail.
//!
//! Only with `--cfg crash_points` (`ci/crash-points.sh`). Otherwise [`crash_point!`] expands to nothing, and nothing of this
//! room is compiled. A cfg and no feature: features are united over a whole build, so that one stray `--all-features`
//! would arm what others run.
//!
//! `STOKEHOLD_CRASH_POINTS=name:nth:action[,...]` says what happens at a process's `nth` passage of a point: `kill`, `stop`,
//! `sleep=MS`, `exit0`, `panic` or, at a point that stands before a system call, `errno=E`. A harness of many processes
//! gives them one plan instead ([`share`]), in which passages are counted over all of them.

#[cfg(crash_points)]
mod points;

#[cfg(crash_points)]
pub use points::{Action, Cell, NAMES, index, reach, share};

/// The step of this name, which is in [`NAMES`]. With the name of a system call it stands before that one, and may fail in
/// its place: the function returns the error.
#[cfg(not(crash_points))]
macro_rules! crash_point {
    ($name:literal) => {};
    ($name:literal, $call:literal) => {};
}

#[cfg(crash_points)]
macro_rules! crash_point {
    ($name:literal) => {{
        const AT: usize = crate::crash::index($name);
        let _ = crate::crash::reach(AT);
    }};
    ($name:literal, $call:literal) => {{
        const AT: usize = crate::crash::index($name);
        if let Some(errno) = crate::crash::reach(AT) {
            return Err(crate::error::Error::os($call, errno));
        }
    }};
}
