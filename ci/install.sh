#!/usr/bin/env bash
# Installs the C interface: ci/install.sh PREFIX
#
#   PREFIX/include/stokehold.h                    the manual as well
#   PREFIX/lib/libstokehold.so.0.1.0              and its two links; the name that programs remember is libstokehold.so.0
#   PREFIX/lib/libstokehold.a
#   PREFIX/lib/pkgconfig/stokehold.pc
#
# DESTDIR, if set, is put before PREFIX when files are written, and nowhere else: for those who make packages. Needs Rust
# and what comes with a C compiler (cc, objcopy). Running it again replaces what it installed.

if [ $# -ne 1 ] || [ -z "$1" ] || [ "${1#-}" != "$1" ]; then
    echo "usage: [DESTDIR=…] ci/install.sh PREFIX" >&2
    exit 2
fi
case $1 in
    /*) prefix=$1 ;;
    *) prefix=$PWD/$1 ;;
esac
# shellcheck source=ci/common.sh
source "$(dirname "$0")/common.sh"

die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

[ "$prefix" = / ] || prefix=${prefix%/}
case $prefix in
    *[[:space:]\"\'\\\$\#]*) die "a prefix with white space, quotes, \\, \$ or # cannot be written into a .pc file: $prefix" ;;
esac
for command in cargo objcopy install; do
    command -v "$command" >/dev/null || die "$command is needed and not here"
done
to=${DESTDIR:-}$prefix
mkdir -p "$to/include" "$to/lib/pkgconfig" || die "cannot write to $to"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' c-api/Cargo.toml | head -n 1)
soname=libstokehold.so.${version%%.*}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The SONAME is given here and not by a build script: the library in the target directory, which tests link by its path,
# keeps the name of its file. There is no version script: rustc makes one for a cdylib, which exports the functions that
# are `no_mangle` and nothing else (ci/install-test.sh compares with c-api/symbols.txt). No dev-dependency has a say in
# this build, so the hooks of the tests are not in it. The target directory is its own, as two builds of a library with
# other features or names overwrite each other's file, and cargo takes what it finds for its own.
target=${CARGO_TARGET_DIR:-target}/install
cargo rustc --locked -p stokehold-c --lib --profile archive --target-dir "$target" -- \
    -C "link-arg=-Wl,-soname,$soname" --print native-static-libs 2>&1 | tee "$work/log"
built=$target/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}archive
# cargo says it again when there was nothing to build.
libs=$(sed -n 's/^note: native-static-libs: *//p' "$work/log" | tail -n 1)
[ -n "$libs" ] || die "the compiler did not say which libraries the archive needs"

# Rust's own library comes with debug information and with LLVM bitcode, two thirds of the archive. The bitcode can only do
# harm: binutils that find a plugin of LLVM for it read its symbols in place of the code's. And its one symbol without a
# mangled name is made weak, so that a program may link an archive that another Rust compiler made: both define it, to the
# same end.
objcopy --strip-debug --remove-section=.llvmbc --remove-section=.llvmcmd --remove-section=.debug_gdb_scripts \
    --weaken-symbol=rust_eh_personality "$built/libstokehold_c.a" "$work/libstokehold.a"

cat >"$work/stokehold.pc" <<END
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib
archive=\${libdir}/libstokehold.a

Name: stokehold
Description: A supervised pool of worker processes, called over shared memory
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lstokehold
Libs.private: $libs
END

install -m 644 include/stokehold.h "$to/include/stokehold.h"
install -m 644 "$work/libstokehold.a" "$to/lib/libstokehold.a"
install -m 755 "$built/libstokehold_c.so" "$to/lib/libstokehold.so.$version"
ln -sfn "libstokehold.so.$version" "$to/lib/$soname"
ln -sfn "$soname" "$to/lib/libstokehold.so"
install -m 644 "$work/stokehold.pc" "$to/lib/pkgconfig/stokehold.pc"

printf '\nstokehold %s is installed:\n' "$version"
for file in include/stokehold.h lib/libstokehold.a "lib/libstokehold.so.$version" "lib/$soname" lib/libstokehold.so \
    lib/pkgconfig/stokehold.pc; do
    [ -s "$to/$file" ] || die "$to/$file is not there"
    printf '%10d bytes  %s\n' "$(stat -L -c %s "$to/$file")" "$to/$file"
done
cat <<END

shared:  cc host.c -I$prefix/include -L$prefix/lib -lstokehold -Wl,-rpath,$prefix/lib
static:  cc host.c -I$prefix/include $prefix/lib/libstokehold.a $libs
END
