//! Contexts: items both ways, and two ends that live together.

use crate::app::{begun, builder, call, fails, number, pattern, ready, until_begun, works};
use crate::guard::{PoolGuard, kill, until};
use crate::harness::Outcome;
use nix::sys::signal::Signal;
use std::thread;
use std::time::Duration;
use stokehold::{Cause, Client, Code, Kill, Kind, Limit};

crate::tests! {
    a_context_starts_and_echoes_and_returns,
    both_directions_at_once_by_two_threads,
    items_to_the_app_are_read_where_they_lie,
    an_error_of_the_app_ends_the_opener,
    a_death_of_the_app_ends_the_opener,
    a_cancel_wakes_an_app_that_waits_for_an_item,
    an_opener_that_finishes_ends_the_loop_of_the_app,
    an_opener_that_gives_up_has_not_finished,
    a_direction_that_is_finished_stays_so,
    a_context_of_a_plain_action_loses_nothing,
    an_action_for_contexts_says_so_to_others,
    a_context_is_started_once,
    a_context_that_could_not_be_started_can_be,
    an_app_that_takes_more_than_was_sent_is_replaced,
    an_app_that_takes_nothing_holds_up_its_opener_only,
    opener_that_sends_to_an_ended_call_is_told,
    opener_that_wants_memory_of_a_dead_arbiter_is_told_of_its_call,
    a_sender_that_only_looks_sees_the_calls_deadline,
    a_lease_that_the_app_has_let_go_of_is_the_senders_again,
}

fn nothing_is_left(client: &Client) {
    works(client);
    until("all calls are free", || client.free_calls() == 64);
}

fn a_context_starts_and_echoes_and_returns() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for n in [0, 1, 5000] {
        let mut context = call(&client, "echo_context").context().unwrap();
        assert_eq!(context.started().unwrap().parse::<(&str, i64)>().unwrap(), ("ready", 7));
        for at in 0..n {
            context.send(at).unwrap();
            assert_eq!(number(context.next().unwrap()), at);
        }
        context.finish();
        assert_eq!(context.send(5).unwrap_err().code(), Code::Closed);
        assert_eq!(number(context.wait()), n);
    }
    nothing_is_left(&client);
    Ok(())
}

fn both_directions_at_once_by_two_threads() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for n in [1, 1000, 50_000] {
        let (mut sender, mut items) = call(&client, "both_ways").args((n,)).context().unwrap().split();
        let sending = thread::spawn(move || (0..n).for_each(|at| sender.send(at).unwrap()));
        let got: Vec<i64> = items.by_ref().map(|item| item.unwrap().parse().unwrap()).collect();
        assert!(got.into_iter().eq(0..n));
        sending.join().unwrap();
        assert_eq!(number(items.wait()), n * (n - 1) / 2);
    }
    nothing_is_left(&client);
    Ok(())
}

fn items_to_the_app_are_read_where_they_lie() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for len in [0, 100, 450, 5000, 100_000, 1_500_000] {
        // Who holds all that may be on its way, and waits for more, waits for ever.
        let (n, most) = if len > 1_000_000 { (20, 1) } else { (200, 5) };
        let mut context = call(&client, "hold_items").args((most,)).context().unwrap();
        for at in 0..n {
            let bytes = pattern(at, len);
            match at % 2 {
                0 => context.send(&bytes[..]).unwrap(),
                _ => context.send(client.lease_from(&bytes).unwrap()).unwrap(),
            }
        }
        assert_eq!(number(context.wait()), n, "{len}");
    }
    nothing_is_left(&client);
    Ok(())
}

fn an_error_of_the_app_ends_the_opener() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "fails_in_context").context().unwrap();
    context.send("x").unwrap();
    assert_eq!(number(context.next().unwrap()), 1);
    let error = fails(context.next().unwrap());
    assert!(matches!(error.kind(), Kind::App(said) if said.class == "Leak"), "{error:?}");
    assert!(context.next().is_none());
    let closed = context.send(1).unwrap_err();
    assert_eq!(closed.code(), Code::Closed);
    drop(context);
    nothing_is_left(&client);
    Ok(())
}

fn a_death_of_the_app_ends_the_opener() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let (mut sender, mut items) = call(&client, "dies_in_context").context().unwrap().split();
    // One that waits for room, too.
    let sending = thread::spawn(move || {
        loop {
            if let Err(error) = sender.send(&[7_u8; 400][..]) {
                break error;
            }
        }
    });
    assert_eq!(number(items.next().unwrap()), 1);
    let error = fails(items.next().unwrap());
    assert_eq!(error.code(), Code::WorkerDied);
    assert_eq!(sending.join().unwrap().code(), Code::Closed);
    drop(items);
    nothing_is_left(&client);
    Ok(())
}

