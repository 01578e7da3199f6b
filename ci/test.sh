#!/usr/bin/env bash
# The tests. The first line is the README's.
source "$(dirname "$0")/common.sh"

try "tests" cargo test
# Timing is another with optimisation. What has a part of its own with it (single steps, the storm, the programs in C) is not
# repeated; all fault tests are, by ci/full.
try "tests, optimised" cargo test --release -p stokehold --no-fail-fast --lib --test hot_path --test soak
try "tests, feature serde" cargo test -p stokehold --features serde --lib
try "examples without default features" cargo build --no-default-features --examples

finish
