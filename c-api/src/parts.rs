//! The parts of a call, as each function that sends one takes them.

use crate::args::{self, stk_args};
use crate::client::stk_client;
use crate::error::stk_error;
use crate::execute::stk_options;
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, guard_handle, not_in_log_callback};
use crate::init::read_sized;
use crate::status::stk_status;
use crate::text::stk_str;
use stokehold::{Call, Draft};

/// Runs the body of a function that sends a call: `send` checks where its outputs go, and sends it.
#[inline(always)] // as `Parts::read`
pub(crate) unsafe fn with_call(
    client: *const stk_client,
    app: stk_str,
    action: stk_str,
    args: *mut stk_args,
    options: *const stk_options,
    error: *mut *mut stk_error,
    send: impl for<'c> FnOnce(Call<'c, &'c Draft, Option<&'c Draft>>) -> Checked<()>,
) -> stk_status {
    // SAFETY: the promise of this function's caller: it gives the arguments away.
    let args = unsafe { args::given(args) };
    // SAFETY: the promise of this function's caller for all of them.
    unsafe {
        guard_handle(client, error, |client| {
            not_in_log_callback()?;
            let parts = Parts::read(app, action, args, options)?;
            send(parts.call(client))
        })
    }
}

/// Checked, and owned as far as they are given away.
struct Parts<'a> {
    app: &'a str,
    action: &'a str,
    args: Box<stk_args>,
    options: Option<stk_options>,
}

impl<'a> Parts<'a> {
    /// `args` is what [`args::given`] made of what C gave.
    #[inline(always)] // what it returns is a few words to put together and to take apart
    unsafe fn read(
        app: stk_str,
        action: stk_str,
        args: Checked<Option<Box<stk_args>>>,
        options: *const stk_options,
    ) -> Checked<Parts<'a>> {
        // SAFETY: the promise of this function's caller, for both.
        let (app, action) = unsafe { (app.read("app")?, action.read("action")?) };
        let mut args = args?.unwrap_or_default();
        args.poison().check(stk_args::NAME)?;
        args.seal()?;
        let options = if options.is_null() {
            None
        } else {
            // SAFETY: the promise of this function's caller.
            Some(unsafe { read_options(options) }?)
        };
        Ok(Parts { app, action, args, options })
    }

    /// The call, not sent yet.
    #[inline]
    fn call<'c>(&'c self, client: &'c stk_client) -> Call<'c, &'c Draft, Option<&'c Draft>> {
        let (positional, named) = self.args.parts();
        let mut call = client.call(self.app, self.action).args(positional).kwargs(named);
        if let Some(options) = self.options {
            if options.deadline_ms > 0 {
                call = call.deadline_ms(options.deadline_ms);
            }
            if options.queue_ms > 0 {
                call = call.queue_ms(options.queue_ms);
            }
            if options.item_ms > 0 {
                call = call.item_ms(options.item_ms);
            }
            if options.idempotent == 1 {
                call = call.idempotent();
            }
        }
        call
    }
}

unsafe fn read_options(options: *const stk_options) -> Checked<stk_options> {
    // SAFETY: the promise of this function's caller.
    let options: stk_options = unsafe { read_sized(options, "options") }?;
    if options.idempotent > 1 || options.reserved != 0 {
        return Err(Fault::invalid("`options->idempotent` is not 0 or 1, or `reserved` not 0"));
    }
    Ok(options)
}
