//! Actions that answer with streams. Each item carries its number and a hash that only it can have.

use crate::app::{begin, clear_armed, keyed, pattern, until_open};
use crate::{forgery, hostile};
use std::thread;
use std::time::Duration;
use stokehold::{Args, Ctx, Error, Flow, Reply, Result};

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    match action {
        // So many numbers, by an iterator.
        "count" => {
            let (n,): (i64,) = args.parse()?;
            Ok(Reply::stream(0..n))
        }
        // Numbers with their hash, one each so many microseconds.
        "keyed" => {
            let (n, us): (i64, u64) = args.parse()?;
            Ok(Reply::stream((0..n).map(move |at| {
                if us > 0 {
                    thread::sleep(Duration::from_micros(us));
                }
                (at, keyed(at, &at.to_le_bytes()))
            })))
        }
        // The same, pushed; then how many they were.
        "numbers" => {
            let (n,): (i64,) = args.parse()?;
            let mut sink = ctx.sink()?;
            (0..n).try_for_each(|at| sink.send(at))?;
            Ok(Reply::from(n))
        }
        // The same, and a note of it; the end when the gate opens.
        "plenty" => {
            let (id, n, gate): (i64, i64, &str) = args.parse()?;
            let mut sink = ctx.sink()?;
            (0..n).try_for_each(|at| sink.send(at))?;
            begin(id);
            until_open(gate);
            Ok(Reply::from(n))
        }
        // The same without the note.
        "waits" => {
            let (n,): (i64,) = args.parse()?;
            let mut sink = ctx.sink()?;
            (0..n).try_for_each(|at| sink.send(at))?;
            until_open("gate");
            Ok(Reply::from(n))
        }
        // One item that its caller is not woken for, which a stopped process may come to.
        "muted" => {
            let mut sink = ctx.sink()?;
            begin(1);
            until_open("gate");
            if clear_armed() == 0 {
                return Err(ctx.error("Awake", "nobody waits at a descriptor"));
            }
            sink.send(0)?;
            until_open("gate2");
            Ok(Reply::end())
        }
        // Bytes of this length in leases, pushed; then how many they were.
        "lent" => {
            let (n, len): (i64, usize) = args.parse()?;
            let mut sink = ctx.sink()?;
            for at in 0..n {
                sink.send(ctx.lease_from(&pattern(at, len))?)?;
            }
            Ok(Reply::from(n))
        }
        // The same, copied.
        "copied" => {
            let (n, len): (i64, usize) = args.parse()?;
            Ok(Reply::stream((0..n).map(move |at| pattern(at, len))))
        }
        // So many numbers, then an error.
        "breaks" => {
            let (n,): (i64,) = args.parse()?;
            let items = (0..n).map(Ok).chain([Err(Error::app("Leak", "the boiler is dry"))]);
            Ok(Reply::try_stream(items))
        }
        // So many numbers, then a panic.
        "bursts" => {
            let (n,): (i64,) = args.parse()?;
            Ok(Reply::stream((0..=n).inspect(move |at| assert!(*at < n, "the boiler bursts"))))
        }
        // So many numbers, then the end of the process.
        "dies" => {
            let (n,): (i64,) = args.parse()?;
            Ok(Reply::stream((0..=n).inspect(move |at| {
                if *at == n {
                    std::process::abort();
                }
            })))
        }
        // Numbers until nobody wants them; its beginning and its end are in the journal.
        "endless" => {
            let (id,): (i64,) = args.parse()?;
            begin(id);
            let mut sink = ctx.sink()?;
            let ended = (0_i64..).try_for_each(|at| sink.send(at));
            begin(id + 1);
            ended?;
            Ok(Reply::end())
        }
        // As many as there is room for, and how many those were.
        "overruns" => {
            let (window,): (u64,) = args.parse()?;
            let mut sink = ctx.sink_with(Flow::new().items(window).or_fail())?;
            let mut sent = 0_i64;
            let error = loop {
                match sink.send(sent) {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            begin(1000 + sent);
            Err(error)
        }
        // An item that is larger than what may be on its way, and when that was taken, a number.
        "large_then_small" => {
            let (gate,): (&str,) = args.parse()?;
            let mut sink = ctx.sink_with(Flow::new().bytes(100_000).or_fail())?;
            sink.send(&pattern(1, 1_000_000)[..])?;
            until_open(gate);
            sink.send(7)?;
            Ok(Reply::end())
        }
        // Three numbers, some large bytes, and what makes no sense. Ends at once, or when it is told.
        "forges" => {
            let (how, waits): (&str, bool) = args.parse()?;
            let mut sink = ctx.sink()?;
            (0_i64..3).try_for_each(|at| sink.send(at))?;
            sink.send(pattern(3, 5000))?;
            forgery::forge(how);
            if waits {
                ctx.wait_cancelled(Duration::from_secs(30));
            }
            Ok(Reply::end())
        }
        // Leases of this length, as long as somebody takes them; of which no more than so many bytes are on their way.
        "lends" => {
            let (id, len, bytes): (i64, usize, u64) = args.parse()?;
            begin(id);
            let mut sink = ctx.sink_with(Flow::new().bytes(bytes))?;
            let ended = (0_i64..).try_for_each(|at| sink.send(ctx.lease_from(&pattern(at, len))?));
            begin(id + 1);
            ended?;
            Ok(Reply::end())
        }
        // So many small leases, then one that needs all the room there is.
        "small_then_large" => {
            let (n, len): (i64, usize) = args.parse()?;
            let mut sink = ctx.sink_with(Flow::new().bytes(n as u64 * len as u64))?;
            for at in 0..n {
                sink.send(ctx.lease_from(&pattern(at, len))?)?;
            }
            sink.send(ctx.lease(n as usize * len)?)?;
            Ok(Reply::end())
        }
        // A sink that nobody drops, and a result.
        "forgets" => {
            let (n,): (i64,) = args.parse()?;
            let mut sink = ctx.sink()?;
            (0..n).try_for_each(|at| sink.send(at))?;
            std::mem::forget(sink);
            Ok(Reply::from(n))
        }
        // An iterator that panics when it is dropped, after so many numbers.
        "bursts_in_the_end" => {
            let (n,): (i64,) = args.parse()?;
            let last = Bursts;
            Ok(Reply::stream((0..n).inspect(move |_| {
                let _ = &last;
            })))
        }
        other => hostile::call(other, args, ctx),
    }
}

struct Bursts;

impl Drop for Bursts {
    fn drop(&mut self) {
        assert!(thread::panicking(), "the boiler bursts when it is cold");
    }
}
