//! What the design takes for granted about the kernel, one test a fact.
//!
//! Each test names a fact that a rule of the crate rests on, such as "seals protect, open modes do not". When one
//! fails on some machine, it is the rule that has to be looked at there, not only the code. Nothing here asserts
//! that something is fast.

#[allow(dead_code)] // each of its users has its own needs
#[path = "../common/harness.rs"]
mod harness;

mod death;
mod memory;
mod processes;
mod raw;
mod signals;
mod sockets;

fn main() {
    processes::if_respawned();
    let all = [memory::TESTS, sockets::TESTS, processes::TESTS, death::TESTS, signals::TESTS];
    harness::run(&all.concat());
}
