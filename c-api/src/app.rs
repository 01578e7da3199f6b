//! Apps as tables of C functions, and the call as such a function sees it.

use crate::client::stk_client;
use crate::error::stk_error;
use crate::fault::{Checked, Fault, What};
use crate::guard::{Out, not_in_log_callback, shared};
use crate::inbox;
use crate::init::read_sized;
use crate::lease::{self, Made, stk_lease};
use crate::lent::Lent;
use crate::reply::{Failure, Reply, stk_reply};
use crate::sink;
use crate::status::*;
use crate::stdio;
use crate::text::{c_uintptr, stk_bytes, stk_str};
use crate::value::{self, stk_value};
use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stokehold::{AnyApp, Args, Code, Ctx, Error, ValueRef};

/// Makes the app's instance, in each worker process, once, on its first thread, before it takes calls. It may take
/// long and start threads. `user` is the table's; what is stored through `instance` is what `call` and `close` get in
/// its place. Anything but STK_OK fails the boot of this worker; an error stored through `error` (see stk_error_new),
/// which the library then frees, says why. It must return; see stk_app_call_fn.
pub type stk_app_init_fn = Option<
    unsafe extern "C-unwind" fn(
        user: c_uintptr,
        instance: *mut c_uintptr,
        error: *mut *mut stk_error,
    ) -> stk_status,
>;

/// Runs one action, in a worker process, on one of its app threads, concurrently with itself if the pool has several
/// threads a worker. It may block.
///
/// STK_OK sends what was put into `reply` (nothing is none). Anything else is an error of the call, and the worker lives on:
/// STK_BAD_REQUEST, STK_VALUE and STK_END tell the caller STK_BAD_REQUEST; STK_DEADLINE, STK_CANCELLED, STK_OVERLOADED,
/// STK_STALLED and STK_OVERRUN are what the caller has if that is what a function on `call`, its sink or its inbox said last;
/// all others are STK_APP. stk_reply_fail says why, or stk_reply_error, otherwise what such a function found wrong last is said,
/// if its status is what is returned. `call`, `reply` and what was read from them are valid until it returns. Functions on them
/// belong to this thread; bytes and text that were read may be looked at by others. No function on the call's sink or inbox, nor
/// one on an item of it, may still run on another thread when it returns: join that one first.
///
/// It must return: an exception or pthread_exit that leaves it ends the worker, and the caller is told so
/// (STK_WORKER_DIED, signal 6); longjmp out of it is undefined. App threads have the stack that the soft limit of the
/// process says (ulimit -s), 2 to 64 MiB. A worker has the host's environment, directory, standard output and error and
/// signal mask, and /dev/null for standard input. Processes that it starts belong to it and are killed with it; one that it
/// forks must exec or _exit. A worker ignores SIGPIPE, and so do the programs that it starts, unless they
/// change it. It leaves without exit handlers; what was printed is flushed when it leaves in an orderly way, and lost when
/// it dies.
pub type stk_app_call_fn = Option<
    unsafe extern "C-unwind" fn(user: c_uintptr, call: *const stk_call, reply: *mut stk_reply) -> stk_status,
>;

/// Called once before a worker leaves in an orderly way. One that is killed need not get to it. It must return; see
/// stk_app_call_fn.
pub type stk_app_close_fn = Option<unsafe extern "C-unwind" fn(user: c_uintptr)>;

/// User code that workers run. Zero it, then set `struct_size` and what you want.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stk_app {
    /// sizeof(stk_app), in each element of an array.
    pub struct_size: usize,
    /// The name by which clients call it: zero-terminated UTF-8 of 1 to 255 bytes.
    pub name: *const c_char,
    /// Handed to `init`, and to `call` and `close` where `init` stores nothing else.
    pub user: c_uintptr,
    /// May be NULL.
    pub init: stk_app_init_fn,
    /// Must be there.
    pub call: stk_app_call_fn,
    /// May be NULL.
    pub close: stk_app_close_fn,
}

/// One call, for the function that runs it. Valid until that returns; functions on it belong to the thread that it was
/// given to.
pub struct stk_call(());

/// A table that was read.
#[derive(Clone)]
pub(crate) struct CApp {
    pub(crate) name: String,
    user: c_uintptr,
    init: stk_app_init_fn,
    call: unsafe extern "C-unwind" fn(c_uintptr, *const stk_call, *mut stk_reply) -> stk_status,
    close: stk_app_close_fn,
}

