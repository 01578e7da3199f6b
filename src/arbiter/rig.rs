//! An arbiter without a process of its own and without processes under it, for fuzz targets: peers are sockets that the
//! target holds the other ends of, the clock is the target's, and after each step everything that the arbiter knows can be
//! held against everything else.

use super::core::{Arbiter, Turns};
use super::settings::Settings;
use super::start;
use crate::conn::Stream;
use crate::error::Result;
use crate::limits::{MAX_PLACES, MAX_REGIONS};
use crate::pool::PoolState;
use crate::shm::{LaneState, Owner};
use crate::sys::process::{self, Pid};
use crate::sys::signal::Saved;
use crate::worker::{Apps, Boot, Surroundings};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

type Midwife = Box<dyn FnMut(Boot) -> Result<Pid>>;

thread_local! {
    static MIDWIFE: RefCell<Option<Midwife>> = const { RefCell::new(None) };
}

/// In place of a fork.
pub(super) fn birth(boot: Boot) -> Result<Pid> {
    MIDWIFE.with(|midwife| midwife.borrow_mut().as_mut().expect("a rig is there")(boot))
}

/// One arbiter, turn by turn.
pub struct Rig {
    arbiter: Arbiter<'static>,
    turns: Turns,
}

impl Rig {
    /// A pool whose host is at the other end of a socket. `midwife` gives each worker a process, a child of this one that does
    /// nothing, and keeps its sockets.
    pub fn new(
        settings: Settings,
        host: OwnedFd,
        midwife: impl FnMut(Boot) -> Result<Pid> + 'static,
    ) -> Result<Rig> {
        MIDWIFE.with(|place| *place.borrow_mut() = Some(Box::new(midwife)));
        static APPS: OnceLock<Apps> = OnceLock::new();
        let apps = APPS.get_or_init(Apps::default);
        let surroundings = Surroundings {
            arbiter: process::pid(),
            kept: Vec::new(),
            signals: Saved::from_bits(0, 0),
            nofile: 1024,
        };
        let mut arbiter = start::new(settings, apps, surroundings, &[])?;
        arbiter.host = Some(Stream::new(host).wary());
        let turns = arbiter.begin()?;
        Ok(Rig { arbiter, turns })
    }

    /// Somebody came in who has not said anything yet and has until then to do so.
    pub fn admit(&mut self, fd: OwnedFd, until_ns: u64) -> Result<u32> {
        self.arbiter.accept(Stream::new(fd).wary(), None, Some(until_ns))
    }

    /// One turn of the loop, which waits for nothing. `false`: the pool has ended.
    pub fn turn(&mut self) -> Result<bool> {
        self.arbiter.turn(&mut self.turns, Duration::ZERO)
    }

    /// Whether the pool takes calls, or may yet.
    pub fn is_open(&self) -> bool {
        !matches!(self.arbiter.policy.state(), PoolState::ShuttingDown | PoolState::Closed)
    }

    /// How many clients there are, lanes, and regions.
    pub fn counts(&self) -> (usize, usize, usize) {
        let a = &self.arbiter;
        (a.clients.len(), a.lanes.iter().flatten().count(), a.regions.totals().0)
    }

    /// What the arbiter knows agrees with itself and with what it tells everybody.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&self) {
        let a = &self.arbiter;
        let mut held = BTreeSet::new();
        for (number, client) in &a.clients {
            for index in &client.lanes {
                assert!(held.insert(*index), "lane {index} has two clients");
                let lane = a.lanes[*index].as_ref().expect("the lane of a client is there");
                assert_eq!((lane.client, lane.index), (*number, *index));
            }
            assert!(client.process.is_some() || client.lanes.is_empty(), "a lane for one that said nothing");
        }
        let mut serials = BTreeSet::new();
        for (index, lane) in a.lanes.iter().enumerate() {
            let state = a.registry.lane(index);
            let Some(lane) = lane else {
                assert_eq!(state, LaneState::Free, "lane {index} is nobody's");
                continue;
            };
            assert!(serials.insert(lane.serial), "two lanes of one serial number");
            assert_eq!(
                lane.is_open,
                matches!(state, LaneState::Open(_) | LaneState::Suspect(_)),
                "{state:?}"
            );
            assert!(state == LaneState::Free || state.serial() == Some(lane.serial), "{state:?}");
            assert!(!lane.is_open || held.contains(&index), "an open lane without a client");
            assert!(!lane.is_open || lane.requests_id.is_some_and(|id| a.regions.owner_of(id).is_some()));
        }
        let owners: BTreeSet<Option<u32>> =
            serials.iter().map(|serial| lane_of(Owner::of_lane(*serial))).collect();
        let mut regions = 0;
        // The lowest place that is free is taken, so few of them need a look as long as there are few regions.
        let looked_at = if a.regions.totals().0 < 64 { 128 } else { MAX_REGIONS };
        for entry in (0..looked_at as u16).filter_map(|index| a.registry.region(index)) {
            regions += 1;
            assert_eq!(a.regions.owner_of(entry.id), Some(entry.owner), "the table is what is kept");
            match entry.owner {
                Owner::Lane(_) => assert!(owners.contains(&lane_of(entry.owner)), "a region of no lane"),
                Owner::Life(life) => {
                    let lives = a.workers.keys().chain(&a.mourned).any(|known| known.get() == life);
                    assert!(lives, "a region of life {life}, which nobody knows");
                }
            }
        }
        assert_eq!(a.regions.totals().0, regions, "what is kept is in the table");
        let places: BTreeSet<usize> = a.workers.values().map(|worker| worker.place).collect();
        assert_eq!(places.len(), a.workers.len(), "two workers at one place");
        for (life, worker) in &a.workers {
            let (shown, state, pid) = a.registry.slot(worker.place).expect("a worker has its place");
            assert_eq!((shown.get(), state, pid as i32), (life.get(), worker.state, worker.pid.as_raw()));
        }
        let shown = (0..MAX_PLACES).filter(|place| a.registry.slot(*place).is_some()).count();
        assert_eq!(shown, a.workers.len(), "a place without a worker");
        assert_eq!(a.registry.ready() as usize, a.policy.ready_workers());
        assert!(a.policy.ready_workers() <= a.workers.len() && a.workers.len() <= a.settings.places());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for worker in self.arbiter.workers.values() {
            process::kill_and_reap(worker.pid);
        }
        MIDWIFE.with(|place| *place.borrow_mut() = None);
    }
}

fn lane_of(owner: Owner) -> Option<u32> {
    if let Owner::Lane(serial) = owner { Some(serial) } else { None }
}
