//! A running pool of the demo app in a placement, with a client.

use super::place::Place;
use crate::demo::Demo;
use std::os::fd::{AsFd, OwnedFd};
use stokehold::internals::sys::process::Pid;
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{cpu, pidfd};
use stokehold::{App, Builder, Client, Mode, Pool, Result};

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
        if let Some(number) = place.partner() {
            // Meant for one worker: with several there is no saying which one takes the call.
            client.call(Demo::NAME, "pin").args((number,)).execute()?;
        }
        if let Some(number) = place.host() {
            cpu::pin(&[number])?;
        }
        let spinning = if wait == Mode::Spin { only_worker(&client)? } else { None };
        Ok(Rig { client, pool, spinning })
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

/// A handle to the worker, if there is one and not more.
fn only_worker(client: &Client) -> Result<Option<OwnedFd>> {
    match client.worker_pids()[..] {
        [pid] => i32::try_from(pid).ok().and_then(Pid::from_raw).map(pidfd::open).transpose(),
        _ => Ok(None),
    }
}
