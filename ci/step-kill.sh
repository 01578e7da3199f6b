#!/bin/sh
# SIGKILL after every instruction of the data plane's routines, for worker and client; see tests/step_kill/main.rs.
#
#   ci/step-kill.sh                             all paths, the long ones at a thousand positions: about 3 minutes
#   ci/step-kill.sh --full                      every position of every path: about 10 minutes
#   ci/step-kill.sh --only worker-idle --at 317 one kill point again
set -eu
cd "$(dirname "$0")/.."
# Optimised, as it is used; the paths of an unoptimised build are ten times as long.
exec cargo test --release --locked --test step_kill -- "$@"
