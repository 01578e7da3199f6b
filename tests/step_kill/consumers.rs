//! A client is killed after every instruction of taking the items of a stream, of a context that it has opened, and of giving
//! these up; to take one item, and to send one, are short paths of their own.
//!
//! It writes down what it got, so that it can be asked after its death: items from the first on without a gap, and the end
//! behind all of them and nowhere else. The app is told that its client is gone, unless it was through by then. The worker
//! lives on; the same one serves the next client, and has lent nothing in the end.

use crate::Ways;
use crate::app::{APP, Journal, answer};
use crate::report::Tally;
use crate::scene::{DEADLINE_MS, Outcome, Scene, Wrong, app_thread, in_futex, state, until, word};
use crate::streamed::{Form, GROUP, LARGE, MARKS, Mark, SHORT, Stepped, fill, is_item, small};
use crate::trace::{Alarm, Arrival};
use crate::victim::{self, Victim, WRONG, here};
use std::os::fd::OwnedFd;
use std::time::Instant;
use stokehold::internals::ring::{State, Word};
use stokehold::internals::sys::process;
use stokehold::{Client, Context, Response, Stream};

/// What the victim does between its last two markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Opens a stream, waits for its items, and takes them as they come, and the end.
    All,
    /// Takes what is there already, across the end of the ring, and the end.
    Wrap,
    /// The same while the worker sleeps for want of room, again and again.
    Full,
    /// Opens a context, sends items and takes others, finishes, and takes the final value.
    Context,
    /// Gives a stream up while its worker sleeps for want of room.
    Cancel,
    /// Drops a context whose app waits for an item.
    Drop,
    /// Takes one item from the ring, while the worker sleeps for want of room.
    Receive,
    /// Takes one that is lent, and gives it back, when the app has returned.
    Lent,
    /// Sends an item to an app that sleeps until one comes.
    Send,
}

/// One way of a client.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    pub way: Way,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "client-stream", way: Way::All },
    Path { name: "client-stream-wrap", way: Way::Wrap },
    Path { name: "client-stream-full", way: Way::Full },
    Path { name: "client-context", way: Way::Context },
    Path { name: "client-cancel-stream", way: Way::Cancel },
    Path { name: "client-drop-context", way: Way::Drop },
    Path { name: "client-receive", way: Way::Receive },
    Path { name: "client-receive-lent", way: Way::Lent },
    Path { name: "client-send", way: Way::Send },
];

/// The deadline of these calls. The victim goes by single steps once.
const LONG_MS: u64 = 120_000;
/// Items of a stream, and of a context each way.
const ITEMS: i64 = 6;
/// Before the end of the ring, as in `producers`.
const FILLING: i64 = 32;
/// Items on their way at most, where the worker is to sleep.
const WINDOW: i64 = 2;

impl Path {
    /// Whether it goes through a whole stream or context.
    pub fn is_long(&self) -> bool {
        !self.is_one() && !self.way.gives_up()
    }

    /// Whether it is that of one item.
    fn is_one(&self) -> bool {
        self.way.one().is_some()
    }
}

impl Way {
    fn filling(self) -> i64 {
        if self == Way::Wrap { FILLING } else { 0 }
    }

    fn window(self) -> i64 {
        match self {
            Way::Full | Way::Cancel | Way::Receive => WINDOW,
            _ => 1024,
        }
    }

    fn is_context(self) -> bool {
        matches!(self, Way::Context | Way::Drop | Way::Send)
    }

    /// Which one item it takes, or sends; `None` where it goes on to the end.
    fn one(self) -> Option<i64> {
        let (item, form) = match self {
            Way::Receive | Way::Send => (1, Form::Small),
            Way::Lent => (GROUP - 1, Form::Lent),
            _ => return None,
        };
        assert_eq!(Form::of(item), form);
        Some(item)
    }

