#!/usr/bin/env bash
# Fuzzing: builds every target once and runs each for FUZZ_SECONDS (40), two at a time, from its committed seeds. For each
# the executions, how many a second, and what is covered: by the seeds alone and in the end (libFuzzer's edges and features).
#
#   ci/fuzz.sh [TARGET…]           those; all of them if none is named
#   FUZZ_SECONDS=1200 ci/fuzz.sh   a long run; what it finds stays in the build directory, and is begun with next time
#   ci/fuzz.sh --merge             takes from there into the seeds what covers anything new, and what covers nothing out of
#                                  them (those with names stay), and writes down how much they cover
#
# A target fails by a finding, if it executed nothing, or if its seeds cover less than four fifths of what is written down in
# fuzz/seeds/covered: then they do not mean any more what they meant.
source "$(dirname "$0")/common.sh"

seconds=${FUZZ_SECONDS:-40}
merge=
[ "${1:-}" = --merge ] && merge=1 && shift

if ! nightly; then
    skip "fuzz" "no nightly toolchain"
    exit 0
fi
if ! command -v cargo-fuzz >/dev/null && ! cargo install --quiet --locked cargo-fuzz; then
    skip "fuzz" "cargo-fuzz cannot be installed"
    exit 0
fi
host=$(nightly_host)
bin=${CARGO_TARGET_DIR:-$ROOT/fuzz/target}/$host/release
found=$ROOT/target/fuzz-corpus
mkdir -p "$found"

# The number behind a word in the last line that has it: `cov: 194 ft: 713`.
number() { # word, log
    sed -n "s/^#.* $1: \([0-9]*\).*/\1/p" "$2" | tail -n 1
}

run() {
    local target=$1 log=$found/$1.log status=0
    mkdir -p "$found/$target" "fuzz/seeds/$target"
    # Alone first: what the seeds cover, and that none of them is a finding.
    "$bin/$target" "fuzz/seeds/$target" -runs=0 -print_funcs=0 -timeout=25 -rss_limit_mb=1024 -malloc_limit_mb=64 \
        -artifact_prefix="$found/$target-" >"$log" 2>&1 </dev/null || { tail -n 60 "$log"; return 1; }
    local seeds wanted covered executed speed features
    seeds=$(number cov "$log")
    wanted=$(sed -n "s/^$target //p" fuzz/seeds/covered 2>/dev/null || true)
    "$bin/$target" "$found/$target" "fuzz/seeds/$target" -max_total_time="$seconds" -print_final_stats=1 -print_funcs=0 \
        -len_control=0 -max_len=2048 -timeout=25 -rss_limit_mb=1024 -malloc_limit_mb=64 -artifact_prefix="$found/$target-" \
        >"$log" 2>&1 </dev/null || status=$?
    if [ $status -ne 0 ]; then
        grep -av '^#[0-9]' "$log" | tail -n 80
        echo "the input is $found/$target-*"
        return 1
    fi
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    covered=$(number cov "$log") features=$(number ft "$log")
    echo "fuzz $target: ${executed:-0} executions, ${speed:-0} a second; seeds cover ${seeds:-0} edges (${wanted:-?} written down)," \
        "in the end ${covered:-0} edges, ${features:-0} features"
    [ "${executed:-0}" -gt 0 ] || { echo "WRONG: nothing was executed"; return 1; }
    [ "${covered:-0}" -ge "${seeds:-0}" ] || { echo "WRONG: less is covered than by the seeds"; return 1; }
    [ "$((${seeds:-0} * 5))" -ge "$((${wanted:-0} * 4))" ] || { echo "WRONG: the seeds cover less than they did"; return 1; }
}

# Edges only: with how often each was passed, there would be hundreds of files.
merge() {
    local target=$1
    mkdir -p "$found/$target" "fuzz/seeds/$target"
    find "fuzz/seeds/$target" -type f -regextype egrep -regex '.*/[0-9a-f]{40}' -exec mv -t "$found/$target" {} +
    "$bin/$target" -merge=1 -use_counters=0 -max_len=2048 -print_funcs=0 -timeout=25 -rss_limit_mb=1024 \
        "fuzz/seeds/$target" "$found/$target" >"$found/$target.log" 2>&1 </dev/null || { tail -n 20 "$found/$target.log"; return 1; }
    "$bin/$target" "fuzz/seeds/$target" -runs=0 -print_funcs=0 >"$found/$target.log" 2>&1 </dev/null
    echo "$target $(number cov "$found/$target.log")" >>fuzz/seeds/covered
    echo "$target: $(find "fuzz/seeds/$target" -type f | wc -l) files, $(du -sb --apparent-size "fuzz/seeds/$target" | cut -f1) bytes"
}

# The hooks: a cfg of this crate's own, since cargo-fuzz gives its to every crate, also in the fuzzing of who uses this one.
export RUSTFLAGS="${RUSTFLAGS:-} --cfg stokehold_fuzzing"
try "build of the fuzz targets" cargo +nightly fuzz build
[ ${#FAILED[@]} -eq 0 ] || finish
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
if [ -n "$merge" ]; then
    : >fuzz/seeds/covered
    for target in "${targets[@]}"; do
        try "merge $target" merge "$target"
    done
    finish
fi

# Two at a time: each has one thread. Their words one after another.
export -f run number
export found bin seconds
begin=$SECONDS
printf '\n--- %d fuzz targets for %d s, two at a time\n' ${#targets[@]} "$seconds"
status=0
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c \
    'set -euo pipefail; out=$(run {} 2>&1) && echo "$out" || { echo "$out"; echo "FAILED: fuzz {}"; exit 1; }' || status=$?
printf -- '--- fuzz: status %d, %d s\n' $status $((SECONDS - begin))
[ $status -eq 0 ] || FAILED+=("fuzz")
finish
