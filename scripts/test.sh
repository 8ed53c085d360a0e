#!/bin/sh
# Everything that must hold before a change lands. Ends with one line: how many steps passed and failed.
set -u
cd "$(dirname "$0")/.."
# The program that the tests build serves the browser and the demo as well.
target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/spanwise/target}
export SPANWISE="$target/ci/spanwise"
passed=0
failed=0

step() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    began=$(date +%s)
    if "$@"; then
        passed=$((passed + 1))
        printf '== %s: %d s\n' "$name" $(($(date +%s) - began))
    else
        failed=$((failed + 1))
        printf '== %s: FAILED\n' "$name"
    fi
}

# What the tests of `spanwise run` start programs with.
missing=
command -v javac >/dev/null || missing="$missing default-jdk-headless"
command -v mvn >/dev/null || missing="$missing maven"
command -v npm >/dev/null || missing="$missing nodejs npm"
command -v redis-server >/dev/null || missing="$missing redis-server"
python3 -m venv --help >/dev/null 2>&1 || missing="$missing python3-venv python3-pip"
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    apt-get update >/dev/null && apt-get install -y --no-install-recommends $missing >/dev/null
fi

step 'page: types, lint, walls, build' scripts/ui.sh
step 'licences, bans, sources' scripts/deny.sh
step 'formatting' cargo fmt --all --check
step 'clippy' cargo clippy --quiet --profile ci --workspace --all-targets -- -D warnings
# Whoever runs this in the background or under nohup ignores Ctrl-C or a hang-up, and so would the programs that the tests
# send them to.
# Tests of the real program wait more than they compute.
step 'tests' env --default-signal=HUP,INT,QUIT RUST_TEST_THREADS=$(($(nproc) * 2)) cargo test --quiet --profile ci --workspace
step 'propagation without std' cargo check --quiet --profile ci -p spanwise-propagate --no-default-features

# What crates.io would get of them; `make package` also builds that. Without a network unless something is missing.
pack() {
    cargo package --quiet --allow-dirty --no-verify -p spanwise-propagate -p spanwise-sdk "$@"
}
packs() { pack --offline 2>/dev/null || pack; }
step 'crates to publish' packs
# Builds SQLite and librdkafka, which nothing else needs.
step 'payment service in Rust, layers of its libraries' cargo test --quiet --profile ci -p rust-shop --features full

step 'browser' scripts/browser.sh

# The real shop through the real program: its failed checkouts are listed with links, its four problems are named.
demo() {
    timeout 600 scripts/demo.sh --exit >.run/demo.txt 2>&1 && grep -q 'errors  gateway POST /checkout .*/trace/' .run/demo.txt &&
        grep -q '^n_plus_one .*cart GET /cart/{user}' .run/demo.txt && grep -q '^silent_dependency .*auth' .run/demo.txt &&
        grep -q '^slow_rare_path .*card = old' .run/demo.txt &&
        grep -q '^misattributed_bottleneck .*gateway GET /orders' .run/demo.txt ||
        { tail -40 .run/demo.txt; return 1; }
}
mkdir -p .run
step 'demo' demo

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
