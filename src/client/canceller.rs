//! A handle that ends a call which somebody else waits for.
//!
//! Whoever wins the swap of the call's word decides its outcome. Where that is a handle, the call's holder has to learn
//! that it was one of its own process, and not a stray write: the shared word does not tell, the private record beside
//! the call does ([`Handles`]). The holder puts the line back, never a handle; and a line is not put back while a thread
//! acts through a handle of it, so a handle that comes late finds its call over, and never a later one on that line.

use super::lane::Lane;
use super::submission::Submission;
use crate::limits::{FIRST_SLICE_NS, LONGEST_SLICE_NS};
use crate::ring::{Cancel, Generation, State};
use crate::shm::{Deadline, OwnRecord};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Cancels one call, from any thread, while its [`Pending`](super::Pending) is waited for: from
/// [`Pending::canceller`](super::Pending::canceller).
///
/// `Clone + Send + Sync`. It is the call's that it was made for and no other's, however late it is used. It does not keep
/// the call, but it keeps its client connected, as a clone of the client does. The default is one of a call that is over.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Option<Target>);

#[derive(Clone, Debug)]
struct Target {
    sent: Submission,
    handles: Arc<Handles>,
}

/// What handles did to one call: private to its client.
#[derive(Debug)]
pub struct Handles(Mutex<Act>);

/// How far a call's handles went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// They did nothing.
    Nothing,
    /// One took the call back before a worker had it.
    Withdrew,
    /// One gave the call up while a worker has it.
    Abandoned,
    /// The line is free: it is not theirs any more.
    Over,
    /// Nor is a damaged one, of which nobody knows whether a worker has it.
    Lost,
}

impl Canceller {
    pub(super) fn new(sent: &Submission) -> Canceller {
        let handles = sent.lane.handles(sent.call);
        Canceller(Some(Target { sent: sent.clone(), handles }))
    }

    /// Cancels the call, unless it has ended: whoever waits for it gets
    /// [`Cancelled`](crate::Kind::Cancelled) by [`Handle`](crate::CancelledBy::Handle) at once, whether it was queued or
    /// runs, and its app is told ([`Ctx::is_cancelled`](crate::Ctx::is_cancelled)). A call that has ended stays as it is,
    /// and a second cancel changes nothing. Does not block. Nothing in a forked copy of the process.
    pub fn cancel(&self) {
        if let Some(target) = self.here() {
            target.cancel();
        }
    }

    /// Waits until the work on the call has really ended, no longer than `timeout`: a worker that had it let go of it or
    /// is dead, it never ran, or it ended by itself. Only then is memory that was lent with a cancelled call the
    /// caller's again. Blocks the calling thread; cancels nothing.
    ///
    /// `false`: not within this time. Also where it cannot be known any more: the supervising process is gone, or this is
    /// a forked copy.
    pub fn wait(&self, timeout: Duration) -> bool {
        match &self.0 {
            None => true,
            Some(_) => self.here().is_some_and(|target| target.wait(timeout)),
        }
    }

    /// [`cancel`](Canceller::cancel), then [`wait`](Canceller::wait). Blocks the calling thread. Who waits for the call has
    /// its outcome before.
    pub fn cancel_and_wait(&self, timeout: Duration) -> bool {
        self.cancel();
        self.wait(timeout)
    }

    /// Nothing in a forked copy: the lock may be held by a thread that does not exist there.
    fn here(&self) -> Option<&Target> {
        self.0.as_ref().filter(|target| target.sent.shared.is_original())
    }
}

impl Target {
    fn cancel(&self) {
        if self.handles.cancel(&self.sent.lane, self.sent.call, self.sent.generation) {
            crash_point!("client.handle.recorded");
            // Its holder, and an app that sleeps there.
            self.sent.line().bell.ring(&Kernel);
        }
    }

    fn wait(&self, timeout: Duration) -> bool {
        let until = clock::after(timeout);
        let mut slice = FIRST_SLICE_NS;
        while self.is_held() {
            let now = clock::monotonic_ns();
            if now >= until || self.sent.shared.arbiter.is_dead() {
                return false;
            }
            let nap = Duration::from_nanos(slice.min(until - now));
            self.sent.line().bell.park(&Kernel, Some(nap), || self.is_held());
            slice = (slice * 2).min(LONGEST_SLICE_NS);
        }
        self.sent.lane.reclaim_abandoned();
        true
    }

    /// Whether somebody may still work on it, or will.
    fn is_held(&self) -> bool {
        if self.handles.act() == Act::Over {
            return false;
        }
        // Where the word makes no sense nobody knows.
        let Ok(word) = self.sent.line().look() else { return true };
        let is_dead = || word.life().is_some_and(|life| self.sent.shared.registry.slot_of(life).is_none());
        word.generation() == self.sent.generation
            && matches!(word.state(), State::Queued | State::Running | State::Abandoned)
            && !is_dead()
    }
}

