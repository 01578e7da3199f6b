//! What a worker says to its arbiter on a socket, and no worker says.

use crate::guard::Stopped;
use crate::{lies, proc};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;
use std::{fs, io, process, thread};
use stokehold::internals::conn::{Message, Stream};
use stokehold::internals::shm::{Region, RegionKind, layout_hash};
use stokehold::internals::sys::memfd::{self, Seals};
use stokehold::internals::sys::{clock, event, pidfd, socket};
use stokehold::internals::wire::{Header, Kind, Value};

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is nothing to the arbiter, or refused.
    Nothing,
    /// Its sender is killed.
    Death,
    /// Its sender is killed, if that is the socket which nobody reads meanwhile.
    Stuck,
    /// Either: what its worker says next may be taken for a part of it.
    Either,
}

use Fate::{Death, Either, Nothing, Stuck};

pub const SAYINGS: &[(&str, Fate)] = &[
    ("half a header", Either),
    ("half a frame", Either),
    ("a frame that is too long", Death),
    ("a frame as long as can be", Death),
    ("a frame whose rest never comes", Either),
    ("no frame", Death),
    ("zeroes", Death),
    ("another version", Death),
    ("no kind", Death),
    ("a list for a body", Death),
    ("lists in lists", Death),
    ("more items than bytes", Death),
    ("no text", Death),
    ("a body of garbage", Death),
    ("ready again", Nothing),
    ("ready with many threads", Nothing),
    ("ready with threads of others", Nothing),
    ("refused", Nothing),
    ("refused at length", Death),
    ("few bytes and many values", Death),
    ("what clients say", Death),
    ("what clients say of lanes", Death),
    ("what a host says", Death),
    ("what an arbiter says", Death),
    ("what only regions say", Death),
    ("a lane of nobody is suspect", Nothing),
    ("a lane below zero is suspect", Death),
    ("every lane is suspect", Nothing),
    ("alert nobody", Nothing),
    ("alert everybody, often", Nothing),
    ("fetch what is gone", Nothing),
    ("fetch below zero", Nothing),
    ("fetch and do not read", Stuck),
    ("retire what is others'", Nothing),
    ("signalled what nobody asked for", Nothing),
    ("a signal to nobody's call", Death),
    ("register no memory", Nothing),
    ("register loose memory", Nothing),
    ("register memory with holes", Nothing),
    ("register another length", Nothing),
    ("register more than there is", Nothing),
    ("register less than nothing", Death),
    ("register nothing at all", Death),
    ("register without end", Nothing),
    ("connect what is no socket", Nothing),
    ("connect a listener", Nothing),
    ("connect a listener where somebody waits", Nothing),
    ("connect the arbiter to itself", Either),
    ("connect and have the arbiter wait for more", Nothing),
    ("connect and have the arbiter wait for room", Nothing),
    ("connect and ask who says things", Nothing),
    ("connect again and again", Nothing),
    ("descriptors unasked", Death),
    ("fewer descriptors than announced", Death),
    ("more descriptors than can be", Death),
    ("a number of descriptors below zero", Death),
    ("a socket that takes its time to close", Nothing),
    ("many descriptors, the last of which takes its time to close", Nothing),
    ("beside all else what takes its time to close", Either),
    ("nonsense, and behind it what takes its time to close", Death),
    ("far too much, and behind it what takes its time to close", Either),
    ("a socket with one in it that takes its time to close", Death),
    ("a socket in a socket in a socket that takes its time to close", Death),
    ("sockets of messages that take their time to close", Nothing),
    ("more than anybody reads", Nothing),
];

/// The sockets between this worker and its arbiter: of its control thread, of its app threads.
pub fn sockets() -> Vec<OwnedFd> {
    let all = proc::descriptors(process::id()).into_iter().filter(|(_, to)| to.starts_with("socket:"));
    // SAFETY: open, as long as the worker lives, and duplicated at once.
    all.map(|(n, _)| unsafe { BorrowedFd::borrow_raw(n as i32) }.try_clone_to_owned().unwrap()).collect()
}

/// One end of what is said raw.
struct Mouth<'s>(BorrowedFd<'s>);

