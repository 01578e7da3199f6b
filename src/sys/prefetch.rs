//! Lines of memory that are asked for before they are needed. Hints to the processor: nothing is read or written, and other
//! processors than those of x86-64 are asked for nothing.

/// Bytes of a cache line.
const LINE: usize = 64;

/// The first `lines` lines of this, to be read.
#[inline(always)]
pub fn to_read<T>(it: &T, lines: usize) {
    starts(it, lines).for_each(read);
}

/// The first `lines` lines of this, to be written: they are taken away from who has read them, and stores to them need not wait
/// for that, nor the fences and swaps behind those.
#[inline(always)]
pub fn to_write<T>(it: &T, lines: usize) {
    starts(it, lines).for_each(write);
}

#[inline(always)]
fn starts<T>(it: &T, lines: usize) -> impl Iterator<Item = *const u8> {
    let first = std::ptr::from_ref(it).cast::<u8>();
    (0..size_of::<T>().min(lines * LINE)).step_by(LINE).map(move |at| first.wrapping_add(at))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn read(line: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch of any address is harmless.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// By the instruction itself: the intrinsic for it asks for no more than reading, unless the program is compiled for newer
/// processors only. Those of x86-64 since 2006 have it or take it for a NOP.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[allow(clippy::pointers_in_nomem_asm_block)] // what it points to is not touched
#[inline(always)]
fn write(line: *const u8) {
    // SAFETY: a prefetch of any address is harmless, changes no register and no flag, and neither reads nor writes for the
    // program.
    unsafe {
        core::arch::asm!("prefetchw byte ptr [{}]", in(reg) line, options(nomem, nostack, preserves_flags))
    };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn read(_: *const u8) {}

#[cfg(any(not(target_arch = "x86_64"), miri))]
#[inline(always)]
fn write(_: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_the_thing_and_nothing_is_changed() {
        let it = [7_u64; 20];
        let offsets =
            |lines| starts(&it, lines).map(|line| line as usize - it.as_ptr() as usize).collect::<Vec<_>>();
        assert_eq!(offsets(2), [0, 64]);
        assert_eq!(offsets(9), [0, 64, 128], "160 bytes");
        to_read(&it, 9);
        to_write(&it, 9);
        assert_eq!(it, [7; 20]);
    }
}
