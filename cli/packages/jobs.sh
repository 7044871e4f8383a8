# The packages: jobs of ci.sh, which sources this file. Each builds one kind and tries it out.

VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
PACKAGES="$TARGET_DIR/packages"

# By Debian's names of architectures.
triple_of() {
    case "$1" in
    amd64) echo x86_64-unknown-linux-musl ;;
    arm64) echo aarch64-unknown-linux-musl ;;
    armhf) echo armv7-unknown-linux-musleabihf ;;
    i386) echo i686-unknown-linux-musl ;;
    *)
        echo "no static binary is built for $1" >&2
        return 1
        ;;
    esac
}

# The architecture of this machine's kernel, by Debian's name: its binaries run without qemu.
native_architecture() {
    case "$(uname -m)" in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    armv7* | armv8*) echo armhf ;;
    i?86) echo i386 ;;
    *)
        echo "no static binary is built for $(uname -m)" >&2
        return 1
        ;;
    esac
}

# Builds the static binary for an architecture, and sets `binary`.
build_static() {
    local target
    target="$(triple_of "$1")"
    say "the static binary for $target, linked by rust-lld, without a C toolchain for it"
    run rustup target add "$target"
    RUSTFLAGS="-C linker=rust-lld -C link-self-contained=yes" \
        CARGO_PROFILE_RELEASE_STRIP=symbols \
        run cargo build --release --locked --package zmqd --target "$target"
    binary="$TARGET_DIR/$target/release/zmqd"
    check_static "$binary"
    echo "$binary: $(($(stat --format %s "$binary") / 1024)) KiB"
}

# What goes with each binary: manual pages and completions, made by the binary of this machine.
make_share() {
    local share="$1" zmqd="$2" name
    rm --recursive --force "$share"
    mkdir --parents "$share"/{man,bash,fish,zsh}
    "$zmqd" man >"$share/man/zmqd.1"
    "$zmqd" man zmqd.toml >"$share/man/zmqd.toml.5"
    for name in $("$zmqd" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\) .*/\1/p'); do
        if [ "$name" != help ]; then
            "$zmqd" man "$name" >"$share/man/zmqd-$name.1"
        fi
    done
    "$zmqd" completions bash >"$share/bash/zmqd"
    "$zmqd" completions fish >"$share/fish/zmqd.fish"
    "$zmqd" completions zsh >"$share/zsh/_zmqd"
}

# Archives that unpack to a folder with the binary. The same commit makes the same bytes.
tarballs() {
    local architecture binary name folder native
    architecture="$(native_architecture)"
    build_static "$architecture"
    native="$binary"
    make_share "$PACKAGES/share" "$native"
    for architecture in ${*:-amd64 arm64 armhf i386}; do
        build_static "$architecture"
        name="zmqd-$VERSION-$(triple_of "$architecture")"
        folder="$PACKAGES/tarballs/$name"
        rm --recursive --force "$folder"
        mkdir --parents "$folder"
        cp --recursive "$binary" README.md CHANGELOG.md LICENSE-* examples "$PACKAGES/share" "$folder"
        tar --create --sort=name --owner=0 --group=0 --numeric-owner \
            --mtime="@$(git log --max-count=1 --format=%ct 2>/dev/null || echo 0)" \
            --directory="$PACKAGES/tarballs" "$name" | gzip --best --no-name >"$folder.tar.gz"
        say "tarballs: $name.tar.gz, $(($(stat --format %s "$folder.tar.gz") / 1024)) KiB, tried out"
        rm --recursive "$folder"
        tar --extract --gzip --directory="$PACKAGES/tarballs" --file="$folder.tar.gz"
        try_architecture "$architecture" "$folder/zmqd" "$native"
    done
    (cd "$PACKAGES/tarballs" && sha256sum -- *.tar.gz | tee SHA256SUMS)
}

# Runs a binary of an architecture, under qemu if this machine cannot run it itself: many 64-bit
# kernels run 32-bit programs too, but not all do.
try_architecture() {
    local qemu
    if "$2" --version >/dev/null 2>&1; then
        try_binary "$3" "$2"
        return
    fi
    case "$1" in
    amd64) qemu=qemu-x86_64 ;;
    arm64) qemu=qemu-aarch64 ;;
    armhf) qemu=qemu-arm ;;
    i386) qemu=qemu-i386 ;;
    esac
    need_package "$qemu" qemu-user
    try_binary "$3" "$qemu" "$2"
}

