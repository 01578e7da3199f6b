//! What a storm does, all of it decided by its seed before it begins.

use super::keyed::Random;
use std::time::Duration;

/// Who is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    IdleWorker,
    BusyWorker,
    /// In a stream or a context.
    StreamingWorker,
    BootingWorker,
    Grandchild,
    ClientQueued,
    ClientRunning,
    ClientStreaming,
    ClientInContext,
    /// The process that started the pool, and calls it.
    Host,
    Arbiter,
}

impl Role {
    pub const ALL: [Role; 11] = {
        use Role::*;
        [
            IdleWorker,
            BusyWorker,
            StreamingWorker,
            BootingWorker,
            Grandchild,
            ClientQueued,
            ClientRunning,
            ClientStreaming,
            ClientInContext,
            Host,
            Arbiter,
        ]
    };
}

/// With what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Action {
    Kill = 1,
    /// Stopped, and continued a while later.
    Stop,
    Segv,
    /// It exits with status 0 where it next looks, in the middle of what it does.
    Exit,
    /// It may open no descriptor for a while.
    NoFiles,
    /// It can make no memory file longer for a while.
    NoMemory,
    /// It may have little memory for its arguments, from the start.
    Quota,
}

impl Action {
    /// All that a step does; what is little from the start is no step.
    pub const STRIKES: [Action; 6] = {
        use Action::*;
        [Kill, Stop, Segv, Exit, NoFiles, NoMemory]
    };

    pub fn of(raw: u64) -> Option<Action> {
        Action::STRIKES.into_iter().chain([Action::Quota]).find(|action| *action as u64 == raw)
    }

    fn is_squeeze(self) -> bool {
        matches!(self, Action::NoFiles | Action::NoMemory)
    }

    /// Whether a process ends of it.
    pub fn kills(self) -> bool {
        matches!(self, Action::Kill | Action::Segv | Action::Exit)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub after: Duration,
    pub role: Role,
    pub action: Action,
    /// For how long, where it is for a while.
    pub span: Duration,
    /// Which one of those that there are.
    pub pick: u64,
}

/// How a season ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All clients come to rest, and everything is counted.
    Calm,
    /// The arbiter is killed under full load.
    ArbiterKilled(Action),
    /// It is told to close, under full load: once, or a second time so much later.
    Closed(Option<Duration>),
    /// The pool has a host, which ends under full load.
    HostEnded(Action),
}

/// One pool from its start to its end.
#[derive(Debug)]
pub struct Season {
    pub steps: Vec<Step>,
    pub end: End,
    pub seed: u64,
    pub threads: usize,
    /// Somebody may be squeezed.
    pub squeezes: bool,
    /// How long nothing is done at its end.
    pub rest: Duration,
}

impl Season {
    /// Whether its pool is that of a host, and nobody else can come in.
    pub fn has_host(&self) -> bool {
        matches!(self.end, End::HostEnded(_))
    }
}

/// What is done for a while takes no longer.
pub const LONGEST_SPAN: Duration = Duration::from_millis(2_001);
/// Deaths of a season.
const SEASON: u64 = 40;
/// Of one that ends with a host's.
const HOSTED: u64 = 12;

/// One in which nothing is done to anybody, to compare with.
pub fn calm(seed: u64) -> Season {
    let rest = Duration::from_secs(3);
    Season { steps: Vec::new(), end: End::Calm, seed, threads: 2, squeezes: false, rest }
}

/// Seasons with so many deaths in all, the arbiter's among them. There are steps for a quarter more: not everybody is there when
/// its turn has come, and some are struck twice before they are dead.
pub fn plan(seed: u64, deaths: u64) -> Vec<Season> {
    let mut random = Random(seed);
    let (mut seasons, mut left) = (Vec::new(), deaths + deaths / 4);
    // Dealt, not drawn: of eight seasons each way to end is one, so that no storm of some length goes without.
    let mut dealt: Vec<u64> = Vec::new();
    while left > 0 {
        if dealt.is_empty() {
            dealt = (0..8).collect();
        }
        let card = random.below(dealt.len() as u64) as usize;
        let (end, own) = match dealt.swap_remove(card) {
            0 => (End::ArbiterKilled([Action::Kill, Action::Segv][random.below(2) as usize]), 1),
            1 => (End::Closed(None), 0),
            2 => (End::Closed(Some(Duration::from_micros(random.below(100_000)))), 0),
            3 | 4 => {
                (End::HostEnded([Action::Kill, Action::Segv, Action::Exit][random.below(3) as usize]), 1)
            }
            _ => (End::Calm, 0),
        };
        // The last one tells whether all is as it was.
        let (end, own) = if left <= SEASON { (End::Calm, 0) } else { (end, own) };
        let has_host = matches!(end, End::HostEnded(_));
        let mut deaths = left.min(if has_host { HOSTED } else { SEASON }) - own;
        left -= deaths + own;
        let mut steps = Vec::new();
        // Every second season without, so that what a squeeze may explain is demanded there.
        let squeezes = seasons.len() % 2 == 1;
        while deaths > 0 {
            let step = one(&mut random, has_host);
            if step.action.is_squeeze() && !squeezes {
                continue;
            }
            deaths -= u64::from(step.action.kills());
            steps.push(step);
        }
        seasons.push(Season {
            steps,
            end,
            seed: random.below(u64::MAX),
            threads: 1 + random.below(2) as usize,
            squeezes,
            rest: Duration::ZERO,
        });
    }
    seasons
}

fn one(random: &mut Random, has_host: bool) -> Step {
    use {Action::*, Role::*};
    let hosted =
        [BusyWorker, BusyWorker, StreamingWorker, StreamingWorker, BootingWorker, Grandchild, Host, Arbiter];
    let served = [
        IdleWorker,
        BusyWorker,
        BusyWorker,
        StreamingWorker,
        StreamingWorker,
        StreamingWorker,
        BootingWorker,
        Grandchild,
        ClientQueued,
        ClientRunning,
        ClientStreaming,
        ClientInContext,
        Arbiter,
    ];
    let role = if has_host { hosted[random.below(8) as usize] } else { served[random.below(13) as usize] };
    let action = match role {
        Arbiter => [Stop, NoFiles, NoMemory][random.below(3) as usize],
        Grandchild => Kill,
        // With what it ends is the season's.
        Host => [Stop, NoFiles][random.below(2) as usize],
        _ => [Kill, Kill, Kill, Kill, Kill, Segv, Exit, Stop, NoFiles, NoMemory][random.below(10) as usize],
    };
    // Bursts, and pauses in which a pool recovers.
    let after = match random.below(8) {
        0 | 1 => 0,
        2 => random.below(60_000),
        _ => random.below(15_000),
    };
    // Most are over soon; some last as long as anything that anybody waits for.
    let longest = match random.below(8) {
        0 => LONGEST_SPAN.as_micros() as u64 - 1_000,
        _ if role == Arbiter => 50_000,
        _ => 250_000,
    };
    let span = 1_000 + random.below(longest);
    Step {
        after: Duration::from_micros(after),
        role,
        action,
        span: Duration::from_micros(span),
        pick: random.below(1 << 32),
    }
}
