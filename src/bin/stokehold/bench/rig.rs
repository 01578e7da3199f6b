//! A running pool of the demo app in a placement, with a client.

use super::place::Place;
use crate::demo::Demo;
use stokehold::internals::sys::cpu;
use stokehold::{App, Builder, Client, Mode, Pool, Result};

/// Pool and client. The pool is killed when this is dropped.
#[derive(Debug)]
pub struct Rig {
    pub client: Client,
    pub pool: Pool,
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
        Ok(Rig { client, pool })
    }

    /// Ends the pool in order.
    pub fn stop(self) -> Result<()> {
        drop(self.client);
        self.pool.shutdown_now()
    }
}
