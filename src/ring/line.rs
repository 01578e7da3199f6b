//! The 64-byte line of a call in `control`, and every transition of its word, by role.
//!
//! ```text
//! IDLE ─client─> QUEUED ─worker─> RUNNING ─worker─> DONE ────────client─> IDLE, generation + 1
//!                  │  │             │  └──arbiter─> LOST ────────client─>   "
//!                  │  └─client─> IDLE └───client──> ABANDONED ─worker, arbiter─> ACKED ─client─> "
//!                  └─arbiter, client─> LOST
//! ```
//!
//! Each is one compare-and-swap of all 64 bits. The line arbitrates and holds no truth alone: a result counts
//! only if the worker's own record names this call and generation, a call runs only if the client's does.

use super::sabotage::{self, order};
use super::word::{Generation, Illegal, Life, Reason, State, Word};
use super::{Bell, Futex};
use crate::primitive::{AtomicU64, Ordering};

/// One call's line, shared by its client, all workers and the arbiter.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CallLine {
    word: AtomicU64,
    /// Where the result's record is; written by the claimer before DONE, read once by the client.
    result: AtomicU64,
    /// What the caller sleeps on.
    pub bell: Bell,
    /// Since when the claimer has it, and when its app last said that it is at work. Hints, written by the claimer: the
    /// caller takes no more from them than a time that it could have seen itself.
    begun: AtomicU64,
    alive: AtomicU64,
    /// Where the worker's side of its stream is; 0 while there is none. A hint: the block itself says whose it is.
    stream: AtomicU64,
}

/// How an attempt to cancel or expire a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It was queued and is idle again; it never ran. The canceller delivers the outcome.
    NeverStarted,
    /// This life has it and will notice. The canceller delivers the outcome.
    Abandoned(Life),
    /// The outcome belongs to somebody else; the word says whose.
    TooLate(Word),
}

/// How publishing a result ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// The caller will find it.
    Done,
    /// The caller has its answer already; the word was acknowledged, result and request are nobody's now.
    Abandoned,
}

/// What the repair of one word found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// It does not name the dead life.
    Untouched,
    /// It names it and stays: a result published before the death, or a loss recorded already.
    Kept,
    /// RUNNING became LOST.
    Lost(Reason),
    /// ABANDONED became ACKED.
    Acked,
}

impl CallLine {
    /// A line at IDLE.
    pub fn new(generation: Generation) -> CallLine {
        CallLine {
            word: AtomicU64::new(Word::idle(generation).raw()),
            result: AtomicU64::new(0),
            bell: Bell::new(),
            begun: AtomicU64::new(0),
            alive: AtomicU64::new(0),
            stream: AtomicU64::new(0),
        }
    }

    /// The word, as everyone looks at it.
    #[inline]
    pub fn look(&self) -> Result<Word, Illegal> {
        // SYNC POINT: publish, done, acked, release
        Word::check(self.word.load(order("lookrelaxed", Ordering::Acquire)))
    }

