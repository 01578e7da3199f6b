//! A call with items both ways, as its opener makes it.

use crate::args::stk_args;
use crate::client::stk_client;
use crate::error::stk_error;
use crate::execute::stk_options;
use crate::guard::Out;
use crate::parts::with_call;
use crate::sender::stk_sender;
use crate::status::*;
use crate::stream::stk_stream;
use crate::text::stk_str;

/// Opens a context, a call in which items go both ways: sends the call, and waits until its app has started (stk_call_started).
/// Parameters as of stk_execute; limits are those of a stream (stk_stream_open), and hold for this wait, too. It is not sent
/// twice. What the app sends, and how the call ends, comes out of `stream`: begin with stk_stream_started. What is sent to the
/// app goes through `sender`. Both are yours to free.
///
/// An app that loops over what it is sent returns when that has ended: stk_sender_finish before stk_stream_wait. The two ends
/// live together: an error, a cancel or the death of one ends the other. A context is used once. An app that starts none is
/// taken as it is: what it answers comes out of `stream`, and nothing can be sent to it (STK_CLOSED).
///
/// Fails as stk_submit does, and with the call's outcome where that comes before the app has started. Blocks the calling
/// thread, and no other.
#[unsafe(no_mangle)]
#[must_use]
#[allow(clippy::too_many_arguments)] // those of stk_submit, and two ends
pub unsafe extern "C" fn stk_context_open(
    client: *const stk_client,
    app: stk_str,
    action: stk_str,
    args: *mut stk_args,
    options: *const stk_options,
    stream: *mut *mut stk_stream,
    sender: *mut *mut stk_sender,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        with_call(client, app, action, args, options, error, |call| {
            let (stream, sender) = (Out::new(stream, "stream")?, Out::new(sender, "sender")?);
            let mut context = call.context()?;
            let started = context.take_started();
            let unfinished = started.is_some().then(|| context.canceller());
            let (to, from) = context.split();
            stream.write(stk_stream::boxed(from, started));
            sender.write(stk_sender::boxed(to, unfinished));
            Ok(())
        })
    }
}
