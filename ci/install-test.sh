#!/usr/bin/env bash
# What a C user gets: installs into an empty directory as the README says, looks at the files, compares everything that is
# said in more than one place, and builds and runs programs against them.
# Functions are called by `try`, which shellcheck does not follow; command lines are made of words.
# shellcheck disable=SC2317,SC2046
# shellcheck source=ci/common.sh
source "$(dirname "$0")/common.sh"

need pkg-config pkg-config || {
    echo "pkg-config is not here and cannot be installed" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/home/.local
archive=$prefix/lib/libstokehold.a
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
unset DESTDIR LD_LIBRARY_PATH CFLAGS
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
IFS=. read -r major minor patch <<<"$version"
shared=$prefix/lib/libstokehold.so.$version
strict=(-std=c11 -Wall -Wextra -Wpedantic -Werror)

wrong() {
    printf 'WRONG: %s\n' "$*"
    return 1
}

# same WHAT A B: one thing as two places have it.
same() {
    if [ -z "$2" ] || [ "$2" != "$3" ]; then
        wrong "$1: \"$2\" and \"$3\""
    fi
    printf '%s: %s\n' "$1" "$2"
}

# Runs a program; its output is in $work/out.
run() {
    local status=0
    timeout -k 5 60 "$@" >"$work/out" 2>&1 || status=$?
    [ "$status" -eq 0 ] || {
        cat "$work/out"
        wrong "$*: status $status"
    }
}

# The shared libraries that a program or library names.
needed() {
    readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p'
}

# What README.md has between ``` of a language, in the section "From C".
readme() {
    awk -v fence="\`\`\`$1" '/^## /{here = $0 == "## From C"} /^```/{on = here && $0 == fence; next} on' README.md
}

# Global and weak symbols that are defined there: visibility, name, in an archive also the member. Not by nm, which reads
# LLVM bitcode where it has a plugin for it, and finds nothing then. --syms also of an archive, --dyn-syms of a library.
symbols() {
    readelf -W "$1" "$2" | awk '
        /^File: / { member = $2; sub(/^.*\(/, "", member); sub(/\)$/, "", member) }
        NF == 8 && $7 != "UND" && ($5 == "GLOBAL" || $5 == "WEAK" || $5 == "UNIQUE") { print $6, $8, member }'
}

installs() {
    "$ROOT/ci/install.sh" "$prefix" >"$work/first"
    tail -n 12 "$work/first"
    same "files" "$(cd "$prefix" && find . ! -type d | LC_ALL=C sort | tr '\n' ' ')" "$(printf './%s ' include/stokehold.h \
        lib/libstokehold.a lib/libstokehold.so "lib/libstokehold.so.$major" "lib/libstokehold.so.$version" \
        lib/pkgconfig/stokehold.pc)"
    same "link" "$(readlink "$prefix/lib/libstokehold.so")" "libstokehold.so.$major"
    same "link" "$(readlink "$prefix/lib/libstokehold.so.$major")" "libstokehold.so.$version"
    same "SONAME" "$(readelf -dW "$shared" | sed -n 's/.*(SONAME).*\[\(.*\)\]$/\1/p')" "libstokehold.so.$major"
    cmp include/stokehold.h "$prefix/include/stokehold.h"
}

# The same again changes nothing; a staged one is the same but for its place, and can be moved.
installs_again() {
    local before after
    before=$(cd "$prefix" && find . -type f -exec sha256sum {} + | sort)
    "$ROOT/ci/install.sh" "$prefix" >"$work/second"
    after=$(cd "$prefix" && find . -type f -exec sha256sum {} + | sort)
    [ "$after" = "$before" ] || wrong "a second time is another: $before; $after"

    (cd "$work" && DESTDIR=$work/stage "$ROOT/ci/install.sh" /opt/stokehold/ >"$work/fourth")
    same "staged prefix" "$(PKG_CONFIG_PATH=$work/stage/opt/stokehold/lib/pkgconfig pkg-config --variable=prefix stokehold)" /opt/stokehold
    mv "$work/stage/opt/stokehold" "$work/moved"
    same "moved" "$(PKG_CONFIG_PATH=$work/moved/lib/pkgconfig pkg-config --define-prefix --variable=includedir stokehold)" "$work/moved/include"

    (cd "$work" && "$ROOT/ci/install.sh" relative/there >"$work/third")
    same "relative prefix" "$(PKG_CONFIG_PATH=$work/relative/there/lib/pkgconfig pkg-config --variable=prefix stokehold)" "$work/relative/there"

    local bad
    for bad in "" --help "$work/white space"; do
        "$ROOT/ci/install.sh" "$bad" >"$work/refused" 2>&1 && wrong "a prefix of \"$bad\" was taken"
        grep -E '^(usage|install): ' "$work/refused"
    done
}

sizes() {
    local file found
    for file in "$archive" "$shared"; do
        printf '%s: %d KiB\n' "${file##*/}" $(($(stat -c %s "$file") / 1024))
        # Names of sections, not of functions that have these words in them.
        found=$(readelf -SW "$file" | sed -n 's/^ *\[ *[0-9]*\] \(\.debug[^ ]*\|\.rela\.debug[^ ]*\|\.llvmbc\|\.llvmcmd\|\.gnu\.lto[^ ]*\) .*/\1/p' | sort | uniq -c)
        [ -z "$found" ] || wrong "$file has sections that are of no use: $found"
    done
}

# Exactly what is listed, and of the archive besides: what has a mangled name, and what Rust's own library brings.
exports() {
    symbols --dyn-syms "$shared" | cut -d' ' -f2 | LC_ALL=C sort >"$work/exported"
    diff c-api/symbols.txt "$work/exported" || wrong "the shared library does not export what c-api/symbols.txt says (<)"

    # _ZN and _R are Rust's mangled names.
    symbols --syms "$archive" | grep -vE '^[A-Z]+ (_ZN|_R)' | LC_ALL=C sort -u >"$work/plain"
    # Seen from outside: ours, and the personality routine.
    grep '^DEFAULT ' "$work/plain" | cut -d' ' -f2 | grep -vx rust_eh_personality >"$work/visible" || true
    diff c-api/symbols.txt "$work/visible" || wrong "the archive does not define what c-api/symbols.txt says (<)"
    # Seen only within what is linked: compiler-builtins (arithmetic, in Rust and in C), and what the compiler shares
    # between its units.
    ! grep -v '^DEFAULT ' "$work/plain" | grep -vE \
        -e '^HIDDEN [^ ]+ compiler_builtins-[^ ]*$' -e '^HIDDEN __[a-z0-9_]+ [0-9a-f]+-[a-z0-9_]+\.o$' \
        -e '^HIDDEN DW\.ref\.rust_eh_personality ' -e '^HIDDEN anon\.[0-9a-f.]+llvm\.[0-9]+ ' ||
        wrong "the archive defines more"
    printf '%d functions; %d hidden names of the compiler in the archive\n' \
        "$(wc -l <c-api/symbols.txt)" "$(grep -vc '^DEFAULT ' "$work/plain")"
}

cat >"$work/version.c" <<'END'
#include <stdio.h>
#include <stokehold.h>
int main(void)
{
    printf("%s %d.%d.%d %u.%u.%u %s\n", STK_VERSION, STK_VERSION_MAJOR, STK_VERSION_MINOR, STK_VERSION_PATCH,
           (unsigned)(stk_version() / 1000000), (unsigned)(stk_version() / 1000 % 1000), (unsigned)(stk_version() % 1000),
           stk_version_text());
    return 0;
}
END

versions() {
    local text numbers at_run_time as_text
    cc "${strict[@]}" "$work/version.c" $(pkg-config --cflags --libs stokehold) "-Wl,-rpath,$prefix/lib" -o "$work/version"
    run "$work/version"
    read -r text numbers at_run_time as_text <"$work/out"
    same "both packages" "$version" "$(sed -n 's/^version = "\(.*\)"/\1/p' c-api/Cargo.toml | head -n 1)"
    same "package that the C interface asks for" "$version" "$(sed -n 's/^stokehold = .*version = "\([^"]*\)".*/\1/p' c-api/Cargo.toml)"
    same "STK_VERSION" "$version" "$text"
    same "STK_VERSION_MAJOR, _MINOR, _PATCH" "$major.$minor.$patch" "$numbers"
    same "stk_version()" "$version" "$at_run_time"
    same "stk_version_text()" "$version" "$as_text"
    same "first line of the header" "$version" "$(sed -n '1s/^.* stokehold \([^:]*\):.*/\1/p' include/stokehold.h)"
    same "stokehold.pc" "$version" "$(pkg-config --modversion stokehold)"
    same "name of the library" "libstokehold.so.$version" "$(basename "$(readlink -f "$prefix/lib/libstokehold.so")")"
}

# What the archive needs besides: asked of the compiler once more, for the archive alone.
native_libraries() {
    local asked
    asked=$(cargo rustc --locked -p stokehold-c --lib --profile archive --target-dir "${CARGO_TARGET_DIR:-target}/install" \
        --crate-type staticlib -- --print native-static-libs 2>&1 | sed -n 's/^note: native-static-libs: *//p')
    same "stokehold.pc, Libs.private" "$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/stokehold.pc")" "$asked"
    same "stokehold.pc, with --static" \
        "$(pkg-config --static --libs stokehold | sed 's/ *$//')" "$(pkg-config --libs stokehold | sed 's/ *$//') $asked"
    same "README" "$(readme sh | sed -n 's/^cc .*--variable=archive stokehold) \(.*\) -o .*/\1/p')" "$asked"
    same "ci/bench-c.sh" "$(sed -n 's/^ *[^ ]*libstokehold_c\.a"\{0,1\} \(.*\) -o .*/\1/p' ci/bench-c.sh)" "$asked"
    same "what the installer says" "$(sed -n 's/^static: .*libstokehold\.a //p' "$work/first")" "$asked"
}

single_says() {
    if ! grep -qx '2 + 3 = 5' "$work/out" ||
        ! grep -qE '^crash: worker [0-9]+ died \(signal 6\) after the call had started$' "$work/out"; then
        cat "$work/out"
        wrong "$1 said something else"
    fi
}

examples() {
    local language flags libs
    read -r -a libs <<<"$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/stokehold.pc")"
    for language in c11 c++17; do
        # In C++ what a designated initializer leaves out is worth a warning, and they are an extension before C++20.
        flags=(-x c++ -std=c++17 -Wall -Werror)
        [ "$language" = c++17 ] || flags=(-x c "${strict[@]}")
        c++ "${flags[@]}" -c c-api/examples/single.c $(pkg-config --cflags stokehold) -o "$work/$language.o"
        c++ "$work/$language.o" $(pkg-config --libs stokehold) -o "$work/$language-shared"
        c++ "$work/$language.o" "$(pkg-config --variable=archive stokehold)" "${libs[@]}" -o "$work/$language-static"
        needed "$work/$language-shared" | grep -qx "libstokehold.so.$major" || wrong "$language-shared does not need the library"
        ! needed "$work/$language-static" | grep stokehold || wrong "$language-static needs the library"
        run env LD_LIBRARY_PATH="$prefix/lib" "$work/$language-shared"
        single_says "$language-shared"
        run "$work/$language-static"
        single_says "$language-static"
        # As the shared library may be absent where the static program runs.
        ! "$work/$language-shared" >/dev/null 2>&1 || wrong "$language-shared found a library that is not ours"
        echo "$language: shared and static"
    done
    # Two programs with the archive in each, of which one is the other's.
    cc "${strict[@]}" c-api/examples/helper.c $(pkg-config --cflags stokehold) "$archive" "${libs[@]}" -o "$work/helper"
    cc "${strict[@]}" c-api/examples/plugin.c $(pkg-config --cflags stokehold) "$archive" "${libs[@]}" -o "$work/plugin"
    run "$work/plugin" "$work/helper"
    same "plugin and helper" "$(cat "$work/out")" "hello stoker, 6 letters"
    # A static host with a helper that has the shared library.
    cc "${strict[@]}" c-api/examples/helper.c $(pkg-config --cflags --libs stokehold) "-Wl,-rpath,$prefix/lib" -o "$work/helper-shared"
    run "$work/plugin" "$work/helper-shared"
    same "plugin, and helper with the shared library" "$(cat "$work/out")" "hello stoker, 6 letters"
}

cat >"$work/other.rs" <<'END'
use std::collections::HashMap;

/// 42, by way of much of std and a panic that is caught.
#[unsafe(no_mangle)]
pub extern "C" fn other_answer(number: u32) -> u32 {
    std::panic::set_hook(Box::new(|_| ()));
    let map: HashMap<String, u32> = (0..number).map(|n| (format!("{n}"), n)).collect();
    let caught = std::panic::catch_unwind(|| map.get("none").copied().expect("not there"));
    if caught.is_err() { map["42"] } else { 0 }
}
END
cat >"$work/both.c" <<'END'
#include <stdint.h>
extern uint32_t other_answer(uint32_t number);
extern int host_main(void);
int main(void)
{
    int status = host_main();
    return status ? status : other_answer(43) != 42;
}
END

# Beside another Rust archive, in one program: of the same compiler, and of others that are at hand. This is what LTO, or
# a strong rust_eh_personality, would make impossible.
beside_another() {
    local libs toolchain order built=0
    read -r -a libs <<<"$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/stokehold.pc")"
    cc -std=c11 -Dmain=host_main -c c-api/examples/single.c $(pkg-config --cflags stokehold) -o "$work/host_main.o"
    for toolchain in "" "$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)" nightly; do
        if [ -n "$toolchain" ] && ! rustup toolchain list 2>/dev/null | grep "^$toolchain" >/dev/null; then
            skip "an archive of rustc $toolchain" "that toolchain is not installed"
            continue
        fi
        rustc ${toolchain:+"+$toolchain"} --edition 2024 --crate-type staticlib -O "$work/other.rs" -o "$work/libother.a" 2>"$work/out" || {
            cat "$work/out"
            wrong "no second archive"
        }
        for order in "$archive $work/libother.a" "$work/libother.a $archive"; do
            # shellcheck disable=SC2086 # two words
            cc "$work/both.c" "$work/host_main.o" $order "${libs[@]}" -o "$work/both"
            run "$work/both"
            single_says "a program with two archives"
        done
        built=$((built + 1))
        echo "beside an archive of rustc ${toolchain:-of the same version}"
    done
    [ "$built" -ge 1 ]
}

