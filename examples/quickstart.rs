//! Hashes and compresses files in worker processes, has their lines streamed back, kills a worker in the middle of a call,
//! and measures what a call costs.
//!
//!     cargo run --release --example quickstart -- [--to DIR] [FILE…]
//!
//! With `--to` each compressed file is also written to `DIR/NAME.gz`. With no file it reads the `README.md` of this
//! repository. Files that cannot be read are named, the others are still processed, and the exit code is 1.

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use nix::{sys::signal, unistd::Pid};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use stokehold::{App, Args, Client, Code, Ctx, Error, Pool, Reply, Result};

/// What the workers run. Anything in here may block, leak or crash: it is not in the host's process.
struct Work;

impl App for Work {
    const NAME: &'static str = "quickstart:Work";

    /// The place to load a model or to warm up a library; here there is nothing to load.
    fn init(_: &Ctx) -> Result<Work> {
        Ok(Work)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "sha256" => {
                let (bytes,): (&[u8],) = args.parse()?; // lent: this is the host's memory, nothing was copied
                Ok(Reply::from(hex(&Sha256::digest(bytes))))
            }
            "gzip" => {
                let (bytes,): (&[u8],) = args.parse()?;
                let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
                gzip.write_all(bytes)?;
                Ok(ctx.lease_from(&gzip.finish()?)?.into()) // the host reads it in this worker's memory
            }
            "lines" => {
                let (bytes,): (&[u8],) = args.parse()?;
                let mut sink = ctx.sink()?; // each line is the host's at once; with too many unread, this waits
                bytes.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| sink.send(line))?;
                Ok(Reply::end())
            }
            "hang" => {
                let (note,): (&str,) = args.parse()?;
                File::create_new(note)?.write_all(process::id().to_string().as_bytes())?; // says who has the call …
                loop {
                    thread::park(); // … and never answers
                }
            }
            "echo" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(bytes))
            }
            "length" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(bytes.len() as u64))
            }
            other => Err(Error::no_action(other)),
        }
    }
}

fn main() -> Result<ExitCode> {
    // First of all: the pool's supervisor is this same program, run once more, and it goes no further than here.
    stokehold::init(|apps| apps.add::<Work>())?;

    let (files, to) = match arguments() {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("quickstart: {wrong}\nusage: quickstart [--to DIR] [FILE…]");
            return Ok(ExitCode::from(2));
        }
    };
    let pool = Pool::builder().app::<Work>().workers(2).start()?;
    let client = pool.client()?; // a clone of it for each thread that calls

    let mut exit = ExitCode::SUCCESS;
    for file in &files {
        if let Err(error) = process_file(&client, file, to.as_deref()) {
            eprintln!("quickstart: {}: {error}", file.display());
            exit = ExitCode::FAILURE;
        }
    }
    kill_a_worker(&client)?;
    measure(&client)?;
    pool.shutdown()?;
    Ok(exit)
}

/// Reads the file into memory that workers see, and has two of them work on it at once.
fn process_file(client: &Client, file: &Path, to: Option<&Path>) -> Result<()> {
    let mut source = File::open(file)?;
    let mut lease = client.lease(source.metadata()?.len() as usize)?;
    source.read_exact(&mut lease)?;
    if source.read(&mut [0])? != 0 {
        return Err(Error::app("Size", "it is longer than its size says: not a regular file, or growing"));
    }
    let sha256 = client.call(Work::NAME, "sha256").args((&lease,)).submit()?;
    let gzip = client.call(Work::NAME, "gzip").args((&lease,)).submit()?;

    println!("sha256 {}  {}", sha256.wait()?.parse::<&str>()?, file.display());
    let gzip = gzip.wait()?;
    let packed = gzip.as_bytes()?; // in the memory of the worker, until `gzip` is dropped
    let mut unpacked = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut unpacked)?;
    if *unpacked != *lease {
        return Err(Error::app("Check", "decompresses to something else"));
    }
    println!("gzip   {} -> {} bytes, decompressed and compared", lease.len(), packed.len());
    let (mut lines, mut bytes) = (0_u64, 0);
    for line in client.call(Work::NAME, "lines").args((&lease,)).stream()? {
        bytes += line?.as_bytes()?.len(); // where the worker put it, until it is dropped
        lines += 1;
    }
    if bytes != lease.len() {
        return Err(Error::app("Check", format!("{bytes} bytes came in {lines} lines")));
    }
    println!("lines  {lines}, streamed one by one");
    if let (Some(to), Some(name)) = (to, file.file_name()) {
        let mut name = name.to_owned();
        name.push(".gz");
        fs::write(to.join(name), packed)?;
    }
    Ok(())
}

