#!/bin/sh
# Breaks one check or one ordering at a time and demands that the named model goes red. One build, one switch a
# run (`src/ring/sabotage.rs`). Switches that change nothing are not in the list: docs/protocol.md names them.
set -eu
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=target/loom-sabotage RUSTFLAGS="--cfg loom --cfg sabotage" LOOM_MAX_PREEMPTIONS=2
cargo test --release --test loom --no-default-features --no-run
binary=$(cargo test --release --test loom --no-default-features --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\)).*/\1/p')
log=$CARGO_TARGET_DIR/sabotage.log

# Unbroken, every named model is green; otherwise red would mean nothing. (ci/loom.sh runs the same models.)
passed=0
failed=0
while read -r switch test; do
    case $switch in '' | '#'*) continue ;; esac
    if STOKEHOLD_SABOTAGE=$switch timeout 60 "$binary" "$test" >"$log" 2>&1; then
        echo "sabotage $switch: NOT NOTICED by $test"
        failed=$((failed + 1))
    elif grep -q "^test .*$test.* FAILED" "$log"; then
        echo "sabotage $switch: red in test $test"
        passed=$((passed + 1))
    else
        echo "sabotage $switch: no verdict of $test"
        tail -3 "$log"
        failed=$((failed + 1))
    fi
done <<'SWITCHES'
# the call word
noloop word_has_one_outcome
nofence word_has_one_outcome
blinddone word_has_one_outcome
blindcancel word_has_one_outcome
readfirst word_has_one_outcome
ackrelaxed word_has_one_outcome
noreclaimloop word_of_a_dead_client
publishrelaxed word_hands_the_request_over
claimrelaxed word_hands_the_request_over
nobump f8_a_stale_handle
# incarnations and repair
noinc repair_leaves_the_next
earlyrepair repair_waits_for_the_pidfd
beginlate f5_a_death
lostoverdone f5_a_death
nodonering f5_a_death
# result block
donerelaxed block_is_complete
releaserelaxed block_is_complete
lookrelaxed block_is_complete
earlyfree block_is_complete
ackfrees f1_an_acknowledged
# submit ring
tailrelaxed submit_shows_the_entry
lateslot submit_shows_the_entry
tailfirst submit_shows_the_entry
nostalecheck f2_a_full_ring
nofull f2_dead_entries
popfirst f2_a_full_ring
advancefirst f2_a_full_ring
onelook f10_a_lapped_worker
headrelaxed f10_a_lapped_worker
advancerelaxed f10_a_lapped_worker
narrowhead f10_a_head_that_went
# parking
nofence_submit park_and_submit
nofence_park park_and_submit
lateload park_and_submit
idlelate park_and_submit
norecheck_w park_and_submit
nofence_doorbell_ring park_and_submit
nofence_doorbell_sleep park_and_submit
claimidle hot_line_keeps
norepair f3_a_token_that_a_worker
ringone f3_a_token_that_a_client
# pending bits
norecheck_p pending_is_not_cleared
bitsrelaxed pending_is_not_cleared
nosetbackring f11_a_bit_that_was_away_hides
setbackringsone f11_a_bit_that_was_away_is_made
nofence_setback f11_a_bit_that_was_away_hides
# bell
nofence_bell_pub bell_of_a_result
nofence_bell_wait bell_of_a_result
sleeperclears bell_is_shared
# close, lanes
sweepfirst f4_a_closing_pool
checkfirst f4_a_closing_pool
nofence_close f4_a_closing_pool
noepoch f9_a_worker
epochonce f9_a_worker
SWITCHES
echo "sabotage: $passed passed, $failed failed"
[ "$failed" = 0 ]
