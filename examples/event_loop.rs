//! A TCP server with one thread, an event loop, and work that takes long: each line that it receives is a number, and
//! each answer says how many primes there are below it; `list` before a number asks for them all, which come one by one as
//! they are found, and then `end`. While workers compute, the loop serves the others.
//!
//!     cargo run --release --example event_loop -- [ADDRESS | LINE…]
//!
//! With an address (`127.0.0.1:7000`) it serves until it is killed; try it with `nc`. With lines (`100 'list 30'`) it asks
//! itself for them, over as many connections, prints the answers and ends.

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use stokehold::{App, Args, Client, Completion, Completions, Ctx, Error, Pool, Reply, Result};

/// What the workers run.
struct Primes;

impl App for Primes {
    const NAME: &'static str = "example:Primes";

    fn init(_: &Ctx) -> Result<Primes> {
        Ok(Primes)
    }

    fn call(&self, action: &str, args: Args<'_>, _: &Ctx) -> Result<Reply> {
        match action {
            "below" => {
                let (n,): (u64,) = args.parse()?;
                Ok(Reply::from((2..n).filter(is_prime).count() as u64))
            }
            "list" => {
                let (n,): (u64,) = args.parse()?;
                Ok(Reply::stream((2..n).filter(is_prime)))
            }
            other => Err(Error::no_action(other)),
        }
    }
}

fn is_prime(n: &u64) -> bool {
    (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d))
}

const LISTENER: Token = Token(0);
const ANSWERS: Token = Token(1);
const FIRST_CONNECTION: usize = 2;
/// What may come in one line.
const LONGEST_LINE: usize = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("event_loop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    stokehold::init(|apps| apps.add::<Primes>())?;
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let serve_at = asked.first().and_then(|address| address.parse::<SocketAddr>().ok());
    let pool = Pool::builder().app::<Primes>().workers(2).start()?;
    let client = pool.client()?;
    let mut listener = TcpListener::bind(serve_at.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()))?;
    let address = listener.local_addr()?;
    println!("serving at {address}");

    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    // One more source of events. mio is edge-triggered: that is fine.
    let completions = client.completions()?;
    poll.registry().register(&mut SourceFd(&completions.as_raw_fd()), ANSWERS, Interest::READABLE)?;
    let mut server =
        Server { poll, listener, client, completions, connections: HashMap::new(), next: FIRST_CONNECTION };
    if serve_at.is_some() {
        return server.serve(|| false);
    }
    let asker = thread::spawn(move || ask(address, asked));
    server.serve(|| asker.is_finished())?;
    asker.join().unwrap_or_else(|_| Err(io::Error::other("the asker panicked")))?;
    drop(server);
    pool.shutdown()
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    client: Client,
    completions: Completions,
    connections: HashMap<usize, Connection>,
    next: usize,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// Calls whose answers it waits for.
    calls: usize,
    ended: bool,
}

impl Server {
    fn serve(&mut self, is_over: impl Fn() -> bool) -> Result<()> {
        let mut events = Events::with_capacity(64);
        while !is_over() || !self.connections.is_empty() {
            // Before each sleep, until it returns `None`: only then the descriptor wakes us.
            while let Some(done) = self.completions.next_completion() {
                self.answer(done);
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(200))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue, // stopped, and continued
                polled => polled?,
            }
            for token in events.iter().map(|event| event.token()) {
                match token {
                    LISTENER => self.accept()?,
                    ANSWERS => {} // the loop above
                    Token(number) => self.read(number),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let number = self.next;
            self.next += 1;
            self.poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            let connection = Connection { stream, received: Vec::new(), calls: 0, ended: false };
            self.connections.insert(number, connection);
        }
        Ok(())
    }

    fn read(&mut self, number: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        while let Some(line) = connection.line() {
            let (action, asked) = match line.strip_prefix("list ") {
                Some(asked) => ("list", asked),
                None => ("below", line.as_str()),
            };
            let Ok(n) = asked.trim().parse::<u64>() else {
                connection.write("error: not a number\n");
                continue;
            };
            let call = self.client.call(Primes::NAME, action).args((n,)).deadline_ms(10_000);
            let sent = match action {
                "list" => call.stream_to(&self.completions, number as u64),
                _ => call.submit_to(&self.completions, number as u64),
            };
            match sent {
                Ok(()) => connection.calls += 1,
                Err(error) => connection.write(&format!("error: {error}\n")),
            }
        }
        self.close_if_done(number);
    }

    /// One outcome: a count, the end of a list, or what went wrong, such as a deadline or the death of a worker. Or a
    /// prime of a list, behind which more comes.
    fn answer(&mut self, done: Completion) {
        let number = done.token as usize;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.calls -= usize::from(!done.more);
        connection.write(&match done.outcome.and_then(|response| response.parse::<Option<u64>>()) {
            Ok(Some(number)) => format!("{number}\n"),
            Ok(None) => "end\n".to_owned(),
            Err(error) => format!("error: {error}\n"),
        });
        self.close_if_done(number);
    }

    fn close_if_done(&mut self, number: usize) {
        if self.connections.get(&number).is_some_and(|c| c.ended && c.calls == 0) {
            self.connections.remove(&number);
        }
    }
}

impl Connection {
    /// The next whole line that can be had without waiting.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if self.ended || self.received.len() > LONGEST_LINE {
                self.ended = true;
                return None;
            }
            let mut bytes = [0; LONGEST_LINE];
            match self.stream.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => self.ended = true,
            }
        }
    }

    /// Answers are short. Whoever does not read so many of them that they do not fit any more is let go.
    fn write(&mut self, line: &str) {
        self.ended |= self.stream.write_all(line.as_bytes()).is_err();
    }
}

/// The other side, for a try: a connection for each line.
fn ask(address: SocketAddr, lines: Vec<String>) -> io::Result<()> {
    let mut streams = Vec::new();
    for line in &lines {
        let mut stream = BlockingStream::connect(address)?;
        writeln!(stream, "{line}")?;
        streams.push(BufReader::new(stream));
    }
    for (line, stream) in lines.iter().zip(&mut streams) {
        loop {
            let mut answer = String::new();
            stream.read_line(&mut answer)?;
            print!("{line}: {answer}");
            let goes_on = line.starts_with("list ") && answer.trim().parse::<u64>().is_ok();
            if !goes_on {
                break;
            }
        }
    }
    Ok(())
}