impl CApp {
    /// The tables, which the caller of `stk_init` keeps while it runs.
    pub(crate) unsafe fn read_tables(apps: *const stk_app, n: usize) -> Checked<Vec<CApp>> {
        if n > 0 && apps.is_null() {
            return Err(Fault::invalid(format!("`apps` is NULL with a count of {n}")));
        }
        if n > MAX_APPS {
            return Err(Fault::invalid(format!("{n} apps are more than {MAX_APPS}")));
        }
        let mut read: Vec<CApp> = Vec::new();
        let mut at = apps;
        for i in 0..n {
            // SAFETY: the caller's promise: `n` tables follow each other, each as long as it says.
            let app = unsafe { read_sized(at, "apps") }?;
            // SAFETY: the same promise.
            let one = unsafe { CApp::read(&app) }
                .map_err(|fault| Fault::invalid(format!("app {i}: {}", fault.text())))?;
            if read.iter().any(|other| other.name == one.name) {
                return Err(Fault::invalid(format!("app {i}: the name {:?} is there already", one.name)));
            }
            read.push(one);
            // A program of a later version has longer tables.
            at = at.wrapping_byte_add(app.struct_size);
        }
        Ok(read)
    }

    unsafe fn read(app: &stk_app) -> Checked<CApp> {
        // SAFETY: the caller's promise: a terminated string that lives as long as the call.
        let name: &CStr = unsafe {
            shared(app.name, "name")?;
            CStr::from_ptr(app.name)
        };
        let name = name.to_str().map_err(|e| Fault::invalid(format!("`name` is not UTF-8: {e}")))?;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Fault::invalid(format!("`name` has {} bytes, not 1 to {MAX_NAME}", name.len())));
        }
        let call = app.call.ok_or_else(|| Fault::invalid("`call` is NULL"))?;
        Ok(CApp { name: name.to_owned(), user: app.user, init: app.init, call, close: app.close })
    }

    /// Makes the instance of this worker.
    pub(crate) fn start(&self) -> stokehold::Result<Box<dyn AnyApp>> {
        lease::begin_here();
        let mut app = self.clone();
        if let Some(init) = app.init {
            let mut error = ptr::null_mut();
            // SAFETY: a function of this type, by the promise of stk_init's caller; both outputs outlive the call.
            let status = unsafe { init(app.user, &mut app.user, &mut error) };
            // SAFETY: what is stored there is an error of stk_error_new, by the rule of stk_app_init_fn.
            let said = (!error.is_null()).then(|| *unsafe { Box::from_raw(error) });
            match (status, said) {
                (STK_OK, _) => {}
                (_, Some(said)) => return Err(said.into_app_error()),
                (status, None) => return Err(Error::app(class_of(status), returned("init", status))),
            }
        }
        Ok(Box::new(app))
    }
}

impl AnyApp for CApp {
    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> stokehold::Result<stokehold::Reply> {
        let mut call = Call::new(&self.name, action, &args, ctx);
        let mut reply = Reply::new(call.id());
        // SAFETY: a function of this type, by the promise of stk_init's caller. What it is lent outlives the call; the
        // pointer types are opaque names of these two.
        let status =
            unsafe { (self.call)(self.user, ptr::from_ref(&call).cast(), ptr::from_mut(&mut reply).cast()) };
        let Call { found, sink, inbox, .. } = &mut call;
        let lent = sink.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the app's function has returned.
        let sink = lent.as_mut().map(|lent| unsafe { lent.get_mut() });
        if status == STK_OK {
            return match sink {
                Some(sink) if sink.has_unsent() => {
                    Err(Error::app("Reply", "an item of the stream was put together and not sent"))
                }
                sink => reply.finish(sink.is_some()),
            };
        }
        let found = found.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let of_sink = sink.and_then(sink::Items::take_found);
        let lent = inbox.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as above.
        let of_inbox = lent.as_mut().and_then(|lent| unsafe { lent.get_mut() }.take_found());
        Err(failure(status, action, &mut reply, [found, of_sink, of_inbox]))
    }

    fn close(&self) {
        if let Some(close) = self.close {
            // SAFETY: a function of this type, by the promise of stk_init's caller.
            unsafe { close(self.user) }
        }
        stdio::flush();
    }
}

