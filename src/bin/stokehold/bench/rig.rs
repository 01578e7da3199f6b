//! A running pool of the demo app in a placement, with a client.

use super::place::Place;
use crate::demo::Demo;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use stokehold::internals::sys::process::Pid;
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{clock, cpu, pidfd};
use stokehold::{App, Builder, Client, Error, Mode, Pool, Result};

/// Pool and client. The pool is killed when this is dropped.
#[derive(Debug)]
pub struct Rig {
    pub client: Client,
    pub pool: Pool,
    /// A worker that never sleeps by itself.
    spinning: Option<OwnedFd>,
}

impl Rig {
    /// Starts a pool of `workers` in `place`. What forks must have been forked before: this process and the workers
    /// are put onto their processors here.
    pub fn start(place: &Place, wait: Mode, workers: usize) -> Result<Rig> {
        Rig::start_with(place, wait, workers, |builder| builder)
    }

    /// The same, with further settings.
    pub fn start_with(
        place: &Place,
        wait: Mode,
        workers: usize,
        settings: impl FnOnce(Builder) -> Builder,
    ) -> Result<Rig> {
        let builder = Pool::builder().app::<Demo>().workers(workers).wait(wait);
        let pool = settings(builder).start()?;
        let client = pool.client()?;
        pin_worker(&client, place)?;
        if let Some(number) = place.host() {
            cpu::pin(&[number])?;
        }
        let rig = Rig { client, pool, spinning: None };
        let spinning = match wait == Mode::Spin && workers == 1 {
            true => Some(rig.worker()?.1),
            false => None,
        };
        Ok(Rig { spinning, ..rig })
    }

    /// The one worker that there is, and a handle to it.
    pub fn worker(&self) -> Result<(u32, OwnedFd)> {
        let pid = self.client.worker_pids().first().copied().unwrap_or_default();
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| Error::bad_request("there is no worker"))?;
        Ok((pid, pidfd::open(number)?))
    }

    /// Kills the one worker that there is, and waits for the next. The pool must allow as many deaths.
    pub fn next_worker(&self, place: &Place) -> Result<()> {
        let (old, handle) = self.worker()?;
        pidfd::send_signal(handle.as_fd(), Signal::SIGKILL)?;
        let start = clock::monotonic_ns();
        while !self.client.worker_pids().iter().any(|&pid| pid != old) {
            if clock::monotonic_ns() - start > GIVE_UP_NS {
                return Err(Error::bad_request("no new worker within 30 s"));
            }
            clock::sleep(LOOK);
        }
        pidfd::wait_exited(handle.as_fd(), None)?;
        pin_worker(&self.client, place)
    }

    /// Before the baseline's turn: a worker that spins would share a processor with the baseline's process. One
    /// that does not goes to sleep within some 100 µs.
    pub fn rest(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Before our turn.
    pub fn wake(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.spinning.as_ref().map_or(Ok(()), |worker| pidfd::send_signal(worker.as_fd(), signal))
    }

    /// Ends the pool in order.
    pub fn stop(self) -> Result<()> {
        drop(self.client);
        self.pool.shutdown_now()
    }
}

/// Meant for one worker: with several there is no saying which one takes the call.
fn pin_worker(client: &Client, place: &Place) -> Result<()> {
    if let Some(number) = place.partner() {
        client.call(Demo::NAME, "pin").args((number,)).execute()?;
    }
    Ok(())
}

const LOOK: Duration = Duration::from_micros(100);
const GIVE_UP_NS: u64 = 30_000_000_000;
