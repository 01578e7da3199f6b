//! What is written into shared memory is read again, by whoever reads it.

use super::{
    Begun, Deadline, Death, LaneState, OwnRecord, Owner, PoolState, Region, RegionEntry, RegionId,
    RegionKind, Registry, Requests, ResultKey, Results, SlotState,
};
use crate::error::{Cause, Kill};
use crate::limits::MAX_PLACES;
use crate::primitive::Ordering;
use crate::ring::{Generation, Life};
use std::sync::Arc;

/// What the registry tells is what was set, and a word of it that nobody wrote tells nothing.
#[test]
fn what_the_registry_is_told_it_tells() {
    let registry = Registry::create().unwrap();
    let life = |n| Life::new(n).unwrap();
    assert_eq!(
        (registry.state(), registry.ready(), registry.sweep(), registry.tidy()),
        (PoolState::Starting, 0, 0, 0)
    );
    let states = [
        PoolState::Running,
        PoolState::Degraded,
        PoolState::Empty,
        PoolState::ShuttingDown,
        PoolState::Closed,
        PoolState::Starting,
    ];
    for state in states {
        registry.set_state(state);
        assert_eq!(registry.state(), state);
    }
    registry.set_ready(3);
    registry.set_warm_ms(20);
    registry.bump_sweep();
    registry.bump_tidy();
    assert_eq!(
        (registry.ready(), registry.warm_ns(), registry.sweep(), registry.tidy()),
        (3, 20_000_000, 1, 1)
    );
    for (place, state) in
        [SlotState::Booting, SlotState::Ready, SlotState::Cordoned, SlotState::Dying].iter().enumerate()
    {
        let life = life(10 + place as u16);
        registry.set_slot(place, Some(life), *state, 77 + place as u32);
        assert_eq!(registry.slot(place), Some((life, *state, 77 + place as u32)));
        assert_eq!(registry.slot_of(life), Some((*state, 77 + place as u32, place)));
    }
    assert_eq!(registry.ready_pids(), [78]);
    registry.set_slot(1, None, SlotState::Empty, 0);
    registry.set_slot(MAX_PLACES, Some(life(1)), SlotState::Ready, 1); // no place
    assert_eq!((registry.slot(1), registry.slot(MAX_PLACES), registry.slot_of(life(11))), (None, None, None));
    registry.set_slot(1, None, SlotState::Ready, 5);
    assert_eq!(registry.slot(1), None, "a worker without a life");
    let causes = [
        Cause::Exit(3),
        Cause::Signal(9),
        Cause::Oom,
        Cause::Hung,
        Cause::Recycled,
        Cause::Corrupt,
        Cause::BootFailed,
        Cause::KilledByUs(Kill::Deadline),
        Cause::KilledByUs(Kill::OthersDeadline),
        Cause::KilledByUs(Kill::Shutdown),
        Cause::Unknown,
    ];
    for (n, cause) in causes.into_iter().enumerate() {
        let death = Death { life: life(100 + n as u16), pid: 5, cause };
        registry.record_death(death);
        assert_eq!(registry.death(death.life), Some(death));
        registry.forget_death(death.life);
        assert_eq!(registry.death(death.life), None);
    }
    for state in [LaneState::Open(7), LaneState::Suspect(1 << 55), LaneState::Closing(9), LaneState::Free] {
        registry.set_lane(4, state);
        assert_eq!(registry.lane(4), state);
        assert_eq!(state.serial().is_none(), state == LaneState::Free);
    }
    assert_eq!(registry.lane(usize::MAX), LaneState::Free);
    for (index, owner) in [(0, Owner::of_lane(u64::MAX)), (1, Owner::Life(u16::MAX)), (2, Owner::of_lane(3))]
    {
        let id = RegionId { index, serial: u32::MAX };
        let entry = RegionEntry { id, kind: RegionKind::Results, len: 1 << 40, owner };
        registry.set_region(entry);
        assert_eq!(registry.region(index), Some(entry));
        registry.clear_region(index);
        assert_eq!(registry.region(index), None);
    }
    assert_eq!(registry.region(u16::MAX), None);
    assert!((0..=9).all(|n| RegionKind::from_number(n).is_some() == (1..=6).contains(&n)));
}

/// What a client says of a call, in its own record.
#[test]
fn what_a_client_says_is_read() {
    let requests = Requests::create().unwrap();
    let g = Generation(u32::MAX);
    for own in [OwnRecord::None, OwnRecord::Queued(g), OwnRecord::Cancelled(g), OwnRecord::Held(g)] {
        for deadline in [Deadline(None), Deadline(Some(5))] {
            requests.state(63, own, deadline);
            requests.set_limit(63, deadline);
            assert_eq!((requests.own(63), requests.limit(63)), ((own, deadline), deadline));
        }
    }
    requests.record(63).own[0].store(0x52, Ordering::Relaxed);
    assert_eq!(requests.own(63).0, OwnRecord::None, "nonsense");
    let again = Requests::of(requests.region()).unwrap();
    assert_eq!(again.own(63), requests.own(63));
    let results = Results::create().unwrap();
    assert!(Results::of(results.region().clone()).is_some() && Requests::of(results.region()).is_err());
    let short = Arc::new(Region::create(RegionKind::Requests, 4096).unwrap());
    assert!(Requests::of(&short).is_err());
    assert!(Results::of(Arc::new(Region::create(RegionKind::Results, 4096).unwrap())).is_none());
}

/// Begin records name one call of one lane, or none.
#[test]
fn begin_records_are_read_as_they_were_written() {
    let results = Results::create().unwrap();
    let key = ResultKey { lane: 7, call: 63, generation: Generation(u32::MAX) };
    let begun = Begun { lane: 7, call: 63, generation: key.generation, since_ns: 1, deadline_ns: None };
    let record = results.begin_record(191);
    assert_eq!((record.read(), results.has_begun(key)), (None, false));
    record.begin(begun);
    assert_eq!(record.read(), Some(begun));
    record.put_off(9);
    assert_eq!(record.read(), Some(Begun { deadline_ns: Some(9), ..begun }));
    assert!(results.has_begun(key));
    for other in [
        ResultKey { lane: 8, ..key },
        ResultKey { call: 62, ..key },
        ResultKey { generation: Generation(0), ..key },
    ] {
        assert!(!results.has_begun(other), "{other:?}");
    }
    record.end();
    assert!(!results.has_begun(key));
}
