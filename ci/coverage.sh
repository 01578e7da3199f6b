#!/usr/bin/env bash
# Line and branch coverage of the rooms that read what others wrote: wire, ring, shm. By the unit and property tests, the seeds
# of the fuzz targets, and the fault tests, whose processes count into one mapping, so that one that is killed has counted.
#
#   ci/coverage.sh             a table, a line a file
#   ci/coverage.sh --missing   and each branch that nothing took, with its line
#   ci/coverage.sh --quick     without the fault tests
#
# What is counted is the code above a file's own tests.
source "$(dirname "$0")/common.sh"

rooms="wire ring shm" missing='' quick=''
for option in "$@"; do
    case $option in
        --missing) missing=1 ;;
        --quick) quick=1 ;;
        *) echo "ci/coverage.sh [--missing] [--quick]" && exit 2 ;;
    esac
done
if ! nightly; then
    skip "coverage" "no nightly toolchain"
    exit 0
fi
host=$(nightly_host)
tools=$(rustc +nightly --print sysroot)/lib/rustlib/$host/bin
[ -x "$tools/llvm-cov" ] || rustup component add --toolchain nightly llvm-tools >/dev/null 2>&1 </dev/null || true
if [ ! -x "$tools/llvm-cov" ] || [ ! -x "$tools/llvm-profdata" ]; then
    skip "coverage" "no llvm-tools for the nightly toolchain"
    exit 0
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}/coverage
out=$CARGO_TARGET_DIR/report
rm -rf "$out"
mkdir -p "$out"
flags="-C instrument-coverage -Z coverage-options=branch -C llvm-args=-runtime-counter-relocation"
objects=()

# The program that a build made, by what cargo says of it.
made() { # name, log
    sed -n "s/.*\"executable\":\"\([^\"]*\/$1[^\"/]*\)\".*/\1/p" "$2" | head -n 1
}

build() { # log, arguments of cargo
    # What runs while it builds counts nowhere.
    RUSTFLAGS=$flags LLVM_PROFILE_FILE=/dev/null cargo +nightly "${@:2}" --message-format=json >"$out/$1.json" 2>"$out/$1.log" || {
        tail -n 30 "$out/$1.log"
        return 1
    }
}

unit_tests() {
    PROPTEST_CASES=256 LLVM_PROFILE_FILE="$out/unit-%m%c.profraw" "$(made stokehold "$out/unit.json")" >"$out/unit.out" 2>&1 ||
        { tail -n 30 "$out/unit.out"; return 1; }
    tail -n 2 "$out/unit.out"
}

fault_tests() {
    # Some fail by the time that counting takes: what ran has counted.
    LLVM_PROFILE_FILE="$out/faults-%m%c.profraw" timeout 900 "$(made faults "$out/faults.json")" >"$out/faults.out" 2>&1 ||
        echo "note: $(grep -c '^test .*FAILED' "$out/faults.out") fault tests failed or did not end; they are judged elsewhere"
    tail -n 2 "$out/faults.out"
}

