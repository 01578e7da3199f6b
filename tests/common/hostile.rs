//! Actions of a worker that means ill: it writes wherever it can, and tries to take memory from under others.

use crate::app::{Faults, Random, begin, range, until_open};
use crate::nested::keep;
use crate::{flips, frames, guests, lies, proc};
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, ptr};
use stokehold::internals::ring::{Generation, Life, Reason, Word};
use stokehold::internals::sys::process as sys;
use stokehold::{App, Args, Ctx, Error, Reply, Result};

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    match action {
        // Writes nonsense of this kind for so long, then dies, or goes on as if nothing had been.
        "rage" => {
            let (seed, ms, how, lives): (u64, u64, &str, bool) = args.parse()?;
            // It is a client as well, so that it has requests of its own to spoil.
            let _ = ctx.call(Faults::NAME, "pid").deadline_ms(500).execute();
            fs::write("note", ctx.life().to_string())?;
            rage(seed, Duration::from_millis(ms), how, ctx.life());
            if lives { Ok(Reply::from(())) } else { sys::exit_now(9) }
        }
        // Tries what the seals refuse, and writes down what they did not: this call may be a victim of it.
        "tamper" => {
            keep("possible".into(), tamper().join("\n"))?;
            Ok(Reply::from(()))
        }
        // One lie about a call: of this worker's own, or of another's. The second says what becomes of the liar.
        "lie" => {
            let (how, then): (&str, &str) = args.parse()?;
            lies::about_mine(how, then, ctx.life());
            after(then)
        }
        "lie_of_others" => {
            let (id, how, gate, then): (i64, &str, &str, &str) = args.parse()?;
            begin(id);
            until_open(gate);
            let told = lies::about_others(how, ctx.life());
            fs::write(".note", format!("{} {told}", ctx.life()))?;
            fs::rename(".note", "note")?;
            after(then)
        }
        // Says something to the arbiter that no worker says, on one of its two sockets.
        "say" => {
            let (how, on, then): (&str, usize, &str) = args.parse()?;
            fs::write(".note", process::id().to_string())?;
            fs::rename(".note", "note")?;
            frames::say(how, &frames::sockets()[on], ctx.life());
            fs::write("note2", "")?;
            after(then)
        }
        // A copy of this process as a fork makes it, with whatever that leaves it.
        "leave_copy" => {
            // SAFETY: the copy makes one system call, over and over.
            let copy = unsafe { libc::fork() };
            if copy == 0 {
                loop {
                    // SAFETY: takes nothing.
                    unsafe { libc::pause() };
                }
            }
            Ok(Reply::from(copy))
        }
        "grab_lanes" => guests::grab(args),
        "accuse_others" => guests::accuse(ctx.life()),
        other => match flips::call(other, args, ctx) {
            Some(answer) => answer,
            None => Err(Error::no_action(other)),
        },
    }
}

fn after(then: &str) -> Result<Reply> {
    match then {
        "exits" => sys::exit_now(9),
        "waits" => until_open("gate"),
        _ => {}
    }
    Ok(Reply::from(()))
}

/// The kinds of nonsense.
pub const WAYS: &[&str] = &["bytes", "words", "bits", "holes", "plausible"];

/// Random writes into every mapping that others share.
fn rage(seed: u64, time: Duration, how: &str, life: u16) {
    let mut random = Random(seed);
    let end = Instant::now() + time;
    while Instant::now() < end {
        // Lanes are replaced meanwhile, and the other threads of this worker map the new ones.
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        // A build that counts what is covered has a file among them, of which it makes no sense.
        let is_ours = |line: &&str| line.contains(" rw-s ") && line.contains("/memfd:");
        let shared: Vec<_> = maps.lines().filter(is_ours).collect();
        // The words of calls are a small part of it all, and what matters most.
        let control = shared.iter().filter(|line| line.contains("control"));
        let words: Vec<_> =
            control.filter_map(|line| range(line)).map(|(from, to)| (from + 4096, to)).collect();
        let all: Vec<_> = shared.iter().filter_map(|line| range(line)).collect();
        for _ in 0..256 {
            let of = if how == "plausible" && !words.is_empty() { &words } else { &all };
            let (from, to) = of[random.below(of.len() as u64) as usize];
            let at = from + random.below((to - from) as u64) as usize;
            match how {
                "bytes" => write(at, random.next() as u8),
                "words" => write(at & !7, random.next()),
                // A page of zeroes, where no seal stands against it.
                "holes" => take_page(at & !0xfff),
                "bits" => write(at & !7, read(at & !7) ^ 1 << random.below(64)),
                _ => likely(&mut random, at & !63, life),
            }
        }
    }
}

fn take_page(at: usize) {
    // SAFETY: none, as with `scribble`: a page of a mapping of this process, which stays mapped.
    unsafe { libc::madvise(ptr::without_provenance_mut(at), 4096, libc::MADV_REMOVE) };
}

