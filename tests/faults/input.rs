//! What peers may send that no correct peer sends. The arbiter closes that connection, with a word if it can, and
//! nobody else notices.

use crate::app::{Random, begun, builder, call, keyed, number, open, pattern, until_begun, works};
use crate::baseline::Baseline;
use crate::guard::PoolGuard;
use crate::harness::Outcome;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::shm::{Region, RegionKind, layout_hash};
use stokehold::internals::sys::memfd::{self, Seals};
use stokehold::internals::sys::{fd, map::Mapping, pidfd, socket};
use stokehold::internals::wire::{Header, Kind};
use stokehold::{Client, Code, Error, Options, Pool, Result};

crate::tests! {
    garbage_closes_its_own_connection_only,
    frames_of_impossible_lengths,
    half_a_frame_and_a_close,
    peers_that_say_nothing,
    another_layout_is_incompatible,
    a_greeting_without_a_process,
    regions_that_are_not_what_they_must_be,
    regions_that_have_no_room_for_a_header,
    a_lane_that_is_opened_again_and_again,
    answers_that_nobody_reads,
    messages_that_a_client_may_not_send,
    c10_a_client_meddles_with_another_and_only_its_own_connection_ends,
    descriptors_that_nobody_announced,
    a_peer_that_greets_again_and_again,
    a_worker_that_greets_again,
    garbage_between_two_calls_of_a_client_process,
}

/// One connection to the arbiter that is not a client's, while a client watches that it is well.
struct Peer<'p> {
    client: Client,
    pool: &'p Pool,
    base: Baseline,
}

impl<'p> Peer<'p> {
    fn new(pool: &'p Pool) -> Peer<'p> {
        let client = pool.client().unwrap();
        works(&client);
        Peer { client, base: Baseline::of(pool), pool }
    }

    fn socket(&self) -> UnixStream {
        UnixStream::from(self.pool.client_socket().unwrap())
    }

    fn link(&self) -> Link {
        Link::new(self.pool.client_socket().unwrap())
    }

    /// A peer that is known as a client, and the number of its lane.
    fn greeted(&self) -> (Link, i64) {
        let mut link = self.link();
        let welcome = link.ask(hello(layout_hash()), Kind::Welcome, PATIENCE).unwrap();
        let serial = welcome.int("serial").unwrap();
        (link, serial)
    }

    /// Nobody else noticed, and nothing is left.
    fn check(&self) {
        works(&self.client);
        self.base.reached();
        works(&self.pool.client().unwrap());
    }
}

/// For an answer of an arbiter.
pub const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

/// What a client says first.
pub fn hello(layout: u64) -> Message {
    hello_with(layout, pidfd::of_self().unwrap())
}

/// The same with something else than a handle to this process.
pub fn hello_with(layout: u64, fd: OwnedFd) -> Message {
    Message::new(Kind::Hello).with("layout", layout as i64).with("pid", 1).with_fd(fd)
}

/// The arbiter has closed: the rest of what it said, which ends.
fn ends(mut socket: UnixStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => {}
        // It closed before it had read all.
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "{error}"),
    }
    rest
}

fn closed(link: &mut Link) {
    match link.receive(PATIENCE) {
        Ok(None) => {}
        Ok(Some(message)) => panic!("it said {message:?}"),
        Err(error) => assert!(error.to_string().contains("reset"), "{error}"),
    }
}

fn refusal(answer: Result<Message>) -> Error {
    match answer {
        Ok(message) => panic!("it was taken: {message:?}"),
        Err(error) => error,
    }
}

/// C1.
fn garbage_closes_its_own_connection_only() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let mut random = Random(1);
    for len in [1, 15, 16, 17, 100, 5_000, 100_000] {
        let mut socket = peer.socket();
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8 | 0x80).collect();
        let _ = socket.write_all(&bytes); // it may be closed half-way
        let _ = socket.shutdown(std::net::Shutdown::Write);
        ends(socket);
        works(&peer.client);
    }
    peer.check();
    Ok(())
}

/// C2.
fn frames_of_impossible_lengths() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    for len in [u32::MAX, 1 << 30, (1 << 20) + 1, (16 << 10) + 1] {
        let mut socket = peer.socket();
        socket.write_all(&Header { kind: Kind::Hello, len, id: 1 }.encode()).unwrap();
        // Refused by the header alone: no byte of the body was sent, and none is waited for.
        ends(socket);
    }
    peer.check();
    Ok(())
}

