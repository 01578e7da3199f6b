//! Leases: shared memory that payloads are built in, under ids that go stale.

use crate::client::stk_client;
use crate::error::stk_error;
use crate::fault::{Checked, Fault};
use crate::guard::{Out, guard, guard_handle, not_in_log_callback};
use crate::status::*;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use stokehold::{Lease, ResultLease};

/// Shared memory in which a payload is built, to be lent instead of copied. A value: copy it as you like. It is held
/// until it is released (once; a second time is STK_STALE_LEASE) or given away.
///
/// `data` has `size` bytes, which may be written until the lease was first sent; from then on workers read them where they
/// lie, and it may be written again only when stk_lease_writable says so: after a result was freed, soon; after a deadline
/// or damage a worker may go on reading it for seconds. (To fill another one is always right.) A lease of size 0 has no
/// bytes.
///
/// It belongs to its client, and to that client's shared memory: when that was found damaged and has been replaced
/// (STK_PROTOCOL), its leases are refused as arguments (STK_BAD_REQUEST) and are to be made anew.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stk_lease {
    /// The first byte, aligned to 64.
    pub data: *mut c_void,
    /// How many bytes.
    pub size: usize,
    /// Which lease of this process it is. 0 is none.
    pub id: u64,
}

/// What an id stands for.
enum Held {
    /// For arguments. Shared with the arguments that it was put into.
    Argument(Arc<Lease>),
    /// For the result of this call.
    Result(ResultLease, usize),
}

/// All leases of this process. Ids are process-wide, so that a lease can be released after its client was freed.
static LEASES: Mutex<Table> = Mutex::new(Table { slots: Vec::new(), free: Vec::new() });

struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    /// Counts the leases that were here: an id of an earlier one is stale. Never 0.
    generation: u32,
    held: Option<Held>,
}

impl Table {
    fn keep(&mut self, held: Held) -> u64 {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 1, held: None });
                (self.slots.len() - 1) as u32 // a slot has more bytes than 2^32 of them would leave memory for
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.held = Some(held);
        u64::from(slot.generation) << 32 | u64::from(index)
    }

    fn find(&mut self, id: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id as u32 as usize)?;
        (u64::from(slot.generation) == id >> 32 && slot.held.is_some()).then_some(slot)
    }

    fn take(&mut self, id: u64) -> Option<Held> {
        let slot = self.find(id)?;
        let held = slot.held.take();
        // A slot whose numbers are used up is used no more.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(id as u32);
        }
        held
    }
}

/// Which process the table's lock is of: the last one that made a client, or an app's instance.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Says that this process may have leases: before it can have any.
pub(crate) fn begin_here() {
    OWNER.store(std::process::id(), Ordering::Relaxed);
}

/// A forked copy has none.
fn check_process() -> Checked<()> {
    match OWNER.load(Ordering::Relaxed) {
        0 => Ok(()),
        owner if owner == std::process::id() => Ok(()),
        _ => Err(stokehold::Error::from(stokehold::Kind::Forked).into()),
    }
}

/// Runs `body` on the table. In a forked copy the lock may be held by a thread that is not there.
fn leases<T>(body: impl FnOnce(&mut Table) -> T) -> Checked<T> {
    let mut table = match LEASES.try_lock() {
        Ok(table) => table,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            check_process()?;
            LEASES.lock().unwrap_or_else(PoisonError::into_inner)
        }
    };
    Ok(body(&mut table))
}

/// The lease for an argument, which lives on in the arguments when it is released.
pub(crate) fn argument(lease: stk_lease) -> Checked<Arc<Lease>> {
    leases(|table| match table.find(lease.id).and_then(|slot| slot.held.as_ref()) {
        Some(Held::Argument(held)) => Ok(held.clone()),
        Some(Held::Result(..)) => Err(Fault::invalid("a lease for a result is no argument")),
        None => Err(stale(lease)),
    })?
}

