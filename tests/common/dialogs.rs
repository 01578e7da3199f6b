//! Actions that open contexts.

use crate::app::{Faults, begin, pattern};
use crate::{forgery, nested, stream_app};
use std::thread;
use std::time::Duration;
use stokehold::{App, Args, Ctx, Encode, Encoder, Error, Reply, Result, WireError};

/// Cannot be encoded.
struct Unfit;

impl Encode for Unfit {
    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), WireError> {
        Err(WireError::Unsupported("wet coal"))
    }
}

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    match action {
        // Sends back what it gets, and says in the end how many that were.
        "echo_context" => {
            let mut dialog = ctx.started(("ready", 7))?;
            let mut count = 0_i64;
            loop {
                let Some(item) = dialog.recv().inspect_err(|first| {
                    // What would follow is not the next item.
                    let again = dialog.recv().err().map(|error| error.code());
                    assert_eq!(again, Some(first.code()));
                })?
                else {
                    break;
                };
                let value = item.value()?.to_owned()?;
                drop(item);
                dialog.send(value)?;
                count += 1;
            }
            Ok(Reply::from(count))
        }
        // Two threads: numbers one way while the other is summed up.
        "both_ways" => {
            let (n,): (i64,) = args.parse()?;
            let (mut sink, inbox) = ctx.started(())?.split();
            let sum = thread::scope(|scope| {
                let sum = scope.spawn(move || {
                    let mut sum = 0;
                    for item in &inbox {
                        sum += item?.parse::<i64>()?;
                    }
                    Ok::<i64, Error>(sum)
                });
                (0..n).try_for_each(|at| sink.send(at))?;
                sink.finish();
                sum.join().expect("it does not panic")
            })?;
            Ok(Reply::from(sum))
        }
        // Looks at large items where they lie, and holds some.
        "hold_items" => {
            let (most,): (usize,) = args.parse()?;
            let dialog = ctx.started(())?;
            let mut held = Vec::new();
            let mut at = 0;
            while let Some(item) = dialog.recv()? {
                if item.as_bytes()? != pattern(at, item.as_bytes()?.len()) {
                    return Err(Error::app("Wrong", at));
                }
                if at % 3 == 0 {
                    held.push((at, item));
                }
                if held.len() > most {
                    held.remove(at as usize % most);
                }
                for (at, item) in &held {
                    if item.as_bytes()? != pattern(*at, item.as_bytes()?.len()) {
                        return Err(Error::app("Overwritten", at));
                    }
                }
                at += 1;
            }
            Ok(Reply::from(at))
        }
        // Fails in the middle.
        "fails_in_context" => {
            let mut dialog = ctx.started("go")?;
            dialog.send(1)?;
            let _ = dialog.recv()?;
            Err(Error::app("Leak", "the boiler is dry"))
        }
        // Waits for an item that may never come. What it had in the end is in the journal.
        "waits_in_context" => {
            let (id,): (i64,) = args.parse()?;
            let dialog = ctx.started("go")?;
            begin(id);
            let got = dialog.recv().map(|item| item.is_some());
            begin(id + if got.is_err() { 1 } else { 2 });
            got.map(Reply::from)
        }
        // Takes nothing and says nothing until it is told.
        "deaf_context" => {
            let (id,): (i64,) = args.parse()?;
            let _dialog = ctx.started("go")?;
            begin(id);
            ctx.wait_cancelled(Duration::from_secs(600));
            Ok(Reply::end())
        }
        // Has another that never takes anything, says so once that has begun, and sends to it until it may not.
        "context_there" => {
            let (id,): (i64,) = args.parse()?;
            let mut context = ctx.call(Faults::NAME, "deaf_context").args((id,)).context()?;
            begin(id + 1);
            let error = loop {
                if let Err(error) = context.send(&[7_u8; 400][..]) {
                    break error;
                }
            };
            nested::keep(format!("outcome{id}"), format!("{:?}, then {:?}", error.kind(), context.next()))?;
            Err(error)
        }
        "starts_twice" => {
            let first = ctx.started(1)?;
            drop(first);
            let error = ctx.started(2).map(drop).unwrap_err();
            Err(error)
        }
        // The first value cannot be encoded, the second one can.
        "starts_at_last" => {
            let error = ctx.started(Unfit).map(drop).unwrap_err();
            if !error.to_string().contains("wet coal") {
                return Err(error);
            }
            let mut dialog = ctx.started("go")?;
            dialog.send(1)?;
            Ok(Reply::end())
        }
        "takes_too_much" => {
            let dialog = ctx.started("go")?;
            let _ = dialog.recv()?;
            forgery::take_too_much();
            ctx.wait_cancelled(Duration::from_secs(600));
            Ok(Reply::end())
        }
        "dies_in_context" => {
            let mut dialog = ctx.started("go")?;
            dialog.send(1)?;
            let _ = dialog.recv()?;
            std::process::abort();
        }
        other => stream_app::call(other, args, ctx),
    }
}