impl Mouth<'_> {
    fn bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let (mut rest, mut fds) = (bytes, fds);
        while !rest.is_empty() {
            match socket::send(self.0, &[IoSlice::new(rest)], fds) {
                Ok(Some(n)) => (rest, fds) = (&rest[n..], &[]),
                Ok(None) => thread::sleep(Duration::from_micros(200)),
                Err(_) => return, // the arbiter has closed it: that is its answer
            }
        }
    }

    fn frame(&self, kind: u8, body: &[u8]) {
        let mut frame = Header { kind: Kind::Ready, len: body.len() as u32, id: 0 }.encode();
        frame[3] = kind;
        self.bytes(&[&frame[..], body].concat(), &[]);
    }

    fn message(&self, message: Message) {
        let copy = self.0.try_clone_to_owned().unwrap();
        let mut stream = Stream::new(copy);
        if stream.queue(message).is_err() {
            return;
        }
        while let Ok(false) = stream.flush() {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

fn register(fd: OwnedFd, len: i64) -> Message {
    Message::new(Kind::Register).with("len", len).with_fd(fd)
}

fn sealed(fd: &OwnedFd) {
    memfd::seal(fd.as_fd(), Seals::SHRINK | Seals::GROW | Seals::FUTURE_WRITE | Seals::SEAL).unwrap();
}

/// Says it on this socket. What takes its time to close is said while the arbiter stands still, and let go of: it would be closed
/// here, if that was the last to have it.
pub fn say(how: &str, socket: &OwnedFd, life: u16) {
    let is_slow = ["time to close", "somebody waits"].iter().any(|what| how.contains(what));
    let _stopped = is_slow.then(|| Stopped::new(parent()));
    speak(how, socket, life);
}

fn speak(how: &str, socket: &OwnedFd, life: u16) {
    let to = Mouth(socket.as_fd());
    let header = Header { kind: Kind::Ready, len: 1000, id: 0 }.encode();
    let with_len = |len: u32| Header { kind: Kind::Ready, len, id: 0 }.encode();
    let null = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let new = Message::new;
    match how {
        "half a header" => to.bytes(&header[..7], &[]),
        "half a frame" => to.bytes(&[&header[..], &[0x21, 0, 0, 0, 1]].concat(), &[]),
        "a frame that is too long" => to.bytes(&with_len((16 << 10) + 1), &[]),
        "a frame as long as can be" => to.bytes(&with_len(u32::MAX), &[]),
        "a frame whose rest never comes" => to.bytes(&with_len(16 << 10), &[]),
        "no frame" => to.bytes(&[0x5a; 64], &[]),
        "zeroes" => to.bytes(&[0; 64], &[]),
        "another version" => {
            let mut bytes = with_len(0);
            bytes[2] = 7;
            to.bytes(&bytes, &[]);
        }
        "no kind" => to.frame(0xee, &[]),
        "a list for a body" => to.frame(Kind::Ready.code(), &[0x20, 0, 0, 0, 0]),
        "lists in lists" => to.frame(Kind::Ready.code(), &[0x20, 0, 0, 0, 1].repeat(3_000)),
        "more items than bytes" => to.frame(Kind::Ready.code(), &[0x21, 0xff, 0xff, 0xff, 0xff, 0]),
        "no text" => to.frame(Kind::Ready.code(), &[0x21, 0, 0, 0, 1, 0x11, 0, 0, 0, 2, 0xff, 0xfe, 0]),
        "a body of garbage" => to.frame(Kind::Ready.code(), &[0xa5; 5000]),
        "ready again" => (0..1000).for_each(|_| to.message(new(Kind::Ready))),
        "ready with many threads" => {
            let mine: Vec<i64> = vec![i64::from(process::id()); 1_500];
            to.message(new(Kind::Ready).with("tids", mine.clone()));
            to.message(new(Kind::Ready).with("tids", mine));
        }
        "ready with threads of others" => {
            let parent = stokehold::internals::sys::process::parent_pid().unwrap().as_raw();
            let others = vec![1, 0, -1, i64::from(parent), i64::from(i32::MAX), i64::MIN, i64::MAX];
            to.message(new(Kind::Ready).with("tids", others));
        }
        "refused" => to.message(new(Kind::Refused).with("why", "x\n".repeat(8_000))),
        "few bytes and many values" => {
            let nothing = vec![Value::None; 1_000_000];
            let alert = || new(Kind::Alert).with("lane", 0_i64).with("serial", 1_i64);
            (0..100).for_each(|_| to.message(alert().with("more", Value::List(nothing.clone()))));
        }
        "refused at length" => {
            (0..5).for_each(|_| to.message(new(Kind::Refused).with("why", "x\n".repeat(400_000))));
        }
        "what clients say" => to.message(new(Kind::Bye)),
        "what clients say of lanes" => to.message(new(Kind::Renew).with("lane", 0_i64).with("serial", 1_i64)),
        "what a host says" => to.message(new(Kind::Stop).with("now", 1_i64)),
        "what an arbiter says" => to.message(new(Kind::Welcome).with("index", 1_i64)),
        "what only regions say" => to.frame(Kind::Response.code(), &[]),
        "a lane of nobody is suspect" => {
            for lane in [1023, 1024, 70_000, i64::MAX] {
                to.message(new(Kind::Suspect).with("lane", lane).with("serial", -1_i64));
            }
        }
        "a lane below zero is suspect" => {
            to.message(new(Kind::Suspect).with("lane", -1_i64).with("serial", 1_i64));
        }
        "every lane is suspect" => {
            for (lane, serial) in (0..8).flat_map(|lane| (0..200).map(move |serial| (lane, serial))) {
                to.message(
                    new(Kind::Suspect).with("lane", lane).with("serial", serial).with("why", "so I say"),
                );
            }
        }
        "alert nobody" => {
            for lane in [0, 1023, 1024, i64::MAX] {
                to.message(new(Kind::Alert).with("lane", lane).with("serial", -1_i64));
            }
        }
        "alert everybody, often" => {
            for (round, lane) in (0..3000).flat_map(|round| (0..4).map(move |lane| (round, lane))) {
                to.message(new(Kind::Alert).with("lane", lane).with("serial", round % 20));
            }
        }
        "fetch what is gone" => {
            for index in [0, 1999, 2047, 2048, 65535] {
                to.message(new(Kind::Fetch).with("index", index).with("region_serial", 4_000_000_000_i64));
                to.message(new(Kind::Fetch).with("lane", index).with("serial", -1_i64));
                to.message(new(Kind::Fetch).with("lane", index).with("serial", -1_i64).with("event", true));
            }
        }
        "fetch below zero" => to.message(new(Kind::Fetch).with("index", -1_i64).with("region_serial", 1_i64)),
        // Of the second socket this thread is the reader.
        "fetch and do not read" => {
            let (index, serial) = lies::a_region();
            for _ in 0..2_000 {
                let question = new(Kind::Fetch).with("index", i64::from(index));
                to.message(question.with("region_serial", i64::from(serial)));
            }
        }
        "retire what is others'" => {
            for (index, serial) in (0..12).flat_map(|index| (0..200).map(move |serial| (index, serial))) {
                to.message(Message::retire(index, serial));
            }
        }
        "signalled what nobody asked for" => {
            for call in [0_i64, 63, 64, i64::MAX] {
                let answer = new(Kind::Interrupt).with("lane", 1_i64).with("call", call);
                to.message(answer.with("generation", 1_i64).with("signal", 9_i64));
            }
        }
        "a signal to nobody's call" => to.message(new(Kind::Interrupt).with("signal", 9_i64)),
        "register no memory" => {
            let (_, pipe) = io::pipe().unwrap();
            for fd in
                [null(), pipe.into(), event::Event::new().unwrap().as_fd().try_clone_to_owned().unwrap()]
            {
                to.message(register(fd, 65_536));
            }
        }
        "register loose memory" => to.message(register(memfd::create("loose", 65_536).unwrap(), 65_536)),
        "register memory with holes" => {
            let fd = memfd::create("holes", 65_536).unwrap();
            let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: takes numbers.
            assert_eq!(unsafe { libc::fallocate(fd.as_raw_fd(), punch, 4096, 61_440) }, 0);
            sealed(&fd);
            to.message(register(fd, 65_536));
        }
        "register another length" => {
            for len in [4096, 65_535, 65_537, 1 << 30] {
                let fd = memfd::create("short", 65_536).unwrap();
                sealed(&fd);
                to.message(register(fd, len));
            }
        }
        "register more than there is" => {
            to.message(register(memfd::create("short", 4096).unwrap(), i64::MAX));
            to.message(register(memfd::create("short", 4096).unwrap(), 0));
        }
        "register less than nothing" => to.message(register(null(), -1)),
        "register nothing at all" => to.message(new(Kind::Register).with("len", 4096_i64)),
        "register without end" => {
            for _ in 0..400 {
                let region = Region::create(RegionKind::Growth, 8192).unwrap();
                to.message(register(region.fd().try_clone_to_owned().unwrap(), 8192));
            }
        }
        "connect what is no socket" => {
            let (_, pipe) = io::pipe().unwrap();
            let event = event::Event::new().unwrap().as_fd().try_clone_to_owned().unwrap();
            for fd in
                [null(), pipe.into(), event, pidfd::of_self().unwrap(), fs::File::open("/").unwrap().into()]
            {
                to.message(new(Kind::Connect).with_fd(fd));
            }
        }
        "connect a listener" => {
            let listener = UnixListener::bind("kept").unwrap();
            fs::remove_file("kept").unwrap();
            to.message(new(Kind::Connect).with_fd(listener.into()));
        }
        "connect a listener where somebody waits" => {
            let listener = slow_listener();
            to.message(new(Kind::Connect).with_fd(listener));
        }
        // The arbiter's socket is the worker's as well, which says how both of them wait.
        "connect and have the arbiter wait for more" | "connect and have the arbiter wait for room" => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let shared = theirs.try_clone().unwrap();
            to.message(new(Kind::Connect).with_fd(theirs.into()));
            let descriptors = || proc::descriptors(parent()).len();
            let before = descriptors();
            some_time(|| descriptors() > before);
            shared.set_nonblocking(false).unwrap();
            let question = Header { kind: Kind::Status, len: 0, id: 1 }.encode();
            let said = if how.ends_with("more") { question[..1].to_vec() } else { question.repeat(5_000) };
            Mouth(ours.as_fd()).bytes(&said, &[]);
            std::mem::forget((ours, shared));
        }
        // Each message brings a handle to its sender then, if the kernel knows that.
        "connect and ask who says things" => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let on: libc::c_int = 1;
            for option in [libc::SO_PASSCRED, SO_PASSPIDFD] {
                // SAFETY: reads one number.
                unsafe {
                    let len = size_of::<libc::c_int>() as libc::socklen_t;
                    let at = (&raw const on).cast();
                    libc::setsockopt(theirs.as_raw_fd(), libc::SOL_SOCKET, option, at, len)
                };
            }
            to.message(new(Kind::Connect).with_fd(theirs.into()));
            let question = Header { kind: Kind::Status, len: 0, id: 1 }.encode();
            for _ in 0..1_000 {
                Mouth(ours.as_fd()).bytes(&question, &[]);
                let mut answer = [0; 1 << 16];
                let _ = (&ours).read(&mut answer).unwrap();
            }
            std::mem::forget(ours);
        }
        "connect the arbiter to itself" => {
            to.message(new(Kind::Connect).with_fd(socket.try_clone().unwrap()));
        }
        "connect again and again" => {
            for _ in 0..200 {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let client = Mouth(ours.as_fd());
                let hello = new(Kind::Hello).with("layout", layout_hash() as i64).with("pid", 1_i64);
                client.message(hello.with_fd(pidfd::of_self().unwrap()));
                client
                    .message(new(Kind::Suspect).with("life", i64::from(life) + 1000).with("why", "so I say"));
                to.message(new(Kind::Connect).with_fd(theirs.into()));
            }
        }
        "descriptors unasked" => {
            let fds = [null(), null(), null(), null()];
            for _ in 0..5 {
                to.bytes(&with_len(0), &fds.each_ref().map(AsFd::as_fd));
            }
        }
        "fewer descriptors than announced" => to.message(new(Kind::Register).with("fds", 4_i64)),
        "more descriptors than can be" => to.message(new(Kind::Register).with("fds", 255_i64)),
        "a number of descriptors below zero" => to.message(new(Kind::Register).with("fds", -1_i64)),
        "a socket that takes its time to close" => {
            to.message(register(slow_to_close(), 4096));
        }
        "many descriptors, the last of which takes its time to close" => {
            let (null, slow) = (null(), slow_to_close());
            let mut fds = vec![null.as_raw_fd(); 252];
            fds.push(slow.as_raw_fd());
            let rights = [ControlMessage::ScmRights(&fds)];
            let header = with_len(0);
            let parts = [IoSlice::new(&header)];
            sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
        }
        "beside all else what takes its time to close" => {
            let slow = slow_to_close();
            let rights = [slow.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&rights)];
            let parts = [IoSlice::new(&[0x5a])];
            let _ = sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::MSG_OOB, None);
            drop(slow);
            to.bytes(&[0x5a; 64], &[]);
        }
        "nonsense, and behind it what takes its time to close" => {
            to.bytes(&[0x5a; 64 << 10], &[]);
            to.message(register(slow_to_close(), 4096));
        }
        "far too much, and behind it what takes its time to close" => {
            let slow = slow_to_close();
            to.bytes(&with_len(0).repeat(4_000), &[]);
            to.bytes(&with_len(0), &[slow.as_fd()]);
            // The arbiter goes on when this worker is dead.
            let goes_on = format!("(sleep 0.1; kill -CONT {}) &", parent());
            process::Command::new("sh").args(["-c", &goes_on]).status().unwrap();
            stokehold::internals::sys::process::exit_now(9)
        }
        "a socket with one in it that takes its time to close" => {
            to.message(register(parcel(slow_to_close()), 4096));
        }
        "a socket in a socket in a socket that takes its time to close" => {
            to.message(register(parcel(parcel(slow_to_close())), 4096));
        }
        "sockets of messages that take their time to close" => {
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            let slow = slow_to_close();
            ours.send(&[]).unwrap();
            socket::send(ours.as_fd(), &[IoSlice::new(b"x")], &[slow.as_fd()]).unwrap();
            to.message(register(theirs.into(), 4096));
        }
        "more than anybody reads" => {
            let end = clock::monotonic_ns() + 300_000_000;
            while clock::monotonic_ns() < end {
                to.message(new(Kind::Alert).with("lane", 0_i64).with("serial", 1_i64));
            }
        }
        other => panic!("nothing to say of {other}"),
    }
}