/// Writes into the line of a call what may well stand there.
fn likely(random: &mut Random, line: usize, life: u16) {
    let now = read(line);
    let generation = Generation(((now >> 32) as u32).wrapping_add(random.below(3) as u32).wrapping_sub(1));
    let someone = Life::new(1 + random.below(u64::from(life) + 2) as u16).unwrap();
    let word = match random.below(10) {
        0 => Word::idle(generation),
        1 => Word::queued(generation),
        2 => Word::running(generation, someone),
        3 | 4 => Word::done(generation, someone),
        5 => Word::abandoned(generation, someone),
        6 => Word::acked(generation, someone),
        7 => Word::lost(generation, Some(someone), Reason::NotBegun),
        8 => Word::lost(generation, Some(someone), Reason::Begun),
        _ => Word::lost(generation, None, Reason::Degraded),
    };
    match random.below(4) {
        0 => write(line, word.raw()),
        1 => write(line + 8, random.below(2048) << 48 | (16384 + 512 * random.below(300))),
        2 => write(line + 16 + 4 * random.below(2) as usize, random.next() as u32),
        _ => write(line + 24 + 8 * random.below(5) as usize, random.next() >> random.below(64)),
    }
}

pub fn read(at: usize) -> u64 {
    // SAFETY: none, as with `scribble`: inside a mapping of this process, aligned, and whatever is there is a number.
    unsafe { ptr::without_provenance::<u64>(at).read_volatile() }
}

/// Whether it was `from`, and is `to` now.
pub fn swap(at: usize, from: u64, to: u64) -> bool {
    // SAFETY: none, as above.
    let word = unsafe { AtomicU64::from_ptr(ptr::without_provenance_mut(at)) };
    word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

pub fn write<T>(at: usize, value: T) {
    // SAFETY: none, as above. Nothing but the kernel stops a worker from writing there.
    unsafe { ptr::without_provenance_mut::<T>(at).write_volatile(value) };
}

/// What nobody may do to a region, though he can name it: what was possible all the same.
fn tamper() -> Vec<String> {
    let mut possible = Vec::new();
    let mut note = |what: &str, how: &str, done: bool| {
        if done {
            possible.push(format!("{what}: {how}"));
        }
    };
    let parent = sys::parent_pid().map_or(0, |pid| pid.as_raw() as u32);
    let mut names: Vec<String> = Vec::new();
    for pid in [process::id(), parent] {
        let all = proc::descriptors(pid).into_iter().filter(|(_, to)| to.contains("memfd:stokehold"));
        names.extend(all.map(|(n, _)| format!("/proc/{pid}/fd/{n}")));
    }
    let maps = proc::mappings(process::id());
    names.extend(maps.iter().filter_map(|l| Some(format!("/proc/self/map_files/{}", l.split_once(' ')?.0))));
    let mut tried = 0;
    for name in names {
        let Ok(to) = fs::read_link(&name) else { continue };
        let what = to.display().to_string();
        // Everybody writes these: their memory can be taken, and what is in it counts for little.
        let is_shared = what.contains("control") || what.contains("board");
        let path = CString::new(name).unwrap();
        // SAFETY: takes numbers, and a string that outlives the call.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd < 0 {
            continue; // seals must do without the modes of descriptors; here those are enough
        }
        tried += 1;
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let bytes = [0xa5_u8; 64];
        // SAFETY: numbers, and `bytes`, which outlives the calls and is only read.
        unsafe {
            note(&what, "shorter", libc::ftruncate(fd, 0) == 0);
            note(&what, "longer", libc::ftruncate(fd, 1 << 30) == 0);
            note(&what, "more", libc::fallocate(fd, 0, 1 << 30, 4096) == 0);
            note(&what, "seals", libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE) == 0);
            let again = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_TRUNC | libc::O_CLOEXEC);
            note(&what, "opened as nothing", again >= 0);
            note(&what, "punched", libc::fallocate(fd, punch, 0, 4096) == 0 && !is_shared);
            note(
                &what,
                "zeroed",
                libc::fallocate(fd, libc::FALLOC_FL_ZERO_RANGE, 0, 4096) == 0 && !is_shared,
            );
            note(&what, "written", !is_shared && libc::pwrite(fd, bytes.as_ptr().cast(), 64, 64) > 0);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let map = libc::mmap(ptr::null_mut(), 4096, access, libc::MAP_SHARED, fd, 0);
            note(&what, "mapped", map != libc::MAP_FAILED && !is_shared);
            libc::close(fd);
        }
    }
    assert!(tried > 0, "nothing could be tried");
    let memory = fs::OpenOptions::new().write(true).open("/proc/self/mem").ok();
    for line in maps {
        let (from, to) = range(&line).unwrap();
        let is_shared = line.contains("control") || line.contains("board");
        let (at, len) = (ptr::without_provenance_mut::<libc::c_void>(from), to - from);
        // SAFETY: a mapping of this process. What it loses of it is what this is about.
        unsafe {
            note(&line, "removed", libc::madvise(at, len, libc::MADV_REMOVE) == 0 && !is_shared);
            if line.contains(" r--s ") {
                note(&line, "unprotected", libc::mprotect(at, len, libc::PROT_READ | libc::PROT_WRITE) == 0);
            }
        }
        if let (Some(memory), true) = (&memory, line.contains(" r--s ")) {
            let written = std::os::unix::fs::FileExt::write_at(memory, &[1; 8], from as u64 + 64);
            note(&line, "written through /proc/self/mem", written.is_ok());
        }
    }
    possible
}