/// What an app's function says by a status that is not STK_OK, with what it put together and what was found wrong meanwhile.
pub(crate) fn failure(status: stk_status, what: &str, reply: &mut Reply, found: [Option<Fault>; 3]) -> Error {
    let callers_fault = matches!(status, STK_BAD_REQUEST | STK_VALUE | STK_END);
    match reply.take_failure() {
        Some(Failure::Said { class, message }) if callers_fault => {
            return Error::bad_request(format!("{class}: {message}"));
        }
        Some(failure) => return failure.into_error(),
        None => {}
    }
    let found = found.into_iter().flatten().find(|fault| is_said(fault, status));
    let why = match found.map(Fault::what) {
        Some(What::There(error)) if is_an_outcome(error.code()) => return error,
        Some(what) => what.text(),
        None => match reply.take_fault() {
            Some(why) if status >= STK_INVALID => format!("the reply: {why}"),
            _ => returned(what, status),
        },
    };
    match callers_fault {
        true => Error::bad_request(why),
        false => Error::app(class_of(status), why),
    }
}

/// Whether what was found wrong is what the app returned: it may have looked for something that need not be there.
fn is_said(found: &Fault, status: stk_status) -> bool {
    found.status() == status || (status == STK_BAD_REQUEST && found.status() == STK_VALUE)
}

/// What an app may make its call's outcome by returning the status that a function gave it.
fn is_an_outcome(code: Code) -> bool {
    matches!(
        code,
        Code::Deadline
            | Code::BadRequest
            | Code::Overloaded
            | Code::Cancelled
            | Code::Stalled
            | Code::Overrun
    )
}

/// What the header promises; the crate would say so as well, later and as another status.
const MAX_APPS: usize = 256;
const MAX_NAME: usize = 255;

fn returned(what: &str, status: stk_status) -> String {
    format!("{what} returned {} ({status})", class_of(status))
}

pub(crate) fn class_of(status: stk_status) -> String {
    // SAFETY: a constant, terminated string.
    unsafe { CStr::from_ptr(stk_status_name(status)) }.to_string_lossy().into_owned()
}

/// What an `stk_call` really is.
pub(crate) struct Call<'a> {
    app: &'a str,
    action: &'a str,
    args: &'a Args<'a>,
    ctx: &'a Ctx,
    /// Of `ctx`.
    client: stk_client,
    /// What was found wrong last, for an app that returns its status and says no more.
    found: Mutex<Option<Fault>>,
    made: Mutex<Made>,
    sink: Mutex<Option<Lent<sink::Items<'a>>>>,
    inbox: Mutex<Option<Lent<inbox::Items<'a>>>>,
}

impl<'a> Call<'a> {
    fn new(app: &'a str, action: &'a str, args: &'a Args<'a>, ctx: &'a Ctx) -> Call<'a> {
        Call {
            app,
            action,
            args,
            ctx,
            client: stk_client::within(ctx),
            found: Mutex::new(None),
            made: Mutex::new(Made::default()),
            sink: Mutex::new(None),
            inbox: Mutex::new(None),
        }
    }

    /// Which call of this process it is, while it runs: where it lies. The leases that were made for it bear that, and are
    /// gone when it ends.
    pub(crate) fn id(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    pub(crate) fn ctx(&self) -> &'a Ctx {
        self.ctx
    }

    pub(crate) fn sink(&self) -> MutexGuard<'_, Option<Lent<sink::Items<'a>>>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Option<Lent<inbox::Items<'a>>>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a function on a call; remembers what went wrong.
    pub(crate) unsafe fn with(
        call: *const stk_call,
        body: impl for<'c> FnOnce(&Call<'c>) -> Checked<()>,
    ) -> stk_status {
        // SAFETY: the caller's promise: it is the call that it was given, which still runs. The type is its opaque name.
        let call = unsafe { shared(call.cast::<Call<'_>>(), "call") };
        crate::guard::guard(ptr::null_mut(), || {
            let call = call?;
            body(call).map_err(|fault| {
                let status = fault.status();
                *call.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
                Fault::here(status, "")
            })
        })
    }

    /// Takes argument `i` apart. (To return it instead would copy it through several results.)
    #[inline]
    fn arg(&self, i: usize, take: impl FnOnce(ValueRef<'a>) -> Checked<()>) -> Checked<()> {
        match self.args.values().get(i) {
            Ok(Some(value)) => take(value),
            Ok(None) => Err(missing(i, self.args.len())),
            Err(error) => Err(error.into()),
        }
    }
}

/// The name by which the app was called. It lasts as long as the call, and is empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_app(call: *const stk_call) -> stk_str {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    unsafe { shared(call.cast::<Call<'_>>(), "call") }.map_or(stk_str::of(""), |call| stk_str::of(call.app))
}

/// The action that is asked for. It lasts as long as the call, and is empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_action(call: *const stk_call) -> stk_str {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    unsafe { shared(call.cast::<Call<'_>>(), "call") }
        .map_or(stk_str::of(""), |call| stk_str::of(call.action))
}

/// Refuses an action that the app does not have: for the end of a chain of stk_str_eq. Returns STK_BAD_REQUEST, which
/// the app returns in its turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_no_action(call: *const stk_call) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { Call::with(call, |call| Err(Error::no_action(call.action).into())) }
}

