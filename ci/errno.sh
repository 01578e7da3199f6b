#!/usr/bin/env bash
# System calls that fail, one in each life of a pool: see tests/errno/suite.rs.
#
#   ci/errno.sh                        one of each call of each process, and others by a seed: 35 seconds
#   ci/errno.sh --full                 each call, with each error, its first five times: ten minutes
#   STOKEHOLD_SEED=7 ci/errno.sh       the choice of this seed again
source "$(dirname "$0")/common.sh"

seconds=35
[ "${1-}" = --full ] && seconds=all
export STOKEHOLD_ERRNO_SECONDS=${STOKEHOLD_ERRNO_SECONDS-$seconds}
# As the other tests are built: optimised or not, the calls are the same.
try "errno" cargo test --locked --test errno -- --nocapture

finish
