#!/usr/bin/env bash
# The rooms without system calls under Miri: undefined behaviour, data races, and stale values that x86 never shows.
# The tests with threads run with eight seeds (`ci/miri.sh 256` for more).
set -euo pipefail
cd "$(dirname "$0")/.."
skip() {
    echo "SKIPPED miri ($1)"
    exit 0
}
command -v rustup >/dev/null || skip "no rustup"
export CARGO_TARGET_DIR=target/miri
# Its own standard library is built once; that needs the component rust-src, too.
ready() {
    cargo +nightly miri setup >/dev/null 2>&1
}
if ! ready; then
    rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1 </dev/null || skip "no nightly toolchain with miri"
    ready || skip "the standard library cannot be built for it"
fi

flags="-Zmiri-tree-borrows -Zmiri-strict-provenance"
logs=$CARGO_TARGET_DIR/logs
mkdir -p "$logs"
miri() { # flags, log, filters
    MIRIFLAGS=$1 cargo +nightly miri test --locked -p stokehold --lib --no-default-features -- "${@:3}" >"$logs/$2.log" 2>&1
}
MIRIFLAGS=$flags cargo +nightly miri test --locked -p stokehold --lib --no-default-features --no-run

# A test runs on one processor, so two parts run at a time. Left to the ordinary tests is what searches all values of
# something, and, in a room without unsafe code, what nests or counts to the limit: `--skip`, or fewer rounds by
# `cfg!(miri)` beside the test (one random case of each property: the room has no unsafe code to find more of).
begin=$SECONDS
status=0
miri "$flags" wire wire:: --skip hostile --skip nesting --skip deep_values --skip nested_up_to &
wire=$!
miri "$flags" ring ring:: wire::tests::hostile \
    --skip stress --skip one_bit_flipped --skip dead_entries_never || status=1
echo "miri: ring after $((SECONDS - begin)) s"
miri "$flags -Zmiri-many-seeds=0..${1:-8}" stress ring::stress ring::stream_stress || status=1
echo "miri: stress after $((SECONDS - begin)) s"
wait $wire || status=1
echo "miri: all after $((SECONDS - begin)) s"

passed=0
for log in wire ring stress; do
    grep -E '^test .*FAILED|^error|Undefined Behavior|panicked|^test result' "$logs/$log.log" | sed "s/^/$log: /" || true
    count=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$logs/$log.log" | head -1)
    passed=$((passed + ${count:-0}))
done
# Filters that match nothing pass silently.
if [ $status = 0 ] && [ $passed -lt 95 ]; then
    echo "miri: only $passed tests ran"
    status=1
fi
echo "miri: $passed tests, those with threads with ${1:-8} seeds"
exit $status
