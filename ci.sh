#!/usr/bin/env bash
# Everything that decides whether a change is good: one function per job, the same here and in CI.

set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-always}"
TARGET_DIR="${CARGO_TARGET_DIR:-target}"

usage() {
    cat <<'USAGE'
usage: ./ci.sh JOB [ARGUMENT...]

  all              fmt, lint, doc and test: what a change must pass
  fmt              rustfmt finds nothing to change
  lint             clippy, every target, warnings are errors
  doc              rustdoc, warnings are errors
  test             every test of the workspace
  witness          zmqd with npm's zeromq and the system's libzmq (needs node, npm, cc, libzmq)
  deny [CHECK...]  licences, advisories, duplicate and unwanted crates (needs cargo-deny)
  fuzz [MINUTES]   each fuzz target for so long, one by default (needs a nightly compiler)
  static           static stripped binaries for x86_64 and aarch64, tried out
  bench [...]      zmqd beside zmq.proxy and a bare relay; arguments go to tests/bench/compare.sh
USAGE
}

say() {
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

# Shows a command, then runs it.
run() {
    printf '\033[2m+ %s\033[0m\n' "$*"
    "$@"
}

fmt() {
    say "fmt: rustfmt finds nothing to change"
    run cargo fmt --all -- --check
    run cargo fmt --manifest-path fuzz/Cargo.toml -- --check
}

lint() {
    say "lint: clippy, every target, warnings are errors"
    run cargo clippy --workspace --all-targets --locked -- -D warnings
    # Not among all targets, since it needs more than Cargo to run.
    run cargo clippy --package zmqd-tests --test foreign --locked -- -D warnings
}

doc() {
    say "doc: rustdoc, warnings are errors"
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" run cargo doc --workspace --no-deps --locked
}

test() {
    say "test: every test of the workspace"
    run cargo test --workspace --locked
}

witness() {
    say "witness: npm's zeromq and the system's libzmq"
    run cargo test --package zmqd-tests --test foreign --locked
}

deny() {
    say "deny: licences, advisories, duplicate and unwanted crates"
    if ! command -v cargo-deny >/dev/null; then
        echo "NOT RUN: cargo-deny is not installed; \`cargo install --locked cargo-deny\` gets it."
        return 0
    fi
    run cargo deny --locked check "$@"
}

fuzz() {
    local minutes="${1:-1}" target corpus
    say "fuzz: each target for $minutes min"
    if ! rustup run nightly rustc --version >/dev/null 2>&1; then
        run rustup toolchain install nightly --profile minimal
    fi
    if ! command -v cargo-fuzz >/dev/null; then
        run cargo install --locked cargo-fuzz
    fi
    # There is no unsafe code to watch, so that the sanitizer would only cost time.
    run cargo +nightly fuzz build --sanitizer none
    for target in $(cargo +nightly fuzz list); do
        say "fuzz: $target"
        corpus="${CARGO_TARGET_DIR:-fuzz/target}/corpus/$target"
        mkdir -p "$corpus"
        run cargo +nightly fuzz run --sanitizer none "$target" "$corpus" "fuzz/seeds/$target" \
            -- -max_total_time="$((minutes * 60))" -max_len=4096 -print_final_stats=1
    done
}

static() {
    local architecture target binary
    for architecture in x86_64 aarch64; do
        target="$architecture-unknown-linux-musl"
        binary="$TARGET_DIR/$target/release/zmqd"
        say "static: $target, linked by rust-lld, without a C toolchain for it"
        run rustup target add "$target"
        RUSTFLAGS="-C linker=rust-lld -C link-self-contained=yes" \
            CARGO_PROFILE_RELEASE_STRIP=symbols \
            run cargo build --release --locked --package zmqd --target "$target"
        check_static "$binary"
        echo "$binary: $(($(stat --format %s "$binary") / 1024)) KiB"
    done
    for architecture in x86_64 aarch64; do
        binary="$TARGET_DIR/$architecture-unknown-linux-musl/release/zmqd"
        if [ "$(uname -m)" = "$architecture" ]; then
            say "static: the $architecture binary runs"
            try_binary "$binary"
        else
            say "static: the $architecture binary runs, under qemu"
            need_qemu "qemu-$architecture"
            try_binary "qemu-$architecture" "$binary"
        fi
    done
}

need_qemu() {
    if command -v "$1" >/dev/null; then
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$1 is missing: install what your system calls qemu-user" >&2
        return 1
    fi
    run apt-get update --quiet
    run apt-get install --yes --quiet --no-install-recommends qemu-user
}

# Fails unless the binary asks for no interpreter and no library.
check_static() {
    if command -v readelf >/dev/null; then
        if readelf --program-headers --dynamic --wide "$1" | grep -E 'INTERP|\(NEEDED\)'; then
            echo "$1 is not static" >&2
            return 1
        fi
    elif command -v file >/dev/null; then
        file "$1" | grep --quiet --extended-regexp 'statically linked|static-pie linked'
    else
        echo "neither readelf nor file is there to see whether $1 is static" >&2
        return 1
    fi
    echo "$1 is static"
}

# Runs a zmqd, perhaps under qemu: it tells its version, and a queue of it passes the requests of
# the native one. A process of its own, so that whatever happens the queue ends with it.
try_binary() (
    run "$@" --version
    log="$(mktemp)"
    pid=""
    trap 'kill -KILL "$pid" 2>/dev/null || true; rm --force "$log"' EXIT
    "$@" queue --frontend 'tcp://127.0.0.1:0' --backend 'tcp://127.0.0.1:0' >"$log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        mapfile -t endpoints < <(grep -o 'tcp://127\.0\.0\.1:[1-9][0-9]*' "$log" || true)
        if [ "${#endpoints[@]}" -ge 2 ] || ! kill -0 "$pid" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    if [ "${#endpoints[@]}" -lt 2 ]; then
        echo "no two endpoints within 10 s:" >&2
        cat "$log" >&2
        exit 1
    fi
    run "$TARGET_DIR/$(uname -m)-unknown-linux-musl/release/zmqd" bench queue --seconds 1 \
        --frontend "${endpoints[0]}" --backend "${endpoints[1]}"
    kill -TERM "$pid"
    wait "$pid"
    echo "stopped by SIGTERM, exit code 0"
)

bench() {
    say "bench: zmqd beside zmq.proxy and a bare relay"
    run bash tests/bench/compare.sh "$@"
}

all() {
    fmt
    lint
    doc
    test
    say "all is well, after $((SECONDS / 60)) min $((SECONDS % 60)) s"
}

main() {
    case "${1:-}" in
    all | fmt | lint | doc | test | witness | deny | fuzz | static | bench) "$@" ;;
    "" | help | -h | --help) usage ;;
    *)
        usage >&2
        return 2
        ;;
    esac
}

# On one line, so that bash has read all of this file before it begins.
main "$@"; exit
