//! An ended call, until nothing of it is held any more.

use super::connection::Shared;
use super::incoming::{Incoming, Part};
use super::lane::Lane;
use super::submission::Submission;
use crate::error::{Error, Kind, Result};
use crate::ring::{Life, Word};
use std::sync::Arc;

/// A call whose word has left QUEUED and RUNNING. Dropping it frees the line.
#[derive(Debug)]
pub(super) struct Hold {
    sent: Submission,
    word: Word,
    left: bool,
}

/// What a response keeps from being used again.
#[derive(Debug)]
pub(super) enum Kept {
    /// Its call.
    Call(Hold),
    /// Its part of a stream, or the stream's end.
    Part(Part),
    /// Nothing: it was made here.
    Nothing(Arc<Shared>, Arc<Lane>),
}

impl Hold {
    #[inline]
    fn new(sent: Submission, word: Word) -> Hold {
        Hold { sent, word, left: false }
    }

    /// Frees the line now.
    fn release(mut self) -> Result<()> {
        self.left = true;
        self.free()
    }

    #[inline]
    fn free(&self) -> Result<()> {
        let released = self.sent.lane.release(self.sent.call, self.word);
        released.map_err(|_| self.sent.damaged(false, "a finished call's word changed"))
    }

    /// Lets go without touching the call: its lane is damaged.
    pub fn leave(&mut self) {
        self.left = true;
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        if self.left || !self.sent.shared.is_original() {
            return;
        }
        let _ = self.free(); // its caller has the outcome
    }
}

impl Kept {
    /// The ended call, to be kept by who reads its result.
    #[inline]
    pub fn ended(sent: Submission, stream: Option<&Arc<Incoming>>, word: Word) -> Kept {
        let hold = Hold::new(sent, word);
        match stream {
            None => Kept::Call(hold),
            Some(stream) => {
                stream.ended(hold);
                Kept::Part(Part::last(stream.clone()))
            }
        }
    }

    #[inline]
    pub fn shared(&self) -> &Arc<Shared> {
        match self {
            Kept::Call(hold) => &hold.sent.shared,
            Kept::Part(part) => part.stream().shared(),
            Kept::Nothing(shared, _) => shared,
        }
    }

    #[inline]
    pub fn lane(&self) -> (&Arc<Lane>, usize) {
        match self {
            Kept::Call(hold) => (&hold.sent.lane, hold.sent.call),
            Kept::Part(part) => part.stream().lane(),
            Kept::Nothing(_, lane) => (lane, 0), // there is no room of a call's to give back
        }
    }

    /// Whose memory it is in. A word that ended with a result names a life.
    #[inline]
    pub fn life(&self) -> Option<Life> {
        match self {
            Kept::Call(hold) => hold.word.life(),
            Kept::Part(part) => Some(part.stream().life()),
            Kept::Nothing(..) => None,
        }
    }

    /// Lets go now.
    ///
    /// # Errors
    /// `Protocol` if the word is not what it was.
    pub fn release(self) -> Result<()> {
        match self {
            Kept::Call(hold) => hold.release(),
            Kept::Part(_) | Kept::Nothing(..) => Ok(()), // with the last item
        }
    }

    /// See [`Submission::damaged`].
    #[cold]
    pub fn damaged(&mut self, why: &str) -> Error {
        match self {
            Kept::Call(hold) => {
                hold.leave();
                hold.sent.damaged(false, why)
            }
            Kept::Part(part) => part.stream().damaged(why),
            Kept::Nothing(..) => Kind::Protocol(why.to_owned().into()).into(),
        }
    }
}