/// The lease for the result of this call, which is given away.
pub(crate) fn result(lease: stk_lease, call: usize, len: usize) -> Checked<ResultLease> {
    leases(|table| match table.find(lease.id).and_then(|slot| slot.held.as_ref()) {
        Some(Held::Result(held, of)) if *of == call && held.len() < len => {
            Err(Fault::invalid(format!("`len` is {len}, the lease has {} bytes", held.len())))
        }
        Some(Held::Result(_, of)) if *of == call => match table.take(lease.id) {
            Some(Held::Result(held, _)) => Ok(held),
            _ => Err(stale(lease)),
        },
        Some(Held::Result(..)) => Err(Fault::invalid("the lease is of another call")),
        Some(Held::Argument(_)) => Err(Fault::invalid("a lease for arguments is no result")),
        None => Err(stale(lease)),
    })?
}

/// The ids of the leases that were made for one call. Dropped with it: releases those that were not given away.
#[derive(Default)]
pub(crate) struct Made(Vec<u64>);

impl Made {
    /// One more, for the call of this number.
    pub(crate) fn keep(&mut self, mut lease: ResultLease, call: usize) -> Checked<stk_lease> {
        let (data, size) = (lease.as_mut_ptr().cast(), lease.len());
        let id = leases(|table| {
            if self.0.len() == self.0.capacity() {
                // Those that were given away, as the items of a stream are: so many at a time that it costs little each.
                self.0.retain(|&id| table.find(id).is_some());
                self.0.reserve(self.0.len().max(16));
            }
            table.keep(Held::Result(lease, call))
        })?;
        self.0.push(id);
        Ok(stk_lease { data, size, id })
    }
}

impl Drop for Made {
    #[inline]
    fn drop(&mut self) {
        if !self.0.is_empty() {
            // Dropped after the lock is let go of.
            drop(leases(|table| self.0.iter().filter_map(|&id| table.take(id)).collect::<Vec<Held>>()));
        }
    }
}

fn stale(lease: stk_lease) -> Fault {
    Fault::here(STK_STALE_LEASE, format!("lease {:#x} is not held any more, or never was", lease.id))
}

/// Memory of `size` bytes of this client, for arguments: fill it, then stk_args_push_lease. Not cleared. Where more shared
/// memory must be registered it asks the arbiter, usually for less than a millisecond, for at most 30 seconds.
///
/// STK_BAD_REQUEST past 1 GiB; STK_OVERLOADED past the client's 2 GiB; STK_OS when the memory file system is
/// full.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_lease_new(
    client: *const stk_client,
    size: usize,
    lease: *mut stk_lease,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(client, error, |client| {
            not_in_log_callback()?;
            let out = Out::new(lease, "lease")?;
            let mut held = client.own()?.lease(size)?;
            let data = held.as_mut_ptr().cast();
            let held = Held::Argument(Arc::new(held));
            let id = leases(|table| table.keep(held))?;
            out.write(stk_lease { data, size, id });
            Ok(())
        })
    }
}

/// Whether the bytes of a lease for arguments may be written (again): STK_OK, or STK_LENT while arguments or a sender's item
/// hold it, or a call carries it that may still be with a worker. STK_STALE_LEASE if it is not held; STK_OK for a lease for a
/// result.
#[unsafe(no_mangle)]
pub extern "C" fn stk_lease_writable(lease: stk_lease) -> stk_status {
    guard(ptr::null_mut(), || {
        check_process()?;
        leases(|table| match table.find(lease.id).and_then(|slot| slot.held.as_mut()) {
            Some(Held::Argument(held)) => match Arc::get_mut(held).and_then(|held| held.try_as_mut()) {
                Some(_) => Ok(()),
                None => Err(Fault::here(STK_LENT, "a call still carries the lease")),
            },
            Some(Held::Result(..)) => Ok(()),
            None => Err(stale(lease)),
        })?
    })
}

/// Gives it back: at once, or when the last call that carries it has ended. In any order with everything else.
/// STK_STALE_LEASE, without harm, if it is not held any more.
#[unsafe(no_mangle)]
pub extern "C" fn stk_lease_release(lease: stk_lease) -> stk_status {
    guard(ptr::null_mut(), || {
        // Dropped after the lock is let go of.
        let held = leases(|table| table.take(lease.id))?;
        held.map(drop).ok_or_else(|| stale(lease))
    })
}
