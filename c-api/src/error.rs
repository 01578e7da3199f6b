//! The error object.

use crate::app::class_of;
use crate::fault::{Fault, What};
use crate::guard::{free, shared};
use crate::status::*;
use crate::text::stk_str;
use std::ffi::{CString, c_char};
use std::ptr;
use stokehold::{Bound, CancelledBy, Cause, Kill, Kind, Limit, Source};

/// Why something did not happen: what a function stores through its last parameter, if you give one. Yours to free.
///
/// It belongs to no thread and to no pool: it can be read after everything else was freed.
pub struct stk_error {
    status: stk_status,
    message: CString,
    class: CString,
    traceback: CString,
    started: Option<bool>,
    pid: u32,
    errno: i32,
    cause: (u32, i32),
    bound: (u32, u64),
    limit: u32,
    cancelled_by: u32,
    stalled_ms: u64,
    source: Option<Origin>,
    relayed: Vec<Origin>,
    /// What it was made of, if the crate said it.
    made_of: Option<stokehold::Error>,
}

/// A worker that an error is from.
struct Origin {
    app: CString,
    pid: u32,
    life: u16,
}

/// Not known, or not a matter of a worker's death.
pub const STK_CAUSE_UNKNOWN: u32 = 0;
/// It ended by itself; the detail is its exit status.
pub const STK_CAUSE_EXIT: u32 = 1;
/// A signal ended it; the detail is its number.
pub const STK_CAUSE_SIGNAL: u32 = 2;
/// The kernel's out-of-memory killer.
pub const STK_CAUSE_OOM: u32 = 3;
/// It did not respond and was killed.
pub const STK_CAUSE_HUNG: u32 = 4;
/// It was replaced on purpose.
pub const STK_CAUSE_RECYCLED: u32 = 5;
/// It wrote what no correct worker writes.
pub const STK_CAUSE_CORRUPT: u32 = 6;
/// It never became ready.
pub const STK_CAUSE_BOOT_FAILED: u32 = 7;
/// The pool killed it because this call's deadline passed and it did not let go.
pub const STK_CAUSE_DEADLINE: u32 = 8;
/// The same, over another call of this worker.
pub const STK_CAUSE_OTHERS_DEADLINE: u32 = 9;
/// The pool killed it because it was closed.
pub const STK_CAUSE_SHUTDOWN: u32 = 10;

/// Not known, or not a matter of a bound.
pub const STK_BOUND_UNKNOWN: u32 = 0;
/// Calls in flight of one client.
pub const STK_BOUND_CALLS: u32 = 1;
/// Bytes of payload.
pub const STK_BOUND_BYTES: u32 = 2;
/// Results of one worker that callers have not freed.
pub const STK_BOUND_RESULTS: u32 = 3;
/// Clients of a pool.
pub const STK_BOUND_CLIENTS: u32 = 4;
/// Regions of shared memory of a pool.
pub const STK_BOUND_REGIONS: u32 = 5;
/// Calls that one worker has deferred.
pub const STK_BOUND_DEFERRED: u32 = 6;
/// Bytes of one stream.
pub const STK_BOUND_STREAM: u32 = 7;

/// Not known, or not a matter of time.
pub const STK_LIMIT_UNKNOWN: u32 = 0;
/// That of the whole call, or the pool's.
pub const STK_LIMIT_CALL: u32 = 1;
/// That of the queue: until then some worker had to begin with the call.
pub const STK_LIMIT_QUEUE: u32 = 2;
/// That of one item: until then the next one of the stream had to come.
pub const STK_LIMIT_ITEM: u32 = 3;

/// Not known, or nobody.
pub const STK_BY_UNKNOWN: u32 = 0;
/// The holder of the call.
pub const STK_BY_CALLER: u32 = 1;
/// Another thread, through a handle to the call.
pub const STK_BY_HANDLE: u32 = 2;
/// Nobody wants it any more: the client whose call it was left, or its process died. Apps are told so.
pub const STK_BY_DISCONNECTED: u32 = 3;
/// The call in which an app made this one was cancelled, or has ended.
pub const STK_BY_PARENT: u32 = 4;

