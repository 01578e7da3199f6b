#!/bin/sh
# The ring room under the model checker: every interleaving of small systems with at most two preemptions.
# `ci/loom.sh full` allows three, and runs the models that take minutes as well.
#
# The build is that of ci/loom-sabotage.sh, with no switch chosen, which then need not look for itself whether all is
# green; `full` has one without switches.
set -eu
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg loom --cfg sabotage" LOOM_MAX_PREEMPTIONS=2
unset STOKEHOLD_SABOTAGE
ignored=
green=target/loom/green
rm -f "$green"
if [ "${1:-}" = full ]; then
    RUSTFLAGS="--cfg loom"
    LOOM_MAX_PREEMPTIONS=3
    ignored=--include-ignored
fi
log=target/loom/models.log
mkdir -p target/loom
status=0
cargo test --release --test loom --no-default-features -- --nocapture --test-threads 2 $ignored >"$log" 2>&1 || status=$?
# loom is silent about how much it looked at; a model that explored nothing proves nothing.
grep -E '^model |^test |^error|panicked|^test result' "$log" || cat "$log"
models=$(grep -cE 'model .*: [0-9]+ executions' "$log" || true)
if [ "$status" = 0 ] && [ "$models" -lt 20 ]; then
    echo "only $models models explored anything"
    status=1
fi
if [ "$status" = 0 ] && [ "${1:-}" != full ]; then
    sha256sum "$(sed -n 's/.*Running .*(\(.*\)).*/\1/p' "$log" | head -n 1)" >"$green"
fi
exit "$status"
