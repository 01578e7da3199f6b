//! Which event source an event of the loop came from.

use crate::pool::Life;
use mio::Token;

/// A source of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host's socket.
    Host,
    /// The host's pidfd.
    HostGone,
    /// Signals to the arbiter.
    Signals,
    /// A worker's control socket.
    Control(Life),
    /// The socket of a worker's app threads.
    Fetch(Life),
    /// A worker's pidfd.
    Gone(Life),
    /// The pidfd of one thread of a worker.
    ThreadGone(Life),
    /// A client's socket.
    Client(u32),
    /// A client's pidfd.
    ClientGone(u32),
    /// The socket that listens.
    Door,
}

const KIND: u32 = 32;

impl Source {
    /// As mio carries it.
    pub fn token(self) -> Token {
        let (kind, number) = match self {
            Source::Host => (0, 0),
            Source::HostGone => (1, 0),
            Source::Signals => (2, 0),
            Source::Control(life) => (3, life.get().into()),
            Source::Fetch(life) => (4, life.get().into()),
            Source::Gone(life) => (5, life.get().into()),
            Source::ThreadGone(life) => (6, life.get().into()),
            Source::Client(n) => (7, n),
            Source::ClientGone(n) => (8, n),
            Source::Door => (9, 0),
        };
        Token((kind as usize) << KIND | number as usize)
    }

    /// Back from a token of ours.
    pub fn of(token: Token) -> Option<Source> {
        let number = token.0 as u32;
        let life = || Life::new(number as u16);
        Some(match token.0 >> KIND {
            0 => Source::Host,
            1 => Source::HostGone,
            2 => Source::Signals,
            3 => Source::Control(life()?),
            4 => Source::Fetch(life()?),
            5 => Source::Gone(life()?),
            6 => Source::ThreadGone(life()?),
            7 => Source::Client(number),
            8 => Source::ClientGone(number),
            9 => Source::Door,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let life = Life::new(65_535).unwrap();
        for source in [
            Source::Host,
            Source::HostGone,
            Source::Signals,
            Source::Control(life),
            Source::Fetch(life),
            Source::Gone(life),
            Source::ThreadGone(life),
            Source::Client(u32::MAX),
            Source::ClientGone(0),
            Source::Door,
        ] {
            assert_eq!(Source::of(source.token()), Some(source));
        }
        assert_eq!(Source::of(Token(usize::MAX)), None);
    }
}
