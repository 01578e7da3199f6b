//! A client that is killed: a copy of the harness. It says by SIGSTOPs where it is: connected; about to begin with the
//! routine; through with it.

use crate::scene::{Scene, Wrong, until};
use crate::trace::{Step, Tracee};
use std::os::fd::OwnedFd;
use stokehold::internals::shm::{Control, LaneState};
use stokehold::internals::sys::process::{self, Fork};
use stokehold::internals::sys::signal::Signal;
use stokehold::{Client, Mode, Options};

/// What a victim exits with that got a wrong outcome.
pub const WRONG: i32 = 3;

/// One that is connected.
#[derive(Debug)]
pub struct Victim {
    pub tracee: Tracee,
    pub pid: u32,
    pub control: Control,
    pub lane: Lane,
}

/// Its lane.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    index: usize,
    serial: u64,
}

impl Victim {
    /// Forks it and waits until it is connected.
    pub fn start(scene: &mut Scene, live: impl FnOnce(&Scene, OwnedFd)) -> Result<Victim, Wrong> {
        let socket = scene.pool.client_socket().map_err(|e| e.to_string())?;
        let pid = match process::fork().map_err(|e| e.to_string())? {
            Fork::Child => {
                live(scene, socket);
                process::exit_now(WRONG)
            }
            Fork::Parent(pid) => pid.as_raw() as u32,
        };
        drop(socket);
        let mut tracee = Tracee::child(pid);
        marker(tracee.wait_long(), "connecting")?;
        tracee.bind().map_err(|e| format!("ptrace: {e}"))?;
        let control = scene.new_control()?;
        let (index, serial) = scene.newest_lane().ok_or("the victim has no lane")?;
        Ok(Victim { tracee, pid, control, lane: Lane { index, serial } })
    }
}

impl Lane {
    /// Waits until it is nobody's; or, where a worker may still have a call on it, until no client has it.
    pub fn is_left(self, scene: &Scene, busy: bool) -> Result<(), Wrong> {
        let Lane { index, serial } = self;
        let left = until(|| {
            let now = scene.registry.lane(index);
            (now.serial() != Some(serial) || busy && now == LaneState::Closing(serial)).then_some(())
        });
        left.ok_or_else(|| {
            format!("lane {index} is {:?}, its client {serial} is dead", scene.registry.lane(index))
        })
    }
}

/// Whether the victim came to its next marker.
pub fn marker(step: Step, when: &str) -> Result<(), Wrong> {
    if step == Step::Marker { Ok(()) } else { Err(format!("the victim ended by itself while {when}")) }
}

/// In the victim: asks to be traced, and connects.
pub fn connect(socket: OwnedFd) -> Client {
    let _ = nix::sys::ptrace::traceme();
    let options = Options { mode: Mode::Park, ..Options::default() };
    Client::connect(socket, options).unwrap_or_else(|_| process::exit_now(WRONG))
}

/// In the victim: says that it is here.
pub fn here() {
    let _ = process::raise(Signal::SIGSTOP);
}
