//! What a worker does as a client of its pool, and no client does: it comes in another's name, takes all that it can get and
//! leaves it in use, and says of others that they are damaged.

use crate::frames;
use std::time::Duration;
use std::{fs, process};
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::ring::Generation;
use stokehold::internals::shm::{Control, Region, RegionKind, Requests, layout_hash};
use stokehold::internals::sys::process::{self as sys, Pid};
use stokehold::internals::sys::{pidfd, socket};
use stokehold::internals::wire::Kind;
use stokehold::{Args, Reply, Result};

/// As this process takes lanes and regions until there are no more, and dies. The file `note` says how many.
pub fn grab(args: Args<'_>) -> Result<Reply> {
    let (name,): (i32,) = args.parse()?;
    let mut guest = Guest::new(name)?;
    guest.grow()?;
    while guest.renew().is_ok() {
        guest.grow()?;
    }
    fs::write(".note", format!("{} {}", guest.controls.len(), guest.regions))?;
    fs::rename(".note", "note")?;
    sys::exit_now(9)
}

/// Says of each life but its own that it writes nonsense.
pub fn accuse(life: u16) -> Result<Reply> {
    let mut guest = Guest::new(process::id() as i32)?;
    for other in (1..100).filter(|other| *other != i64::from(life)) {
        guest.link.send(Message::new(Kind::Suspect).with("life", other).with("why", "so I say"))?;
    }
    // By then all that was heard.
    guest.link.ask(Message::new(Kind::Status), Kind::Response, ANSWER)?;
    Ok(Reply::from(()))
}

const ANSWER: Option<Duration> = Some(Duration::from_secs(20));

/// A client without the library.
struct Guest {
    link: Link,
    /// Where its lane is, and which it is.
    lane: (i64, i64),
    /// Of each lane that it had.
    controls: Vec<Control>,
    regions: usize,
}

impl Guest {
    /// In the name of this process.
    fn new(name: i32) -> Result<Guest> {
        // The one on which this thread asks, and nobody else meanwhile; while there are no others.
        let mut fetch = Link::new(frames::sockets().remove(1));
        let (ours, theirs) = socket::pair()?;
        fetch.ask(Message::new(Kind::Connect).with_fd(theirs), Kind::Connect, ANSWER)?;
        let hello = Message::new(Kind::Hello).with("layout", layout_hash() as i64).with("pid", name);
        let process = pidfd::open(Pid::from_raw(name).expect("a number of a process"))?;
        let mut guest = Guest { link: Link::new(ours), lane: (0, 0), controls: Vec::new(), regions: 0 };
        let welcome = guest.link.ask(hello.with_fd(process), Kind::Welcome, ANSWER)?;
        guest.open(welcome)?;
        Ok(guest)
    }

    /// Makes use of a lane that it was given: of one call, for ever.
    fn open(&mut self, mut welcome: Message) -> Result<()> {
        self.lane = (welcome.int("lane")?, welcome.int("serial")?);
        let control = Control::adopt(welcome.fds.remove(0))?;
        self.register(RegionKind::Requests, Requests::create()?.region())?;
        control.lines()[0].publish(Generation(welcome.int("generation")?)).expect("a fresh line");
        self.controls.push(control);
        Ok(())
    }

    fn register(&mut self, kind: RegionKind, region: &Region) -> Result<()> {
        let question =
            Message::new(Kind::Register).with("kind", kind as i64).with("len", region.len() as i64);
        let question = question.with("serial", self.lane.1).with_fd(region.fd().try_clone_to_owned()?);
        self.link.ask(question, Kind::Registered, ANSWER).map(drop)
    }

    fn grow(&mut self) -> Result<()> {
        while self.register(RegionKind::Growth, &Region::create(RegionKind::Growth, 8192)?).is_ok() {
            self.regions += 1;
        }
        Ok(())
    }

    /// One more lane, in place of the last, which is damaged and still in use.
    fn renew(&mut self) -> Result<()> {
        let (lane, serial) = self.lane;
        let question = Message::new(Kind::Renew).with("lane", lane).with("serial", serial);
        let welcome = self.link.ask(question, Kind::Welcome, ANSWER)?;
        self.open(welcome)
    }
}