fuzz_seeds() {
    local target program
    for target in frame tlv memory handshake session capi; do
        [ -d "fuzz/seeds/$target" ] || continue
        program=$(made "$target" "$out/fuzz.json")
        LLVM_PROFILE_FILE="$out/fuzz-$target-%m%c.profraw" "$program" fuzz/seeds/"$target"/* >"$out/fuzz-$target.out" 2>&1 ||
            { tail -n 30 "$out/fuzz-$target.out"; return 1; }
    done
}

try "build, unit tests" build unit test --locked -p stokehold --lib --no-run
[ -n "$quick" ] || try "build, fault tests" build faults test --locked -p stokehold --test faults --no-run
flags="$flags --cfg fuzzing --cfg stokehold_fuzzing" try "build, fuzz targets" build fuzz build --manifest-path fuzz/Cargo.toml
try "unit tests" unit_tests
try "fuzz seeds" fuzz_seeds
[ -n "$quick" ] || try "fault tests" fault_tests

for name in unit:stokehold faults:faults fuzz:frame fuzz:tlv fuzz:memory fuzz:handshake fuzz:session fuzz:capi; do
    [ -e "$out/${name%:*}.json" ] || continue
    program=$(made "${name#*:}" "$out/${name%:*}.json")
    [ -z "$program" ] || objects+=(-object "$program")
done
"$tools/llvm-profdata" merge --sparse -o "$out/all.profdata" "$out"/*.profraw
"$tools/llvm-cov" export --format=lcov -instr-profile "$out/all.profdata" "${objects[@]}" >"$out/lcov" 2>"$out/llvm-cov.log" ||
    { tail "$out/llvm-cov.log"; exit 1; }

# A line of `lcov` is DA:line,count or BRDA:line,block,branch,count; one source line can come several times, once for each type
# that a generic function is used with. It counts as taken if any of them was.
printf '\n%-28s %14s %8s %14s %8s\n' file lines '' branches ''
# shellcheck disable=SC2016 # awk's, not the shell's
awk -v root="$ROOT/" -v rooms="$rooms" -v missing="$missing" '
function tests_begin(file, name,    line, n) {
    n = 0
    while ((getline line < file) > 0) {
        n++
        # Switches of sabotage builds: constants here.
        if (line ~ /sabotage::on/) constant[name, n] = 1
        if (line ~ /^#\[cfg\((test|all\(test.*)\)\]/) { close(file); return n }
    }
    close(file)
    return 1e9
}
/^SF:/ {
    path = substr($0, 4)
    inside = 0
    name = path
    if (index(name, root) == 1) {
        name = substr(name, length(root) + 1)
        split(name, part, "/")
        if (part[1] == "src" && index(" " rooms " ", " " part[2] " ") && name !~ /\/tests(\/|\.rs)|stress\.rs|hostile\.rs|sabotage\.rs/) {
            inside = 1
            if (!(name in from)) { from[name] = tests_begin(path, name); order[++files] = name }
        }
    }
}
inside && /^DA:/ {
    split(substr($0, 4), f, ",")
    if (f[1] < from[name]) { line[name, f[1]] += f[2]; lines[name, f[1]] = 1 }
}
inside && /^BRDA:/ {
    split(substr($0, 6), f, ",")
    if (f[1] < from[name] && !((name, f[1]) in constant)) { key = name SUBSEP f[1] SUBSEP f[2] SUBSEP f[3]; branch[key] += (f[4] == "-" ? 0 : f[4]) }
}
function row(what, l, lt, b, bt) {
    printf "%-28s %6d of %5d %7.2f%% %6d of %5d %7.2f%%\n", what, l, lt, lt ? 100 * l / lt : 100, b, bt, bt ? 100 * b / bt : 100
}
END {
    for (key in lines) { split(key, k, SUBSEP); lt[k[1]]++; if (line[key] > 0) l[k[1]]++ }
    for (key in branch) {
        split(key, k, SUBSEP); bt[k[1]]++
        if (branch[key] > 0) b[k[1]]++
        else if (missing != "") gone[k[1]] = gone[k[1]] sprintf("      %s:%d, %s\n", k[1], k[2], k[4] % 2 ? "never false" : "never true")
    }
    for (i = 1; i <= files; i++) {
        name = order[i]; split(name, part, "/"); room = part[2]
        row(name, l[name], lt[name], b[name], bt[name])
        printf "%s", gone[name]
        L[room] += l[name]; LT[room] += lt[name]; B[room] += b[name]; BT[room] += bt[name]
    }
    n = split(rooms, all, " ")
    for (i = 1; i <= n; i++) { row("coverage " all[i], L[all[i]], LT[all[i]], B[all[i]], BT[all[i]]); if (!BT[all[i]]) empty = 1 }
    exit empty
}' "$out/lcov"
finish
