//! One allocation of an operation is refused, each in its turn. The operation succeeds, or ends in an error, and then works; or the
//! process ends, which is listed here by the function that asked for memory.

use crate::allocator::{FRAMES, Refuse, tell, with};
use crate::app::Sizes;
use crate::guard::PoolGuard;
use crate::harness::{Kid, Outcome, Skip};
use crate::symbols::Symbols;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use stokehold::internals::sys::process::ExitStatus;
use stokehold::{App, Client, Pool, Result};

pub const TESTS: &[crate::harness::Test] =
    &[("f11_each_allocation_in_its_turn", f11_each_allocation_in_its_turn)];

/// An operation: told what to repeat until no allocation is left, one more refused each time.
type Operation = fn(&Attempts);

const OPERATIONS: &[(&str, Operation)] = &[
    ("call", |attempts| on(attempts, add)),
    ("call, in shared memory", |attempts| {
        let bytes = vec![7u8; 100_000];
        on(attempts, |client| client.call(Sizes::NAME, "len").args((&bytes[..],)).execute().map(drop))
    }),
    ("call, lent results", |attempts| {
        on(attempts, |client| client.call(Sizes::NAME, "bytes").args((100_000,)).execute().map(drop))
    }),
    ("submit", |attempts| {
        on(attempts, |client| client.call(Sizes::NAME, "add").args((1, 2)).submit()?.wait().map(drop))
    }),
    ("read a result", |attempts| {
        on(attempts, |client| {
            client.call(Sizes::NAME, "numbers").args((100,)).execute()?.into_owned().map(drop)
        })
    }),
    ("an app's error", |attempts| {
        on(attempts, |client| match client.call(Sizes::NAME, "fail").args((10,)).execute() {
            Ok(_) => panic!("it succeeded"),
            Err(_) => Ok(()),
        })
    }),
    ("lease", |attempts| on(attempts, |client| client.lease(1000).map(drop))),
    ("lease of a region", |attempts| {
        on(attempts, |client| {
            let lease = client.lease(40_000_000).map(drop);
            client.trim();
            lease
        })
    }),
    ("stream", |attempts| {
        on(attempts, |client| {
            let mut stream = client.call(Sizes::NAME, "items").args((3, 100)).stream()?;
            stream.try_for_each(|item| item.map(drop))
        })
    }),
    ("context", |attempts| {
        on(attempts, |client| {
            let mut context = client.call(Sizes::NAME, "dialog").context()?;
            context.send(1)?;
            let answer = context.next().expect("an answer");
            context.finish();
            answer?;
            context.wait().map(drop)
        })
    }),
    ("connect", |attempts| {
        let pool = pool();
        attempts.each(|| pool.client().map(drop));
    }),
    ("start", |attempts| attempts.each(|| Pool::builder().app::<Sizes>().workers(1).start().map(drop))),
];

/// F11, as far as it goes: where a failing allocation ends the process. Sizes that are known, most of them once in the life of a
/// pool or of a client.
const ENDS: &[(&str, &[&str])] = &[
    ("lease", &["stokehold::client::lease::Lease::new"]),
    (
        "lease of a region",
        &[
            "<stokehold::wire::event::Owned as core::iter::traits::iterator::Iterator>::next",
            "stokehold::client::lease::Lease::new",
            "stokehold::conn::message::Message::into_parts",
            "stokehold::conn::message::Message::with",
            "stokehold::conn::message::Message::with_fd",
            "stokehold::conn::stream::Stream::flush",
            "stokehold::conn::stream::Stream::queue",
            "stokehold::shm::store::Store::allocate",
            "stokehold::shm::store::Store::retire_idle",
            "stokehold::sys::memfd::create_empty",
        ],
    ),
    (
        "stream",
        &[
            "stokehold::client::body::Spare::take::_{{closure}}",
            "stokehold::client::items::Items::attach",
            "stokehold::client::items::Items::known",
            "stokehold::ring::intake::Intake::pop",
        ],
    ),
    (
        "context",
        &[
            "stokehold::client::body::Spare::take::_{{closure}}",
            "stokehold::client::items::Items::attach",
            "stokehold::client::items::Items::known",
            "stokehold::client::sender::Sender::new",
            "stokehold::ring::intake::Intake::pop",
        ],
    ),
    (
        "connect",
        &[
            "<stokehold::wire::event::Owned as core::iter::traits::iterator::Iterator>::next",
            "stokehold::client::connection::Client::connect",
            "stokehold::conn::message::Message::into_parts",
            "stokehold::conn::message::Message::strings",
            "stokehold::conn::message::Message::strings::_{{closure}}",
            "stokehold::conn::message::Message::with",
            "stokehold::conn::message::Message::with_fd",
            "stokehold::conn::stream::Stream::flush",
            "stokehold::conn::stream::Stream::next",
            "stokehold::conn::stream::Stream::queue",
            "stokehold::conn::stream::Stream::read",
            "stokehold::shm::arena::Arena::new",
            "stokehold::shm::foreign::Foreign::new",
            "stokehold::shm::requests::Requests::create",
            "stokehold::shm::store::Store::new",
            "stokehold::sys::cpu",
            "stokehold::sys::memfd::create_empty",
            "stokehold::sys::socket::take_rights",
        ],
    ),
    (
        "start",
        &[
            "<stokehold::wire::event::Owned as core::iter::traits::iterator::Iterator>::next",
            "stokehold::arbiter::settings::Settings::check",
            "stokehold::arbiter::settings::Settings::to_message",
            "stokehold::conn::message::Message::into_parts",
            "stokehold::conn::message::Message::with",
            "stokehold::conn::message::Message::with_fd",
            "stokehold::conn::stream::Stream::flush",
            "stokehold::conn::stream::Stream::next",
            "stokehold::conn::stream::Stream::queue",
            "stokehold::conn::stream::Stream::read",
            "stokehold::host::builder::Builder::app_named",
            "stokehold::host::builder::Builder::settings",
            "stokehold::host::builder::Builder::start",
            "stokehold::sys::process::spawn::spawn_self",
            "stokehold::sys::process::spawn::start",
            "stokehold::sys::socket::take_rights",
            "stokehold::wire::convert::<impl core::iter::traits::collect::FromIterator<T> for stokehold::wire::value::Value>::from_iter",
        ],
    ),
];

