//! Where a victim is killed that goes from edge to edge, and the rounds of such a path: behind each edge; and at places
//! between two edges that a seed chooses, which must be like those behind the edge before.

use crate::edges::{Edge, Next, Walker};
use crate::report::Tally;
use crate::scene::Wrong;
use crate::trace::{self, Asleep};
use stokehold::internals::sys::process;

/// Where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Behind so many edges; `None`: at the path's end.
    pub edges: Option<usize>,
    /// So many instructions further, but before the next edge.
    pub steps: usize,
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// The edges, and where each was: the address of the instruction behind.
    pub edges: Vec<Edge>,
    /// The path was over before.
    pub missed: bool,
    /// Where the victim was killed.
    pub place: Option<u64>,
}

/// What is asked of the rounds of a path.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    pub from: usize,
    pub to: usize,
    /// Every how manieth edge; none: so that there are at most so many.
    pub stride: Option<usize>,
    pub most: usize,
    /// Instructions behind the edge, where one place is asked for.
    pub steps: usize,
    /// Places between edges.
    pub random: usize,
    pub seed: u64,
}

/// The longest way from an edge, instructions. Most gaps are shorter.
const FARTHEST: f64 = 2000.0;

impl Place {
    /// Moves the victim there. `hello` ends the path at the second message that it sends: a worker's READY.
    pub fn go(self, walker: &mut Walker, at_rest: Asleep<'_>, hello: bool) -> Result<Walk, Wrong> {
        let mut walk = Walk::default();
        let mut sent = 0;
        while self.edges.is_none_or(|edges| walk.edges.len() < edges) {
            match walker.next(at_rest) {
                Next::Edge(edge) => {
                    walk.edges.push(edge);
                    sent += u32::from(edge == Edge::Call(libc::SYS_sendmsg));
                    if hello && sent == 2 {
                        break;
                    }
                }
                Next::Born(_) => {}
                Next::Marker | Next::Asleep | Next::Gone => {
                    walk.missed = self.edges.is_some();
                    return Ok(walk);
                }
            }
        }
        if self.steps > 0 {
            walker.wander(self.steps).map_err(|e| format!("single steps: {e}"))?;
        }
        Ok(walk)
    }
}

impl Rounds {
    /// All of them. `round` makes one.
    pub fn run(
        &self,
        path: &str,
        tally: &mut Tally,
        mut round: impl FnMut(Place, &mut Tally) -> Result<Walk, Wrong>,
    ) -> Result<(), Wrong> {
        let mut go = |place: Place, tally: &mut Tally| {
            let walked = round(place, tally);
            tally.kills += 1;
            walked.map_err(|why| {
                let way = trace::place(std::process::id(), tally.pc);
                let Some(at) = place.edges else { return format!("at the end: {why}") };
                let steps = place.steps;
                let again = format!("step_kill --only {path} --at {at} --steps {steps}");
                format!("at edge {at} and {steps} instructions, {way}: {why}\nagain: {again}")
            })
        };
        let all = go(Place::default(), tally)?.edges.len();
        let chosen: Vec<usize> = (0..=all).filter(|at| (self.from..=self.to).contains(at)).collect();
        let stride = self.stride.unwrap_or_else(|| chosen.len().div_ceil(self.most).max(1));
        (tally.positions, tally.stride) = (all + 1, stride);
        for at in chosen.iter().step_by(stride) {
            go(Place { edges: Some(*at), steps: self.steps }, tally)?;
        }
        let mut dice = Dice(self.seed);
        tally.seed = Some(self.seed);
        for _ in 0..self.random {
            let edges = dice.below(all as u64 + 1) as usize;
            // Near the edge as often as far from it.
            let steps = FARTHEST.powf(dice.below(1 << 20) as f64 / (1 << 20) as f64) as usize;
            go(Place { edges: Some(edges), steps }, tally)?;
            tally.random += 1;
        }
        Ok(())
    }
}

/// A seed of its own for each run where none was given.
pub fn any_seed() -> u64 {
    process::getrandom_u128().map_or(0, |random| random as u64)
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Not the remainder: of a way that is a little longer it is nearly the same place.
        ((x ^ x >> 31) as u128 * bound as u128).wrapping_shr(64) as u64
    }
}
