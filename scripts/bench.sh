#!/bin/sh
# CPU nanoseconds per span from the socket until background work is quiet, bytes per span on disk, and search times.
# One server process, one load process. SPANS=1000000 by default. PROFILE=release by default.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/spanwise/target}
export CARGO_TARGET_DIR="$target"
profile=${PROFILE:-release}
spans=${SPANS:-1000000}
cargo build --quiet --profile "$profile" -p spanwise
spanwise=$target/$profile/spanwise
run=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$run"' EXIT INT TERM
cpu() { awk '{print ($14 + $15) * 10}' "/proc/$1/stat"; }
start() {
    "$spanwise" serve --listen 127.0.0.1:0 --print-ports --data-dir "$run/data" "$@" >"$run/ports" 2>"$run/log" &
    server=$!
    until [ -s "$run/ports" ]; do sleep 0.1; done
}
port() { python3 -c "import json; print(json.load(open('$run/ports'))['ports']['$1'])"; }
report() { python3 -c "print(f'{$2 * 1e6 / $spans:10.0f} ns/span of CPU   $1')"; }

start --config 'yaml:{receivers: {otlp: {protocols: {http: }}}, exporters: {nop: }, service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}}'
before=$(cpu $server)
"$spanwise" load --endpoint "127.0.0.1:$(port otlp_http)" --spans "$spans" >"$run/load"
report 'OTLP/HTTP to nop' "($(cpu $server) - $before)"
kill $server; wait $server || true; rm "$run/ports"

start
before=$(cpu $server)
"$spanwise" load --endpoint "127.0.0.1:$(port otlp_http)" --spans "$spans" >"$run/load"
cat "$run/load"
last=0
while now=$(cpu $server); [ "$now" != "$last" ]; do last=$now; sleep 3; done
report 'OTLP/HTTP into the store, synced, until quiet' "($last - $before)"
grep VmHWM "/proc/$server/status"
kill $server; wait $server || true; rm "$run/ports"
# What is still in the log becomes a block, so that every span is counted on disk.
echo '[]' | "$spanwise" import - --data-dir "$run/data" 2>/dev/null || true
python3 - "$run/data" <<'P'
import json, os, sys
manifests = sorted(os.listdir(sys.argv[1] + '/manifest'))
blocks = json.load(open(sys.argv[1] + '/manifest/' + manifests[-1]))['blocks']
spans, size = sum(b['spans'] for b in blocks), sum(b['bytes'] for b in blocks)
print(f'{size / spans:10.1f} bytes/span on disk, index and catalogue included ({spans} spans, {len(blocks)} blocks)')
P
start
for query in '{ span.user.id = "user-7" }' '{ status = error && resource.service.name = "cart" }'; do
    /usr/bin/env python3 - "$(port http)" "$query" <<'P'
import sys, time, urllib.parse, urllib.request
url = f'http://127.0.0.1:{sys.argv[1]}/api/spanwise/search?limit=20&q=' + urllib.parse.quote(sys.argv[2])
times = []
for _ in range(5):
    began = time.time(); urllib.request.urlopen(url).read(); times.append(time.time() - began)
print(f'{sorted(times)[2] * 1000:10.0f} ms median   {sys.argv[2]}')
P
done
