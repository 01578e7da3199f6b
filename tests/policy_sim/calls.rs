//! The calls that callers gave up, as the world knows them, and the laws of what may be done about them.

use super::ANSWER_NS;
use std::collections::BTreeMap;
use stokehold::internals::pool::{CallId, Config, Life};

/// One of them.
#[derive(Debug)]
struct Call {
    life: Life,
    since: u64,
    let_go: bool,
    asked: Option<u64>,
    answered: bool,
    signalled: bool,
}

impl Call {
    fn costs(&self, life: Life, now: u64, config: &Config) -> bool {
        let is_told = now >= self.since + config.cancel_grace_ns;
        let is_signalled = self.asked.is_some_and(|at| now >= at + config.signal_grace_ns);
        self.life == life && is_told && (is_signalled || config.cancel_signal.is_none())
    }
}

/// All of them, those that are over among them while their worker lives.
#[derive(Debug, Default)]
pub struct Calls(BTreeMap<CallId, Call>);

impl Calls {
    pub fn found(&mut self, life: Life, call: CallId, now: u64) {
        let new = Call { life, since: now, let_go: false, asked: None, answered: false, signalled: false };
        self.0.entry(call).or_insert(new);
    }

    pub fn let_go(&mut self, call: CallId) {
        self.0.get_mut(&call).into_iter().for_each(|it| it.let_go = true);
    }

    /// Whether its worker has let go of it.
    pub fn is_over(&self, call: CallId) -> bool {
        self.0.get(&call).is_some_and(|it| it.let_go)
    }

    pub fn answered(&mut self, call: CallId) {
        self.0.get_mut(&call).into_iter().for_each(|it| it.answered = true);
    }

    /// The worker is asked for its signal: after the grace of the word, once, and while it has the call.
    pub fn ask(&mut self, life: Life, call: CallId, now: u64, config: &Config) {
        let it = self.0.get_mut(&call).expect("a call that nobody gave up");
        assert!(config.cancel_signal.is_some());
        assert!(it.life == life && !it.let_go && it.asked.is_none(), "asked about {it:?}");
        assert!(now >= it.since + config.cancel_grace_ns, "no time to heed the word: {it:?} at {now}");
        it.asked = Some(now);
    }

    /// Its process gets the signal: only where it did not answer.
    pub fn signal(&mut self, life: Life, now: u64) {
        let is_due = |it: &&mut Call| {
            it.life == life && !it.let_go && !it.answered && !it.signalled && {
                it.asked.is_some_and(|at| now >= at + ANSWER_NS)
            }
        };
        self.0.values_mut().find(is_due).expect("a worker that answered, or was not asked").signalled = true;
    }

    /// Whether a call is reason enough to cordon its worker, or was.
    pub fn costs(&self, life: Life, now: u64, config: &Config) -> bool {
        self.0.values().any(|it| it.costs(life, now, config))
    }

    /// Whether a call that is not over is.
    pub fn cost_now(&self, life: Life, now: u64, config: &Config) -> bool {
        self.0.values().any(|it| !it.let_go && it.costs(life, now, config))
    }

    /// Whether a call of this worker was answered with the signal, or may have been.
    pub fn may_have_killed(&self, life: Life) -> bool {
        self.0.values().any(|it| it.life == life && it.asked.is_some())
    }

    /// The number of this life may come round.
    pub fn bury(&mut self, life: Life) {
        self.0.retain(|_, it| it.life != life);
    }
}