    fn gives_up(self) -> bool {
        matches!(self, Way::Cancel | Way::Drop)
    }

    /// How many items come.
    fn items(self) -> i64 {
        self.filling() + ITEMS
    }

    /// How many of them the victim has taken before it is stepped.
    fn taken(self) -> i64 {
        match self {
            Way::Wrap => FILLING,
            // The large one and the lent one are on their way then.
            Way::Cancel | Way::Drop => 2,
            _ => self.one().unwrap_or(0),
        }
    }
}

/// The numbers in the journal.
#[derive(Clone, Copy, Debug)]
struct Ids {
    /// Of a call before.
    warm: u64,
    /// Of the call, and what its app says.
    call: u64,
    /// What the victim says.
    victim: u64,
}

/// Kills the client after `at` instructions of the path; without `at` when it is through, and notes the way.
pub fn round(
    scene: &mut Scene,
    path: &Path,
    at: Option<usize>,
    ways: &mut Ways,
    tally: &mut Tally,
) -> Result<(), Wrong> {
    let way = path.way;
    if at.is_none() {
        scene.count_room()?;
    }
    let workers = scene.client.worker_pids();
    let ids = Ids { warm: scene.ids(MARKS), call: scene.ids(MARKS), victim: scene.ids(MARKS) };
    let Victim { mut tracee, pid, control, lane } =
        Victim::start(scene, |scene, socket| live(way, socket, ids, &scene.journal))?;
    // The app comes to its items, to the filled ring's end, or to the first item that it receives, and stays there.
    let goes_on = way.gives_up() || way == Way::Full || path.is_one();
    scene.journal.hold(if goes_on { 0 } else { ids.call });
    victim::marker(tracee.run(), "preparing")?;
    match way {
        Way::Wrap | Way::Lent => {
            scene.journal.release();
            let all = until(|| (state(&control) == Some(State::Done)).then_some(()));
            all.ok_or("the worker does not send everything")?;
        }
        Way::Full | Way::Cancel | Way::Receive => {
            let sent = way.taken() + way.window();
            let full = until(|| {
                let marks = |mark| scene.journal.marks(ids.call, mark);
                let sends = (marks(Mark::Sent), marks(Mark::Sending)) == (sent, sent + 1);
                (sends && asleep_in_call(&workers)).then_some(())
            });
            full.ok_or("the worker does not sleep for want of room")?;
        }
        Way::Send => {
            let answered = || scene.journal.marks(ids.call, Mark::Sent) == way.taken();
            let waits = until(|| (answered() && asleep_in_call(&workers)).then_some(()));
            waits.ok_or("the worker does not sleep until an item comes")?;
        }
        _ => {}
    }
    let alarm = Alarm::set();
    let asleep = || {
        if in_futex(pid, pid) {
            scene.journal.release();
        }
        false
    };
    let arrival = match at {
        None => tracee.walk(&mut ways.path, &asleep, &mut || false),
        Some(at) => tracee.go(&ways.path, at, ways.plain, &asleep),
    };
    drop(alarm);
    match arrival {
        Arrival::Gone | Arrival::Asleep => {
            return Err(format!(
                "the victim ended by itself; {:?}",
                Fate::read(scene, ids, word(&control, 0)?)
            ));
        }
        Arrival::Marker if at.is_some_and(|at| at < ways.path.len()) => tally.missed += 1,
        _ => {}
    }
    tally.pc = tracee.pc();
    let seen = word(&control, 0)?;
    tally.saw(seen.state(), false);
    if path.is_one() && scene.journal.marks(ids.victim, Mark::Sent) > way.taken() {
        // While it lives: what was sent arrives, without anything that it does from now on.
        let arrived = || scene.journal.marks(ids.call, Mark::Got) > way.taken();
        until(|| arrived().then_some(())).ok_or("an item that was sent does not arrive")?;
    }
    // Every other time somebody waits for the worker already.
    let behind = scene.id();
    let waiting = if at.is_some_and(|at| at % 2 == 0) {
        let call = scene.client.call(APP, "run").args((behind as i64,)).deadline_ms(DEADLINE_MS);
        Some(call.submit().map_err(|e| format!("submit: {e}"))?)
    } else {
        None
    };
    let killed = Instant::now();
    tracee.kill();
    scene.journal.release();
    lane.is_left(scene, true)?;
    // The app has let go. The lane is free with the arbiter's next tick: all of them are looked at in the end.
    let is_over = |state| !matches!(state, State::Queued | State::Running | State::Abandoned);
    let over = until(|| state(&control).is_some_and(is_over).then_some(()));
    over.ok_or_else(|| {
        format!("nobody ends the call: {:?}; {:?}", word(&control, 0), Fate::read(scene, ids, seen))
    })?;
    tally.took(killed.elapsed());
    let fate = Fate::read(scene, ids, seen);
    tally.ended(fate.ended());
    if !fate.is_right(way, at.is_none()) {
        return Err(format!("{fate:?}"));
    }
    if let Some(waiting) = waiting {
        match Outcome::of(waiting.wait()) {
            Outcome::Ok(number, _) if number == answer(behind) && scene.journal.runs(behind) == 1 => {}
            outcome => return Err(format!("the call of another client behind it: {outcome:?}")),
        }
    }
    let next = scene.id();
    scene.works(next)?;
    if scene.client.worker_pids() != workers {
        return Err(format!("a worker died with its client: it was {workers:?}; {fate:?}"));
    }
    if at.is_none() {
        scene.settle();
    }
    Ok(())
}

