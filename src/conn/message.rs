//! One control-plane message: kind, number, named fields, descriptors.

use super::Stream;
use crate::error::{Bound, Error, Kind as ErrorKind, Result};
use crate::sys::socket;
use crate::wire::{Kind, Value};
use std::os::fd::{AsFd, OwnedFd};

/// A message, being made or as it came.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Ties an answer to its question.
    pub id: u64,
    fields: Vec<(String, Value)>,
    /// Descriptors that travel with it, in the order that its kind gives.
    pub fds: Vec<OwnedFd>,
    /// The kernel dropped them: this process may not open any more.
    pub fds_lost: bool,
    /// Came from one who may mean ill.
    pub(super) wary: bool,
}

impl Message {
    /// An empty one.
    pub fn new(kind: Kind) -> Message {
        Message { kind, id: 0, fields: Vec::new(), fds: Vec::new(), fds_lost: false, wary: false }
    }

    /// A refusal that says why.
    pub fn refused(why: &Error) -> Message {
        let message =
            Message::new(Kind::Refused).with("code", why.code() as u32).with("why", why.to_string());
        match why.kind() {
            ErrorKind::Overloaded { bound, limit } => {
                message.with("bound", number_of(*bound)).with("limit", (*limit).min(i64::MAX as u64) as i64)
            }
            _ => message,
        }
    }

