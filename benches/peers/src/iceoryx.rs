//! iceoryx2: its request-response service, with memory lent in place. Waiting is the user's affair there: by its event
//! service, as the client and the server tell each other, or by looking again and again.

use crate::bench::baseline::Kid;
use crate::bench::blocks::Contender;
use crate::work::{Answer, FILL, Op, Trip, theirs};
use iceoryx2::node::Node;
use iceoryx2::port::client::Client;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::PortFactory as _;
use iceoryx2::service::port_factory::request_response::PortFactory;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stokehold::internals::sys::map::SharedWords;
use stokehold::internals::sys::{clock, cpu, futex};
use stokehold::{Error, Result};

/// How both sides wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    ByEvents,
    ByPolling,
}

/// The answer is the response, what is asked goes in the request's own header.
type Requests = PortFactory<ipc::Service, [u8], u64, Answer, ()>;

/// The other end: a forked process with a server.
pub struct Server {
    waiting: Waiting,
    name: String,
    words: SharedWords,
    _kid: Kid,
}

impl Server {
    /// Forks it, onto this processor if one is given. This process must have one thread.
    pub fn new(waiting: Waiting, processor: Option<usize>, number: usize) -> Result<Server> {
        let name = format!("stokehold-peers/{}/{number}", std::process::id());
        let words = SharedWords::new(WORDS)?;
        let kid = Kid::fork(|| {
            if let Some(number) = processor {
                let _ = cpu::pin(&[number]);
            }
            if let Err(error) = serve(waiting, &name, &words) {
                eprintln!("stokehold-peers: the iceoryx2 server: {error}");
            }
            words.u32(ENDED).store(1, Ordering::Release);
        })?;
        Ok(Server { waiting, name, words, _kid: kid })
    }

    /// A client of it.
    pub fn contender(&self, trip: Trip) -> Result<Iceoryx<'_>> {
        let node = node()?;
        let requests = requests(&node, &self.name)?;
        let ends =
            (self.waiting == Waiting::ByEvents).then(|| Ends::of_client(&node, &self.name)).transpose()?;
        let client = requests
            .client_builder()
            .initial_max_slice_len(trip.bytes)
            .override_request_preallocation(|_| CHUNKS)
            .create()
            .map_err(theirs)?;
        let start = clock::monotonic_ns();
        while requests.dynamic_config().number_of_servers() == 0 {
            if clock::monotonic_ns() - start > GIVE_UP_NS {
                return Err(Error::bad_request("the iceoryx2 server is not there"));
            }
            clock::sleep(Duration::from_millis(1));
        }
        Ok(Iceoryx {
            server: self,
            trip,
            written: Vec::new(),
            client,
            ends,
            _requests: requests,
            _node: node,
        })
    }

    fn gate(&self, value: u32) {
        self.words.u32(GATE).store(value, Ordering::Release);
        futex::wake(self.words.u32(GATE), 1);
    }
}

impl Drop for Server {
    /// It cleans up behind itself if it ends in order.
    fn drop(&mut self) {
        self.gate(END);
        if self.waiting == Waiting::ByEvents
            && let Ok(node) = node()
            && let Ok(ends) = Ends::of_client(&node, &self.name)
        {
            let _ = ends.notifier.notify();
        }
        let start = clock::monotonic_ns();
        while self.words.u32(ENDED).load(Ordering::Acquire) == 0 && clock::monotonic_ns() - start < GIVE_UP_NS
        {
            clock::sleep(Duration::from_millis(1));
        }
    }
}

/// The client's side.
pub struct Iceoryx<'a> {
    server: &'a Server,
    trip: Trip,
    /// Chunks that were filled once: what was not written since holds the same bytes.
    written: Vec<*const u8>,
    client: Client<ipc::Service, [u8], u64, Answer, ()>,
    ends: Option<Ends>,
    _requests: Requests,
    _node: Node<ipc::Service>,
}

