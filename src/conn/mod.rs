//! Framed connections between processes of ours: control-plane messages with descriptors, over stream sockets.
//!
//! A [`Message`] is a wire frame whose body is a dict. Descriptors travel with the first byte of the frame that
//! names how many there are. [`Stream`] is the non-blocking half that the arbiter's loop drives; [`Link`] is the
//! blocking one of clients and workers. Who says what to whom is in [`guide`](self#messages).
//!
//! # Messages
//!
//! | kind | from → to | fields | descriptors |
//! |---|---|---|---|
//! | `Config` | host → arbiter | token, configuration | host's pidfd |
//! | `Ready` | arbiter → host | pid | arbiter's pidfd |
//! | `Connect` | host, worker → arbiter; arbiter → worker | – | socket of a new client |
//! | `Stop` | host → arbiter, arbiter → worker | now | – |
//! | `Hello` | client, worker → arbiter | layout, pid, life | client's pidfd, or worker's results |
//! | `Welcome` | arbiter → client, worker | lane, apps, region … | control, registry, board, arbiter's pidfd |
//! | `Renew` | client → arbiter | serial of the lost lane | – (answer: `Welcome`) |
//! | `Register` | client, worker → arbiter | kind, length | the region |
//! | `Registered` | arbiter → client, worker | index, serial | – |
//! | `Fetch` | client, worker → arbiter | region or lane wanted | – |
//! | `Fetched` | arbiter → client, worker | length | the region, or control and requests |
//! | `Suspect` | client, worker → arbiter | lane's serial; from a client also a worker's life | – |
//! | `Status` | anyone of this user → arbiter | – | – |
//! | `Response` | arbiter → who asked | result: a dict | – |
//! | `Refused` | arbiter → anyone; worker → arbiter | code, why; from a worker also whether it may pass | – |
//! | `Bye` | anyone | – | – |

mod link;
mod message;
mod stream;

pub use link::Link;
pub use message::Message;
pub use stream::{Received, Stream};