impl Handles {
    pub(super) fn new() -> Handles {
        Handles(Mutex::new(Act::Nothing))
    }

    pub(super) fn act(&self) -> Act {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line is put back. Waits for a thread that acts right now.
    pub(super) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Act::Over;
    }

    /// The line is damaged: they do nothing more, and what they did stays. Waits as well.
    pub(super) fn lose(&self) {
        let mut act = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *act == Act::Nothing {
            *act = Act::Lost;
        }
    }

    /// Cancels the call if nobody did and it has not ended. Whether it was this that did.
    fn cancel(&self, lane: &Lane, call: usize, generation: Generation) -> bool {
        let mut act = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *act != Act::Nothing {
            return false;
        }
        *act = match lane.line(call).cancel(generation) {
            Ok(Cancel::NeverStarted) => Act::Withdrew,
            Ok(Cancel::Abandoned(_)) => Act::Abandoned,
            // It has ended. Or it is damaged, which is for its holder to find.
            Ok(Cancel::TooLate(_)) | Err(_) => return false,
        };
        crash_point!("client.handle.swapped");
        // Its holder may still have items of its stream, and says when it has not.
        lane.requests.state(call, OwnRecord::Held(generation), Deadline(None));
        true
    }
}

const _: () = {
    const fn shared_by_threads<T: Clone + Send + Sync>() {}
    shared_by_threads::<Canceller>();
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::{AtomicBool, Ordering};
    use crate::ring::Word;
    use crate::shm::{Control, RegionId, Requests};

    const G: Generation = Generation(7);

    fn lane() -> Arc<Lane> {
        let id = RegionId { index: 0, serial: 1 };
        Arc::new(Lane::new(0, 1, Control::create(G).unwrap(), Requests::create().unwrap(), id, 0, G))
    }

    fn submit(lane: &Lane) -> usize {
        let (call, generation) = lane.take().unwrap();
        lane.line(call).publish(generation).unwrap();
        call
    }

    /// It would say of the call that it is held, which nobody takes back any more.
    #[test]
    fn handles_of_a_damaged_line_do_nothing() {
        let lane = lane();
        let call = submit(&lane);
        let handles = lane.handles(call);
        assert!(lane.line(call).claim(G, crate::ring::Life::new(3).unwrap()));
        lane.lose(call);
        lane.requests.state(call, OwnRecord::Cancelled(G), Deadline(None));
        assert!(!handles.cancel(&lane, call, G));
        assert_eq!((handles.act(), lane.requests.own(call).0), (Act::Lost, OwnRecord::Cancelled(G)));
    }

    #[test]
    fn the_first_cancel_counts_and_the_line_waits_for_its_holder() {
        let lane = lane();
        let call = submit(&lane);
        let handles = lane.handles(call);
        assert!(Arc::ptr_eq(&handles, &lane.handles(call)), "one record a call");
        assert!(handles.cancel(&lane, call, G) && !handles.cancel(&lane, call, G));
        assert_eq!((handles.act(), lane.act(call)), (Act::Withdrew, Act::Withdrew));
        assert_eq!(lane.line(call).look(), Ok(Word::idle(G.next())));
        assert_eq!(lane.requests.own(call).0, OwnRecord::Held(G));
        assert_eq!(lane.free_calls(), 63, "a handle does not put it back");
        lane.put_back(call, G.next());
        assert_eq!((handles.act(), lane.act(call)), (Act::Over, Act::Nothing));
    }

    /// Generations come round, and then only the record tells two calls apart (F8).
    #[test]
    fn a_handle_does_not_hit_a_later_call_of_the_same_generation() {
        let lane = lane();
        let call = submit(&lane);
        let late = lane.handles(call);
        assert!(lane.line(call).withdraw(G));
        lane.line(call).reset(G);
        lane.put_back(call, G);
        assert_eq!(submit(&lane), call);
        assert!(!late.cancel(&lane, call, G));
        assert_eq!(lane.line(call).look(), Ok(Word::queued(G)));
        assert!(lane.handles(call).cancel(&lane, call, G), "its own does");
    }

    #[test]
    fn a_line_is_not_put_back_while_a_thread_acts() {
        let lane = lane();
        let call = submit(&lane);
        let handles = lane.handles(call);
        let acts = handles.0.lock().unwrap();
        let is_back = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lane.put_back(call, G);
                is_back.store(true, Ordering::SeqCst);
            });
            std::thread::sleep(Duration::from_millis(50));
            assert!(!is_back.load(Ordering::SeqCst));
            assert_eq!(lane.free_calls(), 63);
            drop(acts);
        });
        assert_eq!(lane.free_calls(), 64);
    }
}