    /// That the sender takes back a region of its own, to which nothing refers any more: its place in the table, and
    /// which registration of that.
    pub fn retire(index: u16, serial: u32) -> Message {
        Message::new(Kind::Retire).with("index", index as i64).with("region_serial", serial as i64)
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Message {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// With one more descriptor.
    #[must_use]
    pub fn with_fd(mut self, fd: OwnedFd) -> Message {
        self.fds.push(fd);
        self
    }

    /// The same under another kind.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Message {
        self.kind = kind;
        self
    }

    /// As an answer to a message of this number.
    #[must_use]
    pub fn answering(mut self, id: u64) -> Message {
        self.id = id;
        self
    }

    /// A field; `None` if it is not there.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Takes a field out; `None` if it is not there.
    pub fn take_field(&mut self, name: &str) -> Option<Value> {
        let at = self.fields.iter().rposition(|(n, _)| n == name)?;
        Some(self.fields.swap_remove(at).1)
    }

    /// A field that must be a whole number in this type's range.
    pub fn int<T: TryFrom<i64>>(&self, name: &str) -> Result<T> {
        match self.field(name) {
            Some(Value::Int(n)) => {
                T::try_from(*n).map_err(|_| self.wrong(name, &format!("{n} is out of range")))
            }
            _ => Err(self.wrong(name, "a whole number is missing")),
        }
    }

    /// A 64-bit pattern; travels as a signed number.
    pub fn bits(&self, name: &str) -> Result<u64> {
        self.int::<i64>(name).map(|n| n as u64)
    }

    /// A field that must be a string.
    pub fn str(&self, name: &str) -> Result<&str> {
        match self.field(name) {
            Some(Value::Str(s)) => Ok(s),
            _ => Err(self.wrong(name, "a string is missing")),
        }
    }

    /// A field that must be a list of strings.
    pub fn strings(&self, name: &str) -> Result<Vec<String>> {
        let Some(Value::List(items)) = self.field(name) else {
            return Err(self.wrong(name, "a list is missing"));
        };
        items
            .iter()
            .map(|item| match item {
                Value::Str(s) => Ok(s.clone()),
                _ => Err(self.wrong(name, "an element is not a string")),
            })
            .collect()
    }

    /// Takes the descriptors, which must be this many. From a peer who may mean ill none of them is a socket.
    pub fn take_fds<const N: usize>(&mut self) -> Result<[OwnedFd; N]> {
        if self.wary && self.fds.iter().any(|fd| socket::is_unix_stream(fd.as_fd()).unwrap_or(false)) {
            return Err(self.wrong("descriptors", "a socket is among them"));
        }
        self.take_any()
    }

    /// Takes the only descriptor, a socket that is the next one's who trusts its peers as little.
    pub fn take_socket(&mut self) -> Result<Stream> {
        let [fd] = self.take_any()?;
        Ok(Stream::new(fd).wary())
    }

    fn take_any<const N: usize>(&mut self) -> Result<[OwnedFd; N]> {
        if self.fds_lost {
            return Err(Error::new(ErrorKind::Frame(
                "descriptors that came with a message were dropped: no more can be opened here".into(),
            )));
        }
        std::mem::take(&mut self.fds).try_into().map_err(|fds| {
            self.fds = fds; // closed with the message, as warily as that is
            self.wrong("descriptors", &format!("expected {N}, got {}", self.fds.len()))
        })
    }

    /// This message if it is of the kind that was waited for; a refusal as the error that it carries.
    pub fn expect(self, kind: Kind) -> Result<Message> {
        if self.kind == kind {
            return Ok(self);
        }
        if self.kind == Kind::Refused {
            let mut why = self.str("why").unwrap_or("no reason given");
            // It is printed after its kind again.
            for kind in ["bad request: ", "incompatible peer: ", "wrong configuration: ", "cannot start: "] {
                why = why.strip_prefix(kind).unwrap_or(why);
            }
            let why = why.to_owned();
            let kind = match self.int::<u32>("code") {
                Ok(5) => ErrorKind::Overloaded {
                    bound: bound_of(self.int("bound").unwrap_or_default()),
                    limit: self.int::<i64>("limit").map_or(0, |limit| limit.max(0) as u64),
                },
                Ok(6) => ErrorKind::NoWorkers { reason: crate::error::Absence::Degraded },
                Ok(7) => ErrorKind::BadRequest(why.clone().into()),
                Ok(10) => ErrorKind::ShuttingDown,
                Ok(101) => ErrorKind::Incompatible(why.clone().into()),
                Ok(104) => ErrorKind::Config(why.clone().into()),
                _ => ErrorKind::Start(why.clone().into()),
            };
            return Err(Error::new(kind));
        }
        Err(Error::new(ErrorKind::Frame(
            format!("a message {:?} came where {kind:?} was waited for", self.kind).into(),
        )))
    }

    pub(super) fn into_parts(mut self) -> (Kind, u64, Value, Vec<OwnedFd>) {
        let (mut fields, fds) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.fds));
        if !fds.is_empty() {
            fields.push((FDS.to_owned(), Value::Int(fds.len() as i64)));
        }
        (self.kind, self.id, Value::Dict(fields), fds)
    }

    pub(super) fn from_parts(kind: Kind, id: u64, fields: Vec<(String, Value)>) -> Message {
        Message { kind, id, fields, fds: Vec::new(), fds_lost: false, wary: false }
    }

    /// How many descriptors the frame said it brings.
    pub(super) fn fds_announced(&self) -> Result<usize> {
        match self.field(FDS) {
            None => Ok(0),
            Some(_) => self.int::<u8>(FDS).map(usize::from),
        }
    }

    fn wrong(&self, name: &str, why: &str) -> Error {
        Error::new(ErrorKind::Frame(format!("message {:?}: field {name:?}: {why}", self.kind).into()))
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if self.wary {
            self.fds.drain(..).for_each(socket::close);
        }
    }
}

const FDS: &str = "fds";
const BOUNDS: [Bound; 6] =
    [Bound::Bytes, Bound::Calls, Bound::Results, Bound::Clients, Bound::Regions, Bound::Deferred];

fn number_of(bound: Bound) -> u32 {
    BOUNDS.iter().position(|b| *b == bound).unwrap_or_default() as u32
}

fn bound_of(number: usize) -> Bound {
    BOUNDS.get(number).copied().unwrap_or(Bound::Bytes)
}
