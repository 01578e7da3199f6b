//! Where the numbers of a pool begin that come round: at one, but in tests of what happens when they do.

use crate::conn::Message;
use crate::error::{Error, Kind, Result};
use crate::pool::Life;
use crate::ring::Generation;

/// The first of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Of a worker's incarnation; 16 bits.
    pub life: Life,
    /// Of each call line; 32 bits.
    pub generation: Generation,
    /// Of a registered region; 32 bits.
    pub region: u32,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { life: Life::FIRST, generation: Generation(1), region: 1 }
    }
}

impl Counters {
    /// This many before they come round.
    pub fn shortly_before_the_end(left: u16) -> Counters {
        let life = Life::new(u16::MAX - left).unwrap_or(Life::FIRST);
        let end = u32::MAX - u32::from(left);
        Counters { life, generation: Generation(end), region: end }
    }

    pub(super) fn add_to(self, message: Message) -> Message {
        message
            .with("first_life", self.life.get() as i64)
            .with("first_generation", self.generation.0)
            .with("first_region", self.region)
    }

    pub(super) fn of(message: &Message) -> Result<Counters> {
        let no_life = || Error::new(Kind::Config("0 is no life".into()));
        Ok(Counters {
            life: Life::new(message.int("first_life")?).ok_or_else(no_life)?,
            generation: Generation(message.int("first_generation")?),
            region: message.int("first_region")?,
        })
    }
}