    /// The word's bits without a check or an order, to see whether it changed.
    #[inline]
    pub fn glance(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    /// Whether a word's bits may still change without its caller: it is queued or running.
    #[inline]
    pub fn is_pending(raw: u64) -> bool {
        matches!(raw & 0xf, 1 | 2)
    }

    /// Whether a word's bits say queued.
    #[inline]
    pub fn is_queued(raw: u64) -> bool {
        raw & 0xf == State::Queued as u64
    }

    /// Sets a line of memory that nobody else sees yet to IDLE.
    pub fn reset(&self, generation: Generation) {
        self.word.store(Word::idle(generation).raw(), Ordering::Release);
    }

    // ---- client ----

    /// IDLE → QUEUED, after the record was completed.
    #[inline]
    pub fn publish(&self, generation: Generation) -> Result<(), Illegal> {
        // What an earlier call's worker said here is not this one's; the next one may say the same.
        if !sabotage::on("streamplacestays") {
            self.stream.store(0, Ordering::Relaxed);
        }
        // SYNC POINT: publish
        let ordering = order("publishrelaxed", Ordering::Release);
        self.swap(Word::idle(generation), Word::queued(generation), ordering).map_err(Illegal)
    }

    /// QUEUED → IDLE or RUNNING → ABANDONED, whichever it is. The winner, and only it, delivers the outcome; it
    /// rings the bell afterwards if it abandoned.
    pub fn cancel(&self, generation: Generation) -> Result<Cancel, Illegal> {
        loop {
            let word = self.look()?;
            if word.generation() != generation && !sabotage::on("anygeneration") {
                return Ok(Cancel::TooLate(word));
            }
            crash_point!("cancel.looked");
            match (word.state(), word.life()) {
                (State::Queued, _) => {
                    let next = if sabotage::on("nobump") { generation } else { generation.next() };
                    if sabotage::on("blindcancel") {
                        self.word.store(Word::idle(next).raw(), Ordering::Release);
                        return Ok(Cancel::NeverStarted);
                    }
                    if self.swap(word, Word::idle(next), Ordering::AcqRel).is_ok() {
                        return Ok(Cancel::NeverStarted);
                    }
                }
                (State::Running, Some(life)) => {
                    if self.swap(word, Word::abandoned(generation, life), Ordering::AcqRel).is_ok() {
                        return Ok(Cancel::Abandoned(life));
                    }
                }
                _ => return Ok(Cancel::TooLate(word)),
            }
        }
    }

    /// DONE, LOST or ACKED → IDLE of the next generation, after the last lease on what it names was dropped.
    #[inline]
    pub fn release(&self, word: Word) -> Result<Generation, Illegal> {
        debug_assert!(matches!(word.state(), State::Done | State::Lost | State::Acked));
        let next = word.generation().next();
        crash_point!("client.release.looked");
        // SYNC POINT: release
        let ordering = order("releaserelaxed", Ordering::Release);
        self.swap(word, Word::idle(next), ordering).map(|()| next).map_err(Illegal)
    }

    /// Where the result's record is said to be. Once, after DONE was seen; what it says is checked by the reader.
    #[inline]
    pub fn result(&self) -> u64 {
        self.result.load(Ordering::Relaxed)
    }

    /// QUEUED → IDLE, and nothing else: the client takes back what nobody claimed. `false`: somebody did.
    pub fn withdraw(&self, generation: Generation) -> bool {
        crash_point!("client.withdraw.looked");
        self.swap(Word::queued(generation), Word::idle(generation.next()), Ordering::AcqRel).is_ok()
    }

    // ---- client and arbiter ----

    /// QUEUED → LOST because nobody will come. `false`: it was not queued with that generation.
    pub fn refuse(&self, generation: Generation, reason: Reason) -> bool {
        crash_point!("refuse.looked");
        self.swap(Word::queued(generation), Word::lost(generation, None, reason), Ordering::AcqRel).is_ok()
    }

    // ---- worker ----

    /// QUEUED → RUNNING. The request may be read only after this succeeded.
    #[inline]
    pub fn claim(&self, generation: Generation, life: Life) -> bool {
        crash_point!("worker.claim.looked");
        if sabotage::on("blindclaim") {
            let queued = self.glance() == Word::queued(generation).raw();
            self.word.store(Word::running(generation, life).raw(), Ordering::Release);
            return queued;
        }
        // SYNC POINT: publish
        let ordering = order("claimrelaxed", Ordering::AcqRel);
        let claimed = self.swap(Word::queued(generation), Word::running(generation, life), ordering).is_ok();
        crash_point!("worker.claim.swapped");
        claimed
    }

    /// The claimer has the call: monotonic nanoseconds.
    #[inline]
    pub fn begin(&self, now_ns: u64) {
        self.begun.store(now_ns, Ordering::Relaxed);
        self.alive.store(0, Ordering::Relaxed);
    }

    /// The claimer's app answers with a stream: where its side of it is, not 0. The bell is to be rung afterwards.
    pub fn announce(&self, place: u64) {
        self.stream.store(place, order("streamplacerelaxed", Ordering::Release)); // SYNC POINT: stream
    }

    /// Where the stream of the call is said to be; 0 for nowhere. It may be an earlier call's, or nonsense.
    #[inline]
    pub fn stream(&self) -> u64 {
        self.stream.load(Ordering::Acquire) // SYNC POINT: stream
    }

    /// The claimer's app says that it is at work on the call.
    pub fn keep_alive(&self, now_ns: u64) {
        self.alive.store(now_ns, Ordering::Relaxed);
    }

    /// Since when its claimer has the call, while it is RUNNING. May be of an earlier call: of that one's time, then.
    #[inline]
    pub fn begun_ns(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// When its app last said that it is at work. May be nonsense, as any shared word.
    #[inline]
    pub fn alive_ns(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    /// RUNNING → DONE with the place of its result's record; ABANDONED → ACKED if the caller gave up. The request
    /// must not be touched any more. The caller's bell is to be rung afterwards.
    #[inline]
    pub fn complete(&self, generation: Generation, life: Life, result: u64) -> Result<Completed, Illegal> {
        self.result.store(result, Ordering::Relaxed);
        crash_point!("worker.complete.placed");
        if sabotage::on("blinddone") {
            self.word.store(Word::done(generation, life).raw(), Ordering::Release);
            return Ok(Completed::Done);
        }
        // SYNC POINT: done
        let ordering = order("donerelaxed", Ordering::Release);
        if self.swap(Word::running(generation, life), Word::done(generation, life), ordering).is_ok() {
            return Ok(Completed::Done);
        }
        let acknowledged = self.acknowledge(generation, life).map(|()| Completed::Abandoned);
        if sabotage::on("lateresult") {
            self.result.store(result, Ordering::Relaxed);
        }
        acknowledged
    }

    /// ABANDONED → ACKED: this life has let go.
    pub fn acknowledge(&self, generation: Generation, life: Life) -> Result<(), Illegal> {
        crash_point!("worker.ack.looked");
        // SYNC POINT: acked
        let ordering = order("ackrelaxed", Ordering::Release);
        self.swap(Word::abandoned(generation, life), Word::acked(generation, life), ordering).map_err(Illegal)
    }

    // ---- arbiter ----

    /// After a life's death: RUNNING → LOST, ABANDONED → ACKED, retried until the word no longer names the life
    /// in one of these. A published result stays. `begun` tells whether the life's begin record names this call
    /// with this generation. Whenever the answer is not `Untouched` the bell is to be rung, whatever its flag says.
    pub fn repair(&self, life: Life, begun: impl Fn(Generation) -> bool) -> Result<Repaired, Illegal> {
        loop {
            let word = self.look()?;
            if !names(word, life) {
                return Ok(Repaired::Untouched);
            }
            let generation = word.generation();
            let (to, repaired) = match word.state() {
                State::Running => {
                    let reason = if begun(generation) { Reason::Begun } else { Reason::NotBegun };
                    (Word::lost(generation, Some(life), reason), Repaired::Lost(reason))
                }
                State::Abandoned => (Word::acked(generation, life), Repaired::Acked),
                State::Done if sabotage::on("lostoverdone") => {
                    (Word::lost(generation, Some(life), Reason::Begun), Repaired::Lost(Reason::Begun))
                }
                _ => return Ok(Repaired::Kept),
            };
            crash_point!("arbiter.repair.looked");
            if self.swap(word, to, Ordering::AcqRel).is_ok() || sabotage::on("noloop") {
                return Ok(repaired);
            }
        }
    }

    /// For a dead client, one step towards IDLE: QUEUED, DONE, LOST, ACKED → IDLE; RUNNING → ABANDONED. `true`
    /// when the line is IDLE. To be repeated until it is; an ABANDONED one waits for its worker.
    pub fn reclaim(&self) -> Result<bool, Illegal> {
        loop {
            let word = self.look()?;
            let generation = word.generation();
            let to = match (word.state(), word.life()) {
                (State::Idle, _) => return Ok(true),
                (State::Abandoned, _) => return Ok(false),
                (State::Running, Some(life)) => Word::abandoned(generation, life),
                _ => Word::idle(generation.next()),
            };
            crash_point!("arbiter.reclaim.looked");
            if self.swap(word, to, Ordering::AcqRel).is_ok() || sabotage::on("noreclaimloop") {
                crash_point!("arbiter.reclaim.moved");
                return Ok(to.state() == State::Idle);
            }
        }
    }

    /// The same, and whoever sleeps on the call hears of it. Where a worker has it the flag of its sleepers is not trusted: the
    /// dead client may have taken it and not woken them any more.
    pub fn reclaim_and_ring(&self, futex: &impl Futex) -> Result<bool, Illegal> {
        let reclaimed = self.reclaim();
        if reclaimed == Ok(true) || sabotage::on("trustflag") {
            self.bell.ring(futex);
        } else {
            self.bell.ring_always(futex);
        }
        reclaimed
    }

    #[inline]
    fn swap(&self, from: Word, to: Word, success: Ordering) -> Result<(), u64> {
        self.word.compare_exchange(from.raw(), to.raw(), success, Ordering::Acquire).map(drop)
    }
}

/// Whether a word has to do with this life.
fn names(word: Word, life: Life) -> bool {
    if sabotage::on("noinc") {
        return word.life().is_some_and(|named| named.get() & 0xff == life.get() & 0xff);
    }
    word.life() == Some(life)
}

const _: () = {
    assert!(cfg!(loom) || size_of::<CallLine>() == 64);
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const G: Generation = Generation(7);

    fn life(n: u16) -> Life {
        Life::new(n).unwrap()
    }

    fn at(word: Word) -> CallLine {
        let line = CallLine::new(G);
        line.word.store(word.raw(), Ordering::Relaxed);
        line
    }

    fn states() -> [Word; 7] {
        let l = life(3);
        [
            Word::idle(G),
            Word::queued(G),
            Word::running(G, l),
            Word::done(G, l),
            Word::abandoned(G, l),
            Word::lost(G, Some(l), Reason::Begun),
            Word::acked(G, l),
        ]
    }

    /// Every transition from every state: exactly the edges of the table, and no word of another kind ever.
    #[test]
    fn the_edges_are_those_of_the_table() {
        let l = life(3);
        for from in states() {
            let s = from.state();
            let line = at(from);
            assert_eq!(line.publish(G).is_ok(), s == State::Idle);
            let line = at(from);
            assert_eq!(line.claim(G, l), s == State::Queued);
            let line = at(from);
            assert!(!line.claim(G.next(), l));
            let line = at(from);
            assert_eq!(line.refuse(G, Reason::NoWorkers), s == State::Queued);
            let line = at(from);
            let expected = match s {
                State::Running => Ok(Completed::Done),
                State::Abandoned => Ok(Completed::Abandoned),
                _ => Err(Illegal(from.raw())),
            };
            assert_eq!(line.complete(G, l, 1), expected);
            let line = at(from);
            let expected = match s {
                State::Queued => Cancel::NeverStarted,
                State::Running => Cancel::Abandoned(l),
                _ => Cancel::TooLate(from),
            };
            assert_eq!(line.cancel(G), Ok(expected));
            assert_eq!(
                at(from).cancel(G.next()),
                Ok(Cancel::TooLate(from)),
                "another generation is a stranger"
            );
            let line = at(from);
            let expected = match s {
                State::Idle | State::Queued => Repaired::Untouched,
                State::Running => Repaired::Lost(Reason::NotBegun),
                State::Abandoned => Repaired::Acked,
                _ => Repaired::Kept,
            };
            assert_eq!(line.repair(l, |_| false), Ok(expected));
            assert_eq!(at(from).repair(life(4), |_| true), Ok(Repaired::Untouched));
            let line = at(from);
            let idle = !matches!(s, State::Running | State::Abandoned);
            assert_eq!(line.reclaim(), Ok(idle));
            assert_eq!(line.look().unwrap().state() == State::Idle, idle);
            if matches!(s, State::Done | State::Lost | State::Acked) {
                assert_eq!(at(from).release(from), Ok(G.next()));
            }
        }
    }

    #[test]
    fn a_call_that_had_begun_is_lost_as_begun() {
        let line = at(Word::running(G, life(3)));
        assert_eq!(line.repair(life(3), |g| g == G), Ok(Repaired::Lost(Reason::Begun)));
        assert_eq!(line.look(), Ok(Word::lost(G, Some(life(3)), Reason::Begun)));
    }

    #[test]
    fn a_published_result_wins_over_a_later_death() {
        let line = at(Word::done(G, life(3)));
        assert_eq!(line.repair(life(3), |_| true), Ok(Repaired::Kept));
        assert_eq!(line.look(), Ok(Word::done(G, life(3))));
    }

    #[test]
    fn an_illegal_word_is_an_answer_everywhere() {
        let line = at(Word::idle(G));
        line.word.store(0xdead_beef, Ordering::Relaxed);
        assert!(line.look().is_err() && line.cancel(G).is_err() && line.reclaim().is_err());
        assert!(line.repair(life(3), |_| true).is_err() && line.complete(G, life(3), 0).is_err());
        assert!(line.publish(G).is_err() && !line.claim(G, life(3)));
    }

    #[test]
    fn generations_wrap() {
        let g = Generation(u32::MAX);
        let line = CallLine::new(g);
        line.publish(g).unwrap();
        assert_eq!(line.cancel(g), Ok(Cancel::NeverStarted));
        assert_eq!(line.look(), Ok(Word::idle(Generation(0))));
    }
}
