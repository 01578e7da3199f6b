#!/usr/bin/env bash
# Breaks one check or one ordering at a time and demands that the named model goes red. One build; one switch a run
# (`src/ring/sabotage.rs`), two runs at a time. What each switch breaks, and why: docs/protocol.md.
#
# It fails as well if a model is red without a switch, if a switch of the sources is not in the list, or if a model
# is in no line of it: then that one never proved that it can fail.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg loom --cfg sabotage" LOOM_MAX_PREEMPTIONS=2
test=(cargo test --release --test loom --no-default-features)
"${test[@]}" --no-run
binary=$("${test[@]}" --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\)).*/\1/p')
logs=$CARGO_TARGET_DIR/logs
rm -rf "$logs"
mkdir -p "$logs"

# The same build with no switch chosen, unless ci/loom.sh has just seen it green.
if [ "$(sha256sum "$binary")" = "$(cat target/loom/green 2>/dev/null)" ]; then
    echo "without a switch: green in ci/loom.sh" | tee "$logs/none.log"
elif ! "$binary" --test-threads 2 >"$logs/none.log" 2>&1; then
    grep -E '^test .* FAILED|panicked' "$logs/none.log" || tail -5 "$logs/none.log"
    echo "sabotage: a model is red without a switch"
    exit 1
fi
grep '^test result' "$logs/none.log" || true

# A line for one switch. Red is a failed test: not a time-out, and not a test that does not exist.
one() {
    local log=$logs/$1-$2.log status=0
    STOKEHOLD_SABOTAGE=$1 timeout 60 "$binary" "$2" >"$log" 2>&1 || status=$?
    if [ $status -eq 0 ]; then
        echo "sabotage $1: NOT NOTICED by $2"
    elif [ $status -eq 101 ] && grep -q "^test .*$2.* FAILED" "$log"; then
        echo "sabotage $1: red in $2"
    else
        echo "sabotage $1: NO VERDICT of $2 (status $status)"
    fi
}
export -f one
export binary logs

grep -Ev '^(#|$)' >"$logs/switches" <<'SWITCHES'
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
blindclaim take_line_and_take_and_cancel
nobump f8_a_stale_handle
anygeneration f8_generations_differ
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
lateresult result_word_is_of_its_own
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
headstore f10_a_slow_worker
narrowhead f10_a_head_that_went
# parking
nofence_hint park_and_submit
nofence_park park_and_submit
wakefirst park_and_submit
lateload park_and_submit
idlelate park_and_submit
norecheck_w park_and_submit
nofence_doorbell_ring park_and_submit
nofence_doorbell_sleep park_and_submit
claimidle hot_line_keeps
assumetaken hot_line_is_taken
norepair f3_a_token_that_a_worker
ringone f3_a_token_that_a_client
# pending bits
nofence_submit pending_is_not_cleared
norecheck_p pending_is_not_cleared
nofence_pending pending_is_not_cleared
bitsrelaxed pending_of_a_tick
nosetbackring f11_a_bit_that_was_away_hides
nosetbackring f11_whole
setbackringsone f11_a_bit_that_was_away_is_made
nofence_setback f11_a_bit_that_was_away_hides
# bell
nofence_bell_pub bell_of_a_result
nofence_bell_wait bell_of_a_result
ringfirst bell_of_a_result
sleeperclears bell_is_shared
quietcancel f6_a_cancel
trustflag f13_a_ringer
# alarm
nofence_alarm_ask alarm_is_set_for_a_call
nofence_alarm_rest alarm_is_set_for_a_call
alarmsetonce alarm_of_two_threads
# event descriptor
nofence_arm armed_client_misses
nofence_bell_pub armed_client_misses
drainlate armed_client_misses
norecheck_arm armed_client_misses
nofence_bell_pub armed_flag_is_taken_by_one
noeventring armed_flag_that_a_dead_worker
listblind armed_waiter_hears
foundquiet armed_waiter_is_woken
nofence_arm armed_client_misses_no_item
nofence_bell_pub armed_client_misses_no_item
drainlate armed_client_misses_no_item
armblind armed_client_misses_no_item
norecheck_armed armed_client_sees_the_end
listblind armed_waiter_hears_of_items
# streams
streamtailrelaxed stream_is_complete
streamlookrelaxed stream_is_complete
streamtailfirst stream_is_complete
streamnofull stream_is_complete
norecheck_stream stream_is_complete
streamnobell stream_is_complete
streamquiet stream_is_complete
streamlateflag stream_is_complete
nofence_bell_pub stream_is_complete
nofence_bell_wait stream_is_complete
streamheadrelaxed stream_item_stays
streamheadearly stream_item_stays
streamhoard stream_window_opens
streamlatedrop stream_item_that_another
norecheck_stream stream_of_a_dead_worker
streamblindroom f6_a_producer
quietcancel f6_a_producer
streamackfrees f1_a_cancelled_stream
streamlostlease f1_a_cancelled_stream
streamoverrelaxed f1_a_cancelled_stream
streamanykey stream_is_found
streamattachrelaxed stream_is_found
streamplacerelaxed stream_is_found
streamplacestays stream_is_found
norecheck_stream stream_is_found
sleeperclears stream_of_each_direction
streamnobell stream_of_each_direction
# close, lanes
sweepfirst f4_a_closing_pool
checkfirst f4_a_closing_pool
nofence_submit f4_a_closing_pool
nofence_close f4_a_closing_pool
noepoch f9_a_worker
epochonce f9_a_worker
SWITCHES
xargs -P 2 -L 1 bash -c 'one "$0" "$1"' <"$logs/switches" | tee "$logs/verdicts"

passed=$(grep -c ': red in ' "$logs/verdicts" || true)
failed=$(($(wc -l <"$logs/switches") - passed))
for switch in $(grep -ohE '\b(on|order|full_fence|sabotaged)\("[a-z_]+"' src/ring/*.rs tests/loom/*.rs | sed 's/.*("//;s/"//' | sort -u); do
    if ! grep -q "^$switch " "$logs/switches"; then
        echo "sabotage $switch: NOT IN THE LIST"
        failed=$((failed + 1))
    fi
done
for model in $("$binary" --list | sed -n 's/.*::\(.*\): test$/\1/p'); do
    red=no
    while read -r _ named; do
        case $model in "$named"*) red=yes ;; esac
    done <"$logs/switches"
    if [ $red = no ]; then
        echo "sabotage: $model was NEVER RED"
        failed=$((failed + 1))
    fi
done
echo "sabotage: $passed passed, $failed failed"
[ "$failed" = 0 ]
