//! System calls that fail: see `suite.rs`. It reads and writes registers, and knows the calls of x86-64 only.

#[cfg(target_arch = "x86_64")]
#[path = "suite.rs"]
mod suite;

#[cfg(target_arch = "x86_64")]
fn main() {
    suite::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("SKIPPED errno (registers and system calls of x86-64 only)");
}
