//! Mappings: bytes of a memory file, or of nobody, in this address space.
//!
//! A [`Mapping`] hands out a raw pointer and a length and nothing else. Others may write to what is behind a
//! shared one at any time, so there is no reference to it in here; who makes one says why it holds.

use super::fork_guard::ForkGuard;
use super::{last, named_io};
use crate::error::{Error, Result};
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};

pub use super::words::SharedWords;

/// A range of mapped memory, unmapped when dropped.
///
/// Shared mappings are not copied into forked children (`MADV_DONTFORK`) and not written into core files
/// (`MADV_DONTDUMP`): a grandchild of a worker cannot write what it never had, and a core file holds no payloads.
/// A forked copy of such a `Mapping` names a range that is not its own, which its drop leaves alone.
pub struct Mapping {
    raw: ManuallyDrop<MmapRaw>,
    /// Set if only the process that mapped it has it.
    original: Option<ForkGuard>,
}

// SAFETY: a `Mapping` is an address and a length. The range belongs to the process, not to a thread, and is
// unmapped once, by the one owner (`MmapRaw` is neither `Clone` nor `Copy`).
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives away the address and the length, both constants, and no access to what is behind.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first `len` bytes of `fd`, to read and write.
    ///
    /// The file must be as long as that and sealed against shrinking, or an access may raise SIGBUS: see
    /// [`memfd::check`](super::memfd::check). See `mmap(2)` and `madvise(2)`.
    pub fn shared_rw(fd: BorrowedFd<'_>, len: usize) -> Result<Mapping> {
        Mapping::shared_rw_inherited(fd, len)?.unshared_with_children()
    }

    /// The first `len` bytes of `fd`, only to read. Writing through [`as_ptr`](Mapping::as_ptr) is a SIGSEGV.
    pub fn shared_ro(fd: BorrowedFd<'_>, len: usize) -> Result<Mapping> {
        Mapping::shared_ro_inherited(fd, len)?.unshared_with_children()
    }

    /// As [`shared_rw`](Mapping::shared_rw), but forked children have it too.
    pub fn shared_rw_inherited(fd: BorrowedFd<'_>, len: usize) -> Result<Mapping> {
        let raw = options(len)?.map_raw(fd.as_raw_fd()).map_err(named_io("mmap"))?;
        Mapping::inherited(raw).undumped()
    }

    /// As [`shared_ro`](Mapping::shared_ro), but forked children have it too.
    pub fn shared_ro_inherited(fd: BorrowedFd<'_>, len: usize) -> Result<Mapping> {
        let raw = options(len)?.map_raw_read_only(fd.as_raw_fd()).map_err(named_io("mmap"))?;
        Mapping::inherited(raw).undumped()
    }

    /// `len` zeroed bytes that no other process sees; a forked child has a copy.
    pub fn private_anonymous(len: usize) -> Result<Mapping> {
        let raw = options(len)?.map_anon().map_err(named_io("mmap"))?.into();
        Ok(Mapping::inherited(raw))
    }

    /// A private page that is full of zeroes in every forked child, so that a copy can know that it is one.
    ///
    /// See `MADV_WIPEONFORK` in `madvise(2)`.
    pub fn wipe_on_fork_page() -> Result<Mapping> {
        let page = Mapping::private_anonymous(page_size())?;
        // SAFETY: the range is exactly the mapping made above, which nobody has a reference into.
        let answer = unsafe { libc::madvise(page.as_ptr().cast(), page.len(), libc::MADV_WIPEONFORK) };
        if answer == 0 { Ok(page) } else { Err(last("madvise")) }
    }

    /// Where it begins: aligned to a page, never null, valid for `len` bytes until the drop.
    pub fn as_ptr(&self) -> *mut u8 {
        self.raw.as_mut_ptr()
    }

    /// How many bytes it has, as asked for.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether this process has it: a forked copy has no copy of a mapping that is shared.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.original.is_none_or(|guard| guard.is_original())
    }

    fn inherited(raw: MmapRaw) -> Mapping {
        Mapping { raw: ManuallyDrop::new(raw), original: None }
    }

    fn undumped(self) -> Result<Mapping> {
        self.raw.advise(Advice::DontDump).map_err(named_io("madvise"))?;
        Ok(self)
    }

    fn unshared_with_children(mut self) -> Result<Mapping> {
        let original = ForkGuard::new()?;
        self.raw.advise(Advice::DontFork).map_err(named_io("madvise"))?;
        self.original = Some(original);
        Ok(self)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: dropped once, here, and not used afterwards. In a forked copy that does not have the range it is
            // not dropped: by now something else may be mapped there.
            unsafe { ManuallyDrop::drop(&mut self.raw) }
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({:p}, {} bytes)", self.as_ptr(), self.len())
    }
}

/// The size of a page. See `sysconf(3)`.
pub fn page_size() -> usize {
    // SAFETY: takes a number and answers one.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

fn options(len: usize) -> Result<MmapOptions> {
    if len == 0 {
        return Err(Error::os("mmap", libc::EINVAL).context("mapping of 0 bytes"));
    }
    let mut options = MmapOptions::new();
    options.len(len);
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd;
    use std::os::fd::AsFd;

    #[test]
    fn two_mappings_of_one_file_show_the_same_bytes() {
        let fd = memfd::create("map-test", 10_000).unwrap();
        let writer = Mapping::shared_rw(fd.as_fd(), 10_000).unwrap();
        let reader = Mapping::shared_ro(fd.as_fd(), 10_000).unwrap();
        assert_eq!((writer.len(), reader.len()), (10_000, 10_000));
        // SAFETY: both are valid for 10,000 bytes, and only this thread uses them.
        unsafe {
            writer.as_ptr().add(9_999).write_volatile(7);
            assert_eq!(reader.as_ptr().add(9_999).read_volatile(), 7);
        }
    }

    #[test]
    fn anonymous_memory_is_zero() {
        let page = Mapping::wipe_on_fork_page().unwrap();
        assert_eq!(page.len(), page_size());
        // SAFETY: valid for a page, and only this thread uses it.
        assert_eq!(unsafe { page.as_ptr().read_volatile() }, 0);
    }

    #[test]
    fn an_empty_mapping_is_refused() {
        let e = Mapping::private_anonymous(0).unwrap_err();
        assert_eq!(crate::sys::errno_of(&e), Some(libc::EINVAL));
    }
}
