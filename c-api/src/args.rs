//! The arguments of a call, being put together.

use crate::client::stk_client;
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Poison, free_owned, guard_exclusive, owned, shared};
use crate::lease::{self, stk_lease};
use crate::status::*;
use crate::text::{slice, stk_str};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr;
use stokehold::{Draft, WireError};

/// The arguments of one call, put in one after another. Text and bytes are copied when they are put in; a lease is
/// lent. Given to stk_execute, which consumes it; else yours to free. (A sender's item is put together with the same
/// functions: stk_sender_item.)
///
/// Each function on it returns a status, and the first that failed is remembered: stk_execute refuses the arguments
/// with it, so that you may put in all of them and look at one status.
pub struct stk_args {
    /// One list, ended when the arguments are sent; of an item the item.
    positional: Draft,
    /// Those that have names, if any.
    named: Option<Box<Names>>,
    /// Whether the next value, or the one that is being put together, has a name.
    naming: bool,
    /// The item of a sender, which is one value, and never given away.
    is_item: bool,
    first_fault: Option<Box<(stk_status, String)>>,
    poison: Poison,
}

struct Names {
    /// One dict, ended when the arguments are sent.
    values: Draft,
    seen: BTreeSet<Box<str>>,
}

impl Handle for stk_args {
    const NAME: &'static str = "args";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl Default for stk_args {
    #[inline]
    fn default() -> stk_args {
        stk_args {
            positional: Draft::list(),
            named: None,
            naming: false,
            is_item: false,
            first_fault: None,
            poison: Poison::default(),
        }
    }
}

impl stk_args {
    /// Where a sender's next item is put together.
    pub(crate) fn item() -> stk_args {
        stk_args { positional: Draft::new(), is_item: true, ..stk_args::default() }
    }

    /// The item, if it can be sent.
    pub(crate) fn whole_item(&self) -> Checked<&Draft> {
        self.poison.check("item")?;
        self.check_whole("the item")?;
        Ok(&self.positional)
    }

    /// Ends the arguments, if they can be sent.
    #[inline]
    pub(crate) fn seal(&mut self) -> Checked<()> {
        self.check_whole("the arguments")?;
        self.positional.end().map_err(Fault::refused)?;
        match &mut self.named {
            Some(named) => named.values.end().map_err(Fault::refused),
            None => Ok(()),
        }
    }

    #[inline]
    fn check_whole(&self, what: &str) -> Checked<()> {
        if let Some(fault) = &self.first_fault {
            return Err(Fault::here(fault.0, format!("{what}: {}", fault.1)));
        }
        if self.naming || self.positional.depth() != self.outermost() {
            let why = "the last name has no value, or a list or a dict was begun and not ended";
            return Err(Fault::invalid(format!("{what}: {why}")));
        }
        Ok(())
    }

    /// How deep the values are that are arguments by position.
    #[inline]
    fn outermost(&self) -> usize {
        usize::from(!self.is_item)
    }

    /// As the crate takes them.
    #[inline]
    pub(crate) fn parts(&self) -> (&Draft, Option<&Draft>) {
        (&self.positional, self.named.as_deref().map(|named| &named.values))
    }

    #[inline]
    fn put(&mut self, put: impl FnOnce(&mut Draft) -> Result<(), WireError>) -> Checked<()> {
        match (self.naming, &mut self.named) {
            (true, Some(named)) => {
                put(&mut named.values).map_err(Fault::refused)?;
                self.naming = named.values.depth() > 1 || named.values.awaits_value();
                Ok(())
            }
            _ => put(&mut self.positional).map_err(Fault::refused),
        }
    }

