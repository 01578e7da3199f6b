#!/usr/bin/env bash
# Format, clippy, documentation, and the rules that hold the rooms apart.
source "$(dirname "$0")/common.sh"

try "format" cargo fmt --check
try "clippy" cargo clippy --locked --all-targets -- -D warnings
try "clippy, no default features" cargo clippy --locked --all-targets --no-default-features -- -D warnings
try "clippy, feature serde" cargo clippy --locked --all-targets --features serde -- -D warnings
try "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
try "rooms" bash ci/rooms.sh

# The oldest compiler that Cargo.toml promises, where it is at hand.
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if command -v rustup >/dev/null && rustup toolchain list | grep -q "^$msrv"; then
    try "oldest compiler, $msrv" env CARGO_TARGET_DIR=target/msrv cargo "+$msrv" check --locked --lib --bins --examples --features serde
else
    skip "oldest compiler, $msrv" "that toolchain is not installed"
fi

finish
