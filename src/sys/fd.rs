//! Descriptors as such: how many there may be, how many there are, and letting go of inherited ones.

use super::{last, named, named_io, retry};
use crate::error::Result;
use crate::primitive::{AtomicU32, Ordering};
use crate::sys::process::exit_now;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::mem::ManuallyDrop;
use std::ops::{Deref, RangeInclusive};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

const FIRST: u32 = 3; // the one after stderr

/// How often this process, or one that it is a copy of, has closed what it inherited.
static CLOSINGS: AtomicU32 = AtomicU32::new(0);

/// A descriptor, or what owns one, of a handle that a forked copy inherits, and may drop there: it is closed, unless
/// [`close_all_except`] was called since it was made. That has closed it, and its number may be another's by now.
#[derive(Debug)]
pub struct Inheritable<T = OwnedFd> {
    fd: ManuallyDrop<T>,
    closings: u32,
}

impl<T> From<T> for Inheritable<T> {
    fn from(fd: T) -> Inheritable<T> {
        Inheritable { fd: ManuallyDrop::new(fd), closings: CLOSINGS.load(Ordering::Relaxed) }
    }
}

impl<T> Deref for Inheritable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.fd
    }
}

impl<T: AsFd> AsFd for Inheritable<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<T> Inheritable<T> {
    /// Whether it is still open, and so what it was.
    pub fn is_ours(&self) -> bool {
        self.closings == CLOSINGS.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Inheritable<T> {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.fd) }
        }
    }
}

/// Closes every descriptor but stdin, stdout, stderr and those in `keep`.
///
/// The first thing that a forked child does. Whatever Rust values it inherited that own one of the closed
/// descriptors must be forgotten, not dropped: the numbers will be used again. [`Inheritable`] does so by itself.
///
/// See `close_range(2)`; where that is missing, the entries of `/proc/self/fd` are closed one by one.
pub fn close_all_except(keep: &[RawFd]) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    CLOSINGS.fetch_add(1, Ordering::Relaxed);
    for gap in gaps(&keep) {
        // SAFETY: takes three numbers and touches no memory. That nobody uses the closed numbers again is the
        // documented duty of the caller, who has just been forked.
        let answer = unsafe { libc::syscall(libc::SYS_close_range, *gap.start(), *gap.end(), 0u32) };
        if answer == 0 {
            continue;
        }
        return match Errno::last() {
            Errno::ENOSYS | Errno::EPERM | Errno::EINVAL => close_listed_except(&keep),
            _ => Err(last("close_range")),
        };
    }
    Ok(())
}

/// Raises the soft limit on descriptors to the hard one. Returns the soft limit before and after.
///
/// See `getrlimit(2)`. A child that runs foreign code gets the old one back with [`set_nofile_soft`]: programs
/// that use `select(2)` break beyond 1024.
pub fn raise_nofile() -> Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(named("getrlimit"))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(named("setrlimit"))?;
    }
    Ok((soft, soft.max(hard)))
}

/// Another descriptor of the same file, close-on-exec. See `F_DUPFD_CLOEXEC` in `fcntl(2)`.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(named_io("fcntl(F_DUPFD_CLOEXEC)"))
}

/// How many descriptors this process may have. See `getrlimit(2)`.
pub fn nofile() -> Result<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft).map_err(named("getrlimit"))
}

/// Sets the soft limit on descriptors, at most to the hard one. See `setrlimit(2)`.
pub fn set_nofile_soft(soft: u64) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(named("getrlimit"))?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard).map_err(named("setrlimit"))
}

/// How many descriptors this process has open. Reads `/proc/self/fd`, see `proc(5)`.
pub fn open_count() -> Result<usize> {
    Ok(listed()?.len())
}

/// `/dev/null`, for reading and writing. See `null(4)`.
pub fn dev_null() -> Result<OwnedFd> {
    let file = fs::File::options().read(true).write(true).open("/dev/null").map_err(named_io("open"))?;
    Ok(file.into())
}

