#!/usr/bin/env bash
# Everything that decides whether a change is good: one function per job, the same here and in CI.

set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-always}"
TARGET_DIR="$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")"

# shellcheck source=cli/packages/jobs.sh
source cli/packages/jobs.sh

usage() {
    cat <<'USAGE'
usage: ./ci.sh JOB [ARGUMENT...]

  all              fmt, lint, doc and test: what a change must pass
  fmt              rustfmt finds nothing to change
  lint             clippy, every target, warnings are errors
  doc              rustdoc, warnings are errors
  test             every test of the workspace
  system-impls     zmqd with npm's zeromq and the system's libzmq (needs node, npm, cc, libzmq)
  http             metrics with promtool and a real Prometheus, the dashboard in a real Chromium
                   (installs both on Debian; needs node)
  faults           zmqd on networks that fail, clocks that jump and with little memory (needs root
                   and Linux's taps)
  sim [...]        the simulator: --seeds N runs, 5000 by default, --from SEED, 0 by default
  soak MINUTES     everything at once for so long: nothing is lost, nothing grows
  attack MINUTES [WORD|WORD...]
                   attacks beside honest peers, all or those with such a word in their names:
                   memory, latency and messages keep their promises; prints a table
  mutants [NAME...]
                   deliberate faults, one at a time, all or those with such a NAME in theirs: a
                   test catches each; prints a table
  deny [CHECK...]  licences, advisories, duplicate and unwanted crates (needs cargo-deny)
  msrv             the workspace compiles with the oldest Rust that Cargo.toml names
  semver           the API of both libraries since the last release, as cargo-semver-checks sees it
  narrow           every crate where addresses have 32 bits (x86_64 only)
  fuzz [MINUTES]   each fuzz target for so long, one by default (needs a nightly compiler)
  coverage         how much of the codec the seeds of its fuzz targets reach
  systemd          the units in examples/systemd as systemd-analyze sees them (needs systemd)
  wireshark        an exported recording as tshark sees it (installs tshark on Debian)
  tarballs [ARCHITECTURE...]
                   archives with a static binary for amd64, arm64, armhf and i386, tried out
  deb              the Debian package, tried in a new Debian (needs root)
  image            the files of the container image, tried in an empty root (needs root)
  wheel            the Python package, tried in a new environment
  crates           every crate builds from what would be published of it
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
    run cargo clippy --package zmqd-tests --test system_impls --test http --test faults --test soak \
        --test attack --locked -- -D warnings
}

doc() {
    say "doc: rustdoc, warnings are errors"
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" run cargo doc --workspace --no-deps --locked
}

test() {
    say "test: every test of the workspace"
    run cargo test --workspace --locked
}

system-impls() {
    say "system-impls: npm's zeromq and the system's libzmq"
    run cargo test --package zmqd-tests --test system_impls --locked
}

http() {
    say "http: promtool, a Prometheus that scrapes, and the dashboard in Chromium"
    need_package promtool prometheus
    need_package chromium chromium
    run cargo test --package zmqd-tests --test http --locked
}

faults() {
    say "faults: zmqd on networks that fail and clocks that jump"
    if [ "$(id -u)" != 0 ]; then
        did_not_run "only root may make network namespaces"
    elif [ ! -c /dev/net/tun ]; then
        did_not_run "/dev/net/tun is missing: the kernel has no taps, or the container hides them"
    elif ! unshare --net true; then
        did_not_run "network namespaces cannot be made here"
    elif ! can_limit_memory; then
        did_not_run "control groups that limit memory cannot be made here"
    fi
    if ! command -v ip >/dev/null || ! ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null; then
        if ! command -v apt-get >/dev/null; then
            did_not_run "iproute2 and libfaketime are not both installed"
        fi
        run apt-get update --quiet
        run apt-get install --yes --quiet --no-install-recommends iproute2 libfaketime
    fi
    run cargo test --package zmqd-tests --test faults --locked -- --test-threads 2
}

# Whether root may make a control group with a limit of memory, in either hierarchy.
can_limit_memory() {
    local root=/sys/fs/cgroup group limit
    if grep --quiet --word-regexp memory "$root/cgroup.controllers" 2>/dev/null; then
        limit=memory.max
        echo +memory >"$root/cgroup.subtree_control" || return
    else
        root="$root/memory" limit=memory.limit_in_bytes
    fi 2>/dev/null
    group="$root/zmqd-can-be-made-$$"
    mkdir "$group" 2>/dev/null || return
    echo 100000000 2>/dev/null >"$group/$limit"
    local can=$?
    rmdir "$group"
    return "$can"
}

# Ends with a code of its own: this is neither good nor bad news about zmqd.
did_not_run() {
    echo "DID NOT RUN: $*" >&2
    exit 3
}

sim() {
    local seeds=5000 from=0
    while [ $# -gt 0 ]; do
        case "$1 ${2:-}" in
        "--seeds "[1-9]*) seeds="$2" ;;
        "--from "[0-9]*) from="$2" ;;
        *)
            echo "usage: ./ci.sh sim [--seeds N] [--from SEED]" >&2
            return 2
            ;;
        esac
        shift 2
    done
    say "sim: $seeds runs from seed $from"
    # As `cargo test` builds it: to optimise more takes longer than 20,000 runs gain by it.
    export SEED="$from" SEEDS="$seeds"
    run cargo test --package zmqd-broker --test sim --locked -- --nocapture nothing_is_lost
}

