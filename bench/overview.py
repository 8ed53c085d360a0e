#!/usr/bin/env python3
"""What the page's first views and `insights` cost over many stored spans: `make bench-overview`.

As bench/search.py: SPANS (10,000,000) made-up spans in a new data directory, or those of DATA=DIR. Each address is asked
ROUNDS times by a server that was just started, each time for another window, so that no answer serves twice; insights
by a new process each time as well.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

import search

ROUNDS = int(os.environ.get("ROUNDS", 9))


def ask(program, data, name, path):
    times, cpu, answer, rss = [], 0, None, 0
    for number in range(ROUNDS):
        server = search.Server(program, data)
        before = server.cpu()
        began = time.monotonic()
        answer = server.get(path + ("&" if "?" in path else "?") + f"from={1_000_000_000 + number}")
        times.append(time.monotonic() - began)
        cpu += server.cpu() - before
        rss = max(rss, server.rss_mib())
        server.stop()
    said = {key: answer[key] for key in ("traces", "traces_read", "spans", "complete", "bounded") if key in answer}
    print(f"{name:<12} p50 {search.percentile(times, 0.5):7.1f} ms   most {max(times) * 1e3:7.1f} ms   "
          f"{cpu * 10 / ROUNDS:7.1f} ms of CPU   {rss} MiB   {said}", flush=True)
    return answer


def main():
    program = sys.argv[1]
    kept = os.environ.get("DATA")
    data = kept or tempfile.mkdtemp(prefix="spanwise-bench-overview.")
    try:
        if not os.path.isdir(data + "/manifest"):
            search.fill(program, data)
        search.report_size(data)
        services = ask(program, data, "services", "/api/spanwise/services/summary")
        ask(program, data, "map", "/api/spanwise/map")
        roots = [(operation["roots"], service["name"], operation["name"])
                 for service in services["services"] for operation in service["operations"]]
        for what, (_, service, operation) in [("entry, most", max(roots)), ("entry, least", min(r for r in roots if r[0]))]:
            ask(program, data, what, "/api/spanwise/entry?" + urllib.parse.urlencode(
                {"service": service, "operation": operation}))
        found = ask(program, data, "insights", "/api/spanwise/insights")
        print(f"{len(found['findings'])} findings")
        times = []
        for _ in range(ROUNDS):
            began = time.monotonic()
            subprocess.run([program, "insights", "--data-dir", data], check=False, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            times.append(time.monotonic() - began)
        print(f"spanwise insights, a process of its own: p50 {search.percentile(times, 0.5):.0f} ms, "
              f"most {max(times) * 1e3:.0f} ms")
    finally:
        if not kept:
            shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
