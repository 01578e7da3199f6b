//! The kernel without the façade: what a peer may do that does not use this crate.

use std::io;
use std::ptr;

/// One system call as it is: the answer, or the error number.
pub fn syscall(number: libc::c_long, arguments: &[usize]) -> Result<usize, i32> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: the callers in these tests pass numbers, and addresses of locals that outlive the call.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(answer).map_err(|_| errno())
}

/// The error number of the last call.
pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Makes system call `number` fail with `errno` from now on in this process and its children: always, or only if one of
/// the bits in `mask` is set in its argument `index`. What a sandbox or an older kernel does. `false` if the
/// kernel has no seccomp.
pub fn deny(number: libc::c_long, errno: i32, only_if: Option<(u32, u32)>) -> bool {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless_skip = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let has_any = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;

    let mut program = vec![statement(load, 0)]; // seccomp_data.nr
    program.push(unless_skip(is_equal, number as u32, if only_if.is_some() { 3 } else { 1 }));
    if let Some((index, mask)) = only_if {
        let low_half = u32::from(cfg!(target_endian = "big")) * 4;
        program.push(statement(load, 16 + 8 * index + low_half)); // seccomp_data.args
        program.push(unless_skip(has_any, mask, 1));
    }
    program.push(statement(answer, libc::SECCOMP_RET_ERRNO | errno as u32));
    program.push(statement(answer, libc::SECCOMP_RET_ALLOW));

    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let filter = ptr::from_ref(&filter).addr();
    let mode = libc::SECCOMP_MODE_FILTER as usize;
    syscall(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]).is_ok()
        && syscall(libc::SYS_prctl, &[libc::PR_SET_SECCOMP as usize, mode, filter]).is_ok()
}

/// The bytes of `text` with the NUL that C wants.
pub fn c(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}