/// See `unix(7)`.
const SO_PASSPIDFD: libc::c_int = 76;

fn parent() -> u32 {
    stokehold::internals::sys::process::parent_pid().unwrap().as_raw() as u32
}

/// Until it is so, if it comes to be so soon.
fn some_time(is: impl Fn() -> bool) {
    for _ in 0..200 {
        if is() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A socket in which this is.
fn parcel(what: OwnedFd) -> OwnedFd {
    let (ours, theirs) = socket::pair().unwrap();
    socket::send(ours.as_fd(), &[IoSlice::new(b"x")], &[what.as_fd()]).unwrap();
    theirs
}

/// One that listens, with a connection that nobody has accepted, in which one is that takes its time to close.
fn slow_listener() -> OwnedFd {
    let listener = UnixListener::bind("kept").unwrap();
    let ours = UnixStream::connect("kept").unwrap();
    fs::remove_file("kept").unwrap();
    let slow = slow_to_close();
    socket::send(ours.as_fd(), &[IoSlice::new(b"x")], &[slow.as_fd()]).unwrap();
    listener.into()
}

/// Where somebody listens, and accepts nothing, who outlives those who say things: the file `port` says where.
pub fn outlive() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    fs::write("port", listener.local_addr().unwrap().to_string()).unwrap();
    listener
}

/// A connection over the network to nobody who reads, full, that is to wait for long when it is closed.
fn slow_to_close() -> OwnedFd {
    let mut ours = TcpStream::connect(fs::read_to_string("port").unwrap()).unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 65_536]).is_ok() {}
    let linger = libc::linger { l_onoff: 1, l_linger: 20 };
    // SAFETY: reads one `linger`.
    let set = unsafe {
        let len = size_of::<libc::linger>() as libc::socklen_t;
        let at = (&raw const linger).cast();
        libc::setsockopt(ours.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, at, len)
    };
    assert_eq!(set, 0);
    ours.into()
}