/// Whether the only worker's app sleeps.
fn asleep_in_call(workers: &[u32]) -> bool {
    workers.iter().all(|pid| app_thread(*pid).is_some_and(|tid| in_futex(*pid, tid)))
}

/// What became of a call whose client is dead.
#[derive(Debug)]
struct Fate {
    /// Its word when that died.
    seen: Word,
    runs: u32,
    warm: u32,
    /// What its app noted: about to send so many, sent so many, received so many, and the end of these.
    sending: i64,
    sent: i64,
    received: i64,
    closed: i64,
    /// That it was told of a client that is gone, or has given up.
    told: i64,
    given_up: i64,
    wrong: i64,
    /// What the victim noted: about to send so many, sent so many, got so many, and the end of these.
    own_sending: i64,
    own_sent: i64,
    got: i64,
    own_closed: i64,
    own_wrong: i64,
}

impl Fate {
    fn read(scene: &Scene, ids: Ids, seen: Word) -> Fate {
        let app = |mark| scene.journal.marks(ids.call, mark);
        let victim = |mark| scene.journal.marks(ids.victim, mark);
        Fate {
            seen,
            runs: scene.journal.runs(ids.call),
            warm: scene.journal.runs(ids.warm),
            sending: app(Mark::Sending),
            sent: app(Mark::Sent),
            received: app(Mark::Got),
            closed: app(Mark::Closed),
            told: app(Mark::Told),
            given_up: app(Mark::GivenUp),
            wrong: app(Mark::Wrong),
            own_sending: victim(Mark::Sending),
            own_sent: victim(Mark::Sent),
            got: victim(Mark::Got),
            own_closed: victim(Mark::Closed),
            own_wrong: victim(Mark::Wrong),
        }
    }

