//! The app whose answers are as large as they are asked for.

use stokehold::{App, Args, Ctx, Error, Reply, Result, Value, ValueRef};

pub struct Sizes;

impl App for Sizes {
    const NAME: &'static str = "allocations:Sizes";

    fn init(_: &Ctx) -> Result<Sizes> {
        Ok(Sizes)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "add" => {
                let (a, b): (i64, i64) = args.parse()?;
                Ok(Reply::from(a + b))
            }
            "len" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(bytes.len() as i64))
            }
            // Lent, in place.
            "bytes" => {
                let (len,): (usize,) = args.parse()?;
                let mut lease = ctx.lease(len)?;
                lease.fill(7);
                Ok(lease.into())
            }
            "text" => {
                let (len,): (usize,) = args.parse()?;
                Ok(Reply::from("x".repeat(len).as_str()))
            }
            "numbers" => {
                let (count,): (i64,) = args.parse()?;
                Ok(Reply::from((0..count).collect::<Value>()))
            }
            "fail" => {
                let (len,): (usize,) = args.parse()?;
                Err(Error::app("Large", "x".repeat(len)))
            }
            "items" => {
                let (count, len): (i64, usize) = args.parse()?;
                Ok(Reply::stream((0..count).map(move |_| vec![7u8; len])))
            }
            "dialog" => {
                let (mut sink, inbox) = ctx.started(())?.split();
                for item in &inbox {
                    if let ValueRef::Int(n) = item?.value()? {
                        sink.send(n + 1)?;
                    }
                }
                Ok(Reply::end())
            }
            other => Err(Error::no_action(other)),
        }
    }
}
