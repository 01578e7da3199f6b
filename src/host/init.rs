//! `init`, the first statement of `main`: registers the apps in the host, and in the re-executed copy becomes the
//! arbiter.

use crate::arbiter;
use crate::conn::{Link, Message};
use crate::error::{Error, Kind, Result};
use crate::sys::process::{self, Fork};
use crate::sys::{fd, socket};
use crate::worker::{Apps, catch_panic};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names the inherited socket and carries the token that goes with it.
pub(super) const VARIABLE: &str = "STOKEHOLD_ARBITER";

const FURTHER_COPY: &str = "the copy of this program that is to supervise";

/// The apps of this process.
static APPS: Mutex<Option<Apps>> = Mutex::new(None);

/// Registers this program's apps. The first statement of `main`.
///
/// In the host it only registers, and returns. [`Pool`](crate::Pool)'s start runs this same program once more; in
/// that copy `init` registers the same apps, becomes the arbiter and *never returns*. So what stands before it in
/// `main` runs in both, and it must not start threads. Where a program wants a logger in its arbiter and workers,
/// it installs it inside the closure.
/// What the closure opens stays open in the arbiter and in the workers; what is opened after it does not reach the
/// workers (a logger that rotates its files by itself, say), and it must not start threads either.
///
/// ```no_run
/// # use stokehold::{App, Args, Ctx, Reply, Result};
/// # struct Sums;
/// # impl App for Sums {
/// #     const NAME: &'static str = "sums:Sums";
/// #     fn init(_: &Ctx) -> Result<Self> { Ok(Sums) }
/// #     fn call(&self, _: &str, _: Args<'_>, _: &Ctx) -> Result<Reply> { Ok(Reply::from(1)) }
/// # }
/// fn main() -> Result<()> {
///     stokehold::init(|apps| apps.add::<Sums>())?;
///     // … the host's own work …
///     Ok(())
/// }
/// ```
///
/// # Errors
/// What the closure says; `Config` when it is called twice; in the copy `Threads` when something (a library's
/// constructor) has started a thread already.
pub fn init(register: impl for<'a> FnOnce(&'a mut Apps) -> Result<&'a mut Apps>) -> Result<()> {
    if let Some(value) = std::env::var_os(VARIABLE)
        && !process::secure_exec()
    {
        match value.to_str().map_or(Ok(None), inherited) {
            Ok(Some((socket, token))) => become_arbiter(socket, token, register),
            Ok(None) => {}
            // Whoever went on here would be the host once more, with all that the program does.
            Err(error) => fd::end_with_stdin(1, |socket| say(socket, &error.context(FURTHER_COPY))),
        }
    }
    let mut apps = Apps::default();
    register(&mut apps)?;
    let mut known = known_apps();
    if known.is_some() {
        return Err(Error::new(Kind::Config("init was called twice".into())));
    }
    *known = Some(apps);
    Ok(())
}

/// The apps that `init` registered.
pub(super) fn known_apps() -> MutexGuard<'static, Option<Apps>> {
    APPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the table out, in a process that becomes an arbiter.
pub(super) fn take_apps() -> Apps {
    known_apps().take().unwrap_or_default()
}

/// The socket and token that a host of ours put into the environment; `None` if it did not. An error where that cannot be
/// known.
fn inherited(value: &str) -> Result<Option<(OwnedFd, u128)>> {
    // Only standard input: what a parent gives to any child, so nothing of the program's own can be mistaken for it.
    let token = value.strip_prefix("0:").and_then(|token| u128::from_str_radix(token, 16).ok());
    let Some(token) = token else { return Ok(None) };
    let stdin = std::io::stdin();
    let is_ours = socket::is_unix_stream(stdin.as_fd())?
        && socket::peer_credentials(stdin.as_fd())?.uid == process::uid();
    if !is_ours {
        return Ok(None);
    }
    Ok(Some((fd::duplicate(stdin.as_fd())?, token)))
}

/// From the short-lived middle process to the arbiter, which is nobody's child but init's. Never returns.
fn become_arbiter(
    socket: OwnedFd,
    token: u128,
    register: impl for<'a> FnOnce(&'a mut Apps) -> Result<&'a mut Apps>,
) -> ! {
    let alone = process::unset_env(VARIABLE)
        .and_then(|()| fd::replace_stdin(fd::dev_null()?.as_fd()))
        .and_then(|()| process::fork());
    match alone {
        // The middle process: whoever waits for the program it started has it back at once.
        Ok(Fork::Parent(_)) => process::exit_now(0),
        Ok(Fork::Child) => {}
        Err(error) => refuse(socket, &error.context(FURTHER_COPY)),
    }
    // Before the closure: what that opens, for a logger, is to stay.
    if let Err(error) = fd::close_all_except(&[socket.as_raw_fd()]) {
        log::error!("inherited descriptors stay open: {error}");
    }
    let mut apps = Apps::default();
    let registered = catch_panic(|| register(&mut apps).map(drop));
    match registered.unwrap_or_else(|panic| Err(Error::new(Kind::App(*panic)))) {
        Ok(()) => match process::task_count() {
            Ok(found) if found > 1 => {
                let error = Error::new(Kind::Threads { found });
                let why =
                    "a thread was started before or within init (by a constructor, a logger, a sanitizer)";
                refuse(socket, &error.context(why))
            }
            _ => arbiter::run(socket, token, &apps),
        },
        Err(error) => refuse(socket, &error.context("init, in the program's further copy")),
    }
}

/// Tells the host why there is no pool, and ends.
fn refuse(socket: OwnedFd, error: &Error) -> ! {
    say(socket, error);
    process::exit_now(1)
}

fn say(socket: OwnedFd, error: &Error) {
    let _ = Link::new(socket).send(Message::refused(error));
}
