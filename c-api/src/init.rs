//! The beginning of a program: its apps and its log callback.

use crate::app::{CApp, stk_app};
use crate::error::stk_error;
use crate::fault::{Checked, Fault};
use crate::guard::{guard, not_in_log_callback, shared};
use crate::log::{filter, install, stk_log_fn};
use crate::status::*;
use crate::text::c_uintptr;
use log::LevelFilter;
use std::sync::{Mutex, MutexGuard, PoisonError};
use stokehold::Apps;

/// What stk_init may be told. Zero it, then set `struct_size` and what you want.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stk_init_options {
    /// sizeof(stk_init_options).
    pub struct_size: usize,
    /// Takes the library's messages; NULL for none.
    pub log: stk_log_fn,
    /// Handed to `log` as it is. The same call of stk_init is made in the arbiter and the workers, whose memory is
    /// another: it means there what it means to the program that was started again.
    pub log_user: c_uintptr,
    /// The lowest level that is wanted: an STK_LOG_ number.
    pub log_level: u32,
    /// 0.
    pub reserved: u32,
}

/// The names of the apps of this process: a pool that names none has them all.
static NAMES: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn known() -> MutexGuard<'static, Option<Vec<String>>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn names() -> Vec<String> {
    known().clone().unwrap_or_default()
}

/// Registers the program's apps: the first statement of `main`.
///
/// In the host it registers and returns. stk_pool_start runs this same program once more, with the same environment and
/// no arguments; in that copy stk_init becomes the pool's supervising process and DOES NOT RETURN. So what stands before
/// it in `main` runs in both: no threads, no files, no output there.
///
/// The tables are copied; their names must be UTF-8 of 1 to 255 bytes, each once, at most 256. `apps` may be NULL with
/// `n` 0, for a host whose apps are in a helper program. `options` may be NULL. Once a process.
///
/// STK_INVALID for tables and options that make no sense; STK_CONFIG when it is called twice, or the process has a logger of
/// Rust's already. In the copy that becomes the supervising process it does not return to say so: stk_pool_start has its
/// message.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_init(
    apps: *const stk_app,
    n: usize,
    options: *const stk_init_options,
    error: *mut *mut stk_error,
) -> stk_status {
    guard(error, || {
        not_in_log_callback()?;
        let mut trouble = None;
        let mut mine = false;
        // In the copy that becomes the arbiter this does not return: what is wrong is told to the host from within.
        let registered = stokehold::init(|table| {
            // SAFETY: the promise of this function's caller.
            match unsafe { register(apps, n, options, table) } {
                Ok(()) => {
                    mine = true;
                    Ok(table)
                }
                Err(fault) => {
                    let text = fault.text();
                    trouble = Some(fault);
                    Err(stokehold::Error::from(stokehold::Kind::Config(text.into())))
                }
            }
        });
        match (trouble, registered) {
            (Some(fault), _) => Err(fault),
            (None, registered) => Ok(registered.inspect_err(|_| {
                if mine {
                    *known() = None;
                }
            })?),
        }
    })
}

unsafe fn register(
    apps: *const stk_app,
    n: usize,
    options: *const stk_init_options,
    table: &mut Apps,
) -> Checked<()> {
    // SAFETY: the promise of stk_init's caller.
    let (apps, options) = unsafe { (CApp::read_tables(apps, n)?, read_options(options)?) };
    let mut known = known();
    if known.is_some() {
        return Err(Fault::here(STK_CONFIG, "stk_init was called twice"));
    }
    let names = apps.iter().map(|app| app.name.clone()).collect();
    for app in apps {
        let name = app.name.clone();
        table.add_with(&name, move |_| app.start())?;
    }
    #[cfg(feature = "rust-twin")]
    crate::twin::add_apps(table)?;
    if let Some((options, level)) = options {
        install(options.log, options.log_user, level)?;
    }
    *known = Some(names);
    Ok(())
}

/// The same in a process that loaded a library of apps, which is nobody's host.
pub(crate) unsafe fn register_library(
    apps: *const stk_app,
    n: usize,
    options: *const stk_init_options,
    table: &mut Apps,
) -> Checked<()> {
    // SAFETY: the promise of stk_library_enter's caller.
    let (apps, options) = unsafe { (CApp::read_tables(apps, n)?, read_options(options)?) };
    for app in apps {
        let name = app.name.clone();
        table.add_with(&name, move |_| app.start())?;
    }
    if let Some((options, level)) = options {
        install(options.log, options.log_user, level)?;
    }
    Ok(())
}

unsafe fn read_options(options: *const stk_init_options) -> Checked<Option<(stk_init_options, LevelFilter)>> {
    if options.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise: `struct_size` bytes are there.
    let options = unsafe { read_sized(options, "options") }?;
    if options.reserved != 0 {
        return Err(Fault::invalid("`options->reserved` is not 0"));
    }
    Ok(Some((options, filter(options.log_level)?)))
}

/// A struct that begins with its own size: written for this version, or for a later one whose further fields are zero.
pub(crate) unsafe fn read_sized<T: Copy>(from: *const T, what: &'static str) -> Checked<T> {
    // SAFETY: the caller's promise: at least the size is there.
    let size = *unsafe { shared(from.cast::<usize>(), what) }?;
    if size < size_of::<T>() {
        return Err(Fault::invalid(format!(
            "`{what}->struct_size` is {size}; this library's is {}",
            size_of::<T>()
        )));
    }
    if size > LONGEST {
        return Err(Fault::invalid(format!("`{what}->struct_size` is {size}, which no version of it has")));
    }
    // SAFETY: the caller's promise: `size` bytes are there.
    let more = unsafe { crate::text::slice(from.cast(), size, what) }?;
    if more[size_of::<T>()..].iter().any(|&byte| byte != 0) {
        return Err(Fault::invalid(format!(
            "`{what}` has fields set that this version of the library does not know"
        )));
    }
    // SAFETY: as many bytes as a `T` has, as just checked; aligned, as `shared` found its first field, which needs
    // the most. Any bytes are a valid `T`: numbers and optional function pointers.
    Ok(unsafe { *from })
}

/// No struct of this interface will ever have more bytes: a size past this is what was not set.
const LONGEST: usize = 1024;