# Fails unless the binary asks for no interpreter and no library.
check_static() {
    local headers
    if command -v readelf >/dev/null; then
        headers="$(readelf --program-headers --dynamic --wide "$1")"
        if grep -E 'INTERP|\(NEEDED\)' <<<"$headers"; then
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

# Runs a zmqd, behind a native one perhaps under qemu: it tells its version, and a queue of it passes
# the requests of the native one. A process of its own, so that the queue always ends with it.
try_binary() (
    native="$1"
    shift
    run "$@" --version
    log="$(mktemp)"
    pid=""
    trap 'kill -KILL "$pid" 2>/dev/null || true; rm --force "$log"' EXIT
    "$@" queue --frontend 'tcp://127.0.0.1:0' --backend 'tcp://127.0.0.1:0' >"$log" 2>&1 &
    pid=$!
    await_endpoints "$log" 2 "$pid"
    run "$native" bench queue --duration 1 \
        --frontend "${endpoints[0]}" --backend "${endpoints[1]}"
    kill -TERM "$pid"
    wait "$pid"
    echo "stopped by SIGTERM, exit code 0"
)

# Waits until a log has so many endpoints on loopback, and sets `endpoints`.
await_endpoints() {
    for _ in $(seq 100); do
        mapfile -t endpoints < <(grep -o 'bound tcp://[^ ]*:[1-9][0-9]*' "$1" | cut -d ' ' -f 2)
        if [ "${#endpoints[@]}" -ge "$2" ] || ! kill -0 "$3" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    if [ "${#endpoints[@]}" -lt "$2" ]; then
        echo "no $2 endpoints within 10 s:" >&2
        cat "$1" >&2
        return 1
    fi
}

# The Debian package, installed, started, upgraded, removed and purged in a new system.
deb() {
    local binary first second
    need_root deb
    need_package dh debhelper
    need_package lintian lintian
    need_package debootstrap debootstrap
    build_static "$(dpkg --print-architecture)"
    make_share "$PACKAGES/share" "$binary"
    rm --recursive --force "$PACKAGES/deb"
    build_deb "$VERSION" "$binary"
    first="$PACKAGES/deb/zmqd_${VERSION}_$(dpkg --print-architecture).deb"
    run lintian --fail-on error,warning "$first"
    build_deb "$VERSION+next" "$binary"
    second="$PACKAGES/deb/zmqd_$VERSION+next_$(dpkg --print-architecture).deb"
    try_deb "$first" "$second"
}

build_deb() {
    local source="$PACKAGES/deb/zmqd-$1"
    say "deb: zmqd $1"
    mkdir --parents "$source"
    cp --recursive cli/packages/debian README.md LICENSE-MIT "$PACKAGES/share" "$source"
    cp --recursive examples examples/systemd "$source"
    rm --recursive "$source/examples/systemd"
    cp "$source/systemd/zmqd.service" "$source/debian/zmqd.service"
    cp "$2" "$source/zmqd"
    "$2" run --print-default >"$source/zmqd.toml"
    printf 'zmqd (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$1" \
        "$(sed -n 's/^Maintainer: //p' cli/packages/debian/control)" \
        "$(date --rfc-email --date "@$(git log --max-count=1 --format=%ct 2>/dev/null || echo 0)")" \
        >"$source/debian/changelog"
    (cd "$source" && run dpkg-buildpackage --build=binary --no-sign --no-check-builddeps)
}

# A process of its own, so that the broker always ends with it.
try_deb() (
    system="$(mktemp --directory)"
    broker=""
    trap 'kill -KILL "$broker" 2>/dev/null || true; rm --recursive --force "$system"' EXIT
    inside() {
        run chroot "$system" "$@"
    }
    say "deb: a new Debian"
    run debootstrap --variant=minbase --include=systemd-standalone-sysusers bookworm "$system" \
        >"$PACKAGES/deb/debootstrap.log"
    chmod 755 "$system"
    cp "$1" "$2" "$system/root"
    say "deb: installed and started"
    inside dpkg --install "/root/${1##*/}"
    inside id zmqd
    test "$(stat --format %a "$system/etc/zmqd/zmqd.toml")" = 644
    mkdir --parents "$system/run/zmqd"
    chroot "$system" chown zmqd:zmqd /run/zmqd
    # The commands of the unit, as its user.
    mapfile -t commands < <(sed -n 's/^ExecStart\(Pre\)\?=//p' \
        "$system/usr/lib/systemd/system/zmqd.service" "$system/lib/systemd/system/zmqd.service" \
        2>/dev/null)
    # shellcheck disable=SC2086 # words
    inside ${commands[0]}
    # shellcheck disable=SC2086 # words
    RUNTIME_DIRECTORY=/run/zmqd chroot --userspec=zmqd:zmqd "$system" ${commands[1]} \
        >"$system/root/log" 2>&1 &
    broker=$!
    await_endpoints "$system/root/log" 6 "$broker"
    inside zmqd status
    say "deb: upgraded while it runs, with a configuration that was changed"
    echo 'memory_limit = "64MiB"' | cat - "$system/etc/zmqd/zmqd.toml" >"$system/root/changed"
    cp "$system/root/changed" "$system/etc/zmqd/zmqd.toml"
    inside dpkg --install "/root/${2##*/}"
    cmp "$system/root/changed" "$system/etc/zmqd/zmqd.toml"
    inside zmqd status
    kill -TERM "$broker"
    wait "$broker"
    say "deb: removed, then purged"
    inside dpkg --remove zmqd
    test ! -e "$system/usr/bin/zmqd"
    test -e "$system/etc/zmqd/zmqd.toml"
    inside dpkg --purge zmqd
    test ! -e "$system/etc/zmqd"
    test ! -e "$system/var/lib/zmqd"
)

# The container image: the folder to build it in, whose files run in an empty root.
image() {
    local binary
    need_root image
    case "$(uname -m)" in
    aarch64) build_static arm64 ;;
    *) build_static amd64 ;;
    esac
    rm --recursive --force "$PACKAGES/image"
    mkdir --parents "$PACKAGES/image/run"
    cp "$binary" cli/packages/Dockerfile "$PACKAGES/image"
    cp cli/packages/image.toml "$PACKAGES/image/zmqd.toml"
    try_image "$PACKAGES/image" "$binary"
}

