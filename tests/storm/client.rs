//! A client process of the storm: two threads with calls of all kinds, until it is told to end, or killed.

use super::app::Storm;
use super::journal::{Event, Journal};
use super::keyed::{Random, item, keyed};
use super::law::{ASKS, CONTEXT, MAY_END, PLAIN, STREAM, limited};
use super::verdict::Verdict;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use stokehold::internals::sys::poll;
use stokehold::{App, Client, Code, Error, Kind, Options, Pending, Response, Result, Stream};

/// Longer than anything takes: whoever reaches it hangs.
pub const HUNG_MS: u64 = 20_000;
const THREADS: u64 = 2;
/// The exit status of one that could not connect.
pub const UNCONNECTED: i32 = 3;

pub fn live(path: &str, number: u64, seed: u64) -> i32 {
    live_with(path, number, seed, Options::default())
}

pub fn live_with(path: &str, number: u64, seed: u64, options: Options) -> i32 {
    let client = match Client::connect_path(path, options) {
        Ok(client) => client,
        Err(_) => return UNCONNECTED, // whoever supervises may be gone
    };
    call_on(&client, number, seed);
    Journal::ours().add(Event::Left, number, 0);
    0
}

/// Calls until it is told to end.
pub fn call_on(client: &Client, number: u64, seed: u64) {
    let looping = Mutex::new(());
    thread::scope(|scope| {
        for t in 0..THREADS {
            let looping = &looping;
            scope.spawn(move || {
                let mut caller = Caller {
                    client,
                    looping,
                    journal: Journal::ours(),
                    next: number << 32 | t << 28,
                    random: Random(seed ^ number << 8 ^ t),
                };
                while !caller.journal.is_stopped() && caller.turn().is_none() {}
            });
        }
    });
}

struct Caller<'c> {
    client: &'c Client,
    /// A client has one queue of completions at a time.
    looping: &'c Mutex<()>,
    journal: &'static Journal,
    next: u64,
    random: Random,
}

/// The pool is no more.
struct Over;

fn is_over(error: &Error) -> bool {
    matches!(error.code(), Code::ArbiterDied | Code::ShuttingDown)
}

