#!/usr/bin/env bash
# The rules that keep the rooms of src/ apart. Text, not types: comments are left out, the rest is taken as written.
source "$(dirname "$0")/common.sh"

# Which rooms a room may import from: those above it. `docs/ARCHITECTURE.md` says what each is for.
declare -A MAY=(
    [error]=""
    [limits]=""
    [primitive]=""
    # Only with its cfg; its macro is everybody's.
    [crash]="error primitive"
    [wire]="error limits"
    [ring]="limits primitive"
    [sys]="error limits primitive ring"
    [shm]="error limits primitive wire ring sys"
    [conn]="error limits primitive wire sys"
    [pool]="error limits"
    # `worker` stands below the arbiter. The one exception, of arbiter/workers.rs and of the table of apps that is handed
    # through: a worker is forked by the arbiter, and its life (worker::run) begins in the forked child. Nothing else of
    # the worker's runs in the arbiter.
    [arbiter]="error limits primitive wire ring sys shm conn pool worker"
    # Apps call apps: a worker is a client of its pool, too. A client knows nothing of workers.
    [worker]="error limits primitive wire ring sys shm conn client"
    [client]="error limits primitive wire ring sys shm conn"
    [library]="sys worker"
    [host]="error limits primitive wire ring sys shm conn pool arbiter worker client"
)
# What the arbiter may name of the worker's room.
ARBITER_MAY='self run run_library list_library Boot Bounds Surroundings Apps'
# The macro in `library` expands in other crates, where the word stands for the loader's promise.
UNSAFE_ROOMS='sys ring shm library'
ATOMICS_IN='src/primitive.rs'
LONGEST=700

wrong=0
complain() {
    printf '%s\n' "$*"
    wrong=1
}

# The code of a file, each line with its number, without line comments and doc comments.
code() {
    awk '{ line = $0; sub(/^[ \t]*\/\/.*/, "", line); sub(/[ \t]\/\/[ \t].*/, "", line); if (line != "") print FNR ": " line }' "$1"
}

contains() {
    case " $1 " in *" $2 "*) return 0 ;; *) return 1 ;; esac
}

files=$(find src -name '*.rs' | sort)
count=0
for file in $files; do
    count=$((count + 1))
    lines=$(wc -l <"$file")
    [ "$lines" -le $LONGEST ] || complain "$file: $lines lines, more than $LONGEST: two nouns in one file?"

    room=${file#src/}
    room=${room%%/*}
    room=${room%.rs}
    text=$(code "$file")

    if ! contains "$UNSAFE_ROOMS" "$room"; then
        found=$(grep -E '\bunsafe\b|allow\([^)]*\bunsafe_code\b' <<<"$text") &&
            complain "$file: unsafe code is in the rooms $UNSAFE_ROOMS only: $found"
    fi
    case $room in
        lib) continue ;;
        bin)
            # What the benchmarks compare with (raw hand-overs, sockets, a bare table) is made of system calls and memory.
            found=$(grep -oE '\bstokehold::(internals::)?[a-z_]+::' <<<"$text" | sort -u | grep -vE '::internals::(sys|shm)::') &&
                complain "$file: a program uses the public interface, and sys and shm for what it compares with: $found"
            continue
            ;;
    esac
    if [ "$file" != "$ATOMICS_IN" ]; then
        found=$(grep -E '\bsync::(atomic\b|\{[^}]*\batomic\b)' <<<"$text") &&
            complain "$file: atomics come from src/primitive.rs, so that loom can replace them: $found"
    fi
    if [ -z "${MAY[$room]+known}" ]; then
        complain "$file: the room $room is not in the map of ci/rooms.sh"
        continue
    fi
    found=$(grep -E '\bcrate::\{' <<<"$text") &&
        complain "$file: one line for each room, so that this check can read them: $found"
    for import in $(grep -oE '\bcrate::[A-Za-z_]+' <<<"$text" | sort -u); do
        import=${import#crate::}
        [ "$import" = "$room" ] || contains "${MAY[$room]}" "$import" ||
            complain "$file: $room may not import from $import"
    done
    if [ "$room" = arbiter ]; then
        for name in $(grep -oE '\bworker::(\{[^}]*\}|[A-Za-z_]+)' <<<"$text" | sed 's/^worker:://' | tr '{},' '   '); do
            contains "$ARBITER_MAY" "$name" || complain "$file: the arbiter may not name worker::$name"
        done
    fi
done

[ $count -gt 0 ] || complain "no file was looked at"
[ $wrong -eq 0 ] && printf 'rooms: %d files looked at\n' $count
exit $wrong
