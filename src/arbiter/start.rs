//! How a process becomes an arbiter: for a host that sends its configuration over a socket, or by itself, under a path.

use super::core::{Arbiter, Started};
use super::door::Door;
use super::endpoint::Endpoint;
use super::library;
use super::regions::Regions;
use super::settings::Settings;
use super::status::History;
use super::tick::Seldom;
use crate::conn::{Link, Message};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::{Config, Policy};
use crate::shm::{Board, Registry};
use crate::sys::process;
use crate::sys::signal::{self, Incoming, Signal};
use crate::sys::{clock, errno_of, fd, named_io, pidfd};
use crate::wire::Kind;
use crate::worker::{Apps, Surroundings};
use mio::Poll;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::Duration;

/// How long the host may take to send its configuration.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(10);
/// Exit status of an arbiter that panicked.
const INTERNAL_ERROR: i32 = 70;

/// The arbiter's whole life, in the process that is to become it; it has one task. `socket` leads to the host.
pub fn run(socket: OwnedFd, token: u128, apps: &Apps) -> ! {
    // A panic must not unwind into the program that this is a copy of.
    let status = panic::catch_unwind(AssertUnwindSafe(|| supervise(socket, token, apps)));
    process::exit_now(status.unwrap_or_else(|payload| {
        mem::forget(payload); // dropping it may panic again
        log::error!("the arbiter panicked");
        INTERNAL_ERROR
    }))
}

/// Makes this process, which has one task, the arbiter of a pool that is served under a path. Returns when the pool was
/// told to end, by SIGTERM or SIGINT, and nothing is left of it.
///
/// # Errors
/// Those of `Endpoint::claim`; `Os` where the loop itself cannot go on.
pub fn serve(mut settings: Settings, path: &Path, apps: &Apps) -> Result<()> {
    let (sigchld, nofile) = (signal::Disposition::of(Signal::SIGCHLD)?, fd::nofile()?);
    let ready = prepare(&mut settings, fd::listed()?).and_then(|it| Ok((it, Endpoint::claim(path)?)));
    let (surroundings, endpoint) = ready.inspect_err(|_| {
        // Where there is another arbiter, or no app, this process goes on as it was.
        let _ = sigchld.put_back();
        let _ = fd::set_nofile_soft(nofile);
    })?;
    fd::replace_stdin(fd::dev_null()?.as_fd())?;
    let mut arbiter = new(settings, apps, surroundings, &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
    log::info!(
        "process {} serves {} with {} workers",
        process::pid(),
        endpoint.path().display(),
        arbiter.settings.policy.workers
    );
    let workers = arbiter.settings.policy.workers;
    arbiter.door = Some(Door::new(endpoint, fd::nofile()?, workers)?);
    arbiter.live()
}

fn supervise(socket: OwnedFd, token: u128, apps: &Apps) -> i32 {
    let mut link = Link::new(socket);
    match start(&mut link, token, apps) {
        Ok(mut arbiter) => {
            arbiter.host = Some(link.into_stream().wary());
            match arbiter.live() {
                Ok(()) => 0,
                Err(error) => {
                    log::error!("the arbiter gives up: {error}");
                    1
                }
            }
        }
        Err(error) => {
            log::error!("the arbiter cannot start: {error}");
            let _ = link.send(Message::refused(&error));
            1
        }
    }
}

fn start<'a>(link: &mut Link, token: u128, apps: &'a Apps) -> Result<Arbiter<'a>> {
    // Its own come from here on; what is open already belongs to the program.
    let mut kept = fd::listed()?;
    kept.retain(|fd| *fd != link.fd().as_raw_fd());
    let mut config = match link.receive(Some(CONFIG_TIMEOUT))? {
        Some(message) => message.expect(Kind::Config)?,
        None => {
            return Err(Error::new(ErrorKind::Start(
                "the host closed before it sent a configuration".into(),
            )));
        }
    };
    if config.str("token")? != format!("{token:032x}") {
        return Err(Error::new(ErrorKind::Start(
            "the host's token is not the one in the environment".into(),
        )));
    }
    let [host_pidfd] = config.take_fds()?;
    let mut settings = Settings::from_message(&config)?;
    let unknown = settings.apps.iter().find(|name| !apps.knows(name));
    if let Some(unknown) = unknown.filter(|_| settings.library.is_none()) {
        let known: Vec<&str> = apps.names().collect();
        let why =
            format!("the arbiter's program knows no app named {unknown:?}; it knows: {}", known.join(", "));
        return Err(Error::new(ErrorKind::Start(why.into())));
    }
    if settings.build != 0 && settings.build != process::exe_identity()? {
        let why = "the program was replaced between the host's start and the pool's";
        return Err(Error::new(ErrorKind::Incompatible(why.into())));
    }
    process::new_session().or_else(|e| if errno_of(&e) == Some(libc::EPERM) { Ok(()) } else { Err(e) })?;
    process::set_name("stk-arbiter")?;
    signal::ignore(Signal::SIGHUP)?;
    let surroundings = prepare(&mut settings, kept)?;
    let mut arbiter = new(settings, apps, surroundings, &[Signal::SIGTERM, Signal::SIGINT])?;
    arbiter.host_pidfd = Some(host_pidfd);
    Ok(arbiter)
}

