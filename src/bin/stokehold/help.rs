//! What the program says about itself, and saying it.

use std::io::Write;
use std::process::ExitCode;

/// Prints `text` and succeeds. That nobody reads it to its end is no error.
pub fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// About a command, or about all of it.
pub fn about(topic: Option<&str>) -> Option<&'static str> {
    match topic {
        None => Some(GENERAL),
        Some("bench") => Some(BENCH),
        Some("doctor") => Some(DOCTOR),
        Some(_) => None,
    }
}

pub const GENERAL: &str = "\
stokehold: a supervised pool of worker processes, called over shared memory

Usage: stokehold COMMAND [OPTIONS]

Commands:
  bench call         what a 64-byte call costs, beside the cheapest hand-overs between processes
  bench payload      what bytes lent in place cost, from 64 B to 64 MiB
  bench throughput   how many calls a second, one client with 64 in flight, and several threads
  bench death        how soon a caller knows that its worker was killed, and a new one is ready
  doctor             whether a pool can run here, and what this machine lacks
  help COMMAND       more about a command

Options:
  -h, --help         this text
  -V, --version      the version

The log goes to standard error: RUST_LOG=info stokehold doctor
";

pub const BENCH: &str = "\
Usage: stokehold bench call|payload|throughput|death [OPTIONS]

Measures against baselines in the same run: blocks of calls and blocks of the baseline alternate, so that whatever
else the machine does hits both. p50 is the median of the blocks' medians, p99 is that of all samples together,
ratio is the median of the ratios of neighbouring blocks. Compare ratios; the times alone say more about the machine
and the hour than about the program. Build with --release.

Options:
  --json             one JSON object a line instead of a table
  --seconds S        how long one row takes, 2 by default
  --wait W           only rows with this way to wait: adaptive, park or spin
  --placement P      only rows with this placement:
                       one    both processes on one processor
                       two    each on a processor of its own
                       free   where the kernel puts them
                       hog1   free, beside one process that never sleeps
                       hog2   free, beside two of them
                       same   both on one processor, and neither knew it when it started (not among the defaults)
  --only TEXT        only rows whose case or baseline contains TEXT
  --full             the long rows, too: death with 1 GiB
  -h, --help         this text

Baselines of `call`: a word in shared memory handed to a forked process and back, by futex, by sched_yield, by
spinning; 64 bytes over a Unix socketpair; a crossbeam channel to a thread and back.
";

pub const DOCTOR: &str = "\
Usage: stokehold doctor

Tries what a pool needs on this machine, line by line: `ok`, `lacking` with what follows from it, or `FAILED` if no
pool can run. In the end it starts a pool of one worker and calls it.

Exit status: 0 if a pool can run, 1 if not.
";
