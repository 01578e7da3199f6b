//! Errors of apps: where they arose, who passed them on, and what does not pass for what it is not.

use crate::app::{Faults, builder, call, fails, number};
use crate::guard::PoolGuard;
use crate::harness::Outcome;
use crate::serve::{PATH, end, served};
use stokehold::{App, AppError, Client, Code, Error, Kind};

crate::tests! {
    an_error_names_the_worker_that_it_arose_in,
    an_error_that_is_passed_on_keeps_its_source,
    the_outcome_of_another_call_is_an_error_of_the_apps,
}

fn said(error: &Error) -> AppError {
    match error.kind() {
        Kind::App(said) => said.clone(),
        other => panic!("{other:?}"),
    }
}

/// Its source is the one worker of this client's pool.
fn is_from(said: &AppError, client: &Client) {
    let source = said.source.as_ref().unwrap_or_else(|| panic!("no source: {said:?}"));
    assert_eq!((source.app.as_str(), &[source.pid][..]), (Faults::NAME, &client.worker_pids()[..]));
}

fn an_error_names_the_worker_that_it_arose_in() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut lives = Vec::new();
    for _ in 0..2 {
        let all = [
            call(&client, "fail").execute(),
            call(&client, "panic").execute(),
            call(&client, "later_fail").args((false,)).execute(),
            call(&client, "later_drop").execute(),
            call(&client, "later_panic").args((true,)).execute(),
        ];
        for outcome in all {
            let said = said(&fails(outcome));
            is_from(&said, &client);
            assert!(said.relayed.is_empty());
            lives.push(said.source.unwrap().life);
        }
        // The next incarnation has another number and another process.
        let before = client.worker_pids();
        assert_eq!(fails(call(&client, "kill").execute()).code(), Code::WorkerDied);
        crate::app::ready(&client, 1, &before);
    }
    assert!(
        lives[..5].iter().all(|life| *life == lives[0]) && lives[5..].iter().all(|life| *life == lives[5])
    );
    assert!(lives[0] != 0 && lives[0] != lives[5], "{lives:?}");
    // What the caller did wrong is nobody's.
    let refused = fails(call(&client, "add").args(("x", 1)).execute());
    assert_eq!(refused.code(), Code::BadRequest);
    Ok(())
}

fn an_error_that_is_passed_on_keeps_its_source() -> Outcome {
    let mut guard = PoolGuard::new();
    let (daemon, there) = served(1);
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    assert_eq!(
        number(call(&client, "ask_pool").args((PATH, "pid")).execute()),
        there.worker_pids()[0] as i64
    );
    for action in ["ask_pool", "later_ask_pool"] {
        let error = fails(call(&client, action).args((PATH, "fail")).execute());
        let said = said(&error);
        assert_eq!((said.class.as_str(), said.message.as_str()), ("Fire", "asking there: the boiler is out"));
        is_from(&said, &there);
        let relays: Vec<_> = said.relayed.iter().map(|r| (r.app.as_str(), r.pid)).collect();
        assert_eq!(relays, [(Faults::NAME, client.worker_pids()[0])]);
        let [from, by] =
            [there.worker_pids()[0], client.worker_pids()[0]].map(|pid| format!("of worker {pid}"));
        let text = error.to_string();
        assert!(text.find(&from).unwrap() < text.find(&by).unwrap(), "{text}");
    }
    let error = fails(call(&client, "ask_pool").args((PATH, "panic")).execute());
    let said = said(&error);
    assert!(said.class == "Panic" && said.traceback.contains("app.rs"), "{said:?}");
    is_from(&said, &there);
    drop(there);
    end(daemon);
    Ok(())
}

/// A caller is not told that it made a mistake, or that its time is up, because of a call that the app made.
fn the_outcome_of_another_call_is_an_error_of_the_apps() -> Outcome {
    let mut guard = PoolGuard::new();
    let (daemon, there) = served(1);
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for (action, class) in [("no such action", "BadRequest"), ("nap", "BadRequest"), ("kill", "WorkerDied")] {
        for how in ["ask_pool", "later_ask_pool"] {
            let error = fails(call(&client, how).args((PATH, action)).execute());
            let said = said(&error);
            assert_eq!(said.class, class, "{error}");
            is_from(&said, &client);
            assert!(said.relayed.is_empty(), "{error}");
        }
    }
    drop(there);
    end(daemon);
    Ok(())
}
