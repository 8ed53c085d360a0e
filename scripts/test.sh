#!/bin/sh
# Everything that must hold before a change lands. Ends with one line: how many steps passed and failed.
set -u
cd "$(dirname "$0")/.."
passed=0
failed=0

step() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '== %s: FAILED\n' "$name"
    fi
}

step 'page: types, lint, walls, build' scripts/ui.sh
step 'formatting' cargo fmt --all --check
step 'clippy' cargo clippy --quiet --profile ci --workspace --all-targets -- -D warnings
step 'tests' cargo test --quiet --profile ci --workspace
[ -x scripts/browser-test.sh ] && step 'browser' scripts/browser-test.sh

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