impl stk_error {
    pub(crate) fn new(fault: Fault) -> stk_error {
        match fault.what() {
            What::Here(status, why) => stk_error::plain(status, "", &why),
            What::There(error) => {
                let made = stk_error::of(&error);
                stk_error { made_of: Some(error), ..made }
            }
        }
    }

    fn plain(status: stk_status, class: &str, message: &str) -> stk_error {
        stk_error {
            status,
            message: c_string(message),
            class: c_string(class),
            traceback: CString::default(),
            started: None,
            pid: 0,
            errno: 0,
            cause: (STK_CAUSE_UNKNOWN, 0),
            bound: (STK_BOUND_UNKNOWN, 0),
            limit: STK_LIMIT_UNKNOWN,
            cancelled_by: STK_BY_UNKNOWN,
            stalled_ms: 0,
            source: None,
            relayed: Vec::new(),
            made_of: None,
        }
    }

    fn of(error: &stokehold::Error) -> stk_error {
        let plain = stk_error {
            started: error.started(),
            ..stk_error::plain(error.code() as u32, "", &error.to_string())
        };
        match error.kind() {
            Kind::App(said) => stk_error {
                class: c_string(&said.class),
                traceback: c_string(&said.traceback),
                source: said.source.as_ref().map(Origin::of),
                relayed: said.relayed.iter().map(Origin::of).collect(),
                ..plain
            },
            Kind::WorkerDied { pid, cause, .. } => {
                stk_error { pid: pid.unwrap_or(0), cause: number_of(*cause), ..plain }
            }
            Kind::Overloaded { bound, limit } => stk_error { bound: (bound_of(*bound), *limit), ..plain },
            Kind::Deadline { limit, .. } => stk_error { limit: limit_of(*limit), ..plain },
            Kind::Cancelled { by, .. } => stk_error { cancelled_by: canceller_of(*by), ..plain },
            Kind::Stalled { after } => {
                stk_error { stalled_ms: after.as_millis().try_into().unwrap_or(u64::MAX), ..plain }
            }
            Kind::Overrun { limit } => stk_error { bound: (STK_BOUND_STREAM, *limit), ..plain },
            Kind::Os { errno, .. } => stk_error { errno: *errno, ..plain },
            _ => plain,
        }
    }

    pub(crate) fn status(&self) -> stk_status {
        self.status
    }

    pub(crate) fn text(&self) -> String {
        self.message.to_string_lossy().into_owned()
    }

    /// As the crate passes it on from an app to its caller.
    pub(crate) fn into_app_error(self) -> stokehold::Error {
        stokehold::Error::app(self.class.to_string_lossy(), self.text())
    }

    /// As an app passes it on to its own caller.
    pub(crate) fn into_error(self) -> stokehold::Error {
        match self.made_of {
            Some(error) => error,
            None if self.class.is_empty() => stokehold::Error::app(class_of(self.status), self.text()),
            None => self.into_app_error(),
        }
    }
}

impl Origin {
    fn of(source: &Source) -> Origin {
        Origin { app: c_string(&source.app), pid: source.pid, life: source.life }
    }
}

fn number_of(cause: Cause) -> (u32, i32) {
    match cause {
        Cause::Exit(status) => (STK_CAUSE_EXIT, status),
        Cause::Signal(signal) => (STK_CAUSE_SIGNAL, signal),
        Cause::Oom => (STK_CAUSE_OOM, 0),
        Cause::Hung => (STK_CAUSE_HUNG, 0),
        Cause::Recycled => (STK_CAUSE_RECYCLED, 0),
        Cause::Corrupt => (STK_CAUSE_CORRUPT, 0),
        Cause::BootFailed => (STK_CAUSE_BOOT_FAILED, 0),
        Cause::KilledByUs(Kill::Deadline) => (STK_CAUSE_DEADLINE, 0),
        Cause::KilledByUs(Kill::OthersDeadline) => (STK_CAUSE_OTHERS_DEADLINE, 0),
        Cause::KilledByUs(Kill::Shutdown) => (STK_CAUSE_SHUTDOWN, 0),
        _ => (STK_CAUSE_UNKNOWN, 0),
    }
}

