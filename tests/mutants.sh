#!/usr/bin/env bash
# Puts deliberate faults into copies of the tree, one at a time, and runs the default tests of the
# broker and the codec until one fails. Each fault is a patch in tests/mutants: its first line names
# the fault, its second the tests that are tried first. Prints a table; fails if a fault is not
# caught, if its patch does not apply, or if the patched tree does not compile.
#
# usage: tests/mutants.sh [NAME...]     all faults, or those whose file names contain a NAME
#
# JOBS faults are tried side by side, 2 by default, each in a copy and a target directory of its
# own, under target/mutants.

set -euo pipefail
cd "$(dirname "$0")/.."

readonly PATCHES="tests/mutants"
# The cheapest first.
readonly BROKER=(broker:lib broker:order broker:memory broker:loops broker:fuzz_replay broker:sim)
readonly CONFIG=(config:lib)
readonly ZMTP=(zmtp:lib zmtp:opening zmtp:sizes zmtp:transcripts zmtp:fuzz_replay)
readonly WATCH=(watch:lib watch:fuzz_replay watch:sim)
# A test that takes longer does not end at all.
readonly SECONDS_MAX=900
JOBS="${JOBS:-2}"
WORK="$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")/mutants"
readonly JOBS WORK

# Line tables and other debug information cost more time than the tests that they would explain.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=1 CARGO_TERM_COLOR=never
unset CARGO_TARGET_DIR SEED SEEDS TRACE

main() {
    local name number failures
    mapfile -t names < <(select_patches "$@")
    if [ "${#names[@]}" = 0 ]; then
        echo "no fault in $PATCHES has such a name" >&2
        return 2
    fi
    rm -rf "$WORK/claimed" "$WORK/results" "$WORK/sound"
    mkdir -p "$WORK/claimed" "$WORK/results" "$WORK/sound"
    for ((number = 1; number <= JOBS; number++)); do
        work "$number" &
    done
    wait
    printf '| fault | caught by |\n|---|---|\n'
    for name in "${names[@]}"; do
        cat "$WORK/results/$name" 2>/dev/null || echo "| $name | NOT RUN |"
    done | tee "$WORK/table.md"
    failures="$(grep --count '| NOT [A-Z]' "$WORK/table.md" || true)"
    echo "${#names[@]} faults in $((SECONDS / 60)) min; not caught, or not tried: $failures"
    [ "$failures" = 0 ]
}

# The names of the patches that contain one of these words, or all.
select_patches() {
    local patch name word
    for patch in "$PATCHES"/*.patch; do
        name="$(basename "$patch" .patch)"
        if [ $# = 0 ]; then
            echo "$name"
        fi
        for word in "$@"; do
            if [[ "$name" == *"$word"* ]]; then
                echo "$name"
                break
            fi
        done
    done
}

# Makes a copy of the tree, the changes that are not committed included. Its files are new, so that
# Cargo compiles no fault of the last time into it.
copy_tree() {
    local tree="$WORK/$1/tree"
    rm -rf "$tree"
    mkdir -p "$tree"
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from - --ignore-failed-read |
        tar --extract --touch --directory "$tree"
}

# Takes one patch after the other until none is left.
work() {
    local name
    copy_tree "$1"
    for name in "${names[@]}"; do
        # Only one worker can make the folder.
        if mkdir "$WORK/claimed/$name" 2>/dev/null; then
            try_patch "$1" "$PWD/$PATCHES/$name.patch" | tee "$WORK/$1/row" >&2
            mv "$WORK/$1/row" "$WORK/results/$name"
        fi
    done
}

# Prints the row of the table for a patch.
try_patch() {
    local number="$1" patch="$2" fault test failed="" caught="NOT CAUGHT"
    fault="$(sed -n '1s/^# //p' "$patch")"
    if ! git_apply "$number" "$patch"; then
        echo "| $fault | NOT APPLIED |"
        return
    fi
    for test in $(tests_for "$patch"); do
        if ! run_test "$number" "$test"; then
            failed="$test"
            caught="$(describe "$number" "$test")"
            break
        fi
    done
    git_apply "$number" --reverse "$patch"
    # A test that fails without the fault as well would seem to catch everything.
    if [ -n "$failed" ] && [ ! -e "$WORK/sound/$failed" ]; then
        if run_test "$number" "$failed"; then
            touch "$WORK/sound/$failed"
        else
            caught="NOT CAUGHT: $failed fails without a fault too"
        fi
    fi
    echo "| $fault | $caught |"
}

# The copy lies in a repository but is not part of it: below the ceiling, paths are those of the copy.
git_apply() {
    (cd "$WORK/$1/tree" && GIT_CEILING_DIRECTORIES="$WORK/$1" git apply "${@:2}")
}

# The tests that could catch a fault: those it names, then those of the crate that it is in and of
# the crates above.
tests_for() {
    local first all=("${BROKER[@]}")
    if grep --quiet '^+++ b/cli/watch/' "$1"; then
        all=("${WATCH[@]}")
    elif grep --quiet '^+++ b/broker/config/' "$1"; then
        all=("${CONFIG[@]}" "${BROKER[@]}")
    elif grep --quiet '^+++ b/zmtp/' "$1"; then
        all=("${ZMTP[@]}" "${BROKER[@]}")
    fi
    read -r -a first <<<"$(sed -n '2s/^# try: //p' "$1")"
    printf '%s\n' "${first[@]}" "${all[@]}" | awk '!seen[$0]++'
}

# Builds and runs one test; false if it does not compile, fails, or does not end.
run_test() {
    local number="$1" package="zmqd-${2%%:*}" target="${2##*:}" select=()
    case "$target" in
    lib) select=(--lib) ;;
    *) select=(--test "$target") ;;
    esac
    (
        cd "$WORK/$number/tree"
        export CARGO_TARGET_DIR="$WORK/$number/target"
        cargo test --locked --package "$package" "${select[@]}" --no-run 2>&1 ||
            { echo "DOES NOT COMPILE" && exit 1; }
        # A fault that makes something grow must not take the machine along.
        ulimit -v $((8 << 20))
        timeout --kill-after 5 "$SECONDS_MAX" \
            cargo test --locked --package "$package" "${select[@]}" 2>&1 ||
            { echo "ended with code $?" && exit 1; }
    ) >"$WORK/$number/log"
}

# How the last test failed.
describe() {
    local log="$WORK/$1/log" test name seed message
    test="${2/:/ }"
    if grep --quiet '^DOES NOT COMPILE' "$log"; then
        echo "NOT COMPILED (\`$2\`)"
        return
    fi
    seed="$(sed -n 's/^SEED=\([0-9]*\) failed;.*/\1/p' "$log" | head -1)"
    name="$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | head -1)"
    message="$(sed -n "/ panicked at /{n;p;q}" "$log" | cut --characters -100 | tr '|\n' '/ ')"
    if [ -n "$seed" ]; then
        echo "$test, seed $seed: $message"
    elif [ -n "$name" ]; then
        echo "$test, \`$name\`"
    else
        echo "$test: $(tail -1 "$log")"
    fi
}

main "$@"; exit
