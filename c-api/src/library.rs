//! A shared object of apps: what its one export does.

use crate::app::stk_app;
use crate::init::{self, stk_init_options};

/// What STK_APP_LIBRARY defines stokehold_app_library with; nobody else calls it. The tables and options are those of
/// stk_init, which a library does not call. What is wrong with them is the error of the pool's start, or of `stokehold
/// serve`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_library_enter(
    abi: u32,
    purpose: u32,
    socket: i32,
    apps: *const stk_app,
    n: usize,
    options: *const stk_init_options,
) -> i32 {
    // SAFETY: the loader's promise: -1, or given away.
    let socket = unsafe { stokehold::library::adopt(socket) };
    stokehold::library::enter(abi, purpose, socket, |table| {
        // SAFETY: the caller's promise: the tables are there, and stay.
        match unsafe { init::register_library(apps, n, options, table) } {
            Ok(()) => Ok(table),
            Err(fault) => Err(stokehold::Error::from(stokehold::Kind::Config(fault.text().into()))),
        }
    })
}
