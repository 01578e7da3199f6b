#!/usr/bin/env bash
# What a call costs from C against the same call from Rust, in turns in one run: `ci/bench-c.sh [BLOCKS]`, a block being
# 500 calls of each. One JSON object a line.
source "$(dirname "$0")/common.sh"

target=${CARGO_TARGET_DIR:-target}/archive
cargo build --quiet --profile archive -p stokehold-c --features rust-twin
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -Iinclude c-api/benches/call.c \
    "$target/libstokehold_c.a" -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc -o "$target/bench-c"
"$target/bench-c" "$@"