    fn key(&mut self, key: &str) -> Checked<()> {
        let refused = |error| Fault::refused_key(error, key);
        if !self.naming && self.positional.depth() > self.outermost() {
            return self.positional.key(key).map_err(refused);
        }
        if self.is_item {
            return Err(Fault::invalid(format!("an item has no name: {key:?}")));
        }
        let named = self
            .named
            .get_or_insert_with(|| Box::new(Names { values: Draft::dict(), seen: BTreeSet::new() }));
        named.values.key(key).map_err(refused)?;
        // Within a dict that is being named, it is that dict's key.
        if named.values.depth() == 1 {
            self.naming = true;
            if !named.seen.insert(key.into()) {
                return Err(Fault::invalid(format!("two arguments have the name {key:?}")));
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Checked<()> {
        if !self.naming && self.positional.depth() == self.outermost() {
            return Err(Fault::invalid("an end without a list or a dict that is open"));
        }
        self.put(Draft::end)
    }
}

/// Arguments that are given away. A sender's item is not: it stays the sender's.
#[inline]
pub(crate) unsafe fn given(args: *mut stk_args) -> Checked<Option<Box<stk_args>>> {
    // SAFETY: the promise of this function's caller.
    if let Ok(args) = unsafe { shared(args, stk_args::NAME) }
        && args.is_item
    {
        return Err(Fault::invalid("`args` is a sender's item, which is not to be given away or freed"));
    }
    // SAFETY: the same promise: it is not used again.
    unsafe { owned(args, stk_args::NAME) }
}

/// Arguments for one call of this client (in an app: stk_call_client), none so far. Never NULL; with NULL for `client` they are
/// refused by stk_execute. (They are put together in memory of the process's own at present; leases must be this client's.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_new(client: *const stk_client) -> *mut stk_args {
    let mut args = Box::<stk_args>::default();
    // SAFETY: the caller's promise.
    if let Err(fault) = unsafe { shared(client, "client") } {
        args.first_fault = Some(Box::new((fault.status(), fault.text())));
    }
    Box::into_raw(args)
}

/// Frees arguments that were not sent. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_free(args: *mut stk_args) {
    // SAFETY: the caller's promise: it gives them away.
    free_owned(unsafe { given(args) });
}

/// Does something to the arguments, and remembers the first failure.
unsafe fn put(args: *mut stk_args, body: impl FnOnce(&mut stk_args) -> Checked<()>) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_exclusive(args, ptr::null_mut(), |args| {
            body(args).inspect_err(|fault| {
                args.first_fault.get_or_insert_with(|| Box::new((fault.status(), fault.text())));
            })
        })
    }
}

/// Puts in nothing, Python's None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_none(args: *mut stk_args) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(Draft::none)) }
}

/// Puts in a truth value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_bool(args: *mut stk_args, value: bool) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(|draft| draft.bool(value))) }
}

/// Puts in an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_i64(args: *mut stk_args, value: i64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(|draft| draft.int(value))) }
}

/// Puts in a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_f64(args: *mut stk_args, value: f64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(|draft| draft.float(value))) }
}

/// Puts in a copy of text. STK_INVALID if it is not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_str(args: *mut stk_args, text: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(args, |args| {
            let text = text.read("text")?;
            args.put(|draft| draft.str(text))
        })
    }
}

/// Puts in a copy of `len` bytes. What is large is better lent: stk_lease_new, stk_args_push_lease.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_bytes(
    args: *mut stk_args,
    data: *const c_void,
    len: usize,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(args, |args| {
            let bytes = slice(data.cast(), len, "data")?;
            args.put(|draft| draft.bytes(bytes))
        })
    }
}

/// Lends the bytes of a lease: the app has them as bytes, where they lie. The lease is still held, and may be released
/// at once: the arguments keep its memory until their call has ended. From when they are sent nobody may write it.
/// STK_STALE_LEASE if it was released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_lease(args: *mut stk_args, lease: stk_lease) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(args, |args| {
            let lease = lease::argument(lease)?;
            args.put(|draft| draft.put_late(lease))
        })
    }
}

/// Begins a list: what is put in until stk_args_end is in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_begin_list(args: *mut stk_args) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(Draft::begin_list)) }
}

/// Begins a dict: pairs of stk_args_key and a value, until stk_args_end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_begin_dict(args: *mut stk_args) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(Draft::begin_dict)) }
}

/// Ends the innermost list or dict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_end(args: *mut stk_args) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.end()) }
}

/// Within a dict: the key of the next value. Outside: the name of the next value, which is then an argument by name,
/// not by position.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_key(args: *mut stk_args, key: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(args, |args| {
            let key = key.read("key")?;
            args.key(key)
        })
    }
}
