//! Models 3: the result block and the result word. Nothing is read before it is complete or reused while it is read.

use super::harness::*;
use loom::thread;
use std::sync::Arc;
use stokehold::internals::primitive::{AtomicU32, Ordering};
use stokehold::internals::ring::{CallLine, Cancel, Completed, State};

/// A worker reuses its block when the word has moved on, and the client has read it by then.
#[test]
fn block_is_complete_when_read_and_reused_only_afterwards() {
    explore("result block", || {
        let call = Arc::new((CallLine::new(G), Block::new(0)));
        call.0.publish(G).unwrap();
        let worker = {
            let call = call.clone();
            thread::spawn(move || {
                let (line, block) = &*call;
                assert!(line.claim(G, life(3)));
                block.write(1);
                assert_eq!(line.complete(G, life(3), 11), Ok(Completed::Done));
                if sabotaged("earlyfree") || line.look().unwrap().generation() != G {
                    block.write(2);
                }
            })
        };
        let (line, block) = &*call;
        let word = line.look().unwrap();
        if word.state() == State::Done {
            assert_eq!((line.result(), block.read()), (11, 1));
            line.release(word).unwrap();
        }
        worker.join().unwrap();
    });
}

/// The result word is the claimer's of this generation, although an abandoned one wrote it late.
#[test]
fn result_word_is_of_its_own_generation() {
    explore("result word", || {
        let line = Arc::new(CallLine::new(G));
        line.publish(G).unwrap();
        assert!(line.claim(G, life(3)));
        assert_eq!(line.cancel(G), Ok(Cancel::Abandoned(life(3))));
        let slow = {
            let line = line.clone();
            thread::spawn(move || line.complete(G, life(3), 11).unwrap())
        };
        let next = {
            let line = line.clone();
            thread::spawn(move || {
                if line.claim(G.next(), life(4)) {
                    line.complete(G.next(), life(4), 22).unwrap();
                }
            })
        };
        let word = line.look().unwrap();
        if word.state() == State::Acked {
            line.release(word).unwrap();
            line.publish(G.next()).unwrap();
            let word = line.look().unwrap();
            if word.state() == State::Done {
                assert_eq!(line.result(), 22);
            }
        }
        slow.join().unwrap();
        next.join().unwrap();
    });
}

/// F1: a lease on a stream item outlives the worker's acknowledgement, so the memory is the worker's again
/// only after the lane's owner moved the generation.
#[test]
fn f1_an_acknowledged_item_is_not_reused_before_the_owner_released() {
    explore("f1", || {
        let call = Arc::new((CallLine::new(G), Block::new(1), AtomicU32::new(0)));
        call.0.publish(G).unwrap();
        assert!(call.0.claim(G, life(3)));
        let worker = {
            let call = call.clone();
            thread::spawn(move || {
                let (line, item, _) = &*call;
                if line.look().unwrap().state() == State::Abandoned {
                    line.acknowledge(G, life(3)).unwrap();
                    if sabotaged("ackfrees") || line.look().unwrap().generation() != G {
                        item.write(2);
                    }
                }
            })
        };
        let lease = {
            let call = call.clone();
            thread::spawn(move || {
                assert_eq!(call.1.read(), 1);
                call.2.store(1, Ordering::Release); // the lease is dropped
            })
        };
        let (line, _, dropped) = &*call;
        line.cancel(G).unwrap();
        if dropped.load(Ordering::Acquire) == 1 {
            let word = line.look().unwrap();
            if word.state() == State::Acked {
                line.release(word).unwrap();
            }
        }
        worker.join().unwrap();
        lease.join().unwrap();
    });
}
