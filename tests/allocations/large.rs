//! All allocations from some size on are refused: of what is then asked for, each is an error that says so.

use crate::allocator::{Refuse, with};
use crate::app::Sizes;
use crate::guard::PoolGuard;
use crate::harness::Outcome;
use stokehold::internals::wire::{Draft, WireError};
use stokehold::{App, Client, Code, Error, Kind, Pool, Response, Result};

pub const TESTS: &[crate::harness::Test] =
    &[("f11_what_a_payload_decides_fails_by_name", f11_what_a_payload_decides_fails_by_name)];

/// More than anything that is not a payload.
const LARGE: usize = 64 * 1024;
const PAYLOAD: usize = 1_000_000;

/// F11: sizes that the payload or the peer decides.
fn f11_what_a_payload_decides_fails_by_name() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(Pool::builder().app::<Sizes>().workers(1));
    let client = pool.client().unwrap();
    let bytes = vec![7; PAYLOAD];

    refused(&client, "a result that is read whole", || {
        client.call(Sizes::NAME, "text").args((PAYLOAD,)).execute()
    });
    refused(&client, "an error's text", || client.call(Sizes::NAME, "fail").args((PAYLOAD,)).execute());
    refused(&client, "a list of a stream's items", || {
        client.call(Sizes::NAME, "items").args((500, 1000)).execute()
    });
    refused(&client, "an item of a stream", || {
        let mut stream = client.call(Sizes::NAME, "items").args((1, PAYLOAD)).stream()?;
        stream.next().expect("an item or an error")
    });
    refused(&client, "a submitted call's", || {
        client.call(Sizes::NAME, "text").args((PAYLOAD,)).submit()?.wait()
    });

    // What was read, and is now to be had in another form.
    let lent = call(&client, "bytes", PAYLOAD);
    refused(&client, "bytes", || lent.parse::<Vec<u8>>());
    let text = call(&client, "text", PAYLOAD);
    refused(&client, "a string", || text.parse::<String>());
    let numbers = call(&client, "numbers", 100_000);
    refused(&client, "a list", || numbers.parse::<Vec<i64>>());
    refused(&client, "a value", || numbers.parse::<stokehold::Value>());
    refused(&client, "an owned result", || lent.into_owned());
    drop((text, numbers));

    // What goes there.
    refused(&client, "a draft", || {
        let mut draft = Draft::list();
        draft.bytes(&bytes).map_err(Error::from)
    });
    let mut draft = Draft::list();
    let (put, times) = with(Refuse::Large(LARGE), || draft.put(&bytes[..]));
    assert_eq!((put, times), (Err(WireError::OutOfMemory), 1));

    // Shared memory is no allocation, but the bookkeeping of a region that many blocks share is one.
    refused(&client, "the first region", || client.lease(PAYLOAD));
    drop(client.lease(PAYLOAD).unwrap());
    let no_allocation = |what: &str, run: &dyn Fn() -> Result<i64>| {
        let (len, times) = with(Refuse::Large(LARGE), run);
        assert_eq!((len.unwrap(), times), (PAYLOAD as i64, 0), "{what}");
    };
    no_allocation("a copy into shared memory", &|| {
        client.call(Sizes::NAME, "len").args((&bytes[..],)).execute()?.parse()
    });
    no_allocation("a lease", &|| {
        let lease = client.lease_from(&bytes)?;
        client.call(Sizes::NAME, "len").args((lease,)).execute()?.parse()
    });
    no_allocation("a result that is read where it lies", &|| {
        let lent = client.call(Sizes::NAME, "bytes").args((PAYLOAD,)).execute()?;
        Ok(lent.as_bytes()?.len() as i64)
    });
    Ok(())
}

fn call(client: &Client, action: &str, size: usize) -> Response {
    client.call(Sizes::NAME, action).args((size,)).execute().unwrap()
}

/// That this is an error which says that there is no memory, and that nothing is amiss afterwards.
fn refused<T>(client: &Client, what: &str, run: impl FnOnce() -> Result<T>) {
    let held = client.free_calls();
    let (outcome, times) = with(Refuse::Large(LARGE), run);
    let error = outcome.err().unwrap_or_else(|| panic!("{what}: no error, {times} refused"));
    let is_named = matches!(error.kind(), Kind::Os { call: "malloc", errno: libc::ENOMEM });
    assert!(is_named && error.code() == Code::Os && times > 0, "{what}: {times} refused: {error:?}");
    assert_eq!(error.to_string(), "malloc: Cannot allocate memory (os error 12)");
    crate::guard::until(format!("{what}: its call is free again"), || client.free_calls() >= held);
    let sum = client.call(Sizes::NAME, "add").args((2, 3)).execute().unwrap();
    assert_eq!(sum.parse::<i64>().unwrap(), 5, "{what}");
}
