//! A lane's calls as a queue: submit on one side, take on the other, over the lines, the ring and the lane's
//! pending bit together.
//!
//! The order of the steps is the protocol (docs/protocol.md, section 4); nobody else composes them.

use super::sabotage::{self, full_fence};
use super::submit::{Entry, Peek, Producer, PushError, SubmitRing};
use super::word::{Generation, Illegal, Life, Reason, State};
use super::{Bits, CallLine};

/// The shared side of one lane, as its client and every worker see it.
#[derive(Clone, Copy, Debug)]
pub struct Queue<'a> {
    /// The call lines.
    pub lines: &'a [CallLine],
    /// The submit ring.
    pub ring: SubmitRing<'a>,
    /// Pending bits of the board.
    pub pending: Bits<'a>,
    /// The lane's bit among them.
    pub index: usize,
}

/// Why a call was not submitted. It never ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// The ring is full of live calls. The call's line is IDLE of the *next* generation.
    Full,
    /// The lane's shared memory holds what no correct process writes; the call's line is of no further use.
    Damaged,
}

/// What a worker got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This call, RUNNING in the worker's life now.
    Call(Entry),
    /// Nothing is queued as far as the ring tells.
    Nothing,
    /// The lane's shared memory holds what no correct process writes.
    Damaged,
}

