#!/usr/bin/env bash
# Breaks one thing at a time in the whole program, and demands that the law of conservation is found broken: by the storm, or
# where words of a lane are forged (tests/storm). One build; one switch a run (`src/ring/sabotage.rs`). What takes no process
# to be noticed is for the models: ci/loom-sabotage.sh. docs/protocol.md says which is where.
#
# It fails as well if a run without a switch is red, or if a switch of the sources is not in the list.
source "$(dirname "$0")/common.sh"

# Not what we depend on: that is built already.
export RUSTC_WORKSPACE_WRAPPER=$ROOT/ci/sabotage-rustc.sh
build=(cargo test --release --locked --test storm --no-run)
"${build[@]}"
binary=$("${build[@]}" 2>&1 | sed -n 's/.*Executable .*(\(.*\)).*/\1/p')
logs=target/sabotage
rm -rf "$logs"
mkdir -p "$logs"
# Deaths of a storm that ends with the first season that is red, and how long something that never comes is waited for.
export STOKEHOLD_STORM_DEATHS=200 STOKEHOLD_STORM_PATIENCE_MS=5000

run() {
    STOKEHOLD_SABOTAGE=$1 timeout 120 "$binary" "$2" --nocapture >"$logs/$1-$2.log" 2>&1
}

# Switch, test, and the law that has to be found broken there.
SWITCHES='
skiprepair a_storm C7
nobeginrecord a_storm C2
reusefenced a_storm C3
anyrequest b5_a_call_that_nobody_sent C2
anyresult b5_a_result_of_another_call C3
'

passed=0 failed=0
while read -r test; do
    if STOKEHOLD_STORM_PATIENCE_MS=40000 run none "$test"; then
        echo "sabotage: $test is green without a switch"
    else
        echo "sabotage: $test is RED WITHOUT A SWITCH"
        tail -n 5 "$logs/none-$test.log"
        failed=$((failed + 1))
    fi
done < <(awk 'NF { print $2 }' <<<"$SWITCHES" | sort -u)
while read -r switch test law; do
    [ -n "$switch" ] || continue
    status=0
    run "$switch" "$test" || status=$?
    log=$logs/$switch-$test.log
    if [ $status -eq 101 ] && grep -aq "^test .*$test.* FAILED" "$log" && grep -aq "^${law}[:/]" "$log"; then
        echo "sabotage $switch: red in $test: $(grep -a "^${law}[:/]" "$log" | head -n 1 | cut -c-100)"
        passed=$((passed + 1))
    else
        echo "sabotage $switch: NOT NOTICED by $test (status $status)"
        failed=$((failed + 1))
    fi
done <<<"$SWITCHES"
for switch in $(grep -rohE 'sabotage::on\("[a-z_]+"' src --include='*.rs' --exclude-dir=ring | sed 's/.*("//;s/"//' | sort -u); do
    if ! grep -q "^$switch " <<<"$SWITCHES"; then
        echo "sabotage $switch: NOT IN THE LIST"
        failed=$((failed + 1))
    fi
done
echo "sabotage: $passed passed, $failed failed"
[ "$failed" = 0 ]
