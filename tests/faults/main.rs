//! What happens to calls when something fails: every call has exactly one outcome, whoever is killed when.
//!
//! One file a behaviour. Each test runs in a process of its own and begins with a `PoolGuard`, which finds whatever is
//! left of its pools at the end. No test expects anything to be fast. `RUST_LOG=debug` shows what arbiters and
//! workers say.

#[path = "../common/app.rs"]
mod app;
#[path = "../common/dialogs.rs"]
mod dialogs;
#[path = "../common/flips.rs"]
mod flips;
#[path = "../common/forgery.rs"]
mod forgery;
#[path = "../common/frames.rs"]
mod frames;
#[path = "../common/guard.rs"]
mod guard;
#[path = "../common/guests.rs"]
mod guests;
#[path = "../common/harness.rs"]
#[allow(dead_code)] // each of its users has its own needs
mod harness;
#[path = "../common/hostile.rs"]
mod hostile;
#[path = "../common/later.rs"]
mod later;
#[path = "../common/lies.rs"]
mod lies;
#[path = "../common/lines.rs"]
mod lines;
#[path = "../common/nested.rs"]
mod nested;
#[path = "../common/obedient.rs"]
mod obedient;
#[path = "../common/proc.rs"]
mod proc;
#[path = "../common/streams.rs"]
mod stream_app;

mod baseline;
mod canaries;
mod cancel;
mod clients;
mod completions;
mod contexts;
mod counterexamples;
mod damage;
mod deadlines;
mod deaths;
mod deferred;
mod door;
mod errors;
mod forged_words;
mod hostile_clients;
mod hostile_guests;
mod hostile_workers;
mod hostile_workers_flip;
mod hostile_workers_lie;
mod hostile_workers_say;
mod hygiene;
mod input;
mod libraries;
mod limits;
mod logging;
mod many;
mod memory;
mod nested_calls;
mod outcomes;
mod program;
mod program_streams;
mod queue;
mod regions;
mod serve;
mod signals;
mod stalls;
mod start;
mod storm;
mod stream_ends;
mod stream_events;
mod stream_faults;
mod streams;
mod stuck;
mod tracer;

use std::time::Duration;

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
        queue::TESTS,
        stuck::TESTS,
        signals::TESTS,
        deferred::TESTS,
        streams::TESTS,
        contexts::TESTS,
        stream_events::TESTS,
        stream_ends::TESTS,
        stream_faults::TESTS,
        hostile_clients::TESTS,
        hostile_guests::TESTS,
        hostile_workers::TESTS,
        hostile_workers_flip::TESTS,
        hostile_workers_lie::TESTS,
        hostile_workers_say::TESTS,
        canaries::TESTS,
        cancel::TESTS,
        errors::TESTS,
        forged_words::TESTS,
        nested_calls::TESTS,
        deaths::TESTS,
        clients::TESTS,
        completions::TESTS,
        stalls::TESTS,
        start::TESTS,
        hygiene::TESTS,
        input::TESTS,
        limits::TESTS,
        regions::TESTS,
        many::TESTS,
        memory::TESTS,
        damage::TESTS,
        counterexamples::TESTS,
        serve::TESTS,
        door::TESTS,
        program::TESTS,
        program_streams::TESTS,
        libraries::TESTS,
        storm::TESTS,
    ];
    // What is asked to be done more often takes longer.
    harness::run_together_within(Duration::from_secs(60 + start::starts()), &all.concat());
}