fn bound_of(bound: Bound) -> u32 {
    match bound {
        Bound::Calls => STK_BOUND_CALLS,
        Bound::Bytes => STK_BOUND_BYTES,
        Bound::Results => STK_BOUND_RESULTS,
        Bound::Clients => STK_BOUND_CLIENTS,
        Bound::Regions => STK_BOUND_REGIONS,
        Bound::Deferred => STK_BOUND_DEFERRED,
        _ => STK_BOUND_UNKNOWN,
    }
}

fn limit_of(limit: Limit) -> u32 {
    match limit {
        Limit::Call => STK_LIMIT_CALL,
        Limit::Queue => STK_LIMIT_QUEUE,
        Limit::Item => STK_LIMIT_ITEM,
        _ => STK_LIMIT_UNKNOWN,
    }
}

fn canceller_of(by: CancelledBy) -> u32 {
    match by {
        CancelledBy::Caller => STK_BY_CALLER,
        CancelledBy::Handle => STK_BY_HANDLE,
        CancelledBy::Disconnected => STK_BY_DISCONNECTED,
        CancelledBy::Parent => STK_BY_PARENT,
        _ => STK_BY_UNKNOWN,
    }
}

/// Text of apps may have zero bytes in it, which would cut it short.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default())
}

/// An error of an app's own, with a class of its choice ("ModelMissing") and a message: for what an app's `init` stores, and
/// for stk_reply_error.
/// NULL if a text is not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_new(class_name: stk_str, message: stk_str) -> *mut stk_error {
    // SAFETY: the caller's promise for both.
    match unsafe { (class_name.read("class_name"), message.read("message")) } {
        (Ok(class), Ok(message)) => Box::into_raw(Box::new(stk_error::plain(STK_APP, class, message))),
        _ => ptr::null_mut(),
    }
}

/// Frees it. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_free(error: *mut stk_error) {
    // SAFETY: the caller's promise.
    unsafe { free(error) }
}

/// What it stands for, or `absent` where there is none.
unsafe fn read<T>(error: *const stk_error, absent: T, field: impl FnOnce(&'static stk_error) -> T) -> T {
    // SAFETY: the caller's promise; the lifetime ends with what the caller makes of it, as the header says.
    match unsafe { shared(error, "error") } {
        Ok(error) => field(error),
        Err(_) => absent,
    }
}

/// The status that the failed function returned. STK_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_status(error: *const stk_error) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(error, STK_OK, |e| e.status) }
}

/// What happened, which value, which limit: for people. Zero-terminated UTF-8, which lasts as long as the error; "" for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_message(error: *const stk_error) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { read(error, c"".as_ptr(), |e| e.message.as_ptr()) }
}

/// The class of an app's error: what the app chose, or "Panic". "" where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_class(error: *const stk_error) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { read(error, c"".as_ptr(), |e| e.class.as_ptr()) }
}

/// The backtrace of an app's error, many lines. "" where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_traceback(error: *const stk_error) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { read(error, c"".as_ptr(), |e| e.traceback.as_ptr()) }
}

/// The app in which an app's error arose. Its worker's process and number (no other worker of its pool has that at the same
/// time) are stored through `pid` and `life`, unless these are NULL. "", 0 and 0 where it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_source(
    error: *const stk_error,
    pid: *mut u32,
    life: *mut u16,
) -> *const c_char {
    // SAFETY: the caller's promise for all of them.
    unsafe { tell(read(error, None, |e| e.source.as_ref()), pid, life) }
}