soak() {
    if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
        echo "usage: ./ci.sh soak MINUTES" >&2
        return 2
    fi
    say "soak: everything at once for $1 min"
    if [ -z "${ZMQD_BIN:-}" ]; then
        run cargo build --release --locked --package zmqd
        ZMQD_BIN="$(realpath "$TARGET_DIR")/release/zmqd"
    fi
    export MINUTES="$1" ZMQD_BIN
    run cargo test --package zmqd-tests --test soak --locked -- --nocapture
}

attack() {
    if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
        echo "usage: ./ci.sh attack MINUTES [WORD|WORD...]" >&2
        return 2
    fi
    say "attack: attacks beside honest peers for $1 min"
    if [ -z "${ZMQD_BIN:-}" ]; then
        run cargo build --release --locked --package zmqd
        ZMQD_BIN="$(realpath "$TARGET_DIR")/release/zmqd"
    fi
    export MINUTES="$1" WORD="${2:-}" ZMQD_BIN
    # Thousands of connections need as many files, in the broker and in the attackers.
    ulimit -n "$(ulimit -H -n)"
    run cargo test --package zmqd-tests --test attack --locked --no-run
    local apart=()
    # Ports, and connections that the kernel remembers, of a network without others.
    if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare --net true 2>/dev/null; then
        apart=(unshare --net bash -c 'ip link set lo up && exec "$@"' --)
    fi
    run "${apart[@]}" cargo test --package zmqd-tests --test attack --locked -- --nocapture
}

mutants() {
    say "mutants: a test catches each deliberate fault"
    run tests/mutants.sh "$@"
}

deny() {
    say "deny: licences, advisories, duplicate and unwanted crates"
    if ! command -v cargo-deny >/dev/null; then
        echo "NOT RUN: cargo-deny is not installed; \`cargo install --locked cargo-deny\` gets it."
        return 0
    fi
    run cargo deny --locked check "$@"
}

msrv() {
    local version
    version="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
    say "msrv: the workspace compiles with Rust $version"
    if ! rustup run "$version" rustc --version >/dev/null 2>&1; then
        run rustup toolchain install "$version" --profile minimal
    fi
    run cargo "+$version" check --workspace --locked
}

semver() {
    local last
    say "semver: the API of both libraries since the last release"
    last="$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)"
    if [ -z "$last" ]; then
        echo "NOT RUN: nothing is released yet."
        return
    fi
    if ! command -v cargo-semver-checks >/dev/null; then
        run cargo install --locked cargo-semver-checks
    fi
    run cargo semver-checks --package zmqd-zmtp --package zmqd-broker --baseline-rev "$last"
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
    # Without unsafe code, the sanitizer would only cost time.
    run cargo +nightly fuzz build --sanitizer none
    for target in $(cargo +nightly fuzz list); do
        say "fuzz: $target"
        corpus="${CARGO_TARGET_DIR:-fuzz/target}/corpus/$target"
        mkdir -p "$corpus"
        run cargo +nightly fuzz run --sanitizer none "$target" "$corpus" "fuzz/seeds/$target" \
            -- -max_total_time="$((minutes * 60))" -max_len=4096 -print_final_stats=1
    done
}

