//! Apps in a shared object. The object brings its own copy of this library; the arbiter's program loads it only in
//! processes that it forked for that, and hands over.
//!
//! The border is one function of three numbers, [`SYMBOL`]: which border the caller knows, what it wants, and a socket.
//! Everything else is messages on that socket, with names to their fields, so that another version on the other side is
//! a refusal and no crash:
//!
//! | purpose | socket | the object |
//! |---|---|---|
//! | [`PROBE`] | none | returns the border that it knows |
//! | [`LIST`] | it answers with `Ready`: `layout`, `apps` | returns |
//! | [`RUN`] | has `Config` for it: `layout`, what a worker boots from | becomes the worker, and does not return |

use super::boot::{Failure, refuse};
use super::{Apps, Boot, Bounds, Surroundings, boot, panics};
use crate::conn::{Link, Message};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::ring::{Life, Mode};
use crate::shm::layout_hash;
use crate::sys::library::Library;
use crate::sys::socket;
use crate::wire::Kind;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// What an object of apps exports.
const SYMBOL: &CStr = c"stokehold_app_library";
/// The version of the border.
const ABI: u32 = 1;
const PROBE: u32 = 0;
const LIST: u32 = 1;
const RUN: u32 = 2;
/// What is returned for something that is not known there.
const UNKNOWN: i32 = -1;
/// How long what was sent before the call may take to be there.
const BOOT_TIMEOUT: Duration = Duration::from_secs(10);

/// Says on the socket which apps an object has, in a process that was forked for that.
pub fn list(path: &Path, surroundings: &Surroundings, socket: OwnedFd) -> ! {
    boot::end(panics::catch(|| match surroundings.settle(&[socket.as_raw_fd()]).and_then(|()| load(path)) {
        Ok(library) => {
            library.enter(ABI, LIST, Some(socket));
            Ok(())
        }
        Err(error) => Link::new(socket).send(Message::refused(&error)),
    }))
}

/// The worker's whole life, as [`run`](super::run), where its apps are in an object.
pub fn run_library(surroundings: &Surroundings, boot: Boot, path: &Path) -> ! {
    boot::end(panics::catch(|| {
        let library = match surroundings.settle(&boot.descriptors()).and_then(|()| load(path)) {
            Ok(library) => library,
            Err(error) => return refuse(boot.control, error.into()),
        };
        let (ours, theirs) = socket::pair()?;
        Link::new(ours).send(boot.into_message())?;
        let returned = library.enter(ABI, RUN, Some(theirs));
        let why = format!("{} gave the worker back: {returned}", path.display());
        Err(Error::new(ErrorKind::Start(why.into())))
    }))
}

/// Loads an object, which must know the border.
fn load(path: &Path) -> Result<Library> {
    let library = Library::open(path, SYMBOL)?;
    let known = library.enter(ABI, PROBE, None);
    if known != ABI as i32 {
        let why = format!(
            "{} was made with another version of stokehold: it answers {known} where {ABI} is wanted",
            path.display()
        );
        return Err(Error::new(ErrorKind::Incompatible(why.into())));
    }
    Ok(library)
}

/// The object's side of all three. What [`app_library!`](crate::app_library) exports calls it.
pub fn enter(
    abi: u32,
    purpose: u32,
    socket: Option<OwnedFd>,
    register: impl for<'a> FnOnce(&'a mut Apps) -> Result<&'a mut Apps>,
) -> i32 {
    match (abi, purpose, socket) {
        (ABI, PROBE, _) => ABI as i32,
        (ABI, LIST, Some(socket)) => {
            let answer = match table(register) {
                Ok(apps) => {
                    let names: Vec<String> = apps.names().map(str::to_owned).collect();
                    Message::new(Kind::Ready).with("layout", layout_hash() as i64).with("apps", names)
                }
                Err(error) => Message::refused(&error),
            };
            Link::new(socket).send(answer).map_or(UNKNOWN, |()| 0)
        }
        (ABI, RUN, Some(socket)) => boot::end(panics::catch(|| {
            let boot = Boot::receive(socket)?;
            match table(register) {
                Ok(apps) => boot::live(boot, &apps),
                Err(error) => refuse(boot.control, Failure::Apps(error)),
            }
        })),
        _ => UNKNOWN,
    }
}

/// The object's apps.
fn table(register: impl for<'a> FnOnce(&'a mut Apps) -> Result<&'a mut Apps>) -> Result<Apps> {
    let mut apps = Apps::default();
    let registered = panics::catch(|| register(&mut apps).map(drop));
    registered.unwrap_or_else(|panic| Err(Error::new(ErrorKind::App(*panic))))?;
    Ok(apps)
}

impl Boot {
    /// As it goes over the border.
    fn into_message(self) -> Message {
        Message::new(Kind::Config)
            .with("layout", layout_hash() as i64)
            .with("life", self.life.get() as i64)
            .with("threads", self.threads as i64)
            .with("first_parker", self.first_parker as i64)
            .with("apps", self.apps)
            .with("mode", self.mode as i64)
            .with("quota", self.bounds.quota as i64)
            .with("timeout_ns", self.bounds.timeout_ns.unwrap_or(0) as i64)
            .with("stall_ns", self.bounds.stall_ns.unwrap_or(0) as i64)
            .with("late_ns", self.bounds.late_ns as i64)
            .with_fd(self.control)
            .with_fd(self.fetch)
            .with_fd(self.registry)
            .with_fd(self.board)
    }

    /// As it came. What is wrong with it is told to the arbiter.
    fn receive(socket: OwnedFd) -> Result<Boot> {
        let message = Link::new(socket).receive(Some(BOOT_TIMEOUT))?;
        let gone = || Error::new(ErrorKind::Start("nobody said what to run".into()));
        let mut message = message.ok_or_else(gone)?.expect(Kind::Config)?;
        let [control, fetch, registry, board] = message.take_fds()?;
        let read = || -> Result<_> {
            let layout = message.bits("layout")?;
            if layout != layout_hash() {
                let why = format!(
                    "the library of apps was made with another version of stokehold: layout {:#x} where the pool has {layout:#x}",
                    layout_hash()
                );
                return Err(Error::new(ErrorKind::Incompatible(why.into())));
            }
            let life = Life::new(message.int("life")?);
            let life = life.ok_or_else(|| Error::new(ErrorKind::Frame("a life of 0".into())))?;
            let mode = Mode::from_number(message.int("mode")?);
            let mode = mode.ok_or_else(|| Error::new(ErrorKind::Frame("no such way of waiting".into())))?;
            let threads = (message.int("threads")?, message.int("first_parker")?);
            let limit = |name| message.int(name).map(|ns: u64| Some(ns).filter(|ns| *ns > 0));
            let bounds = Bounds {
                quota: message.int("quota")?,
                timeout_ns: limit("timeout_ns")?,
                stall_ns: limit("stall_ns")?,
                late_ns: message.bits("late_ns")?,
            };
            Ok((life, mode, threads, bounds, message.strings("apps")?))
        };
        match read() {
            Ok((life, mode, (threads, first_parker), bounds, apps)) => {
                Ok(Boot { life, threads, first_parker, control, fetch, registry, board, apps, mode, bounds })
            }
            Err(error) => refuse(control, error.into()),
        }
    }
}
