//! The parts of a call, as each function that sends one takes them.

use crate::args::stk_args;
use crate::client::stk_client;
use crate::execute::stk_options;
use crate::fault::{Checked, Fault};
use crate::guard::Handle;
use crate::init::read_sized;
use crate::text::stk_str;
use stokehold::{Call, Draft};

/// Checked, and owned as far as they are given away.
pub(crate) struct Parts<'a> {
    app: &'a str,
    action: &'a str,
    args: Box<stk_args>,
    options: Option<stk_options>,
}

impl<'a> Parts<'a> {
    /// `args` is what [`owned`](crate::guard::owned) made of what C gave.
    #[inline]
    pub(crate) unsafe fn read(
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
            let options: stk_options = unsafe { read_sized(options, "options") }?;
            if options.idempotent > 1 || options.reserved != 0 {
                return Err(Fault::invalid("`options->idempotent` is not 0 or 1, or `reserved` not 0"));
            }
            Some(options)
        };
        Ok(Parts { app, action, args, options })
    }

    /// The call, not sent yet.
    #[inline]
    pub(crate) fn call<'c>(&'c self, client: &'c stk_client) -> Call<'c, &'c Draft, Option<&'c Draft>> {
        let (positional, named) = self.args.parts();
        let mut call = client.inner.call(self.app, self.action).args(positional).kwargs(named);
        if let Some(options) = self.options {
            if options.deadline_ms > 0 {
                call = call.deadline_ms(options.deadline_ms);
            }
            if options.idempotent == 1 {
                call = call.idempotent();
            }
        }
        call
    }
}
