//! What the arbiter tells of itself to whoever asks: a dict for people and their tools.
//!
//! It is put together when somebody asks, from what is known anyhow. Only the history is kept for it.

use super::core::Arbiter;
use super::totals::Totals;
use crate::conn::Message;
use crate::pool::{Life, PoolState, SlotIndex};
use crate::ring::State;
use crate::shm::{Death, LaneState, SlotState};
use crate::sys::{clock, process};
use crate::wire::{Kind, Value};
use std::collections::VecDeque;
use std::iter::Sum;

/// What has happened, as far as it is of use to somebody who looks later.
#[derive(Debug)]
pub struct History {
    born_ns: u64,
    pub(super) totals: Totals,
    /// Why a worker did not become ready, the last time that one did not.
    boot: Option<(u64, String)>,
    deaths: VecDeque<(u64, SlotIndex, Death)>,
}

/// Deaths that are told of.
const MAX_DEATHS: usize = 10;
/// Clients that are told of one by one. All are counted.
const MAX_CLIENTS: usize = 64;
/// Longest reason of a boot that failed, characters.
const LONGEST_REASON: usize = 400;

impl History {
    /// Begins now.
    pub fn new() -> History {
        History {
            born_ns: clock::monotonic_ns(),
            totals: Totals::default(),
            boot: None,
            deaths: VecDeque::new(),
        }
    }

    /// A worker did not become ready.
    pub fn boot_failed(&mut self, why: &str) {
        let why = why.chars().take(LONGEST_REASON).collect();
        self.boot = Some((clock::monotonic_ns(), why));
    }

    /// A worker died.
    pub fn died(&mut self, slot: SlotIndex, death: Death) {
        self.totals.died += 1;
        if self.deaths.len() == MAX_DEATHS {
            self.deaths.pop_front();
        }
        self.deaths.push_back((clock::monotonic_ns(), slot, death));
    }
}

/// How many calls are where.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    queued: i64,
    running: i64,
    /// Ended, and not fetched yet, or held by their caller.
    ended: i64,
}

impl Sum for Calls {
    fn sum<I: Iterator<Item = Calls>>(all: I) -> Calls {
        all.fold(Calls::default(), |sum, on| Calls {
            queued: sum.queued + on.queued,
            running: sum.running + on.running,
            ended: sum.ended + on.ended,
        })
    }
}

