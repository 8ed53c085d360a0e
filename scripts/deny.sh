#!/bin/sh
# What is linked may be linked: licences, banned crates and sources (deny.toml), and, where the database of advisories can
# be reached, known holes. cargo-deny is installed once, beside the build output.
set -eu
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/spanwise
tools=$cache/tools
version=0.20.2
if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -q " $version\$"; then
    echo "installing cargo-deny $version (once)"
    CARGO_TARGET_DIR="$cache/tools-build" cargo install --quiet --locked --debug --root "$tools" "cargo-deny@$version"
    rm -rf "$cache/tools-build"
fi
deny() { "$tools/bin/cargo-deny" --log-level error --workspace "$@"; }
# Also of features that nothing builds.
cargo fetch --quiet --locked --offline 2>/dev/null || cargo fetch --quiet --locked
deny --offline check --hide-inclusion-graph licenses bans sources
if timeout 60 "$tools/bin/cargo-deny" --log-level off fetch db >/dev/null 2>&1; then
    deny check --hide-inclusion-graph --disable-fetch advisories
else
    echo 'advisories not checked: their database cannot be reached'
fi
