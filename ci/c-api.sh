#!/usr/bin/env bash
# The C programs of c-api/, with each compiler, each way to link, and under the tools that see what a compiler does not:
# AddressSanitizer with leak detection, UBSan, valgrind's memcheck. Each tool must find planted faults first.
# `cargo test` has run them once already, with `cc` and a static library without optimisation.
#
#   ci/c-api.sh             each compiler, way to link and tool in some pair
#   ci/c-api.sh --full      all combinations
source "$(dirname "$0")/common.sh"

# programs NAME [VARIABLE=VALUE…]
programs() {
    local name=$1
    shift
    try "$name" env "$@" cargo test --quiet --release -p stokehold-c --test programs
}

need gcc gcc && need g++ g++ || true
need clang clang && need clang++ clang || true
sanitized="-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"

try "build" cargo test --release -p stokehold-c --test programs --no-run

for compilers in "gcc g++" "clang clang++"; do
    read -r cc cxx <<<"$compilers"
    if ! command -v "$cc" >/dev/null; then
        skip "$cc" "not here, and cannot be installed"
        continue
    fi
    for link in static shared; do
        pair="$cc $link"
        if [ "${1-}" = --full ] || [ "$pair" = "gcc shared" ] || [ "$pair" = "clang static" ]; then
            programs "$cc, $link" STOKEHOLD_CC="$cc" STOKEHOLD_CXX="$cxx" STOKEHOLD_LINK=$link STOKEHOLD_CFLAGS=-O2
        fi
        if [ "${1-}" = --full ] || [ "$pair" = "gcc static" ] || [ "$pair" = "clang shared" ]; then
            programs "$cc, $link, sanitized" STOKEHOLD_CC="$cc" STOKEHOLD_CXX="$cxx" STOKEHOLD_LINK=$link \
                STOKEHOLD_CFLAGS="$sanitized" STOKEHOLD_ARMED=address
        fi
    done
done

# The host's side: what is exec'd from it, arbiter and workers, runs without valgrind (c-api/tests/c/memcheck.c).
if ! need valgrind valgrind; then
    skip "valgrind" "not here, and cannot be installed"
elif [ "$(uname -m)" != x86_64 ]; then
    skip "valgrind" "memcheck.c makes system calls as x86-64 does"
else
    programs "valgrind" STOKEHOLD_CFLAGS=-g STOKEHOLD_ARMED=valgrind \
        STOKEHOLD_RUNNER="valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
--errors-for-leak-kinds=definite --child-silent-after-fork=yes --fair-sched=yes"
fi

finish