impl Arbiter<'_> {
    /// The answer to STATUS.
    pub(super) fn answer_status(&self, id: u64) -> Message {
        let now = clock::monotonic_ns();
        let settings = &self.settings;
        let (regions, bytes) = self.regions.totals();
        let calls: Calls = (0..self.lanes.len()).map(|lane| self.calls_on(lane)).sum();
        let boot = self.history.boot.as_ref();
        let boot = boot.map(|(at, why)| dict([("ago_ms", ms(now, *at)), ("why", why.clone().into())]));
        let path = self.door.as_ref().map(|door| door.endpoint.path().display().to_string());
        let result = dict([
            ("stokehold", env!("CARGO_PKG_VERSION").into()),
            ("pid", process::pid().as_raw().into()),
            ("path", path.map_or(Value::None, Value::from)),
            ("state", state_name(self.policy.state()).into()),
            ("up_ms", ms(now, self.history.born_ns)),
            ("apps", list(settings.apps.iter().map(|name| name.clone().into()))),
            ("threads", whole(settings.threads)),
            ("timeout_ms", Value::Int((settings.timeout_ns / 1_000_000) as i64)),
            ("workers_wanted", whole(settings.policy.workers)),
            ("workers_ready", whole(self.policy.ready_workers())),
            ("workers", list(self.tell_workers(now))),
            ("calls", dict_of(calls)),
            ("totals", self.tell_totals()),
            ("clients_connected", whole(self.clients.values().filter(|c| c.process.is_some()).count())),
            ("clients_silent", whole(self.clients.values().filter(|c| c.process.is_none()).count())),
            ("clients", list(self.tell_clients())),
            ("lanes", self.tell_lanes()),
            ("regions", dict([("count", whole(regions)), ("bytes", Value::Int(bytes as i64))])),
            ("boot_failure", boot.unwrap_or_default()),
            ("deaths", list(self.tell_deaths(now))),
        ]);
        Message::new(Kind::Response).with("result", result).answering(id)
    }

    /// Every life, by slot, and the slots that have none.
    fn tell_workers(&self, now: u64) -> impl Iterator<Item = Value> {
        let running = self.running_by_life();
        let lives = self.workers.iter().map(|(life, worker)| {
            let at = running.iter().filter(|with| *with == life).count();
            let told = dict([
                ("slot", whole(worker.slot.index())),
                ("life", life.get().into()),
                ("pid", worker.pid.as_raw().into()),
                ("state", slot_state_name(worker.state).into()),
                ("since_ms", ms(now, worker.since_ns)),
                ("running", whole(at)),
            ]);
            (worker.slot.index(), told)
        });
        let empty = self.policy.slots().iter().enumerate().filter(|(_, slot)| slot.life().is_none());
        let empty = empty.map(|(at, slot)| {
            let told = dict([
                ("slot", whole(at)),
                ("state", "empty".into()),
                ("next_start_ms", Value::Int((slot.vacant_until().saturating_sub(now) / 1_000_000) as i64)),
            ]);
            (at, told)
        });
        let mut all: Vec<(usize, Value)> = lives.chain(empty).collect();
        all.sort_by_key(|(slot, _)| *slot);
        all.into_iter().map(|(_, told)| told)
    }

    fn tell_clients(&self) -> impl Iterator<Item = Value> {
        let known = self.clients.iter().filter(|(_, client)| client.process.is_some());
        known.take(MAX_CLIENTS).map(|(number, client)| {
            let calls: Calls = client.lanes.iter().map(|lane| self.calls_on(*lane)).sum();
            let state = if client.stream.is_some() { "connected" } else { "connection lost" };
            dict([
                ("client", Value::Int((*number).into())),
                ("pid", client.pid.map_or(Value::None, Value::from)),
                ("state", state.into()),
                ("calls", dict_of(calls)),
            ])
        })
    }

    fn tell_lanes(&self) -> Value {
        let (mut open, mut suspect, mut closing) = (0, 0, 0);
        for index in 0..self.lanes.len() {
            match self.registry.lane(index) {
                LaneState::Open(_) => open += 1,
                LaneState::Suspect(_) => suspect += 1,
                LaneState::Closing(_) => closing += 1,
                LaneState::Free => {}
            }
        }
        dict([("open", whole(open)), ("suspect", whole(suspect)), ("closing", whole(closing))])
    }

    /// The last ones, latest first.
    fn tell_deaths(&self, now: u64) -> impl Iterator<Item = Value> {
        self.history.deaths.iter().rev().map(move |(at, slot, death)| {
            dict([
                ("ago_ms", ms(now, *at)),
                ("slot", whole(slot.index())),
                ("life", death.life.get().into()),
                ("pid", Value::Int(death.pid.into())),
                ("cause", death.cause.to_string().into()),
            ])
        })
    }

    fn calls_on(&self, lane: usize) -> Calls {
        let mut calls = Calls::default();
        let lines = self.lanes[lane].as_ref().map(|lane| lane.control.lines());
        for word in lines.into_iter().flatten().filter_map(|line| line.look().ok()) {
            match word.state() {
                State::Idle => {}
                State::Queued => calls.queued += 1,
                State::Running | State::Abandoned => calls.running += 1,
                State::Done | State::Lost | State::Acked => calls.ended += 1,
            }
        }
        calls
    }

    /// The life of each call that is with a worker.
    fn running_by_life(&self) -> Vec<Life> {
        let words = self.lanes.iter().flatten().flat_map(|lane| lane.control.lines());
        let words = words.filter_map(|line| line.look().ok());
        let with_workers = words.filter(|w| matches!(w.state(), State::Running | State::Abandoned));
        with_workers.filter_map(|word| word.life()).filter_map(|life| Life::new(life.get())).collect()
    }

    /// Keeps a death for those who ask later.
    pub(super) fn remember_death(&mut self, life: Life, death: Death) {
        if let Some(worker) = self.workers.get(&life) {
            self.history.died(worker.slot, death);
        }
    }
}

fn state_name(state: PoolState) -> &'static str {
    match state {
        PoolState::Starting => "starting",
        PoolState::Running => "running",
        PoolState::Degraded => "degraded",
        PoolState::ShuttingDown => "shutting down",
        PoolState::Closed => "closed",
        PoolState::NoWorkers => "no workers",
    }
}

fn slot_state_name(state: SlotState) -> &'static str {
    match state {
        SlotState::Empty => "empty",
        SlotState::Booting => "booting",
        SlotState::Ready => "ready",
        SlotState::Cordoned => "leaving",
        SlotState::Dying => "dying",
    }
}

fn dict<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Dict(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn dict_of(calls: Calls) -> Value {
    dict([
        ("queued", Value::Int(calls.queued)),
        ("running", Value::Int(calls.running)),
        ("ended", Value::Int(calls.ended)),
    ])
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    Value::List(items.collect())
}

fn whole(n: usize) -> Value {
    Value::Int(n as i64)
}

fn ms(now: u64, since: u64) -> Value {
    Value::Int((now.saturating_sub(since) / 1_000_000) as i64)
}
