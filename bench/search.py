#!/usr/bin/env python3
"""Search and by-id times over many stored spans: `make bench-search`.

SPANS (10,000,000) made-up spans go into a new data directory outside of the checkout; when background work is quiet
the server is started afresh and asked. DATA=DIR keeps the directory, and uses it as it is when it has spans already.
CPU is that of the server process; the clock of /proc has 10 ms, so that few ROUNDS of quick queries show nothing.
"""

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

SPANS = int(os.environ.get("SPANS", 10_000_000))
ROUNDS = int(os.environ.get("ROUNDS", 25))
IDS = int(os.environ.get("IDS", 300))

QUERIES = [
    ('a user, 20,000 distinct values', '{ span.user.id = "u-%05d" }'),
    ('a user that does not exist', '{ span.user.id = "u-9%05d" }'),
    ('errors of a service', '{ resource.service.name = "gateway" && status = error }'),
    ('errors of a service that has none', '{ resource.service.name = "cart" && status = error }'),
    ('slow spans of a service', '{ resource.service.name = "gateway" && duration > 2s }'),
    ('slowest of a service', '{ resource.service.name = "cart" } with(sort="duration")'),
    ('structure', '{ resource.service.name = "gateway" } >> { span.db.collection.name = "orders" }'),
    ('structure, below failed spans', '{ status = error } >> { span.db.system.name = "redis" }'),
    ('structure that does not exist', '{ resource.service.name = "gateway" } >> { name = "SELECT" }'),
]


class Server:
    def __init__(self, program, data):
        self.process = subprocess.Popen(
            [program, "serve", "--listen", "127.0.0.1:0", "--print-ports", "--data-dir", data],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        began = time.monotonic()
        self.ports = json.loads(self.process.stdout.readline())["ports"]
        self.started = time.monotonic() - began
        self.connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"])

    def get(self, path):
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:200]}")
        return json.loads(body)

    def search(self, query, **parameters):
        parameters = urllib.parse.urlencode({"q": query, "limit": 20, **parameters})
        return self.get("/api/spanwise/search?" + parameters)

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def rss_mib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def percentile(times, share):
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3


def fill(program, data):
    """A million spans at a time, each from a seed of its own, so that the store keeps up and time goes on."""
    server = Server(program, data)

    def wait_until_quiet():
        last = -1
        while (now := server.cpu()) != last:
            last = now
            time.sleep(3)

    left, seed = SPANS, 1
    while left > 0:
        count = min(left, 1_000_000)
        subprocess.run([program, "load", "--endpoint", f"127.0.0.1:{server.ports['otlp_http']}",
                        "--spans", str(count), "--seed", str(seed)], check=True)
        wait_until_quiet()
        left, seed = left - count, seed + 1
    server.stop()
    # What is still in the log becomes a block.
    subprocess.run([program, "import", "-", "--data-dir", data], input="[]", text=True, stderr=subprocess.DEVNULL)


def report_size(data):
    manifests = sorted(os.listdir(data + "/manifest"))
    with open(f"{data}/manifest/{manifests[-1]}") as manifest:
        blocks = json.load(manifest)["blocks"]
    spans, size = sum(b["spans"] for b in blocks), sum(b["bytes"] for b in blocks)
    print(f"{spans} spans in {len(blocks)} blocks, {size / spans:.1f} bytes a span, side files included")
    by_file = {}
    for block in blocks:
        for name in os.listdir(f"{data}/blocks/{block['id']}"):
            by_file[name] = by_file.get(name, 0) + os.path.getsize(f"{data}/blocks/{block['id']}/{name}")
    for name, size in sorted(by_file.items()):
        print(f"  {name:<16} {size / spans:6.2f} bytes a span")


def sample_ids(server):
    """Traces of users chosen at random: anywhere in the store."""
    ids = []
    for number in range(IDS // 20):
        found = server.search('{ span.user.id = "u-%05d" }' % (number * 1_117 % 20_000))
        ids += [trace["trace_id"] for trace in found["traces"]]
    if not ids:
        raise SystemExit("no trace of the users asked for: IDS is at least 20, and SPANS some hundred thousand")
    return list(dict.fromkeys(ids))


def main():
    program = sys.argv[1]
    kept = os.environ.get("DATA")
    data = kept or tempfile.mkdtemp(prefix="spanwise-bench-search.")
    try:
        if not os.path.isdir(data + "/manifest"):
            fill(program, data)
        report_size(data)
        server = Server(program, data)
        ids = sample_ids(server)
        server.stop()

        server = Server(program, data)
        print(f"start: ready after {server.started * 1e3:.0f} ms, {server.rss_mib()} MiB resident")
        times, before = [], server.cpu()
        for trace_id in ids:
            began = time.monotonic()
            server.connection.request("GET", f"/api/spanwise/traces/{trace_id}/otlp")
            answer = server.connection.getresponse()
            body = answer.read()
            times.append(time.monotonic() - began)
            if answer.status != 200 or not body:
                raise SystemExit(f"trace {trace_id}: {answer.status}")
        print(f"by id, {len(times)} traces after the start: first {times[0] * 1e3:.1f} ms, "
              f"p50 {percentile(times, 0.5):.2f} ms, p99 {percentile(times, 0.99):.2f} ms, "
              f"{(server.cpu() - before) * 10 / len(times):.2f} ms of CPU each")
        for name, query in QUERIES:
            times, found, before = [], 0, server.cpu()
            for number in range(ROUNDS):
                text = query % (number * 797 % 20_000) if "%" in query else query
                began = time.monotonic()
                answer = server.search(text)
                times.append(time.monotonic() - began)
                found += len(answer["traces"])
                if not answer["complete"]:
                    raise SystemExit(f"{text}: the budget ended after {times[-1]:.1f} s")
            print(f"{name:<36} p50 {percentile(times, 0.5):7.1f} ms   p99 {percentile(times, 0.99):7.1f} ms   "
                  f"{(server.cpu() - before) * 10 / ROUNDS:7.1f} ms of CPU   {found / ROUNDS:5.1f} traces")
        print(f"{server.rss_mib()} MiB resident afterwards")
        server.stop()
    finally:
        if not kept:
            shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
