//! The word that decides a call, as a value: 64 bits, compared and swapped whole.
//!
//! ```text
//!  63            32 31        16 15  12 11    8 7     4 3     0
//! +----------------+------------+------+-------+-------+-------+
//! |   generation   |    life    |  0   | reason| check | state |
//! +----------------+------------+------+-------+-------+-------+
//! ```
//!
//! `generation` moves in one place only, on the way into IDLE, so a word of an older submission never equals one
//! of a newer. `life` is the incarnation that has the call, so claim and owner are one atomic fact. `check` is a
//! fold of all other nibbles: zero is not a valid word, and a stray write is seen fifteen times in sixteen by it
//! alone, more often with the rules about which fields a state carries.

/// How often a call line has been used; wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(self.0.wrapping_add(1))
    }
}

/// One incarnation of a worker; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life(u16);

impl Life {
    /// `None` for zero, which means "nobody" in a word.
    pub const fn new(raw: u16) -> Option<Life> {
        if raw == 0 { None } else { Some(Life(raw)) }
    }

    /// The number, never zero.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Nobody's; the lane's owner may use it.
    Idle = 0,
    /// Submitted, not taken.
    Queued = 1,
    /// Taken by a life.
    Running = 2,
    /// Its result is complete.
    Done = 3,
    /// The caller has its answer, the life has not let go yet.
    Abandoned = 4,
    /// It will get no result; the reason says why.
    Lost = 5,
    /// The life has let go; the lane's owner may reuse the memory.
    Acked = 6,
}

/// Why a call is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Its worker died before the app began with it.
    NotBegun = 1,
    /// Its worker died after the app had begun.
    Begun = 2,
    /// The pool is degraded.
    Degraded = 3,
    /// The pool has no workers.
    NoWorkers = 4,
    /// The pool is closing.
    ShuttingDown = 5,
}

/// A word that no correct process writes. Whoever sees one marks the lane suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal(pub u64);

impl std::fmt::Display for Illegal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "call word {:#018x} is not one that a correct process writes", self.0)
    }
}

/// A valid call word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(u64);

const STATE: u32 = 0;
const CHECK: u32 = 4;
const REASON: u32 = 8;
const LIFE: u32 = 16;
const GENERATION: u32 = 32;

impl Word {
    /// `Idle` of this generation.
    #[inline]
    pub const fn idle(generation: Generation) -> Word {
        Word::pack(generation, 0, 0, State::Idle as u8)
    }

    /// `Queued` of this generation.
    #[inline]
    pub const fn queued(generation: Generation) -> Word {
        Word::pack(generation, 0, 0, State::Queued as u8)
    }

    /// `Running` in this life.
    #[inline]
    pub const fn running(generation: Generation, life: Life) -> Word {
        Word::pack(generation, life.0, 0, State::Running as u8)
    }

    /// `Done` by this life.
    #[inline]
    pub const fn done(generation: Generation, life: Life) -> Word {
        Word::pack(generation, life.0, 0, State::Done as u8)
    }

    /// `Abandoned` while this life has it.
    #[inline]
    pub const fn abandoned(generation: Generation, life: Life) -> Word {
        Word::pack(generation, life.0, 0, State::Abandoned as u8)
    }

    /// `Acked` by this life, or for it after its death.
    #[inline]
    pub const fn acked(generation: Generation, life: Life) -> Word {
        Word::pack(generation, life.0, 0, State::Acked as u8)
    }

    /// `Lost`; `life` is the one that died with it, if one did.
    pub const fn lost(generation: Generation, life: Option<Life>, reason: Reason) -> Word {
        let life = match life {
            Some(life) => life.0,
            None => 0,
        };
        Word::pack(generation, life, reason as u8, State::Lost as u8)
    }

    /// Checks a word read from shared memory.
    #[inline]
    pub const fn check(raw: u64) -> Result<Word, Illegal> {
        if ((raw >> CHECK) & 0xf) as u8 != fold(raw) || (raw >> 12) & 0xf != 0 {
            return Err(Illegal(raw));
        }
        let life = (raw >> LIFE) as u16;
        let reason = ((raw >> REASON) & 0xf) as u8;
        let legal = match (raw & 0xf) as u8 {
            0 | 1 => life == 0 && reason == 0,
            2 | 3 | 4 | 6 => life != 0 && reason == 0,
            5 => match reason {
                1 | 2 => life != 0,
                3..=5 => life == 0,
                _ => false,
            },
            _ => false,
        };
        if legal { Ok(Word(raw)) } else { Err(Illegal(raw)) }
    }

    /// The 64 bits.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Where the call is.
    #[inline]
    pub fn state(self) -> State {
        match self.0 & 0xf {
            0 => State::Idle,
            1 => State::Queued,
            2 => State::Running,
            3 => State::Done,
            4 => State::Abandoned,
            5 => State::Lost,
            _ => State::Acked,
        }
    }

    /// Which submission of its line this is.
    #[inline]
    pub fn generation(self) -> Generation {
        Generation((self.0 >> GENERATION) as u32)
    }

