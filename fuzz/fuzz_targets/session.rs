//! The arbiter, and everything that a host, clients and workers may do to it, one thing after another: come, say what makes
//! sense or anything else, write into the memory that they share, go, die. After each the arbiter's books are checked
//! (`rig.rs`), and nobody has got what belongs to another client. A client that keeps to the rules is served to the end; in
//! the end nothing is left open.
//!
//! D3, D8, C9, C10, C13, A17, B1, B6.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;
use stokehold::Mode;
use stokehold::internals::arbiter::rig::Rig;
use stokehold::internals::arbiter::{Counters, Settings};
use stokehold::internals::conn::Message;
use stokehold::internals::pool::Config;
use stokehold::internals::ring::Generation;
use stokehold::internals::shm::{Deadline, OwnRecord, Region, RegionKind, Requests, Results, layout_hash};
use stokehold::internals::sys::process::Pid;
use stokehold::internals::sys::signal::{Saved, Signal};
use stokehold::internals::sys::{clock, pidfd, socket};
use stokehold::internals::wire::Kind;
use stokehold::internals::worker::Boot;
use stokehold_fuzz::peer::{Given, Odd, Peer};
use stokehold_fuzz::rough::{Rough, word};
use stokehold_fuzz::sleeper;

/// One thing that happens.
#[derive(Arbitrary, Debug)]
enum Deed {
    /// The host brings a client.
    Bring,
    /// One comes in by itself.
    Knock,
    Ask {
        who: u8,
        what: Ask,
        twist: Option<Twist>,
    },
    Work {
        who: u8,
        fetch: bool,
        what: Ask,
        twist: Option<Twist>,
    },
    Host {
        what: Ask,
    },
    HangUp {
        who: u8,
    },
    /// A worker dies.
    Die {
        who: u8,
    },
    /// Somebody writes a word of a call.
    Word {
        lane: u8,
        call: u8,
        generation: u8,
        life: u8,
        state: u8,
    },
    /// Or any other.
    Scribble {
        lane: u8,
        at: u16,
        value: u64,
    },
    /// A client says in its own record what it wants.
    Own {
        who: u8,
        call: u8,
        generation: u8,
        what: u8,
        deadline: u16,
    },
    Wait {
        ms: u16,
    },
}

#[derive(Arbitrary, Clone, Debug)]
enum Ask {
    Hello,
    Ready,
    Requests { of: u8 },
    Growth { of: u8 },
    Renew { of: u8, released: u8 },
    Fetch { region: u8 },
    FetchLane { of: u8 },
    FetchEvent { of: Option<u8> },
    Suspect { of: u8 },
    Status,
    Retire { region: u8 },
    Connect,
    Bye,
    Stop { now: bool },
    Notice,
    Interrupt { of: u8 },
    Alert { of: u8 },
    Refused,
    Odd(Odd),
    Raw { bytes: Vec<u8>, given: Vec<Given> },
}

/// A field more, or instead of what was said first; a descriptor more, or one less.
#[derive(Arbitrary, Clone, Debug)]
struct Twist {
    name: u8,
    number: i64,
    given: Option<Given>,
    less: bool,
}

const TWISTED: &[&str] = &[
    "layout",
    "life",
    "lane",
    "serial",
    "kind",
    "len",
    "index",
    "region_serial",
    "fds",
    "tids",
    "generation",
    "call",
];

/// A client, or a worker on both of its sockets.
struct Member {
    peers: Vec<Peer>,
    /// Its pidfd, of a worker.
    process: Option<OwnedFd>,
    life: u16,
    /// Regions that it registered or tried to, by their inodes.
    own: BTreeSet<u64>,
    requests: Option<Requests>,
}

/// What is known of numbers, to whoever it was told.
#[derive(Default)]
struct Known {
    lanes: Vec<(i64, i64)>,
    regions: Vec<(i64, i64)>,
    controls: Vec<Rough>,
}

struct Scene {
    rig: Rig,
    now: u64,
    host: Peer,
    clients: Vec<Member>,
    workers: BTreeMap<u16, Member>,
    born: Rc<RefCell<Vec<(Boot, Pid)>>>,
    known: Known,
}

