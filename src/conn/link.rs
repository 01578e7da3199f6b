//! The blocking side of a connection: one question, one answer.

use super::{Message, Received, Stream};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::sys::{clock, is_hang_up, poll};
use crate::wire::Kind;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// A blocking framed connection. For one thread at a time.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    last: u64,
}

impl Link {
    /// Over a connected, blocking stream socket.
    pub fn new(fd: OwnedFd) -> Link {
        Link { stream: Stream::new(fd), last: 0 }
    }

    /// The same connection for a loop that does not block; what was read and not taken yet goes with it.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// The socket.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// Sends a message. Blocks while the peer does not read.
    ///
    /// # Errors
    /// `Os{ETOOMANYREFS}` when this user has too many descriptors on their way; the message was not sent.
    pub fn send(&mut self, message: Message) -> Result<()> {
        self.stream.queue(message)?;
        let sent = match self.stream.flush() {
            Ok(true) => return Ok(()),
            // The socket blocks, so this is not for want of room in it.
            Ok(false) => Error::os("sendmsg", libc::ETOOMANYREFS),
            Err(error) => error,
        };
        // It must not go with the next one.
        self.stream.drop_waiting();
        Err(sent)
    }

    /// The next message; `None` when the peer has closed.
    ///
    /// # Errors
    /// `Os{ETIMEDOUT}` when `timeout` passes first.
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Option<Message>> {
        let until = timeout.map(clock::after);
        loop {
            if let Some(message) = self.stream.next()? {
                return Ok(Some(message));
            }
            if let Some(until) = until {
                let left = Duration::from_nanos(until.saturating_sub(clock::monotonic_ns()));
                if !poll::readable(self.stream.fd(), Some(left))?.ready {
                    return Err(Error::os("recvmsg", TIMED_OUT));
                }
            }
            if self.stream.read()? == Received::End {
                return Ok(None);
            }
        }
    }

    /// Sends a question and returns its answer. A refusal comes back as the error that it carries.
    ///
    /// # Errors
    /// `ArbiterDied` when the connection ends instead.
    pub fn ask(&mut self, mut question: Message, answer: Kind, timeout: Option<Duration>) -> Result<Message> {
        self.last += 1;
        question.id = self.last;
        if let Err(error) = self.send(question) {
            // One that sends its caller away says why before it closes.
            return match self.receive(Some(Duration::ZERO)) {
                Ok(Some(said)) => said.expect(answer),
                _ => Err(ended(error)),
            };
        }
        loop {
            let Some(message) = self.receive(timeout).map_err(ended)? else {
                return Err(Error::new(ErrorKind::ArbiterDied { started: false }));
            };
            // An answer to an older question, whose asker gave up.
            if message.id < self.last && message.id != 0 {
                self.decline(&message)?;
                continue;
            }
            return message.expect(answer);
        }
    }
}

impl Link {
    /// What came too late is of no use. A region that was registered would stay so for ever: nobody here has it any more.
    fn decline(&mut self, late: &Message) -> Result<()> {
        match (late.kind, late.int("index"), late.int("region_serial")) {
            (Kind::Registered, Ok(index), Ok(serial)) => {
                self.send(Message::retire(index, serial)).map_err(ended)
            }
            _ => Ok(()),
        }
    }
}

/// A connection that broke is the end of the process at its other side.
fn ended(error: Error) -> Error {
    if is_hang_up(&error) { Error::new(ErrorKind::ArbiterDied { started: false }) } else { error }
}

const TIMED_OUT: i32 = libc::ETIMEDOUT;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::socket;

    #[test]
    fn a_registration_that_came_too_late_is_taken_back() {
        let (ours, theirs) = socket::pair().unwrap();
        let (mut ours, mut theirs) = (Link::new(ours), Link::new(theirs));
        let error =
            ours.ask(Message::new(Kind::Register), Kind::Registered, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(crate::sys::errno_of(&error), Some(TIMED_OUT));
        let heard = theirs.receive(None).unwrap().unwrap();
        let place = |index: i64| {
            Message::new(Kind::Registered).with("index", index).with("region_serial", 9).answering(heard.id)
        };
        theirs.send(place(7)).unwrap();
        theirs.send(place(8).answering(heard.id + 1)).unwrap();
        let answer = ours.ask(Message::new(Kind::Register), Kind::Registered, None).unwrap();
        assert_eq!(answer.int::<u16>("index").unwrap(), 8);
        assert_eq!(theirs.receive(None).unwrap().unwrap().kind, Kind::Register);
        let retired = theirs.receive(Some(Duration::ZERO)).unwrap().unwrap();
        assert_eq!(retired.kind, Kind::Retire);
        assert_eq!(
            (retired.int::<u16>("index").unwrap(), retired.int::<u32>("region_serial").unwrap()),
            (7, 9)
        );
        assert!(theirs.receive(Some(Duration::ZERO)).is_err(), "only that one");
    }
}
