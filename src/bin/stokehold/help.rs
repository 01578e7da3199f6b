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
        Some("serve") => Some(SERVE),
        Some("call") => Some(CALL),
        Some("status") => Some(STATUS),
        Some(_) => None,
    }
}

pub const GENERAL: &str = "\
stokehold: a supervised pool of worker processes, called over shared memory

Usage: stokehold COMMAND [OPTIONS]

Commands:
  serve              a pool as a daemon, which other processes call by a path
  call               one call of a pool that is served, with JSON in and out
  status             how a pool that is served is
  bench call         what a 64-byte call costs, beside the cheapest hand-overs between processes
  bench payload      what bytes cost, from 64 B to 64 MiB: lent in place and copied, warm and the first time
  bench throughput   how many calls a second, one client with 64 in flight, and several threads
  bench tasks        what 4 workers add to tasks of 10 ms, 100 callers
  bench clients      what a call costs among 1,000 clients and 64 workers, and what so many cost
  bench death        how soon a caller knows that its worker or the arbiter was killed, and a new worker is ready
  bench arbiter      what the supervisor costs at rest
  bench stream       how many items a second, small and of 64 KiB, and what a stream costs beside them
  bench all          all of them
  doctor             whether a pool can run here, and what this machine lacks
  help COMMAND       more about a command

Options:
  -h, --help         this text
  -V, --version      the version

The log goes to standard error: RUST_LOG=info stokehold doctor
";

pub const BENCH: &str = "\
Usage: stokehold bench call|payload|throughput|tasks|clients|death|arbiter|stream|all [OPTIONS]

Measures against baselines in the same run: blocks of calls and blocks of the baseline alternate, so that whatever
else the machine does hits both. p50 is the median of the blocks' medians, p99 is that of all samples together,
ratio is the median of the ratios of neighbouring blocks. Compare ratios; the times alone say more about the machine
and the hour than about the program. Build with --release.

Rows that have a limit to meet say which (`wanted`) and whether they do (`met`).

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
  --limits           only rows that have a limit to meet
  --full             the long rows, too: death with 1 and 4 GiB
  --clients N        of bench clients (1,000 by default) and arbiter (200)
  --workers N        of bench clients (64 by default) and arbiter (4)
  -h, --help         this text

Baselines of `call`: a word in shared memory handed to a forked process and back, by futex, by sched_yield, by
spinning; 64 bytes over a Unix socketpair; a crossbeam channel to a thread and back. What the others are measured
against stands in their rows. Beside other projects: benches/peers in the sources.
";

pub const DOCTOR: &str = "\
Usage: stokehold doctor

Tries what a pool needs on this machine, line by line: `ok`, `lacking` with what follows from it, or `FAILED` if no
pool can run. In the end it starts a pool of one worker and calls it.

Exit status: 0 if a pool can run, 1 if not.
";

pub const SERVE: &str = "\
Usage: stokehold serve --app-library FILE [OPTIONS]
       stokehold serve --demo [OPTIONS]