/// SIGKILL, from outside, to a worker that is in the middle of a call.
fn kill_a_worker(client: &Client) -> Result<()> {
    let note = std::env::temp_dir().join(format!("stokehold-quickstart-{}", process::id()));
    let hang =
        client.call(Work::NAME, "hang").args((note.to_string_lossy(),)).deadline_ms(60_000).submit()?;
    let victim: u32 = loop {
        match fs::read_to_string(&note).unwrap_or_default().parse() {
            Ok(pid) if client.worker_pids().contains(&pid) => break pid,
            _ if hang.is_ready() => return hang.wait().map(drop), // it could not write the note; the error says why
            _ => thread::sleep(Duration::from_millis(1)),
        }
    };
    fs::remove_file(&note)?;
    println!("\nworker {victim} has a call and hangs in it; the workers are {:?}", client.worker_pids());

    let killed = Instant::now();
    signal::kill(Pid::from_raw(victim as i32), signal::SIGKILL).map_err(std::io::Error::from)?;
    match hang.wait() {
        Err(error) if error.code() == Code::WorkerDied => {
            println!("kill -9: {error} ({:?} after the kill)", killed.elapsed());
            println!("         code {:?}, started {:?}", error.code(), error.started());
        }
        other => {
            return Err(Error::app("Check", format!("the call of a killed worker ended with {other:?}")));
        }
    }
    let answer = client.call(Work::NAME, "echo").args((b"still here",)).execute()?;
    let text = String::from_utf8_lossy(answer.as_bytes()?);
    println!("next call: {text:?} ({:?} after the kill)", killed.elapsed());
    while client.worker_pids().len() < 2 || client.worker_pids().contains(&victim) {
        thread::sleep(Duration::from_millis(1));
    }
    println!("replaced: the workers are {:?} ({:?} after the kill)", client.worker_pids(), killed.elapsed());
    Ok(())
}

/// Round trips, taken in turns so that all three meet the same machine.
fn measure(client: &Client) -> Result<()> {
    const BLOCKS: usize = 20;
    const CALLS: usize = 1_000;
    let small = [7_u8; 64];
    let mut large = client.lease(1 << 20)?;
    large.fill(7);
    let (ask, asked) = mpsc::channel::<[u8; 64]>();
    let (answer, answered) = mpsc::channel();
    let echo = thread::spawn(move || asked.into_iter().try_for_each(|bytes| answer.send(bytes)));

    let (mut by_thread, mut by_call, mut by_lease) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        for _ in 0..CALLS {
            let start = Instant::now();
            ask.send(small).ok().and_then(|()| answered.recv().ok()).expect("the thread is there");
            by_thread.push(start.elapsed());
        }
        for _ in 0..CALLS {
            let start = Instant::now();
            client.call(Work::NAME, "echo").args((&small,)).execute()?.as_bytes()?;
            by_call.push(start.elapsed());
        }
        for _ in 0..CALLS {
            let start = Instant::now();
            client.call(Work::NAME, "length").args((&large,)).execute()?.parse::<u64>()?;
            by_lease.push(start.elapsed());
        }
    }
    drop(ask);
    let _ = echo.join();

    println!("\nround trip, {} of each, measured now          p50         p99", BLOCKS * CALLS);
    let thread = row("64 B to a thread and back by std channels", &mut by_thread, None);
    row("64 B to a worker process and back", &mut by_call, Some(thread));
    row("1 MiB lent to a worker process in place", &mut by_lease, Some(thread));
    Ok(())
}

/// Prints the median and the 99th percentile in µs, and how many times the base's they are.
fn row(what: &str, times: &mut [Duration], base: Option<[f64; 2]>) -> [f64; 2] {
    times.sort_unstable();
    let us = [50, 99].map(|percent| times[times.len() * percent / 100].as_nanos() as f64 / 1e3);
    print!("  {what:<44}{:>8.2} µs {:>8.2} µs", us[0], us[1]);
    match base {
        None => println!(),
        Some(base) => println!("   = {:.2} x and {:.2} x the thread's", us[0] / base[0], us[1] / base[1]),
    }
    us
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files, and where compressed copies go.
fn arguments() -> Result<(Vec<PathBuf>, Option<PathBuf>), String> {
    let (mut files, mut to) = (Vec::new(), None);
    let mut given = std::env::args_os().skip(1);
    while let Some(argument) = given.next() {
        if argument == "--to" {
            to = Some(PathBuf::from(given.next().ok_or("--to needs a directory")?));
        } else if argument.as_encoded_bytes().starts_with(b"--") {
            return Err(format!("unknown option {argument:?}"));
        } else {
            files.push(argument.into());
        }
    }
    if files.is_empty() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        files.push(if readme.exists() { readme } else { "README.md".into() });
    }
    Ok((files, to))
}