const MOST: usize = 24;

fuzz_target!(|input: &[u8]| {
    static BEFORE: OnceLock<usize> = OnceLock::new();
    if BEFORE.get().is_none() {
        play(Unstructured::new(&[])); // what is opened once
        let _ = BEFORE.set(ours().len());
    }
    play(Unstructured::new(input));
    let now = ours();
    assert!(BEFORE.get() == Some(&now.len()), "descriptors are left: {now:?}");
});

/// The open descriptors that are no files or pipes, which the fuzzer has some of.
fn ours() -> Vec<String> {
    let all = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let names =
        all.filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()));
    names
        .filter(|name| ["socket:", "anon_inode:", "/memfd:"].iter().any(|kind| name.starts_with(kind)))
        .collect()
}

fn play(mut u: Unstructured<'_>) {
    let shape: u8 = u.arbitrary().unwrap_or(0);
    let mut scene = Scene::new(shape);
    let witness = scene.bring().expect("the first client comes in");
    scene.ask(witness, Ask::Hello, None);
    scene.step();
    scene.ask(witness, Ask::Requests { of: 0 }, None);
    scene.step();
    let deeds = u.arbitrary_iter::<Deed>().into_iter().flatten().map_while(Result::ok).take(64);
    for deed in deeds {
        if !scene.does(deed, witness) {
            break;
        }
    }
    scene.end(witness);
}

impl Scene {
    fn new(shape: u8) -> Scene {
        let now = 1_000_000_000_000;
        clock::stand_at(now);
        let settings = Settings {
            apps: vec!["a:A".into()],
            library: None,
            threads: 1 + usize::from(shape >> 1 & 1),
            policy: Config {
                workers: 1 + usize::from(shape & 1),
                cancel_signal: (shape & 4 != 0).then_some(libc::SIGUSR1),
                ..Config::default()
            },
            mode: Mode::Park,
            timeout_ns: if shape & 8 != 0 { 50_000_000 } else { 0 },
            stall_ns: 0,
            worker_quota: 1 << 20,
            warm_ms: 10_000,
            signals: Saved::from_bits(0, 0),
            build: 0,
            counters: if shape & 16 != 0 { Counters::shortly_before_the_end(2) } else { Counters::default() },
        };
        let (ours, theirs) = socket::pair().expect("a pair");
        let born: Rc<RefCell<Vec<(Boot, Pid)>>> = Rc::default();
        let kept = born.clone();
        let rig = Rig::new(settings, theirs, move |boot| {
            let pid = sleeper::start()?;
            kept.borrow_mut().push((boot, pid));
            Ok(pid)
        })
        .expect("a pool");
        let (clients, workers) = (Vec::new(), BTreeMap::new());
        let mut scene =
            Scene { rig, now, host: Peer::new(ours), clients, workers, born, known: Known::default() };
        scene.step();
        scene
    }

    fn bring(&mut self) -> Option<usize> {
        let (ours, theirs) = socket::pair().ok()?;
        self.host.say(Message::new(Kind::Connect).with_fd(theirs));
        self.join(ours)
    }

    fn join(&mut self, ours: OwnedFd) -> Option<usize> {
        self.clients.push(Member::new(vec![Peer::new(ours)]));
        Some(self.clients.len() - 1)
    }