Supervises a pool in the foreground until it is told to end; the log goes to standard error. Clients join by the path of
its socket.

  -s, --socket PATH           where it listens: stokehold/pool.sock in $XDG_RUNTIME_DIR (without that in /run/user/UID; for
                              root in /run) by default. The directory must be yours with rights 700; it is made if its own
                              is there. Beside the socket are PATH.lock and PATH.pid; all three are removed at the end
  -c, --config FILE           settings from a TOML file; options override it
  --app-library FILE          serve the apps in this shared object, which workers load. A Rust cdylib with
                              stokehold::app_library!, or C with STK_APP_LIBRARY; made with this version of stokehold. One
  --demo                      serve the demo app, stokehold.demo:Demo
  --app NAME                  serve only this app of them; may be given several times
  -w, --workers N             worker processes, 0 to 64; 1 by default
  --threads N                 calls that one worker runs at a time, 1 to 64; 1 by default
  --wait W                    how workers wait: adaptive (the default), park or spin
  --timeout-ms N              longest time of any call; 300000 by default, 0 for no limit
  --cancel-signal NAME        what a call gets that nobody waits for and that goes on: HUP, INT, QUIT, USR1, USR2, ALRM,
                              TERM, URG, VTALRM, PROF, WINCH, IO or PWR. None by default; the apps must have a handler
  --cancel-grace-ms N         how long it may go on until then or, with no signal, until its worker is replaced; 1000 by
                              default
  --signal-grace-ms N         how long it may go on after the signal; 1000 by default
  --kill-grace-ms N           how long a worker that is replaced may go on with it; 1000 by default
  --stop-grace-ms N           how long workers may finish what they run at the end; 30000 by default
  --boot-timeout-ms N         how long a worker may take to become ready; 60000 by default
  --keep-warm-ms N            how long idle shared memory for large payloads is kept; 10000 by default
  --restarts N                early deaths of workers that the pool takes ...
  --restarts-within-ms N      ... within this time; with one more it is degraded: 5 in 10000 by default
  --backoff-first-ms N        first and ...
  --backoff-longest-ms N      ... longest pause before a worker that died early is started again: 100 and 10000 by default
  -h, --help                  this text

The file has the same settings by the same names, with _ in place of -:

  socket = \"run/pool.sock\"      # relative paths begin at the file's directory
  workers = 4
  timeout_ms = 60000
  app_library = \"lib/libwords.so\"
  app = [\"words:Words\"]

SIGTERM or SIGINT: takes no more calls, lets workers finish what they run, ends. The second one: now. SIGHUP is ignored.
Workers that cannot boot degrade the pool and are tried again, with pauses.

Exit status: 0 ended as it was told; 1 it could not start (the path is served already, say) or go on; 2 the options, the
file or the socket's directory are wrong, which trying again does not mend.
";

pub const CALL: &str = "\
Usage: stokehold call [OPTIONS] APP ACTION [ARGUMENT...]

Calls an action of an app of a pool that is served, and prints the result as one line of JSON. An ARGUMENT is JSON (text
with its quotes: '\"text\"'), or @FILE: the bytes of that file, lent in shared memory. What JSON lacks is written
{\"$bytes\": \"base64\"} and {\"$float\": \"nan\"} (inf, -inf), in arguments and results.

  -s, --socket PATH    the pool's socket; the default is that of serve
  --deadline-ms N      end after this time, whatever the worker does; the pool's own limit holds as well
  --kwargs JSON        named arguments, an object
  --stream             print each item as it comes, a line of JSON each, and last what the app returned behind them, if it
                       did. Ctrl-C, or a reader that has had enough (`| head -3`), cancels the call; the pool's own limit
                       does not hold. Without it all items come at the end, as one list
  --raw                a result, or an item, of bytes or text as it is, without JSON
  --traceback          an app's error with its traceback
  -h, --help           this text

  stokehold call stokehold.demo:Demo add 2 3
  stokehold call --raw stokehold.demo:Demo digest @Cargo.toml
  stokehold call --stream stokehold.demo:Demo tokens 20 100

Exit status: 0 a result, or as much of a stream as was read; 1 the pool could not be asked, or a file not be read; 2 the
command line makes no sense; else the outcome: 11 the app returned an error, 12 its worker died, 13 the deadline passed, 14 cancelled, 15 overloaded, 16 no
workers, 17 the app cannot read the call or is not there, 18 shared memory was damaged, 19 the daemon died, 20 it is ending,
21 nobody took the items, 22 there was no room for one and the stream does not wait.
";

pub const STATUS: &str = "\
Usage: stokehold status [OPTIONS]

How a pool is that is served: its workers, clients and calls, why workers did not become ready, and the last ten deaths.

  -s, --socket PATH    the pool's socket; the default is that of serve
  --json               all of it as JSON, times in milliseconds
  -h, --help           this text

Exit status: 0 it takes calls; 1 it could not be asked; 2 the command line makes no sense; 3 it takes no calls: degraded,
without workers, or ending.
";
