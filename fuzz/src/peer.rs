//! One end of a connection, by somebody who may say anything.

use arbitrary::Arbitrary;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use stokehold::Value;
use stokehold::internals::conn::{Message, Received, Stream};
use stokehold::internals::shm::{Region, RegionKind};
use stokehold::internals::sys::{fd, memfd, pidfd, socket};
use stokehold::internals::wire::Kind;

/// A message of no particular sense.
#[derive(Arbitrary, Clone, Debug)]
pub struct Odd {
    pub kind: u8,
    pub id: u8,
    pub fields: Vec<(u8, Says)>,
    pub fds: Vec<Given>,
}

/// What a field says.
#[derive(Arbitrary, Clone, Debug)]
pub enum Says {
    Small(i8),
    Number(i64),
    Nothing,
    Text(u8),
    Texts(u8),
    Numbers(Vec<i64>),
}

/// A descriptor that comes along.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Given {
    Process,
    Null,
    Requests,
    Results,
    Growth,
    Unsealed,
    Socket,
}

const NAMES: &[&str] = &[
    "layout",
    "pid",
    "life",
    "lane",
    "serial",
    "released",
    "kind",
    "len",
    "index",
    "region_serial",
    "event",
    "why",
    "now",
    "tids",
    "late",
    "call",
    "generation",
    "signal",
    "fds",
    "apps",
    "timeout_ns",
    "app_threads",
    "code",
    "bound",
    "limit",
];

impl Odd {
    /// As it is sent.
    pub fn message(&self) -> Message {
        let kind =
            Kind::from_code(self.kind).unwrap_or(Kind::from_code(0x40 + self.kind % 20).unwrap_or(Kind::Bye));
        let message = Message::new(kind).answering(self.id.into());
        let message = self.fields.iter().take(12).fold(message, |message, (name, says)| {
            message.with(NAMES[usize::from(*name) % NAMES.len()], says.value())
        });
        self.fds.iter().take(6).filter_map(|given| given.open()).fold(message, Message::with_fd)
    }
}

impl Says {
    /// Its value.
    pub fn value(&self) -> Value {
        match self {
            Says::Small(n) => i64::from(*n).into(),
            Says::Number(n) => (*n).into(),
            Says::Nothing => Value::None,
            Says::Text(n) => "x".repeat(usize::from(*n)).into(),
            Says::Texts(n) => vec![Value::from("a:A"); usize::from(*n % 4)].into(),
            Says::Numbers(all) => Value::List(all.iter().take(8).map(|n| Value::Int(*n)).collect()),
        }
    }
}

impl Given {
    /// A new one.
    pub fn open(self) -> Option<OwnedFd> {
        let region = |kind, len| Region::create(kind, len).ok()?.fd().try_clone_to_owned().ok();
        match self {
            Given::Process => pidfd::of_self().ok(),
            Given::Null => fd::dev_null().ok(),
            Given::Requests => region(RegionKind::Requests, 64 * 1024),
            Given::Results => region(RegionKind::Results, 256 * 1024),
            Given::Growth => region(RegionKind::Growth, 64 * 1024),
            Given::Unsealed => memfd::create("unsealed", 64 * 1024).ok(),
            Given::Socket => socket::pair().ok().map(|(one, _)| one),
        }
    }
}

/// The end.
pub struct Peer {
    stream: Option<Stream>,
}

impl Peer {
    /// Of a socket, which does not block from now on.
    pub fn new(fd: OwnedFd) -> Peer {
        let quiet = socket::set_nonblocking(fd.as_fd(), true).is_ok();
        Peer { stream: quiet.then(|| Stream::new(fd)) }
    }

    /// Whether it is open, as far as was noticed.
    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// The socket.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(Stream::fd)
    }

    /// Sends a message, as far as there is room.
    pub fn say(&mut self, message: Message) {
        let Some(stream) = &mut self.stream else { return };
        // What was answered before it hung up is still to be read.
        if stream.queue(message).and_then(|()| stream.flush()).is_err() {
            stream.drop_waiting();
        }
    }

    /// Sends bytes, and descriptors with the first of them.
    pub fn say_raw(&mut self, bytes: &[u8], given: &[Given]) {
        let fds: Vec<OwnedFd> = given.iter().take(4).filter_map(|given| given.open()).collect();
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        if let Some(stream) = &self.stream
            && !bytes.is_empty()
        {
            let _ = socket::send(stream.fd(), &[IoSlice::new(bytes)], &fds);
        }
    }

    /// What came.
    pub fn hear(&mut self) -> Vec<Message> {
        let mut heard = Vec::new();
        while let Some(stream) = &mut self.stream {
            match stream.next().expect("what an arbiter sends is well made") {
                Some(message) => heard.push(message),
                None => match stream.read() {
                    Ok(Received::Some) => {}
                    Ok(Received::WouldBlock) => break,
                    Ok(Received::End) | Err(_) => self.stream = None,
                },
            }
        }
        heard
    }

    /// Closes it.
    pub fn hang_up(&mut self) {
        self.stream = None;
    }
}
