#!/usr/bin/env bash
# Measures every row of the table in benches/README.md: the rows that have a limit to meet, and the peers. Fit for a
# machine with nothing else to do; some ten minutes with the seconds a row that are the default here.
#
#   ci/bench.sh [SECONDS]
source "$(dirname "$0")/common.sh"

seconds=${1:-5}
target=${CARGO_TARGET_DIR:-$ROOT/target}

hot_path() {
    cargo test --quiet --release --test hot_path -- --nocapture
}

try "build" cargo build --quiet --release
try "limits" "$target/release/stokehold" bench all --limits --full --seconds "$seconds"
try "hot path" hot_path
if command -v cc >/dev/null; then
    try "from C" bash ci/bench-c.sh
else
    skip "from C" "no C compiler"
fi
if CARGO_TARGET_DIR=$target/peers cargo build --quiet --release --manifest-path benches/peers/Cargo.toml; then
    try "peers" "$target/peers/release/stokehold-peers" --seconds "$seconds"
else
    skip "peers" "they cannot be built"
fi

finish