impl Contender for Iceoryx<'_> {
    fn name(&self) -> &'static str {
        match self.server.waiting {
            Waiting::ByEvents => "iceoryx2, events",
            Waiting::ByPolling => "iceoryx2, busy polling",
        }
    }

    fn begin(&mut self) -> Result<()> {
        if self.server.waiting == Waiting::ByPolling {
            self.server.gate(SERVE);
        }
        Ok(())
    }

    /// A server that polls would take the processor from whose turn is next.
    fn end(&mut self) -> Result<()> {
        if self.server.waiting == Waiting::ByPolling {
            self.server.gate(REST);
        }
        Ok(())
    }

    fn trip(&mut self) -> Result<()> {
        let mut request = self.client.loan_slice_uninit(self.trip.bytes).map_err(theirs)?;
        *request.user_header_mut() = self.trip.op as u64;
        let chunk: *const u8 = request.payload().as_ptr().cast();
        if self.trip.write || !self.written.contains(&chunk) {
            request.payload_mut().fill(std::mem::MaybeUninit::new(FILL));
            if !self.written.contains(&chunk) {
                self.written.push(chunk);
            }
        }
        // SAFETY: every byte of this chunk was written: just now, or when it was first lent, as `written` says.
        let pending = unsafe { request.assume_init() }.send().map_err(theirs)?;
        if let Some(ends) = &self.ends {
            ends.notifier.notify().map_err(theirs)?;
        }
        loop {
            if let Some(response) = pending.receive().map_err(theirs)? {
                return self.trip.check(response.payload());
            }
            match &self.ends {
                Some(ends) => drop(ends.listener.blocking_wait(|_| {}).map_err(theirs)?),
                None => std::hint::spin_loop(),
            }
        }
    }
}

/// The events of both directions, as one side sees them.
struct Ends {
    notifier: Notifier<ipc::Service>,
    listener: Listener<ipc::Service>,
}

impl Ends {
    fn of_client(node: &Node<ipc::Service>, name: &str) -> Result<Ends> {
        Ends::new(node, &format!("{name}/asked"), &format!("{name}/answered"))
    }

    fn of_server(node: &Node<ipc::Service>, name: &str) -> Result<Ends> {
        Ends::new(node, &format!("{name}/answered"), &format!("{name}/asked"))
    }

    fn new(node: &Node<ipc::Service>, told: &str, heard: &str) -> Result<Ends> {
        let open = |name: &str| {
            let name = name.try_into().map_err(theirs)?;
            node.service_builder(&name).event().open_or_create().map_err(theirs)
        };
        Ok(Ends {
            notifier: open(told)?.notifier_builder().create().map_err(theirs)?,
            listener: open(heard)?.listener_builder().create().map_err(theirs)?,
        })
    }
}

/// The server's life.
fn serve(waiting: Waiting, name: &str, words: &SharedWords) -> Result<()> {
    let node = node()?;
    let ends = (waiting == Waiting::ByEvents).then(|| Ends::of_server(&node, name)).transpose()?;
    let requests = requests(&node, name)?;
    let server = requests.server_builder().create().map_err(theirs)?;
    loop {
        while let Some(request) = server.receive().map_err(theirs)? {
            let answer = Op::of(*request.user_header()).answer(request.payload());
            request.send_copy(answer).map_err(theirs)?;
            if let Some(ends) = &ends {
                ends.notifier.notify().map_err(theirs)?;
            }
        }
        match (words.u32(GATE).load(Ordering::Acquire), &ends) {
            (END, _) => return Ok(()),
            (_, Some(ends)) => drop(ends.listener.blocking_wait(|_| {}).map_err(theirs)?),
            (REST, None) => drop(futex::wait(words.u32(GATE), REST, None)),
            (_, None) => std::hint::spin_loop(),
        }
    }
}

fn node() -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Error);
    let builder = NodeBuilder::new().signal_handling_mode(SignalHandlingMode::Disabled);
    builder.create::<ipc::Service>().map_err(theirs)
}

fn requests(node: &Node<ipc::Service>, name: &str) -> Result<Requests> {
    let name = format!("{name}/calls").as_str().try_into().map_err(theirs)?;
    node.service_builder(&name)
        .request_response::<[u8], Answer>()
        .request_user_header::<u64>()
        .open_or_create()
        .map_err(theirs)
}

/// Requests that a client has memory for.
const CHUNKS: usize = 2;
const GATE: usize = 0;
const ENDED: usize = 1;
const WORDS: usize = 2;
const REST: u32 = 0;
const SERVE: u32 = 1;
const END: u32 = 2;
const GIVE_UP_NS: u64 = 5_000_000_000;
