//! The numbers by which C programs tell outcomes apart.

use std::ffi::c_char;

/// What every function that can fail returns. The numbers never change meaning; more may come, so treat one that you
/// do not know as a failure. 1 to 99: how a call ended. 100 to 199: starting and joining a pool. 200 to 299: values.
/// 300 to 399: the system. 400 and up: this interface.
pub type stk_status = u32;

/// Name and text of each.
macro_rules! statuses {
    ($($name:ident $text:literal;)*) => {
        fn name_of(status: stk_status) -> Option<(&'static str, &'static str)> {
            Some(match status {
                $($name => (concat!(stringify!($name), "\0"), concat!($text, "\0")),)*
                _ => return None,
            })
        }
    };
}

// cbindgen reads constants, not what macros make of them.
/// It worked. Outputs are written then, and only then.
pub const STK_OK: stk_status = 0;
/// The app returned an error or panicked; its worker lives on.
pub const STK_APP: stk_status = 1;
/// The worker that had the call died. `stk_error_cause` says why.
pub const STK_WORKER_DIED: stk_status = 2;
/// A limit of the call's time passed. `stk_error_limit` says which.
pub const STK_DEADLINE: stk_status = 3;
/// Somebody cancelled the call. `stk_error_cancelled_by` says who.
pub const STK_CANCELLED: stk_status = 4;
/// A bound was reached: calls in flight, bytes, records. `stk_error_bound` says which.
pub const STK_OVERLOADED: stk_status = 5;
/// Nobody will come to run it: the pool is degraded, or has no workers.
pub const STK_NO_WORKERS: stk_status = 6;
/// The call could not be understood: unknown app or action, wrong arguments, too large.
pub const STK_BAD_REQUEST: stk_status = 7;
/// Shared state was found damaged; the call may or may not have run.
pub const STK_PROTOCOL: stk_status = 8;
/// The supervising process, the arbiter, died.
pub const STK_ARBITER_DIED: stk_status = 9;
/// The pool is being closed, or was.
pub const STK_SHUTTING_DOWN: stk_status = 10;
/// Nobody took anything from a stream for longer than the pool allows; it was ended for that. `stk_error_stalled_ms` says
/// how long.
pub const STK_STALLED: stk_status = 11;
/// A stream that fails where others wait was full. `stk_error_bound` says how much it holds.
pub const STK_OVERRUN: stk_status = 12;
/// Nobody takes what is sent any more: the call has ended, or the direction was finished. Not an outcome of a call.
pub const STK_CLOSED: stk_status = 13;
/// A pool could not be started, or a worker could not boot.
pub const STK_START: stk_status = 100;
/// A peer speaks another version, layout or build.
pub const STK_INCOMPATIBLE: stk_status = 101;
/// The handle was used in a forked copy of the process that made it.
pub const STK_FORKED: stk_status = 102;
/// The process has more than one thread where one is needed.
pub const STK_THREADS: stk_status = 103;
/// The configuration is wrong.
pub const STK_CONFIG: stk_status = 104;
/// A value has another type, or is out of range, for what was asked of it.
pub const STK_VALUE: stk_status = 200;
/// A frame or its body is malformed.
pub const STK_FRAME: stk_status = 201;
/// A system call failed. `stk_error_errno` says how.
pub const STK_OS: stk_status = 300;
/// An argument of the function itself makes no sense: NULL where something must be, a number that means nothing, text
/// that is not UTF-8, a struct of an unknown size.
pub const STK_INVALID: stk_status = 400;
/// The lease was released, was given away, or never was.
pub const STK_STALE_LEASE: stk_status = 401;
/// There is nothing (more) there: the end of a list or a stream, a key that is not in the dict. No error object comes with it.
pub const STK_END: stk_status = 402;
/// This function may not be called from within a log callback.
pub const STK_REENTRANT: stk_status = 403;
/// This library has a bug: it panicked. The handle that was used refuses everything but being freed from now on.
pub const STK_PANIC: stk_status = 404;
/// A call still carries the lease: its bytes must not be written.
pub const STK_LENT: stk_status = 405;
/// The outcome of the call, or the next item, is not there yet. No error object comes with it.
pub const STK_PENDING: stk_status = 406;

