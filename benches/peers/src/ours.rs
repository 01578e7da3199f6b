//! Stokehold: an app in a supervised worker. Small bytes go in the record, others are lent.

use crate::bench::blocks::Contender;
use crate::bench::place::Place;
use crate::work::{FILL, Op, Trip};
use stokehold::internals::sys::cpu;
use stokehold::{App, Args, Client, Ctx, Error, Lease, Pool, Reply, Result};

/// The server's side.
pub struct Work;

impl App for Work {
    const NAME: &'static str = "stokehold.peers:Work";

    fn init(_: &Ctx) -> Result<Self> {
        Ok(Work)
    }

    fn call(&self, action: &str, args: Args<'_>, _: &Ctx) -> Result<Reply> {
        let op = match action {
            "echo" => Op::Echo,
            "len" => Op::Len,
            "read" => Op::Read,
            "pin" => {
                let (number,): (usize,) = args.parse()?;
                cpu::pin(&[number])?;
                return Ok(Reply::from(()));
            }
            other => return Err(Error::no_action(other)),
        };
        let (bytes,): (&[u8],) = args.parse()?;
        Ok(Reply::from(&op.answer(bytes)[..]))
    }
}

/// A pool of one worker, and a client.
pub struct Rig {
    pool: Pool,
    client: Client,
}

impl Rig {
    pub fn start(place: &Place) -> Result<Rig> {
        let pool = Pool::builder().app::<Work>().start()?;
        let client = pool.client()?;
        if let Some(number) = place.partner() {
            client.call(Work::NAME, "pin").args((number,)).execute()?;
        }
        Ok(Rig { pool, client })
    }

    pub fn contender(&self, trip: Trip) -> Result<Ours<'_>> {
        let lease = match trip.op {
            Op::Echo => None,
            _ => {
                let mut lease = self.client.lease(trip.bytes)?;
                lease.fill(FILL);
                Some(lease)
            }
        };
        Ok(Ours { client: &self.client, trip, lease })
    }

    pub fn stop(self) -> Result<()> {
        drop(self.client);
        self.pool.shutdown_now()
    }
}

/// The client's side.
pub struct Ours<'a> {
    client: &'a Client,
    trip: Trip,
    lease: Option<Lease>,
}

impl Contender for Ours<'_> {
    fn name(&self) -> &'static str {
        "stokehold"
    }

    fn trip(&mut self) -> Result<()> {
        if self.trip.write
            && let Some(lease) = &mut self.lease
        {
            lease.fill(FILL);
        }
        let action = match self.trip.op {
            Op::Echo => "echo",
            Op::Len => "len",
            Op::Read => "read",
        };
        let call = self.client.call(Work::NAME, action);
        let response = match &self.lease {
            Some(lease) => call.args((lease,)).execute()?,
            None => call.args((&[FILL; 64][..],)).execute()?,
        };
        let answer = response.as_bytes()?.try_into();
        self.trip.check(answer.map_err(|_| Error::bad_request("an answer of another length"))?)
    }
}
