# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: the same environment everywhere, and the words that .ci/run counts.
#
#   try NAME COMMAND…    runs it, prints how long it took; a failure is remembered, the script goes on
#   skip NAME REASON     says that a component did not run; nothing is passed over in silence
#   finish               exits with 1 if anything was remembered

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Apps panic because tests ask them to: backtraces of those would hide the one that counts.
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0 RUST_BACKTRACE=0
ROOT=$PWD
FAILED=()

try() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '\n--- %s: %s\n' "$name" "$*"
    # Not `if "$@"`: that would switch `set -e` off inside functions.
    set +e
    ( set -e; "$@" )
    status=$?
    set -e
    if [ $status -eq 0 ]; then
        printf -- '--- %s: ok, %d s\n' "$name" $((SECONDS - begin))
    else
        printf -- '--- %s: FAILED with status %d, %d s\n' "$name" $status $((SECONDS - begin))
        FAILED+=("$name")
    fi
}

skip() {
    printf 'SKIPPED %s (%s)\n' "$1" "$2"
}

finish() {
    [ ${#FAILED[@]} -eq 0 ] && exit 0
    printf 'FAILED: %s\n' "${FAILED[@]}"
    exit 1
}

# Installs a Debian package for a command that is missing, where that is possible. False if it stays missing.
need() {
    local command=$1 package=$2
    command -v "$command" >/dev/null && return 0
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    { apt-get install -qq -y "$package" || { apt-get update -qq && apt-get install -qq -y "$package"; }; } \
        >/dev/null 2>&1 </dev/null || return 1
    command -v "$command" >/dev/null
}

# Whether there is a nightly toolchain.
nightly() {
    command -v rustup >/dev/null && cargo +nightly --version >/dev/null 2>&1
}

# What it builds for, as its directories are called.
nightly_host() {
    rustc +nightly -vV | sed -n 's/^host: //p'
}