/// Opens `/dev/null` for each of the standard descriptors that is closed, as the Rust runtime does before `main`; a C
/// program has none. Else the next descriptor that is made gets its number, and what the program prints goes there.
pub fn occupy_standard() -> Result<()> {
    for fd in 0..FIRST as RawFd {
        // SAFETY: takes two numbers.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags == -1 && Errno::last() == Errno::EBADF {
            let null = dev_null()?;
            // SAFETY: takes two numbers. `open` took the lowest that is free: this one, unless another thread was
            // faster; then the number is in use, and `null` is closed again.
            if null.as_raw_fd() == fd && unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != -1 {
                let _ = null.into_raw_fd(); // for as long as the process lives
            }
        }
    }
    Ok(())
}

/// Makes `fd` the standard input, in place of what that is now. The copy is not close-on-exec. See `dup2(2)`.
pub fn replace_stdin(fd: BorrowedFd<'_>) -> Result<()> {
    retry("dup2", || {
        // SAFETY: takes two numbers; `fd` is open as it is borrowed, and nothing owns descriptor 0 in Rust.
        unsafe { libc::dup2(fd.as_raw_fd(), libc::STDIN_FILENO).into() }
    })
    .map(drop)
}

/// Ends this process after some last words, for which it gives away descriptor 0 itself, whatever that is: where there is no
/// descriptor left to duplicate it. See `_exit(2)`.
pub fn end_with_stdin(status: i32, last_words: impl FnOnce(OwnedFd)) -> ! {
    struct End(i32);
    impl Drop for End {
        fn drop(&mut self) {
            exit_now(self.0)
        }
    }
    let _end = End(status); // also if they panic
    // SAFETY: nothing in Rust owns descriptor 0 (`Stdin` only borrows it), so it is closed once; and nothing of this process
    // comes after `last_words`, one way or the other.
    last_words(unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) });
    exit_now(status)
}

/// The ranges from [`FIRST`] on that hold none of `keep`, which is sorted.
fn gaps(keep: &[u32]) -> impl Iterator<Item = RangeInclusive<u32>> {
    let ends = keep.iter().map(|&fd| fd.checked_sub(1)).chain([Some(u32::MAX)]);
    let starts = [FIRST].into_iter().chain(keep.iter().map(|&fd| FIRST.max(fd + 1)));
    starts.zip(ends).filter_map(|(start, end)| end.filter(|end| start <= *end).map(|end| start..=end))
}

fn close_listed_except(keep: &[u32]) -> Result<()> {
    for fd in listed()? {
        let number = fd as u32;
        if number >= FIRST && keep.binary_search(&number).is_err() {
            // SAFETY: as in `close_all_except`. An error is not acted on: the number is free again in any case.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}

/// The open descriptors, without the one that reads the list. Reads `/proc/self/fd`, see `proc(5)`.
pub fn listed() -> Result<Vec<RawFd>> {
    let mut list = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(named_io("opendir"))? {
        let entry = entry.map_err(named_io("readdir"))?;
        list.extend(entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    // The directory is closed by now, so its number says EBADF, unless another thread was given it since.
    list.retain(|&fd| {
        // SAFETY: F_GETFD takes no argument and touches no memory.
        unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
    });
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keep: &[u32]) -> Vec<(u32, u32)> {
        gaps(keep).map(|r| (*r.start(), *r.end())).collect()
    }

    #[test]
    fn gaps_leave_out_exactly_what_is_kept() {
        assert_eq!(list(&[]), [(3, u32::MAX)]);
        assert_eq!(list(&[3]), [(4, u32::MAX)]);
        assert_eq!(list(&[0, 1, 2]), [(3, u32::MAX)]);
        assert_eq!(list(&[5, 5, 6, 9]), [(3, 4), (7, 8), (10, u32::MAX)]);
        assert_eq!(list(&[1, 4]), [(3, 3), (5, u32::MAX)]);
    }

    #[test]
    fn the_listing_shows_what_is_open() {
        let null = dev_null().unwrap();
        assert!(listed().unwrap().contains(&null.as_raw_fd()));
        assert!(open_count().unwrap() > 0);
    }

    #[test]
    fn descriptors_are_born_close_on_exec() {
        let null = dev_null().unwrap();
        let flags = nix::fcntl::fcntl(&null, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
    }
}
