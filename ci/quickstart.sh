#!/usr/bin/env bash
# The README's first command on real files of many sizes; what it prints and writes is compared with sha256sum and
# gunzip, and what it says about the worker that it kills is looked for.
source "$(dirname "$0")/common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/in" "$work/out" "$work/tmp"
export TMPDIR=$work/tmp

quickstart() {
    cargo run --quiet --release --example quickstart -- "$@"
}

# Every edge that a lease has: nothing, one byte, around a cache line, a page, a growth region, and far above.
make_files() {
    local size
    for size in 0 1 63 64 65 447 448 449 4095 4096 4097 65535 65537 4194304 50000000; do
        head -c "$size" /dev/urandom >"$work/in/random $size"
    done
    head -c 20000000 /dev/zero >"$work/in/zeros"
    cp Cargo.lock LICENSE-APACHE "$work/in/"
    cp "${CARGO_TARGET_DIR:-target}/release/examples/quickstart" "$work/in/program"
}

# As the example does it: what follows the last line end is a line as well.
count_lines() {
    local file
    for file in "$@"; do
        LC_ALL=C grep -ac '' "$file" || true
    done
}

compare() {
    make_files
    local log=$work/log
    quickstart --to "$work/out" "$work"/in/* >"$log"
    cat "$log"
    diff <(sed -n 's/^sha256 //p' "$log") <(sha256sum "$work"/in/*)
    diff <(sed -n 's/^lines  \([0-9]*\), streamed one by one$/\1/p' "$log") <(count_lines "$work"/in/*)
    local file count=0
    for file in "$work"/in/*; do
        gunzip -c "$work/out/${file##*/}.gz" | cmp - "$file"
        count=$((count + 1))
    done
    [ "$count" -eq "$(ls "$work/in" | wc -l)" ] && [ "$count" -ge 19 ]
    echo "$count files agree with sha256sum and gunzip"
    local pid
    pid=$(sed -n 's/^worker \([0-9]*\) has a call and hangs in it.*/\1/p' "$log")
    grep -q "^kill -9: worker $pid died (signal 9) after the call had started" "$log"
    grep -q '^next call: "still here"' "$log"
    grep -q '^replaced: ' "$log"
    [ "$(grep -c ' µs ' "$log")" -eq 3 ]
}

# Errors name the file, the others are processed all the same, and the exit status says it.
unreadable() {
    local status=0
    quickstart "$work/none" Cargo.toml "$work/in" /proc/self/stat >"$work/log" 2>"$work/errors" || status=$?
    cat "$work/errors"
    [ $status -eq 1 ]
    grep -q "^quickstart: $work/none: .*No such file" "$work/errors"
    grep -q "^quickstart: $work/in: .*Is a directory" "$work/errors"
    grep -q "^quickstart: /proc/self/stat: " "$work/errors"
    [ "$(sed -n 's/^sha256 //p' "$work/log")" = "$(sha256sum Cargo.toml)" ]
}

without_arguments() {
    quickstart >"$work/log"
    grep -q "^sha256 $(sha256sum README.md | cut -d' ' -f1)  .*README.md$" "$work/log"
}

# A host with a loop of its own: what is known of primes, and what is no number.
event_loop() {
    cargo run --quiet --release --example event_loop -- 10 1000 100000 2000000 none 'list 12' 'list x' \
        >"$work/loop"
    cat "$work/loop"
    diff <(grep -v '^serving' "$work/loop") - <<EOF
10: 4
1000: 168
100000: 9592
2000000: 148933
none: error: not a number
list 12: 2
list 12: 3
list 12: 5
list 12: 7
list 12: 11
list 12: end
list x: error: not a number
EOF
}

# The workers that the last run printed are gone, and so is the note of the one that it killed.
nothing_left() {
    local pid pids
    pids=$(sed -n 's/.*the workers are \[\([0-9, ]*\)\].*/\1/p' "$work/log" | tr -d ',')
    [ -n "$pids" ]
    for pid in $pids; do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != stk-worker ]
    done
    ! ls "$TMPDIR"/stokehold-quickstart-* 2>/dev/null
}

try "build" cargo build --release --example quickstart
try "real files" compare
try "unreadable files" unreadable
try "no file" without_arguments
try "nothing left behind" nothing_left
try "event loop" event_loop

finish
