//! The calls that `bench payload` times: warm ones.

use super::expect;
use crate::bench::blocks::Contender;
use crate::demo::{Demo, touch_lines};
use stokehold::{App, Client, Lease, Result};

/// A lease that the worker does not look into.
pub struct Untouched<'a> {
    pub client: &'a Client,
    pub lease: &'a Lease,
}

impl Contender for Untouched<'_> {
    fn name(&self) -> &'static str {
        "untouched"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "len").args((self.lease,)).execute()?;
        expect(response.parse::<usize>()? == self.lease.len())
    }
}

/// A lease of which the worker reads every line.
pub struct Touched<'a> {
    pub client: &'a Client,
    pub lease: &'a Lease,
    pub expected: i64,
}

impl Contender for Touched<'_> {
    fn name(&self) -> &'static str {
        "touched"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "touch").args((self.lease,)).execute()?;
        expect(response.parse::<i64>()? == self.expected)
    }
}

/// The same call as [`Untouched`] with 64 bytes that go in the record.
pub struct Small<'a> {
    client: &'a Client,
    bytes: [u8; 64],
}

impl<'a> Small<'a> {
    pub fn new(client: &'a Client) -> Small<'a> {
        Small { client, bytes: [7; 64] }
    }
}

impl Contender for Small<'_> {
    fn name(&self) -> &'static str {
        "64 B call"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "len").args((&self.bytes[..],)).execute()?;
        expect(response.parse::<usize>()? == self.bytes.len())
    }
}

/// Bytes that are no lease: they are copied into the client's memory with each call. The worker reads every line, or
/// none.
pub struct Copied<'a> {
    pub client: &'a Client,
    pub bytes: Vec<u8>,
    pub touch: bool,
}

impl Contender for Copied<'_> {
    fn name(&self) -> &'static str {
        "copied"
    }

    fn trip(&mut self) -> Result<()> {
        let action = if self.touch { "touch" } else { "len" };
        let response = self.client.call(Demo::NAME, action).args((&self.bytes[..],)).execute()?;
        let lines = self.bytes.len().div_ceil(64) as i64;
        expect(response.parse::<i64>()? == if self.touch { 7 * lines } else { self.bytes.len() as i64 })
    }
}

/// Bytes that come back as they went, copied at each border: by the caller, by the worker, by the caller.
pub struct ThereAndBack<'a> {
    pub client: &'a Client,
    pub bytes: Vec<u8>,
    pub back: Vec<u8>,
}

impl Contender for ThereAndBack<'_> {
    fn name(&self) -> &'static str {
        "there and back"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "echo").args((&self.bytes[..],)).execute()?;
        let bytes = response.as_bytes()?;
        expect(bytes.len() == self.back.len())?;
        self.back.copy_from_slice(bytes);
        expect(self.back.first() == Some(&7) && self.back.last() == Some(&7))
    }
}

/// A result that the worker fills in place, and of which we look at both ends.
pub struct Fill<'a> {
    pub client: &'a Client,
    pub bytes: usize,
}

impl Contender for Fill<'_> {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "fill").args((self.bytes,)).execute()?;
        let bytes = response.as_bytes()?;
        expect(bytes.len() == self.bytes && bytes.first() == Some(&7) && bytes.last() == Some(&7))
    }
}

/// A result that the worker lends as it is. We read every line of it, or none.
pub struct Lent<'a> {
    pub client: &'a Client,
    pub bytes: usize,
    pub touch: bool,
}

impl Contender for Lent<'_> {
    fn name(&self) -> &'static str {
        "lent result"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "lend").args((self.bytes,)).execute()?;
        let bytes = response.as_bytes()?;
        if self.touch {
            std::hint::black_box(touch_lines(bytes));
        }
        expect(bytes.len() == self.bytes)
    }
}
