#!/bin/sh
# Builds the page into ui/dist. npm packages go into ui/node_modules and are fetched only when the lock file changed.
set -eu
cd "$(dirname "$0")/../ui"
if ! cmp -s package-lock.json node_modules/.installed-lock 2>/dev/null; then
    npm ci --no-audit --no-fund --prefer-offline --loglevel=error
    cp package-lock.json node_modules/.installed-lock
fi
npm run --silent check
npm run --silent build
