//! How a connection begins: messages with descriptors, cut anywhere. A client hears anything in place of a welcome: it has an
//! error or is connected, and asks no further once it was refused. And a socket brings bytes and descriptors in any pieces:
//! each message has as many as it announces, in the order in which they came, or the connection ends; none stays open.
//!
//! C1, C14, C15, D2, D3, B1, B18. The arbiter's side of it all is in `session`.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use stokehold::internals::conn::{Message, Received, Stream};
use stokehold::internals::ring::Generation;
use stokehold::internals::shm::{Board, Control, Registry};
use stokehold::internals::sys::{event::Event, pidfd, socket};
use stokehold::internals::wire::{Header, Kind};
use stokehold::{Client, Code, Options};
use stokehold_fuzz::peer::{Given, Odd, Peer, Says};

#[derive(Arbitrary, Debug)]
enum Input {
    /// What a client hears, and how its first words are changed.
    Client { twists: Vec<Twist>, heard: Vec<Heard> },
    /// What a socket brings.
    Socket { pieces: Vec<Piece> },
}

/// A message of an arbiter that keeps to the rules, or any other.
#[derive(Arbitrary, Debug)]
enum Heard {
    Welcome {
        fields: Vec<(u8, Says)>,
        fds: Vec<Part>,
    },
    Registered {
        index: u16,
        serial: u32,
    },
    Refused {
        code: u16,
        bound: u8,
    },
    Odd(Odd),
    /// A frame of another version, or of none.
    Version {
        version: u8,
        kind: u8,
        magic: bool,
    },
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Twist {
    Field(u8, Says),
    /// One descriptor in place of another.
    Fd(u8, Part),
    Less,
    Announce(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Part {
    Control,
    Registry,
    Board,
    Process,
    Other(Given),
}

#[derive(Arbitrary, Debug)]
struct Piece {
    what: Bytes,
    /// Descriptors that go with it.
    fds: u8,
}

#[derive(Arbitrary, Debug)]
enum Bytes {
    /// A whole frame that announces so many.
    Frame {
        kind: u8,
        announces: Option<u8>,
        pad: u8,
    },
    /// Its beginning, and later its end.
    Half {
        announces: u8,
        at: u8,
    },
    Rest,
    Raw(Vec<u8>),
}

const FIELDS: &[&str] =
    &["lane", "serial", "generation", "apps", "timeout_ns", "app_threads", "index", "region_serial", "fds"];

fuzz_target!(|input: Input| match input {
    Input::Client { twists, heard } => client(twists, heard),
    Input::Socket { pieces } => pieces_of_messages(pieces),
});

fn client(twists: Vec<Twist>, heard: Vec<Heard>) {
    let (ours, theirs) = socket::pair().expect("a pair");
    let mut peer = Peer::new(ours);
    let mut parts = vec![Part::Control, Part::Registry, Part::Board, Part::Process];
    let mut message = welcome();
    for twist in twists.iter().take(8) {
        match twist {
            Twist::Field(name, says) => {
                message = message.with(FIELDS[usize::from(*name) % FIELDS.len()], says.value())
            }
            Twist::Fd(at, part) => {
                let at = usize::from(*at) % parts.len().max(1);
                parts.splice(at..(at + 1).min(parts.len()), [*part]);
            }
            Twist::Less => drop(parts.pop()),
            Twist::Announce(n) => message = message.with("fds", i64::from(*n)),
        }
    }
    let message = parts.iter().take(4).filter_map(|part| part.open()).fold(message, Message::with_fd);
    peer.say(message.answering(1));
    for heard in heard.iter().take(8) {
        heard.said_by(&mut peer);
    }
    if let Some(fd) = peer.fd() {
        // SAFETY: plain numbers.
        unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
    }
    match Client::connect(theirs, Options::default()) {
        Ok(client) => {
            // It works with what it was given, and whoever gave it is gone.
            let _ = client.apps().len();
            let sent = client.call("a:A", "f").deadline_ms(0).submit();
            let outcome = sent.map(|pending| pending.cancel().map(drop));
            assert!(!matches!(outcome, Ok(Ok(()))), "nobody answers");
        }
        Err(error) => {
            assert!(!matches!(error.code(), Code::App | Code::WorkerDied), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
}

fn welcome() -> Message {
    Message::new(Kind::Welcome)
        .with("lane", 0)
        .with("serial", 1)
        .with("generation", 1)
        .with("apps", vec!["a:A".to_owned()])
        .with("timeout_ns", 0)
        .with("app_threads", 1)
}

impl Heard {
    fn said_by(&self, peer: &mut Peer) {
        match self {
            Heard::Welcome { fields, fds } => {
                let message = fields.iter().take(8).fold(welcome(), |message, (name, says)| {
                    message.with(FIELDS[usize::from(*name) % FIELDS.len()], says.value())
                });
                peer.say(fds.iter().take(4).filter_map(|part| part.open()).fold(message, Message::with_fd));
            }
            Heard::Registered { index, serial } => peer.say(
                Message::new(Kind::Registered)
                    .with("index", i64::from(*index))
                    .with("region_serial", i64::from(*serial)),
            ),
            Heard::Refused { code, bound } => peer.say(
                Message::new(Kind::Refused)
                    .with("code", i64::from(*code))
                    .with("bound", i64::from(*bound))
                    .with("why", "bad request: no"),
            ),
            Heard::Odd(odd) => peer.say(odd.message()),
            Heard::Version { version, kind, magic } => {
                let mut bytes =
                    Header { kind: Kind::from_code(*kind).unwrap_or(Kind::Bye), len: 0, id: 0 }.encode();
                bytes[2] = *version;
                bytes[0] ^= u8::from(*magic);
                peer.say_raw(&bytes, &[]);
            }
            Heard::Raw(bytes) => peer.say_raw(bytes, &[]),
        }
    }
}

impl Part {
    fn open(self) -> Option<OwnedFd> {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().ok();
        match self {
            Part::Control => copy(Control::create(Generation(1)).ok()?.fd()),
            Part::Registry => copy(Registry::create().ok()?.fd()),
            Part::Board => copy(Board::create().ok()?.fd()),
            Part::Process => pidfd::of_self().ok(),
            Part::Other(given) => given.open(),
        }
    }
}

/// Each descriptor is an event counter of its own, so that it can be told from the others.
fn pieces_of_messages(pieces: Vec<Piece>) {
    let (ours, theirs) = socket::pair().expect("a pair");
    for end in [&ours, &theirs] {
        socket::set_nonblocking(end.as_fd(), true).expect("a socket");
    }
    let mut stream = Stream::new(theirs);
    let (mut sent, mut taken) = (Vec::new(), 0);
    let mut rest: Vec<u8> = Vec::new();
    for piece in pieces.into_iter().take(24) {
        let (bytes, clean) = piece.what.bytes(&mut rest);
        let events: Vec<Event> = (0..piece.fds % 5).filter_map(|_| Event::new().ok()).collect();
        let fds: Vec<BorrowedFd<'_>> = events.iter().map(AsFd::as_fd).collect();
        if bytes.is_empty()
            || !matches!(socket::send(ours.as_fd(), &[IoSlice::new(&bytes)], &fds), Ok(Some(_)))
        {
            continue;
        }
        sent.extend(events);
        // Read as they come: what is read at once may be of several.
        if !clean {
            continue;
        }
        if !hear(&mut stream, &sent, &mut taken) {
            return;
        }
    }
    hear(&mut stream, &sent, &mut taken);
}

/// `false`: the connection is of no more use.
fn hear(stream: &mut Stream, sent: &[Event], taken: &mut usize) -> bool {
    loop {
        loop {
            match stream.next() {
                Ok(Some(mut message)) => {
                    assert!(!message.fds_lost, "there is room for descriptors");
                    let announced = message.field("fds").and_then(|n| n.as_int()).unwrap_or(0);
                    assert_eq!(message.fds.len() as i64, announced);
                    for fd in message.fds.drain(..) {
                        assert!(*taken < sent.len());
                        let event = Event::adopt(fd);
                        event.signal();
                        assert!(sent[*taken].drain(), "in the order in which they came");
                        *taken += 1;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.code(), Code::Frame, "{error}");
                    return false;
                }
            }
        }
        match stream.read() {
            Ok(Received::Some) => {}
            Ok(Received::WouldBlock | Received::End) => return true,
            Err(error) => {
                assert_eq!(error.code(), Code::Frame, "{error}");
                return false;
            }
        }
    }
}

impl Bytes {
    /// And whether a read may come behind it.
    fn bytes(self, rest: &mut Vec<u8>) -> (Vec<u8>, bool) {
        let frame = |kind: u8, announces: Option<u8>, pad: u8| {
            let kind = Kind::from_code(0x40 + kind % 20).unwrap_or(Kind::Bye);
            let message = Header::frame(kind, 0, |e| {
                let fields = announces.map(|n| ("fds".to_owned(), stokehold::Value::Int(n.into())));
                let pad = ("pad".to_owned(), stokehold::Value::Bytes(vec![0; pad.into()]));
                stokehold::Encode::encode(
                    &stokehold::Value::Dict(fields.into_iter().chain([pad]).collect()),
                    e,
                )
            });
            message.expect("a small frame")
        };
        match self {
            Bytes::Frame { kind, announces, pad } => (frame(kind, announces, pad), true),
            Bytes::Half { announces, at } => {
                let mut whole = frame(0, Some(announces), 3);
                let second = whole.split_off(1 + usize::from(at) % (whole.len() - 1));
                *rest = second;
                (whole, true)
            }
            Bytes::Rest => (std::mem::take(rest), true),
            Bytes::Raw(bytes) => (bytes, false),
        }
    }
}
