//! What a peer may have written, read by everything that reads it: nonsense is an answer, never a panic, a loop or a byte out
//! of bounds; and what is decided is decided by one copy.

use super::record::Record;
use super::region::layout_hash;
use super::{
    Body, Foreign, Owner, Place, RESULT_BLOCKS, RESULTS_LEN, Region, RegionEntry, RegionId, RegionKind,
    Registry, Requests, ResultKey, Results, StreamBlock,
};
use crate::error::{Code, Error, Kind};
use crate::limits::{INLINE_LEN, MAX_MESSAGE, RESULT_RECORDS};
use crate::primitive::{AtomicBool, AtomicU64, Ordering};
use crate::ring::Generation;
use crate::sys::map::Mapping;
use crate::sys::memfd::{self, Seals};
use proptest::prelude::*;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Numbers that offsets and lengths go wrong with, more often than any others.
fn awkward() -> impl Strategy<Value = u64> {
    let ends = [0, 1, 63, 64, 16_384, 147_456, RESULTS_LEN as u64, u32::MAX.into(), 1 << 48, u64::MAX];
    let near =
        (prop::sample::select(ends.to_vec()), -66_i64..66).prop_map(|(end, by)| end.wrapping_add_signed(by));
    prop_oneof![4 => near, 1 => any::<u64>()]
}

/// One for all cases of a test.
fn results() -> &'static Results {
    static ONE: OnceLock<Results> = OnceLock::new();
    ONE.get_or_init(|| Results::create().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    /// B6: bytes are lent and copied only from inside a region, and lent only from among its blocks.
    #[test]
    fn b6_what_lies_elsewhere_is_not_lent(offset in awkward(), len in awkward()) {
        let results = results();
        let inside = offset.checked_add(len).is_some_and(|end| end <= RESULTS_LEN as u64);
        let lent = results.region().lend(offset, len);
        prop_assert_eq!(lent.is_some(), inside && offset >= RESULT_BLOCKS as u64);
        prop_assert!(lent.is_none_or(|lent| lent.len() as u64 == len));
        if len <= RESULTS_LEN as u64 {
            prop_assert_eq!(results.region().copy(offset, &mut vec![0; len as usize]), inside);
        }
    }

    /// B6: a place is a record that begins there, or none; a stream's block lies inside, aligned, and names its call.
    #[test]
    fn b6_a_place_that_is_none(raw in any::<u64>(), offset in awkward()) {
        let results = results();
        if let Some(Place::Record { offset, .. }) = Place::unpack(raw) {
            let _ = results.record_at(offset);
        }
        let starts = (0..RESULT_RECORDS).any(|index| Results::offset_of(index) == offset);
        prop_assert_eq!(results.record_at(offset).is_some(), starts);
        let key = ResultKey { lane: 0, call: 0, generation: Generation(0) };
        prop_assert!(StreamBlock::open(results.region(), offset, key).is_none(), "nothing names a call there");
    }

    /// B6: a record's body has a length that it can have, whatever its words say.
    #[test]
    fn b6_a_body_of_no_length(descriptor in any::<u64>(), low in 0_u64..4, offset in any::<u64>()) {
        for descriptor in [descriptor, descriptor & !0xffff | low] {
            let record = record_with(descriptor, offset);
            match record.body() {
                Some(Body::Inline(len)) => {
                    prop_assert!(len <= INLINE_LEN && descriptor & 0xffff == 0);
                    prop_assert_eq!(record.copy_inline(len, &mut [0; INLINE_LEN]).len(), len);
                }
                Some(Body::Block { len, offset: at, .. }) => prop_assert!(len <= MAX_MESSAGE && at == offset),
                None => prop_assert!(descriptor & 0xffff > 1 || (descriptor >> 32) as usize > INLINE_LEN),
            }
            prop_assert!(record.copy_inline(usize::MAX, &mut [0; INLINE_LEN]).len() == INLINE_LEN);
        }
    }
}

fn record_with(descriptor: u64, offset: u64) -> &'static Record {
    let words = results().region().array::<AtomicU64>(Results::offset_of(0) as usize, 8);
    words[4].store(descriptor, Ordering::Relaxed);
    words[5].store(offset, Ordering::Relaxed);
    results().record(0)
}