/// How often an operation is gone through, until what it finds is what is listed.
const TIMES: usize = 3;
/// So many that met no refusal, one after another, are the end.
const UNREFUSED: u64 = 4;

fn f11_each_allocation_in_its_turn() -> Outcome {
    if !cfg!(debug_assertions) {
        return Err(Skip("functions have their names where nothing is inlined".into()));
    }
    let _guard = PoolGuard::new();
    let symbols = Symbols::read();
    let mut wrong = Vec::new();
    for (name, operation) in OPERATIONS {
        let listed = ENDS.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, sites)| sites);
        let listed: BTreeSet<String> = listed.iter().map(|site| site.to_string()).collect();
        // How many there are varies: a message comes in one piece or in two. So what one time missed another finds.
        let mut differs: Option<(BTreeSet<String>, BTreeSet<String>)> = None;
        for _ in 0..TIMES {
            let (found, allocations) = ends(operation, &symbols);
            println!("{name}: {allocations} allocations, {} places end the process", found.len());
            let (mut more, mut missing) = (&found - &listed, &listed - &found);
            if let Some((more_before, missing_before)) = &differs {
                (more, missing) = (&more & more_before, &missing & missing_before);
            }
            let is_as_listed = more.is_empty() && missing.is_empty();
            differs = Some((more, missing));
            if is_as_listed {
                break;
            }
        }
        match differs {
            Some((more, missing)) if !(more.is_empty() && missing.is_empty()) => {
                wrong.push(format!("{name}: not in the list {more:#?}, in it and not found {missing:#?}"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "the list is not as it is:\n{}", wrong.join("\n"));
    Ok(())
}

/// Where a refused allocation ended a process, and how many allocations there were.
fn ends(operation: &Operation, symbols: &Symbols) -> (BTreeSet<String>, u64) {
    let (mut found, mut from) = (BTreeSet::new(), 1);
    loop {
        let open = |name: &str| {
            let options = File::options().read(true).append(true).create(true).truncate(false).open(name);
            let file = options.unwrap();
            file.set_len(0).unwrap();
            file
        };
        let (mut frames, mut survived) = (open("note"), open("note2"));
        let kid = Kid::new(|| {
            tell(frames.as_raw_fd());
            operation(&Attempts { from, survived: &survived });
            0
        });
        let status = kid.end();
        let survived = count_in(&mut survived);
        let next = from + survived;
        match status {
            ExitStatus::Exited(0) => return (found, next - 1 - UNREFUSED),
            ExitStatus::Signaled(libc::SIGABRT) => {
                found.insert(site(&mut frames, symbols));
            }
            other => panic!("allocation {next}: {other}"),
        }
        from = next + 1;
    }
}

fn count_in(file: &mut File) -> u64 {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes.len() as u64
}

/// The function of ours that the last refused allocation was for.
fn site(frames: &mut File, symbols: &Symbols) -> String {
    let mut bytes = Vec::new();
    frames.rewind().unwrap();
    frames.read_to_end(&mut bytes).unwrap();
    let last = &bytes[bytes.len() - FRAMES * 8..];
    let addresses = last.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap()));
    let names: Vec<String> = addresses.filter_map(|address| symbols.name(address)).collect();
    let ours = names.iter().find(|name| {
        let name = name.trim_start_matches('<');
        name.starts_with("stokehold::") && !name.starts_with("stokehold::error::")
    });
    match ours {
        // Which of its files there are differs from machine to machine.
        Some(name) if name.starts_with("stokehold::sys::cpu::") => "stokehold::sys::cpu".into(),
        Some(name) => name.clone(),
        None => format!("{names:?}"),
    }
}

/// What is repeated.
struct Attempts<'a> {
    from: u64,
    survived: &'a File,
}

impl Attempts<'_> {
    /// One more is refused each time, until there is none: then it must succeed.
    fn each(&self, mut operation: impl FnMut() -> Result<()>) {
        let _ = operation(); // what is there after the first time is not what this is about
        let (mut survived, mut unrefused) = (self.survived, 0);
        for n in self.from.. {
            let (outcome, refused) = with(Refuse::Nth(n), &mut operation);
            survived.write_all(&[1]).unwrap();
            if refused == 0 {
                outcome.unwrap();
                unrefused += 1;
                if unrefused == UNREFUSED {
                    return;
                }
                continue;
            }
            unrefused = 0;
            operation().unwrap(); // nothing of it is left
        }
    }
}

fn pool() -> Pool {
    Pool::builder().app::<Sizes>().workers(1).start().unwrap()
}

/// An operation of a client.
fn on(attempts: &Attempts<'_>, mut operation: impl FnMut(&Client) -> Result<()>) {
    let pool = pool();
    let client = pool.client().unwrap();
    attempts.each(|| operation(&client));
    assert_eq!(client.free_calls(), 64);
}

fn add(client: &Client) -> Result<()> {
    client.call(Sizes::NAME, "add").args((1, 2)).execute()?.parse::<i64>().map(drop)
}
