//! Actions of the app of the fault tests that call other apps.

use crate::app::{Faults, begin, begun};
use crate::dialogs;
use std::time::Duration;
use std::{fs, thread};
use stokehold::{App, Args, Client, Code, Ctx, Options, Reply, Response, Result};

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    match action {
        // As a client like any other, of a pool that is served.
        "ask_pool" => {
            let (path, action): (&str, &str) = args.parse()?;
            Ok(Reply::from(ask(path, action)?))
        }
        "later_ask_pool" => {
            let (path, action): (String, String) = args.parse()?;
            ctx.defer(move |later| {
                begin(1);
                let answer = ask(&path, &action).map(Reply::from);
                later.answer(answer);
            })
        }
        // What another app makes of these, after this one has begun.
        "sum_there" => {
            let (id, a, b): (i64, i64, i64) = args.parse()?;
            begin(id);
            answer(ctx.call(Faults::NAME, "add").args((a, b)).execute())
        }
        // The same action of the same app: fails, or calls itself once more, so deep.
        "deep" => {
            let (levels, last): (i64, &str) = args.parse()?;
            answer(match levels {
                0 => ctx.call(Faults::NAME, last).execute(),
                _ => ctx.call(Faults::NAME, "deep").args((levels - 1, last)).execute(),
            })
        }
        "deeper" => {
            let (levels,): (i64,) = args.parse()?;
            match levels {
                0 => Ok(Reply::from(std::process::id())),
                _ => answer(ctx.call(Faults::NAME, "deeper").args((levels - 1,)).execute()),
            }
        }
        // Until when this call has time, and what one has that it makes.
        "times" => {
            let (own_ms,): (Option<u64>,) = args.parse()?;
            let call = ctx.call(Faults::NAME, "time");
            let call = own_ms.into_iter().fold(call, |call, ms| call.deadline_ms(ms));
            let theirs: i64 = call.execute()?.parse()?;
            Ok(Reply::from((ctx.deadline_ns().unwrap_or(0) as i64, theirs)))
        }
        "time" => Ok(Reply::from(ctx.deadline_ns().unwrap_or(0) as i64)),
        // Begins, then has another begin that waits at a gate, or until it is told.
        "gate_there" | "told_there" => {
            let (id, gate): (i64, &str) = args.parse()?;
            keep(format!("pid{id}"), std::process::id().to_string())?;
            begin(id);
            let call = ctx.call(Faults::NAME, if action == "gate_there" { "gate" } else { "until_told" });
            let outcome = match action {
                "gate_there" => call.args((id + 1, gate)).execute(),
                _ => call.args((id + 1, 0)).execute(),
            };
            if let Err(error) = &outcome {
                keep(format!("outcome{id}"), format!("{:?}", error.kind()))?;
            }
            answer(outcome)
        }
        // The other call goes on while this one answers later: no thread waits for it.
        "later_sum_there" => {
            let (a, b): (i64, i64) = args.parse()?;
            let there = ctx.call(Faults::NAME, "add").args((a, b)).submit()?;
            ctx.defer(move |later| {
                thread::spawn(move || later.answer(answer(there.wait())));
            })
        }
        // Answers at once, and leaves the other call to a thread that waits for it.
        "leave_there" => {
            let (id,): (i64,) = args.parse()?;
            let there = ctx.call(Faults::NAME, "until_told").args((id, 0)).submit()?;
            while begun(id) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            thread::spawn(move || keep(format!("outcome{id}"), format!("{:?}", there.wait().map(drop))));
            Ok(Reply::from(id))
        }
        // What another streams, added up: one by one, or gathered.
        "stream_there" => {
            let (n,): (i64,) = args.parse()?;
            let one_by_one = ctx.call(Faults::NAME, "count").args((n,)).stream()?;
            let sum = one_by_one.map(|item| item?.parse::<i64>()).sum::<Result<i64>>()?;
            let all: Vec<i64> = ctx.call(Faults::NAME, "count").args((n,)).execute()?.parse()?;
            Ok(Reply::from((sum, all.into_iter().sum::<i64>())))
        }
        "endless_there" => {
            let (id,): (i64,) = args.parse()?;
            let mut items = ctx.call(Faults::NAME, "endless").args((id,)).stream()?;
            let ended = items.find_map(|item| item.err());
            keep(format!("outcome{id}"), format!("{ended:?}"))?;
            Ok(Reply::from(id))
        }
        // What another writes that makes no sense; the next call goes through, once the lane is a fresh one.
        "forged_there" => {
            let (how,): (&str,) = args.parse()?;
            let ended = ctx.call(Faults::NAME, "forges").args((how, true)).execute();
            keep("outcome".into(), format!("{:?}", ended.map(drop).map_err(|error| error.code())))?;
            // Needs memory that the arbiter registers: by then it has heard what was said before, on the same connection.
            let _ = ctx.call(Faults::NAME, "is_filled").args((0, &vec![0_u8; 1 << 20][..])).execute();
            loop {
                match ctx.call(Faults::NAME, "add").args((1, 2)).execute() {
                    Err(error) if error.code() == Code::Protocol => {}
                    outcome => return answer(outcome),
                }
            }
        }
        // As an app might that wants a client more than once.
        "connect_again" => {
            let calls = [(); 8].map(|()| ctx.call(Faults::NAME, "add").args((1, 1)).submit());
            let sum = calls.into_iter().map(|call| call?.wait()?.parse::<i64>()).sum::<Result<i64>>()?;
            Ok(Reply::from(sum))
        }
        other => dialogs::call(other, args, ctx),
    }
}

/// In a file that is there at once or not at all.
pub fn keep(name: String, text: String) -> Result<()> {
    fs::create_dir_all("kept")?;
    fs::write(format!("kept/.{name}"), text)?;
    Ok(fs::rename(format!("kept/.{name}"), format!("kept/{name}"))?)
}

fn answer(outcome: Result<Response>) -> Result<Reply> {
    Ok(Reply::from(outcome?.parse::<i64>()?))
}

fn ask(path: &str, action: &str) -> Result<i64> {
    let client = Client::connect_path(path, Options::default())?;
    let answer = client.call(Faults::NAME, action).deadline_ms(5_000).execute();
    answer.map_err(|error| error.context("asking there"))?.parse()
}