    /// `false`: the pool has ended.
    fn does(&mut self, deed: Deed, witness: usize) -> bool {
        match deed {
            Deed::Bring if self.clients.len() < MOST => drop(self.bring()),
            Deed::Knock if self.clients.len() < MOST => {
                if let Ok((ours, theirs)) = socket::pair()
                    && self.rig.admit(theirs, self.now + 5_000_000_000).is_ok()
                {
                    self.join(ours);
                }
            }
            Deed::Bring | Deed::Knock => {}
            Deed::Ask { who, what, twist } => {
                let who = usize::from(who) % self.clients.len();
                if who != witness {
                    self.ask(who, what, twist);
                }
            }
            Deed::Work { who, fetch, what, twist } => {
                let lives: Vec<u16> = self.workers.keys().copied().collect();
                if let Some(life) = lives.get(usize::from(who) % lives.len().max(1)) {
                    self.work(*life, fetch, what, twist);
                }
            }
            Deed::Host { what } => {
                let message = match what {
                    Ask::Stop { now } => Message::new(Kind::Stop).with("now", i64::from(now)),
                    Ask::Odd(odd) => odd.message(),
                    Ask::Raw { bytes, given } => {
                        self.host.say_raw(&bytes, &given);
                        return self.step();
                    }
                    _ => return true,
                };
                self.host.say(message);
            }
            Deed::HangUp { who } => {
                let who = usize::from(who) % self.clients.len();
                if who != witness {
                    self.clients[who].peers[0].hang_up();
                }
            }
            Deed::Die { who } => {
                let lives: Vec<u16> = self.workers.keys().copied().collect();
                if let Some(life) = lives.get(usize::from(who) % lives.len().max(1)) {
                    self.kill(*life);
                }
            }
            Deed::Word { lane, call, generation, life, state } => {
                let Some(control) = pick(&self.known.controls, lane) else { return true };
                let word = word(Generation(generation.into()), life, state);
                control.write(4096 / 8 + usize::from(call % 64) * 8, word.raw());
            }
            Deed::Scribble { lane, at, value } => {
                let Some(control) = pick(&self.known.controls, lane) else { return true };
                control.write(at.into(), value);
            }
            Deed::Own { who, call, generation, what, deadline } => {
                let who = usize::from(who) % self.clients.len();
                let Some(requests) = &self.clients[who].requests else { return true };
                let generation = Generation(generation.into());
                let own = match what % 4 {
                    0 => OwnRecord::None,
                    1 => OwnRecord::Queued(generation),
                    2 => OwnRecord::Cancelled(generation),
                    _ => OwnRecord::Held(generation),
                };
                let deadline = (deadline != 0).then(|| self.now + u64::from(deadline) * 1_000_000);
                requests.state(usize::from(call % 64), own, Deadline(deadline));
                return true;
            }
            Deed::Wait { ms } => self.now += u64::from(ms) * 1_000_000,
        }
        self.step()
    }

    fn lane(&self, of: u8) -> (i64, i64) {
        pick(&self.known.lanes, of).copied().unwrap_or((0, 0))
    }

    fn region(&self, of: u8) -> (i64, i64) {
        pick(&self.known.regions, of).copied().unwrap_or((0, 0))
    }

    fn ask(&mut self, who: usize, what: Ask, twist: Option<Twist>) {
        if !self.clients[who].peers[0].is_open() {
            return;
        }
        let message = match what {
            Ask::Raw { bytes, given } => return self.clients[who].peers[0].say_raw(&bytes, &given),
            Ask::Hello => Message::new(Kind::Hello)
                .with("layout", layout_hash() as i64)
                .with("pid", 1)
                .with_fd(pidfd::of_self().expect("a pidfd")),
            Ask::Requests { of } => {
                let Ok(requests) = Requests::create() else { return };
                let (fd, inode) = duplicate(requests.region());
                self.clients[who].own.insert(inode);
                self.clients[who].requests = Some(requests);
                register(RegionKind::Requests, 64 * 1024, self.lane(of).1, fd)
            }
            Ask::Growth { of } => {
                let Ok(region) = Region::create(RegionKind::Growth, 64 * 1024) else { return };
                let (fd, inode) = duplicate(&region);
                self.clients[who].own.insert(inode);
                register(RegionKind::Growth, 64 * 1024, self.lane(of).1, fd)
            }
            other => self.message(other),
        };
        self.clients[who].peers[0].say(twisted(message, twist));
    }

