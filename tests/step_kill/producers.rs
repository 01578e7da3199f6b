//! A worker is killed after every instruction on the way of a stream that it sends: the announcement, items in the ring and
//! lent ones, the end of the ring, a sleep for want of room, the end; and of a context, where it takes items as well. What
//! each of these is made of, to send one item and to receive one, is short enough to be a path of its own.
//!
//! Who takes the items is the harness, between two steps of the worker, and after its death. It must see the items from the
//! first on without a gap; all that was sent up to the first lent item, if it looked before the death; then the end if the
//! result was published, and else one error.

use crate::Ways;
use crate::app::{APP, answer};
use crate::report::Tally;
use crate::scene::{Outcome, Scene, Wrong, has_begun, in_futex, results_of, state, until, word};
use crate::streamed::{self, GROUP, MARKS, Mark, SMALL, Stepped, is_item, small};
use crate::trace::{Alarm, Arrival, Step, Tracee};
use std::cell::RefCell;
use std::time::{Duration, Instant};
use stokehold::internals::limits::STREAM_RING;
use stokehold::internals::ring::{State, Word};
use stokehold::internals::shm::STREAM_START;
use stokehold::internals::sys::clock;
use stokehold::{Code, Response, Sender, Stream};

/// What the worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It finds the call, and sends everything without a wait.
    All,
    /// It has sent so much that the next items are at the end of the ring, and goes on.
    Wrap,
    /// It has room for two items only, and sleeps until the harness has taken some.
    Full,
    /// It has started a context; it receives items and sends them back.
    Context,
    /// It sends one item, for which there is room.
    Send,
    /// It has started a context, and receives one item, which is there.
    Receive,
}

/// One way of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    pub way: Way,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "worker-stream", way: Way::All },
    Path { name: "worker-stream-wrap", way: Way::Wrap },
    Path { name: "worker-stream-full", way: Way::Full },
    Path { name: "worker-context", way: Way::Context },
    Path { name: "worker-send", way: Way::Send },
    Path { name: "worker-receive", way: Way::Receive },
];

/// The deadline of these calls. The worker goes by single steps once.
const LONG_MS: u64 = 120_000;
/// Items of a stream, and of a context each way.
const ITEMS: i64 = 5;
/// Before the end of the ring: see [`Way::Wrap`].
const FILLING: i64 = 32;
/// Before the one item of [`Way::Send`].
const BEFORE: i64 = 2;

/// The second item behind the filling ones lies on both sides of the ring's end.
const _: () = {
    // Three words, and the body: a dict of one, its key and the bytes.
    const fn words(len: usize) -> u64 {
        3 + (5 + 9 + 5 + len).div_ceil(8) as u64
    }
    let (small, left) = (words(SMALL), STREAM_RING as u64 - STREAM_START % STREAM_RING as u64);
    let filled = FILLING as u64 * words(streamed::FILLING);
    assert!(filled + small < left && left < filled + 2 * small);
};

impl Path {
    /// Whether it goes through a whole stream or context.
    pub fn is_long(&self) -> bool {
        self.way.stepped() == Stepped::All
    }
}

impl Way {
    fn stepped(self) -> Stepped {
        match self {
            Way::Send | Way::Receive => Stepped::One,
            _ => Stepped::All,
        }
    }

    fn is_context(self) -> bool {
        matches!(self, Way::Context | Way::Receive)
    }

    /// Items that it has sent before it is stepped.
    fn filling(self) -> i64 {
        match self {
            Way::Wrap => FILLING,
            Way::Send => BEFORE,
            _ => 0,
        }
    }

    /// All that it sends.
    fn items(self) -> i64 {
        match self {
            Way::Send => BEFORE + 1,
            Way::Receive => 0,
            _ => self.filling() + ITEMS,
        }
    }
}

