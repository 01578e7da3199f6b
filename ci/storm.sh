#!/usr/bin/env bash
# Kills, stops and squeezes by a seeded plan, and the law of conservation over what everybody wrote down; see
# tests/storm/main.rs.
#
#   ci/storm.sh                        1,000 deaths: one to two minutes
#   ci/storm.sh --full                 50,000
#   STOKEHOLD_SEED=7 ci/storm.sh       the plan of this seed again
source "$(dirname "$0")/common.sh"

deaths=1000
[ "${1-}" = --full ] && deaths=50000
export STOKEHOLD_STORM_DEATHS=${STOKEHOLD_STORM_DEATHS-$deaths}
try "storm of $STOKEHOLD_STORM_DEATHS" cargo test --release --locked --test storm -- --nocapture

finish