/// How many positional arguments there are. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_len(call: *const stk_call) -> usize {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    unsafe { shared(call.cast::<Call<'_>>(), "call") }.map_or(0, |call| call.args.len())
}

/// The positional argument `i`, from 0. It lasts as long as the call. STK_VALUE if it was not given. Walks there: to
/// see many, use stk_call_args.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_arg(call: *const stk_call, i: usize, value: *mut stk_value) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        Call::with(call, |call| {
            let out = Out::new(value, "value")?;
            call.arg(i, |value| {
                out.write(stk_value::of(value));
                Ok(())
            })
        })
    }
}

/// All positional arguments, as a list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_args(call: *const stk_call, list: *mut stk_value) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        Call::with(call, |call| {
            Out::new(list, "list")?.write(stk_value::of(ValueRef::List(call.args.values())));
            Ok(())
        })
    }
}

/// All named arguments, as a dict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_named_args(call: *const stk_call, dict: *mut stk_value) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        Call::with(call, |call| {
            Out::new(dict, "dict")?.write(stk_value::of(ValueRef::Dict(call.args.named_values())));
            Ok(())
        })
    }
}

/// The argument of this name. STK_END if it was not given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_named(
    call: *const stk_call,
    name: stk_str,
    value: *mut stk_value,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        Call::with(call, |call| {
            let (name, value) = (name.read("name")?, Out::new(value, "value")?);
            let found = call.args.named_values().get(name)?;
            let found = found.ok_or_else(|| Fault::here(STK_END, format!("no argument named {name:?}")))?;
            value.write(stk_value::of(found));
            Ok(())
        })
    }
}

#[cold]
fn missing(i: usize, given: usize) -> Fault {
    Fault::here(STK_VALUE, format!("the argument at index {i} is missing, {given} given"))
}

#[cold]
fn wrong(i: usize, fault: &Fault) -> Fault {
    Fault::here(fault.status(), format!("the argument at index {i}: {}", fault.text()))
}

/// Takes argument `i` as one type.
unsafe fn argument<T>(
    call: *const stk_call,
    i: usize,
    out: *mut T,
    take: impl for<'v> FnOnce(ValueRef<'v>) -> Checked<T>,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        Call::with(call, |call| {
            let out = Out::new(out, "out")?;
            call.arg(i, |value| {
                out.write(take(value).map_err(|fault| wrong(i, &fault))?);
                Ok(())
            })
        })
    }
}

/// The positional argument `i`, from 0, which must be a truth value. STK_VALUE if it is something else or was not given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_bool(call: *const stk_call, i: usize, out: *mut bool) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { argument(call, i, out, value::to_bool) }
}

/// The same for an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_i64(call: *const stk_call, i: usize, out: *mut i64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { argument(call, i, out, value::to_i64) }
}

/// The same for a number; an integer becomes one if there is one that is equal to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_f64(call: *const stk_call, i: usize, out: *mut f64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { argument(call, i, out, value::to_f64) }
}

/// The same for text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_str(call: *const stk_call, i: usize, out: *mut stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { argument(call, i, out, value::to_str) }
}

/// The same for bytes. Those of a lease are the caller's memory, not a copy: read, never write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_bytes(call: *const stk_call, i: usize, out: *mut stk_bytes) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { argument(call, i, out, value::to_bytes) }
}

