//! `stokehold call`: one call of a served pool, with JSON as arguments and result, or a line of JSON for each item.

use crate::failure::Failure;
use crate::{help, json, socket};
use lexopt::Arg::{Long, Short, Value as Word};
use lexopt::ValueExt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use stokehold::{
    Client, Encode, EncodeArgs, Encoder, Error, Kind, Lease, Options, Response, Stream, Value, WireError,
};

/// An argument: a value, or a file whose bytes are lent.
enum Argument {
    Value(Value),
    Lent(Lease),
}

/// All of them.
struct Arguments(Vec<Argument>);

impl EncodeArgs for Arguments {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.list(self.0.len())?;
        self.0.iter().try_for_each(|argument| match argument {
            Argument::Value(value) => value.encode(e),
            Argument::Lent(lease) => lease.encode(e),
        })
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    path: Option<PathBuf>,
    deadline_ms: Option<u64>,
    kwargs: Vec<(String, Value)>,
    stream: bool,
    raw: bool,
    traceback: bool,
    /// App, action, arguments.
    words: Vec<String>,
}

/// Calls, and prints what comes back.
pub fn run(parser: lexopt::Parser) -> Result<ExitCode, Failure> {
    let Some(wanted) = Wanted::read(parser)? else { return Ok(help::say(help::CALL)) };
    let [app, action, given @ ..] = wanted.words.as_slice() else {
        return Err(Failure::usage("call whom, and what? APP and ACTION are missing"));
    };
    // What cannot be read is found before anybody is asked.
    let values = given.iter().map(|word| match word.strip_prefix('@') {
        Some(file) => fs::read(file).map(Given::File).map_err(|e| Failure::Run(format!("{file}: {e}"))),
        None => json::parse(word)
            .map(Given::Value)
            .map_err(|why| Failure::usage(format!("{word:?} is neither JSON nor @FILE: {why}"))),
    });
    let values = values.collect::<Result<Vec<Given>, Failure>>()?;
    let path = wanted.path.map_or_else(socket::default_path, Ok)?;
    let asked = Client::connect_path(path, Options::default()).and_then(|client| {
        let args = values.into_iter().map(|given| match given {
            Given::Value(value) => Ok(Argument::Value(value)),
            Given::File(bytes) => client.lease_from(&bytes).map(Argument::Lent),
        });
        let args = Arguments(args.collect::<stokehold::Result<_>>()?);
        let call = client.call(app, action).args(args).kwargs(wanted.kwargs);
        let call = match wanted.deadline_ms {
            Some(ms) => call.deadline_ms(ms),
            None => call,
        };
        Ok(match wanted.stream {
            true => Answer::Stream(Box::new(call.stream()?)),
            false => Answer::Value(call.execute()?.into_owned()?),
        })
    });
    match asked.map_err(|error| outcome(&error, wanted.traceback))? {
        Answer::Value(value) => show(value, wanted.raw).map_err(unwritten)?,
        Answer::Stream(stream) => show_all(*stream, wanted.raw, wanted.traceback)?,
    }
    Ok(ExitCode::SUCCESS)
}

enum Answer {
    Value(Value),
    Stream(Box<Stream>),
}

/// Each item as it comes, and what the app returned behind them. Whoever reads no further has had enough: then the stream is
/// cancelled, as it is by the end of this process.
fn show_all(mut stream: Stream, raw: bool, traceback: bool) -> Result<(), Failure> {
    let failed = |error: Error| outcome(&error, traceback);
    let shown = |value| match show(value, raw) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(unwritten(error)),
    };
    while let Some(item) = stream.next() {
        if !shown(item.and_then(Response::into_owned).map_err(failed)?)? {
            stream.cancel();
            return Ok(());
        }
    }
    if let Some(value) = stream.value() {
        shown(value.value().and_then(|value| Ok(value.to_owned()?)).map_err(failed)?)?;
    }
    Ok(())
}

/// One value, at once.
fn show(value: Value, raw: bool) -> io::Result<()> {
    let text = match &value {
        Value::Bytes(bytes) if raw => bytes.clone(),
        Value::Str(text) if raw => text.clone().into_bytes(),
        other => (json::print(other, false) + "\n").into_bytes(),
    };
    let mut out = io::stdout();
    out.write_all(&text).and_then(|()| out.flush())
}

fn unwritten(error: io::Error) -> Failure {
    Failure::Run(format!("standard output: {error}"))
}

enum Given {
    Value(Value),
    File(Vec<u8>),
}

impl Wanted {
    /// `None` when help is wanted.
    fn read(mut parser: lexopt::Parser) -> Result<Option<Wanted>, Failure> {
        let mut wanted = Wanted::default();
        loop {
            // A negative number is an argument, not an option.
            if let Some(mut raw) = parser.try_raw_args()
                && let Some(word) = raw.peek().and_then(|word| word.to_str()).map(str::to_owned)
                && word.starts_with('-')
                && word.parse::<f64>().is_ok()
            {
                raw.next();
                wanted.words.push(word);
                continue;
            }
            match parser.next()? {
                None => return Ok(Some(wanted)),
                Some(Short('h') | Long("help")) => return Ok(None),
                Some(Short('s') | Long("socket")) => wanted.path = Some(parser.value()?.into()),
                Some(Long("deadline-ms")) => wanted.deadline_ms = Some(parser.value()?.parse()?),
                Some(Long("kwargs")) => {
                    let text = parser.value()?.string()?;
                    let value =
                        json::parse(&text).map_err(|why| Failure::usage(format!("--kwargs: {why}")))?;
                    let pairs = value.into_dict();
                    wanted.kwargs = pairs.map_err(|_| Failure::usage("--kwargs is no JSON object"))?;
                }
                Some(Long("stream")) => wanted.stream = true,
                Some(Long("raw")) => wanted.raw = true,
                Some(Long("traceback")) => wanted.traceback = true,
                Some(Word(word)) => wanted.words.push(word.string()?),
                Some(other) => return Err(other.unexpected().into()),
            }
        }
    }
}

/// An error as this program's failure: an outcome of the call has a status of its own.
fn outcome(error: &Error, traceback: bool) -> Failure {
    let mut text = error.to_string();
    if let Kind::App(app) = error.kind()
        && traceback
        && !app.traceback.is_empty()
    {
        text = format!("{text}\n{}", app.traceback.trim_end());
    }
    match error.code() as u32 {
        code @ 1..=12 => Failure::Outcome(text, OUTCOMES + code as u8),
        _ => Failure::Run(text),
    }
}

/// The exit status of an outcome is this plus its [`Code`](stokehold::Code).
const OUTCOMES: u8 = 10;
