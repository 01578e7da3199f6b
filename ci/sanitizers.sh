#!/usr/bin/env bash
# The unit and property tests of the library under ThreadSanitizer and AddressSanitizer: the ring with its threads, and what
# reads and lends shared memory. They are built with a standard library of their own, or reports would be false.
#
# Tests of pools are not run so: ThreadSanitizer starts a thread in every process before `main`, and a process with threads
# is not forked. The C programs are, under AddressSanitizer: ci/c-api.sh.
source "$(dirname "$0")/common.sh"

if ! nightly; then
    skip "sanitizers" "no nightly toolchain"
    exit 0
fi
[ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ] ||
    rustup component add --toolchain nightly rust-src >/dev/null 2>&1 </dev/null ||
    { skip "sanitizers" "no component rust-src"; exit 0; }
host=$(nightly_host)
base=${CARGO_TARGET_DIR:-$ROOT/target}/sanitizers
mkdir -p "$base"

# tests NAME FEWEST FILTER…: these under this sanitizer, of which there are at least so many.
tests() {
    local name=$1 fewest=$2 log=$base/$1.log
    RUSTFLAGS="-Zsanitizer=$name" CARGO_TARGET_DIR=$base/$name \
        cargo +nightly test --locked -Zbuild-std --target "$host" -p stokehold --lib --no-default-features -- "${@:3}" 2>&1 |
        tee "$log" | grep -aE '^test .* FAILED|^error|panicked|Sanitizer|^test result' || true
    local passed
    passed=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$log" | head -n 1)
    # A filter that matches nothing passes silently.
    [ "${passed:-0}" -ge "$fewest" ] && ! grep -aq 'ERROR: .*Sanitizer\|WARNING: ThreadSanitizer' "$log"
}

# What is kept for good: the list that the kernel reads when a thread is gone.
echo leak:a_thread_that_ends_leaves_its_mark >"$base/leaks-kept"
export LSAN_OPTIONS=suppressions=$base/leaks-kept:print_suppressions=0

try "ThreadSanitizer" tests thread 100 ring:: shm:: client:: pool::
try "AddressSanitizer" tests address 250

finish
