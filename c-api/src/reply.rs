//! The reply of an app, being put together.

use crate::error::stk_error;
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Poison, guard_exclusive, owned};
use crate::lease::{self, stk_lease};
use crate::status::*;
use crate::text::{slice, stk_str};
use std::ffi::c_void;
use std::ptr;
use stokehold::{Draft, Error, ResultLease, WireError};

/// What an app answers: one value, put together as arguments are, or a lease. Belongs to the function that it was given
/// to, and to its thread. Nothing put in is none; a second value is STK_INVALID. The first function on it that failed
/// is remembered: an app that returns STK_OK all the same has failed with it.
pub struct stk_reply(());

/// What an `stk_reply` really is.
pub(crate) struct Reply {
    value: Draft,
    lease: Option<ResultLease>,
    /// One word while there is none of it, as in most calls.
    rare: Option<Box<Rare>>,
    /// Which call it answers.
    call: usize,
    poison: Poison,
}

/// What one item of a stream is.
pub(crate) enum Item {
    Value(Draft),
    Lease(ResultLease),
}

#[derive(Default)]
struct Rare {
    /// That the answer comes later, as the crate takes it.
    deferred: Option<stokehold::Reply>,
    failed: Option<Failure>,
    first_fault: Option<String>,
}

/// What the app says of its failure.
pub(crate) enum Failure {
    /// In its own words.
    Said { class: String, message: String },
    /// What another function said.
    Passed(Error),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::Said { class, message } => Error::app(class, message),
            Failure::Passed(error) => error,
        }
    }
}

impl Handle for Reply {
    const NAME: &'static str = "reply";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl Reply {
    pub(crate) fn new(call: usize) -> Reply {
        Reply { value: Draft::new(), lease: None, rare: None, call, poison: Poison::default() }
    }

    /// As the crate takes it; nothing put in is none, or where items were sent the end of them.
    #[inline]
    pub(crate) fn finish(&mut self, streamed: bool) -> stokehold::Result<stokehold::Reply> {
        let unusable = |why: String| Err(Error::app("Reply", format!("the reply: {why}")));
        if let Some(failure) = self.take_failure() {
            return Err(failure.into_error());
        }
        if let Some(why) = self.take_fault() {
            return unusable(why);
        }
        if let Err(fault) = self.poison.check(Reply::NAME) {
            return unusable(fault.text());
        }
        if self.value.depth() != 0 {
            return unusable("a list or a dict was begun and not ended".to_owned());
        }
        if let Some(later) = self.rare.as_mut().and_then(|rare| rare.deferred.take()) {
            return Ok(later);
        }
        match self.lease.take() {
            Some(lease) => Ok(lease.into()),
            None if streamed && self.value.is_empty() => Ok(stokehold::Reply::end()),
            None => Ok(stokehold::Reply::new(&self.value)),
        }
    }

    /// What was put in, as an item of a stream; nothing is in it then, whatever is returned.
    pub(crate) fn take_item(&mut self) -> Checked<Item> {
        let whole = std::mem::replace(self, Reply::new(self.call));
        whole.poison.check(Reply::NAME)?;
        if let Some(rare) = whole.rare {
            return Err(match rare.first_fault {
                Some(why) => Fault::invalid(format!("the item: {why}")),
                None => Fault::invalid("an item of a stream cannot fail or be deferred"),
            });
        }
        if whole.value.depth() != 0 {
            return Err(Fault::invalid("the item: a list or a dict was begun and not ended"));
        }
        Ok(match whole.lease {
            Some(lease) => Item::Lease(lease),
            None => Item::Value(whole.value),
        })
    }

    /// Whether nothing was done to it.
    pub(crate) fn is_untouched(&self) -> bool {
        self.value.is_empty() && self.lease.is_none() && self.rare.is_none()
    }

    /// What the app says of its failure.
    #[inline]
    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        self.rare.as_mut()?.failed.take()
    }

    /// Why the first function on it that failed did so.
    #[inline]
    pub(crate) fn take_fault(&mut self) -> Option<String> {
        self.rare.as_mut()?.first_fault.take()
    }

    #[inline]
    fn put(&mut self, put: impl FnOnce(&mut Draft) -> Result<(), WireError>) -> Checked<()> {
        if self.is_whole() {
            return Err(Fault::invalid("a reply is one value, and it has one: begin a list for more"));
        }
        put(&mut self.value).map_err(Fault::refused)
    }

    /// Remembers the failure, with the status that says so.
    fn fail(&mut self, failure: Failure) -> Checked<()> {
        self.rare.get_or_insert_default().failed = Some(failure);
        Err(Fault::here(STK_APP, ""))
    }

    /// Answers later, in place of a value.
    pub(crate) fn defer(&mut self, later: impl FnOnce() -> Checked<stokehold::Reply>) -> Checked<()> {
        if !self.value.is_empty() || self.is_whole() {
            return Err(Fault::invalid("a reply is one value, and it has one: it cannot be deferred"));
        }
        self.rare.get_or_insert_default().deferred = Some(later()?);
        Ok(())
    }

    /// Whether it has its one value.
    #[inline]
    fn is_whole(&self) -> bool {
        let is_deferred = || self.rare.as_ref().is_some_and(|rare| rare.deferred.is_some());
        self.value.depth() == 0 && (!self.value.is_empty() || self.lease.is_some() || is_deferred())
    }
}

