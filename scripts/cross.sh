# Compiling for another architecture: rustup's target, or Debian's compiler and its standard library. Run it from the repository's root.
# shellcheck shell=bash

# Sets the variables for cargo, and cross_sysroot: the directory of a standard library that only --sysroot names.
cross() { # target, as the compiler calls it
    local architecture debian
    case $1 in
        x86_64-unknown-linux-gnu) architecture=x86-64 debian=amd64 ;;
        aarch64-unknown-linux-gnu) architecture=aarch64 debian=arm64 ;;
        *) printf 'cross: unknown target %s\n' "$1" >&2; return 1 ;;
    esac
    local package=gcc-$architecture-linux-gnu gcc=${1%%-*}-linux-gnu-gcc
    if ! command -v "$gcc" >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && apt-get install -q -y --no-install-recommends "$package" "libc6-dev-$debian-cross"; } >/dev/null ||
            { printf 'cross: cannot install %s\n' "$package" >&2; return 1; }
    fi
    export "CARGO_TARGET_$(tr a-z- A-Z_ <<<"$1")_LINKER=$gcc" "CC_${1//-/_}=$gcc"
    cross_sysroot=
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] || debians_library "$1" "$debian"
}

# Debian's library for that architecture belongs to Debian's compiler, of the same version. It is unpacked in target/, so that this machine needs no
# foreign architecture.
debians_library() { # target, Debian's architecture
    local version dir
    cross_sysroot=$PWD/target/sysroot/$1
    version=$(dpkg-query -W -f '${Version}' rustc-web) ||
        { printf 'cross: no standard library for %s: run `rustup target add %s`\n' "$1" "$1" >&2; return 1; }
    export RUSTC=/usr/bin/rustc
    [ "$(cat "$cross_sysroot/version" 2>/dev/null)" != "$version" ] || return 0
    dir=$(mktemp -d)
    mkdir -p target "$dir/lists/partial" "$dir/archives/partial"
    local options=(-o "APT::Architectures=$(dpkg --print-architecture),$2" -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir"
        -o APT::Sandbox::User=root -o Acquire::Languages=none)
    (cd "$dir" && apt-get "${options[@]}" update -q && apt-get "${options[@]}" download -q "libstd-rust-web-dev:$2=$version") \
        >target/sysroot.log 2>&1 || { printf 'cross: cannot download libstd-rust-web-dev:%s: see target/sysroot.log\n' "$2" >&2; return 1; }
    dpkg-deb -x "$dir"/libstd-rust-web-dev_*.deb "$dir/unpacked"
    rm -rf "$cross_sysroot" && mkdir -p "$cross_sysroot/lib/rustlib"
    cp -r "$dir/unpacked/usr/lib/rustlib/$1" "$cross_sysroot/lib/rustlib/"
    echo "$version" >"$cross_sysroot/version"
    rm -rf "$dir"
}
