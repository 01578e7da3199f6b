//! The control thread of a worker once it is ready: it listens to the arbiter, and watches what the app threads run.
//!
//! A worker that still has a call some time after its deadline takes no more: it says so to the arbiter, which starts
//! another in its place and kills it after the grace time. What is stopped or too damaged to say so is found by the
//! arbiter's tick.

use super::boot::INTERNAL_ERROR;
use super::runtime::Worker;
use crate::conn::{Link, Message, Received, Stream};
use crate::error::Result;
use crate::limits::{INLINE_LEN, MAX_WORKER_THREADS};
use crate::primitive::{AtomicUsize, Ordering};
use crate::ring::{Alarm, Clock, Generation, State};
use crate::shm::{BeginRecord, Begun, Body};
use crate::sys::timer::Timer;
use crate::sys::{clock, poll, process, signal, socket};
use crate::wire::{Kind, Reference, RequestRef, Resolve, WireError};
use std::os::fd::AsFd;

/// What the control thread sleeps on, apart from its socket.
#[derive(Debug)]
pub(super) struct Watch {
    alarm: Alarm,
    timer: Timer,
    /// How long after its deadline a call may go on before it costs its worker.
    late_ns: u64,
    /// App threads that have not ended.
    serving: AtomicUsize,
}

impl Watch {
    pub(super) fn new(threads: usize, late_ns: u64) -> Result<Watch> {
        Ok(Watch { alarm: Alarm::new(), timer: Timer::new()?, late_ns, serving: AtomicUsize::new(threads) })
    }

    /// A call with this deadline was begun; its begin record says so.
    #[inline]
    pub(super) fn ask(&self, deadline_ns: u64) {
        self.alarm.ask(deadline_ns.saturating_add(self.late_ns), &self.timer);
    }

    /// An app thread has ended.
    pub(super) fn ended(&self) {
        self.serving.fetch_sub(1, Ordering::AcqRel);
        self.look_now();
    }

    /// The control thread has to look.
    pub(super) fn look_now(&self) {
        self.alarm.ask(0, &self.timer);
    }
}

impl Clock for Timer {
    fn set(&self, at_ns: u64) {
        // Our own timer, and a valid time. Were it not set, the arbiter's tick would do its work.
        if let Err(error) = Timer::set(self, at_ns) {
            log::warn!("{error}");
        }
    }
}

impl Worker {
    /// The control thread, from READY until the worker may leave: it was told to, or it cordoned itself, and all that it
    /// runs is done. Without its arbiter a worker ends at once.
    pub(super) fn attend(&self, control: Link) -> Result<()> {
        let mut control = control.into_stream();
        socket::set_nonblocking(control.fd(), true)?;
        let (mut leaves, mut cordoned) = (false, false);
        loop {
            if self.listen(&mut control)? {
                leaves = true;
                crash_point!("worker.stop.told");
                self.stop();
            }
            self.watch.timer.drain();
            self.watch.alarm.rest();
            if let Some(late) = self.overdue(clock::monotonic_ns()).filter(|_| !cordoned) {
                cordoned = true;
                let message = Message::new(Kind::Notice).with("late", self.describe(&late));
                control.queue(message)?;
                // Said before any thread ends: the arbiter takes that for a death otherwise.
                control.flush()?;
                self.stop();
            }
            if (leaves || cordoned) && self.is_over() {
                crash_point!("worker.stop.over");
                return Ok(());
            }
            poll::any([control.fd(), self.watch.timer.as_fd()], None)?;
        }
    }

    /// Whether nothing runs any more: no app thread, no deferred call.
    fn is_over(&self) -> bool {
        let deferred = &self.results.begin_records()[MAX_WORKER_THREADS..];
        self.watch.serving.load(Ordering::Acquire) == 0
            && deferred.iter().all(|record| record.read().is_none())
    }

    /// Takes what the arbiter said. Whether this worker is to leave.
    fn listen(&self, control: &mut Stream) -> Result<bool> {
        let mut leaves = false;
        loop {
            while let Some(message) = control.next()? {
                match message.kind {
                    Kind::Stop => leaves = true,
                    Kind::Tidy => {
                        for region in self.tidy() {
                            control.queue(Message::retire(region.id.index, region.id.serial))?;
                        }
                        control.flush()?;
                    }
                    Kind::Interrupt => {
                        let signal = signal::from_number(message.int("signal")?)?;
                        let (lane, call) = (message.bits("lane")?, message.int("call")?);
                        self.interrupt(lane, call, Generation(message.int("generation")?), signal);
                        control.queue(message)?; // as it came: the answer
                        control.flush()?;
                    }
                    other => log::debug!("a worker has no use for a message {other:?}"),
                }
            }
            match control.read()? {
                Received::Some => {}
                Received::WouldBlock => return Ok(leaves),
                Received::End => process::exit_now(INTERNAL_ERROR),
            }
        }
    }

    /// Looks at everything that is run, and asks to be woken for the earliest deadline. A call that is too late, if there
    /// is one.
    fn overdue(&self, now: u64) -> Option<Begun> {
        let mut late = None;
        let mut next: Option<u64> = None;
        for begun in self.results.begin_records().iter().filter_map(BeginRecord::read) {
            let Some(deadline) = begun.deadline_ns else { continue };
            if now < deadline.saturating_add(self.watch.late_ns) {
                next = clock::earlier(next, Some(deadline));
            } else if self.has(&begun) {
                late = Some(begun);
            }
        }
        if let Some(deadline) = next {
            self.watch.ask(deadline);
        }
        late
    }

    /// Whether the word says so, too: the record of a thread that lives may be a mixture of two calls. Where there is no
    /// word to go by, the lane being damaged, the record has to do.
    fn has(&self, begun: &Begun) -> bool {
        let lane = self.lanes.of(begun.lane);
        let line = lane.as_ref().and_then(|lane| lane.control.lines().get(begun.call));
        line.and_then(|line| line.look().ok()).is_none_or(|word| {
            matches!(word.state(), State::Running | State::Abandoned)
                && word.generation() == begun.generation
                && word.life() == Some(self.life)
        })
    }

    /// Which call it is, for people.
    fn describe(&self, late: &Begun) -> String {
        let now = clock::monotonic_ns();
        let ms = |since: u64| now.saturating_sub(since) / 1_000_000;
        let what = self.name_of(late).unwrap_or_else(|| "a call".to_owned());
        let past = ms(late.deadline_ns.unwrap_or(now));
        format!("{what} has run for {} ms and is {past} ms past its deadline", ms(late.since_ns))
    }

    /// App and action of a call, where its record shows them without more ado.
    fn name_of(&self, begun: &Begun) -> Option<String> {
        let lane = self.lanes.of(begun.lane)?;
        let record = lane.requests.record(begun.call);
        let Some(Body::Inline(len)) = record.body() else { return None };
        let mut room = [0; INLINE_LEN];
        let request = RequestRef::decode(record.copy_inline(len, &mut room), &Unread).ok()?;
        Some(format!("{} {}", request.app, request.action))
    }
}

/// For who reads a request's names and none of its arguments.
struct Unread;

impl Resolve for Unread {
    fn resolve(&self, _: Reference) -> std::result::Result<&[u8], WireError> {
        Ok(&[])
    }
}