    fn work(&mut self, life: u16, fetch: bool, what: Ask, twist: Option<Twist>) {
        let message = match what {
            Ask::Hello => {
                let Ok(results) = Results::create() else { return };
                Message::new(Kind::Hello)
                    .with("layout", layout_hash() as i64)
                    .with("life", i64::from(life))
                    .with_fd(duplicate(results.region()).0)
            }
            Ask::Growth { .. } => {
                let Ok(region) = Region::create(RegionKind::Growth, 64 * 1024) else { return };
                register(RegionKind::Growth, 64 * 1024, 0, duplicate(&region).0)
            }
            Ask::Connect => {
                let Ok((ours, theirs)) = socket::pair() else { return };
                if self.clients.len() < MOST {
                    self.join(ours);
                }
                Message::new(Kind::Connect).with_fd(theirs)
            }
            Ask::Raw { bytes, given } => {
                if let Some(member) = self.workers.get_mut(&life) {
                    member.peers[usize::from(fetch)].say_raw(&bytes, &given);
                }
                return;
            }
            other => self.message(other),
        };
        if let Some(member) = self.workers.get_mut(&life) {
            member.peers[usize::from(fetch)].say(twisted(message, twist));
        }
    }

    /// What anybody may ask, whether it is his to ask or not.
    fn message(&self, what: Ask) -> Message {
        let named = |kind, of| {
            let (lane, serial) = self.lane(of);
            Message::new(kind).with("lane", lane).with("serial", serial)
        };
        let placed = |kind, of| {
            let (index, serial) = self.region(of);
            Message::new(kind).with("index", index).with("region_serial", serial)
        };
        match what {
            Ask::Renew { of, released } => {
                named(Kind::Renew, of).with("released", vec![self.lane(released).1])
            }
            Ask::Fetch { region } => placed(Kind::Fetch, region),
            Ask::FetchLane { of } => named(Kind::Fetch, of),
            Ask::FetchEvent { of: Some(of) } => named(Kind::Fetch, of).with("event", true),
            Ask::FetchEvent { of: None } => Message::new(Kind::Fetch).with("event", true),
            Ask::Suspect { of } => {
                let life =
                    i64::from(pick(&self.workers.keys().collect::<Vec<_>>(), of).map_or(0, |life| **life));
                named(Kind::Suspect, of).with("life", life).with("why", "it says so")
            }
            Ask::Status => Message::new(Kind::Status).answering(7),
            Ask::Retire { region } => placed(Kind::Retire, region),
            Ask::Ready => Message::new(Kind::Ready),
            Ask::Bye => Message::new(Kind::Bye),
            Ask::Stop { now } => Message::new(Kind::Stop).with("now", i64::from(now)),
            Ask::Notice => Message::new(Kind::Notice).with("late", "it was late"),
            Ask::Interrupt { of } => Message::new(Kind::Interrupt)
                .with("lane", self.lane(of).1)
                .with("call", 0)
                .with("generation", 1),
            Ask::Alert { of } => named(Kind::Alert, of),
            Ask::Refused => Message::new(Kind::Refused).with("why", "no"),
            Ask::Odd(odd) => odd.message(),
            Ask::Hello | Ask::Requests { .. } | Ask::Growth { .. } | Ask::Connect | Ask::Raw { .. } => {
                Message::new(Kind::Hello)
            }
        }
    }

    fn kill(&mut self, life: u16) {
        if let Some(process) = self.workers.get(&life).and_then(|member| member.process.as_ref()) {
            let _ = pidfd::send_signal(process.as_fd(), Signal::SIGKILL);
            let _ = pidfd::wait_exited(process.as_fd(), Some(Duration::from_secs(5)));
        }
    }

    /// Lets the arbiter do what there is to do, and hears what it says. `false`: the pool has ended.
    fn step(&mut self) -> bool {
        clock::stand_at(self.now);
        let mut goes_on = true;
        for _ in 0..2 {
            goes_on = goes_on && self.rig.turn().expect("the loop goes on");
        }
        self.rig.check();
        for (boot, pid) in self.born.borrow_mut().drain(..) {
            let mut member = Member::new(vec![Peer::new(boot.control), Peer::new(boot.fetch)]);
            member.process = pidfd::open(pid).ok();
            member.life = boot.life.get();
            self.workers.insert(member.life, member);
        }
        // One that is reaped has no process to ask.
        self.workers.retain(|_, member| {
            member.process.as_ref().is_some_and(|process| !pidfd::has_exited(process.as_fd()).unwrap_or(true))
                || member.peers.iter().any(Peer::is_open)
        });
        self.host.hear();
        for who in 0..self.clients.len() {
            for message in self.clients[who].peers[0].hear() {
                self.told(Some(who), message);
            }
        }
        let lives: Vec<u16> = self.workers.keys().copied().collect();
        for life in lives {
            let heard: Vec<Message> = self
                .workers
                .get_mut(&life)
                .into_iter()
                .flat_map(|m| &mut m.peers)
                .flat_map(Peer::hear)
                .collect();
            for message in heard {
                self.told(None, message);
            }
        }
        goes_on
    }

