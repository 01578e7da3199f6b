#!/bin/sh
# The rooms without system calls under Miri: data races and stale values that x86 never shows.
# The tests with threads run with several seeds (`ci/miri.sh 64` for more than four).
set -eu
cd "$(dirname "$0")/.."
skip() {
    echo "SKIPPED miri ($1)"
    exit 0
}
command -v rustup >/dev/null || skip "no rustup"
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1 || skip "no nightly toolchain with miri"
fi
export CARGO_TARGET_DIR=target/miri
flags="-Zmiri-tree-borrows -Zmiri-strict-provenance"
# What searches all values of something is left to the ordinary tests.
MIRIFLAGS=$flags cargo +nightly miri test --lib --no-default-features -- ring:: wire:: \
    --skip stress --skip one_bit_flipped --skip dead_entries_never --skip proptest --skip property
MIRIFLAGS="$flags -Zmiri-many-seeds=0..${1:-4}" cargo +nightly miri test --lib --no-default-features -- ring::stress
