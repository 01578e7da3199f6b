//! One call, sent and waited for.

use crate::args::stk_args;
use crate::client::stk_client;
use crate::error::stk_error;
use crate::parts::with_call;
use crate::result::{Place, stk_result};
use crate::status::*;
use crate::text::stk_str;

/// What a call may be told. Zero it, then set `struct_size` and what you want.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stk_options {
    /// sizeof(stk_options).
    pub struct_size: usize,
    /// The call ends with STK_DEADLINE this many milliseconds from now, whether it waits or runs; 0 for none of its own.
    /// A worker that does not let go of an expired call is replaced. The pool's own limit holds as well.
    pub deadline_ms: u64,
    /// The call ends with STK_DEADLINE, and its app never sees it, if no worker has taken it this many milliseconds from now;
    /// 0 for no such limit.
    pub queue_ms: u64,
    /// For streams: the call ends with STK_DEADLINE if the next item has not come this many milliseconds after it was asked
    /// for; 0 for no such limit.
    pub item_ms: u64,
    /// 1: it may run twice, and is sent once more if its worker dies or shared memory is found damaged.
    pub idempotent: u32,
    /// 0.
    pub reserved: u32,
}

/// Calls an action of an app and waits for the one outcome. Blocks the calling thread, and no other. `args` is consumed,
/// whatever is returned; NULL is no arguments. `options` may be NULL. The result is stored through `result` on STK_OK;
/// with NULL it is let go of.
///
/// Any status from STK_APP to STK_OVERRUN is the call's one outcome. STK_FORKED, STK_INVALID, STK_STALE_LEASE and
/// STK_REENTRANT mean that it was not sent. Others (STK_OS: no memory, no descriptors) may come before or after the app
/// ran: stk_error_started says -1 then. To cancel a call in flight, or to do something else meanwhile: stk_submit,
/// stk_submit_to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_execute(
    client: *const stk_client,
    app: stk_str,
    action: stk_str,
    args: *mut stk_args,
    options: *const stk_options,
    result: *mut *mut stk_result,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        with_call(client, app, action, args, options, error, |call| Place::new(result)?.take(call.execute()))
    }
}
