#!/usr/bin/env bash
# At each named step of the protocol each thing that can happen to a process there; see tests/crash_points/main.rs.
#
#   ci/crash-points.sh                                          all of it: a minute
#   STOKEHOLD_POINTS=client.submit STOKEHOLD_ACTIONS=kill ci/crash-points.sh points_
#                                                               the points whose names begin so, and one action
source "$(dirname "$0")/common.sh"

test=(cargo test --locked --no-default-features -p stokehold --test crash_points)
export RUSTC_WORKSPACE_WRAPPER=$PWD/ci/crash-rustc.sh
try "build" "${test[@]}" --no-run
try "crash points" "${test[@]}" -- "$@"

# What is used has no trace of them. That this test's own program has shows that the search finds them.
no_trace() {
    local with without traces='crash point|STOKEHOLD_CRASH_POINTS|client\.submit\.published'
    with=$("${test[@]}" --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\)).*/\1/p')
    unset RUSTC_WORKSPACE_WRAPPER
    cargo build --release --locked --bin stokehold
    without=${CARGO_TARGET_DIR:-target}/release/stokehold
    grep -aqE "$traces" "$with"
    [ -s "$without" ]
    ! grep -aqE "$traces" "$without"
}
try "no trace of them in what is used" no_trace

finish