/// Kills the worker after `at` instructions of the path; without `at` when it is through, and notes the way. `false`: see
/// [`Ways::arrived`].
pub fn round(
    scene: &mut Scene,
    path: &Path,
    at: Option<usize>,
    ways: &mut Ways,
    tally: &mut Tally,
) -> Result<bool, Wrong> {
    // So that the worker has its memory for streams, and the client has it mapped.
    let warm = scene.ids(MARKS);
    let mut before = Taken::new(warm, stream(scene, Way::All, warm)?, None);
    before.take_all();
    if (before.count, before.wrong) != (ITEMS, None) || !before.is_answered(None) {
        return Err(format!("a stream before: {before:?}"));
    }
    drop(before);
    let target = scene.target(1)?;
    let results = results_of(target.pid)?;
    let id = scene.ids(MARKS);
    let seize = || Tracee::seize(target.pid, target.tid).map_err(|e| format!("ptrace: {e}"));
    let (mut tracee, taken) = if path.way.is_context() {
        scene.journal.hold(id);
        let args = (id as i64, path.way.stepped() as i64);
        let call = scene.client.call(APP, "dialog").args(args).deadline_ms(LONG_MS);
        let context = call.context().map_err(|e| format!("context: {e}"))?;
        let tracee = seize()?;
        scene.journal.release();
        let (sender, stream) = context.split();
        let mut taken = Taken::new(id, stream, Some(sender));
        if path.way == Way::Receive {
            taken.go_on();
        }
        (tracee, taken)
    } else {
        (seize()?, Taken::new(id, stream(scene, path.way, id)?, None))
    };
    let taken = RefCell::new(taken);
    if let Way::Wrap | Way::Context | Way::Send | Way::Receive = path.way
        && tracee.run() != Step::Marker
    {
        return Err("the worker did not come to the point in the app".into());
    }
    let alarm = Alarm::set();
    let sleeps = || in_futex(target.pid, target.tid);
    // Parked again: it is killed where it sleeps, and that was the last position.
    let asleep = || {
        let goes_on = state(&scene.control) == Some(State::Running);
        // One that sleeps beside its item would sleep for good.
        if path.is_long() && sleeps() && goes_on {
            taken.borrow_mut().go_on();
        }
        sleeps() && !goes_on
    };
    let arrival = match at {
        None => tracee.walk(&mut ways.path, &asleep, &mut || false),
        Some(at) => tracee.go(&ways.path, at, ways.plain, &asleep),
    };
    drop(alarm);
    let arrival = match arrival {
        Arrival::Asleep if !path.is_long() => return Err("the worker sleeps, and need not".into()),
        // Its end is this, and no sleep.
        Arrival::Marker if !path.is_long() => Arrival::Asleep,
        arrival => arrival,
    };
    if !ways.arrived(arrival, &tracee, at, tally)? {
        return Ok(false);
    }
    tally.pc = tracee.pc();
    let seen = word(&scene.control, 0)?;
    let fate = Fate {
        seen,
        begun: has_begun(&results, 0, seen.generation()),
        ran: scene.journal.runs(id),
        sending: scene.journal.marks(id, Mark::Sending),
        sent: scene.journal.marks(id, Mark::Sent),
        got: scene.journal.marks(id, Mark::Got),
    };
    let is_through = (fate.sent, fate.got) == (path.way.items(), i64::from(path.way == Way::Receive));
    if at.is_none() && !path.is_long() && !is_through {
        return Err(format!("the path's end is not its item's: {fate:?}"));
    }
    tally.saw(seen.state(), fate.begun);
    let mut taken = taken.into_inner();
    // Who never looked before the death may not get at the worker's memory any more.
    let looked = path.way.is_context() || at.is_none_or(|at| at % 2 == 0);
    if looked && let Some(next) = taken.stream.try_next() {
        taken.is_item(next);
    }
    let killed = Instant::now();
    tracee.kill();
    if !looked {
        // Late: after the worker was buried.
        clock::sleep(Duration::from_millis(30));
    }
    taken.take_all();
    tally.took(killed.elapsed());
    taken.outcome.iter().for_each(|outcome| tally.outcome(*outcome));
    let runs = scene.journal.runs(id);
    if !fate.allows(path, &taken, runs, target.life, looked) {
        return Err(format!("{fate:?}; then {runs} runs, {taken:?}"));
    }
    if scene.journal.marks(id, Mark::Wrong) > 0 {
        return Err("the app received an item that was not sent".into());
    }
    taken.is_refused()?;
    drop(taken);
    // One that is Acked is freed by its client's next call.
    let is_free = |state| matches!(state, State::Idle | State::Acked);
    let taken_calls = || {
        let lines = scene.control.lines().iter().map(|line| line.look());
        lines.filter(|word| !word.is_ok_and(|word| is_free(word.state()))).collect::<Vec<_>>()
    };
    until(|| taken_calls().is_empty().then_some(())).ok_or_else(|| {
        format!("the stream is dropped, and its call is not free: {:?}; {fate:?}", taken_calls())
    })?;
    // The pool goes on; a worker is there again, for streams as well.
    let next = scene.id();
    scene.works(next)?;
    if at.is_none() {
        // Only now is there another worker. Memory for the opener's side of contexts stays the client's.
        scene.settle();
    }
    match scene.journal.runs(id) {
        0 | 1 => Ok(true),
        runs => Err(format!("later it had run {runs} times")),
    }
}

fn stream(scene: &Scene, way: Way, id: u64) -> Result<Stream, Wrong> {
    let window: u64 = if way == Way::Full { 2 } else { 1024 };
    let (filling, items) = (way.filling(), way.items() - way.filling());
    let args = (id as i64, filling, items, window, way.stepped() as i64);
    let call = scene.client.call(APP, "stream").args(args);
    call.deadline_ms(LONG_MS).stream().map_err(|e| format!("stream: {e}"))
}

