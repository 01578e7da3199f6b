//! What a user configures with: the file and the command line of `stokehold serve`, the arguments of `stokehold call` as JSON,
//! the environment variable and the first message of an arbiter. Each is refused with a reason, or read; what was read and is
//! written again reads the same.
#![no_main]
#![allow(dead_code)] // of the program's files only what reads is used

#[path = "../../src/bin/stokehold/failure.rs"]
mod failure;
#[path = "../../src/bin/stokehold/help.rs"]
mod help;
#[path = "../../src/bin/stokehold/json.rs"]
mod json;
#[path = "../../src/bin/stokehold/serve/mod.rs"]
mod serve;
#[path = "../../src/bin/stokehold/socket.rs"]
mod socket;

/// The program's own app, of which `serve` wants the name.
mod demo {
    use stokehold::{App, Args, Ctx, Reply, Result};

    pub struct Demo;

    impl App for Demo {
        const NAME: &'static str = "demo:Demo";

        fn init(_: &Ctx) -> Result<Demo> {
            Ok(Demo)
        }

        fn call(&self, _: &str, _: Args<'_>, _: &Ctx) -> Result<Reply> {
            Ok(Reply::from(()))
        }
    }
}

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serve::config::{self, Config, Item};
use std::os::fd::AsFd;
use std::sync::Once;
use stokehold::Value;
use stokehold::internals::arbiter::Settings;
use stokehold::internals::conn::Message;
use stokehold::internals::sys::fd;
use stokehold::internals::wire::Kind;
use stokehold_fuzz::peer::Says;

#[derive(Arbitrary, Debug)]
enum Input {
    /// Settings by their places in the list, and how they are written; and anything.
    File(Vec<(u8, Written)>, String),
    Whole(String),
    Command(Vec<Word>),
    Json(String),
    Message(Vec<(u8, Says)>),
    Variable(String),
}

#[derive(Arbitrary, Debug)]
enum Written {
    Number(u64),
    Negative(i64),
    Text(String),
    Truth(bool),
    List(Vec<String>),
}

#[derive(Arbitrary, Debug)]
enum Word {
    Option(u8),
    WithValue(u8, String),
    Number(u64),
    Text(String),
}

const NAMES: &[&str] = &[
    "socket",
    "demo",
    "app-library",
    "app",
    "workers",
    "threads",
    "wait",
    "timeout-ms",
    "cancel-signal",
    "cancel-grace-ms",
    "signal-grace-ms",
    "kill-grace-ms",
    "stop-grace-ms",
    "boot-timeout-ms",
    "keep-warm-ms",
    "restarts",
    "restarts-within-ms",
    "backoff-first-ms",
    "backoff-longest-ms",
    "config",
    "no-such-thing",
];
const FIELDS: &[&str] = &[
    "token",
    "apps",
    "library",
    "threads",
    "mode",
    "timeout_ns",
    "stall_ns",
    "worker_quota",
    "warm_ms",
    "sig_blocked",
    "sig_ignored",
    "build",
    "workers",
    "max_restarts",
    "within_ns",
    "backoff_first_ns",
    "backoff_max_ns",
    "boot_timeout_ns",
    "kill_grace_ns",
    "cancel_signal",
    "cancel_grace_ns",
    "signal_grace_ns",
    "stop_grace_ns",
    "first_life",
    "first_generation",
    "first_region",
];

fuzz_target!(|input: Input| match input {
    Input::File(settings, rest) => {
        let lines = settings
            .iter()
            .map(|(name, written)| format!("{} = {}\n", name_of(*name).replace('-', "_"), toml(written)));
        file(&(lines.collect::<String>() + &rest));
    }
    Input::Whole(text) => file(&text),
    Input::Command(words) => command(words),
    Input::Json(text) => {
        if let Ok(value) = json::parse(&text) {
            let printed = json::print(&value, false);
            // A number that is none is not equal to itself, so the words are compared.
            let again = json::parse(&printed).expect("what was printed is read");
            assert_eq!(json::print(&again, false), printed);
            assert_eq!(
                json::print(&json::parse(&json::print(&value, true)).expect("it is JSON"), false),
                printed
            );
        }
    }
    Input::Message(fields) => message(&fields),
    Input::Variable(text) => variable(&text),
});