/// Does something to the reply, and remembers the first failure.
unsafe fn put(reply: *mut stk_reply, body: impl FnOnce(&mut Reply) -> Checked<()>) -> stk_status {
    // SAFETY: the caller's promise: it is the reply that it was given, whose call still runs. The type is its opaque
    // name.
    unsafe {
        guard_exclusive(reply.cast::<Reply>(), ptr::null_mut(), |reply| {
            body(reply).inspect_err(|fault| {
                reply.rare.get_or_insert_default().first_fault.get_or_insert_with(|| fault.text());
            })
        })
    }
}

/// Answers with nothing, Python's None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_none(reply: *mut stk_reply) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(reply, |reply| reply.put(Draft::none)) }
}

/// Answers with a truth value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_bool(reply: *mut stk_reply, value: bool) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(reply, |reply| reply.put(|draft| draft.bool(value))) }
}

/// Answers with an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_i64(reply: *mut stk_reply, value: i64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(reply, |reply| reply.put(|draft| draft.int(value))) }
}

/// Answers with a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_f64(reply: *mut stk_reply, value: f64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(reply, |reply| reply.put(|draft| draft.float(value))) }
}

/// Answers with a copy of text. STK_INVALID if it is not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_str(reply: *mut stk_reply, text: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(reply, |reply| {
            let text = text.read("text")?;
            reply.put(|draft| draft.str(text))
        })
    }
}

/// Answers with a copy of `len` bytes. What is large is better built in place: stk_call_lease, stk_reply_lease.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_bytes(
    reply: *mut stk_reply,
    data: *const c_void,
    len: usize,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(reply, |reply| {
            let bytes = slice(data.cast(), len, "data")?;
            reply.put(|draft| draft.bytes(bytes))
        })
    }
}

/// Answers with the first `len` bytes of a lease of this call (`lease.size` for all of them), which is given away: it is
/// stale from then on, and must not be written any more. The caller reads it where it lies. Only the whole answer can be
/// a lease, not a value within a list.
///
/// STK_STALE_LEASE if it is not held; STK_INVALID if it is of another call, or `len` more than it has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_lease(reply: *mut stk_reply, lease: stk_lease, len: usize) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(reply, |reply| {
            if !reply.value.is_empty() || reply.lease.is_some() {
                return Err(Fault::invalid("a reply is one value, and it has one"));
            }
            let mut held = lease::result(lease, reply.call, len)?;
            held.truncate(len);
            reply.lease = Some(held);
            Ok(())
        })
    }
}

/// Begins a list: what is put in until stk_reply_end is in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_begin_list(reply: *mut stk_reply) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(reply, |reply| reply.put(Draft::begin_list)) }
}

/// Begins a dict: pairs of stk_reply_key and a value, until stk_reply_end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_begin_dict(reply: *mut stk_reply) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(reply, |reply| reply.put(Draft::begin_dict)) }
}

/// The key of the next value of a dict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_key(reply: *mut stk_reply, key: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(reply, |reply| {
            let key = key.read("key")?;
            reply.value.key(key).map_err(|error| Fault::refused_key(error, key))
        })
    }
}

/// Ends the innermost list or dict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_end(reply: *mut stk_reply) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(reply, |reply| reply.value.end().map_err(Fault::refused)) }
}

/// Fails the call with a class of the app's choice ("OutOfCoal") and a message; what was put in before is forgotten.
/// Returns STK_APP, which the app returns in its turn (STK_INVALID if a text is not UTF-8); an app that returns
/// STK_BAD_REQUEST instead tells the caller that, with class and message for its text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_fail(
    reply: *mut stk_reply,
    class_name: stk_str,
    message: stk_str,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_exclusive(reply.cast::<Reply>(), ptr::null_mut(), |reply| {
            let (class, message) = (class_name.read("class_name")?, message.read("message")?);
            reply.fail(Failure::Said { class: class.to_owned(), message: message.to_owned() })
        })
    }
}

/// Fails the call with an error that a function gave, that of a call which the app made (stk_call_client) for example: the
/// caller has its class, its message and where it arose, with this app as one that passed it on (stk_error_source,
/// stk_error_relay). The outcome of another call than this one is STK_APP to the caller, with its name for the class
/// ("WorkerDied"). What was put in before is forgotten. `error` is consumed, whatever is returned. Returns STK_APP, which the
/// app returns in its turn (STK_INVALID for NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_reply_error(reply: *mut stk_reply, error: *mut stk_error) -> stk_status {
    // SAFETY: the caller's promise: it gives the error away.
    let error = unsafe { owned(error, "error") };
    // SAFETY: the caller's promise.
    unsafe {
        guard_exclusive(reply.cast::<Reply>(), ptr::null_mut(), |reply| {
            let error = error?.ok_or_else(|| Fault::invalid("`error` is NULL"))?;
            reply.fail(Failure::Passed(error.into_error()))
        })
    }
}
