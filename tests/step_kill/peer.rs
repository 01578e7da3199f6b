//! A client in a process of its own that calls and waits, while the harness steps the worker.

use crate::app::APP;
use crate::scene::{DEADLINE_MS, Outcome, in_futex};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use stokehold::internals::sys::process::{self, Fork};
use stokehold::internals::sys::signal::Signal;
use stokehold::{Client, Error, Mode, Options, Pool};

/// The process, as the harness sees it. It dies with the harness.
#[derive(Debug)]
pub struct Caller {
    socket: UnixStream,
    pid: u32,
}

impl Caller {
    /// Forks it and waits until it is connected.
    pub fn start(pool: &Pool) -> stokehold::Result<Caller> {
        let (ours, theirs) = UnixStream::pair()?;
        let lane = pool.client_socket()?;
        let parent = process::pid();
        match process::fork()? {
            Fork::Child => {
                let _ = process::die_with_parent(Signal::SIGKILL, parent);
                let served = Client::connect(lane, Options { mode: Mode::Park, ..Options::default() })
                    .and_then(|client| serve(&client, theirs));
                process::exit_now(i32::from(served.is_err()))
            }
            Fork::Parent(pid) => {
                let mut caller = Caller { socket: ours, pid: pid.as_raw() as u32 };
                drop(theirs);
                let mut ready = [0];
                caller.socket.read_exact(&mut ready).map_err(Error::from)?;
                Ok(caller)
            }
        }
    }

    /// Has it make this call and wait for the outcome.
    pub fn send(&mut self, id: u64) {
        let _ = self.socket.write_all(&id.to_le_bytes());
    }

    /// Whether it sleeps until its call ends.
    pub fn waits(&self) -> bool {
        in_futex(self.pid, self.pid)
    }

    /// What became of the call.
    pub fn outcome(&mut self) -> Outcome {
        let mut said = [0; 16];
        if self.socket.read_exact(&mut said).is_err() {
            return Outcome::Other(0);
        }
        let number = i64::from_le_bytes(said[..8].try_into().unwrap_or_default());
        match (said[8], said[9] != 0) {
            (0, _) => Outcome::Ok(number, u16::from_le_bytes([said[10], said[11]])),
            (1, started) => Outcome::Died(started),
            (2, started) => Outcome::Cancelled(started),
            (3, started) => Outcome::Deadline(started),
            _ => Outcome::Other(number as u32),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        // SAFETY: waits for a child of ours that ends when its socket does.
        unsafe { libc::waitpid(self.pid as i32, std::ptr::null_mut(), 0) };
    }
}

fn serve(client: &Client, mut socket: UnixStream) -> stokehold::Result<()> {
    socket.write_all(&[1])?;
    let mut id = [0; 8];
    while socket.read_exact(&mut id).is_ok() {
        let id = u64::from_le_bytes(id) as i64;
        let result = client.call(APP, "run").args((id,)).deadline_ms(DEADLINE_MS).execute();
        let (number, code, started, life) = match Outcome::of(result) {
            Outcome::Ok(number, life) => (number, 0, false, life),
            Outcome::Died(started) => (0, 1, started, 0),
            Outcome::Cancelled(started) => (0, 2, started, 0),
            Outcome::Deadline(started) => (0, 3, started, 0),
            Outcome::Other(code) => (code as i64, 4, false, 0),
        };
        let mut said = [0; 16];
        said[..8].copy_from_slice(&number.to_le_bytes());
        said[8..10].copy_from_slice(&[code, started.into()]);
        said[10..12].copy_from_slice(&life.to_le_bytes());
        socket.write_all(&said)?;
    }
    Ok(())
}
