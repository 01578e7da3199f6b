//! What a process can know about itself: its program, its privileges, and numbers that nobody else has.

use crate::error::Result;
use crate::sys::{named_io, retry};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// 128 random bits, different in each process and after each fork. See `getrandom(2)`.
pub fn getrandom_u128() -> Result<u128> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        let taken = retry("getrandom", || {
            // SAFETY: `rest` is valid for the write of its length.
            unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) as libc::c_long }
        })?;
        filled += taken as usize;
    }
    Ok(u128::from_ne_bytes(bytes))
}

/// Whether this program was started with privileges that its caller did not have, so that its environment is not to
/// be trusted. See `AT_SECURE` in `getauxval(3)`.
pub fn secure_exec() -> bool {
    // SAFETY: takes a number and answers one.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// A number for the program file that this process runs, the same in each process that runs it.
///
/// Made from device, inode, size and time of modification of `/proc/self/exe`, which still are those of the file
/// that was started when its name has been given to a new build in the meantime.
pub fn exe_identity() -> Result<u64> {
    let file = fs::metadata("/proc/self/exe").map_err(named_io("stat"))?;
    let parts = [file.dev(), file.ino(), file.size(), file.mtime() as u64, file.mtime_nsec() as u64];
    Ok(parts.iter().flat_map(|part| part.to_be_bytes()).fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME) // FNV-1a
    }))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_differ_and_identities_do_not() {
        assert_ne!(getrandom_u128().unwrap(), getrandom_u128().unwrap());
        assert_eq!(exe_identity().unwrap(), exe_identity().unwrap());
        assert!(!secure_exec());
    }
}
