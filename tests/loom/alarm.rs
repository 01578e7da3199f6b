//! Models 8: the alarm of a worker's control thread. Whatever was asked for in time is looked at in time: the clock is
//! never left at a time after the earliest one that nobody has looked at.

use super::harness::*;
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use stokehold::internals::primitive::{AtomicU64, Ordering};
use stokehold::internals::ring::{Alarm, Clock};

/// A timer: the last setting counts.
struct Timer(Mutex<u64>);

impl Clock for Timer {
    fn set(&self, at_ns: u64) {
        *self.0.lock().unwrap() = at_ns;
    }
}

struct Watch {
    alarm: Alarm,
    timer: Timer,
    /// The deadline of what each thread runs, 0 for nothing.
    runs: Vec<AtomicU64>,
}

impl Watch {
    fn new(threads: usize) -> Arc<Watch> {
        let runs = (0..threads).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Watch { alarm: Alarm::new(), timer: Timer(Mutex::new(u64::MAX)), runs })
    }

    fn begin(&self, thread: usize, deadline: u64) {
        self.runs[thread].store(deadline, Ordering::Release);
        self.alarm.ask(deadline, &self.timer);
    }

    /// What the control thread does when it is awake.
    fn look(&self) {
        self.alarm.rest();
        let earliest = self.runs.iter().map(|run| run.load(Ordering::Acquire)).filter(|&at| at != 0).min();
        if let Some(at) = earliest {
            self.alarm.ask(at, &self.timer);
        }
    }

    fn is_watched(&self) -> bool {
        let set = *self.timer.0.lock().unwrap();
        self.runs.iter().map(|run| run.load(Ordering::Acquire)).all(|at| at == 0 || set <= at)
    }
}

/// A thread begins with a call while the control thread, woken for an earlier one that is over, decides to sleep.
#[test]
fn alarm_is_set_for_a_call_that_begins_while_the_watcher_goes_to_sleep() {
    explore("begin against look", || {
        let watch = Watch::new(1);
        watch.begin(0, 5);
        watch.runs[0].store(0, Ordering::Release); // that was soon over
        let app = {
            let watch = watch.clone();
            thread::spawn(move || watch.begin(0, 9))
        };
        *watch.timer.0.lock().unwrap() = u64::MAX; // it fired
        watch.look();
        app.join().unwrap();
        assert!(watch.is_watched(), "nobody looks at a call that runs");
    });
}

/// Two threads begin at once, and one of them sets the clock after the other.
#[test]
fn alarm_of_two_threads_is_the_earlier_one() {
    explore("begin against begin", || {
        let watch = Watch::new(2);
        let app = {
            let watch = watch.clone();
            thread::spawn(move || watch.begin(0, 5))
        };
        watch.begin(1, 9);
        app.join().unwrap();
        assert!(watch.is_watched(), "the later time won");
    });
}
