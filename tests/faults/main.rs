//! What happens to calls when something fails: every call has exactly one outcome, whoever is killed when.
//!
//! One file a behaviour. Each test runs in a process of its own and begins with a `PoolGuard`, which finds whatever is
//! left of its pools at the end. No test expects anything to be fast. `RUST_LOG=debug` shows what arbiters and
//! workers say.

#[path = "../common/app.rs"]
mod app;
#[path = "../common/guard.rs"]
mod guard;
#[path = "../common/harness.rs"]
#[allow(dead_code)] // each of its users has its own needs
mod harness;
#[path = "../common/later.rs"]
mod later;
#[path = "../common/proc.rs"]
mod proc;

mod baseline;
mod clients;
mod completions;
mod counterexamples;
mod damage;
mod deadlines;
mod deaths;
mod deferred;
mod hygiene;
mod input;
mod libraries;
mod limits;
mod logging;
mod memory;
mod outcomes;
mod program;
mod regions;
mod serve;
mod start;
mod storm;
mod stuck;

fn main() {
    start::without_init();
    let registered = stokehold::init(|apps| {
        logging::init();
        hygiene::open_a_file();
        start::start_a_thread();
        apps.add::<app::Faults>()?.add::<app::Birth>()
    });
    registered.unwrap();
    let all = [
        outcomes::TESTS,
        deadlines::TESTS,
        stuck::TESTS,
        deferred::TESTS,
        deaths::TESTS,
        clients::TESTS,
        completions::TESTS,
        start::TESTS,
        hygiene::TESTS,
        input::TESTS,
        limits::TESTS,
        regions::TESTS,
        memory::TESTS,
        damage::TESTS,
        counterexamples::TESTS,
        serve::TESTS,
        program::TESTS,
        libraries::TESTS,
        storm::TESTS,
    ];
    harness::run(&all.concat());
}