fn a_cancel_wakes_an_app_that_waits_for_an_item() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    let context = call(&client, "waits_in_context").args((10,)).context().unwrap();
    until_begun(10);
    context.cancel();
    until_begun(11);
    // By a handle, while the opener waits.
    let mut context = call(&client, "waits_in_context").args((20,)).context().unwrap();
    until_begun(20);
    let canceller = context.canceller();
    let cancelling = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        canceller.cancel_and_wait(Duration::from_secs(30))
    });
    assert_eq!(fails(context.next().unwrap()).code(), Code::Cancelled);
    drop(context);
    assert!(cancelling.join().unwrap(), "the app has let go");
    assert_eq!((begun(21), begun(22)), (1, 0));
    assert_eq!(number(call(&client, "pid").execute()), before);
    nothing_is_left(&client);
    Ok(())
}

fn an_opener_that_finishes_ends_the_loop_of_the_app() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "waits_in_context").args((10,)).context().unwrap();
    until_begun(10);
    context.finish();
    until_begun(12);
    assert!(!context.wait().unwrap().parse::<bool>().unwrap());
    // A sender that is dropped has finished.
    let (sender, items) = call(&client, "waits_in_context").args((20,)).context().unwrap().split();
    until_begun(20);
    drop(sender);
    assert!(!items.wait().unwrap().parse::<bool>().unwrap());
    nothing_is_left(&client);
    Ok(())
}

/// What a context that is dropped has sent so far is not all that was to be sent.
fn an_opener_that_gives_up_has_not_finished() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for id in (10..3000).step_by(10) {
        let context = call(&client, "waits_in_context").args((id,)).context().unwrap();
        until_begun(id);
        drop(context);
        until("the app was told", || begun(id + 1) + begun(id + 2) > 0);
        assert_eq!(begun(id + 2), 0, "{id}");
    }
    nothing_is_left(&client);
    Ok(())
}

fn a_direction_that_is_finished_stays_so() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "both_ways").args((3,)).context().unwrap();
    assert_eq!(context.by_ref().count(), 3);
    assert!(context.next().is_none());
    assert_eq!(number(context.wait()), 0);
    let mut context = call(&client, "echo_context").context().unwrap();
    context.finish();
    assert_eq!(context.by_ref().count(), 0);
    assert_eq!(number(context.wait()), 0);
    nothing_is_left(&client);
    Ok(())
}

fn a_context_of_a_plain_action_loses_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "add").args((2, 3)).context().unwrap();
    assert!(context.started().is_none());
    assert_eq!(context.send(1).unwrap_err().code(), Code::Closed);
    assert_eq!(number(context.next().unwrap()), 5);
    assert!(context.next().is_none());
    let context = call(&client, "count").args((100,)).context().unwrap();
    assert!(context.map(|item| item.unwrap().parse::<i64>().unwrap()).eq(0..100));
    let error = call(&client, "fail").context().map(drop).unwrap_err();
    assert_eq!(error.code(), Code::App);
    nothing_is_left(&client);
    Ok(())
}

fn an_action_for_contexts_says_so_to_others() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    // The line of an earlier context is no context of this call.
    call(&client, "echo_context").context().unwrap().wait().unwrap();
    let error = fails(call(&client, "echo_context").execute());
    assert!(error.code() == Code::BadRequest && error.to_string().contains("Call::context"), "{error}");
    let mut stream = call(&client, "echo_context").stream().unwrap();
    assert_eq!(fails(stream.next().unwrap()).code(), Code::BadRequest);
    nothing_is_left(&client);
    Ok(())
}

fn a_context_is_started_once() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "starts_twice").context().unwrap();
    assert_eq!(context.started().unwrap().parse::<i64>().unwrap(), 1);
    let error = fails(context.next().unwrap());
    assert!(error.to_string().contains("once"), "{error}");
    drop(context);
    nothing_is_left(&client);
    Ok(())
}

fn a_context_that_could_not_be_started_can_be() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "starts_at_last").context().unwrap();
    assert_eq!(context.started().unwrap().parse::<&str>().unwrap(), "go");
    assert_eq!(number(context.next().unwrap()), 1);
    assert!(context.next().is_none());
    drop(context);
    nothing_is_left(&client);
    Ok(())
}

