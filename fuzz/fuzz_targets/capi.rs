//! Functions of the C interface in any order, on objects that are there, on NULL, and on what the header allows of what is
//! not: leases that were released, a client that was freed before what came of it. Each keeps to the header's rules of
//! outputs and errors; what one gives is freed once, by the sanitizer's leave; workers answer, or do not.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::ffi::{CStr, c_char, c_void};
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};
use stokehold::internals::ring::Entry;
use stokehold_c as _;
use stokehold_fuzz::pool::{Answer, Pool};

macro_rules! opaque {
    ($($name:ident)*) => {$(#[repr(C)] struct $name { _nothing: [u8; 0] })*};
}
opaque! { Client Args Pending Stream Sender Canceller Completions Outcome Problem Config }

#[repr(C)]
#[derive(Clone, Copy)]
struct Text {
    data: *const c_char,
    len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct View {
    kind: u32,
    reserved: u32,
    opaque: [u64; 6],
}

#[repr(C)]
struct Walk {
    kind: u32,
    reserved: u32,
    opaque: [u64; 8],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Lease {
    data: *mut c_void,
    size: usize,
    id: u64,
}

#[repr(C)]
struct Limits {
    struct_size: usize,
    deadline_ms: u64,
    queue_ms: u64,
    item_ms: u64,
    idempotent: u32,
    reserved: u32,
    /// What a later version may have there.
    more: [u8; LATER],
}

/// The options of this version.
const NOW: usize = size_of::<Limits>() - LATER;
const LATER: usize = 256;

#[repr(C)]
struct Completion {
    token: u64,
    result: *mut Outcome,
    error: *mut Problem,
    status: i32,
    more: u32,
}

type Status = i32;

unsafe extern "C" {
    fn stk_str_eq(a: Text, b: Text) -> bool;
    fn stk_status_text(status: Status) -> *const c_char;
    fn stk_status_name(status: Status) -> *const c_char;
    fn stk_error_new(class: Text, message: Text) -> *mut Problem;
    fn stk_error_free(error: *mut Problem);
    fn stk_error_status(error: *const Problem) -> Status;
    fn stk_error_message(error: *const Problem) -> *const c_char;
    fn stk_error_class(error: *const Problem) -> *const c_char;
    fn stk_error_traceback(error: *const Problem) -> *const c_char;
    fn stk_error_source(error: *const Problem, pid: *mut u32, life: *mut u16) -> *const c_char;
    fn stk_error_relay_count(error: *const Problem) -> usize;
    fn stk_error_relay(error: *const Problem, index: usize, pid: *mut u32, life: *mut u16) -> *const c_char;
    fn stk_error_started(error: *const Problem) -> i32;
    fn stk_error_cause(error: *const Problem, detail: *mut i32) -> u32;
    fn stk_error_bound(error: *const Problem, limit: *mut u64) -> u32;
    fn stk_config_new() -> *mut Config;
    fn stk_config_free(config: *mut Config);
    fn stk_config_add_app(config: *mut Config, name: Text) -> Status;
    fn stk_config_set_workers(config: *mut Config, workers: usize) -> Status;
    fn stk_config_set_wait(config: *mut Config, wait: u32) -> Status;
    fn stk_config_set_timeout_ms(config: *mut Config, ms: u64) -> Status;
    fn stk_config_set_app_library(config: *mut Config, path: Text) -> Status;
    fn stk_client_connect(fd: i32, wait: u32, client: *mut *mut Client, error: *mut *mut Problem) -> Status;
    fn stk_client_free(client: *mut Client);
    fn stk_client_worker_pids(
        client: *const Client,
        pids: *mut u32,
        capacity: usize,
        n: *mut usize,
    ) -> Status;
    fn stk_args_new(client: *const Client) -> *mut Args;
    fn stk_args_free(args: *mut Args);
    fn stk_args_push_none(args: *mut Args) -> Status;
    fn stk_args_push_bool(args: *mut Args, value: bool) -> Status;
    fn stk_args_push_i64(args: *mut Args, value: i64) -> Status;
    fn stk_args_push_f64(args: *mut Args, value: f64) -> Status;
    fn stk_args_push_str(args: *mut Args, text: Text) -> Status;
    fn stk_args_push_bytes(args: *mut Args, data: *const c_void, len: usize) -> Status;
    fn stk_args_push_lease(args: *mut Args, lease: Lease) -> Status;
    fn stk_args_begin_list(args: *mut Args) -> Status;
    fn stk_args_begin_dict(args: *mut Args) -> Status;
    fn stk_args_end(args: *mut Args) -> Status;
    fn stk_args_key(args: *mut Args, key: Text) -> Status;
    fn stk_execute(
        client: *const Client,
        app: Text,
        action: Text,
        args: *mut Args,
        options: *const Limits,
        result: *mut *mut Outcome,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_submit(
        client: *const Client,
        app: Text,
        action: Text,
        args: *mut Args,
        options: *const Limits,
        pending: *mut *mut Pending,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_pending_wait(
        pending: *mut Pending,
        ms: u64,
        result: *mut *mut Outcome,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_pending_cancel(
        pending: *mut Pending,
        result: *mut *mut Outcome,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_pending_free(pending: *mut Pending);
    fn stk_pending_canceller(
        pending: *const Pending,
        canceller: *mut *mut Canceller,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_stream_open(
        client: *const Client,
        app: Text,
        action: Text,
        args: *mut Args,
        options: *const Limits,
        stream: *mut *mut Stream,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_stream_started(stream: *const Stream, value: *mut View) -> Status;
    fn stk_stream_next(
        stream: *mut Stream,
        ms: u64,
        result: *mut *mut Outcome,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_stream_wait(stream: *mut Stream, ms: u64, error: *mut *mut Problem) -> Status;
    fn stk_stream_value(stream: *const Stream, value: *mut View) -> Status;
    fn stk_stream_cancel(stream: *mut Stream) -> Status;
    fn stk_stream_canceller(
        stream: *const Stream,
        canceller: *mut *mut Canceller,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_stream_free(stream: *mut Stream);
    fn stk_context_open(
        client: *const Client,
        app: Text,
        action: Text,
        args: *mut Args,
        options: *const Limits,
        stream: *mut *mut Stream,
        sender: *mut *mut Sender,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_sender_item(sender: *mut Sender) -> *mut Args;
    fn stk_sender_send(sender: *mut Sender, ms: u64, error: *mut *mut Problem) -> Status;
    fn stk_sender_reclaim(sender: *mut Sender) -> Status;
    fn stk_sender_finish(sender: *mut Sender) -> Status;
    fn stk_sender_free(sender: *mut Sender);
    fn stk_canceller_cancel(canceller: *const Canceller, error: *mut *mut Problem) -> Status;
    fn stk_canceller_wait(canceller: *const Canceller, ms: u64, error: *mut *mut Problem) -> Status;
    fn stk_canceller_free(canceller: *mut Canceller);
    fn stk_completions_new(
        client: *const Client,
        completions: *mut *mut Completions,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_completions_free(completions: *mut Completions);
    fn stk_completions_fd(completions: *const Completions) -> i32;
    fn stk_submit_to(
        client: *const Client,
        app: Text,
        action: Text,
        args: *mut Args,
        options: *const Limits,
        completions: *const Completions,
        token: u64,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_stream_to(
        client: *const Client,
        app: Text,
        action: Text,
        args: *mut Args,
        options: *const Limits,
        completions: *const Completions,
        token: u64,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_completions_next(completions: *const Completions, completion: *mut Completion) -> Status;
    fn stk_completions_cancel(completions: *const Completions, token: u64) -> Status;
    fn stk_completions_in_flight(completions: *const Completions) -> usize;
    fn stk_result_free(result: *mut Outcome);
    fn stk_result_worker(result: *const Outcome) -> u32;
    fn stk_result_value(result: *const Outcome, value: *mut View) -> Status;
    fn stk_result_i64(result: *const Outcome, out: *mut i64) -> Status;
    fn stk_result_bytes(result: *const Outcome, out: *mut Text) -> Status;
    fn stk_value_bool(value: *const View, out: *mut bool) -> Status;
    fn stk_value_i64(value: *const View, out: *mut i64) -> Status;
    fn stk_value_f64(value: *const View, out: *mut f64) -> Status;
    fn stk_value_str(value: *const View, out: *mut Text) -> Status;
    fn stk_value_bytes(value: *const View, out: *mut Text) -> Status;
    fn stk_value_len(value: *const View, out: *mut usize) -> Status;
    fn stk_value_get(dict: *const View, key: Text, value: *mut View) -> Status;
    fn stk_value_iter(value: *const View, iter: *mut Walk) -> Status;
    fn stk_iter_next(iter: *mut Walk, key: *mut Text, value: *mut View) -> Status;
    fn stk_lease_new(
        client: *const Client,
        size: usize,
        lease: *mut Lease,
        error: *mut *mut Problem,
    ) -> Status;
    fn stk_lease_writable(lease: Lease) -> Status;
    fn stk_lease_release(lease: Lease) -> Status;
}

const OK: Status = 0;
const INVALID: Status = 400;
const STALE_LEASE: Status = 401;
const END: Status = 402;
const PENDING: Status = 406;

/// One call of a function.
#[derive(Arbitrary, Debug)]
enum Does {
    NewArgs {
        client: bool,
    },
    FreeArgs(u8),
    Push {
        args: u8,
        item: bool,
        what: Put,
    },
    Send {
        how: How,
        client: bool,
        args: u8,
        limits: Option<(u8, u8, u8, u32, u8)>,
        outputs: bool,
        token: u8,
        app: u8,
    },
    /// A worker takes what waits, and does this of it.
    Work {
        items: Option<Vec<Answer>>,
        answer: Option<Answer>,
        closes: bool,
    },
    Wait {
        pending: u8,
        output: bool,
    },
    CancelPending {
        pending: u8,
    },
    FreePending(u8),
    Next {
        stream: u8,
        output: bool,
    },
    WaitStream {
        stream: u8,
    },
    LookAtStream {
        stream: u8,
    },
    CancelStream {
        stream: u8,
    },
    FreeStream(u8),
    SenderSends {
        sender: u8,
    },
    SenderReclaims {
        sender: u8,
    },
    SenderFinishes {
        sender: u8,
    },
    FreeSender(u8),
    MakeCanceller {
        of_stream: bool,
        of: u8,
    },
    Cancel {
        canceller: u8,
        waits: bool,
    },
    FreeCanceller(u8),
    NewCompletions,
    Completes {
        output: bool,
    },
    CancelToken {
        token: u8,
    },
    FreeCompletions,
    Read {
        result: u8,
    },
    FreeResult(u8),
    Lend {
        size: u16,
        client: bool,
    },
    Lent {
        lease: u8,
        writes: bool,
    },
    Release {
        lease: u8,
    },
    MakeError {
        class: Vec<u8>,
        message: Vec<u8>,
    },
    FreeClient,
    Configure {
        what: u8,
        number: u64,
        text: Vec<u8>,
    },
    Odd {
        status: i32,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum How {
    Execute,
    Submit,
    SubmitTo,
    Stream,
    StreamTo,
    Context,
}

#[derive(Arbitrary, Debug)]
enum Put {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Vec<u8>),
    Bytes(Vec<u8>),
    Nowhere(u8),
    Lease(u8),
    List,
    Dict,
    End,
    Key(Vec<u8>),
}

fuzz_target!(|deeds: Vec<Does>| {
    let mut scene = Scene::new();
    for deed in deeds.into_iter().take(64) {
        scene.does(deed);
    }
});

/// Objects that are there. Dropping it frees them.
struct Scene {
    pool: Pool,
    taken: Vec<Entry>,
    client: *mut Client,
    args: Vec<*mut Args>,
    pending: Vec<*mut Pending>,
    streams: Vec<*mut Stream>,
    senders: Vec<*mut Sender>,
    cancellers: Vec<*mut Canceller>,
    completions: *mut Completions,
    results: Vec<*mut Outcome>,
    leases: Vec<Lease>,
}

/// One of them, or NULL.
fn one<T>(all: &[*mut T], which: u8) -> *mut T {
    all.get(usize::from(which) % (all.len() + 1)).copied().unwrap_or(null_mut())
}

/// The same, which is given away.
fn given<T>(all: &mut Vec<*mut T>, which: u8) -> *mut T {
    let at = usize::from(which) % (all.len() + 1);
    if at < all.len() { all.swap_remove(at) } else { null_mut() }
}

fn text(bytes: &[u8]) -> Text {
    Text { data: bytes.as_ptr().cast(), len: bytes.len() }
}

/// What a function returned, and the error that it stored.
fn judged(status: Status, error: *mut Problem) -> Status {
    // SAFETY: the error, if there is one, is ours.
    unsafe {
        assert!(!CStr::from_ptr(stk_status_name(status)).is_empty());
        assert_eq!(error.is_null(), matches!(status, OK | PENDING | END), "{status}");
        if !error.is_null() {
            assert_eq!(stk_error_status(error), status);
            looked_at(error);
            stk_error_free(error);
        }
    }
    status
}

unsafe fn looked_at(error: *const Problem) {
    let (mut pid, mut life, mut detail, mut limit) = (0, 0, 0, 0);
    // SAFETY: the caller's error; outputs are locals.
    unsafe {
        for text in [stk_error_message(error), stk_error_class(error), stk_error_traceback(error)] {
            assert!(text.is_null() || CStr::from_ptr(text).to_str().is_ok(), "UTF-8");
        }
        let _ = stk_error_source(error, &mut pid, &mut life);
        for index in 0..=stk_error_relay_count(error) {
            let relay = stk_error_relay(error, index, &mut pid, null_mut());
            assert!(relay.is_null() || CStr::from_ptr(relay).to_str().is_ok());
        }
        let _ = (stk_error_cause(error, &mut detail), stk_error_bound(error, &mut limit));
        assert!((-1..=1).contains(&stk_error_started(error)));
    }
}

/// All there is to a value.
unsafe fn read(value: &View, depth: u32) {
    let (mut flag, mut int, mut float, mut count) = (false, 0, 0.0, 0);
    let (mut string, mut bytes) = (text(b""), text(b""));
    // SAFETY: a value that the library wrote, of something that is not freed yet; outputs are locals.
    unsafe {
        let kinds = [
            stk_value_bool(value, &mut flag),
            stk_value_i64(value, &mut int),
            stk_value_f64(value, &mut float),
            stk_value_str(value, &mut string),
            stk_value_bytes(value, &mut bytes),
        ];
        if kinds[3] == OK {
            let bytes = std::slice::from_raw_parts(string.data.cast::<u8>(), string.len);
            assert!(std::str::from_utf8(bytes).is_ok());
        }
        if kinds[4] == OK && bytes.len > 0 {
            let all = std::slice::from_raw_parts(bytes.data.cast::<u8>(), bytes.len);
            std::hint::black_box(all.iter().fold(0_u8, |sum, byte| sum ^ byte));
        }
        let mut within = View { kind: 0, reserved: 0, opaque: [0; 6] };
        let _ = stk_value_get(value, text(b"k"), &mut within);
        let mut walk = Walk { kind: 0, reserved: 0, opaque: [0; 8] };
        if stk_value_iter(value, &mut walk) != OK || depth == 0 {
            return;
        }
        assert_eq!(stk_value_len(value, &mut count), OK);
        let mut seen = 0;
        while stk_iter_next(&mut walk, &mut string, &mut within) == OK {
            read(&within, depth - 1);
            seen += 1;
        }
        assert!(seen == count, "{seen} of {count}");
    }
}

impl Scene {
    fn new() -> Scene {
        let (pool, socket) = Pool::new(true);
        let mut scene = Scene {
            pool,
            taken: Vec::new(),
            client: null_mut(),
            args: Vec::new(),
            pending: Vec::new(),
            streams: Vec::new(),
            senders: Vec::new(),
            cancellers: Vec::new(),
            completions: null_mut(),
            results: Vec::new(),
            leases: Vec::new(),
        };
        let mut error = null_mut();
        // SAFETY: outputs are ours.
        let status = unsafe { stk_client_connect(socket.as_raw_fd(), 1, &mut scene.client, &mut error) };
        assert_eq!(judged(status, error), OK);
        let mut error = null_mut();
        // SAFETY: the client is there.
        let status = unsafe { stk_completions_new(scene.client, &mut scene.completions, &mut error) };
        assert_eq!(judged(status, error), OK);
        scene
    }

    fn client(&self, there: bool) -> *const Client {
        if there { self.client } else { null() }
    }

    fn took(&mut self, result: *mut Outcome, status: Status) {
        assert_eq!(result.is_null(), status != OK, "an output is written on success only");
        if status == OK && self.results.len() < 16 {
            self.results.push(result);
        } else {
            // SAFETY: it was given to us, or is NULL.
            unsafe { stk_result_free(result) };
        }
    }

    fn does(&mut self, deed: Does) {
        let mut error = null_mut();
        // SAFETY: every pointer is NULL, of this function's own variables, or of an object that the library gave and that was
        // not freed.
        unsafe {
            match deed {
                Does::NewArgs { client } if self.args.len() < 8 => {
                    let args = stk_args_new(self.client(client));
                    assert!(!args.is_null());
                    self.args.push(args);
                }
                Does::NewArgs { .. } => {}
                Does::FreeArgs(which) => stk_args_free(given(&mut self.args, which)),
                Does::Push { args, item, what } => {
                    let args =
                        if item { stk_sender_item(one(&self.senders, args)) } else { one(&self.args, args) };
                    self.push(args, what);
                }
                Does::Send { how, client, args, limits, outputs, token, app } => {
                    let limits = limits.map(|(deadline, queue, item, idempotent, size)| Limits {
                        struct_size: if size < 200 { NOW } else { size.into() },
                        deadline_ms: 1 + u64::from(deadline % 2),
                        queue_ms: queue.into(),
                        item_ms: item.into(),
                        idempotent,
                        reserved: 0,
                        more: [size / 250; LATER],
                    });
                    self.send(how, client, args, limits, outputs, token.into(), app);
                }
                Does::Work { items, answer, closes } => self.work(items, answer, closes),
                Does::Wait { pending, output } => {
                    let mut result = null_mut();
                    let out = if output { &mut result as *mut _ } else { null_mut() };
                    let status =
                        judged(stk_pending_wait(one(&self.pending, pending), 0, out, &mut error), error);
                    if output {
                        self.took(result, status);
                    }
                }
                Does::CancelPending { pending } => {
                    let mut result = null_mut();
                    let status = stk_pending_cancel(one(&self.pending, pending), &mut result, &mut error);
                    self.took(result, judged(status, error));
                }
                Does::FreePending(which) => stk_pending_free(given(&mut self.pending, which)),
                Does::Next { stream, output } => {
                    let mut result = null_mut();
                    let out = if output { &mut result as *mut _ } else { null_mut() };
                    let status =
                        judged(stk_stream_next(one(&self.streams, stream), 0, out, &mut error), error);
                    if output {
                        self.took(result, status);
                    }
                }
                Does::WaitStream { stream } => {
                    judged(stk_stream_wait(one(&self.streams, stream), 0, &mut error), error);
                }
                Does::LookAtStream { stream } => {
                    let stream = one(&self.streams, stream);
                    let mut value = View { kind: 0, reserved: 0, opaque: [0; 6] };
                    if stk_stream_value(stream, &mut value) == OK {
                        read(&value, 8);
                    }
                    if stk_stream_started(stream, &mut value) == OK {
                        read(&value, 8);
                    }
                }
                Does::CancelStream { stream } => {
                    let _ = stk_stream_cancel(one(&self.streams, stream));
                }
                Does::FreeStream(which) => stk_stream_free(given(&mut self.streams, which)),
                Does::SenderSends { sender } => {
                    judged(stk_sender_send(one(&self.senders, sender), 0, &mut error), error);
                }
                Does::SenderReclaims { sender } => {
                    let _ = stk_sender_reclaim(one(&self.senders, sender));
                }
                Does::SenderFinishes { sender } => {
                    let _ = stk_sender_finish(one(&self.senders, sender));
                }
                Does::FreeSender(which) => stk_sender_free(given(&mut self.senders, which)),
                Does::MakeCanceller { of_stream, of } => {
                    let mut canceller = null_mut();
                    let status = match of_stream {
                        true => stk_stream_canceller(one(&self.streams, of), &mut canceller, &mut error),
                        false => stk_pending_canceller(one(&self.pending, of), &mut canceller, &mut error),
                    };
                    assert_eq!(canceller.is_null(), judged(status, error) != OK);
                    self.cancellers.extend(Some(canceller).filter(|made| !made.is_null()));
                }
                Does::Cancel { canceller, waits } => {
                    let canceller = one(&self.cancellers, canceller);
                    let status = match waits {
                        true => stk_canceller_wait(canceller, 0, &mut error),
                        false => stk_canceller_cancel(canceller, &mut error),
                    };
                    judged(status, error);
                }
                Does::FreeCanceller(which) => stk_canceller_free(given(&mut self.cancellers, which)),
                Does::NewCompletions => {
                    let mut another = null_mut();
                    judged(stk_completions_new(self.client, &mut another, &mut error), error);
                    if self.completions.is_null() {
                        self.completions = another;
                    } else {
                        stk_completions_free(another);
                    }
                }
                Does::Completes { output } => self.completes(output),
                Does::CancelToken { token } => {
                    let _ = stk_completions_cancel(self.completions, token.into());
                    let _ =
                        (stk_completions_in_flight(self.completions), stk_completions_fd(self.completions));
                }
                Does::FreeCompletions => {
                    stk_completions_free(std::mem::replace(&mut self.completions, null_mut()))
                }
                Does::Read { result } => self.read(one(&self.results, result)),
                Does::FreeResult(which) => stk_result_free(given(&mut self.results, which)),
                Does::Lend { size, client } => {
                    let mut lease = Lease { data: null_mut(), size: 0, id: 0 };
                    let status = stk_lease_new(self.client(client), size.into(), &mut lease, &mut error);
                    if judged(status, error) == OK {
                        assert_eq!(lease.size, usize::from(size));
                        self.leases.push(lease);
                    }
                }
                Does::Lent { lease, writes } => {
                    let Some(lease) = self.leases.get(usize::from(lease) % self.leases.len().max(1)) else {
                        return;
                    };
                    if stk_lease_writable(*lease) == OK && writes {
                        lease.data.cast::<u8>().write_bytes(0x5a, lease.size);
                    }
                }
                // It stays among them: it is stale then.
                Does::Release { lease } => {
                    let Some(lease) = self.leases.get(usize::from(lease) % self.leases.len().max(1)) else {
                        return;
                    };
                    let (first, second) = (stk_lease_release(*lease), stk_lease_release(*lease));
                    assert!(matches!((first, second), (OK | STALE_LEASE, STALE_LEASE)), "{first}, {second}");
                    assert_eq!(stk_lease_writable(*lease), STALE_LEASE);
                }
                Does::MakeError { class, message } => {
                    let made = stk_error_new(text(&class), text(&message));
                    let is_text =
                        std::str::from_utf8(&class).is_ok() && std::str::from_utf8(&message).is_ok();
                    assert_eq!(made.is_null(), !is_text);
                    looked_at(made);
                    stk_error_free(made);
                    let _ = stk_str_eq(text(&class), text(&message));
                }
                Does::FreeClient => stk_client_free(std::mem::replace(&mut self.client, null_mut())),
                Does::Configure { what, number, text: said } => {
                    let config = if what & 0x80 == 0 { stk_config_new() } else { null_mut() };
                    let status = match what % 5 {
                        0 => stk_config_add_app(config, text(&said)),
                        1 => stk_config_set_workers(config, number as usize),
                        2 => stk_config_set_wait(config, number as u32),
                        3 => stk_config_set_timeout_ms(config, number),
                        _ => stk_config_set_app_library(config, text(&said)),
                    };
                    assert!(!config.is_null() || status == INVALID);
                    stk_config_free(config);
                }
                Does::Odd { status } => {
                    assert!(CStr::from_ptr(stk_status_text(status)).to_str().is_ok());
                    let (mut pids, mut n) = ([0; 4], 0);
                    let _ = stk_client_worker_pids(self.client, pids.as_mut_ptr(), 4, &mut n);
                }
            }
        }
    }

    fn push(&self, args: *mut Args, what: Put) {
        // SAFETY: as in `does`.
        let status = unsafe {
            match what {
                Put::None => stk_args_push_none(args),
                Put::Bool(value) => stk_args_push_bool(args, value),
                Put::Int(n) => stk_args_push_i64(args, n),
                Put::Float(x) => stk_args_push_f64(args, x),
                Put::Str(bytes) => stk_args_push_str(args, text(&bytes)),
                Put::Bytes(bytes) => stk_args_push_bytes(args, bytes.as_ptr().cast(), bytes.len()),
                Put::Nowhere(len) => stk_args_push_bytes(args, null(), len.into()),
                Put::Lease(which) => {
                    let none = Lease { data: null_mut(), size: 0, id: u64::from(which) << 32 };
                    let lease = self.leases.get(usize::from(which) % (self.leases.len() + 1));
                    stk_args_push_lease(args, lease.copied().unwrap_or(none))
                }
                Put::List => stk_args_begin_list(args),
                Put::Dict => stk_args_begin_dict(args),
                Put::End => stk_args_end(args),
                Put::Key(key) => stk_args_key(args, text(&key)),
            }
        };
        assert!(!args.is_null() || status == INVALID);
    }

    #[allow(clippy::too_many_arguments)] // those of the functions
    fn send(
        &mut self,
        how: How,
        client: bool,
        args: u8,
        limits: Option<Limits>,
        outputs: bool,
        token: u64,
        app: u8,
    ) {
        let mut error = null_mut();
        let client = self.client(client);
        let args = given(&mut self.args, args);
        let app = text(if app < 250 { b"a:A" } else { b"b:B\xff" });
        let (mut pending, mut stream) = (null_mut::<Pending>(), null_mut::<Stream>());
        let (mut sender, mut result) = (null_mut::<Sender>(), null_mut::<Outcome>());
        // These wait: they have a limit of their own.
        let limits = limits.or(matches!(how, How::Execute | How::Context).then_some(Limits {
            struct_size: NOW,
            deadline_ms: 1,
            queue_ms: 0,
            item_ms: 0,
            idempotent: 0,
            reserved: 0,
            more: [0; LATER],
        }));
        let limits = limits.as_ref().map_or(null(), |limits| limits as *const Limits);
        let f = text(b"f");
        // SAFETY: as in `does`.
        unsafe {
            let status = match how {
                How::Execute => {
                    let out = if outputs { &mut result as *mut _ } else { null_mut() };
                    stk_execute(client, app, f, args, limits, out, &mut error)
                }
                How::Submit => {
                    let out = if outputs { &mut pending as *mut _ } else { null_mut() };
                    stk_submit(client, app, f, args, limits, out, &mut error)
                }
                How::SubmitTo => {
                    stk_submit_to(client, app, f, args, limits, self.completions, token, &mut error)
                }
                How::StreamTo => {
                    stk_stream_to(client, app, f, args, limits, self.completions, token, &mut error)
                }
                How::Stream => {
                    let out = if outputs { &mut stream as *mut _ } else { null_mut() };
                    stk_stream_open(client, app, f, args, limits, out, &mut error)
                }
                How::Context => {
                    let out = if outputs { &mut stream as *mut _ } else { null_mut() };
                    stk_context_open(client, app, f, args, limits, out, &mut sender, &mut error)
                }
            };
            let status = judged(status, error);
            assert!(!client.is_null() || status != OK, "nobody's call");
            assert!(status == OK || pending.is_null() && stream.is_null() && sender.is_null());
            self.pending.extend(Some(pending).filter(|made| !made.is_null()));
            self.streams.extend(Some(stream).filter(|made| !made.is_null()));
            self.senders.extend(Some(sender).filter(|made| !made.is_null()));
            if outputs && matches!(how, How::Execute) {
                self.took(result, status);
            }
        }
    }

    fn work(&mut self, items: Option<Vec<Answer>>, answer: Option<Answer>, closes: bool) {
        if let Some(entry) = self.pool.take() {
            self.taken.push(entry);
        }
        let Some(entry) = self.taken.last().copied() else { return };
        let streamed = items.is_some();
        if let Some(items) = items {
            self.pool.send(entry, &items, closes);
        }
        if let Some(answer) = answer {
            self.taken.pop();
            self.pool.complete(entry, &answer, streamed);
        }
    }

    fn completes(&mut self, output: bool) {
        let mut completion =
            Completion { token: 0, result: null_mut(), error: null_mut(), status: -1, more: 9 };
        let out = if output { &mut completion as *mut _ } else { null_mut() };
        // SAFETY: as in `does`; what came out is ours.
        unsafe {
            if stk_completions_next(self.completions, out) == OK {
                assert!(completion.more <= 1 && output);
                judged(completion.status, completion.error);
                self.took(completion.result, completion.status);
            } else {
                assert_eq!((completion.status, completion.more), (-1, 9), "nothing came out");
            }
        }
    }

    fn read(&self, result: *const Outcome) {
        let mut value = View { kind: 0, reserved: 0, opaque: [0; 6] };
        let (mut int, mut bytes) = (0, text(b""));
        // SAFETY: as in `does`.
        unsafe {
            let status = stk_result_value(result, &mut value);
            assert!(!result.is_null() || status == INVALID);
            if status == OK {
                read(&value, 8);
            }
            let _ = (
                stk_result_i64(result, &mut int),
                stk_result_bytes(result, &mut bytes),
                stk_result_worker(result),
            );
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // SAFETY: each was given to us and is freed here for the first time.
        unsafe {
            self.args.drain(..).for_each(|args| stk_args_free(args));
            self.pending.drain(..).for_each(|pending| stk_pending_free(pending));
            self.senders.drain(..).for_each(|sender| stk_sender_free(sender));
            self.streams.drain(..).for_each(|stream| stk_stream_free(stream));
            self.cancellers.drain(..).for_each(|canceller| stk_canceller_free(canceller));
            stk_completions_free(self.completions);
            self.results.drain(..).for_each(|result| stk_result_free(result));
            for lease in self.leases.drain(..) {
                let _ = stk_lease_release(lease);
            }
            stk_client_free(self.client);
        }
    }
}
