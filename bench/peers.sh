#!/bin/sh
# Builds the Go collector that Spanwise is measured against, by its own builder, into a cache outside the checkout;
# prints the path of the program. Needs Go and the Go module proxy the first time (about five minutes).
set -eu
cache=${SPANWISE_BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spanwise/bench}
built=$cache/otelcol-build/otelcol-bench
[ -x "$built" ] && { echo "$built"; exit 0; }
mkdir -p "$cache"
cat >"$cache/builder.yaml" <<Y
dist: { name: otelcol-bench, description: the peer, version: 0.159.0, output_path: $cache/otelcol-build, cgo_enabled: false }
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v0.159.0
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/otlpexporter v0.159.0
  - gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter v0.159.0
  - gomod: go.opentelemetry.io/collector/exporter/nopexporter v0.159.0
  - gomod: go.opentelemetry.io/collector/exporter/debugexporter v0.159.0
processors:
  - gomod: go.opentelemetry.io/collector/processor/batchprocessor v0.159.0
  - gomod: go.opentelemetry.io/collector/processor/memorylimiterprocessor v0.159.0
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/processor/tailsamplingprocessor v0.159.0
extensions:
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage v0.159.0
providers:
  - gomod: go.opentelemetry.io/collector/confmap/provider/envprovider v1.65.0
  - gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v1.65.0
  - gomod: go.opentelemetry.io/collector/confmap/provider/yamlprovider v1.65.0
Y
echo "building the Go collector: $cache/build.log" >&2
GOBIN=$cache/bin go install go.opentelemetry.io/collector/cmd/builder@v0.164.0 >"$cache/build.log" 2>&1
CGO_ENABLED=0 "$cache/bin/builder" --skip-strict-versioning --config "$cache/builder.yaml" >>"$cache/build.log" 2>&1
echo "$built"
