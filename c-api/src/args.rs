//! The arguments of a call, being put together.

use crate::client::stk_client;
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Poison, free, guard_exclusive, shared};
use crate::lease::{self, stk_lease};
use crate::status::*;
use crate::text::{slice, stk_str};
use crate::tree::Tree;
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr;
use stokehold::{EncodeArgs, EncodeKwargs, Encoder, WireError};

/// The arguments of one call, put in one after another. Text and bytes are copied when they are put in; a lease is
/// lent. Given to stk_execute, which consumes it; else yours to free.
///
/// Each function on it returns a status, and the first that failed is remembered: stk_execute refuses the arguments
/// with it, so that you may put in all of them and look at one status.
#[derive(Default)]
pub struct stk_args {
    positional: Tree,
    /// Those that have names, if any.
    named: Option<Box<Names>>,
    /// Whether the next value, or the one that is being put together, has a name.
    naming: bool,
    first_fault: Option<Box<(stk_status, String)>>,
    poison: Poison,
}

#[derive(Default)]
struct Names {
    /// One dict, begun with the first name and ended when the arguments are sent.
    tree: Tree,
    seen: BTreeSet<Box<str>>,
}

impl Handle for stk_args {
    const NAME: &'static str = "args";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_args {
    /// Ends the arguments; says whether they can be sent.
    pub(crate) fn seal(&mut self) -> Checked<()> {
        if let Some(fault) = &self.first_fault {
            return Err(Fault::Here(fault.0, format!("the arguments: {}", fault.1).into()));
        }
        if self.naming || self.positional.depth() != 0 {
            let why =
                "the arguments: the last name has no value, or a list or a dict was begun and not ended";
            return Err(Fault::invalid(why));
        }
        match &mut self.named {
            Some(named) => named.tree.end(),
            None => Ok(()),
        }
    }

    pub(crate) fn parts(&self) -> (Positional<'_>, Named<'_>) {
        (Positional(&self.positional), Named(self.named.as_deref().map(|named| &named.tree)))
    }

    fn put(&mut self, put: impl FnOnce(&mut Tree) -> Checked<()>) -> Checked<()> {
        let (true, Some(named)) = (self.naming, &mut self.named) else { return put(&mut self.positional) };
        put(&mut named.tree)?;
        self.naming = named.tree.depth() > 1 || named.tree.awaits_value();
        Ok(())
    }

    fn key(&mut self, key: &str) -> Checked<()> {
        if !self.naming && self.positional.depth() > 0 {
            return self.positional.key(key);
        }
        if self.named.is_none() {
            let mut named = Box::<Names>::default();
            named.tree.begin_dict()?;
            self.named = Some(named);
        }
        let Some(named) = &mut self.named else { return Ok(()) };
        named.tree.key(key)?;
        // Within a dict that is being named, it is that dict's key.
        if named.tree.depth() == 1 {
            self.naming = true;
            if !named.seen.insert(key.into()) {
                return Err(Fault::invalid(format!("two arguments have the name {key:?}")));
            }
        }
        Ok(())
    }
}

/// The positional arguments as the crate takes them.
pub(crate) struct Positional<'a>(&'a Tree);

impl EncodeArgs for Positional<'_> {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.list(self.0.roots())?;
        self.0.encode_all(e)
    }
}

/// The named arguments as the crate takes them.
pub(crate) struct Named<'a>(Option<&'a Tree>);

impl EncodeKwargs for Named<'_> {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        match self.0 {
            Some(tree) => tree.encode_all(e),
            None => e.dict(0),
        }
    }
}

/// Arguments for one call of this client, none so far. Never NULL; with NULL for `client` they are refused by
/// stk_execute. (They are put together in memory of the process's own at present; leases must be this client's.)
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
    // SAFETY: the caller's promise.
    unsafe { free(args) }
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
    unsafe { put(args, |args| args.put(Tree::none)) }
}

/// Puts in a truth value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_bool(args: *mut stk_args, value: bool) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(|tree| tree.bool(value))) }
}

/// Puts in an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_i64(args: *mut stk_args, value: i64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(|tree| tree.i64(value))) }
}

/// Puts in a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_f64(args: *mut stk_args, value: f64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(|tree| tree.f64(value))) }
}

/// Puts in a copy of text. STK_INVALID if it is not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_push_str(args: *mut stk_args, text: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        put(args, |args| {
            let text = text.read("text")?;
            args.put(|tree| tree.str(text))
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
            args.put(|tree| tree.bytes(bytes))
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
            args.put(|tree| tree.lease(lease))
        })
    }
}

/// Begins a list: what is put in until stk_args_end is in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_begin_list(args: *mut stk_args) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(Tree::begin_list)) }
}

/// Begins a dict: pairs of stk_args_key and a value, until stk_args_end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_begin_dict(args: *mut stk_args) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(Tree::begin_dict)) }
}

/// Ends the innermost list or dict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_args_end(args: *mut stk_args) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { put(args, |args| args.put(Tree::end)) }
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
