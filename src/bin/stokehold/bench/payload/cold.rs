//! Calls whose memory nobody has touched: a client that is new, or a worker that is. Each is timed once and then
//! made anew.

use super::calls::{Fill, Small, Touched, Untouched};
use super::expect;
use crate::bench::blocks::Contender;
use crate::bench::place::Place;
use crate::bench::rig::Rig;
use stokehold::{Client, Lease, Result};

/// The first large argument of a client, and of the worker: it maps the region, and reads every
/// line of it or none.
pub struct FirstLease<'a> {
    rig: &'a Rig,
    place: &'a Place,
    bytes: usize,
    touch: bool,
    made: Option<(Client, Lease)>,
}

impl<'a> FirstLease<'a> {
    pub fn new(rig: &'a Rig, place: &'a Place, bytes: usize, touch: bool) -> FirstLease<'a> {
        FirstLease { rig, place, bytes, touch, made: None }
    }
}

impl Contender for FirstLease<'_> {
    fn name(&self) -> &'static str {
        "first lease"
    }

    fn begin(&mut self) -> Result<()> {
        // A worker that mapped the client before would free that one's memory while we wait.
        self.rig.next_worker(self.place)?;
        let client = self.rig.pool.client()?;
        Small::new(&client).trip()?; // the worker knows the client itself
        let mut lease = client.lease(self.bytes)?;
        lease.fill(7);
        self.made = Some((client, lease));
        Ok(())
    }

    fn trip(&mut self) -> Result<()> {
        let Some((client, lease)) = &self.made else { return expect(false) };
        match self.touch {
            true => Touched { client, lease, expected: 7 * lease.len().div_ceil(64) as i64 }.trip(),
            false => Untouched { client, lease }.trip(),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.made = None;
        Ok(())
    }
}

/// The first large result of a worker: it makes the region, fills it, and we map it.
pub struct FirstFill<'a> {
    pub rig: &'a Rig,
    pub place: &'a Place,
    pub bytes: usize,
}

impl Contender for FirstFill<'_> {
    fn name(&self) -> &'static str {
        "first fill"
    }

    fn begin(&mut self) -> Result<()> {
        self.rig.next_worker(self.place)?;
        Small::new(&self.rig.client).trip()
    }

    fn trip(&mut self) -> Result<()> {
        Fill { client: &self.rig.client, bytes: self.bytes }.trip()
    }
}
