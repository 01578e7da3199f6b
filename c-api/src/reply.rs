//! The reply of an app, being put together.

use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Poison, guard_exclusive};
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
    /// That the answer comes later, as the crate takes it.
    deferred: Option<Box<stokehold::Reply>>,
    /// What the app says of its failure.
    pub(crate) failed: Option<(String, String)>,
    pub(crate) first_fault: Option<String>,
    /// Which call it answers.
    call: usize,
    poison: Poison,
}

impl Handle for Reply {
    const NAME: &'static str = "reply";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl Reply {
    pub(crate) fn new(call: usize) -> Reply {
        Reply {
            value: Draft::new(),
            lease: None,
            deferred: None,
            failed: None,
            first_fault: None,
            call,
            poison: Poison::default(),
        }
    }

    /// As the crate takes it.
    pub(crate) fn finish(&mut self) -> stokehold::Result<stokehold::Reply> {
        if let Some((class, message)) = self.failed.take() {
            return Err(Error::app(class, message));
        }
        let poisoned = self.poison.check(Reply::NAME).err().map(|fault| fault.text());
        let fault = self.first_fault.take().or(poisoned).or_else(|| {
            (self.value.depth() != 0).then(|| "a list or a dict was begun and not ended".to_owned())
        });
        if let (None, Some(later)) = (&fault, self.deferred.take()) {
            return Ok(*later);
        }
        match (fault, self.lease.take()) {
            (Some(why), _) => Err(Error::app("Reply", format!("the reply: {why}"))),
            (None, Some(lease)) => Ok(lease.into()),
            (None, None) => Ok(stokehold::Reply::new(&self.value)),
        }
    }

    #[inline]
    fn put(&mut self, put: impl FnOnce(&mut Draft) -> Result<(), WireError>) -> Checked<()> {
        if self.is_whole() {
            return Err(Fault::invalid("a reply is one value, and it has one: begin a list for more"));
        }
        put(&mut self.value).map_err(Fault::refused)
    }

    /// Answers later, in place of a value.
    pub(crate) fn defer(&mut self, later: impl FnOnce() -> Checked<stokehold::Reply>) -> Checked<()> {
        if !self.value.is_empty() || self.is_whole() {
            return Err(Fault::invalid("a reply is one value, and it has one: it cannot be deferred"));
        }
        self.deferred = Some(Box::new(later()?));
        Ok(())
    }

    /// Whether it has its one value.
    #[inline]
    fn is_whole(&self) -> bool {
        self.value.depth() == 0 && (!self.value.is_empty() || self.lease.is_some() || self.deferred.is_some())
    }
}

/// Does something to the reply, and remembers the first failure.
unsafe fn put(reply: *mut stk_reply, body: impl FnOnce(&mut Reply) -> Checked<()>) -> stk_status {
    // SAFETY: the caller's promise: it is the reply that it was given, whose call still runs. The type is its opaque
    // name.
    unsafe {
        guard_exclusive(reply.cast::<Reply>(), ptr::null_mut(), |reply| {
            body(reply).inspect_err(|fault| {
                reply.first_fault.get_or_insert_with(|| fault.text());
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
            reply.failed = Some((class.to_owned(), message.to_owned()));
            Err(Fault::here(STK_APP, ""))
        })
    }
}
