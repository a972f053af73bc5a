#!/bin/sh
# Says what is missing to build: cargo of the version Cargo.toml asks for, a C++ compiler, a linker and make.
set -eu

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
fail() {
    echo "error: $1" >&2
    exit 1
}
found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || found=""
[ -n "$found" ] || fail "cargo is missing (get Rust $wanted or newer: https://rustup.rs)"
[ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
    fail "cargo is $found, $wanted or newer is needed (rustup update; a distribution's own package is often older)"
for tool in cc c++ make; do
    command -v "$tool" >/dev/null || fail "\`$tool\` is missing (on Debian or Ubuntu: apt-get install build-essential)"
done
