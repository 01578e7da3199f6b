//! Memory files: made at their full size, sealed by their writer, checked by who receives them.
//!
//! ```text
//! writer:    create (fallocated) ─ map ─ seal ─ send ──►  receiver:  check ─ map
//! ```
//!
//! The order matters. Memory that is not there is found at [`create`], where it is an error, and not at the first
//! touch, where it is a SIGBUS. A writer maps before it seals with [`Seals::FUTURE_WRITE`], since nobody can map
//! for writing afterwards. Seals bind the file, however it was opened; the mode of a descriptor binds nobody, as
//! it can be reopened through `/proc`.

use super::{errno_of, last, named, retry};
use crate::error::{Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::fstat;
use std::ffi::CString;
use std::fmt;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How much is allocated in one step. A signal undoes the step that it interrupts, so that a step must fit
/// between two ticks of a profiling timer.
const STEP: usize = 2 * 1024 * 1024;

/// A set of seals. See "File Sealing" in `fcntl(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seals(u32);

impl Seals {
    /// None.
    pub const NONE: Seals = Seals(0);
    /// No more seals can be added.
    pub const SEAL: Seals = Seals(libc::F_SEAL_SEAL as u32);
    /// The file cannot become shorter.
    pub const SHRINK: Seals = Seals(libc::F_SEAL_SHRINK as u32);
    /// The file cannot become longer.
    pub const GROW: Seals = Seals(libc::F_SEAL_GROW as u32);
    /// Only mappings that exist already can write; nobody can punch holes.
    pub const FUTURE_WRITE: Seals = Seals(libc::F_SEAL_FUTURE_WRITE as u32);

    /// Whether all of `needed` are in this set.
    pub const fn contains(self, needed: Seals) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// As `F_ADD_SEALS` takes them.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for Seals {
    type Output = Seals;

    fn bitor(self, other: Seals) -> Seals {
        Seals(self.0 | other.0)
    }
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seals({:#x})", self.0)
    }
}

/// A memory file of `len` bytes, all of them there, which can be sealed and never executed.
///
/// `name` is for people who read `/proc/PID/maps`. If there is no room for it (memory, a size limit of the memory
/// file system, the process's limit on file sizes), the error names the size. The limit is looked at first, for
/// the kernel's own answer to exceeding it is SIGXFSZ.
///
/// See `memfd_create(2)` and `fallocate(2)`.
pub fn create(name: &str, len: usize) -> Result<OwnedFd> {
    let refused = |e: Error| e.context(format!("memory file {name:?} of {len} bytes"));
    let file_max = getrlimit(Resource::RLIMIT_FSIZE).map_err(named("getrlimit"))?.0;
    if len as u64 > file_max {
        let why =
            format!("memory file {name:?} of {len} bytes exceeds the limit on file sizes of {file_max}");
        return Err(Error::os("fallocate", libc::EFBIG).context(why));
    }
    if len == 0 {
        return Err(refused(Error::os("fallocate", libc::EINVAL)));
    }
    let fd = create_empty(name).map_err(refused)?;
    allocate(fd.as_fd(), len).map_err(refused)?;
    Ok(fd)
}

/// Adds `seals`. Refused (EBUSY) for `F_SEAL_WRITE` only, which is not offered here. See `fcntl(2)`.
pub fn seal(fd: BorrowedFd<'_>, seals: Seals) -> Result<()> {
    let bits = seals.bits() as libc::c_int;
    // SAFETY: takes numbers and touches no memory.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, bits) };
    if answer == 0 { Ok(()) } else { Err(last("fcntl(F_ADD_SEALS)")) }
}

/// The seals of a file; EINVAL for one that cannot have any. See `fcntl(2)`.
pub fn seals(fd: BorrowedFd<'_>) -> Result<Seals> {
    // SAFETY: takes numbers and touches no memory.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    u32::try_from(answer).map(Seals).map_err(|_| last("fcntl(F_GET_SEALS)"))
}

/// The length of a file. See `fstat(2)`.
pub fn size(fd: BorrowedFd<'_>) -> Result<u64> {
    let stat = fstat(fd).map_err(named("fstat"))?;
    Ok(stat.st_size as u64)
}

/// Whether a file that somebody sent is what it must be before it may be mapped: a nameless memory file of exactly
/// `len` bytes, which carries at least the seals `needed`; where nobody can punch holes, all of its pages are there.
///
/// Where `needed` holds [`Seals::SHRINK`] and [`Seals::GROW`], the length is a constant from here on. The answer to
/// a failure is to close the descriptor and to end the connection that it came by.
pub fn check(fd: BorrowedFd<'_>, needed: Seals, len: u64) -> Result<()> {
    let refused = |why: String| Err(Error::new(Kind::Protocol(why.into())).context("received region"));
    let found = match seals(fd) {
        Ok(found) => found,
        Err(error) if errno_of(&error) == Some(libc::EINVAL) => return refused("not a memory file".into()),
        Err(error) => return Err(error), // which says nothing about the file
    };
    if !found.contains(needed) {
        return refused(format!("has seals {:#x} where {:#x} are needed", found.bits(), needed.bits()));
    }
    let stat = fstat(fd).map_err(named("fstat"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_nlink != 0 {
        return refused("not a nameless memory file".into());
    }
    if stat.st_size as u64 != len {
        return refused(format!("has {} bytes where {len} are needed", stat.st_size));
    }
    // Whoever touched a page that is not there first would pay for it, or find that there is none. Of what everybody writes
    // it proves nothing: any of them may have punched a hole, and must not keep the next one out.
    let there = (stat.st_blocks as u64).saturating_mul(512);
    if needed.contains(Seals::FUTURE_WRITE) && there < len {
        return refused(format!("has holes: {there} bytes of {len} are there"));
    }
    Ok(())
}

fn create_empty(name: &str) -> Result<OwnedFd> {
    let name = CString::new(name).map_err(|_| Error::os("memfd_create", libc::EINVAL))?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let make = |flags| {
        // SAFETY: `name` is a string that ends in NUL and outlives the call.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd == -1 {
            return Err(Errno::last());
        }
        // SAFETY: the call succeeded, so `fd` is open and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    match make(flags | libc::MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => make(flags), // before Linux 6.3, which brought MFD_NOEXEC_SEAL
        made => made,
    }
    .map_err(named("memfd_create"))
}

fn allocate(fd: BorrowedFd<'_>, len: usize) -> Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| Error::os("fallocate", libc::EFBIG))?;
    for start in (0..len).step_by(STEP) {
        let step = (len - start).min(STEP as libc::off_t);
        retry("fallocate", || {
            // SAFETY: takes numbers and touches no memory of this process.
            unsafe { libc::fallocate(fd.as_raw_fd(), 0, start, step).into() }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Seals = Seals(0x17);

    #[test]
    fn the_set_of_all_seals_is_the_or_of_them() {
        assert_eq!(Seals::SHRINK | Seals::GROW | Seals::FUTURE_WRITE | Seals::SEAL, ALL);
        assert!(ALL.contains(Seals::GROW) && ALL.contains(Seals::NONE));
        assert!(!Seals::GROW.contains(ALL));
    }

    #[test]
    fn a_file_has_its_size_and_its_pages() {
        for len in [1, 4096, STEP - 1, STEP, STEP + 1] {
            let fd = create("memfd-test", len).unwrap();
            assert_eq!(size(fd.as_fd()).unwrap(), len as u64);
            let blocks = fstat(&fd).unwrap().st_blocks as usize;
            assert!(blocks * 512 >= len, "{blocks} blocks for {len} bytes");
        }
    }

    #[test]
    fn check_wants_seals_and_size_exactly() {
        let fd = create("memfd-test", 8192).unwrap();
        assert!(check(fd.as_fd(), Seals::NONE, 8192).is_ok());
        assert!(check(fd.as_fd(), Seals::SHRINK, 8192).is_err());
        seal(fd.as_fd(), ALL).unwrap();
        assert!(check(fd.as_fd(), ALL, 8192).is_ok());
        for wrong in [8191, 8193, 0] {
            assert!(check(fd.as_fd(), ALL, wrong).is_err());
        }
        assert!(seals(fd.as_fd()).unwrap().contains(ALL));
        let late = seal(fd.as_fd(), Seals::NONE | Seals::GROW).unwrap_err();
        assert_eq!(errno_of(&late), Some(libc::EPERM));
    }

    #[test]
    fn check_wants_all_pages() {
        let fd = create_empty("memfd-test").unwrap();
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::ftruncate(fd.as_raw_fd(), 65_536) }, 0);
        allocate(fd.as_fd(), 61_440).unwrap();
        check(fd.as_fd(), Seals::NONE, 65_536).unwrap();
        seal(fd.as_fd(), Seals::FUTURE_WRITE).unwrap();
        let why = check(fd.as_fd(), Seals::FUTURE_WRITE, 65_536).unwrap_err().to_string();
        assert!(why.contains("holes"), "{why}");
        let whole = create("memfd-test", 65_536).unwrap();
        seal(whole.as_fd(), Seals::FUTURE_WRITE).unwrap();
        check(whole.as_fd(), Seals::FUTURE_WRITE, 65_536).unwrap();
    }

    #[test]
    fn check_refuses_what_is_no_memory_file() {
        let null = crate::sys::fd::dev_null().unwrap();
        assert!(check(null.as_fd(), Seals::NONE, 0).unwrap_err().to_string().contains("not a memory file"));
    }

    #[test]
    fn impossible_files_are_errors_that_name_the_size() {
        assert_eq!(errno_of(&create("memfd-test", 0).unwrap_err()), Some(libc::EINVAL));
        assert_eq!(errno_of(&create("memfd\0test", 1).unwrap_err()), Some(libc::EINVAL));
        let huge = create("memfd-test", usize::MAX).unwrap_err().to_string();
        assert!(huge.contains("18446744073709551615 bytes"), "{huge}");
    }
}
