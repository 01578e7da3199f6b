//! Streams, contexts and calls from inside an app: the ways in which they begin and end, in turns.

use super::{Soak, Text, text};
use std::os::fd::AsFd;
use std::time::Duration;
use stokehold::internals::sys::poll;
use stokehold::{App, Args, Client, Code, Ctx, Error, Reply, Result};

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    match action {
        "count" => {
            let (n,): (i64,) = args.parse()?;
            Ok(Reply::stream(0..n))
        }
        "breaks" => {
            let (n,): (i64,) = args.parse()?;
            Ok(Reply::try_stream((0..n).map(Ok).chain([Err(Error::app("Leak", "the boiler is dry"))])))
        }
        "endless" => {
            let mut sink = ctx.sink()?;
            (0_i64..).try_for_each(|at| sink.send(at))?;
            Ok(Reply::end())
        }
        // Blocks of this length, lent; then how many they were.
        "lent" => {
            let (n, len): (i64, usize) = args.parse()?;
            let mut sink = ctx.sink()?;
            for at in 0..n {
                let mut lease = ctx.lease(len)?;
                lease.fill(at as u8);
                sink.send(lease)?;
            }
            Ok(Reply::from(n))
        }
        // Sends back what it gets, lent; then how many those were.
        "echo" => {
            let (mut sink, inbox) = ctx.started("ready")?.split();
            let mut count = 0_i64;
            for item in &inbox {
                sink.send(ctx.lease_from(item?.as_bytes()?)?)?;
                count += 1;
            }
            Ok(Reply::from(count))
        }
        // What another worker makes of it: a result, a stream, a context.
        "ask" => {
            let (n,): (i64,) = args.parse()?;
            let sum: i64 = ctx.call(Soak::NAME, "add").args((n, 1)).execute()?.parse()?;
            let items = ctx.call(Soak::NAME, "count").args((n,)).stream()?;
            let count = items.map(|item| item.map(drop)).collect::<Result<Vec<()>>>()?.len() as i64;
            let mut context = ctx.call(Soak::NAME, "echo").context()?;
            context.send(&[7_u8; 2000][..])?;
            let echo = context
                .next()
                .map_or(0, |item| item.map_or(0, |item| item.as_bytes().map_or(0, <[u8]>::len)));
            Ok(Reply::from((std::process::id(), sum + count + echo as i64)))
        }
        other => Err(Error::no_action(other)),
    }
}

/// The ways that there are.
const WAYS: u64 = 16;

/// The next one.
pub fn one(client: &Client, turn: u64) -> Text {
    let call = |action| client.call(Soak::NAME, action);
    let way = turn % WAYS;
    let amiss = |what: &str| format!("stream {turn}, way {way}: {what}");
    match way {
        // Small items to the end, by whoever counts, waits, or has them gathered.
        0 => {
            let items = call("count").args((100,)).stream().map_err(text)?;
            let sum = items.map(|item| item?.parse::<i64>()).sum::<Result<i64>>().map_err(text)?;
            (sum == 4950).then_some(()).ok_or_else(|| amiss("not its items"))
        }
        1 => call("count")
            .args((turn as i64 % 7,))
            .stream()
            .and_then(|items| items.wait())
            .map(drop)
            .map_err(text),
        2 => {
            let all = call("count").args((300,)).execute().and_then(|all| all.parse::<Vec<i64>>());
            (all.map_err(text)?.into_iter().eq(0..300)).then_some(()).ok_or_else(|| amiss("not its items"))
        }
        // Lent ones; some are held beyond the end of the stream, some lie in a region that comes and goes.
        3 | 4 => {
            let len = if turn.is_multiple_of(50) { 1 << 20 } else { 10_000 };
            let mut items = call("lent").args((8, len)).stream().map_err(text)?;
            let held: Vec<_> = items.by_ref().take(4 + way as usize).collect::<Result<_>>().map_err(text)?;
            drop(items);
            let is_whole = |(at, item): (usize, &stokehold::Response)| {
                item.as_bytes().is_ok_and(|bytes| bytes.len() == len && bytes.iter().all(|b| *b == at as u8))
            };
            held.iter().enumerate().all(is_whole).then_some(()).ok_or_else(|| amiss("not its items"))
        }
        // Left in the middle: dropped, cancelled by the reader, by a handle, by its time.
        5 => {
            let mut items = call("endless").stream().map_err(text)?;
            items.by_ref().take(turn as usize % 1000).try_for_each(|item| item.map(drop)).map_err(text)
        }
        6 => {
            let mut items = call("endless").stream().map_err(text)?;
            items.by_ref().take(turn as usize % 100).try_for_each(|item| item.map(drop)).map_err(text)?;
            items.cancel();
            Ok(())
        }
        7 => {
            let items = call("endless").stream().map_err(text)?;
            items.canceller().cancel();
            ends_with(items.map(|item| item.map(drop)), Code::Cancelled).map_err(|why| amiss(&why))
        }
        8 => {
            let items = call("endless").deadline_ms(1).stream().map_err(text)?;
            ends_with(items.map(|item| item.map(drop)), Code::Deadline).map_err(|why| amiss(&why))
        }
        9 => {
            let items = call("breaks").args((turn as i64 % 40,)).stream().map_err(text)?;
            ends_with(items.map(|item| item.map(drop)), Code::App).map_err(|why| amiss(&why))
        }
        // Both ways: small and lent; to the end, dropped, cancelled.
        10..=12 => {
            let mut context = call("echo").context().map_err(text)?;
            for at in 0..20_usize {
                let bytes = vec![at as u8; [10, 3_000, 30_000][at % 3]];
                match at % 2 {
                    0 => context.send(&bytes[..]),
                    _ => client.lease_from(&bytes).and_then(|lease| context.send(lease)),
                }
                .map_err(text)?;
                if at >= 5 {
                    let back = context.next().ok_or_else(|| amiss("an end"))?.map_err(text)?;
                    let sent = vec![at as u8 - 5; [10, 3_000, 30_000][(at - 5) % 3]];
                    if back.as_bytes().map_err(text)? != sent {
                        return Err(amiss("not what was sent"));
                    }
                }
            }
            match way {
                10 => {
                    let count: i64 = context.wait().and_then(|count| count.parse()).map_err(text)?;
                    (count == 20).then_some(()).ok_or_else(|| amiss("not all"))
                }
                11 => Ok(()),
                _ => {
                    context.cancel();
                    Ok(())
                }
            }
        }
        13 => {
            let items = call("add").args((1, 2)).stream().map_err(text)?;
            (items.count() == 1).then_some(()).ok_or_else(|| amiss("a plain action is one item"))
        }
        14 => looped(client, turn).map_err(|why| amiss(&why)),
        _ => {
            let (_, sum): (u32, i64) =
                call("ask").args((10,)).execute().and_then(|r| r.parse()).map_err(text)?;
            (sum == 11 + 10 + 2000).then_some(()).ok_or_else(|| amiss("a wrong answer from another worker"))
        }
    }
}

