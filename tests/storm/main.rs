//! The storm: clients with calls, streams and contexts, while workers, clients and the arbiter are killed, stopped and
//! squeezed, by a plan that a seed decides. Then the law of conservation, over what everybody wrote down.
//!
//!     cargo test --test storm                              a few seconds
//!     STOKEHOLD_STORM_DEATHS=1000 cargo test --test storm  `ci/storm.sh`
//!     STOKEHOLD_SEED=7 cargo test --test storm             the same plan again
//!     STOKEHOLD_STORM_SEASON=3 …                           and of that this season only

mod app;
mod checker;
mod client;
mod doubts;
mod forged;
#[path = "../common/guard.rs"]
#[allow(dead_code)] // each of its users has its own needs
mod guard;
#[path = "../common/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../common/journal.rs"]
#[allow(dead_code)]
mod journal;
#[path = "../common/keyed.rs"]
mod keyed;
#[path = "../common/law.rs"]
mod law;
#[path = "../common/lines.rs"]
mod lines;
mod pace;
mod plan;
#[path = "../common/proc.rs"]
#[allow(dead_code)]
mod proc;
#[path = "../common/rest.rs"]
mod rest;
mod season;
mod totals;
#[path = "../common/verdict.rs"]
#[allow(dead_code)]
mod verdict;
mod weather;

use checker::Story;
use guard::PoolGuard;
use harness::Outcome;
use law::Findings;
use pace::Pace;
use plan::Season;
use season::Done;
use std::collections::BTreeMap;
use std::time::Duration;

fn main() {
    let registered = stokehold::init(|apps| {
        // What arbiters and workers say: most of it is what is done to them.
        env_logger::Builder::new().filter_level(log::LevelFilter::Off).parse_default_env().init();
        apps.add::<app::Storm>()
    });
    registered.unwrap();
    // So many deaths take their time; no season takes more than a minute.
    let tests = [doubts::TESTS, forged::TESTS, &[("a_storm", a_storm)]].concat();
    harness::run_within(Duration::from_secs(120 + deaths() / 4), &tests);
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Of a storm; a short one when nothing is said.
fn deaths() -> u64 {
    from_env("STOKEHOLD_STORM_DEATHS").unwrap_or(60)
}

/// A few violations of each law: what was broken is to be seen, however often another was.
fn some_of_each(violations: &[String]) -> impl Iterator<Item = &String> {
    let law = |what: &String| what.split(':').next().map(str::to_owned);
    let mut seen = BTreeMap::<_, usize>::new();
    violations.iter().filter(move |what| {
        let count = seen.entry(law(what)).or_default();
        *count += 1;
        *count <= 5
    })
}

/// A season of which there is nothing to complain.
fn judged(name: &str, season: &Season, guard: &mut PoolGuard, done: &mut Done) -> (Findings, Pace) {
    let (records, arbiter, complaints) = season::run(season, guard, done);
    let story = Story::of(&records, arbiter, season.threads * season::WORKERS);
    let found = story.judge();
    if !(found.violations.is_empty() && complaints.is_empty()) {
        println!("season {name}, which ended {:?}: {:?}", season.end, found.outcomes);
        complaints.iter().for_each(|what| println!("{what}"));
        some_of_each(&found.violations).for_each(|what| println!("{what}"));
        panic!("season {name}: {} violations", found.violations.len() + complaints.len());
    }
    (found, Pace::of(&story.told, &story.weather))
}

fn a_storm() -> Outcome {
    let random = || stokehold::internals::sys::process::getrandom_u128().unwrap() as u32;
    let seed = from_env("STOKEHOLD_SEED").unwrap_or_else(|| random().into());
    println!("STOKEHOLD_SEED={seed} STOKEHOLD_STORM_DEATHS={}", deaths());
    let mut guard = PoolGuard::new();
    let (mut done, mut all) = (Done::default(), Findings::default());
    let mut pace = Pace::default();
    let calm = judged("calm", &plan::calm(seed), &mut guard, &mut done).1;
    let plan = plan::plan(seed, deaths());
    let only = from_env("STOKEHOLD_STORM_SEASON");
    for (at, season) in plan.iter().enumerate().filter(|(at, _)| only.is_none_or(|only| only == *at as u64)) {
        let name = format!("{at} of {}", plan.len());
        let (found, times) = judged(&name, season, &mut guard, &mut done);
        all.add(found);
        pace.add(times);
    }
    println!("{} deaths in {} seasons: {:?}", done.deaths, plan.len(), done.strikes);
    println!("nothing was left {:?} after a host's end, at the latest", done.orphaned);
    println!("there was nobody to strike: {:?}", done.nobody);
    println!(
        "{} calls of which {} began, {} were lost with their client; {} items; the longest took {} ms: {:?}",
        all.issued, all.begun, all.lost_with_client, all.items, all.longest_ms, all.outcomes
    );
    println!("calls whose client and worker were spared: {pace}");
    println!("in a season without a strike: {calm}");
    if only.is_some() {
        return Ok(());
    }
    assert!(calm.is_known(), "nothing to compare with");
    assert!(all.outcomes.get("Ok").copied().unwrap_or(0) > all.issued / 2, "hardly anything went through");
    assert_eq!(done.is_armed(deaths()), Ok(()));
    Ok(())
}