    /// A client (or a worker, `None`) was told something.
    fn told(&mut self, client: Option<usize>, mut message: Message) {
        let int = |name: &str| message.int::<i64>(name).ok();
        match (message.kind, int("lane"), int("serial"), int("index"), int("region_serial")) {
            (Kind::Welcome, Some(lane), Some(serial), ..) => {
                self.known.lanes.push((lane, serial));
                if !message.fds.is_empty() {
                    let control = message.fds.swap_remove(0);
                    self.known.controls.extend(Rough::adopt(RegionKind::Control, control, 8192));
                }
            }
            (Kind::Welcome | Kind::Registered, _, _, Some(index), Some(serial)) => {
                self.known.regions.push((index, serial));
            }
            (Kind::Fetched, ..) => {
                // C10, E11: no client gets the memory of another.
                let others = || self.clients.iter().enumerate().filter(|(at, _)| Some(*at) != client);
                let inodes = message.fds.iter().map(inode);
                for inode in inodes.filter(|_| client.is_some()) {
                    assert!(others().all(|(_, other)| !other.own.contains(&inode)), "another's memory");
                }
            }
            _ => {}
        }
    }

    /// The one that keeps to the rules is served, and when the host goes, so does everything.
    fn end(mut self, witness: usize) {
        self.step();
        if self.rig.is_open() && self.host.is_open() {
            let member = &mut self.clients[witness];
            assert!(member.peers[0].is_open(), "the connection of a client that did nothing wrong");
            member.peers[0].say(Message::new(Kind::Status).answering(7));
            clock::stand_at(self.now);
            self.rig.turn().expect("the loop goes on");
            let heard = self.clients[witness].peers[0].hear();
            assert!(heard.iter().any(|m| m.kind == Kind::Response && m.id == 7), "no answer: {heard:?}");
        }
        self.host.hang_up();
        self.clients.iter_mut().for_each(|client| client.peers[0].hang_up());
        let mut turns = 0;
        loop {
            self.now += 500_000_000;
            let lives: Vec<u16> = self.workers.keys().copied().collect();
            lives.into_iter().for_each(|life| self.kill(life));
            if !self.step() {
                break;
            }
            turns += 1;
            assert!(turns < 100, "a pool without a host goes on: {:?}", self.rig.counts());
        }
    }
}

impl Member {
    fn new(peers: Vec<Peer>) -> Member {
        Member { peers, process: None, life: 0, own: BTreeSet::new(), requests: None }
    }
}

fn pick<T>(all: &[T], which: u8) -> Option<&T> {
    all.get(usize::from(which) % all.len().max(1))
}

fn register(kind: RegionKind, len: i64, serial: i64, fd: OwnedFd) -> Message {
    Message::new(Kind::Register).with("kind", kind as i64).with("len", len).with("serial", serial).with_fd(fd)
}

fn duplicate(region: &Region) -> (OwnedFd, u64) {
    let fd = region.fd().try_clone_to_owned().expect("a descriptor");
    let inode = inode(&fd);
    (fd, inode)
}

fn inode(fd: &OwnedFd) -> u64 {
    // SAFETY: `stat` is plain numbers, which the call fills for a descriptor that is open.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(fd.as_raw_fd(), &mut stat), 0);
        stat.st_ino
    }
}

fn twisted(message: Message, twist: Option<Twist>) -> Message {
    let Some(twist) = twist else { return message };
    let mut message = message.with(TWISTED[usize::from(twist.name) % TWISTED.len()], twist.number);
    if twist.less {
        message.fds.pop();
    }
    match twist.given.and_then(Given::open) {
        Some(fd) => message.with_fd(fd),
        None => message,
    }
}