/// In a host's event loop: some to the end, one cancelled by its token, one given up with the loop.
fn looped(client: &Client, turn: u64) -> Text {
    let completions = client.completions().map_err(text)?;
    let call = |action| client.call(Soak::NAME, action);
    for token in 0..4 {
        call("count").args((token as i64 * 20,)).stream_to(&completions, token).map_err(text)?;
        call("add").args((1, 1)).submit_to(&completions, 10 + token).map_err(text)?;
    }
    call("endless").stream_to(&completions, 20).map_err(text)?;
    let (mut ended, mut items) = (0, 0);
    while ended < 9 {
        match completions.next_completion() {
            Some(done) => {
                let outcome = done.outcome.map(drop);
                let is_cancelled = outcome.as_ref().is_err_and(|e| e.code() == Code::Cancelled);
                match (done.token, done.more) {
                    (20, true) => {}
                    (20, false) if is_cancelled => ended += 1,
                    (_, true) => items += 1,
                    (_, false) => outcome.map(|()| ended += 1).map_err(text)?,
                }
                if ended == 8 {
                    completions.cancel(20);
                }
            }
            None => {
                let waited =
                    poll::readable(completions.as_fd(), Some(Duration::from_secs(30))).map_err(text)?;
                waited.ready.then_some(()).ok_or("nobody woke the loop")?;
            }
        }
    }
    if turn.is_multiple_of(3) {
        call("endless").stream_to(&completions, 21).map_err(text)?;
    }
    (items == 120).then_some(()).ok_or_else(|| format!("{items} items"))
}

fn ends_with(mut outcomes: impl Iterator<Item = Result<()>>, code: Code) -> Text {
    let error = outcomes.find_map(Result::err).ok_or("it ended well")?;
    (error.code() == code && outcomes.next().is_none()).then_some(()).ok_or_else(|| error.to_string())
}

/// What died in the middle of its stream leaves nothing behind either.
pub fn cut(client: &Client) -> Text {
    let mut items = client.call(Soak::NAME, "endless").stream().map_err(text)?;
    let held: Vec<_> = items.by_ref().take(10).collect::<Result<_>>().map_err(text)?;
    for pid in client.worker_pids() {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    }
    drop(held);
    ends_with(items.map(|item| item.map(drop)), Code::WorkerDied)
}

/// Has each worker call others: what it needs for that it keeps.
pub fn all_ask(client: &Client) -> Text {
    let mut left: Vec<u32> = client.worker_pids();
    for _ in 0..10_000 {
        if left.is_empty() {
            return Ok(());
        }
        let beside = client.call(Soak::NAME, "nap").submit().map_err(text)?;
        let asked = client.call(Soak::NAME, "ask").args((1,)).execute();
        let (pid, _): (u32, i64) = asked.and_then(|r| r.parse()).map_err(text)?;
        left.retain(|other| *other != pid);
        beside.wait().map_err(text)?;
    }
    Err("some workers are never asked".into())
}
