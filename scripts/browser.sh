#!/bin/sh
# The browser tests: the real program, real data, Debian's Chromium. Arguments go to Playwright.
# SPANWISE names the program; otherwise the ci build's is taken.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/spanwise/target}
export SPANWISE="${SPANWISE:-$target/ci/spanwise}"
[ -x "$SPANWISE" ] || cargo build --quiet --profile ci -p spanwise
if [ -z "${CHROMIUM:-}" ]; then
    command -v chromium >/dev/null || {
        echo '== installing chromium'
        apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-liberation >/dev/null
    }
    CHROMIUM=$(command -v chromium)
    export CHROMIUM
fi
scripts/ui.sh packages
cd ui
exec npx playwright test "$@"
