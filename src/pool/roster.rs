//! Who there is: the slots of a pool and every life that was started and not yet reaped.
//!
//! A list of lives beside a list of slots, since lives of one slot overlap. Both are short (64 slots, at most four
//! lives each), so everything here is a linear search.

use super::incarnation::Phase;
use super::{Config, Incarnation, Life, SlotIndex, SlotState};
use crate::limits::MAX_WORKERS;

/// A place for one worker.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its latest life, while that exists.
    pub(super) life: Option<Life>,
    /// While it is vacant: not to be filled before this.
    pub(super) vacant_until: u64,
    /// Early deaths in a row.
    pub(super) streak: u32,
    /// Starts in a row that came to nothing.
    pub(super) failed_starts: u32,
    /// When the first of them did, monotonic nanoseconds.
    pub(super) failed_since: u64,
    /// The last of them says that the next will not do better.
    pub(super) is_hopeless: bool,
}

impl Slot {
    /// Its latest life, while that exists. It may be dying already, with nobody after it yet.
    pub fn life(&self) -> Option<Life> {
        self.life
    }

    /// While it is vacant: when it may be filled again, monotonic nanoseconds.
    pub fn vacant_until(&self) -> u64 {
        self.vacant_until
    }
}

/// Slots and lives.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    slots: Vec<Slot>,
    lives: Vec<Incarnation>,
    max_lives: usize,
    next: Life,
}

impl Roster {
    pub(super) fn new(config: &Config, first: Life, now: u64) -> Roster {
        let slot = Slot {
            life: None,
            vacant_until: now,
            streak: 0,
            failed_starts: 0,
            failed_since: now,
            is_hopeless: false,
        };
        let slots = vec![slot; config.workers];
        Roster { slots, lives: Vec::new(), max_lives: config.max_lives, next: first }
    }

    /// A new life for this slot, under the next number that nobody has.
    pub(super) fn enter(&mut self, slot: SlotIndex, boot_until: u64) -> Life {
        let mut life = self.next;
        while self.life(life).is_some() {
            life = life.next();
        }
        self.next = life.next();
        self.lives.push(Incarnation {
            life,
            slot,
            phase: Phase::Booting { until: boot_until },
            born: false,
            ready_at: None,
            doom: None,
        });
        self.slot_mut(slot).life = Some(life);
        life
    }

    /// Forgets a life.
    pub(super) fn leave(&mut self, life: Life) -> Option<Incarnation> {
        let at = self.lives.iter().position(|i| i.life == life)?;
        let gone = self.lives.remove(at);
        let slot = self.slot_mut(gone.slot);
        if slot.life == Some(life) {
            slot.life = None;
        }
        Some(gone)
    }

    pub(super) fn life_mut(&mut self, life: Life) -> Option<&mut Incarnation> {
        self.lives.iter_mut().find(|i| i.life == life)
    }

    pub(super) fn slot_mut(&mut self, slot: SlotIndex) -> &mut Slot {
        &mut self.slots[slot.index()]
    }

    pub(super) fn life(&self, life: Life) -> Option<&Incarnation> {
        self.lives.iter().find(|i| i.life == life)
    }

    pub(super) fn lives(&self) -> &[Incarnation] {
        &self.lives
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn slot(&self, slot: SlotIndex) -> &Slot {
        &self.slots[slot.index()]
    }

    /// How many lives take calls.
    pub(super) fn ready(&self) -> usize {
        self.lives.iter().filter(|i| i.state() == SlotState::Ready).count()
    }

    /// The vacant slot that has waited longest, of those that may be filled at all.
    pub(super) fn next_vacancy(&self) -> Option<(SlotIndex, u64)> {
        if self.is_full() {
            return None;
        }
        let occupancies = self.occupancies();
        let mut first: Option<(usize, u64)> = None;
        for (n, slot) in self.slots.iter().enumerate() {
            let is_first = first.is_none_or(|(_, until)| slot.vacant_until < until);
            if is_first && occupancies[n].is_open() {
                first = Some((n, slot.vacant_until));
            }
        }
        first.map(|(n, until)| (SlotIndex::new(n), until))
    }

    /// Whether no slot has hope: its starts come to nothing time and again, or its place is taken by former lives that
    /// hang in the kernel. Those that are merely on their way out will be gone.
    pub(super) fn is_stranded(&self) -> bool {
        let occupancies = self.occupancies();
        let is_full = self.lives.iter().filter(|i| i.is_lost()).count() >= self.max_lives;
        self.slots.iter().zip(&occupancies).all(|(slot, it)| {
            let hopeless = slot.failed_starts > 0 && slot.streak >= HOPELESS;
            hopeless || !it.filled && (it.lost >= PREDECESSORS_MAX || is_full)
        })
    }

    /// Whether starts in some slot come to nothing time and again, however well the others do.
    pub(super) fn has_hopeless_slot(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_hopeless)
    }

    /// Whether nobody may come before somebody is gone.
    fn is_full(&self) -> bool {
        self.lives.len() >= self.max_lives
    }

    /// Who is in each slot, in one pass over the lives.
    fn occupancies(&self) -> [Occupancy; MAX_WORKERS] {
        let mut all = [Occupancy::default(); MAX_WORKERS];
        for i in &self.lives {
            let it = &mut all[i.slot.index()];
            if i.is_serving() {
                it.filled = true
            } else {
                it.predecessors += 1
            }
            it.lost += usize::from(i.is_lost());
        }
        all
    }
}

/// Who is in a slot.
#[derive(Clone, Copy, Default)]
struct Occupancy {
    /// A life that takes calls, or will.
    filled: bool,
    /// Lives on their way out.
    predecessors: usize,
    /// Those among them that do not die.
    lost: usize,
}

impl Occupancy {
    /// Vacant, and not too many of its former lives are still dying.
    fn is_open(self) -> bool {
        !self.filled && self.predecessors < PREDECESSORS_MAX
    }
}

/// Lives of one slot that may be dying while the next one is started. Each holds its memory until the kernel is
/// done with it, and processes that hang in the kernel must not pile up.
const PREDECESSORS_MAX: usize = 3;
/// Early deaths in a row, the last of them before it was ready, after which a slot is not counted on.
pub(super) const HOPELESS: u32 = 2;
/// What hinders starts for no longer than this passes by itself: the second try follows the first at once.
pub(super) const HOPELESS_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_comes_round_skips_the_lives_that_exist() {
        let life = |n| Life::new(n).unwrap();
        let config = Config { workers: 3, ..Config::default() };
        let mut roster = Roster::new(&config, life(65_535), 0);
        let slot = SlotIndex::new;
        assert_eq!(roster.enter(slot(0), 0), life(65_535));
        assert_eq!(roster.enter(slot(1), 0), life(1));
        roster.next = life(65_535); // as after 65,535 further lives
        assert_eq!(roster.enter(slot(2), 0), life(2));
        assert!(roster.leave(life(65_535)).is_some() && roster.leave(life(65_535)).is_none());
        roster.next = life(65_535);
        assert_eq!(roster.enter(slot(0), 0), life(65_535));
        assert_eq!(roster.enter(slot(0), 0), life(3));
    }
}
