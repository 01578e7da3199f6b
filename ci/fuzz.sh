#!/usr/bin/env bash
# Builds every fuzz target and runs each for FUZZ_SECONDS (40), starting from the committed seeds.
source "$(dirname "$0")/common.sh"

seconds=${FUZZ_SECONDS:-40}

if [ ! -d fuzz ]; then
    skip "fuzz" "there are no fuzz targets"
    exit 0
fi
if ! nightly; then
    skip "fuzz" "no nightly toolchain"
    exit 0
fi
if ! command -v cargo-fuzz >/dev/null && ! cargo install --quiet --locked cargo-fuzz; then
    skip "fuzz" "cargo-fuzz cannot be installed"
    exit 0
fi

# New inputs go into the build directory, what is committed stays as it is. A run that executed nothing has failed.
run() {
    local target=$1 corpus=$ROOT/target/fuzz-corpus/$1 log=$ROOT/target/fuzz-corpus/$1.log seeds=()
    mkdir -p "$corpus"
    [ -d "fuzz/seeds/$target" ] && seeds=("$ROOT/fuzz/seeds/$target")
    cargo +nightly fuzz run "$target" "$corpus" ${seeds[@]+"${seeds[@]}"} -- \
        -max_total_time="$seconds" -rss_limit_mb=512 -malloc_limit_mb=64 -timeout=5 -print_final_stats=1 \
        >"$log" 2>&1 || { tail -n 60 "$log"; return 1; }
    local executed
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: ${executed:-0} executions from ${#seeds[@]} folder of seeds"
    [ "${executed:-0}" -gt 0 ]
}

try "build of the fuzz targets" cargo +nightly fuzz build
for target in $(cargo +nightly fuzz list); do
    try "fuzz $target for $seconds s" run "$target"
done

finish
