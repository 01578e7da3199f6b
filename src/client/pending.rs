//! A submitted call, as its caller holds it.

use super::ended::Ended;
use super::flight::Flight;
use super::waiter::Roused;
use super::{Canceller, Response};
use crate::error::{Error, Result};
use crate::ring::CallLine;
use crate::sys::clock;
use std::time::Duration;

/// A submitted call. Its one outcome is taken with [`wait`](Pending::wait), [`wait_for`](Pending::wait_for),
/// [`try_wait`](Pending::try_wait) or [`cancel`](Pending::cancel); dropping it cancels the call.
///
/// `Send`: it may be waited for on another thread than it was submitted on. The call's deadline is enforced by whoever
/// waits for it, or looks: a handle that is merely kept keeps its call.
#[derive(Debug)]
pub struct Pending {
    flight: Option<Flight>,
}

impl Pending {
    pub(super) fn new(flight: Flight) -> Pending {
        Pending { flight: Some(flight) }
    }

    /// Waits for the outcome. Blocks the calling thread.
    ///
    /// # Errors
    /// Any of the outcomes of [`Code`](crate::Code) 1 to 12.
    pub fn wait(mut self) -> Result<Response> {
        self.take()?.wait()
    }

    /// Waits for the outcome, but no longer than this; `None` if it has not come by then, and the call goes on. Blocks
    /// the calling thread. Once the outcome was given, every further question is a `BadRequest`.
    pub fn wait_for(&mut self, timeout: Duration) -> Option<Result<Response>> {
        self.take_if(|flight| flight.watch(Some(clock::after(timeout))))
    }

    /// The outcome if it is there; `None` if not, and the call goes on. As with [`wait_for`](Pending::wait_for), a call
    /// whose deadline has passed ends here. Does not block for a worker; but to take an outcome may need an answer of the
    /// supervising process: where a result's memory is that is met for the first time, or a lane for a damaged one.
    pub fn try_wait(&mut self) -> Option<Result<Response>> {
        self.take_if(|flight| flight.look(Roused::Slice))
    }

    /// Whether the outcome is there, so that [`wait`](Pending::wait) would not block.
    pub fn is_ready(&self) -> bool {
        self.flight
            .as_ref()
            .is_none_or(|flight| flight.check_process().is_err() || !CallLine::is_pending(flight.glance()))
    }

    /// Cancels the call, unless its outcome came first: then it is that outcome. The app is told
    /// ([`Ctx::is_cancelled`](crate::Ctx::is_cancelled)); what it answers is dropped. Does not wait for that.
    pub fn cancel(mut self) -> Result<Response> {
        self.take()?.cancel()
    }

    /// [`cancel`](Pending::cancel), and then waits until the work has really ended, but no longer than `timeout`: see
    /// [`Canceller::wait`]. The outcome, and whether it has. Blocks the calling thread.
    ///
    /// ```no_run
    /// # fn main() -> stokehold::Result<()> {
    /// # let pool = stokehold::Pool::builder().start()?;
    /// # let client = pool.client()?;
    /// use std::time::Duration;
    ///
    /// let pending = client.call("render:Render", "film").submit()?;
    /// let (outcome, ended) = pending.cancel_and_wait(Duration::from_secs(5));
    /// match outcome {
    ///     Ok(film) => println!("it was ready before: {film:?}"),
    ///     Err(error) if ended => println!("{error}; nobody works on it any more"),
    ///     Err(error) => println!("{error}; its worker still has it"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel_and_wait(self, timeout: Duration) -> (Result<Response>, bool) {
        let canceller = self.canceller();
        let outcome = self.cancel();
        (outcome, canceller.wait(timeout))
    }

    /// A handle that cancels the call from another thread, while this one waits for it. Calls without one pay nothing.
    pub fn canceller(&self) -> Canceller {
        match &self.flight {
            Some(flight) if flight.check_process().is_ok() => flight.canceller(),
            _ => Canceller::default(),
        }
    }

    fn take(&mut self) -> Result<Flight> {
        let flight = self.flight.take().ok_or_else(|| Error::bad_request("the outcome was taken already"))?;
        flight.check_process().map(|()| flight)
    }

    fn take_if(&mut self, ended: impl FnOnce(&mut Flight) -> Option<Ended>) -> Option<Result<Response>> {
        let ended = match &mut self.flight {
            Some(flight) if flight.check_process().is_ok() => ended(flight)?,
            _ => return Some(self.take().and_then(Flight::wait)),
        };
        self.flight.take().map(|flight| flight.end(ended))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // The call is the original's: a forked copy has no such memory, and no right to end it.
        if let Ok(flight) = self.take() {
            drop(flight.cancel());
        }
    }
}
