//! [`Kind`]: the type byte of a frame.

/// What a frame is. The numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A call. Body: `app_path`, `action`, `args`, `kwargs`.
    Request = 0x01,
    /// The one answer of a call. Body: `result`.
    Response = 0x02,
    /// The error that ends a call or a stream. Body: `error`.
    Error = 0x03,
    /// An item of a stream. Body: `data`.
    Chunk = 0x04,
    /// The end of a stream. No body.
    End = 0x05,
    /// An operation on shared state. Body: `op`, `table`, …
    Stash = 0x10,
    /// Asks the arbiter how it is. No body.
    Status = 0x11,
    /// Asks the arbiter for more or fewer workers. Body: `op`, `count`.
    Manage = 0x12,
    /// Ours: the first frame of a peer that knows the extensions.
    Hello = 0x40,
    /// Ours: the answer to it, with the descriptors of a board.
    Welcome = 0x41,
    /// Ours: configuration, from a host to its arbiter.
    Config = 0x42,
    /// Ours: a worker or an arbiter has started.
    Ready = 0x43,
    /// Ours: the writer of a new region sends its descriptor.
    Register = 0x44,
    /// Ours: the region's number.
    Registered = 0x45,
    /// Ours: asks for a region by number.
    Fetch = 0x46,
    /// Ours: its descriptor.
    Fetched = 0x47,
    /// Ours: somebody saw damage in a lane or a region.
    Suspect = 0x48,
    /// Ours: a client gets a fresh lane for a damaged one.
    Renew = 0x49,
    /// Ours: a further client on the same socket.
    Connect = 0x4a,
    /// Ours: finish and go.
    Stop = 0x4b,
    /// Ours: the peer leaves on purpose.
    Bye = 0x4c,
    /// Ours: no, and why.
    Refused = 0x4d,
    /// Ours: something happened that the peer may want to know.
    Notice = 0x4e,
    /// Ours: wake a client that waits at its event descriptor.
    Alert = 0x4f,
    /// Ours: the writer of a region takes it back.
    Retire = 0x50,
    /// Ours: regions are gone or idle, and a worker is to look which.
    Tidy = 0x51,
    /// Ours: signal the thread that runs a call which was given up; and that it was done.
    Interrupt = 0x52,
    /// Ours: what an app says first in a context. Body: `data`.
    Started = 0x53,
}

impl Kind {
    /// The kind of this code, extensions included.
    pub fn from_code(code: u8) -> Option<Kind> {
        BY_CODE[usize::from(code)]
    }

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether this kind is ours: sent only to a peer that said HELLO.
    pub fn is_extension(self) -> bool {
        self.code() >= Kind::Hello.code()
    }

    /// gunicorn's name of the kind, as it stands in its error messages; for ours the same in its style.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Request => "request",
            Kind::Response => "response",
            Kind::Error => "error",
            Kind::Chunk => "chunk",
            Kind::End => "end",
            Kind::Stash => "stash",
            Kind::Status => "status",
            Kind::Manage => "manage",
            Kind::Hello => "hello",
            Kind::Welcome => "welcome",
            Kind::Config => "config",
            Kind::Ready => "ready",
            Kind::Register => "register",
            Kind::Registered => "registered",
            Kind::Fetch => "fetch",
            Kind::Fetched => "fetched",
            Kind::Suspect => "suspect",
            Kind::Renew => "renew",
            Kind::Connect => "connect",
            Kind::Stop => "stop",
            Kind::Bye => "bye",
            Kind::Refused => "refused",
            Kind::Notice => "notice",
            Kind::Alert => "alert",
            Kind::Retire => "retire",
            Kind::Tidy => "tidy",
            Kind::Interrupt => "interrupt",
            Kind::Started => "started",
        }
    }
}

const ALL: [Kind; 28] = [
    Kind::Request,
    Kind::Response,
    Kind::Error,
    Kind::Chunk,
    Kind::End,
    Kind::Stash,
    Kind::Status,
    Kind::Manage,
    Kind::Hello,
    Kind::Welcome,
    Kind::Config,
    Kind::Ready,
    Kind::Register,
    Kind::Registered,
    Kind::Fetch,
    Kind::Fetched,
    Kind::Suspect,
    Kind::Renew,
    Kind::Connect,
    Kind::Stop,
    Kind::Bye,
    Kind::Refused,
    Kind::Notice,
    Kind::Alert,
    Kind::Retire,
    Kind::Tidy,
    Kind::Interrupt,
    Kind::Started,
];

static BY_CODE: [Option<Kind>; 256] = {
    let mut table = [None; 256];
    let mut at = 0;
    while at < ALL.len() {
        table[ALL[at] as usize] = Some(ALL[at]);
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_kinds_are_one_to_one() {
        let known: Vec<u8> = (0..=255).filter(|&code| Kind::from_code(code).is_some()).collect();
        let expected: Vec<u8> = (1..=5).chain(0x10..=0x12).chain(0x40..=0x53).collect();
        assert_eq!(known, expected);
        for code in known {
            assert_eq!(Kind::from_code(code).map(Kind::code), Some(code));
        }
        assert!(!Kind::Manage.is_extension() && Kind::Hello.is_extension());
    }
}
