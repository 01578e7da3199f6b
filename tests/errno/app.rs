//! The app of the sweep: says when it begins with a call, and answers what only that call's request can give.

use super::marks::{Mark, tell};
use stokehold::internals::sys::process;
use stokehold::internals::sys::signal::Signal;
use stokehold::{App, Args, Ctx, Error, Reply, Result, ValueRef};

pub struct Errno;

impl App for Errno {
    const NAME: &'static str = "errno:Errno";

    fn init(_: &Ctx) -> Result<Errno> {
        Ok(Errno)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "add" => {
                let (id, b): (i64, i64) = args.parse()?;
                begun(id);
                Ok(Reply::from(id + b))
            }
            // Bytes there and, in memory of the worker's, back.
            "echo" => {
                let (id, bytes): (i64, &[u8]) = args.parse()?;
                begun(id);
                Ok(ctx.lease_from(bytes)?.into())
            }
            "count" => {
                let (id, n): (i64, i64) = args.parse()?;
                begun(id);
                let mut sink = ctx.sink()?;
                (0..n).try_for_each(|at| sink.send(id + at))?;
                Ok(Reply::from(n))
            }
            "dialog" => {
                let (id,): (i64,) = args.parse()?;
                begun(id);
                let (mut sink, inbox) = ctx.started(())?.split();
                for item in &inbox {
                    match item?.value()? {
                        ValueRef::Int(n) => sink.send(n + id)?,
                        ValueRef::Bytes(bytes) => sink.send(ctx.lease_from(bytes)?)?,
                        _ => return Err(Error::bad_request("a number or bytes")),
                    }
                }
                Ok(Reply::from(id))
            }
            "die" => {
                let (id,): (i64,) = args.parse()?;
                begun(id);
                let _ = process::raise(Signal::SIGKILL);
                process::exit_now(9) // the signal may be the call that fails
            }
            other => Err(Error::no_action(other)),
        }
    }
}

fn begun(id: i64) {
    tell(Mark::Begun, id as u64, 0, "");
}