# The README's commands, each as it stands there, on the README's program. $HOME is another, cargo's is not.
readme_program() {
    mkdir -p "$work/readme" "$work/readme-home"
    readme c >"$work/readme/host.c"
    readme sh | sed "s|^ci/|$ROOT/ci/|" >"$work/readme/commands"
    grep -q '^int main' "$work/readme/host.c" || wrong "README.md has no program in C"
    same "commands to build it" "$(grep -c '^cc ' "$work/readme/commands")" 2
    cc "${strict[@]}" $(pkg-config --cflags stokehold) -c "$work/readme/host.c" -o "$work/readme/strict.o"
    # Its own installation, so that it is seen to work without ours.
    (
        export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
        export HOME=$work/readme-home
        unset PKG_CONFIG_PATH
        cd "$work/readme"
        bash -euxo pipefail ./commands >"$work/out" 2>&1 || {
            cat "$work/out"
            wrong "the README's commands"
        }
    )
    local program
    for program in host-shared host-static; do
        run "$work/readme/$program"
        same "$program" "$(cat "$work/out")" "stokehold $version: 2 + 3 = 5"
    done
    needed "$work/readme/host-shared" | grep -qx "libstokehold.so.$major" || wrong "host-shared does not need the library"
    ! needed "$work/readme/host-static" | grep stokehold || wrong "host-static needs the library"
}

try "installs" installs
try "installs again" installs_again
try "sizes" sizes
try "exports" exports
try "versions" versions
try "native libraries" native_libraries
try "examples" examples
try "beside another Rust archive" beside_another
try "the README's program" readme_program

finish
