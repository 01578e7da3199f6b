//! The caller's side: connect to a pool, call, lend and borrow memory.

mod body;
mod call;
mod completions;
mod connection;
mod flight;
mod lane;
mod lease;
mod outcome;
mod pending;
mod response;
mod status;
mod waiter;

pub use call::Call;
pub use completions::{Completion, Completions};
pub use connection::{Client, Options};
pub use lease::Lease;
pub use pending::Pending;
pub use response::Response;
pub use status::status;
