//! The list of points, and what happens at one.

use crate::primitive::{AtomicU64, Ordering};
use nix::sys::signal::{Signal, raise};
use std::sync::OnceLock;
use std::time::Duration;

/// Every point there is, by the room of its step. Those of a client, a worker or the arbiter begin with that; at the others
/// comes whoever takes the step.
pub const NAMES: &[&str] = &[
    // ---- the call: client ----
    "client.submit.recorded",
    "client.submit.published",
    "client.submit.slot",
    "client.submit.appended",
    "client.submit.hinted",
    "client.submit.token",
    "client.outcome.seen",
    "client.outcome.read",
    "client.release.looked",
    "client.release.moved",
    "client.withdraw.looked",
    "client.withdrawn",
    "client.abandon.swapped",
    "client.abandon.recorded",
    "client.acked.taken",
    "client.handle.swapped",
    "client.handle.recorded",
    // ---- the call: worker ----
    "worker.claim.looked",
    "worker.claim.swapped",
    "worker.run.claimed",
    "worker.run.begun",
    "worker.run.answered",
    "worker.run.over",
    "worker.result.written",
    "worker.result.named",
    "worker.complete.placed",
    "worker.complete.done",
    "worker.ack.looked",
    "worker.ack.done",
    "worker.defer.both",
    "worker.defer.moved",
    "worker.defer.published",
    "worker.quiesce.cleared",
    "worker.quiesce.restored",
    "worker.park.announced",
    "worker.park.asleep",
    "worker.park.woken",
    // ---- the call: whoever it is ----
    "cancel.looked",
    "refuse.looked",
    "bell.asleep",
    "bell.woken",
    "bell.taken",
    "doorbell.moved",
    "armed.taken",
    // ---- streams and contexts ----
    "client.stream.found",
    "client.stream.popped",
    "client.stream.ended",
    "client.context.lent",
    "client.armed",
    "worker.stream.created",
    "worker.stream.announced",
    "stream.sent.words",
    "stream.sent.tail",
    "stream.told",
    "stream.closed",
    // ---- memory ----
    "grow.create",
    "grow.created",
    "grow.registered",
    "fetch.mapped",
    "worker.map.fetched",
    "worker.map.kept",
    // ---- a client's coming and going ----
    "client.join.welcomed",
    "client.join.requests",
    "client.join.opened",
    "client.bye",
    "worker.join.asked",
    // ---- a worker's birth and end ----
    "spawn.forked",
    "spawn.settled",
    "spawn.swept",
    "boot.marked",
    "boot.welcomed",
    "boot.made",
    "boot.started",
    "boot.told",
    "worker.stop.told",
    "worker.stop.over",
    // ---- the arbiter ----
    "arbiter.spawn",
    "arbiter.spawn.forked",
    "arbiter.spawn.watched",
    "arbiter.ready",
    "arbiter.marked",
    "arbiter.kill",
    "arbiter.gone",
    "arbiter.repair.caused",
    "arbiter.repair.looked",
    "arbiter.repair.moved",
    "arbiter.repair.done",
    "arbiter.ring",
    "arbiter.reap",
    "arbiter.reaped",
    "arbiter.accept",
    "arbiter.admit",
    "arbiter.welcome",
    "arbiter.open",
    "arbiter.register",
    "arbiter.fetch",
    "arbiter.client.gone",
    "arbiter.reclaim.looked",
    "arbiter.reclaim.moved",
    "arbiter.lane.free",
    "arbiter.tick",
    "arbiter.stop",
    "arbiter.refuse",
    "arbiter.drain",
    "arbiter.exit",
];

