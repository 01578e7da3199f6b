//! Named crash points: at each step of the protocol that has a name, each thing that can happen to a process there. Clients
//! and workers go on around it, and write down what they did; then the law of conservation over that, and what is left.
//!
//!     ci/crash-points.sh                                    all of it
//!     STOKEHOLD_POINTS=client.submit STOKEHOLD_ACTIONS=kill  the points whose names begin so, and one action
//!
//! The names are in `src/crash/points.rs`. They are compiled in with `--cfg crash_points` only; without it this program
//! says that it has nothing to do.

// Compiled in any case, so that who changes what is shared with the storm sees it.
#![cfg_attr(not(crash_points), allow(dead_code, unused_imports))]

#[path = "../storm/app.rs"]
mod app;
#[cfg(crash_points)]
mod cases;
#[path = "../storm/client.rs"]
mod client;
#[path = "../common/guard.rs"]
#[allow(dead_code)] // each of its users has its own needs
mod guard;
#[path = "../common/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../common/journal.rs"]
#[allow(dead_code)]
mod journal;
mod judge;
#[path = "../common/keyed.rs"]
mod keyed;
#[path = "../common/law.rs"]
#[allow(dead_code)]
mod law;
#[cfg(crash_points)]
mod paused;
#[cfg(crash_points)]
mod plan;
#[cfg(crash_points)]
mod pool;
#[path = "../common/proc.rs"]
#[allow(dead_code)]
mod proc;
#[path = "../common/rest.rs"]
mod rest;
#[path = "../common/verdict.rs"]
#[allow(dead_code)]
mod verdict;

#[cfg(not(crash_points))]
fn main() {
    println!("SKIPPED crash_points (built without its cfg: ci/crash-points.sh)");
}

#[cfg(crash_points)]
fn main() {
    let registered = stokehold::init(|apps| {
        // What arbiters and workers say: most of it is what is done to them.
        env_logger::Builder::new().filter_level(log::LevelFilter::Off).parse_default_env().init();
        apps.add::<app::Storm>()
    });
    registered.unwrap();
    harness::run_together_within(
        std::time::Duration::from_secs(300),
        &[&cases::tests()[..], paused::TESTS].concat(),
    );
}
