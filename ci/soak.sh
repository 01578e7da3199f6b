#!/usr/bin/env bash
# 10^7 calls of all kinds, streams, contexts and calls from inside an app among them, and nothing grows: memory,
# descriptors, memory files, regions of every process.
#
#   bash ci/soak.sh [CALLS]
source "$(dirname "$0")/common.sh"

try "soak" cargo test --release --test soak -- "${1:-10000000}"

finish
