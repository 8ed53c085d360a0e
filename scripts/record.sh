#!/bin/sh
# Records what the shop sends, as it is and healthy, into examples/shop/recorded: record.sh [SECONDS]
# The recordings are what the tests of insight expect their findings of: look at them when they change.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-25}
target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/spanwise/target}
export CARGO_TARGET_DIR="$target"
spanwise=${SPANWISE:-$target/ci/spanwise}
[ -n "${SPANWISE:-}" ] || cargo build --quiet --profile ci -p spanwise

run=$(mktemp -d)
server=
end() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$run"
}
trap end EXIT INT TERM
mkdir -p examples/shop/recorded
for variant in ill healthy; do
    cat >"$run/record.yaml" <<EOF
receivers: {otlp: {protocols: {http: {}}}}
exporters: {file: {path: $run/$variant.json, flush_interval: 200ms}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [file]}}}
EOF
    "$spanwise" serve --config "$run/record.yaml" --listen 127.0.0.1:0 --print-ports >"$run/ports" 2>"$run/log" &
    server=$!
    tries=0
    until [ -s "$run/ports" ]; do
        kill -0 "$server" 2>/dev/null || { cat "$run/log" >&2; exit 1; }
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo 'Spanwise did not become ready' >&2; exit 1; }
        sleep 0.1
    done
    port=$(sed 's/.*"otlp_http":\([0-9]*\).*/\1/' "$run/ports")
    SHOP=$variant examples/shop/run.sh "$port" "$seconds"
    kill "$server"
    wait "$server" || true
    server=
    rm "$run/ports"
    gzip -9 -n <"$run/$variant.json" >"examples/shop/recorded/$variant.json.gz"
    ls -l "examples/shop/recorded/$variant.json.gz"
done
