//! The host's side of a pool: `init` for programs that are re-executed, starting an arbiter, holding it, closing it.

mod builder;
mod init;
mod pool;
mod serve;

pub use builder::Builder;
pub use init::init;
pub use pool::Pool;
