//! The place in the file system where a pool is served: a directory of our own, and three names in it.
//!
//! | name | what |
//! |---|---|
//! | `NAME` | the socket |
//! | `NAME.lock` | who holds the lock on it owns the place; also says which socket is ours to remove |
//! | `NAME.pid` | the number of the process that serves, for people and their tools |
//!
//! All three go when the pool ends in an orderly way. A process that is killed leaves them, without the lock: the next
//! one takes the place over. Nothing is removed that no process of ours made, and nothing of a process that lives.

use crate::error::{Error, Kind, Result};
use crate::sys::dir::{self, Dir, Facts, FileId, FileKind};
use crate::sys::{errno_of, process, socket};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A place that is ours, and the socket there.
#[derive(Debug)]
pub struct Endpoint {
    path: PathBuf,
    dir: Dir,
    names: Names,
    listener: OwnedFd,
    socket: FileId,
    pid: FileId,
    /// Held while this lives; what is in it is of use only to the next holder.
    lock: File,
    /// Whose names they are to remove: a forked copy must not.
    owner: process::Pid,
}

#[derive(Debug)]
struct Names {
    socket: OsString,
    lock: OsString,
    pid: OsString,
}

/// What the lock file says of the socket, written before the socket is there and again when it is.
const MAKING: &str = "making";
/// Longest lock or pid file that is read.
const LONGEST_NOTE: u64 = 256;
/// How often a lock file may be another by the time it is locked.
const LOCK_TRIES: usize = 100;

impl Endpoint {
    /// Takes the place over and listens there. The directory is made if there is none; its own is not.
    ///
    /// # Errors
    /// `Config` when the path cannot be, the directory is not ours alone, or something is in the way that no process of
    /// ours left there; `Start` when a process serves there already.
    pub fn claim(path: &Path) -> Result<Endpoint> {
        let names = Names::of(path)?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let dir = open_own(parent)?;
        let mut lock = take_lock(&dir, &names, path)?;
        let note = read_note(&mut lock)?;
        if !note.is_empty() && note != MAKING && !is_numbers(&note, 2) {
            return Err(wrong(format!("{} is there and no lock of ours", names.lock.display())));
        }
        let ready = make_way(&dir, &names.socket, &note, path).and_then(|()| {
            let mut file = open_note(&dir, &names.pid)?;
            let said = read_note(&mut file)?;
            if !said.is_empty() && !is_numbers(&said, 1) {
                return Err(wrong(format!("{} is there and no pid file of ours", names.pid.display())));
            }
            write_note(&mut lock, MAKING)?;
            Ok(file)
        });
        let mut pid_file = match ready {
            Ok(file) => file,
            Err(error) => {
                let _ = dir.remove(&names.lock); // ours, and what is in it is of no use
                return Err(error);
            }
        };
        let owner = process::pid();
        let pid = dir::facts(pid_file.as_fd())?.id;
        let listener = socket::listen(&dir.path_of(&names.socket)).map_err(|error| {
            let _ = dir.remove(&names.pid).and_then(|()| dir.remove(&names.lock));
            error.context(format!("a socket at {}", path.display()))
        })?;
        let made = dir.look(&names.socket)?.filter(|facts| facts.kind == FileKind::Socket);
        let socket = made
            .ok_or_else(|| wrong(format!("{}: the socket was removed as it was made", path.display())))?
            .id;
        let path = path.to_owned();
        let mut endpoint = Endpoint { path, dir, names, listener, socket, pid, lock, owner };
        write_note(&mut endpoint.lock, &format!("{} {}", socket.device, socket.inode))?;
        write_note(&mut pid_file, &owner.to_string())?;
        Ok(endpoint)
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket that listens.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if process::pid() != self.owner {
            return;
        }
        // The lock last: until then nobody else makes anything here.
        let lock = dir::facts(self.lock.as_fd()).map(|facts| facts.id);
        let names = &self.names;
        for (name, id) in [(&names.socket, Ok(self.socket)), (&names.pid, Ok(self.pid)), (&names.lock, lock)]
        {
            let now = self.dir.look(name).ok().flatten().map(|facts| facts.id);
            if now.is_some() && now == id.ok() {
                let _ = self.dir.remove(name);
            }
        }
    }
}

impl Names {
    fn of(path: &Path) -> Result<Names> {
        let name = path.file_name().ok_or_else(|| {
            wrong(format!("{:?} is no path of a socket: it has no file name", path.display()))
        })?;
        let with = |more: &str| {
            let mut name = name.to_owned();
            name.push(more);
            name
        };
        let names = Names { socket: name.to_owned(), lock: with(".lock"), pid: with(".pid") };
        if names.socket.len() > LONGEST_NAME {
            return Err(wrong(format!(
                "the socket's file name {name:?} has {} bytes, more than {LONGEST_NAME}",
                name.len()
            )));
        }
        Ok(names)
    }
}

/// Of the 107 bytes of an address, those that are not needed for the way through a descriptor. How long the path of the
/// directory is does not matter.
const LONGEST_NAME: usize = 80;

