//! The library's messages, handed to a callback of the host.

use crate::fault::{Checked, Fault};
use crate::guard::in_log_callback;
use crate::status::STK_CONFIG;
use crate::text::{c_uintptr, stk_str};
use log::{LevelFilter, Log, Metadata, Record};
use std::fmt::Write;
use std::sync::OnceLock;

/// No messages.
pub const STK_LOG_OFF: u32 = 0;
/// What went wrong and needs somebody's attention.
pub const STK_LOG_ERROR: u32 = 1;
/// What went wrong and was dealt with.
pub const STK_LOG_WARN: u32 = 2;
/// What an operator wants to know: workers that start and die, pools that degrade.
pub const STK_LOG_INFO: u32 = 3;
/// For those who look for a fault in their program.
pub const STK_LOG_DEBUG: u32 = 4;
/// For those who look for a fault in this library.
pub const STK_LOG_TRACE: u32 = 5;

/// Takes one message: `level` is an STK_LOG_ number from STK_LOG_ERROR on, `target` the part of the library that
/// speaks (a Rust module), `message` text without a line feed at its end, of several lines where it has a backtrace. Both
/// last until the function returns.
///
/// It is called on whatever thread the message comes from, by several at a time, and in three kinds of processes: in
/// the host, in the arbiter and in the workers (whose program is the same, and has called stk_init as well). The library
/// may hold locks meanwhile. Allowed in here: stk_error_…, stk_status_…, stk_version…, stk_str_…, stk_value_…,
/// stk_iter_next, stk_result_…, stk_args_…, stk_config_… and stk_lease_release. Nothing else is, nor what frees other objects;
/// what could block returns STK_REENTRANT, if it returns a status. It must return: no longjmp, no exception, no pthread_exit.
pub type stk_log_fn =
    Option<unsafe extern "C-unwind" fn(user: c_uintptr, level: u32, target: stk_str, message: stk_str)>;

/// The host's callback as a logger.
struct Callback {
    call: unsafe extern "C-unwind" fn(c_uintptr, u32, stk_str, stk_str),
    user: c_uintptr,
}

static CALLBACK: OnceLock<Callback> = OnceLock::new();

/// What an STK_LOG_ number stands for.
pub(crate) fn filter(level: u32) -> Checked<LevelFilter> {
    Ok(match level {
        STK_LOG_OFF => LevelFilter::Off,
        STK_LOG_ERROR => LevelFilter::Error,
        STK_LOG_WARN => LevelFilter::Warn,
        STK_LOG_INFO => LevelFilter::Info,
        STK_LOG_DEBUG => LevelFilter::Debug,
        STK_LOG_TRACE => LevelFilter::Trace,
        other => return Err(Fault::invalid(format!("`log_level` is {other}, which is no STK_LOG_ number"))),
    })
}

/// Installs the callback, once a process.
pub(crate) fn install(call: stk_log_fn, user: c_uintptr, level: LevelFilter) -> Checked<()> {
    let Some(call) = call else { return Ok(()) };
    let callback = CALLBACK.get_or_init(|| Callback { call, user });
    if log::set_logger(callback).is_err() && !std::ptr::addr_eq(log::logger(), callback) {
        return Err(Fault::here(STK_CONFIG, "this process has a logger already"));
    }
    log::set_max_level(level);
    Ok(())
}

impl Log for Callback {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // `log::max_level` has decided about the level. What the crates that it uses say is of no use to a host.
        metadata.target().starts_with("stokehold")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut message = String::new();
        let _ = write!(message, "{}", record.args());
        in_log_callback(|| {
            // SAFETY: a function of this type, by the promise of stk_init's caller; the texts outlive the call.
            unsafe {
                (self.call)(
                    self.user,
                    record.level() as u32,
                    stk_str::of(record.target()),
                    stk_str::of(&message),
                )
            }
        });
    }

    fn flush(&self) {}
}
