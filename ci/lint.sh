#!/usr/bin/env bash
# Format, clippy, documentation, and the rules that hold the rooms apart.
source "$(dirname "$0")/common.sh"

try "format" cargo fmt --check
try "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
try "clippy, no default features" cargo clippy --locked --workspace --all-targets --no-default-features -- -D warnings
try "clippy, feature serde" cargo clippy --locked --workspace --all-targets --features serde -- -D warnings
try "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
try "rooms" bash ci/rooms.sh

# Each name in the last column of the table of faults is a test, a model, a C program or a script.
shown() {
    local name missing=0 names
    names=$(grep '^| [A-F][0-9]' docs/faults.md | awk -F'|' '{ print $5 }' | grep -o '`[^`]*`' | tr -d '`' | sort -u)
    [ "$(wc -l <<<"$names")" -gt 100 ] || { echo "the table has lost its names"; return 1; }
    for name in $names; do
        case $name in
            ci/*) [ -e "$name" ] && continue ;;
            *) grep -rqE "fn $name\(|\"$name\"" --include=*.rs src tests c-api/tests fuzz/fuzz_targets && continue ;;
        esac
        echo "docs/faults.md: there is no $name"
        missing=1
    done
    grep '^| [A-F][0-9]' docs/faults.md | awk -F'|' '$5 !~ /`/ { print "docs/faults.md: nothing shows" $2; bad = 1 } END { exit bad }' || missing=1
    return $missing
}
try "table of faults" shown
if need shellcheck shellcheck; then
    try "scripts" shellcheck -x -S warning ci/*.sh .ci/run ci/full
else
    skip "scripts" "shellcheck is not here, and cannot be installed"
fi

# The oldest compiler that Cargo.toml promises, where it is at hand.
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if command -v rustup >/dev/null && rustup toolchain list | grep -q "^$msrv"; then
    try "oldest compiler, $msrv" env CARGO_TARGET_DIR=target/msrv cargo "+$msrv" check --locked --workspace --lib --bins --examples --features serde
else
    skip "oldest compiler, $msrv" "that toolchain is not installed"
fi

finish
