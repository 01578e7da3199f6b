//! Model 9: a pool that closes, or has no workers left, while a client submits (F4). Either the sweep sees
//! the word or the client sees the state; the call ends once.

use super::harness::*;
use loom::thread;
use std::sync::Arc;
use stokehold::internals::primitive::{AtomicU32, Ordering};
use stokehold::internals::ring::{Producer, Reason, State};

#[test]
fn f4_a_closing_pool_leaves_no_call_queued() {
    for bit_left in [false, true] {
        close_against_submit(bit_left);
    }
}

/// With a pending bit left set the client sets none, and has only the fence after its entry.
fn close_against_submit(bit_left: bool) {
    explore(&format!("close against submit, bit left {bit_left}"), move || {
        let pool = Arc::new((Lane::new(1, 2), Board::new(0), AtomicU32::new(0)));
        if bit_left {
            pool.1.pending().set(0);
        }
        let arbiter = {
            let pool = pool.clone();
            thread::spawn(move || {
                let (lane, board, closed) = &*pool;
                let queue = lane.queue(board);
                let mut refused = 0;
                if !sabotaged("sweepfirst") {
                    closed.store(1, Ordering::Relaxed);
                    full_fence("nofence_close"); // SYNC POINT: close
                }
                queue.refuse_all(Reason::ShuttingDown, |_| refused += 1).unwrap();
                if sabotaged("sweepfirst") {
                    closed.store(1, Ordering::Relaxed);
                }
                refused
            })
        };
        let (lane, board, closed) = &*pool;
        let mut mine = 0;
        let early = closed.load(Ordering::Relaxed) != 0;
        lane.queue(board).submit(&mut Producer::default(), 0, G).unwrap();
        let late = closed.load(Ordering::Relaxed) != 0;
        if if sabotaged("checkfirst") { early } else { late } {
            mine += usize::from(lane.lines[0].refuse(G, Reason::ShuttingDown));
        }
        assert_eq!(mine + arbiter.join().unwrap(), 1, "one refusal");
        assert_eq!(lane.lines[0].look().unwrap().state(), State::Lost);
    });
}