/// C4.
fn half_a_frame_and_a_close() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let header = Header { kind: Kind::Hello, len: 100, id: 1 }.encode();
    for len in [1, 8, 16] {
        peer.socket().write_all(&header[..len]).unwrap();
    }
    let mut socket = peer.socket();
    socket.write_all(&header).unwrap();
    socket.write_all(&[0; 99]).unwrap();
    drop(socket);
    peer.check();
    Ok(())
}

fn peers_that_say_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let silent: Vec<_> = (0..200).map(|_| peer.socket()).collect();
    works(&peer.client);
    works(&pool.client().unwrap());
    drop(silent);
    peer.check();
    Ok(())
}

/// B18, C14.
fn another_layout_is_incompatible() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let error = refusal(peer.link().ask(hello(layout_hash() ^ 1), Kind::Welcome, PATIENCE));
    assert_eq!(error.code(), Code::Incompatible, "{error}");
    assert!(error.to_string().contains(&format!("{:#x}", layout_hash())), "{error}");
    peer.check();
    Ok(())
}

fn a_greeting_without_a_process() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let greeting = || Message::new(Kind::Hello).with("layout", layout_hash() as i64);
    let mut link = peer.link();
    link.send(greeting()).unwrap();
    closed(&mut link);
    // Descriptors of other things, which never say that a process ended.
    for wrong in [fd::dev_null().unwrap(), socket::pair().unwrap().0] {
        let mut link = peer.link();
        link.send(greeting().with_fd(wrong)).unwrap();
        let _ = link.receive(PATIENCE);
        drop(link);
        works(&peer.client);
    }
    peer.check();
    Ok(())
}

/// A memory file as it must be, but for its seals and its size.
fn file(len: usize, seals: Seals) -> OwnedFd {
    let file = memfd::create("stokehold-test", len).unwrap();
    memfd::seal(file.as_fd(), seals).unwrap();
    file
}

fn registration(kind: RegionKind, len: usize, lane: i64, fd: OwnedFd) -> Message {
    let message = Message::new(Kind::Register).with("kind", kind as i64).with("len", len as i64);
    message.with("serial", lane).with_fd(fd)
}

/// B1.
fn regions_that_are_not_what_they_must_be() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let (mut link, serial) = peer.greeted();
    let mut register = |kind: RegionKind, len: usize, fd: OwnedFd| {
        let error = refusal(link.ask(registration(kind, len, serial, fd), Kind::Registered, PATIENCE));
        works(&peer.client);
        error.to_string()
    };
    let all = Seals::SHRINK | Seals::GROW | Seals::SEAL | Seals::FUTURE_WRITE;
    let size = 64 * 1024;
    let said = register(RegionKind::Requests, size, file(size, Seals::NONE));
    assert!(said.contains("seal"), "{said}");
    let said = register(RegionKind::Requests, size, file(size, Seals::SHRINK | Seals::GROW | Seals::SEAL));
    assert!(said.contains("seal"), "{said}");
    let said = register(RegionKind::Requests, size, file(4096, all));
    assert!(said.contains("4096") && said.contains("65536"), "{said}");
    let said = register(RegionKind::Requests, size, file(2 * size, all));
    assert!(said.contains("131072") && said.contains("65536"), "{said}");
    let said = register(RegionKind::Requests, size, file(size, all));
    assert!(said.contains("layout"), "no header: {said}");
    let said = register(RegionKind::Requests, size, fd::dev_null().unwrap());
    assert!(said.contains("memory file"), "{said}");
    // One of ours, but of another kind and size.
    let growth = Region::create(RegionKind::Growth, 2 * size).unwrap();
    let said = register(RegionKind::Requests, 2 * size, growth.fd().try_clone_to_owned().unwrap());
    assert!(!said.is_empty());
    let said = register(RegionKind::Growth, usize::MAX >> 1, growth.fd().try_clone_to_owned().unwrap());
    assert!(said.contains("overloaded"), "{said}");
    let said = register(RegionKind::Registry, 2 * size, growth.fd().try_clone_to_owned().unwrap());
    assert!(!said.is_empty());
    // A map keeps nothing alive in the arbiter.
    drop(Mapping::shared_ro(growth.fd(), 4096).unwrap());
    drop(growth);
    drop(link);
    peer.check();
    Ok(())
}