statuses! {
    STK_OK "it worked";
    STK_APP "the app returned an error or panicked";
    STK_WORKER_DIED "the worker that had the call died";
    STK_DEADLINE "the deadline passed";
    STK_CANCELLED "the call was cancelled";
    STK_OVERLOADED "a bound was reached";
    STK_NO_WORKERS "nobody will come to run the call";
    STK_BAD_REQUEST "the call could not be understood";
    STK_PROTOCOL "shared state was damaged";
    STK_ARBITER_DIED "the arbiter died";
    STK_SHUTTING_DOWN "the pool is shutting down";
    STK_STALLED "nobody took anything from the stream";
    STK_OVERRUN "the stream was full";
    STK_CLOSED "nobody takes what is sent any more";
    STK_START "the pool or a worker could not start";
    STK_INCOMPATIBLE "the peer is of another version";
    STK_FORKED "the handle belongs to the process that this one was forked from";
    STK_THREADS "the process has more than one thread";
    STK_CONFIG "the configuration is wrong";
    STK_VALUE "the value has another type or is out of range";
    STK_FRAME "the frame is malformed";
    STK_OS "a system call failed";
    STK_INVALID "an argument of the function makes no sense";
    STK_STALE_LEASE "the lease is not held any more";
    STK_END "there is nothing more";
    STK_REENTRANT "not to be called from within a log callback";
    STK_PANIC "the library panicked";
    STK_LENT "a call still carries the lease";
    STK_PENDING "the outcome is not there yet";
}

/// The name of a status, such as "STK_WORKER_DIED". A constant that lives for ever; "unknown status" for a number that
/// is none. May be called from anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn stk_status_name(status: stk_status) -> *const c_char {
    name_of(status).map_or("unknown status\0", |(name, _)| name).as_ptr().cast()
}

/// What a status means, in a few words: for functions that hand out no `stk_error`. A constant that lives for ever. May
/// be called from anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn stk_status_text(status: stk_status) -> *const c_char {
    name_of(status).map_or("unknown status\0", |(_, text)| text).as_ptr().cast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stokehold::Code;

    /// A status of a call is the code of the error that it stands for.
    #[test]
    fn statuses_are_the_codes_of_the_crate() {
        for (status, code) in [
            (STK_APP, Code::App),
            (STK_WORKER_DIED, Code::WorkerDied),
            (STK_DEADLINE, Code::Deadline),
            (STK_CANCELLED, Code::Cancelled),
            (STK_OVERLOADED, Code::Overloaded),
            (STK_NO_WORKERS, Code::NoWorkers),
            (STK_BAD_REQUEST, Code::BadRequest),
            (STK_PROTOCOL, Code::Protocol),
            (STK_ARBITER_DIED, Code::ArbiterDied),
            (STK_SHUTTING_DOWN, Code::ShuttingDown),
            (STK_STALLED, Code::Stalled),
            (STK_OVERRUN, Code::Overrun),
            (STK_CLOSED, Code::Closed),
            (STK_START, Code::Start),
            (STK_INCOMPATIBLE, Code::Incompatible),
            (STK_FORKED, Code::Forked),
            (STK_THREADS, Code::Threads),
            (STK_CONFIG, Code::Config),
            (STK_VALUE, Code::Value),
            (STK_FRAME, Code::Frame),
            (STK_OS, Code::Os),
        ] {
            assert_eq!(status, code as u32);
            let (name, _) = name_of(status).unwrap();
            let words =
                name.trim_start_matches("STK_").trim_end_matches('\0').to_lowercase().replace('_', "");
            assert_eq!(words, format!("{code:?}").to_lowercase());
        }
    }
}