    /// How it ended for the app.
    fn ended(&self) -> &'static str {
        match self {
            Fate { runs: 0, .. } => "never run",
            Fate { told: 1.., .. } => "told",
            Fate { given_up: 1.., .. } => "given up",
            _ => "through",
        }
    }

    /// Whether all of them saw what such a death leaves them.
    fn is_right(&self, way: Way, is_through: bool) -> bool {
        let items = way.items();
        let is_client_right = self.own_wrong == 0
            && self.got <= self.sending
            && (self.own_closed, self.got) <= (1, items)
            && (self.own_closed == 0 || self.got == items)
            && self.got >= way.taken()
            && match way.one() {
                // No more than that item; and at the path's end that one.
                Some(item) => {
                    let all = if way == Way::Send { self.own_sent } else { self.got };
                    self.own_closed == 0
                        && (self.got, self.own_sending) <= (item + 1, item + 1)
                        && if is_through { all == item + 1 } else { all <= item + 1 }
                }
                None => !is_through || way.gives_up() || self.own_closed == 1,
            };
        // No item that nobody sent, and their end behind all of them only.
        let has_received = if way.is_context() {
            self.received <= self.own_sending && (self.closed == 0 || self.received == items)
        } else {
            (self.received, self.closed) == (0, 0)
        };
        // What is not taken takes room, whoever should have taken it: one item may be taken and not noted.
        let has_sent = self.sent <= items.min(self.got + 1 + way.window());
        let is_done = if way.is_context() { self.closed == 1 } else { self.sent == items };
        let has_ended = match (self.runs, self.told, self.given_up) {
            (0, 0, 0) => self.sending == 0,
            (1, 0, 0) => is_done,
            (1, 1, 0) => !matches!(self.seen.state(), State::Done),
            // That it was the client it may learn from the word; and when it looks, the client may be known to be gone.
            (1, 0, 1) => way.gives_up() && matches!(self.seen.state(), State::Abandoned | State::Acked),
            _ => false,
        };
        let has_begun = match self.seen.state() {
            State::Idle if self.got == 0 => self.runs == 0,
            State::Queued => true,
            _ => self.runs == 1,
        };
        let is_app_right = self.wrong == 0 && has_received && has_sent && has_ended && has_begun;
        is_client_right && is_app_right && self.warm == 1
    }
}

/// What the victim does.
fn live(way: Way, socket: OwnedFd, ids: Ids, journal: &Journal) {
    let client = victim::connect(socket);
    // So that it has met the worker's memory, and the worker its own.
    let mut before = Taking::new(ids.warm, None);
    let is_met = if way.is_context() {
        let mut context = before.context(&client);
        before.talk(&client, &mut context, ITEMS, ITEMS);
        before.is_talked_out(context)
    } else {
        let mut stream = before.stream(&client, Way::All);
        before.take(&mut stream, ITEMS);
        before.is_over(stream)
    };
    if !is_met {
        process::exit_now(WRONG);
    }
    drop(before);
    here();
    let mut taking = Taking::new(ids.call, Some((ids.victim, journal)));
    match way {
        Way::All | Way::Wrap | Way::Full => {
            let mut stream = None;
            if way != Way::All {
                let mut opened = taking.stream(&client, way);
                taking.take(&mut opened, way.taken());
                stream = Some(opened);
            }
            here();
            let mut stream = stream.unwrap_or_else(|| taking.stream(&client, way));
            taking.take(&mut stream, ITEMS);
            if taking.is_over(stream) {
                taking.mark(Mark::Closed);
            }
        }
        Way::Context => {
            here();
            let mut context = taking.context(&client);
            taking.talk(&client, &mut context, ITEMS, ITEMS);
            if taking.is_talked_out(context) {
                taking.mark(Mark::Closed);
            }
        }
        Way::Cancel => {
            let mut stream = taking.stream(&client, way);
            taking.take(&mut stream, way.taken());
            here();
            stream.cancel();
        }
        Way::Drop => {
            let mut context = taking.context(&client);
            // The large one is on its way.
            taking.talk(&client, &mut context, way.taken() + 1, way.taken());
            here();
            drop(context);
        }
        Way::Receive | Way::Lent => {
            let mut stream = taking.stream(&client, way);
            taking.take(&mut stream, way.taken());
            taking.held = None;
            here();
            taking.take(&mut stream, 1);
            taking.held = None;
            here();
        }
        Way::Send => {
            let mut context = taking.context(&client);
            taking.talk(&client, &mut context, way.taken(), way.taken());
            here();
            taking.talk(&client, &mut context, 1, 0);
            here();
        }
    }
    drop(taking);
    here();
}

