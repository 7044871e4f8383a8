#!/bin/sh
# Measures zmqd, libzmq's proxy and a bytes-only relay side by side and prints the tables of
# docs/performance.md. Needs Linux, python3 and, the first time, a package index for pyzmq.
#
#   tests/bench/compare.sh [--rounds N] [--seconds S] [--only WORD] [--encrypted]
#                         [--json FILE] [--into docs/performance.md]
set -eu

cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}"
environment="$target/bench-python"

cargo build --locked --release --package zmqd
cargo build --locked --release --package zmqd-tests --bin relay
if ! "$environment/bin/python" -c 'import zmq; assert zmq.__version__ == "27.3.0"' 2>/dev/null; then
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet pyzmq==27.3.0
fi
# Five thousand connections need as many file descriptors.
ulimit -n "$(ulimit -H -n)"
exec "$environment/bin/python" tests/bench/compare.py --programs "$target/release" "$@"