impl Caller<'_> {
    /// Some calls.
    fn turn(&mut self) -> Option<Over> {
        self.journal.heed();
        thread::sleep(Duration::from_micros(self.random.below(200)));
        match self.random.below(20) {
            0..=5 => self.batch(),
            6 => self.gathered(),
            7..=9 => self.stream(None),
            10 | 11 => {
                let most = self.random.below(40);
                self.stream(Some(most))
            }
            12 | 13 => self.context(None),
            14 => {
                let most = self.random.below(10);
                self.context(Some(most))
            }
            15 => self.looped(),
            16 | 17 => self.asks(),
            18 => self.late(),
            _ if self.random.below(10) == 0 => self.leaves(),
            _ => self.cancelled(),
        }
    }

    fn issue(&mut self, way: u64) -> u64 {
        self.next += 1;
        self.journal.add(Event::Issued, self.next, way);
        self.next
    }

    /// Writes down the one outcome.
    fn ended<T>(&self, id: u64, outcome: &Result<T>) -> Option<Over> {
        self.journal.add(Event::Outcome, id, Verdict::of(outcome).pack());
        outcome.as_ref().err().is_some_and(is_over).then_some(Over)
    }

    fn wrong(&self, id: u64, at: u64) {
        self.journal.add(Event::Wrong, id, at);
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = [8, 100, 600, 5_000, 70_000][self.random.below(5) as usize];
        item(self.next, 0, len)
    }

    /// Some at a time, so that some wait; some lent.
    fn batch(&mut self) -> Option<Over> {
        let calls: Vec<(u64, Vec<u8>, Result<Pending>)> = (0..1 + self.random.below(4))
            .map(|_| {
                let id = self.issue(PLAIN);
                let (bytes, us) = (self.bytes(), self.random.below(300));
                let action = if self.random.below(4) == 0 { "later" } else { "work" };
                let call = self.client.call(Storm::NAME, action);
                let pending = match self.random.below(3) {
                    0 => self
                        .client
                        .lease_from(&bytes)
                        .and_then(|lease| call.args((id as i64, lease, us)).deadline_ms(HUNG_MS).submit()),
                    _ => call.args((id as i64, &bytes[..], us)).deadline_ms(HUNG_MS).submit(),
                };
                (id, bytes, pending)
            })
            .collect();
        let mut over = None;
        for (id, bytes, pending) in calls {
            let outcome = pending.and_then(|pending| pending.wait()).and_then(|r| r.parse::<i64>());
            if outcome.as_ref().is_ok_and(|result| *result != keyed(id, &bytes)) {
                self.wrong(id, 0);
            }
            over = over.or(self.ended(id, &outcome));
        }
        over
    }

    fn gathered(&mut self) -> Option<Over> {
        let (id, n) = (self.issue(STREAM), self.random.below(60));
        let call = self.client.call(Storm::NAME, "stream").args((id as i64, n, 2_000_usize));
        let outcome = call.deadline_ms(HUNG_MS).execute().and_then(Response::into_owned);
        if let Ok(all) = &outcome {
            // The items, and how many they were.
            let all = all.as_list().unwrap_or_default();
            if all.len() as u64 != n + 1 {
                self.wrong(id, all.len() as u64);
            }
            for (at, got) in (0..n).zip(all) {
                if got.as_bytes() != Some(&item(id, at, 2_000)[..]) {
                    self.wrong(id, at);
                }
                self.journal.add(Event::Got, id, at);
            }
        }
        self.ended(id, &outcome)
    }

    /// To the end, or given up after so many items.
    fn stream(&mut self, most: Option<u64>) -> Option<Over> {
        let id = self.issue(STREAM | if most.is_some() { MAY_END } else { 0 });
        let (n, len) = (self.random.below(150), [100, 3_000, 40_000][self.random.below(3) as usize]);
        let call = self.client.call(Storm::NAME, "stream").args((id as i64, n, len));
        let opened = call.deadline_ms(HUNG_MS).stream();
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return self.ended(id, &Err::<(), _>(error)),
        };
        let outcome = self.read(id, len, most, &mut stream);
        if let Ok(Some(count)) = outcome
            && (count != n || stream.value().and_then(|value| value.parse::<i64>().ok()) != Some(n as i64))
        {
            self.wrong(id, count);
        }
        self.ended(id, &outcome)
    }

    /// How many items came in order until the end; `None` if it was given up.
    fn read(&mut self, id: u64, len: usize, most: Option<u64>, stream: &mut Stream) -> Result<Option<u64>> {
        let (mut count, mut held) = (0, Vec::new());
        loop {
            if most == Some(count) {
                return Ok(None);
            }
            self.journal.heed();
            let Some(got) = stream.next() else { break };
            let got = match got {
                Ok(got) => got,
                Err(error) => {
                    if stream.next().is_some() {
                        self.wrong(id, count);
                    }
                    self.check_held(id, len, &held);
                    return Err(error);
                }
            };
            if got.as_bytes().ok() != Some(&item(id, count, len)[..]) {
                self.wrong(id, count);
            }
            self.journal.add(Event::Got, id, count);
            if count % 8 == 3 {
                held.push((count, got));
            }
            if held.len() > 3 {
                drop(held.swap_remove(self.random.below(3) as usize));
            }
            count += 1;
        }
        self.check_held(id, len, &held);
        Ok(Some(count))
    }

    fn check_held(&self, id: u64, len: usize, held: &[(u64, Response)]) {
        for (at, held) in held {
            if held.as_bytes().ok() != Some(&item(id, *at, len)[..]) {
                self.wrong(id, *at);
            }
        }
    }

    /// Both ways, or dropped after so many items.
    fn context(&mut self, most: Option<u64>) -> Option<Over> {
        let id = self.issue(CONTEXT | if most.is_some() { MAY_END } else { 0 });
        let (n, len) =
            (most.unwrap_or(self.random.below(60)), [100, 3_000, 20_000][self.random.below(3) as usize]);
        let outcome = self.talk(id, n, len, most.is_some());
        self.ended(id, &outcome)
    }

    fn talk(&mut self, id: u64, n: u64, len: usize, gives_up: bool) -> Result<()> {
        let call = self.client.call(Storm::NAME, "context").args((id as i64, len));
        let mut context = call.deadline_ms(HUNG_MS).context()?;
        if context.started().and_then(|first| first.parse::<i64>().ok()) != Some(id as i64) {
            self.wrong(id, u64::MAX);
        }
        let (mut sent, mut got) = (0, 0);
        let failed = loop {
            self.journal.heed();
            if sent < n {
                self.journal.add(Event::SendBack, id, sent);
                let bytes = item(!id, sent, len);
                let pushed = match sent % 3 {
                    1 => match self.client.lease_from(&bytes) {
                        Ok(lease) => context.send(lease),
                        // That of the lease, of which this call knows nothing.
                        Err(error) if is_over(&error) => Err(Kind::Closed.into()),
                        Err(error) => Err(error),
                    },
                    _ => context.send(&bytes[..]),
                };
                match pushed {
                    Ok(()) => sent += 1,
                    // The outcome comes from the other direction.
                    Err(error) if error.code() == Code::Closed => break None,
                    Err(error) => break Some(error),
                }
            }
            if sent == n {
                if gives_up {
                    return Ok(());
                }
                context.finish();
            }
            if got < sent && (sent == n || sent - got > 5) {
                match context.next() {
                    Some(Ok(back)) => {
                        if back.as_bytes().ok() != Some(&item(id, got, len)[..]) {
                            self.wrong(id, got);
                        }
                        self.journal.add(Event::Got, id, got);
                        got += 1;
                    }
                    Some(Err(error)) => return Err(error),
                    None => {
                        self.wrong(id, got);
                        return Ok(());
                    }
                }
            }
            if got == n {
                break None;
            }
        };
        if let Some(error) = failed {
            context.cancel();
            return Err(error);
        }
        let all_was_well = got == n;
        let count = loop {
            match context.next() {
                Some(Ok(back)) if !all_was_well => {
                    if back.as_bytes().ok() != Some(&item(id, got, len)[..]) {
                        self.wrong(id, got);
                    }
                    got += 1;
                }
                Some(Ok(_)) => self.wrong(id, got),
                Some(Err(error)) => return Err(error),
                None => break context.wait()?.parse::<i64>()?,
            }
        };
        if count != n as i64 || !all_was_well {
            self.wrong(id, count as u64);
        }
        Ok(())
    }

    /// In a host's event loop.
    fn looped(&mut self) -> Option<Over> {
        let Ok(_alone) = self.looping.try_lock() else { return None };
        let completions = match self.client.completions() {
            Ok(completions) => completions,
            Err(error) => {
                let id = self.issue(STREAM);
                return self.ended(id, &Err::<(), _>(error));
            }
        };
        let (mut counts, mut over, mut left) = ([0_u64; 4], None, 0);
        let calls: Vec<(u64, u64)> = (0..4).map(|_| (self.issue(STREAM), self.random.below(40))).collect();
        for (token, (id, n)) in calls.iter().enumerate() {
            let call = self.client.call(Storm::NAME, "stream").args((*id as i64, *n, 500_usize));
            match call.deadline_ms(HUNG_MS).stream_to(&completions, token as u64) {
                Ok(()) => left += 1,
                Err(error) => over = over.or(self.ended(*id, &Err::<(), _>(error))),
            }
        }
        while left > 0 {
            let Some(done) = completions.next_completion() else {
                // A wake-up that is lost is a call that ends late, which its deadline tells of.
                let _ = poll::readable(completions.as_fd(), Some(Duration::from_millis(HUNG_MS)));
                continue;
            };
            let (id, n) = calls[done.token as usize];
            let count = &mut counts[done.token as usize];
            match done.outcome {
                Ok(got) if done.more => {
                    if got.as_bytes().ok() != Some(&item(id, *count, 500)[..]) {
                        self.wrong(id, *count);
                    }
                    self.journal.add(Event::Got, id, *count);
                    *count += 1;
                }
                outcome => {
                    if outcome.is_ok() && *count != n {
                        self.wrong(id, *count);
                    }
                    left -= 1;
                    over = over.or(self.ended(id, &outcome));
                }
            }
        }
        over
    }

    fn asks(&mut self) -> Option<Over> {
        let id = self.issue(ASKS);
        let bytes = self.bytes();
        let call = self.client.call(Storm::NAME, "ask").args((id as i64, &bytes[..]));
        let outcome = call.deadline_ms(HUNG_MS).execute().and_then(|r| r.parse::<i64>());
        if outcome.as_ref().is_ok_and(|result| *result != keyed(id | super::app::NESTED, &bytes)) {
            self.wrong(id, 0);
        }
        self.ended(id, &outcome)
    }

    /// Its worker has what was lent until it lets go, long after the caller has its answer.
    fn late(&mut self) -> Option<Over> {
        self.next += 1;
        let (id, bytes) = (self.next, self.bytes());
        let lent = self.client.lease_from(&bytes);
        let call = self.client.call(Storm::NAME, "work");
        let (way, call) = if self.random.below(2) == 0 {
            (limited(PLAIN | MAY_END, 1), call.deadline_ms(1))
        } else {
            (PLAIN | MAY_END, call.queue_ms(1).deadline_ms(HUNG_MS))
        };
        // Its limit counts from here.
        self.journal.add(Event::Issued, id, way);
        let outcome = lent.and_then(|lent| call.args((id as i64, lent, 3_000)).execute());
        self.ended(id, &outcome.map(drop))
    }

    fn leaves(&mut self) -> Option<Over> {
        let id = self.issue(PLAIN);
        let outcome =
            self.client.call(Storm::NAME, "leave").args((id as i64,)).deadline_ms(HUNG_MS).execute();
        self.ended(id, &outcome.map(drop))
    }

    fn cancelled(&mut self) -> Option<Over> {
        let id = self.issue(PLAIN | MAY_END);
        let (bytes, us) = (self.bytes(), self.random.below(500));
        let call = self.client.call(Storm::NAME, "work");
        let lent = self.client.lease_from(&bytes);
        let submitted = lent.and_then(|lent| call.args((id as i64, lent, us)).deadline_ms(HUNG_MS).submit());
        let outcome = match submitted {
            Ok(pending) => {
                pending.canceller().cancel();
                pending.wait().map(drop)
            }
            Err(error) => Err(error),
        };
        self.ended(id, &outcome)
    }
}
