//! Memory files, seals, mappings, and the futexes in them.

use crate::harness::{Kid, Outcome, Skip, until};
use crate::raw;
use crate::tests;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use stokehold::internals::primitive::{AtomicU32, Ordering};
use stokehold::internals::sys::futex::{self, Wait};
use stokehold::internals::sys::map::{Mapping, SharedWords, page_size};
use stokehold::internals::sys::memfd::{self, Seals};
use stokehold::internals::sys::process::ExitStatus;
use stokehold::internals::sys::{errno_of, signal};

tests![
    futex_private_wake_reaches_no_other_process,
    futex_wait_and_wake_work_on_a_read_only_mapping_of_a_sealed_file,
    seals_shrink_and_grow_still_allow_punching,
    seals_future_write_refuses_punching,
    seals_future_write_refuses_new_writable_mappings_and_keeps_old_ones,
    seals_protect_and_open_modes_do_not,
    ftruncate_on_a_full_tmpfs_is_a_sigbus_and_fallocate_an_error,
    file_size_limit_kills_whoever_runs_into_it,
    file_size_limit_is_an_error_of_create,
    memory_file_without_noexec_seal_is_made_by_an_older_kernel,
    mapping_is_not_there_in_a_forked_child,
    wipe_on_fork_page_is_zero_in_a_forked_child,
];

const LEN: usize = 2 * 4096;
const WRITER: Seals = Seals::FUTURE_WRITE;

fn sealed(extra: Seals) -> (OwnedFd, Mapping) {
    let file = memfd::create("facts", LEN).unwrap();
    let mapping = Mapping::shared_rw_inherited(file.as_fd(), LEN).unwrap();
    memfd::seal(file.as_fd(), Seals::SHRINK | Seals::GROW | Seals::SEAL | extra).unwrap();
    (file, mapping)
}

fn word(mapping: &Mapping) -> &AtomicU32 {
    // SAFETY: mappings begin at pages and are longer than a word, and these tests use the first four bytes for
    // nothing else.
    unsafe { &*mapping.as_ptr().cast::<AtomicU32>() }
}

fn byte(mapping: &Mapping, i: usize) -> u8 {
    assert!(i < mapping.len());
    // SAFETY: within the mapping, as just checked; a test has one thread.
    unsafe { mapping.as_ptr().add(i).read_volatile() }
}

fn set_byte(mapping: &Mapping, i: usize, value: u8) {
    assert!(i < mapping.len());
    // SAFETY: as in `byte`. A mapping that cannot be written ends the process.
    unsafe { mapping.as_ptr().add(i).write_volatile(value) }
}

/// Takes the pages of a file away and leaves its length.
fn punch(file: BorrowedFd<'_>) -> Result<usize, i32> {
    let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as usize;
    raw::syscall(libc::SYS_fallocate, &[file.as_raw_fd() as usize, mode, 0, LEN])
}

/// The same through a mapping.
fn remove(mapping: &Mapping) -> Result<usize, i32> {
    raw::syscall(libc::SYS_madvise, &[mapping.as_ptr().addr(), mapping.len(), libc::MADV_REMOVE as usize])
}

fn futex_private_wake_reaches_no_other_process() -> Outcome {
    let words = SharedWords::new(1).unwrap();
    let address = std::ptr::from_ref(words.u32(0)).addr();
    let wait = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    let sleeper = Kid::new(|| i32::from(raw::syscall(libc::SYS_futex, &[address, wait, 0, 0]).is_err()));
    sleeper.until_asleep();
    assert_eq!(raw::syscall(libc::SYS_futex, &[address, wake, i32::MAX as usize]), Ok(0));
    assert_eq!(futex::wake(words.u32(0), u32::MAX), 0);

    let sleeper = Kid::new(|| i32::from(futex::wait(words.u32(0), 0, None) != Wait::Woken));
    sleeper.until_asleep();
    until(|| futex::wake(words.u32(0), u32::MAX) == 1); // ours is shared: this one reaches it
    assert_eq!(sleeper.end(), ExitStatus::Exited(0));
    Ok(())
}

fn futex_wait_and_wake_work_on_a_read_only_mapping_of_a_sealed_file() -> Outcome {
    let (file, writer) = sealed(WRITER);
    let sleep = || {
        let reader = Mapping::shared_ro(file.as_fd(), LEN).unwrap();
        i32::from(futex::wait(word(&reader), 0, None) != Wait::Woken)
    };
    let reader = Mapping::shared_ro(file.as_fd(), LEN).unwrap();
    for waker in [&writer, &reader] {
        let sleeper = Kid::new(sleep);
        sleeper.until_asleep();
        until(|| futex::wake(word(waker), 1) == 1);
        assert_eq!(sleeper.end(), ExitStatus::Exited(0));
    }
    word(&writer).store(1, Ordering::Release);
    assert_eq!(futex::wait(word(&reader), 0, None), Wait::Changed);
    assert_eq!(futex::wait(word(&reader), 1, Some(Duration::from_millis(1))), Wait::TimedOut);
    Ok(())
}

