//! Allocations that fail in a host (F11). What of the library's does not fit into memory ends in an error, as long as its size is
//! the payload's or a peer's: all allocations from a size on are refused, and each of these calls says so. And, one after
//! another, as SQLite tests it: the first allocation of an operation fails, the second, and so on until there are no more. Where
//! that ends the process (std's containers, of a size that is known) stands in a list, which is to be exact.

#[path = "../common/guard.rs"]
#[allow(dead_code)] // shared with tests that use all of it
mod guard;
#[path = "../common/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../common/proc.rs"]
#[allow(dead_code)]
mod proc;

mod allocator;
mod app;
mod each;
mod large;
mod symbols;

use std::time::Duration;

#[global_allocator]
static ALLOCATOR: allocator::Refusing = allocator::Refusing;

fn main() {
    let registered = stokehold::init(|apps| apps.add::<app::Sizes>());
    registered.unwrap();
    harness::run_within(Duration::from_secs(300), &[large::TESTS, each::TESTS].concat());
}
