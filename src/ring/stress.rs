//! The room with real threads: small under Miri, which emulates weak memory and looks for races; larger elsewhere.
//! The payload is relaxed atomics, so that an ordering that is missing shows as an old value.

use super::*;
use crate::primitive::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

const ROUNDS: u32 = if cfg!(miri) { 20 } else { 5_000 };
const CALLS: usize = 4;
const WORKERS: usize = 2;

/// A futex of the standard library's. A sleep that only its bound ends is a lost wake-up.
#[derive(Default)]
pub(super) struct Kernel {
    wakes: Mutex<u64>,
    sleepers: Condvar,
}

impl Futex for Kernel {
    fn wait(&self, word: &AtomicU32, expected: u32, _timeout: Option<Duration>) {
        let start = Instant::now();
        let mut wakes = self.wakes.lock().unwrap();
        if word.load(Ordering::Relaxed) != expected {
            return;
        }
        let before = *wakes;
        while *wakes == before {
            wakes = self.sleepers.wait_timeout(wakes, Duration::from_secs(30)).unwrap().0;
            assert!(start.elapsed() < Duration::from_secs(60), "nobody woke a sleeper");
        }
    }

    fn wake_all(&self, _word: &AtomicU32) {
        *self.wakes.lock().unwrap() += 1;
        self.sleepers.notify_all();
    }
}

struct Pool {
    lines: Vec<CallLine>,
    slots: Vec<AtomicU64>,
    head: AtomicU64,
    tail: AtomicU64,
    pending: Vec<AtomicU64>,
    idle: Vec<AtomicU64>,
    doorbells: Vec<Doorbell>,
    kernel: Kernel,
    stopping: AtomicBool,
    requests: Vec<AtomicU64>,
    results: Vec<AtomicU64>,
}

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Pool {
    fn new() -> Pool {
        // Positions wrap soon.
        let start = u64::MAX - 5;
        Pool {
            lines: (0..CALLS).map(|_| CallLine::new(Generation(u32::MAX - 2))).collect(),
            slots: words(2 * CALLS),
            head: AtomicU64::new(start),
            tail: AtomicU64::new(start),
            pending: words(1),
            idle: words(1),
            doorbells: (0..WORKERS).map(|_| Doorbell::new()).collect(),
            kernel: Kernel::default(),
            stopping: AtomicBool::new(false),
            requests: words(CALLS),
            results: words(CALLS * WORKERS),
        }
    }

    fn queue(&self) -> Queue<'_> {
        Queue {
            lines: &self.lines,
            ring: SubmitRing { head: &self.head, tail: &self.tail, slots: &self.slots },
            pending: Bits(&self.pending),
            index: 7,
        }
    }

    fn ring(&self, parker: usize) {
        self.doorbells[parker].ring(&self.kernel);
    }

    fn work(&self, me: usize) {
        let life = Life::new(me as u16 + 1).unwrap();
        let parker = Parker { idle: Bits(&self.idle), me, doorbell: &self.doorbells[me] };
        let queue = self.queue();
        while !self.stopping.load(Ordering::Acquire) {
            while queue.pending.is_set(queue.index) {
                match queue.take(life) {
                    Taken::Call(entry) => self.serve(me, life, entry),
                    Taken::Nothing => {
                        if queue.quiesce() {
                            wake_idle(parker.idle, |parker| self.ring(parker));
                        }
                    }
                    Taken::Damaged => panic!("a correct ring was called damaged"),
                }
            }
            if let Some(heard) =
                parker.announce(|| queue.pending.any() || self.stopping.load(Ordering::Acquire))
            {
                parker.sleep(heard, &self.kernel, None);
                parker.retract();
            }
        }
    }

    fn serve(&self, me: usize, life: Life, entry: Entry) {
        let place = me * CALLS + entry.call;
        let request = self.requests[entry.call].load(Ordering::Relaxed);
        self.results[place].store(request * 3, Ordering::Relaxed);
        let line = &self.lines[entry.call];
        line.complete(entry.generation, life, place as u64).unwrap();
        line.bell.ring(&self.kernel);
    }

    /// Waits for one call's end; its result, if it was not cancelled.
    fn wait(&self, call: usize, generation: Generation) -> Option<u64> {
        let line = &self.lines[call];
        loop {
            let word = line.look().unwrap();
            match word.state() {
                State::Idle => {
                    assert_eq!(word.generation(), generation.next());
                    return None;
                }
                State::Done => {
                    let result = self.results[line.result() as usize].load(Ordering::Relaxed);
                    line.release(word).unwrap();
                    return Some(result);
                }
                State::Acked => {
                    line.release(word).unwrap();
                    return None;
                }
                State::Lost => panic!("nobody died"),
                _ => line.bell.park(&self.kernel, None, || line.glance() == word.raw()),
            }
        }
    }
}