/// What the harness took.
#[derive(Debug)]
struct Taken {
    id: u64,
    stream: Stream,
    /// Of a context, and how many it has sent.
    sender: Option<(Sender, i64)>,
    /// Items, each the one after that before it.
    count: i64,
    /// At which of them that was not so.
    wrong: Option<i64>,
    /// How the call ended: this should be one.
    outcome: Vec<Outcome>,
}

impl Taken {
    fn new(id: u64, stream: Stream, sender: Option<Sender>) -> Taken {
        let sender = sender.map(|sender| (sender, 0));
        Taken { id, stream, sender, count: 0, wrong: None, outcome: Vec::new() }
    }

    /// The worker sleeps: gives it one more item, or takes what there is.
    fn go_on(&mut self) {
        match &mut self.sender {
            Some((sender, sent)) if *sent < ITEMS => {
                let item = small(self.id, *sent);
                *sent += 1;
                if let Err(error) = sender.send(item) {
                    self.outcome.push(Outcome::of(Err(error)));
                }
            }
            Some((sender, _)) => sender.finish(),
            None => {
                while let Some(next) = self.stream.try_next()
                    && self.is_item(next)
                {}
            }
        }
    }

    /// Waits for all that comes, and asks twice more.
    fn take_all(&mut self) {
        let mut ends = 0;
        while ends < 3 {
            let next = self.stream.next().transpose();
            ends += usize::from(!self.is_item(next));
        }
    }

    /// Who is dead is sent nothing more.
    fn is_refused(&mut self) -> Result<(), Wrong> {
        let Some((sender, sent)) = &mut self.sender else { return Ok(()) };
        match sender.send(small(self.id, *sent)).map_err(|error| error.code()) {
            Err(Code::Closed) => Ok(()),
            other => Err(format!("an item that is sent after the call's end: {other:?}")),
        }
    }

    /// Looks at what came, and says whether it was an item.
    fn is_item(&mut self, next: stokehold::Result<Option<Response>>) -> bool {
        match next {
            Ok(Some(item)) => {
                let is_right = item.as_bytes().is_ok_and(|item| is_item(self.id, self.count, item));
                if self.wrong.is_none() && !(is_right && self.outcome.is_empty()) {
                    self.wrong = Some(self.count);
                }
                self.count += 1;
                return true;
            }
            Ok(None) if !self.outcome.is_empty() => {}
            Ok(None) => self.outcome.push(match self.stream.value() {
                Some(value) => value.parse().map_or(Outcome::Other(0), |n| Outcome::Ok(n, value.life())),
                None => Outcome::Other(0),
            }),
            Err(error) => self.outcome.push(Outcome::of(Err(error))),
        }
        false
    }

    /// Whether the call ended once, with its result, by this life if it says which one.
    fn is_answered(&self, life: Option<u16>) -> bool {
        let is_right = |number, by| number == answer(self.id) && life.is_none_or(|life| life == by);
        matches!(self.outcome[..], [Outcome::Ok(number, by)] if is_right(number, by))
    }
}

/// The call at the moment of its worker's death.
#[derive(Debug)]
struct Fate {
    seen: Word,
    /// Whether the worker's begin record named it.
    begun: bool,
    /// How often the app had run.
    ran: u32,
    /// How many items it was about to send, and had sent.
    sending: i64,
    sent: i64,
    /// How many it had received.
    got: i64,
}

impl Fate {
    /// Whether the caller took what such a death leaves it, and the app ran as often as that says.
    fn allows(&self, path: &Path, taken: &Taken, runs: u32, life: u16, looked: bool) -> bool {
        let Fate { seen, begun, ran, sending, sent, got } = *self;
        let items = path.way.items();
        // The ring stays the caller's once it looked. A large or lent item may lie where it has not looked yet.
        let least = match path.way {
            _ if !looked => 0,
            Way::Context | Way::Receive => sent,
            way => sent.min(way.filling() + GROUP - 2),
        };
        if got > taken.sender.as_ref().map_or(0, |(_, given)| *given) {
            return false;
        }
        let is_prefix = taken.wrong.is_none() && (least..=sending).contains(&taken.count);
        match seen.state() {
            // Nobody had it: the replacement takes it.
            State::Queued => {
                ran == 0
                    && runs == 1
                    && taken.wrong.is_none()
                    && taken.count == items
                    && taken.is_answered(None)
            }
            // A published result wins over the death, with all that was sent before it.
            State::Done => runs == 1 && is_prefix && taken.count == items && taken.is_answered(Some(life)),
            State::Running if begun => runs == ran && is_prefix && taken.outcome == [Outcome::Died(true)],
            State::Running => {
                runs == 0 && taken.count == 0 && matches!(taken.outcome[..], [Outcome::Died(_)])
            }
            _ => false,
        }
    }
}