/// Memory of `size` bytes in which a result is built, which the caller will read in place: fill it, then give it to
/// stk_reply_lease. Not cleared; aligned to 64 bytes. What is not given away is released when the call ends.
///
/// STK_BAD_REQUEST past 1 GiB; STK_OVERLOADED past what a worker has for one client, with the results that it holds
/// (1 GiB and 64 MiB), or for all (4.25 GiB); STK_OS when the memory file system is full. An app that returns the
/// former makes it the caller's outcome.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_lease(
    call: *const stk_call,
    size: usize,
    lease: *mut stk_lease,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        Call::with(call, |call| {
            not_in_log_callback()?;
            let out = Out::new(lease, "lease")?;
            let lease = call.ctx.lease(size)?;
            let mut made = call.made.lock().unwrap_or_else(PoisonError::into_inner);
            out.write(made.keep(lease, call.id())?);
            Ok(())
        })
    }
}

/// A client for calls that the app makes of apps of its own pool, itself included, in the call that it is in: for stk_args_new,
/// stk_execute, stk_submit, stk_stream_open and stk_context_open. They run on other app threads, of this worker or another. It
/// belongs to the call, and is gone when the app's function returns; until then any thread may use it. It is not to be freed,
/// and has no leases and no completions (STK_INVALID; those of other clients are STK_BAD_REQUEST). NULL for NULL.
///
///     client = stk_call_client(call);
///     args = stk_args_new(client);
///     stk_args_push_i64(args, n);
///     if (stk_execute(client, STK_STR("sums"), STK_STR("add"), args, NULL, &result, &e)) return stk_reply_error(reply, e);
///
/// What is called belongs to the call as well: it ends with STK_DEADLINE when that one's deadline passes, if it has none that
/// is earlier, and with STK_CANCELLED (STK_BY_PARENT) within 200 ms after that one was cancelled, or ended. Such calls may be
/// nested 8 deep: past that they are STK_BAD_REQUEST, and so are stk_execute and stk_context_open where the calls in which they
/// are made hold all app threads of the pool, so that they could never run.
///
/// An app thread that waits is one less for others. Where all of a pool's wait for calls that are still in the queue, none of
/// these runs before some caller's deadline: have more threads than such calls, a limit (`queue_ms`), or stk_submit and answer
/// later (stk_call_defer).
///
/// The first one of a worker connects it to its pool, for which it asks the arbiter, for at most 30 seconds; STK_OVERLOADED or
/// STK_OS when it cannot. All threads of a worker share that connection: 64 calls in flight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_client(call: *const stk_call) -> *const stk_client {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    unsafe { shared(call.cast::<Call<'_>>(), "call") }.map_or(ptr::null(), |call| ptr::from_ref(&call.client))
}

/// When the caller stops waiting: nanoseconds of CLOCK_MONOTONIC; 0 if it will not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_deadline_ns(call: *const stk_call) -> u64 {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    unsafe { shared(call.cast::<Call<'_>>(), "call") }.map_or(0, |call| call.ctx.deadline_ns().unwrap_or(0))
}

/// STK_OK while somebody waits for the result, STK_DEADLINE after that. For work that can stop half-way: return it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_check_deadline(call: *const stk_call) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { Call::with(call, |call| Ok(call.ctx.check_deadline()?)) }
}

/// Says that the app is at work on the call: the pool's timeout counts from now. A deadline that the caller itself set is
/// its own, and holds. Cheap: no system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_keep_alive(call: *const stk_call) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        Call::with(call, |call| {
            call.ctx.keep_alive();
            Ok(())
        })
    }
}

/// Whether nobody waits for this call any more: it was cancelled, its caller saw its deadline pass, or its client is gone. All
/// three look the same. For work that can stop half-way; one look at a word of memory. An app that goes on regardless costs
/// its worker: see stk_config_set_cancel_grace_ms. True for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_is_cancelled(call: *const stk_call) -> bool {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    unsafe { shared(call.cast::<Call<'_>>(), "call") }.map_or(true, |call| call.ctx.is_cancelled())
}

/// Sleeps until nobody waits for this call any more, but no longer than this; whether that is so. What an app does instead of
/// a plain sleep. Does not sleep for NULL, nor where there is no call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_wait_cancelled(call: *const stk_call, timeout_ms: u64) -> bool {
    let timeout = Duration::from_millis(timeout_ms);
    // SAFETY: as above.
    unsafe { shared(call.cast::<Call<'_>>(), "call") }.map_or(true, |call| call.ctx.wait_cancelled(timeout))
}
