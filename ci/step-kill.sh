#!/usr/bin/env bash
# SIGKILL after every instruction of the data plane's routines, for worker and client; behind every system call and every
# store to shared memory of what happens seldom, and of what the arbiter does. See tests/step_kill/main.rs.
#
#   ci/step-kill.sh                               each position of submit, claim, publish, take, release, cancel,
#                                                 expire, send and receive; of each other path up to five thousand,
#                                                 of whole streams and of what is long some hundreds, each time
#                                                 others; two paths at a time
#   ci/step-kill.sh --full                        every position of every path: an hour
#   ci/step-kill.sh -- --only worker-idle --at 317      one kill point again
source "$(dirname "$0")/common.sh"

# Optimised, as it is used; the paths of an unoptimised build are ten times as long.
test=(cargo test --release --locked --test step_kill)
if [ "${1-}" = -- ]; then
    shift
    try "step-kill" "${test[@]}" -- "$@"
    finish
fi
share=--every
[ "${1-}" = --full ] && share=--full

# A path waits for its victims as long as they run.
all_paths() {
    local binary log=${CARGO_TARGET_DIR:-target}/step-kill.log
    binary=$("${test[@]}" --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\)).*/\1/p')
    # No path has this name: says whether there can be any.
    "$binary" --only none | grep '^SKIPPED' && return
    # Those that mostly wait for a tick go beside the others.
    local waiting='^arbiter-(tick|late|give-up)$'
    {
        "$binary" --list | sed -n 's/: test$//p' | grep -E "$waiting" | xargs -n 1 "$binary" $share --only &
        "$binary" --list | sed -n 's/: test$//p' | grep -vE "$waiting" | xargs -P 2 -n 1 "$binary" $share --only
        wait
    } | tee "$log" |
        grep --line-buffered -Ev '^$|^running 1|^[01] passed|kill points in [0-9]* s$'
    [ "$(grep -c '^test .* ok$' "$log")" -eq "$("$binary" --list | grep -c ': test$')" ]
    awk '/kill points in [0-9]+ s$/ { kills += $1 } END { print kills " kill points" }' "$log"
}

try "build" "${test[@]}" --no-run
try "step-kill" all_paths

finish
