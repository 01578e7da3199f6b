//! Files by their names within a directory that is held open: what was checked is what is used, whatever becomes of the
//! directory's path meanwhile. No name is followed if it is a symbolic link.

use super::{last, named, retry};
use crate::error::Result;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A directory, open for as long as this lives.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// What a file is, as far as names and rights are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its kind.
    pub kind: FileKind,
    /// Its owner.
    pub uid: u32,
    /// The twelve bits of its rights.
    pub mode: u32,
    /// Which file it is.
    pub id: FileId,
}

/// The kinds of files that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// An ordinary one.
    Regular,
    /// A directory.
    Directory,
    /// A Unix socket.
    Socket,
    /// A symbolic link.
    Link,
    /// A device, a pipe.
    Other,
}

/// Device and inode: two files that exist at one time never share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The device's number.
    pub device: u64,
    /// The file's number on it.
    pub inode: u64,
}

impl Dir {
    /// Opens a directory; ENOTDIR if the last part of the path is a symbolic link or a file. See `open(2)`.
    pub fn open(path: &Path) -> Result<Dir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        open(path, flags, Mode::empty()).map(|fd| Dir { fd }).map_err(named("open"))
    }

    /// Makes a directory that only this user may enter; `false` if there is something of that name. See `mkdir(2)`.
    pub fn make_private(path: &Path) -> Result<bool> {
        match mkdirat(AT_FDCWD, path, Mode::S_IRWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(named("mkdir")(errno)),
        }
    }

    /// What the directory itself is.
    pub fn facts(&self) -> Result<Facts> {
        facts(self.fd.as_fd())
    }

    /// What is under this name, `None` if nothing is. See `fstatat(2)`.
    pub fn look(&self, name: &OsStr) -> Result<Option<Facts>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Facts::of(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(named("fstatat")(errno)),
        }
    }

    /// Opens a file to read and write, makes it for this user alone if there is none. Neither follows a link (ELOOP) nor
    /// waits for a pipe's other end. See `openat(2)`.
    pub fn open_or_make(&self, name: &OsStr) -> Result<OwnedFd> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(named("openat"))
    }

    /// Removes a name. See `unlinkat(2)`.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir).map_err(named("unlinkat"))
    }

    /// A path to what has this name, through this process's descriptor: short, and not to be led astray. For calls that
    /// know no descriptors of directories, such as `bind(2)`.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).join(name)
    }
}

impl Facts {
    fn of(stat: &FileStat) -> Facts {
        let mode = SFlag::from_bits_truncate(stat.st_mode);
        let kind = match mode & SFlag::S_IFMT {
            SFlag::S_IFREG => FileKind::Regular,
            SFlag::S_IFDIR => FileKind::Directory,
            SFlag::S_IFSOCK => FileKind::Socket,
            SFlag::S_IFLNK => FileKind::Link,
            _ => FileKind::Other,
        };
        let id = FileId { device: stat.st_dev, inode: stat.st_ino };
        Facts { kind, uid: stat.st_uid, mode: stat.st_mode & 0o7777, id }
    }
}

/// What an open file is. See `fstat(2)`.
pub fn facts(fd: BorrowedFd<'_>) -> Result<Facts> {
    fstat(fd).map(|stat| Facts::of(&stat)).map_err(named("fstat"))
}

/// A handle to the file at this path for calls that take no other, such as `connect(2)` through `/proc/self/fd`. See
/// `O_PATH` in `open(2)`.
pub fn handle(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(named("open"))
}

/// Locks an open file for as long as it, or a copy of the descriptor, is open; `false` if somebody else has it locked.
/// See `flock(2)`.
pub fn try_lock(fd: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: takes two numbers.
    match retry("flock", || unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB).into() }) {
        Ok(_) => Ok(true),
        Err(e) if super::errno_of(&e) == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes an open file this long, which is how it is emptied. See `ftruncate(2)`.
pub fn truncate(fd: BorrowedFd<'_>, len: i64) -> Result<()> {
    // SAFETY: takes two numbers.
    let answer = unsafe { libc::ftruncate(fd.as_raw_fd(), len) };
    if answer == 0 { Ok(()) } else { Err(last("ftruncate")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::errno_of;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("stokehold-dir-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        assert!(Dir::make_private(&path).unwrap());
        path
    }

    #[test]
    fn links_are_not_followed() {
        let path = scratch("links");
        symlink(&path, path.join("link")).unwrap();
        symlink("nowhere", path.join("dangling")).unwrap();
        assert_eq!(errno_of(&Dir::open(&path.join("link")).unwrap_err()), Some(libc::ENOTDIR));
        let dir = Dir::open(&path).unwrap();
        let facts = dir.look(OsStr::new("dangling")).unwrap().unwrap();
        assert_eq!(facts.kind, FileKind::Link);
        let e = dir.open_or_make(OsStr::new("dangling")).unwrap_err();
        assert_eq!(errno_of(&e), Some(libc::ELOOP));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_directory_that_was_moved_is_the_same() {
        let path = scratch("moved");
        let dir = Dir::open(&path).unwrap();
        let other = path.with_extension("elsewhere");
        fs::rename(&path, &other).unwrap();
        dir.open_or_make(OsStr::new("file")).unwrap();
        assert!(other.join("file").exists() && dir.path_of(OsStr::new("file")).exists());
        let facts = dir.look(OsStr::new("file")).unwrap().unwrap();
        assert_eq!((facts.kind, facts.mode), (FileKind::Regular, 0o600));
        assert_eq!(dir.facts().unwrap().mode, 0o700);
        dir.remove(OsStr::new("file")).unwrap();
        assert_eq!(dir.look(OsStr::new("file")).unwrap(), None);
        fs::remove_dir_all(other).unwrap();
    }

    #[test]
    fn a_lock_has_one_holder() {
        let path = scratch("lock");
        let dir = Dir::open(&path).unwrap();
        let one = dir.open_or_make(OsStr::new("lock")).unwrap();
        let two = dir.open_or_make(OsStr::new("lock")).unwrap();
        assert!(try_lock(one.as_fd()).unwrap());
        assert!(!try_lock(two.as_fd()).unwrap());
        drop(one);
        assert!(try_lock(two.as_fd()).unwrap());
        fs::remove_dir_all(path).unwrap();
    }
}
