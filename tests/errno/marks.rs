//! What the program under test tells whoever traces it: by system calls that do not exist. They need no descriptor and no
//! memory, so that no fault can come between.

/// Numbers from here on are marks.
pub const FIRST: i64 = 0x5000;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Mark {
    /// A phase begins; answers how often a fault was injected so far. Zero is none.
    Phase = FIRST,
    /// The app began with the call of this number.
    Begun,
    /// The call of this number succeeded, with the result that only it has.
    Ok,
    /// It did not; the second number is what the error says of its start (0 not, 1 yes, 2 unknown), then its text.
    Failed,
    /// Something of the pool that is no call failed: the text says what and why.
    Refused,
    /// Something is not as it must be; the text says what.
    Complaint,
    /// A pool works again, or still.
    Works,
    /// The host is through.
    Through,
}

impl Mark {
    /// The mark of a system call.
    pub fn of(number: i64) -> Option<Mark> {
        use Mark::*;
        [Phase, Begun, Ok, Failed, Refused, Complaint, Works, Through]
            .into_iter()
            .find(|m| *m as i64 == number)
    }
}

/// Tells it. Answers what the tracer does; -1 if there is none.
pub fn tell(mark: Mark, a: u64, b: u64, text: &str) -> i64 {
    // SAFETY: a number that no kernel knows: it answers ENOSYS and touches nothing.
    unsafe { libc::syscall(mark as i64, a, b, text.as_ptr(), text.len()) }
}

/// The parts of the life of a pool, each with its own count of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Nothing of what happens here is counted.
    None,
    Start,
    Call,
    Large,
    Stream,
    Death,
    Shutdown,
}

impl Phase {
    pub const ALL: [Phase; 7] = {
        use Phase::*;
        [None, Start, Call, Large, Stream, Death, Shutdown]
    };
}
