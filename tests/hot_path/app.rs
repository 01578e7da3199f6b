//! The app whose calls are counted.

use super::allocator;
use std::hint::black_box;
use stokehold::{App, Args, Ctx, Error, Reply, Result, ValueRef};

/// See its actions.
pub struct Hot;

impl App for Hot {
    const NAME: &'static str = "tests:Hot";

    fn init(_: &Ctx) -> Result<Self> {
        Ok(Hot)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "echo" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(bytes))
            }
            "add" => {
                let (a, b): (i64, i64) = args.parse()?;
                Ok(Reply::from(a + b))
            }
            "dialog" => dialog(ctx),
            "allocations" => Ok(Reply::from(allocator::count())),
            // Asks for a file that does not exist: seen by strace.
            "mark" => {
                let (path,): (&str,) = args.parse()?;
                mark(path);
                Ok(Reply::from(()))
            }
            "noise" => {
                noise();
                Ok(Reply::from(()))
            }
            other => Err(Error::no_action(other)),
        }
    }
}

/// Sends back what it gets: numbers, bytes, and for the name of one of the other actions what that does.
fn dialog(ctx: &Ctx) -> Result<Reply> {
    let (mut sink, inbox) = ctx.started(())?.split();
    for item in &inbox {
        let item = item?;
        match item.value()? {
            ValueRef::Bytes(bytes) => sink.send(bytes)?,
            ValueRef::Int(number) => sink.send(number)?,
            _ => match item.parse::<(&str, &str)>()? {
                ("mark", path) => sink.send(mark(path))?,
                ("noise", _) => sink.send(noise())?,
                _ => sink.send(allocator::count())?,
            },
        }
    }
    Ok(Reply::end())
}

/// A system call that names `path`. Allocates nothing.
pub fn mark(path: &str) {
    let _ = std::fs::metadata(path);
}

/// An allocation and a system call.
pub fn noise() {
    drop(black_box(Box::new(7)));
    black_box(std::os::unix::process::parent_id());
}