/// Opens the directory, which must be this user's and nobody else's to enter.
fn open_own(path: &Path) -> Result<Dir> {
    let shown = path.display();
    Dir::make_private(path).map_err(|e| e.context(format!("the directory {shown}")))?;
    let dir = Dir::open(path).map_err(|error| match errno_of(&error) {
        Some(libc::ENOTDIR | libc::ELOOP) => {
            wrong(format!("{shown} is a symbolic link or no directory: give the socket's real directory"))
        }
        _ => error.context(format!("the directory {shown}")),
    })?;
    let facts = dir.facts()?;
    if facts.uid != process::uid() {
        let why = format!(
            "the directory {shown} belongs to user {}, this process to {}",
            facts.uid,
            process::uid()
        );
        return Err(wrong(why));
    }
    if facts.mode & 0o077 != 0 {
        let why = format!(
            "the directory {shown} has the rights {:03o}: others may enter it; make it 700 (chmod 700)",
            facts.mode & 0o777
        );
        return Err(wrong(why));
    }
    Ok(dir)
}

/// Opens a small file of ours, which is an ordinary one of this user.
fn open_note(dir: &Dir, name: &OsStr) -> Result<File> {
    let shown = name.to_string_lossy();
    let fd = dir.open_or_make(name).map_err(|error| match errno_of(&error) {
        Some(libc::ELOOP) => wrong(format!("{shown} is a symbolic link")),
        Some(libc::EISDIR | libc::ENXIO) => wrong(format!("{shown} is there and no file of ours")),
        _ => error.context(shown.to_string()),
    })?;
    let facts = dir::facts(fd.as_fd())?;
    if facts.kind != FileKind::Regular || facts.uid != process::uid() {
        return Err(wrong(format!("{shown} is there and no file of ours")));
    }
    Ok(File::from(fd))
}

/// The lock file, locked. Its last holder may have removed it between our opening and our locking it: then it is locked
/// for nobody, and the one that has its name by now is what counts.
fn take_lock(dir: &Dir, names: &Names, path: &Path) -> Result<File> {
    for _ in 0..LOCK_TRIES {
        let lock = open_note(dir, &names.lock)?;
        if !dir::try_lock(lock.as_fd())? {
            let pid = open_note(dir, &names.pid).and_then(|mut file| read_note(&mut file));
            let who = match pid {
                Ok(pid) if !pid.is_empty() => format!("process {pid}"),
                _ => "another process".to_owned(),
            };
            let why = format!("{} is served already, by {who}", path.display());
            return Err(Error::new(Kind::Start(why.into())));
        }
        let locked = dir::facts(lock.as_fd())?.id;
        if dir.look(&names.lock)?.is_some_and(|now| now.id == locked) {
            return Ok(lock);
        }
    }
    Err(wrong(format!("{}: the lock file changes all the time", path.display())))
}

/// Removes the socket of a process that was killed. Whatever else is there stays.
fn make_way(dir: &Dir, name: &OsStr, note: &str, path: &Path) -> Result<()> {
    let Some(found) = dir.look(name)? else { return Ok(()) };
    let shown = path.display();
    if !is_ours(found, note) {
        return Err(wrong(format!(
            "{shown} is there already, and no stokehold left it: remove it, or use another path"
        )));
    }
    // A socket of ours that is not locked by anybody has no listener; to be sure that it is not another's by now.
    match socket::connect(&dir.path_of(name), Duration::from_secs(1)) {
        Err(error) if errno_of(&error) == Some(libc::ECONNREFUSED) => {}
        _ => return Err(wrong(format!("{shown} is there already, and somebody listens on it"))),
    }
    dir.remove(name)?;
    log::info!("{shown}: the socket of a process that was killed is replaced");
    Ok(())
}

/// Whether a process of ours made what is there, as the lock file says.
fn is_ours(found: Facts, note: &str) -> bool {
    found.kind == FileKind::Socket
        && found.uid == process::uid()
        && (note == MAKING || note == format!("{} {}", found.id.device, found.id.inode))
}

fn read_note(file: &mut File) -> Result<String> {
    let mut text = String::new();
    // What is not UTF-8 nobody of ours wrote.
    match file.take(LONGEST_NOTE).read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok("?".to_owned()),
        // What follows the first line is the rest of a longer one that was there before.
        read => read.map(|_| text.lines().next().unwrap_or("").to_owned()).map_err(Error::from),
    }
}

/// Says this and nothing else. At no moment nothing: one that is killed in between leaves the old line or the new one.
fn write_note(file: &mut File, text: &str) -> Result<()> {
    let line = format!("{text}\n");
    file.seek(SeekFrom::Start(0))?;
    file.write_all(line.as_bytes())?;
    dir::truncate(file.as_fd(), line.len() as i64)
}

/// Whether a note is this many numbers, as ours are.
fn is_numbers(note: &str, count: usize) -> bool {
    note.split(' ').count() == count && note.split(' ').all(|word| word.parse::<u64>().is_ok())
}

fn wrong(why: String) -> Error {
    Error::new(Kind::Config(why.into()))
}