/// B7: what is read of a record that changes all the while is one of the things that were written, or refused; and what was
/// copied out is what is used from then on.
#[test]
fn b7_a_record_that_changes_while_it_is_read() {
    let results = Results::create().unwrap();
    let states = [Body::Inline(16), Body::Block { region: 7, offset: 4096, len: 1 << 20 }];
    let write = |which: usize| {
        let byte = which as u8 + 1;
        results.record(0).write([byte; 16], states[which], u64::from(byte), &[byte; 16]);
    };
    write(0);
    let stop = AtomicBool::new(false);
    let (mut seen, mut wrong) = ([0; 2], None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                write(0);
                write(1);
            }
        });
        // Nothing panics in here: the writer would be waited for. That has its turn late on a busy machine.
        let patience = Instant::now() + Duration::from_secs(60);
        while Instant::now() < patience {
            let mut room = [0; INLINE_LEN];
            let is_sound = match results.record(0).body() {
                Some(Body::Inline(len)) => {
                    seen[0] += 1;
                    let copied = results.record(0).copy_inline(len, &mut room);
                    len == 16 && copied.chunks(8).all(|word| word == [word[0]; 8] && matches!(word[0], 1 | 2))
                }
                // The second word may still be, or be already, that of the other state: then the block is not this one's, which
                // is found where it is looked for.
                Some(Body::Block { region, offset, len }) => {
                    seen[1] += 1;
                    (region, len) == (7, 1 << 20) && matches!(offset, 0 | 4096)
                }
                None => false,
            };
            if !is_sound {
                wrong = Some(results.record(0).body());
            }
            if wrong.is_some() || seen.iter().all(|times| *times > 5_000) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong, None, "what nobody wrote");
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

/// A region whose header says this, sealed as the kind must be.
fn crafted(kind: RegionKind, len: usize, header: [u64; 3]) -> OwnedFd {
    let fd = memfd::create("crafted", len).unwrap();
    let map = Mapping::shared_rw(fd.as_fd(), len).unwrap();
    for (at, word) in header.iter().enumerate() {
        // SAFETY: `at` is below 3 and the mapping has at least a page.
        unsafe { map.as_ptr().cast::<u64>().add(at).write_volatile(*word) };
    }
    let shared = matches!(kind, RegionKind::Board | RegionKind::Control);
    let seals = Seals::SHRINK | Seals::GROW | Seals::SEAL;
    memfd::seal(fd.as_fd(), if shared { seals } else { seals | Seals::FUTURE_WRITE }).unwrap();
    fd
}

/// B18, C14: a region of another build, of another kind, of another byte order, or of nothing of ours is refused by its header;
/// one of this build is taken.
#[test]
fn b18_a_header_of_another_build() {
    let magic = u64::from_be_bytes(*b"STOKEHLD");
    let good = [magic, layout_hash(), RegionKind::Growth as u64];
    let adopt =
        |header| Region::adopt(RegionKind::Growth, crafted(RegionKind::Growth, 4096, header), 4096).map(drop);
    assert_eq!(adopt(good).map_err(|e| e.code()), Ok(()));
    let others = [
        [magic ^ 1, good[1], good[2]],
        [magic.swap_bytes(), good[1].swap_bytes(), good[2].swap_bytes()],
        [magic, good[1].wrapping_sub(1), good[2]],
        [magic, good[1].wrapping_add(1), good[2]],
        [magic, good[1], RegionKind::Results as u64],
        [magic, good[1], 0],
        [0, 0, 0],
    ];
    for header in others {
        let refused = adopt(header).unwrap_err();
        assert_eq!(refused.code(), Code::Incompatible, "{header:x?}");
        assert!(refused.to_string().contains("this build's layout"), "{refused}");
    }
    for len in [4096 - 1, 4096 + 1, 0, usize::MAX] {
        let region = crafted(RegionKind::Growth, 4096, good);
        let refused = Region::adopt(RegionKind::Growth, region, len).unwrap_err();
        assert_eq!(refused.code(), Code::Protocol, "{len}: {refused}");
    }
    // Of another kind or length where one was mapped already.
    let growth =
        Arc::new(Region::adopt(RegionKind::Growth, crafted(RegionKind::Growth, 4096, good), 4096).unwrap());
    assert!(Requests::of(&growth).is_err() && Results::of(growth).is_none());
    // What every worker may write proves nothing by its header, and keeps nobody out.
    let board = crafted(RegionKind::Board, 4096, [0, 0, 0]);
    assert!(Region::adopt(RegionKind::Board, board, 4096).is_ok());
}

