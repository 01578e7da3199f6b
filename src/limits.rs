//! Every maximum of the crate, in one place, with the relations between them asserted at compile time.
//!
//! Sizes are bytes unless the name says otherwise. A limit is inclusive: the value itself is still allowed.

// --- wire ---

/// Length of a frame header.
pub const HEADER_LEN: usize = 16;
/// Largest payload of a frame on a socket, as gunicorn has it.
pub const MAX_FRAME_PAYLOAD: usize = 64 * 1024 * 1024;
/// Largest single string or bytes value towards a socket peer.
pub const MAX_SOCKET_BYTES: usize = 64 * 1024 * 1024;
/// Most elements of one list, or pairs of one dict.
pub const MAX_ITEMS: usize = 1024 * 1024;
/// Deepest nesting of lists and dicts that is decoded, encoded or compared.
pub const MAX_DEPTH: usize = 512;
/// Most values in one message, counted over all depths.
pub const MAX_NODES: usize = 1 << 22;
/// Largest control-plane frame between processes of ours (configuration, handshake).
pub const MAX_CONTROL_PAYLOAD: usize = 1024 * 1024;
/// Largest frame that workers and clients send to the arbiter, and a host once the pool has begun. Longest is what a worker says
/// that cannot boot.
pub const MAX_SAID: usize = 16 * 1024;
/// Most characters of that.
pub const MAX_REASON: usize = 2_000;
/// Most descriptors that come with one control-plane frame.
pub const MAX_FRAME_FDS: usize = 4;

// --- data plane ---

/// Calls that one lane can have in flight.
pub const LANE_CALLS: usize = 64;
/// Entries of a lane's submit ring: a power of two, at least twice the calls (docs/protocol.md, F2).
pub const RING_ENTRIES: usize = 128;
/// Lanes (connected clients) of one pool.
pub const MAX_LANES: usize = 1024;
/// Worker slots of one pool.
pub const MAX_WORKERS: usize = 64;
/// Places for worker incarnations: a replacement may boot while the one that it replaces is still dying.
pub const MAX_PLACES: usize = 2 * MAX_WORKERS;
/// App threads of one worker.
pub const MAX_WORKER_THREADS: usize = 64;
/// Calls that one worker may have deferred at a time.
pub const MAX_DEFERRED: usize = 128;
/// Parkers of a board: one for each app thread of each worker.
pub const MAX_PARKERS: usize = 256;
/// Regions that are registered with one pool at a time.
pub const MAX_REGIONS: usize = 2048;
/// Deaths that the registry remembers.
pub const MAX_DEATHS: usize = 1024;
/// A request or result record.
pub const RECORD_LEN: usize = 512;
/// Bytes of a record that hold an inline TLV body: what remains beside header and fixed fields.
pub const INLINE_LEN: usize = RECORD_LEN - 64;
/// Words of a stream's message: the ring's own, a frame header, an inline TLV body.
pub const STREAM_WORDS: usize = 3 + INLINE_LEN / 8;
/// Words of the ring that a stream goes through: 32 KiB.
pub const STREAM_RING: usize = 4096;
/// Result records of one worker incarnation.
pub const RESULT_RECORDS: usize = 256;
/// Largest message over shared memory.
pub const MAX_MESSAGE: usize = 1 << 30;
/// Largest region: one largest message, behind a page for the header.
pub const MAX_REGION: usize = MAX_MESSAGE + 4096;
/// Smallest growth region that is made for more than one block.
pub const GROWTH_MIN: usize = 4 * 1024 * 1024;
/// Largest growth region that is made for more than one block.
pub const GROWTH_MAX: usize = 64 * 1024 * 1024;
/// From this size on a block has a region of its own.
pub const LARGE_BLOCK: usize = 32 * 1024 * 1024;
/// Bytes of blocks that one client's growth regions may have.
pub const CLIENT_QUOTA: usize = 2 << 30;
/// Bytes of blocks that one worker may hold for one client: a largest message, and room for others beside it.
pub const CLIENT_SHARE: usize = MAX_MESSAGE + 64 * 1024 * 1024;
/// Bytes of blocks that one worker's growth regions may have: no client may hold more than a quarter.
pub const WORKER_QUOTA: usize = 4 * CLIENT_SHARE;
/// Growth regions that one lane of a client may have.
pub const CLIENT_REGIONS: usize = CLIENT_QUOTA / LARGE_BLOCK;
/// Those of all its lanes. A lane that was found damaged keeps what is still held of it, or until the next is damaged.
pub const ALL_CLIENT_REGIONS: usize = 2 * CLIENT_REGIONS;
/// Growth regions that one worker may have.
pub const WORKER_REGIONS: usize = WORKER_QUOTA / LARGE_BLOCK;
/// How long a growth region stays that nobody uses, milliseconds.
pub const WARM_MS: u32 = 10_000;
/// Alignment of every payload block.
pub const BLOCK_ALIGN: usize = 64;
/// Apps of one pool.
pub const MAX_APPS: usize = 256;
/// How deep calls may be nested that apps make of apps.
pub const MAX_NESTING: usize = 8;
/// The first sleep of who waits for a call; each further one doubles, up to the longest.
pub const FIRST_SLICE_NS: u64 = 20_000_000;
/// Whoever sleeps for a call or its items looks around at least this often. Whoever ends the sleep rings.
pub const LONGEST_SLICE_NS: u64 = 200_000_000;
/// Length of an app or action name.
pub const MAX_NAME: usize = 255;

const _: () = {
    assert!(RING_ENTRIES.is_power_of_two() && RING_ENTRIES >= 2 * LANE_CALLS);
    assert!(LANE_CALLS <= 64, "the free calls of a lane are one 64-bit mask");
    assert!(
        MAX_DEFERRED.is_multiple_of(64) && 2 * MAX_DEFERRED <= RESULT_RECORDS,
        "each needs a record at its end"
    );
    assert!(MAX_LANES.is_multiple_of(64) && MAX_PARKERS.is_multiple_of(64));
    assert!(MAX_LANES <= 1 << 16 && MAX_REGIONS <= 1 << 16);
    assert!(CLIENT_REGIONS == 64, "one for each large block that the quota has room for");
    assert!(2 * LARGE_BLOCK <= GROWTH_MAX, "a growth region has room for two of what is asked");
    assert!(LANE_CALLS * 4 <= RESULT_RECORDS, "no client may hold more than a quarter of a worker's records");
    assert!(MAX_DEATHS.is_power_of_two());
    assert!(STREAM_RING.is_power_of_two() && STREAM_RING / 4 >= STREAM_WORDS && STREAM_WORDS < 1 << 16);
    assert!(MAX_CONTROL_PAYLOAD <= MAX_FRAME_PAYLOAD);
    assert!(4 * MAX_REASON <= MAX_SAID / 2, "a character has up to four bytes");
    assert!(16 * MAX_WORKER_THREADS <= MAX_SAID / 2, "a worker names its threads");
};