/// What the workers must know; raises the limit of descriptors, which they get back. Looks into the library, if there is
/// one, while nothing else is there yet that would have to be taken back.
fn prepare(settings: &mut Settings, kept: Vec<RawFd>) -> Result<Surroundings> {
    // The children of one that ignores it are reaped by the kernel, and that goes through fork and exec: nobody would learn
    // how a worker ended, and its number would be free before its group is killed. Workers get back what the host had.
    signal::reset(Signal::SIGCHLD)?;
    let (nofile, _) = fd::raise_nofile()?;
    let surroundings = Surroundings { arbiter: process::pid(), kept, signals: settings.signals, nofile };
    if let Some(path) = &settings.library {
        settings.apps = library::resolve(settings, path, &surroundings)?;
        settings.check()?;
    }
    Ok(surroundings)
}

/// One without a host and without a door.
pub(super) fn new<'a>(
    settings: Settings,
    apps: &'a Apps,
    surroundings: Surroundings,
    signals: &[Signal],
) -> Result<Arbiter<'a>> {
    process::oom_score_adj(-500);
    signal::ignore(Signal::SIGPIPE)?;
    // A log file that reached the limit on file sizes must not be the end of the pool.
    signal::ignore(Signal::SIGXFSZ)?;
    let signals = Incoming::new(signals)?;
    let seed = process::getrandom_u128()? as u64;
    let config = Config { max_lives: settings.places(), ..settings.policy };
    let registry = Registry::create()?;
    registry.set_warm_ms(settings.warm_ms);
    let policy = Policy::with_first_life(config, seed, clock::monotonic_ns(), settings.counters.life)?;
    let regions = Regions::new(settings.counters.region);
    Ok(Arbiter {
        apps,
        settings,
        surroundings,
        registry,
        board: Board::create()?,
        own_pidfd: pidfd::of_self()?,
        workers: BTreeMap::new(),
        clients: BTreeMap::new(),
        lanes: Vec::new(),
        regions,
        mourned: Vec::new(),
        next_client: 1,
        next_serial: 0,
        looks: Seldom::default(),
        tidies: Seldom::default(),
        poll: Poll::new().map_err(named_io("epoll_create1"))?,
        policy,
        host: None,
        host_pidfd: None,
        door: None,
        history: History::new(),
        signals,
        started: Started::Waiting { why: None, ended: None },
        events: VecDeque::new(),
        unheard: Vec::new(),
        deciding: false,
        exiting: false,
    })
}
