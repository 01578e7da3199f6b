#!/usr/bin/env bash
# The tests. The first line is the README's.
source "$(dirname "$0")/common.sh"

try "tests" cargo test
# Timing is another with optimisation: what threads and processes do to each other is tested in both. What has a part of
# its own with optimisation (single steps, the programs in C) and what knows no time is not repeated.
try "a library for the tests, optimised" cargo build --release --example library
try "tests, optimised" cargo test --release -p stokehold --no-fail-fast --lib --test faults --test hot_path --test soak
try "tests, feature serde" cargo test -p stokehold --features serde --lib
try "examples without default features" cargo build --no-default-features --examples

finish
