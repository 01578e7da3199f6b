//! Model 10: the index of a lane given to a new client while a worker still has the old lane mapped (F9).
//! The worker compares the index's epoch before it looks, and again after it cleared the bit.

use super::harness::*;
use loom::thread;
use std::sync::Arc;
use stokehold::internals::primitive::{AtomicU32, Ordering};
use stokehold::internals::ring::{Producer, Taken};

#[test]
fn f9_a_worker_does_not_clear_the_bit_of_a_lane_it_has_not_mapped() {
    explore("index reused", || {
        struct Place {
            lanes: [Lane; 2],
            board: Board,
            epoch: AtomicU32,
        }
        let place = Arc::new(Place {
            lanes: [Lane::new(1, 2), Lane::new(1, 2)],
            board: Board::new(1),
            epoch: AtomicU32::new(0),
        });
        place.board.pending().set(0); // left by the old client
        let worker = {
            let place = place.clone();
            thread::spawn(move || {
                let parker = place.board.parker(0);
                let epoch = || place.epoch.load(Ordering::Acquire) as usize;
                let mut mapped = 0;
                loop {
                    while place.board.pending().is_set(0) {
                        if !sabotaged("noepoch") {
                            mapped = epoch();
                        }
                        let queue = place.lanes[mapped].queue(&place.board);
                        match queue.take(life(3)) {
                            Taken::Call(entry) => return entry,
                            Taken::Damaged => panic!("a correct ring was called damaged"),
                            Taken::Nothing => {
                                let current =
                                    || sabotaged("noepoch") || sabotaged("epochonce") || epoch() == mapped;
                                if queue.quiesce_if(current) {
                                    place.board.wake_idle();
                                }
                            }
                        }
                    }
                    if let Some(heard) = parker.announce(|| place.board.pending().any()) {
                        parker.sleep(heard, &place.board.kernels[0], None);
                        parker.retract();
                    }
                }
            })
        };
        // The arbiter gives the index to a new client, which submits.
        place.epoch.store(1, Ordering::Release);
        place.lanes[1].queue(&place.board).submit(&mut Producer::default(), 0, G).unwrap();
        place.board.wake_one(None);
        worker.join().unwrap();
    });
}