fn an_app_that_takes_more_than_was_sent_is_replaced() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    // Found when there seems to be no room, and when a lease is looked for that may have come back.
    for large in [false, true] {
        let before = ready(&client, 1, &[]);
        let lease = client.lease_from(&[7; 5000]).unwrap();
        let mut context = call(&client, "takes_too_much").context().unwrap();
        let error = loop {
            let sent = if large { context.send(&lease) } else { context.send(1) };
            if let Err(error) = sent {
                break error;
            }
        };
        assert_eq!(error.code(), Code::Protocol, "{error}");
        assert_eq!(context.send(1).unwrap_err().code(), Code::Protocol, "for good");
        let error = fails(context.next().unwrap());
        assert!(matches!(error.kind(), Kind::WorkerDied { cause: Cause::Corrupt, .. }), "{error:?}");
        drop((context, lease));
        ready(&client, 1, &before);
        nothing_is_left(&client);
    }
    Ok(())
}

fn an_app_that_takes_nothing_holds_up_its_opener_only() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let mut context = call(&client, "deaf_context").args((1,)).deadline_ms(20_000).context().unwrap();
    until_begun(1);
    let mut sent = 0;
    let error = loop {
        match context.send_for(&[7_u8; 100][..], Duration::from_millis(50)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), Kind::Deadline { limit: Limit::Item, .. }), "{error:?}");
    assert!(sent > 50, "{sent}");
    works(&client);
    // Large ones have a bound of their own.
    context.cancel();
    let mut context = call(&client, "deaf_context").args((2,)).context().unwrap();
    until_begun(2);
    let lease = client.lease_from(&vec![7; 5_000_000]).unwrap();
    context.send(&lease).unwrap();
    let error = context.send_for(&lease, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error.kind(), Kind::Deadline { limit: Limit::Item, .. }), "{error:?}");
    drop((context, lease));
    nothing_is_left(&client);
    Ok(())
}

fn a_sender_that_only_looks_sees_the_calls_deadline() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "deaf_context").args((1,)).deadline_ms(1_500).context().unwrap();
    let kind = crate::guard::some("the call's own deadline", || {
        let error = context.send_for(&[7_u8; 400][..], Duration::ZERO).err()?;
        let is_own = !matches!(error.kind(), Kind::Deadline { limit: Limit::Item, .. });
        is_own.then(|| error.kind().clone())
    });
    assert!(matches!(kind, Kind::Deadline { started: true, limit: Limit::Call }), "{kind:?}");
    drop(context);
    nothing_is_left(&client);
    Ok(())
}

fn a_lease_that_the_app_has_let_go_of_is_the_senders_again() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "echo_context").context().unwrap();
    let mut lease = client.lease_from(&[7; 5000]).unwrap();
    for round in 0..3 {
        lease.try_as_mut().unwrap()[0] = round;
        context.send(&lease).unwrap();
        assert!(lease.try_as_mut().is_none());
        let echo = context.next().unwrap().unwrap();
        assert_eq!(echo.as_bytes().unwrap()[0], round);
        context.reclaim().unwrap();
    }
    drop((context, lease));
    nothing_is_left(&client);
    Ok(())
}

fn opener_that_sends_to_an_ended_call_is_told() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "echo_context").deadline_ms(1_500).context().unwrap();
    thread::sleep(Duration::from_millis(1_600));
    let error = fails(context.next().unwrap());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, limit: Limit::Call }), "{error:?}");
    assert_eq!(context.send(1).unwrap_err().code(), Code::Closed);
    drop(context);
    nothing_is_left(&client);
    Ok(())
}

/// The call had begun, or it has ended by that: not what a call hears that is sent now.
fn opener_that_wants_memory_of_a_dead_arbiter_is_told_of_its_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let large = [0_u8; 5_000_000];
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut context = call(&client, "echo_context").context().unwrap();
    kill(pool.arbiter_pid(), Signal::SIGKILL);
    let error = context.send(&large[..]).unwrap_err();
    assert!(matches!(error.kind(), Kind::ArbiterDied { started: true }), "{error}");
    assert!(matches!(fails(context.wait()).kind(), Kind::ArbiterDied { started: true }));
    let pool = guard.start(builder(1).stop_grace_ms(0));
    let client = pool.client().unwrap();
    let mut context = call(&client, "echo_context").context().unwrap();
    pool.shutdown().unwrap();
    assert_eq!(context.send(&large[..]).unwrap_err().code(), Code::Closed);
    let error = fails(context.wait());
    let by_us = |cause: &Cause| *cause == Cause::KilledByUs(Kill::Shutdown);
    assert!(matches!(error.kind(), Kind::WorkerDied { cause, started: true, .. } if by_us(cause)), "{error}");
    Ok(())
}