fn regions_that_have_no_room_for_a_header() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let (mut link, serial) = peer.greeted();
    let all = Seals::SHRINK | Seals::GROW | Seals::SEAL | Seals::FUTURE_WRITE;
    for kind in [RegionKind::Growth, RegionKind::Requests] {
        for len in [1, 63, 64, 4095, 4096] {
            let answer =
                link.ask(registration(kind, len, serial, file(len, all)), Kind::Registered, PATIENCE);
            assert_eq!(refusal(answer).code(), Code::Incompatible, "{kind:?} of {len} bytes");
        }
    }
    drop(link);
    peer.check();
    Ok(())
}

/// The table of regions has room for as many lanes as there may be, not for as many as one client opens.
fn a_lane_that_is_opened_again_and_again() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let (mut link, serial) = peer.greeted();
    let region = Region::create(RegionKind::Requests, 64 * 1024).unwrap();
    let mut open = || {
        let fd = region.fd().try_clone_to_owned().unwrap();
        link.ask(registration(RegionKind::Requests, region.len(), serial, fd), Kind::Registered, PATIENCE)
    };
    open().unwrap();
    let before = Baseline::count(pool.arbiter_pid());
    for _ in 0..10 {
        assert_eq!(refusal(open()).code(), Code::BadRequest);
    }
    assert_eq!(Baseline::count(pool.arbiter_pid()), before);
    drop(link);
    peer.check();
    Ok(())
}

/// Each has a descriptor, and the arbiter may not have any number of them.
fn answers_that_nobody_reads() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let (mut link, _) = peer.greeted();
    let (mut sent, mut most) = (0, 0);
    // More than the socket has room for, which is some hundreds.
    while sent < 3_000 && link.send(Message::new(Kind::Fetch).with("event", true)).is_ok() {
        sent += 1;
        if sent % 100 == 0 {
            works(&peer.client);
            most = most.max(Baseline::count(pool.arbiter_pid()).0.len());
        }
    }
    assert!(most < peer.base.open.0.len() + 100, "{most} descriptors after {sent} questions");
    assert!(sent < 3_000, "it went on for ever");
    drop(link);
    peer.check();
    Ok(())
}

fn messages_that_a_client_may_not_send() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    for kind in
        [Kind::Ready, Kind::Suspect, Kind::Stop, Kind::Connect, Kind::Config, Kind::Request, Kind::Welcome]
    {
        let (mut link, _) = peer.greeted();
        link.send(Message::new(kind).with("now", 1)).unwrap();
        closed(&mut link);
        works(&peer.client);
    }
    // Questions about what is not there.
    let (mut link, _) = peer.greeted();
    for index in [0, 5, 2047, 2048, 65_535] {
        let question = Message::new(Kind::Fetch).with("index", index).with("region_serial", 0x7fff_ffff);
        refusal(link.ask(question, Kind::Fetched, PATIENCE));
    }
    works(&peer.client);
    drop(link);
    peer.check();
    Ok(())
}

