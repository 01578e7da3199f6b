//! A great many of something at once: deaths in one tick, messages without a pause.

use crate::app::{all_free, builder, call, number, ready, works};
use crate::guard::{PoolGuard, Stopped, kill, until};
use crate::harness::Outcome;
use crate::input::{PATIENCE, hello};
use crate::proc;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::shm::layout_hash;
use stokehold::internals::wire::Kind;

crate::tests! {
    a17_sixty_four_workers_die_in_one_tick,
    d15_clients_that_write_without_a_pause_hold_up_nobody,
}

/// Their arbiter hears of all of them in one go: none stays a zombie, each place has a worker again, and nobody's call
/// has to be told of it that came afterwards.
fn a17_sixty_four_workers_die_in_one_tick() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(64));
    let client = pool.client().unwrap();
    let arbiter = pool.arbiter_pid();
    for _ in 0..2 {
        let before = ready(&client, 64, &[]);
        let stopped = Stopped::new(arbiter);
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        let is_zombie = |pid: &u32| proc::process(*pid).is_some_and(|process| process.state == 'Z');
        until("all are dead", || before.iter().all(is_zombie));
        drop(stopped);
        assert_eq!(number(call(&client, "add").args((1, 2)).execute()), 3);
        ready(&client, 64, &before);
        until("none is a zombie", || before.iter().all(|pid| proc::process(*pid).is_none()));
        assert_eq!(proc::session(arbiter).len(), 65, "the arbiter and its workers");
    }
    works(&client);
    all_free(&client);
    Ok(())
}

/// Whoever is read from as long as there is something to read has the arbiter to himself.
fn d15_clients_that_write_without_a_pause_hold_up_nobody() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    // What it needs no answer to, nor to do anything about, many times in one piece: faster than it can be read.
    let frame = bytes_of(Message::new(Kind::Suspect).with("life", 60_000).with("why", "for fun"));
    let flood = frame.repeat(60_000 / frame.len());
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let sockets = [(); 3].map(|()| {
        let socket = UnixStream::from(pool.client_socket().unwrap());
        let mut link = Link::new(socket.try_clone().unwrap().into());
        link.ask(hello(layout_hash()), Kind::Welcome, PATIENCE).unwrap();
        socket
    });
    thread::scope(|scope| {
        for mut socket in sockets {
            let (is_over, written, flood) = (&is_over, &written, &flood);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    socket.write_all(flood).unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let beside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("they are read", || written.load(Ordering::Relaxed) >= 10);
            for _ in 0..5 {
                works(&pool.client().unwrap());
                let before = ready(&client, 2, &[]);
                kill(before[0], Signal::SIGKILL);
                ready(&client, 2, &before[..1]);
                works(&client);
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        beside.unwrap();
    });
    println!("{} bytes were read meanwhile", written.load(Ordering::Relaxed) * flood.len() as u64);
    works(&client);
    all_free(&client);
    Ok(())
}

fn bytes_of(message: Message) -> Vec<u8> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    Link::new(ours.into()).send(message).unwrap();
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).unwrap();
    bytes
}