/// A client's side of one call.
struct Taking<'j> {
    id: u64,
    /// Where it notes what it got, if it does.
    journal: Option<(u64, &'j Journal)>,
    sent: i64,
    got: i64,
    /// The last item. It is held while the next one is taken.
    held: Option<Response>,
}

impl<'j> Taking<'j> {
    fn new(id: u64, journal: Option<(u64, &'j Journal)>) -> Taking<'j> {
        Taking { id, journal, sent: 0, got: 0, held: None }
    }

    fn mark(&self, mark: Mark) {
        if let Some((id, journal)) = self.journal {
            journal.mark(id, mark);
        }
    }

    fn wrong(&self) -> ! {
        self.mark(Mark::Wrong);
        process::exit_now(WRONG)
    }

    fn stream(&self, client: &Client, way: Way) -> Stream {
        let args = (self.id as i64, way.filling(), ITEMS, way.window() as u64, Stepped::No as i64);
        let stream = client.call(APP, "stream").args(args).deadline_ms(LONG_MS).stream();
        stream.unwrap_or_else(|_| self.wrong())
    }

    /// Takes so many items.
    fn take(&mut self, stream: &mut Stream, items: i64) {
        for _ in 0..items {
            let item = stream.next().and_then(Result::ok);
            self.check(item);
        }
    }

    fn check(&mut self, item: Option<Response>) {
        let Some(item) = item else { self.wrong() };
        if !item.as_bytes().is_ok_and(|bytes| is_item(self.id, self.got, bytes)) {
            self.wrong();
        }
        self.got += 1;
        self.mark(Mark::Got);
        self.held = Some(item);
    }

    /// Whether nothing more comes but the value.
    fn is_over(&mut self, mut stream: Stream) -> bool {
        self.held = None;
        let is_over = stream.next().is_none() && stream.next().is_none();
        let is_right = stream.value().and_then(|value| value.parse().ok()) == Some(answer(self.id));
        if !(is_over && is_right) {
            self.wrong();
        }
        true
    }

    fn context(&self, client: &Client) -> Context {
        let call = client.call(APP, "dialog").args((self.id as i64, Stepped::No as i64)).deadline_ms(LONG_MS);
        let context = call.context().unwrap_or_else(|_| self.wrong());
        if context.started().and_then(|value| value.parse().ok()) != Some(answer(self.id)) {
            self.wrong();
        }
        context
    }

    /// Sends so many items, and takes answers to so many of them, one at a time.
    fn talk(&mut self, client: &Client, context: &mut Context, items: i64, answers: i64) {
        for nth in 0..items {
            let at = self.sent;
            self.mark(Mark::Sending);
            let sent = match Form::of(at) {
                Form::Small => context.send(small(self.id, at)),
                Form::Large => {
                    let mut item = [0; LARGE];
                    fill(self.id, at, &mut item);
                    context.send(item)
                }
                Form::Lent => client.lease(SHORT).and_then(|mut lease| {
                    fill(self.id, at, &mut lease);
                    context.send(lease)
                }),
            };
            if sent.is_err() {
                self.wrong();
            }
            self.sent += 1;
            self.mark(Mark::Sent);
            if nth < answers {
                let item = context.next().and_then(Result::ok);
                self.check(item);
            }
        }
    }

    /// Whether nothing more comes but the value.
    fn is_talked_out(&mut self, mut context: Context) -> bool {
        self.held = None;
        context.finish();
        if context.next().is_some() {
            self.wrong();
        }
        match context.wait() {
            Ok(value) if value.parse().ok() == Some(answer(self.id)) => true,
            _ => self.wrong(),
        }
    }
}