/// A region is found only if it is its owner's, and again after a place was given away anew.
#[test]
fn a_region_of_somebody_else_is_not_fetched() {
    struct Never;
    impl super::Fetch for Never {
        fn fetch(&self, entry: RegionEntry) -> crate::error::Result<Region> {
            Err(Error::new(Kind::Protocol(format!("asked for {entry:?}").into())))
        }
    }
    let registry = Registry::create().unwrap();
    let id = RegionId { index: 3, serial: 9 };
    let entry = RegionEntry { id, kind: RegionKind::Growth, len: 4096, owner: Owner::Life(5) };
    registry.set_region(entry);
    let foreign = Foreign::new();
    let get = |index, owner| foreign.get(&registry, index, owner, &Never).map_err(|e| e.to_string());
    for (index, owner) in
        [(3, Owner::Life(6)), (3, Owner::Lane(5)), (4, Owner::Life(5)), (u16::MAX, Owner::Life(5))]
    {
        assert!(get(index, owner).unwrap_err().contains("is not one of"), "{index} {owner:?}");
    }
    assert!(get(3, Owner::Life(5)).unwrap_err().contains("asked for"));
    let region = Arc::new(Region::create(RegionKind::Growth, 4096).unwrap());
    foreign.insert(id, region.clone());
    foreign.insert(RegionId { index: u16::MAX, serial: 1 }, region.clone()); // no place: it is not kept
    assert!(Arc::ptr_eq(&get(3, Owner::Life(5)).unwrap(), &region));
    registry.set_region(RegionEntry { id: RegionId { serial: 10, ..id }, ..entry });
    assert!(
        get(3, Owner::Life(5)).unwrap_err().contains("asked for"),
        "another registration of the same place"
    );
    foreign.sweep(&registry);
    assert_eq!(Arc::strong_count(&region), 1, "what is gone is unmapped");
}

/// B5: a worker that writes over the header of its own region, before a caller has first mapped that, does damage like any other:
/// the call ends as `Protocol`, not as if the caller was of another version. Found by the fuzz target `memory`.
#[test]
fn b5_a_header_that_its_owner_wrote_over_is_damage() {
    struct Spoilt;
    impl super::Fetch for Spoilt {
        fn fetch(&self, entry: RegionEntry) -> crate::error::Result<Region> {
            Region::adopt(entry.kind, crafted(entry.kind, 4096, [0; 3]), 4096)
        }
    }
    let registry = Registry::create().unwrap();
    let (id, owner) = (RegionId { index: 3, serial: 9 }, Owner::Life(5));
    registry.set_region(RegionEntry { id, kind: RegionKind::Growth, len: 4096, owner });
    let error = Foreign::new().get(&registry, 3, owner, &Spoilt).unwrap_err();
    assert_eq!(error.code(), Code::Protocol, "{error}");
}

/// What a line says of a result's place comes back, and everything else is none.
#[test]
fn b6_places_come_back() {
    let limits = [1, 7, (1 << 40) - 1].map(|limit| Place::Full { limit });
    let places = [Place::Record { region: 2047, offset: 1 << 40 }, Place::Expired, Place::NoRoom];
    for place in places.into_iter().chain(limits) {
        assert_eq!(Place::unpack(place.pack()), Some(place));
    }
    assert_eq!(
        Place::unpack(Place::Full { limit: u64::MAX }.pack()),
        Some(limits[2]),
        "as much as there is room for"
    );
    let nowhere = 0xffff_u64 << 48;
    for wrong in [0, 3, 4, 0x104, 0x1ff] {
        assert_eq!(Place::unpack(nowhere | wrong), None, "{wrong:#x}");
    }
}
