//! Where the two sides of a measurement run, and what runs beside them.

use crate::bench::baseline::Kid;
use stokehold::Result;
use stokehold::internals::sys::cpu;

/// Which processors the host and its partner (a worker, or a baseline's process) may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Both pinned to the same one, from the start.
    One,
    /// Each pinned to one of its own.
    Two,
    /// Wherever the kernel puts them.
    Free,
    /// Free, beside one process that never sleeps.
    Hog1,
    /// Free, beside two of them.
    Hog2,
    /// Both pinned to the same one after they started with several, so that neither can know it.
    Same,
}

impl Placement {
    pub const ALL: [Placement; 6] =
        [Placement::One, Placement::Two, Placement::Free, Placement::Hog1, Placement::Hog2, Placement::Same];

    pub fn name(self) -> &'static str {
        match self {
            Placement::One => "one",
            Placement::Two => "two",
            Placement::Free => "free",
            Placement::Hog1 => "hog1",
            Placement::Hog2 => "hog2",
            Placement::Same => "same",
        }
    }

    fn hogs(self) -> usize {
        match self {
            Placement::Hog1 => 1,
            Placement::Hog2 => 2,
            _ => 0,
        }
    }
}

/// A placement in force. Dropping it frees the calling thread and kills the hogs.
#[derive(Debug)]
pub struct Place {
    placement: Placement,
    all: Vec<usize>,
    _hogs: Vec<Kid>,
}

impl Place {
    /// Puts the calling thread where `placement` wants it while processes are started, and starts the hogs. `None`
    /// if this machine has too few processors. The process must have one thread.
    pub fn take(placement: Placement) -> Result<Option<Place>> {
        let all = cpu::current_set()?;
        if placement == Placement::Two && all.len() < 2 {
            return Ok(None);
        }
        let hogs = (0..placement.hogs())
            .map(|_| {
                Kid::fork(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect::<Result<_>>()?;
        if placement == Placement::One {
            cpu::pin(&all[..1])?;
        }
        Ok(Some(Place { placement, all, _hogs: hogs }))
    }

    /// Where the host goes once everything was started.
    pub fn host(&self) -> Option<usize> {
        match self.placement {
            Placement::One | Placement::Two | Placement::Same => self.all.first().copied(),
            _ => None,
        }
    }

    /// Where its partners go.
    pub fn partner(&self) -> Option<usize> {
        match self.placement {
            Placement::One | Placement::Same => self.all.first().copied(),
            Placement::Two => self.all.get(1).copied(),
            _ => None,
        }
    }

    pub fn placement(&self) -> Placement {
        self.placement
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = cpu::pin(&self.all); // they could be used before
    }
}
