#!/bin/sh
# Fetches Rotel's newest wheel from PyPI into a cache outside the checkout; prints the path of its collector. The program
# in it is linked with the Python it was made for (libpython3.11).
set -eu
cache=${SPANWISE_BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spanwise/bench}/rotel
agent=$cache/rotel/rotel-agent
if ! [ -x "$agent" ]; then
    mkdir -p "$cache"
    python3 -m pip download --quiet --no-deps --dest "$cache" rotel==0.0.1a15 >&2
    python3 -m zipfile -e "$cache"/rotel-*.whl "$cache"
    chmod +x "$agent"
fi
"$agent" --version >/dev/null
echo "$agent"
