//! How much of a stream may be on its way, and what happens when it is more.

/// The bounds of one stream, and whether its producer waits at them. The default: 1,024 items, 8 MiB in blocks, and it
/// waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) waits: bool,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow { items: 1024, bytes: 8 << 20, waits: true }
    }
}

impl Flow {
    /// The default.
    pub fn new() -> Flow {
        Flow::default()
    }

    /// At most so many items that the consumer has not let go of; at least one. What fits into the ring's 32 KiB is a bound
    /// as well.
    #[must_use]
    pub fn items(mut self, items: u64) -> Flow {
        self.items = items.max(1);
        self
    }

    /// At most so many bytes in blocks that the consumer has not let go of. An item that is larger goes alone.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Flow {
        self.bytes = bytes;
        self
    }

    /// The producer does not wait for room: an item for which there is none is an `Overrun`, for the app to decide about. If
    /// it returns that error, or an iterator gave the item, it ends the stream.
    #[must_use]
    pub fn or_fail(mut self) -> Flow {
        self.waits = false;
        self
    }
}
