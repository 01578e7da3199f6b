//! The Rust half of the benchmark `benches/call.c`.

use crate::client::stk_client;
use crate::text::slice;
use std::time::Instant;
use stokehold::{App, Apps, Args, Ctx, Error, Reply, Result};

/// What the benchmark's C app does, in Rust.
struct Echo;

impl App for Echo {
    const NAME: &'static str = "stk_test:Echo";

    fn init(_: &Ctx) -> Result<Self> {
        Ok(Echo)
    }

    fn call(&self, action: &str, args: Args<'_>, _: &Ctx) -> Result<Reply> {
        match action {
            "echo" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(bytes))
            }
            other => Err(Error::no_action(other)),
        }
    }
}

/// Registered beside the program's own apps; a pool has it only if it names it.
pub(crate) fn add_apps(table: &mut Apps) -> Result<()> {
    table.add::<Echo>().map(drop)
}

/// Calls the Rust echo `n` times with these bytes, through the Rust interface; the time of each, nanoseconds, goes to
/// `times`. Returns how many worked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_test_rust_calls(
    client: *const stk_client,
    data: *const u8,
    len: usize,
    times: *mut u64,
    n: usize,
) -> usize {
    // SAFETY: the benchmark's promise: all of them are there.
    let (client, bytes) = unsafe { (&*client, slice(data, len, "data").unwrap_or_default()) };
    let mut good = 0;
    for i in 0..n {
        let begin = Instant::now();
        let response = client.call(Echo::NAME, "echo").args((bytes,)).execute();
        good += usize::from(response.as_ref().is_ok_and(|r| r.as_bytes().is_ok_and(|b| b.len() == len)));
        drop(response);
        // SAFETY: `n` numbers may be written there, by the benchmark's promise.
        unsafe { times.add(i).write(begin.elapsed().as_nanos() as u64) };
    }
    good
}
