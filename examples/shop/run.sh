#!/bin/sh
# Runs the shop against an OTLP/HTTP receiver: run.sh PORT [SECONDS]
set -eu
cd "$(dirname "$0")"
otlp=$1
seconds=${2:-20}

command -v redis-server >/dev/null || apt-get install -y --no-install-recommends redis-server >/dev/null
if ! cmp -s requirements.txt .venv/installed 2>/dev/null; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt .venv/installed
fi
if ! cmp -s package-lock.json node_modules/.installed-lock 2>/dev/null; then
    npm ci --no-audit --no-fund --prefer-offline --loglevel=error
    cp package-lock.json node_modules/.installed-lock
fi

run=$(mktemp -d)
started=
end() {
    trap - EXIT INT TERM
    kill $started 2>/dev/null || true
    sleep 1
    kill -9 $started 2>/dev/null || true
    rm -rf "$run"
}
trap end EXIT
trap 'end; exit 130' INT TERM
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
gateway=$(free) auth=$(free) cart=$(free) catalog=$(free) payment=$(free) redis=$(free)
export AUTH_URL="http://127.0.0.1:$auth" CART_URL="http://127.0.0.1:$cart" CATALOG_URL="http://127.0.0.1:$catalog"
export PAYMENT_URL="http://127.0.0.1:$payment" REDIS_PORT="$redis" DATABASE="$run/shop.db"
export OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:$otlp" OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
export OTEL_BSP_SCHEDULE_DELAY=500 OTEL_LOG_LEVEL=error

redis-server --port "$redis" --bind 127.0.0.1 --save '' --dir "$run" >/dev/null &
started="$started $!"
for name in auth cart gateway; do
    eval "port=\$$name"
    PORT=$port OTEL_SERVICE_NAME=$name .venv/bin/opentelemetry-instrument .venv/bin/python "$name.py" >"$run/$name.log" 2>&1 &
    started="$started $!"
done
for name in catalog payment; do
    eval "port=\$$name"
    # PAYMENT_PROGRAM: another program in the place of payment.js, such as examples/rust-shop.
    if [ $name = payment ] && [ -n "${PAYMENT_PROGRAM:-}" ]; then
        PORT=$port OTEL_SERVICE_NAME=$name "$PAYMENT_PROGRAM" >"$run/$name.log" 2>&1 &
    else
        PORT=$port OTEL_SERVICE_NAME=$name node --require @opentelemetry/auto-instrumentations-node/register "$name.js" >"$run/$name.log" 2>&1 &
    fi
    started="$started $!"
done
for name in auth cart gateway catalog payment redis; do
    eval "port=\$$name"
    tries=0
    until python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 150 ] || { echo "the shop's $name did not start:"; cat "$run/$name.log"; exit 1; }
        sleep 0.2
    done
done
.venv/bin/python load.py "http://127.0.0.1:$gateway" "$seconds"
# The agents send what they hold within a second.
sleep 2