# Does what the Dockerfile says, in an empty root.
try_image() (
    root="$(mktemp --directory)"
    broker=""
    trap 'kill -KILL "$broker" 2>/dev/null || true; rm --recursive --force "$root"' EXIT
    say "image: its files in an empty root"
    chmod 755 "$root"
    while read -r word first second third; do
        case "$word $first" in
        "COPY --chown="*)
            mkdir --parents "$root/$(dirname "$third")"
            cp --recursive "$1/$second" "$root$third"
            chown --recursive "${first#--chown=}" "$root$third"
            ;;
        COPY*)
            mkdir --parents "$root/$(dirname "$second")"
            cp --recursive "$1/$first" "$root$second"
            ;;
        esac
    done <"$1/Dockerfile"
    user="$(sed -n 's/^USER //p' "$1/Dockerfile")"
    variables="$(sed -n 's/^ENV //p' "$1/Dockerfile")"
    read -r -a entry < <(sed -n 's/^ENTRYPOINT \[\(.*\)\]$/\1/p' "$1/Dockerfile" | tr --delete '",')
    read -r -a arguments < <(sed -n 's/^CMD \[\(.*\)\]$/\1/p' "$1/Dockerfile" | tr --delete '",')
    read -r -a health < <(sed -n 's/^HEALTHCHECK.* CMD \[\(.*\)\]$/\1/p' "$1/Dockerfile" |
        tr --delete '",')
    env --ignore-environment "$variables" "$(command -v chroot)" --userspec="$user" "$root" \
        "${entry[@]}" "${arguments[@]}" >"$root/log" 2>&1 &
    broker=$!
    await_endpoints "$root/log" 6 "$broker"
    run env --ignore-environment "$variables" "$(command -v chroot)" --userspec="$user" "$root" "${health[@]}"
    run "$2" bench queue --duration 1 --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560
    kill -TERM "$broker"
    wait "$broker"
    echo "stopped by SIGTERM, exit code 0"
)

# The Python package with the static binary, in a new environment.
wheel() {
    local binary target environment="$PACKAGES/wheel/environment"
    case "$(uname -m)" in
    aarch64) build_static arm64 ;;
    *) build_static amd64 ;;
    esac
    target="$(basename "$(dirname "$(dirname "$binary")")")"
    say "wheel: built by maturin, tried in a new environment"
    rm --recursive --force "$PACKAGES/wheel"
    run python3 -m venv "$PACKAGES/wheel/tools"
    run "$PACKAGES/wheel/tools/bin/pip" install --quiet 'maturin>=1.9,<2' wheel
    (
        cd cli/packages/python
        export CARGO_TARGET_DIR="$TARGET_DIR" CARGO_PROFILE_RELEASE_STRIP=symbols
        RUSTFLAGS="-C linker=rust-lld -C link-self-contained=yes" \
            run "$PACKAGES/wheel/tools/bin/maturin" build --release --locked --target "$target" \
            --compatibility linux --out "$PACKAGES/wheel"
    )
    # Without any library, the binary runs on every Linux.
    run "$PACKAGES/wheel/tools/bin/wheel" tags --remove \
        --platform-tag "manylinux_2_17_$(uname -m).musllinux_1_1_$(uname -m)" "$PACKAGES"/wheel/*.whl
    run python3 -m venv "$environment"
    run "$environment/bin/pip" install --quiet pyzmq pytest mypy "$PACKAGES"/wheel/*.whl
    (
        cd cli/packages/python/tests
        export PYTHONDONTWRITEBYTECODE=1
        run "$environment/bin/python" -m pytest --quiet -p no:cacheprovider .
        run "$environment/bin/python" -m mypy --strict --cache-dir=/dev/null --package zmqd
        run env PATH="$environment/bin:$PATH" zmqd --version
    )
}

# Every crate builds from what would be published of it.
crates() {
    say "crates: what would be published builds"
    run cargo package --workspace --exclude zmqd-tests --locked
}

need_root() {
    if [ "$(id -u)" != 0 ]; then
        echo "$1 needs root, for chroot" >&2
        return 1
    fi
}