/// Where a name is in [`NAMES`].
///
/// # Panics
/// If it is not there; for the macro, at compile time.
pub const fn index(name: &str) -> usize {
    let mut at = 0;
    while at < NAMES.len() {
        if equal(NAMES[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("a crash point that is not in the list")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// What happens to who comes to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// It dawdles for so many milliseconds.
    Sleep(u32),
    /// `exit(0)`, as foreign code may.
    Exit,
    /// A panic.
    Panic,
    /// The system call that would follow fails with this.
    Errno(i32),
}

/// What is planned for one point, and how often it was passed.
#[derive(Debug)]
#[repr(C)]
pub struct Cell {
    /// Action 8, its number 24, passages until then 32; 0 for nothing.
    plan: AtomicU64,
    passed: AtomicU64,
}

impl Cell {
    /// Nothing is planned.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Cell {
        Cell { plan: AtomicU64::new(0), passed: AtomicU64::new(0) }
    }

    /// The `nth` passage from now on, not the 0th, is the one; those after it are none.
    pub fn arm(&self, nth: u32, action: Action) {
        let (kind, number) = match action {
            Action::Kill => (1, 0),
            Action::Stop => (2, 0),
            Action::Sleep(ms) => (3, ms & 0xff_ffff),
            Action::Exit => (4, 0),
            Action::Panic => (5, 0),
            Action::Errno(errno) => (6, errno as u32 & 0xff_ffff),
        };
        self.plan.store(kind << 56 | u64::from(number) << 32 | u64::from(nth), Ordering::SeqCst);
    }

    /// Nothing is planned any more. Whether it had not come to it.
    pub fn disarm(&self) -> bool {
        let plan = self.plan.load(Ordering::SeqCst);
        self.plan.compare_exchange(plan, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() && plan != 0
    }

    /// How often anybody came to it.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// One more passage: what is to happen.
    fn pass(&self) -> Option<Action> {
        self.passed.fetch_add(1, Ordering::SeqCst);
        loop {
            let plan = self.plan.load(Ordering::SeqCst);
            if plan == 0 {
                return None;
            }
            let left = (plan as u32).saturating_sub(1);
            let next = if left == 0 { 0 } else { plan - 1 };
            if self.plan.compare_exchange(plan, next, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                continue;
            }
            let number = (plan >> 32) as u32 & 0xff_ffff;
            return match plan >> 56 {
                _ if left > 0 => None,
                1 => Some(Action::Kill),
                2 => Some(Action::Stop),
                3 => Some(Action::Sleep(number)),
                4 => Some(Action::Exit),
                5 => Some(Action::Panic),
                _ => Some(Action::Errno(number as i32)),
            };
        }
    }
}

/// Hears of what is about to happen, where it happens.
type Witness = fn(usize, Action);

static PLAN: OnceLock<(&[Cell], Witness)> = OnceLock::new();

/// From now on this process, and its copies, go by this plan, which may lie in memory that several share. Before any point is
/// passed.
///
/// # Panics
/// If it is too late for that, or there are not as many cells as names.
pub fn share(cells: &'static [Cell], witness: Witness) {
    assert_eq!(cells.len(), NAMES.len());
    assert!(PLAN.set((cells, witness)).is_ok(), "a crash point was passed already");
}

/// What [`NAMES`]`[at]` does: whatever is planned. An error number is for the caller to return.
pub fn reach(at: usize) -> Option<i32> {
    let (cells, witness) = PLAN.get_or_init(|| (own(), |_, _| {}));
    let action = cells[at].pass()?;
    witness(at, action);
    match action {
        Action::Kill => signal(Signal::SIGKILL),
        Action::Stop => signal(Signal::SIGSTOP),
        Action::Sleep(ms) => std::thread::sleep(Duration::from_millis(ms.into())),
        // What foreign code would do.
        #[expect(clippy::disallowed_methods)]
        Action::Exit => std::process::exit(0),
        Action::Panic => panic!("the crash point {}", NAMES[at]),
        Action::Errno(errno) => return Some(errno),
    }
    None
}

/// To this thread: it is not in its next instruction before the signal has taken effect.
fn signal(signal: Signal) {
    let _ = raise(signal);
}

/// The plan of this process alone, as its environment has it.
fn own() -> &'static [Cell] {
    static CELLS: [Cell; NAMES.len()] = [const { Cell::new() }; NAMES.len()];
    let plan = std::env::var("STOKEHOLD_CRASH_POINTS").unwrap_or_default();
    for one in plan.split(',').filter(|one| !one.is_empty()) {
        let (name, nth, action) =
            parse(one).unwrap_or_else(|| panic!("STOKEHOLD_CRASH_POINTS: {one:?} is no name:nth:action"));
        let at = NAMES.iter().position(|known| *known == name);
        let at = at.unwrap_or_else(|| panic!("STOKEHOLD_CRASH_POINTS: there is no point {name:?}"));
        CELLS[at].arm(nth, action);
    }
    &CELLS
}

fn parse(one: &str) -> Option<(&str, u32, Action)> {
    let mut parts = one.split(':');
    let (name, nth, action) =
        (parts.next()?, parts.next()?.parse().ok().filter(|nth| *nth > 0)?, parts.next()?);
    let (what, number) = action.split_once('=').unwrap_or((action, ""));
    let action = match (what, number) {
        ("kill", "") => Action::Kill,
        ("stop", "") => Action::Stop,
        ("exit0", "") => Action::Exit,
        ("panic", "") => Action::Panic,
        ("sleep", ms) => Action::Sleep(ms.parse().ok()?),
        ("errno", errno) => Action::Errno(errno.parse().ok()?),
        _ => return None,
    };
    parts.next().is_none().then_some((name, nth, action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_passage_is_the_one() {
        let cell = Cell::new();
        assert_eq!(cell.pass(), None);
        for action in [Action::Kill, Action::Sleep(70), Action::Errno(libc::EMFILE)] {
            cell.arm(3, action);
            assert_eq!(
                [cell.pass(), cell.pass(), cell.pass(), cell.pass()],
                [None, None, Some(action), None]
            );
        }
        cell.arm(1, Action::Panic);
        assert!(cell.disarm() && !cell.disarm());
        assert_eq!((cell.pass(), cell.passed()), (None, 14));
    }

    #[test]
    fn a_plan_is_names_numbers_and_actions() {
        assert_eq!(parse("boot.told:2:sleep=5"), Some(("boot.told", 2, Action::Sleep(5))));
        assert_eq!(parse("a:1:errno=24"), Some(("a", 1, Action::Errno(24))));
        for wrong in ["a", "a:1", "a:0:kill", "a:1:kill=2", "a:1:sleep", "a:1:kill:x", "a:x:kill", "a:1:"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len(), "no name twice");
    }
}
