#!/bin/sh
# Builds the page into ui/dist. npm packages go into ui/node_modules and are fetched only when the lock file changed.
# `ui.sh packages` fetches packages and stops there.
set -eu
cd "$(dirname "$0")/../ui"
if ! cmp -s package-lock.json node_modules/.installed-lock 2>/dev/null; then
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --prefer-offline --loglevel=error
    cp package-lock.json node_modules/.installed-lock
fi
[ "${1:-}" = packages ] && exit 0
npm run --silent check
npm run --silent test
npm run --silent build
npm run --silent size
