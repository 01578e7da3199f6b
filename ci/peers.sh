#!/usr/bin/env bash
# The benchmark beside other projects is built, and each of them does its work once: what they say is measured at leisure
# (benches/README.md), that they can be measured is checked here.
source "$(dirname "$0")/common.sh"

manifest=benches/peers/Cargo.toml
# Its crates are many, and nobody else's: kept apart from the others'.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}/peers

if ! cargo fetch --manifest-path "$manifest" >/dev/null 2>&1; then
    skip "peers" "their crates cannot be fetched"
    exit 0
fi

# Every peer has a row for 64 bytes in the placement in which all of them are measured, and for the largest payload.
run() {
    local rows peer case
    rows=$("$CARGO_TARGET_DIR/release/stokehold-peers" --json --seconds 0.05)
    printf '%s\n' "$rows" | wc -l
    for peer in "iceoryx2, events" "iceoryx2, busy polling" "ipc-channel, bytes" "ipc-channel, memory" \
        "unix socketpair" "crossbeam channel, a thread"; do
        for case in '"echo: '"$peer"'".*"placement":"free","bytes":64,' '"read: '"$peer"'".*"bytes":67108864,'; do
            grep -q "$case" <<<"$rows" || { echo "no row of $case"; return 1; }
        done
    done
}

try "format" cargo fmt --check --manifest-path "$manifest"
try "lint" cargo clippy --quiet --release --all-targets --manifest-path "$manifest" -- -D warnings
try "build" cargo build --quiet --release --manifest-path "$manifest"
try "every peer, briefly" run

finish
