#!/usr/bin/env bash
# The tests. The first line is the README's.
source "$(dirname "$0")/common.sh"

try "tests" cargo test
# Timing is another with optimisation: what processes do to each other is tested in both.
try "tests, optimised" cargo test --release --tests --no-fail-fast
try "tests, feature serde" cargo test --features serde --lib
try "examples without default features" cargo build --no-default-features --examples

finish