/// How many workers passed an app's error on, each to its own caller: at most 8 are known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_relay_count(error: *const stk_error) -> usize {
    // SAFETY: the caller's promise.
    unsafe { read(error, 0, |e| e.relayed.len()) }
}

/// The app that passed the error on as number `index`, from 0, counted from the source; the rest is as with
/// stk_error_source.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_relay(
    error: *const stk_error,
    index: usize,
    pid: *mut u32,
    life: *mut u16,
) -> *const c_char {
    // SAFETY: the caller's promise for all of them.
    unsafe { tell(read(error, None, |e| e.relayed.get(index)), pid, life) }
}

/// # Safety
/// `pid` and `life` are the caller's outputs, or NULL.
unsafe fn tell(from: Option<&'static Origin>, pid: *mut u32, life: *mut u16) -> *const c_char {
    if !pid.is_null() && pid.is_aligned() {
        // SAFETY: neither NULL nor misaligned; the caller's promise for its output.
        unsafe { pid.write(from.map_or(0, |from| from.pid)) };
    }
    if !life.is_null() && life.is_aligned() {
        // SAFETY: neither NULL nor misaligned; the caller's promise for its output.
        unsafe { life.write(from.map_or(0, |from| from.life)) };
    }
    from.map_or(c"".as_ptr(), |from| from.app.as_ptr())
}

/// Whether the app had begun with the call: 0 it certainly never saw it (send it again without risk), 1 a worker had
/// taken it (it may have done all of its work, some or none), -1 it cannot be known, or there was nothing to begin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_started(error: *const stk_error) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { read(error, -1, |e| e.started.map_or(-1, i32::from)) }
}

/// The process id of the worker that died; 0 where that is not known or none did.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_worker_pid(error: *const stk_error) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { read(error, 0, |e| e.pid) }
}

/// Why the worker died: an STK_CAUSE_ number. Its exit status or signal is stored through `detail`, unless that is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_cause(error: *const stk_error, detail: *mut i32) -> u32 {
    // SAFETY: the caller's promise.
    let (cause, number) = unsafe { read(error, (STK_CAUSE_UNKNOWN, 0), |e| e.cause) };
    if !detail.is_null() && detail.is_aligned() {
        // SAFETY: neither NULL nor misaligned; the caller's promise for its output.
        unsafe { detail.write(number) };
    }
    cause
}

/// Which bound was reached: an STK_BOUND_ number. How much of it there is is stored through `limit`, unless that is
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_bound(error: *const stk_error, limit: *mut u64) -> u32 {
    // SAFETY: the caller's promise.
    let (bound, number) = unsafe { read(error, (STK_BOUND_UNKNOWN, 0), |e| e.bound) };
    if !limit.is_null() && limit.is_aligned() {
        // SAFETY: neither NULL nor misaligned; the caller's promise for its output.
        unsafe { limit.write(number) };
    }
    bound
}

/// Which limit of time passed: an STK_LIMIT_ number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_limit(error: *const stk_error) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { read(error, STK_LIMIT_UNKNOWN, |e| e.limit) }
}

/// Who cancelled the call: an STK_BY_ number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_cancelled_by(error: *const stk_error) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { read(error, STK_BY_UNKNOWN, |e| e.cancelled_by) }
}

/// For how many milliseconds nobody took anything from the stream that was ended for it; 0 where that is not what
/// happened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_stalled_ms(error: *const stk_error) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { read(error, 0, |e| e.stalled_ms) }
}

/// The `errno` of the system call that failed; 0 where none did.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_errno(error: *const stk_error) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { read(error, 0, |e| e.errno) }
}

/// Writes "stokehold: " and the message to standard error, and returns 1: `return stk_error_print(e);` ends a small
/// `main`. Frees nothing; NULL prints nothing and returns 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_error_print(error: *const stk_error) -> i32 {
    // SAFETY: the caller's promise.
    let text = unsafe { read(error, None, |e| Some(e.text())) };
    if let Some(text) = text {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "stokehold: {text}");
    }
    1
}