fn seals_shrink_and_grow_still_allow_punching() -> Outcome {
    let (file, writer) = sealed(Seals::NONE);
    set_byte(&writer, 5000, 7);
    assert_eq!(punch(file.as_fd()), Ok(0));
    assert_eq!(byte(&writer, 5000), 0);

    set_byte(&writer, 5000, 7);
    let peer = Mapping::shared_rw(file.as_fd(), LEN).unwrap();
    assert_eq!(remove(&peer), Ok(0));
    assert_eq!(byte(&writer, 5000), 0);
    assert_eq!(memfd::size(file.as_fd()).unwrap(), LEN as u64);
    Ok(())
}

fn seals_future_write_refuses_punching() -> Outcome {
    let (file, writer) = sealed(WRITER);
    set_byte(&writer, 5000, 7);
    assert_eq!(punch(file.as_fd()), Err(libc::EPERM));
    assert_eq!(remove(&writer), Err(libc::EPERM));
    assert_eq!(byte(&writer, 5000), 7);
    Ok(())
}

fn seals_future_write_refuses_new_writable_mappings_and_keeps_old_ones() -> Outcome {
    let (file, writer) = sealed(WRITER);
    let refused = Mapping::shared_rw(file.as_fd(), LEN).unwrap_err();
    assert_eq!(errno_of(&refused), Some(libc::EPERM));
    let reader = Mapping::shared_ro(file.as_fd(), LEN).unwrap();
    set_byte(&writer, 1, 9);
    assert_eq!(byte(&reader, 1), 9);
    let made_writable = raw::syscall(
        libc::SYS_mprotect,
        &[reader.as_ptr().addr(), LEN, (libc::PROT_READ | libc::PROT_WRITE) as usize],
    );
    assert_eq!(made_writable, Err(libc::EACCES));
    for size in [0, LEN - 1, LEN + 1] {
        assert_eq!(raw::syscall(libc::SYS_ftruncate, &[file.as_raw_fd() as usize, size]), Err(libc::EPERM));
    }
    memfd::check(file.as_fd(), Seals::SHRINK | Seals::GROW | Seals::SEAL | WRITER, LEN as u64).unwrap();
    Ok(())
}

fn seals_protect_and_open_modes_do_not() -> Outcome {
    use std::io::Write;
    let reopened = |seals| {
        let (file, mapping) = sealed(seals);
        let path = |fd: &dyn AsRawFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let reader = std::fs::File::open(path(&file)).unwrap();
        let mut writer = std::fs::File::options().write(true).open(path(&reader)).unwrap();
        let wrote = writer.write(b"x").map_err(|e| e.raw_os_error());
        (wrote, byte(&mapping, 0))
    };
    assert_eq!(reopened(Seals::NONE), (Ok(1), b'x'));
    assert_eq!(reopened(WRITER), (Err(Some(libc::EPERM)), 0));
    Ok(())
}

