#!/bin/sh
# Runs every fuzz target for SECONDS each (20 by default): `make fuzz`, or `scripts/fuzz.sh 600 otlp` for one of them.
# Needs a nightly compiler. cargo-fuzz is installed once, beside the build output. Seeds are the malformed corpus'
# examples and whatever earlier runs found (fuzz/corpus).
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-20}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/spanwise
tools=$cache/tools
export CARGO_TARGET_DIR="$cache/fuzz"
if ! [ -x "$tools/bin/cargo-fuzz" ]; then
    echo 'installing cargo-fuzz (once)'
    CARGO_TARGET_DIR="$cache/tools-build" cargo install --quiet --locked --root "$tools" cargo-fuzz
fi
PATH="$tools/bin:$PATH"
[ $# -ge 2 ] && targets=$2 || targets=$(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' fuzz/Cargo.toml)
failed=
for target in $targets; do
    mkdir -p "fuzz/corpus/$target"
    case $target in
    otlp_json) cp -n crates/spanwise/tests/corpus/json/*.case "fuzz/corpus/$target/" ;;
    config) cp -n examples/configs/*.yaml "fuzz/corpus/$target/" ;;
    esac
    printf '\n== fuzz %s, %s s\n' "$target" "$seconds"
    # The parsers have no unsafe code: the fuzzer's own checks and overflow checks are what finds something.
    cargo +nightly fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 \
        -max_len=65536 -print_final_stats=1 2>&1 | grep -E 'stat::|panicked|ERROR|SUMMARY|DONE|error' || true
    [ -z "$(ls -A "fuzz/artifacts/$target" 2>/dev/null)" ] || failed="$failed $target"
done
[ -z "$failed" ] || { printf '\nfound by fuzzing, in fuzz/artifacts:%s\n' "$failed"; exit 1; }
