//! The call that another one is made in: workers are clients, too.

use crate::error::{Error, Result};
use crate::shm::Chain;
use std::fmt::Debug;
use std::sync::Arc;

/// What a call has of the one that it is made in.
#[derive(Clone, Debug)]
pub(crate) struct Outer {
    /// How deep the new call is nested, not counting that somebody waits for it.
    pub chain: Chain,
    /// When the outer call ends, monotonic nanoseconds.
    pub deadline_ns: Option<u64>,
    /// It goes on.
    pub call: Arc<dyn Ongoing>,
}

/// A call that others are made in.
pub(crate) trait Ongoing: Debug + Send + Sync {
    /// Whether it was given up, or has ended. Looked at whenever something wakes who waits for an inner call.
    fn is_over(&self) -> bool;
}

impl Outer {
    /// The chain of a call that an app thread will wait for. It would wait for ever if the outer calls held all there are.
    pub fn waited_for(&self, app_threads: u32) -> Result<Chain> {
        let chain = self.chain.waited_for();
        if chain.held >= app_threads {
            return Err(Error::bad_request(format!(
                "the call would never run: all {app_threads} app threads of the pool are taken by the calls that it is made in"
            )));
        }
        Ok(chain)
    }
}