fn ftruncate_on_a_full_tmpfs_is_a_sigbus_and_fallocate_an_error() -> Outcome {
    let dir = std::env::temp_dir().join(format!("stokehold-facts-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let outcome = on_a_small_tmpfs(&dir);
    std::fs::remove_dir(&dir).unwrap();
    outcome
}

/// The mount is seen by a child only, whose end undoes it.
fn on_a_small_tmpfs(dir: &std::path::Path) -> Outcome {
    const NO_MOUNT: i32 = 50;
    let target = raw::c(dir.to_str().unwrap());
    let mount = |source: &str, target: &[u8], kind: &str, flags: libc::c_ulong, data: &str| {
        let (source, kind, data) = (raw::c(source), raw::c(kind), raw::c(data));
        let text = |t: &[u8]| t.as_ptr().addr();
        let arguments = [text(&source), text(target), text(&kind), flags as usize, text(&data)];
        raw::syscall(libc::SYS_mount, &arguments).is_ok()
    };
    let kid = Kid::new(|| {
        let alone = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
            && mount("none", b"/\0", "none", libc::MS_REC | libc::MS_PRIVATE, "")
            && mount("tmpfs", &target, "tmpfs", 0, "size=1m");
        if !alone {
            return NO_MOUNT;
        }
        let file = std::fs::File::options();
        let file = file.clone().read(true).write(true).create_new(true).open(dir.join("file")).unwrap();
        let fallocated = raw::syscall(libc::SYS_fallocate, &[file.as_raw_fd() as usize, 0, 0, 4 << 20]);
        assert_eq!(fallocated, Err(libc::ENOSPC));
        file.set_len(4 << 20).unwrap();
        let mapping = Mapping::shared_rw(file.as_fd(), 4 << 20).unwrap();
        (0..mapping.len()).step_by(page_size()).for_each(|i| set_byte(&mapping, i, 1));
        0
    });
    match kid.end() {
        ExitStatus::Exited(NO_MOUNT) => Err(Skip("no mount namespace of one's own here".into())),
        status => {
            assert_eq!(status, ExitStatus::Signaled(libc::SIGBUS));
            Ok(())
        }
    }
}

fn limit_file_size() {
    setrlimit(Resource::RLIMIT_FSIZE, 1 << 20, 1 << 20).unwrap();
}

fn file_size_limit_kills_whoever_runs_into_it() -> Outcome {
    let file = memfd::create("facts", 4096).unwrap();
    let number = file.as_raw_fd() as usize;
    let truncate = || raw::syscall(libc::SYS_ftruncate, &[number, 2 << 20]);
    let allocate = || raw::syscall(libc::SYS_fallocate, &[number, 0, 0, 2 << 20]);
    for grow in [&truncate as &dyn Fn() -> Result<usize, i32>, &allocate] {
        let kid = Kid::new(|| {
            limit_file_size();
            i32::from(grow().is_ok())
        });
        assert_eq!(kid.end(), ExitStatus::Signaled(libc::SIGXFSZ));
        let kid = Kid::new(|| {
            limit_file_size();
            signal::ignore(Signal::SIGXFSZ).unwrap();
            i32::from(grow() != Err(libc::EFBIG))
        });
        assert_eq!(kid.end(), ExitStatus::Exited(0));
    }
    Ok(())
}

fn file_size_limit_is_an_error_of_create() -> Outcome {
    limit_file_size();
    memfd::create("facts", 1 << 20).unwrap();
    let refused = memfd::create("facts", (1 << 20) + 1).unwrap_err();
    assert_eq!(errno_of(&refused), Some(libc::EFBIG));
    let text = refused.to_string();
    assert!(text.contains("1048577 bytes") && text.contains("1048576"), "{text}");
    Ok(())
}

fn memory_file_without_noexec_seal_is_made_by_an_older_kernel() -> Outcome {
    if !raw::deny(libc::SYS_memfd_create, libc::EINVAL, Some((1, libc::MFD_NOEXEC_SEAL))) {
        return Err(Skip("no seccomp".into()));
    }
    let name = raw::c("armed");
    let flags = libc::MFD_NOEXEC_SEAL as usize;
    assert_eq!(raw::syscall(libc::SYS_memfd_create, &[name.as_ptr().addr(), flags]), Err(libc::EINVAL));
    let (file, _mapping) = sealed(WRITER);
    memfd::check(file.as_fd(), WRITER, LEN as u64).unwrap();
    let flags = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    Ok(())
}

fn mapping_is_not_there_in_a_forked_child() -> Outcome {
    let file = memfd::create("facts", LEN).unwrap();
    for mapping in
        [Mapping::shared_rw(file.as_fd(), LEN).unwrap(), Mapping::shared_ro(file.as_fd(), LEN).unwrap()]
    {
        assert_eq!(byte(&mapping, 0), 0);
        let kid = Kid::new(|| byte(&mapping, 0).into());
        assert_eq!(kid.end(), ExitStatus::Signaled(libc::SIGSEGV));
    }
    let inherited = Mapping::shared_rw_inherited(file.as_fd(), LEN).unwrap();
    let kid = Kid::new(|| {
        set_byte(&inherited, 0, 3);
        0
    });
    assert_eq!((kid.end(), byte(&inherited, 0)), (ExitStatus::Exited(0), 3));
    Ok(())
}

fn wipe_on_fork_page_is_zero_in_a_forked_child() -> Outcome {
    let page = Mapping::wipe_on_fork_page().unwrap();
    let copied = Mapping::private_anonymous(page_size()).unwrap();
    set_byte(&page, 0, 5);
    set_byte(&copied, 0, 5);
    let kid = Kid::new(|| i32::from(byte(&page, 0)) * 10 + i32::from(byte(&copied, 0)));
    assert_eq!(kid.end(), ExitStatus::Exited(5));
    assert_eq!(byte(&page, 0), 5);
    Ok(())
}
