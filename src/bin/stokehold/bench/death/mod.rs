//! `bench death`: a worker, or the arbiter, is killed in the middle of calls.

mod arbiter;
mod worker;

use super::options::Options;
use super::place::{Place, Placement};
use super::procfs;
use super::report::Report;
use crate::failure::Failure;
use std::time::Duration;
use stokehold::internals::sys::clock;
use stokehold::{Error, Result};

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    let placement = options.placement.unwrap_or(Placement::Free);
    let Some(place) = Place::take(placement)? else {
        report.skipped(&format!("death {}", placement.name()), "needs two processors");
        return Ok(());
    };
    if options.wants_case(TO_ERROR) || options.wants_case(TO_READY) {
        worker::run(options, report, &place)?;
    }
    if options.wants_case(TO_ARBITER_DIED) || options.wants_case(TO_LAST_INSTRUCTION) {
        arbiter::run(options, report, &place)?;
    }
    Ok(())
}

/// Waits until this process has used the processor for a while.
fn until_at_work(pid: u32) -> Result<()> {
    let (start, before) = (clock::monotonic_ns(), procfs::processor_time_ns(pid));
    while procfs::processor_time_ns(pid).saturating_sub(before) < AT_WORK_NS {
        if clock::monotonic_ns() - start > GIVE_UP_NS {
            return Err(Error::bad_request("a worker did not begin a call within 30 s"));
        }
        clock::sleep(LOOK);
    }
    Ok(())
}

/// How long a worker must have computed to be surely at work, and its caller asleep. One that is killed before it
/// began is no failure: the call goes to the next worker.
const AT_WORK_NS: u64 = 3_000_000;
/// How closely processes are looked at.
const LOOK: Duration = Duration::from_micros(100);
const GIVE_UP_NS: u64 = 30_000_000_000;

const TO_ERROR: &str = "worker killed to error";
const TO_READY: &str = "worker killed to next ready";
const TO_ARBITER_DIED: &str = "arbiter killed to error";
const TO_LAST_INSTRUCTION: &str = "arbiter killed to workers' last instruction";
