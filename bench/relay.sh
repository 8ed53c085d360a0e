#!/bin/sh
# One row of the relay table: bench/relay.sh none | zstd | gzip
exec "$(dirname "$0")/run.py" "relay-${1:-none}"
