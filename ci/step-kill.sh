#!/usr/bin/env bash
# SIGKILL after every instruction of the data plane's routines, for worker and client; see tests/step_kill/main.rs.
#
#   ci/step-kill.sh                               every position, of the long paths a thousand: three to five minutes
#   ci/step-kill.sh -- --full                     every position of every path: about ten minutes
#   ci/step-kill.sh -- --only worker-idle --at 317      one kill point again
source "$(dirname "$0")/common.sh"

[ "${1-}" = -- ] && shift
[ $# -gt 0 ] || set -- --every
# Optimised, as it is used; the paths of an unoptimised build are ten times as long.
try "step-kill" cargo test --release --locked --test step_kill -- "$@"

finish