fn name_of(number: u8) -> &'static str {
    NAMES[usize::from(number) % NAMES.len()]
}

fn toml(written: &Written) -> String {
    match written {
        Written::Number(n) => n.to_string(),
        Written::Negative(n) => n.to_string(),
        Written::Text(text) => format!("{text:?}"),
        Written::Truth(truth) => truth.to_string(),
        Written::List(items) => format!("{items:?}"),
    }
}

fn file(text: &str) {
    match Config::parse("a/b.toml".as_ref(), text) {
        Ok(config) => makes_sense(config),
        Err(why) => assert!(why.starts_with("a/b.toml, line "), "a mistake has a place: {why}"),
    }
}

fn command(words: Vec<Word>) {
    let words = words.into_iter().take(24).map(|word| match word {
        Word::Option(name) => format!("--{}", name_of(name)),
        Word::WithValue(name, value) => format!("--{}={value}", name_of(name)),
        Word::Number(n) => n.to_string(),
        Word::Text(text) => text,
    });
    // A file that is named is not opened here.
    let words: Vec<String> =
        words.filter(|word| !word.starts_with("--config") && !word.starts_with("-c")).collect();
    for word in &words {
        let name = word.trim_start_matches('-');
        let _ = (config::is_option(name), Item::of_flag(name, "1".into()));
    }
    match serve::wanted(lexopt::Parser::from_args(words)) {
        Ok(Some(config)) => makes_sense(config),
        Ok(None) => {}
        Err(failure) => assert_eq!(failure.status(), failure::USAGE, "{failure}"),
    }
}

/// Whether such a pool can be is said at once, without starting anything.
fn makes_sense(config: Config) {
    if let Ok(builder) = serve::builder(config)
        && let Err(error) = builder.check()
    {
        assert!(!error.to_string().is_empty());
    }
}

/// The two variables that are looked at. There is no host at the other end of standard input, so nothing becomes an arbiter.
fn variable(text: &str) {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let null = fd::dev_null().expect("/dev/null");
        fd::replace_stdin(null.as_fd()).expect("standard input");
    });
    if text.contains('\0') {
        return;
    }
    // SAFETY: the fuzzer's other thread looks at no variable.
    unsafe { std::env::set_var("XDG_RUNTIME_DIR", text) };
    let path = socket::default_path();
    assert!(path.is_ok_and(|path| path.is_absolute()));
    // SAFETY: as above.
    unsafe { std::env::set_var("STOKEHOLD_ARBITER", text) };
    let _ = stokehold::init(|apps| Ok(apps));
}

fn message(fields: &[(u8, Says)]) {
    let message = fields.iter().take(40).fold(usual(), |message, (name, says)| {
        message.with(FIELDS[usize::from(*name) % FIELDS.len()], says.value())
    });
    if let Ok(settings) = Settings::from_message(&message) {
        settings.check().expect("it was checked");
        assert!(settings.places() >= settings.policy.workers);
        let bounds = settings.bounds();
        assert!(bounds.timeout_ns != Some(0) && bounds.late_ns > 0);
        let again = Settings::from_message(&settings.to_message(7)).expect("what was written is read");
        assert_eq!(format!("{again:?}"), format!("{settings:?}"));
    }
}

/// One that is accepted; of a field that is there twice the later one counts.
fn usual() -> Message {
    FIELDS.iter().fold(Message::new(Kind::Config), |message, name| match *name {
        "token" => message.with(name, "0"),
        "apps" => message.with(name, vec![Value::from("a:A")]),
        "library" | "cancel_signal" => message.with(name, Value::None),
        _ => message.with(name, 1),
    })
}