/// It knows all numbers, and sends whatever has to do with another's lane, what only workers and the arbiter send
/// among it. Each of these ends its connection. The other has a call that runs, one that waits and a result that it holds,
/// and keeps them all.
fn c10_a_client_meddles_with_another_and_only_its_own_connection_ends() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let (mut first, serial) = {
        let mut link = Link::new(pool.client_socket().unwrap());
        let welcome = link.ask(hello(layout_hash()), Kind::Welcome, PATIENCE).unwrap();
        (Some(link), welcome.int::<i64>("serial").unwrap())
    };
    // Lanes have numbers in a row: the victim's is the next.
    let victim = pool.client().unwrap();
    let (serial, lane) = (serial + 1, 1);
    let lease = victim.lease_from(&[7; 200_000]).unwrap();
    let held = call(&victim, "pattern").args((9, 1000)).execute().unwrap();
    let running = call(&victim, "hold").args((1, "gate", &lease)).submit().unwrap();
    until_begun(1);
    let queued = call(&victim, "note").args((2,)).submit().unwrap();
    let of_lane = |kind: Kind| Message::new(kind).with("lane", lane).with("serial", serial);
    let region = |kind: RegionKind| {
        let region = Region::create(kind, 128 * 1024).unwrap();
        registration(kind, region.len(), serial, region.fd().try_clone_to_owned().unwrap())
    };
    let attacks = [
        of_lane(Kind::Suspect).with("why", "for fun"),
        of_lane(Kind::Alert),
        of_lane(Kind::Renew),
        Message::new(Kind::Renew).with("lane", 0).with("serial", 0).with("released", vec![serial]),
        of_lane(Kind::Fetch),
        of_lane(Kind::Fetch).with("index", 0).with("region_serial", 0x7fff_ffff),
        region(RegionKind::Growth),
        region(RegionKind::Requests),
        Message::new(Kind::Notice).with("late", "a call of another"),
        Message::new(Kind::Ready).with("tids", vec![1i64]),
        Message::new(Kind::Refused).with("why", "the coal is wet"),
        Message::new(Kind::Stop).with("now", 1),
        Message::new(Kind::Tidy),
        Message::new(Kind::Response),
        Message::new(Kind::Error),
        Message::new(Kind::End),
    ];
    let before = victim.worker_pids();
    for attack in attacks {
        let mut link = first.take().unwrap_or_else(|| {
            let mut link = Link::new(pool.client_socket().unwrap());
            link.ask(hello(layout_hash()), Kind::Welcome, PATIENCE).unwrap();
            link
        });
        let what = format!("{attack:?}");
        link.send(attack).unwrap();
        match link.receive(PATIENCE) {
            Ok(None) => {}
            Ok(Some(answer)) => panic!("{what} was answered: {answer:?}"),
            Err(error) => assert!(error.to_string().contains("reset"), "{what}: {error}"),
        }
    }
    // Its memory by number, whatever the number of its registration is: nothing that comes is a client's.
    let mut got = Vec::new();
    for index in 0..16 {
        for registration in 0..32 {
            let mut link = first.take().unwrap_or_else(|| Link::new(pool.client_socket().unwrap()));
            link.ask(hello(layout_hash()), Kind::Welcome, PATIENCE).unwrap();
            let question = Message::new(Kind::Fetch).with("index", index).with("region_serial", registration);
            if let Ok(mut answer) = link.ask(question, Kind::Fetched, PATIENCE) {
                let [fd] = answer.take_fds().unwrap();
                got.push(Region::adopt(RegionKind::Results, fd, answer.int("len").unwrap()).is_ok());
            }
        }
    }
    assert_eq!(got, [true], "the worker's results, and nothing else");
    assert_eq!(begun(2), 0);
    open("gate");
    assert_eq!(number(running.wait()), keyed(1, &[7; 200_000]));
    assert_eq!(number(queued.wait()), 2);
    assert_eq!(held.as_bytes().unwrap(), pattern(9, 1000));
    assert_eq!(victim.worker_pids(), before);
    drop(held);
    works(&victim);
    assert_eq!(victim.free_calls(), 64);
    Ok(())
}

/// D3.
fn descriptors_that_nobody_announced() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let null = fd::dev_null().unwrap();
    let socket = peer.socket();
    let four = [null.as_fd(); 4];
    let header = Header { kind: Kind::Hello, len: 1000, id: 1 }.encode();
    for byte in header.chunks(1) {
        if socket::send(socket.as_fd(), &[IoSlice::new(byte)], &four).is_err() {
            break; // closed by now
        }
    }
    ends(socket);
    peer.check();
    Ok(())
}

fn a_peer_that_greets_again_and_again() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let peer = Peer::new(&pool);
    let (mut link, _) = peer.greeted();
    for _ in 0..20 {
        let _ = link.ask(hello(layout_hash()), Kind::Welcome, PATIENCE);
    }
    drop(link);
    peer.check();
    Ok(())
}

/// As a client that does: each greeting would have a place in the table of regions.
fn a_worker_that_greets_again() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let (base, before) = (Baseline::of(&pool), client.worker_pids());
    let _ = crate::app::call(&client, "greet_again").execute(); // it may be killed before it answers
    crate::app::ready(&client, 1, &before);
    works(&client);
    base.reached();
    Ok(())
}

fn garbage_between_two_calls_of_a_client_process() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let socket = pool.client_socket().unwrap();
    let copy = UnixStream::from(socket.try_clone().unwrap());
    let client = Client::connect(socket, Options::default()).unwrap();
    works(&client);
    (&copy).write_all(b"no frame at all: its connection ends").unwrap();
    // Its lane ends with its connection, and a call says so or is refused; it does not wait for ever.
    let outcome = crate::app::call(&client, "add").args((1, 2)).deadline_ms(5_000).execute();
    if let Err(error) = outcome {
        assert!([Code::Protocol, Code::ArbiterDied, Code::Deadline].contains(&error.code()), "{error:?}");
    }
    works(&pool.client().unwrap());
    Ok(())
}