    /// The life that has, had or lost the call.
    #[inline]
    pub fn life(self) -> Option<Life> {
        Life::new((self.0 >> LIFE) as u16)
    }

    /// Why it is lost; only for [`State::Lost`].
    pub fn reason(self) -> Option<Reason> {
        match (self.0 >> REASON) & 0xf {
            1 => Some(Reason::NotBegun),
            2 => Some(Reason::Begun),
            3 => Some(Reason::Degraded),
            4 => Some(Reason::NoWorkers),
            5 => Some(Reason::ShuttingDown),
            _ => None,
        }
    }

    #[inline]
    const fn pack(generation: Generation, life: u16, reason: u8, state: u8) -> Word {
        let raw = (generation.0 as u64) << GENERATION
            | (life as u64) << LIFE
            | (reason as u64) << REASON
            | (state as u64) << STATE;
        Word(raw | (fold(raw) as u64) << CHECK)
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({}", self.state(), self.generation().0)?;
        if let Some(life) = self.life() {
            write!(f, ", life {}", life.0)?;
        }
        if let Some(reason) = self.reason() {
            write!(f, ", {reason:?}")?;
        }
        f.write_str(")")
    }
}

/// The check nibble of a word: all other nibbles folded by exclusive or, and a constant so that zero is invalid.
#[inline]
const fn fold(raw: u64) -> u8 {
    let mut x = raw & !(0xf << CHECK);
    x ^= x >> 32;
    x ^= x >> 16;
    x ^= x >> 8;
    x ^= x >> 4;
    (x as u8 & 0xf) ^ 0x5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(n: u16) -> Life {
        Life::new(n).unwrap()
    }

    fn all() -> Vec<Word> {
        let mut words = Vec::new();
        for g in [0, 1, 7, u32::MAX] {
            let g = Generation(g);
            words.extend([Word::idle(g), Word::queued(g)]);
            for l in [1, 2, 0x1234, u16::MAX] {
                let l = life(l);
                words.extend([
                    Word::running(g, l),
                    Word::done(g, l),
                    Word::abandoned(g, l),
                    Word::acked(g, l),
                ]);
                words.extend([
                    Word::lost(g, Some(l), Reason::Begun),
                    Word::lost(g, Some(l), Reason::NotBegun),
                ]);
            }
            for r in [Reason::Degraded, Reason::NoWorkers, Reason::ShuttingDown] {
                words.push(Word::lost(g, None, r));
            }
        }
        words
    }

    #[test]
    fn every_constructor_makes_a_word_that_is_legal_and_different() {
        let words = all();
        for (i, w) in words.iter().enumerate() {
            assert_eq!(Word::check(w.raw()), Ok(*w));
            assert!(words[..i].iter().all(|other| other.raw() != w.raw()), "{w:?} twice");
        }
    }

    #[test]
    fn zero_and_all_ones_are_illegal() {
        assert!(Word::check(0).is_err());
        assert!(Word::check(u64::MAX).is_err());
    }

    #[test]
    fn a_word_with_one_bit_flipped_is_illegal() {
        for w in all() {
            for bit in 0..64 {
                assert!(Word::check(w.raw() ^ 1 << bit).is_err(), "{w:?} bit {bit}");
            }
        }
    }

    #[test]
    fn fields_come_back() {
        let w = Word::lost(Generation(u32::MAX), Some(life(u16::MAX)), Reason::Begun);
        assert_eq!(w.state(), State::Lost);
        assert_eq!(w.generation(), Generation(u32::MAX));
        assert_eq!(w.generation().next(), Generation(0));
        assert_eq!(w.life(), Some(life(u16::MAX)));
        assert_eq!(w.reason(), Some(Reason::Begun));
        assert_eq!(Word::queued(Generation(3)).life(), None);
    }

    /// B9: a word whose check bits are right and whose fields do not go together is no word either. All states, with and
    /// without a life, all reasons, and the bits that nobody uses.
    #[test]
    fn fields_that_do_not_go_together_are_illegal() {
        for state in 0..16_u64 {
            for (life, reason, spare) in
                (0..2_u64).flat_map(|l| (0..16_u64).flat_map(move |r| [(l, r, 0), (l, r, 1)]))
            {
                let raw = 7 << GENERATION | life << LIFE | reason << REASON | state;
                let raw = raw | u64::from(fold(raw)) << CHECK | spare << 12;
                let goes = spare == 0
                    && matches!(
                        (state, life, reason),
                        (0 | 1, 0, 0) | (2 | 3 | 4 | 6, 1, 0) | (5, 1, 1 | 2) | (5, 0, 3..=5)
                    );
                assert_eq!(Word::check(raw).is_ok(), goes, "{state} {life} {reason} {spare}");
                if let Ok(word) = Word::check(raw) {
                    assert_eq!((word.life().is_some(), word.reason().is_some()), (life == 1, reason != 0));
                    let shown = format!("{word:?}");
                    assert_eq!(shown.contains("life"), life == 1, "{shown}");
                }
            }
        }
        assert!(Illegal(5).to_string().contains("0x0000000000000005"));
    }
}
