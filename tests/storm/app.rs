//! The app of the storm: what it begins, sends and gets is in the journal before anybody can see it.

use super::journal::{Event, Journal};
use super::keyed::{is_whole, item, keyed};
use super::law::ASKED;
use super::verdict::Verdict;
use std::time::Duration;
use std::{process, thread};
use stokehold::{App, Args, Ctx, Error, Reply, Result};

pub struct Storm;

/// Of a call that an app makes for this one.
pub const NESTED: u64 = 1 << 62;

impl App for Storm {
    const NAME: &'static str = "storm:Storm";

    fn init(_: &Ctx) -> Result<Storm> {
        // Long enough to be found booting.
        thread::sleep(Duration::from_millis(2));
        Ok(Storm)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        let journal = Journal::ours();
        journal.heed();
        let begin = |id: i64| {
            journal.add(Event::Begin, id as u64, 0);
            id as u64
        };
        match action {
            "work" => {
                let (id, bytes, us): (i64, &[u8], u64) = args.parse()?;
                let id = begin(id);
                thread::sleep(Duration::from_micros(us));
                // Lent until this call is over, also where its caller has its answer.
                if !is_whole(id & !NESTED, bytes) {
                    journal.add(Event::Wrong, id, bytes.len() as u64);
                }
                let result = keyed(id, bytes);
                journal.heed();
                journal.add(Event::End, id, 0);
                Ok(Reply::from(result))
            }
            // The same, answered when the app has returned.
            "later" => {
                let (id, bytes, us): (i64, &[u8], u64) = args.parse()?;
                let id = begin(id);
                let result = keyed(id, bytes);
                ctx.defer(move |later| {
                    thread::sleep(Duration::from_micros(us));
                    journal.add(Event::End, id, 0);
                    later.reply(result);
                })
            }
            // So many items: small ones, some lent, some copied that need a block.
            "stream" => {
                let (id, n, len): (i64, u64, usize) = args.parse()?;
                let id = begin(id);
                let mut sink = ctx.sink()?;
                for at in 0..n {
                    journal.heed();
                    journal.add(Event::Send, id, at);
                    let bytes = item(id, at, len);
                    match at % 4 {
                        3 => sink.send(ctx.lease_from(&bytes)?)?,
                        _ => sink.send(&bytes[..])?,
                    }
                }
                journal.add(Event::End, id, n);
                Ok(Reply::from(n as i64))
            }
            // Sends back as many as it gets.
            "context" => {
                let (id, len): (i64, usize) = args.parse()?;
                let id = begin(id);
                let (mut sink, inbox) = ctx.started(id as i64)?.split();
                let mut count = 0;
                for got in &inbox {
                    journal.heed();
                    let got = got?;
                    if got.as_bytes()? != item(!id, count, len) {
                        journal.add(Event::Wrong, id, count);
                    }
                    journal.add(Event::GotBack, id, count);
                    journal.add(Event::Send, id, count);
                    sink.send(&item(id, count, len)[..])?;
                    count += 1;
                }
                journal.add(Event::End, id, count);
                Ok(Reply::from(count as i64))
            }
            // Has another worker work on it.
            "ask" => {
                let (id, bytes): (i64, &[u8]) = args.parse()?;
                let id = begin(id);
                let there = id | NESTED;
                journal.add(Event::Issued, there, ASKED);
                let outcome = ctx.call(Storm::NAME, "work").args((there as i64, bytes, 50)).execute();
                let outcome = outcome.and_then(|there| there.parse::<i64>());
                journal.add(Event::Outcome, there, Verdict::of(&outcome).pack());
                let result = outcome?;
                if result != keyed(there, bytes) {
                    journal.add(Event::Wrong, there, 0);
                }
                journal.add(Event::End, id, 0);
                Ok(Reply::from(result))
            }
            // A process that outlives the call, and must not outlive the worker.
            "leave" => {
                let (id,): (i64,) = args.parse()?;
                let id = begin(id);
                process::Command::new("/bin/sleep").arg("1000").spawn()?;
                journal.add(Event::End, id, 0);
                Ok(Reply::from(1))
            }
            other => Err(Error::no_action(other)),
        }
    }
}