coverage() {
    local folder tools binaries
    say "coverage: how much of the codec the seeds of its fuzz targets reach"
    run rustup component add llvm-tools
    folder="$(realpath --canonicalize-missing "$TARGET_DIR")/coverage"
    tools="$(rustc --print target-libdir)/../bin"
    rm --force "$folder"/*.profraw "$folder"/debug/deps/fuzz_replay-*
    RUSTFLAGS="-C instrument-coverage" LLVM_PROFILE_FILE="$folder/%p-%m.profraw" \
        run cargo test --locked --target-dir "$folder" --package zmqd-zmtp --test fuzz_replay seeds
    run "$tools/llvm-profdata" merge --sparse "$folder"/*.profraw --output "$folder/seeds.profdata"
    mapfile -t binaries < <(find "$folder/debug/deps" -name 'fuzz_replay-*' -executable -type f)
    # Without the targets themselves, the tests, and other crates.
    run "$tools/llvm-cov" report "${binaries[@]}" --instr-profile "$folder/seeds.profdata" \
        --show-branch-summary=false \
        --ignore-filename-regex '(zmtp/src/fuzzing|zmtp/tests|/\.cargo|/rustc)/'
}

narrow() {
    say "narrow: every crate where addresses have 32 bits"
    if [ "$(uname -m)" != x86_64 ]; then
        did_not_run "programs for i686 run on x86_64"
    fi
    if ! run rustup target add i686-unknown-linux-musl; then
        did_not_run "the target could not be fetched"
    fi
    run cargo test --workspace --exclude zmqd-tests --locked --target i686-unknown-linux-musl
}

wireshark() {
    local file="$TARGET_DIR/tmp/exported/day.pcapng" options
    say "wireshark: an exported recording as tshark sees it"
    need_package tshark tshark
    run cargo test --locked --package zmqd --test cli recordings::an_export_has
    options=(-r "$file" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -n)
    dissect "TCP: time, stream, ports, bytes, good checksum" "${options[@]}" -Y 'tcp.len > 0' \
        -T fields -e frame.time_epoch -e tcp.stream -e tcp.srcport -e tcp.dstport -e tcp.len \
        -e tcp.checksum.status <<'EXPECTED'
1.000000000 0 50000 5555 64 1
1.000000000 0 5555 50000 64 1
1.000000000 0 50000 5555 47 1
1.000000000 0 5555 50000 43 1
1.000000000 0 50000 5555 12 1
1.000000001 0 5555 50000 10 1
2.000000000 1 4567 5556 64 1
2.000000000 1 5556 4567 64 1
2.000000000 1 4567 5556 28 1
2.000000000 1 5556 4567 28 1
2.000000000 1 4567 5556 65515 1
2.000000000 1 4567 5556 65515 1
2.000000000 1 4567 5556 65515 1
2.000000000 1 4567 5556 3470 1
EXPECTED
    dissect "no warnings and errors" "${options[@]}" -Y '_ws.expert.severity >= 0x600000' </dev/null
    dissect "the bytes of a request and its reply" "${options[@]}" \
        -Y 'tcp.stream == 0 && tcp.len in {1..40}' -T fields -e tcp.payload <<'EXPECTED'
010000087175657374696f6e
01000006616e73776572
EXPECTED
    if ! tshark -G protocols 2>/dev/null | grep --quiet --word-regexp zmtp; then
        echo "NOT RUN: this tshark has no dissector for ZMTP, which came with Wireshark 4.2."
        return
    fi
    options+=(-d 'tcp.port==5555,zmtp' -d 'tcp.port==5556,zmtp')
    dissect "ZMTP: mechanism, command, properties, sizes" "${options[@]}" \
        -Y 'zmtp && tcp.stream == 0' -T fields -e zmtp.mechanism -e zmtp.command-name \
        -e zmtp.metadata.value -e zmtp.length <<'EXPECTED'
NULL
NULL
NULL READY DEALER,anna 45
NULL READY ROUTER 41
NULL 0,8
NULL 0,6
EXPECTED
    dissect "ZMTP: a frame in several segments" "${options[@]}" -Y 'zmtp.length == 200000' \
        -T fields -e tcp.stream <<'EXPECTED'
1
EXPECTED
}

# Compares what tshark prints, its blanks made one, with standard input.
dissect() {
    local what="$1"
    shift
    if ! diff <(tshark "$@" 2>/dev/null | tr --squeeze-repeats '\t ' ' ' |
        sed 's/ $//') -; then
        echo "wireshark: $what: not as expected (<: found, >: expected)" >&2
        return 1
    fi
    echo "$what: as expected"
}

# Installs the package, by Debian's name, that a program is in, if it is missing.
need_package() {
    if command -v "$1" >/dev/null; then
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$1 is missing: install what your system calls $2" >&2
        return 1
    fi
    run apt-get update --quiet
    DEBIAN_FRONTEND=noninteractive run apt-get install --yes --quiet --no-install-recommends "$2"
}

bench() {
    say "bench: zmqd beside zmq.proxy and a bare relay"
    run bash tests/bench/compare.sh "$@"
}

systemd() {
    local folder unit
    say "systemd: the units are correct, and hardened"
    command -v systemd-analyze >/dev/null || {
        echo "install systemd, whose systemd-analyze judges units" >&2
        return 1
    }
    run cargo build --release --locked --package zmqd
    folder="$(mktemp -d)"
    for unit in zmqd.service zmqd@.service; do
        # The binary and the pages of the manual are not installed here.
        sed -e "s#/usr/bin/zmqd#$(realpath "$TARGET_DIR")/release/zmqd#" -e '/^Documentation=/d' \
            "examples/systemd/$unit" >"$folder/$unit"
        run systemd-analyze verify "$folder/${unit/@/@main}"
        # In tenths: 1.9 of 10.
        run systemd-analyze security --offline=yes --threshold=19 "$folder/$unit"
    done
    sed -e '/^Documentation=/d' examples/systemd/zmqd.socket >"$folder/zmqd.socket"
    run systemd-analyze verify "$folder/zmqd.socket"
    rm -r "$folder"
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
    all | fmt | lint | doc | test | system-impls | http | faults | sim | soak | attack | mutants | deny | \
        msrv | semver | narrow | fuzz | coverage | systemd | wireshark | tarballs | deb | image | \
        wheel | crates | bench)
        "$@"
        ;;
    "" | help | -h | --help) usage ;;
    *)
        usage >&2
        return 2
        ;;
    esac
}

# On one line, so that bash has read all of this file before it begins.
main "$@"; exit
