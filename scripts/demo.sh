#!/bin/sh
# Builds Spanwise, starts it on free ports with a store in .run/demo, sends it a load, and prints where to look.
# --exit ends after the summary; otherwise it stays up until Ctrl-C.
set -eu
cd "$(dirname "$0")/.."
exit_after=0
[ "${1:-}" = --exit ] && exit_after=1
target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/spanwise/target}
export CARGO_TARGET_DIR="$target"

echo '== building the page'
scripts/ui.sh
# SPANWISE names a program that is built already.
spanwise=${SPANWISE:-$target/ci/spanwise}
if [ -z "${SPANWISE:-}" ]; then
    echo '== building Spanwise (some minutes the first time)'
    cargo build --quiet --profile ci -p spanwise
fi
# PAYMENT=rust: the shop's payment service in Rust, instrumented by spanwise-sdk.
if [ "${PAYMENT:-}" = rust ]; then
    cargo build --quiet --profile ci -p rust-shop --features sqlite
    export PAYMENT_PROGRAM="$target/ci/rust-shop"
fi

run=.run/demo
mkdir -p "$run"
# Each demo starts afresh, so that its findings are about what it sent.
if [ -e "$run/data/lock" ] && ! flock -n "$run/data/lock" true; then
    echo 'a demo is running already: end it first (Ctrl-C)' >&2
    exit 1
fi
rm -rf "$run/data"
rm -f "$run/ports.json"
echo '== starting'
"$spanwise" serve --listen 127.0.0.1:0 --print-ports --data-dir "$run/data" >"$run/ports.json" 2>"$run/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null' EXIT INT TERM
tries=0
until [ -s "$run/ports.json" ]; do
    kill -0 $server 2>/dev/null || { cat "$run/log" >&2; exit 1; }
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { echo 'Spanwise did not become ready' >&2; exit 1; }
    sleep 0.1
done
port() { python3 -c "import json,sys; print(json.load(open('$run/ports.json'))['ports']['$1'])"; }
page=$(port http)

echo '== sending traces'
if [ -x examples/shop/run.sh ]; then
    examples/shop/run.sh "$(port otlp_http)"
else
    "$spanwise" load --endpoint "127.0.0.1:$(port otlp_http)" --spans 20000 --rate 10000
fi

show() {
    printf '\n== %s\n' "$1"
    "$spanwise" query "$2" --limit 200 --format json --addr "127.0.0.1:$page" | python3 -c "
import json, sys
traces = json.load(sys.stdin)['traces']
traces.sort(key=lambda trace: -trace['duration_ns'])
for trace in traces[:5]:
    root = trace['root'] or {'service': '?', 'operation': '(root not received)'}
    print(f\"{trace['duration_ns'] / 1e6:8.0f} ms  {trace['error_count']} errors  {root['service']} {root['operation']:<16} http://127.0.0.1:$page/trace/{trace['trace_id']}\")
if not traces:
    print('none')
"
}
show slowest '{ trace:duration > 20ms }'
show failed '{ status = error }'
printf '\n== findings\n'
"$spanwise" insights --addr "127.0.0.1:$page"
printf '\nPage: http://127.0.0.1:%s/\n' "$page"
if [ $exit_after -eq 0 ]; then
    echo 'Ctrl-C ends.'
    wait $server
fi
