#!/bin/sh
# Builds lost-spans.jar, which is checked in: users of `spanwise run` need no compiler. Run it after a change of the source.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=1.57.0
for artifact in api context common sdk-common sdk-trace sdk-extension-autoconfigure-spi; do
    mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
        "-Dartifact=io.opentelemetry:opentelemetry-$artifact:$version" "-DoutputDirectory=$work/jars" >&2
done
services=$work/classes/META-INF/services
mkdir -p "$services"
echo dev.spanwise.LostSpans >"$services/io.opentelemetry.sdk.autoconfigure.spi.AutoConfigurationCustomizerProvider"
# A test compares this with the source beside the jar.
sha256sum <dev/spanwise/LostSpans.java | cut -d ' ' -f 1 >"$work/classes/META-INF/source.sha256"
javac -Xlint:all,-options --release 8 -g:none -cp "$work/jars/*" -d "$work/classes" dev/spanwise/LostSpans.java
jar --create --no-manifest --no-compress --date=2026-01-01T00:00:00Z --file lost-spans.jar -C "$work/classes" .