impl Queue<'_> {
    /// Client: publishes a call whose record is complete. Afterwards the caller looks at the pool's state and
    /// wakes a worker; the full fence that both need was made.
    #[inline]
    pub fn submit(
        &self,
        producer: &mut Producer,
        call: usize,
        generation: Generation,
    ) -> Result<(), SubmitError> {
        if sabotage::on("tailfirst") {
            return self.enqueue(producer, call, generation).and_then(|()| self.publish(call, generation));
        }
        self.publish(call, generation)?;
        self.enqueue(producer, call, generation)
    }

    /// Client: the first half of [`submit`](Queue::submit). A worker that watches this very line may take the call
    /// from here on; everybody else finds it through the second half, or on the arbiter's tick should this client
    /// stop in between.
    #[inline]
    pub fn publish(&self, call: usize, generation: Generation) -> Result<(), SubmitError> {
        let line = self.lines.get(call).ok_or(SubmitError::Damaged)?;
        line.publish(generation).map_err(|_| SubmitError::Damaged)
    }

    /// Client: the second half of [`submit`](Queue::submit).
    #[inline]
    pub fn enqueue(
        &self,
        producer: &mut Producer,
        call: usize,
        generation: Generation,
    ) -> Result<(), SubmitError> {
        let line = self.lines.get(call).ok_or(SubmitError::Damaged)?;
        if let Err(why) = producer.push(self.ring, Entry { call, generation }, |older| self.is_queued(older))
        {
            // One who walks the words may have come first; then it is submitted after all.
            return match why {
                _ if !line.withdraw(generation) => Ok(()),
                PushError::Full => Err(SubmitError::Full),
                PushError::Corrupt => Err(SubmitError::Damaged),
            };
        }
        crash_point!("client.submit.appended");
        full_fence("nofence_submit"); // SYNC POINT: pending, park, close
        // Under load the bit is set already, and a swap of a word that all share is what a call can do without. If a
        // worker clears it after this look, it sees what was appended before the fence, and sets it back.
        if !self.pending.is_set(self.index) {
            self.pending.set(self.index); // SYNC POINT: pending
            full_fence("nofence_hint"); // SYNC POINT: park
        }
        crash_point!("client.submit.hinted");
        Ok(())
    }

    /// Worker: takes the oldest queued call. Bounded by the ring's capacity. Never while the own idle bit is set.
    #[inline]
    pub fn take(&self, life: Life) -> Taken {
        for _ in 0..=self.ring.slots.len() {
            match self.ring.peek() {
                Peek::Empty => return Taken::Nothing,
                Peek::Corrupt => return Taken::Damaged,
                Peek::Entry(position, entry) => {
                    let Some(line) = self.lines.get(entry.call) else { return Taken::Damaged };
                    if sabotage::on("advancefirst") {
                        self.ring.advance(position);
                    }
                    let claimed = line.claim(entry.generation, life);
                    self.ring.advance(position); // claimed or dead; afterwards, never before
                    if claimed {
                        return Taken::Call(entry);
                    }
                }
            }
        }
        Taken::Nothing
    }

    /// Worker: takes any queued call by walking the words from `from`, whatever the ring says. After a ring of
    /// the arbiter's, so that a damaged ring or a lost hint cannot lose a call.
    pub fn walk(&self, life: Life, from: usize) -> Taken {
        let count = self.lines.len();
        for step in 0..count {
            let call = (from + step) % count;
            if let Taken::Call(entry) = self.take_line(life, call) {
                return Taken::Call(entry);
            }
        }
        Taken::Nothing
    }

    /// Worker: takes this call if it is queued. The way of a worker that spins on the line it served last.
    #[inline]
    pub fn take_line(&self, life: Life, call: usize) -> Taken {
        let Some(line) = self.lines.get(call) else { return Taken::Nothing };
        match line.look() {
            Ok(word) if word.state() == State::Queued && line.claim(word.generation(), life) => {
                Taken::Call(Entry { call, generation: word.generation() })
            }
            Ok(_) => Taken::Nothing,
            Err(Illegal(_)) => Taken::Damaged,
        }
    }

    /// Worker: clears the lane's pending bit after it found nothing, and sets it back if something came in between.
    ///
    /// `true` if it set the bit back. Somebody who looked in between saw no bit and may have gone to sleep, and
    /// the submitter, who saw nobody idle then, wakes nobody. So the caller now rings *every* idle parker
    /// ([`wake_idle`](super::wake_idle); the full fence for it was made) before it takes anything.
    #[must_use = "whoever went to sleep while the bit was away must be rung: wake_idle"]
    pub fn quiesce(&self) -> bool {
        self.quiesce_if(|| true)
    }

    /// The same where a lane's index can be given to a new client: `current` says whether the index still has
    /// the epoch of the caller's mapping. It is asked after the bit was cleared, because before it proves
    /// nothing: the bit may be the new client's by then.
    #[must_use = "whoever went to sleep while the bit was away must be rung: wake_idle"]
    pub fn quiesce_if(&self, current: impl FnOnce() -> bool) -> bool {
        // Append, fence, look at the bit; clear the bit, fence, look at the ring: either the submitter sees the bit
        // gone and sets it, or this side sees what was appended.
        self.pending.clear(self.index);
        crash_point!("worker.quiesce.cleared");
        full_fence("nofence_pending"); // SYNC POINT: pending
        if sabotage::on("norecheck_p") || (self.ring.is_empty() && current()) {
            return false;
        }
        self.pending.set(self.index);
        full_fence("nofence_setback"); // SYNC POINT: park
        crash_point!("worker.quiesce.restored");
        true
    }

    /// Arbiter: ends every queued call because nobody will come. After the pool's state was changed and a full
    /// fence; a client publishes first, fences, and looks at the state then, so one of the two sees the other.
    pub fn refuse_all(&self, reason: Reason, mut refused: impl FnMut(usize)) -> Result<(), Illegal> {
        for (call, line) in self.lines.iter().enumerate() {
            let word = line.look()?;
            if word.state() == State::Queued && line.refuse(word.generation(), reason) {
                refused(call);
            }
        }
        Ok(())
    }

    /// Whether an entry's call is still queued with its generation.
    pub fn is_queued(&self, entry: Entry) -> bool {
        self.lines
            .get(entry.call)
            .and_then(|line| line.look().ok())
            .is_some_and(|word| word.state() == State::Queued && word.generation() == entry.generation)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::primitive::{AtomicU64, Ordering};

    struct Lane {
        lines: Vec<CallLine>,
        slots: Vec<AtomicU64>,
        head: AtomicU64,
        tail: AtomicU64,
        pending: Vec<AtomicU64>,
    }

    impl Lane {
        fn new(calls: usize, capacity: usize) -> Lane {
            Lane {
                lines: (0..calls).map(|_| CallLine::new(Generation(0))).collect(),
                slots: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
                head: AtomicU64::new(0),
                tail: AtomicU64::new(0),
                pending: vec![AtomicU64::new(0)],
            }
        }

        fn queue(&self) -> Queue<'_> {
            Queue {
                lines: &self.lines,
                ring: SubmitRing { head: &self.head, tail: &self.tail, slots: &self.slots },
                pending: Bits(&self.pending),
                index: 5,
            }
        }
    }

    const LIFE: Life = match Life::new(9) {
        Some(life) => life,
        None => unreachable!(),
    };

    fn taken(q: &Queue<'_>) -> Option<(usize, u32)> {
        match q.take(LIFE) {
            Taken::Call(e) => Some((e.call, e.generation.0)),
            Taken::Nothing => None,
            Taken::Damaged => panic!("damaged"),
        }
    }

    #[test]
    fn first_in_first_out_within_a_lane() {
        let lane = Lane::new(4, 8);
        let q = lane.queue();
        let mut p = Producer::default();
        for call in [2, 0, 3] {
            q.submit(&mut p, call, Generation(0)).unwrap();
        }
        assert!(q.pending.is_set(5));
        assert_eq!(
            [taken(&q), taken(&q), taken(&q), taken(&q)],
            [Some((2, 0)), Some((0, 0)), Some((3, 0)), None]
        );
        assert!(!q.quiesce());
        assert!(!q.pending.any());
    }

    /// F2: with as many entries as calls, a cancelled and resubmitted call overwrote a live entry.
    #[test]
    fn f2_dead_entries_never_push_out_a_live_one() {
        let lane = Lane::new(2, 4);
        let q = lane.queue();
        let mut p = Producer::default();
        q.submit(&mut p, 0, Generation(0)).unwrap();
        for g in 0..1000 {
            q.submit(&mut p, 1, Generation(g)).unwrap();
            assert_eq!(lane.lines[1].cancel(Generation(g)), Ok(super::super::Cancel::NeverStarted));
        }
        assert_eq!(taken(&q), Some((0, 0)), "the call at the head was carried along");
        assert_eq!(taken(&q), None);
    }

    /// B9: a head or a tail that runs ahead or goes back.
    #[test]
    fn hostile_heads_tails_and_entries_end_in_an_answer() {
        let lane = Lane::new(2, 4);
        let q = lane.queue();
        for (head, tail) in [(0, 5), (9, 3), (u64::MAX, 6), (0, u64::MAX)] {
            lane.head.store(head, Ordering::Relaxed);
            lane.tail.store(tail, Ordering::Relaxed);
            assert_eq!(q.take(LIFE), Taken::Damaged, "{head} {tail}");
        }
        lane.head.store(0, Ordering::Relaxed);
        lane.tail.store(4, Ordering::Relaxed);
        for slot in &lane.slots {
            slot.store(u64::MAX, Ordering::Relaxed);
        }
        assert_eq!(q.take(LIFE), Taken::Damaged);
        let mut p = Producer::default();
        lane.head.store(77, Ordering::Relaxed);
        assert_eq!(q.submit(&mut p, 0, Generation(0)), Err(SubmitError::Damaged));
    }

    /// C9: a call is named by its lane, its line and its generation. One that is under way is not submitted again, whoever has
    /// it; the same number on another lane is another call.
    #[test]
    fn c9_a_call_under_way_is_not_submitted_again() {
        let (ours, others) = (Lane::new(2, 4), Lane::new(2, 4));
        let (mut p, mut p2) = (Producer::default(), Producer::default());
        assert_eq!(ours.queue().submit(&mut p, 0, Generation(0)), Ok(()));
        assert_eq!(ours.queue().submit(&mut p, 0, Generation(0)), Err(SubmitError::Damaged), "queued");
        assert_eq!(others.queue().submit(&mut p2, 0, Generation(0)), Ok(()));
        assert_eq!(taken(&ours.queue()), Some((0, 0)));
        assert_eq!(ours.queue().submit(&mut p, 0, Generation(0)), Err(SubmitError::Damaged), "running");
        assert_eq!(taken(&ours.queue()), None, "once");
        assert_eq!(taken(&others.queue()), Some((0, 0)));
        assert!(ours.lines[0].complete(Generation(0), LIFE, 1).is_ok());
        assert_eq!(ours.queue().submit(&mut p, 0, Generation(0)), Err(SubmitError::Damaged), "not taken yet");
        let done = ours.lines[0].look().unwrap();
        let next = ours.lines[0].release(done).unwrap();
        assert_eq!(
            ours.queue().submit(&mut p, 0, Generation(0)),
            Err(SubmitError::Damaged),
            "that one is over"
        );
        assert_eq!(ours.queue().submit(&mut p, 0, next), Ok(()));
        assert_eq!(taken(&ours.queue()), Some((0, 1)));
    }

    #[test]
    fn a_line_is_taken_only_if_it_is_there_and_queued() {
        let lane = Lane::new(2, 4);
        let q = lane.queue();
        assert_eq!(q.take_line(LIFE, 2), Taken::Nothing, "there are two");
        assert_eq!(q.take_line(LIFE, 1), Taken::Nothing, "nobody submitted it");
        let mut p = Producer::default();
        assert_eq!(q.submit(&mut p, 2, Generation(0)), Err(SubmitError::Damaged));
        assert_eq!(q.enqueue(&mut p, 2, Generation(0)), Err(SubmitError::Damaged));
        q.submit(&mut p, 1, Generation(0)).unwrap();
        let entry = Entry { call: 1, generation: Generation(0) };
        assert!(q.is_queued(entry) && !q.is_queued(Entry { generation: Generation(1), ..entry }));
        assert!(!q.is_queued(Entry { call: 2, ..entry }));
        assert_eq!(q.take_line(LIFE, 1), Taken::Call(entry));
        assert_eq!(q.take_line(LIFE, 1), Taken::Nothing, "it has it");
    }

    /// Whoever walks the words may take a call before its submitter has found the ring full: then it is submitted after all.
    #[test]
    fn a_call_that_was_taken_before_the_ring_was_full_is_submitted() {
        let lane = Lane::new(2, 4);
        let q = lane.queue();
        lane.head.store(77, Ordering::Relaxed); // no producer goes on with that
        q.publish(0, Generation(0)).unwrap();
        assert_eq!(taken_by_walk(&q), Some((0, 0)));
        assert_eq!(q.enqueue(&mut Producer::default(), 0, Generation(0)), Ok(()));
        q.publish(1, Generation(0)).unwrap();
        assert_eq!(q.enqueue(&mut Producer::default(), 1, Generation(0)), Err(SubmitError::Damaged));
    }

    fn taken_by_walk(q: &Queue<'_>) -> Option<(usize, u32)> {
        match q.walk(LIFE, 0) {
            Taken::Call(entry) => Some((entry.call, entry.generation.0)),
            _ => None,
        }
    }

    #[test]
    fn positions_may_wrap() {
        let lane = Lane::new(4, 8);
        lane.head.store(u64::MAX - 2, Ordering::Relaxed);
        lane.tail.store(u64::MAX - 2, Ordering::Relaxed);
        let q = lane.queue();
        let mut p = Producer::new(u64::MAX - 2);
        for g in 0..20 {
            q.submit(&mut p, 1, Generation(g)).unwrap();
            assert_eq!(taken(&q), Some((1, g)));
            let word = lane.lines[1].look().unwrap();
            lane.lines[1].complete(word.generation(), LIFE, 0).unwrap();
            lane.lines[1].release(lane.lines[1].look().unwrap()).unwrap();
        }
    }

    /// F4 and the close rule: queued calls of a closed pool end.
    #[test]
    fn a_closed_pool_refuses_what_is_queued_and_nothing_else() {
        let lane = Lane::new(3, 8);
        let q = lane.queue();
        let mut p = Producer::default();
        q.submit(&mut p, 0, Generation(0)).unwrap();
        q.submit(&mut p, 1, Generation(0)).unwrap();
        assert_eq!(taken(&q), Some((0, 0)));
        let mut refused = Vec::new();
        q.refuse_all(Reason::ShuttingDown, |call| refused.push(call)).unwrap();
        assert_eq!(refused, [1]);
        assert_eq!(lane.lines[0].look().unwrap().state(), State::Running);
        assert_eq!(lane.lines[1].look().unwrap().reason(), Some(Reason::ShuttingDown));
    }

    #[test]
    fn walking_finds_what_a_scribbled_ring_lost() {
        let lane = Lane::new(4, 8);
        let q = lane.queue();
        let mut p = Producer::default();
        q.submit(&mut p, 3, Generation(0)).unwrap();
        lane.head.store(1, Ordering::Relaxed);
        assert_eq!(q.take(LIFE), Taken::Nothing);
        assert_eq!(q.walk(LIFE, 0), Taken::Call(Entry { call: 3, generation: Generation(0) }));
    }
}