#[test]
fn calls_and_cancels_with_two_workers() {
    let pool = Pool::new();
    std::thread::scope(|scope| {
        for me in 0..WORKERS {
            let pool = &pool;
            scope.spawn(move || pool.work(me));
        }
        let queue = pool.queue();
        let mut producer = Producer::new(u64::MAX - 5);
        let mut generation = Generation(u32::MAX - 2);
        for round in 0..ROUNDS {
            let value = |call: usize| u64::from(round) * 10 + call as u64;
            for call in 0..CALLS {
                pool.requests[call].store(value(call), Ordering::Relaxed);
                queue.submit(&mut producer, call, generation).unwrap();
                wake_one(Bits(&pool.idle), None, |parker| pool.ring(parker));
            }
            let cancelled = (round as usize) % CALLS;
            let too_late = matches!(pool.lines[cancelled].cancel(generation).unwrap(), Cancel::TooLate(_));
            for call in 0..CALLS {
                let expected = (call != cancelled || too_late).then(|| value(call) * 3);
                assert_eq!(pool.wait(call, generation), expected, "round {round}, call {call}");
            }
            generation = generation.next();
        }
        pool.stopping.store(true, Ordering::Release);
        for doorbell in &pool.doorbells {
            doorbell.ring_always(&pool.kernel);
        }
    });
}

/// A call is claimed once, by a worker on its hot line, one on the ring or one that walks; or it is taken back.
#[test]
fn everybody_wants_the_same_call() {
    let pool = Pool::new();
    let queue = pool.queue();
    let mut producer = Producer::new(u64::MAX - 5);
    for round in 0..ROUNDS.min(300) {
        let generation = Generation((u32::MAX - 2).wrapping_add(round));
        queue.submit(&mut producer, 0, generation).unwrap();
        let claimed: usize = std::thread::scope(|scope| {
            let takes: [fn(&Queue<'_>, Life) -> Taken; 3] =
                [|q, life| q.take(life), |q, life| q.take_line(life, 0), |q, life| q.walk(life, 3)];
            let takers = takes.map(|take| {
                scope.spawn(move || {
                    usize::from(
                        matches!(take(&queue, Life::new(1).unwrap()), Taken::Call(entry) if entry.call == 0),
                    )
                })
            });
            let withdrawn = usize::from(pool.lines[0].withdraw(generation));
            takers.map(|taker| taker.join().unwrap()).iter().sum::<usize>() + withdrawn
        });
        assert_eq!(claimed, 1);
        if pool.lines[0].look().unwrap().state() == State::Running {
            pool.lines[0].complete(generation, Life::new(1).unwrap(), 0).unwrap();
            pool.lines[0].release(pool.lines[0].look().unwrap()).unwrap();
        }
    }
}

/// Both ends of a stream with room for one item sleep on the same bell.
#[test]
fn both_ends_of_a_stream_sleep_on_one_bell() {
    let (bell, kernel) = (Bell::new(), Kernel::default());
    let (head, tail, item) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let wait = |word: &AtomicU64, while_it_is: u64| {
        while word.load(Ordering::Acquire) == while_it_is {
            bell.park(&kernel, None, || word.load(Ordering::Acquire) == while_it_is);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..u64::from(ROUNDS) {
                if n > 0 {
                    wait(&head, n - 1);
                }
                item.store(n * 7, Ordering::Relaxed);
                tail.store(n + 1, Ordering::Release);
                bell.ring(&kernel);
            }
        });
        for n in 0..u64::from(ROUNDS) {
            wait(&tail, n);
            assert_eq!(item.load(Ordering::Relaxed), n * 7);
            head.store(n + 1, Ordering::Release);
            bell.ring(&kernel);
        }
    });
}
