#!/usr/bin/env python3
"""Spanwise beside the Go collector, on one core: CPU nanoseconds per span of the server process, in the same run.

    bench/run.py all                 every row of docs/benchmarks.md that has a peer or a bound, about 12 minutes
    bench/run.py relay-none tail     these rows
    RUNS=3 SPANS=1000000 bench/run.py relay-none
"""

import json
import os
import statistics
import subprocess
import sys
import time

from processes import Server, Sink, free_port, load, scratch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNS = int(os.environ.get('RUNS', 1))
SPANS = int(os.environ.get('SPANS', 1_000_000))
WARM_UP = 200_000
MIB = 1 << 20
OWN_HOST = '127.0.0.9'


def spanwise():
    """The program to measure: SPANWISE, or the release build."""
    if 'SPANWISE' in os.environ:
        return os.environ['SPANWISE']
    cache = os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache'))
    target = os.environ.setdefault('CARGO_TARGET_DIR', f'{cache}/spanwise/target')
    subprocess.run(['cargo', 'build', '--quiet', '--release', '-p', 'spanwise'], cwd=ROOT, check=True)
    return f'{target}/release/spanwise'


def config(port, sink, compression='none', processors='', queue='enabled: false', extensions='', retry='false'):
    named = ', '.join(line.split(':')[0].strip() for line in processors.splitlines() if line[2:3].strip())
    exporter = f'''
  otlp:
    endpoint: {sink}
    tls: {{ insecure: true }}
    compression: {compression}
    sending_queue: {{ {queue} }}
    retry_on_failure: {{ enabled: {retry} }}''' if sink else '\n  nop:'
    return f'''
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:{port}' }} }} }}
processors:
{processors}
exporters:{exporter}
extensions:
{extensions}
service:
  extensions: [{'file_storage' if extensions else ''}]
  telemetry: {{ metrics: {{ level: none }}, logs: {{ level: warn }} }}
  pipelines:
    traces: {{ receivers: [otlp], processors: [{named}], exporters: [{'otlp' if sink else 'nop'}] }}
'''


class Bench:
    def __init__(self):
        self.ours = spanwise()
        self.peer = subprocess.run([f'{ROOT}/bench/peers.sh'], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.scratch = scratch()

    def server(self, who, port, config, data_dir=None):
        """COLLECTOR is `crates/spanwise-pipeline/examples/collector.rs`, built: quicker to try things with."""
        if who == 'rotel':
            agent = subprocess.run([f'{ROOT}/bench/rotel.sh'], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
            return Server([agent, 'start', '--otlp-grpc-endpoint', f'127.0.0.1:{port}', *config], '', port, self.scratch.name)
        if who == 'peer':
            return Server([self.peer, '--config', 'CONFIG'], config, port, self.scratch.name)
        if 'COLLECTOR' in os.environ:
            return Server([os.environ['COLLECTOR'], 'CONFIG', *([data_dir] if data_dir else [])], config, port, self.scratch.name)
        data = ['--data-dir', data_dir] if data_dir else []
        command = [self.ours, 'serve', '--listen', OWN_HOST, '--config', 'CONFIG', *data]
        return Server(command, config, port, self.scratch.name, OWN_HOST)

    def once(self, who, compression, has_sink=True, data_dir=None, **settings):
        """One server, one load, and what came of it."""
        port, sink = free_port(), Sink(self.ours) if has_sink else None
        settings = rotel_options(sink, compression) if who == 'rotel' else config(port, sink and sink.address, compression, **settings)
        server = self.server(who, port, settings, data_dir)
        load(self.ours, server, compression, WARM_UP, seed=2)
        server.quiet(5)
        before = server.cpu_ns()
        sent = load(self.ours, server, compression, SPANS)
        used = server.quiet(30) - before
        rss = server.memory('VmHWM')
        server.stop()
        taken = sink.stop() if sink else None
        if sent['accepted'] < SPANS or (taken and taken['spans'] < sent['accepted'] + WARM_UP):
            print(f'  ! {who}: {sent} {taken}')
        return {'ns': used / sent['accepted'], 'rss': rss, 'rate': sent['accepted_per_second'], 'p99': sent['p99_ms'],
                'wire': taken['bytes'] / taken['spans'] if taken else 0}

    def beside(self, row, bound, aim, compression, **settings):
        """Ours and the peer in turn, RUNS times; prints the medians and their ratio."""
        runs = {'ours': [], 'peer': []}
        for _ in range(RUNS):
            for who, found in runs.items():
                found.append(self.once(who, compression, **settings))
        ours, peer = ({key: statistics.median(run[key] for run in found) for key in found[0]} for found in runs.values())
        ratio = peer['ns'] / ours['ns']
        print(f"| {row} | {ours['ns']:.0f} | {peer['ns']:.0f} | 1/{ratio:.1f} | 1/{bound}, aim 1/{aim} | "
              f"{ours['rss'] / MIB:.0f} / {peer['rss'] / MIB:.0f} | {ours['wire']:.0f} / {peer['wire']:.0f} | "
              f"{ours['rate'] / 1000:.0f}k / {peer['rate'] / 1000:.0f}k |", flush=True)


def relay(bench, compression, bound, aim):
    bench.beside(f'relay, {compression}', bound, aim, compression)


def batch(bench, compression, bound, aim):
    bench.beside(f'batch 8192 + queue, {compression}', bound, aim, compression, processors='  batch: {}', queue='enabled: true')


def rotel_options(sink, compression):
    """It gathers 8,192 spans by default."""
    if not sink:
        return ['--exporter', 'blackhole']
    return ['--exporter', 'otlp', '--otlp-exporter-endpoint', f'http://{sink.address}', '--otlp-exporter-compression', compression]


def rotel(bench):
    """The newest of Rotel's that there is as a package, of early 2025: no evidence of what it does today."""
    for row, compression, has_sink, settings in (
            ('receive, none; rotel to its blackhole', 'none', False, {}),
            ('batch 8192 + queue, none; rotel', 'none', True, {'processors': '  batch: {}', 'queue': 'enabled: true'}),
            ('batch 8192 + queue, gzip; rotel', 'gzip', True, {'processors': '  batch: {}', 'queue': 'enabled: true'})):
        ours, peer = (bench.once(who, compression, has_sink=has_sink, **settings) for who in ('ours', 'rotel'))
        print(f"| {row} | {ours['ns']:.0f} | {peer['ns']:.0f} | 1/{peer['ns'] / ours['ns']:.1f} | | "
              f"{ours['rss'] / MIB:.0f} / {peer['rss'] / MIB:.0f} | {ours['wire']:.0f} / {peer['wire']:.0f} | "
              f"{ours['rate'] / 1000:.0f}k / {peer['rate'] / 1000:.0f}k |", flush=True)


def nop(bench, compression, bound, aim):
    bench.beside(f'receive to nop, {compression}', bound, aim, compression, has_sink=False)


STORAGE = '''  file_storage: {{ directory: '{dir}', create_directory: true, fsync: true }}'''


def queue(bench):
    """The durable queue: CPU beside the peer, then a kill -9 in the middle."""
    runs = {}
    for who in ('ours', 'peer'):
        extension = STORAGE.format(dir=f'{bench.scratch.name}/queue-{who}')
        runs[who] = bench.once(who, 'none', queue='enabled: true, storage: file_storage, queue_size: 100000', extensions=extension)
    ours, peer = runs['ours'], runs['peer']
    print(f"| durable queue, fsynced, none | {ours['ns']:.0f} | {peer['ns']:.0f} | 1/{peer['ns'] / ours['ns']:.1f} | 1/8, aim 1/12 | "
          f"{ours['rss'] / MIB:.0f} / {peer['rss'] / MIB:.0f} | | {ours['rate'] / 1000:.0f}k / {peer['rate'] / 1000:.0f}k |", flush=True)
    port, sink = free_port(), Sink(bench.ours, distinct=True, delay_ms=100)
    extension = STORAGE.format(dir=f'{bench.scratch.name}/queue-kill')
    settings = config(port, sink.address, queue='enabled: true, storage: file_storage, queue_size: 100000', extensions=extension, retry='true')
    server = bench.server('ours', port, settings)
    sending = load(bench.ours, server, spans=300_000, rate=75_000, wait=False)
    time.sleep(3)
    server.kill()
    server.start()
    sent = json.loads(sending.communicate()[0])
    server.quiet()
    server.stop()
    taken = sink.stop()
    lost = max(0, sent['accepted'] - taken['distinct'])
    print(f"durable queue, kill -9 at 75,000 spans/s with a slow next hop: {sent['accepted']} acknowledged, {lost} lost, "
          f"{taken['spans'] - taken['distinct']} sent twice", flush=True)


TAIL = '''  tail_sampling:
    decision_wait: 10s
    num_traces: 2000000
{durability}    policies:
      - { name: errors, type: status_code, status_code: { status_codes: [ERROR] } }
      - { name: slow, type: latency, latency: { threshold_ms: 1000 } }
      - { name: random, type: probabilistic, probabilistic: { sampling_percentage: 5 } }
  batch: {}'''
TAIL_RATE, TAIL_SECONDS = 40_000, int(os.environ.get('TAIL_SECONDS', 30))


def tail_once(bench, who, journal):
    durability = '    durability: memory\n' if who == 'ours' and not journal else ''
    port, sink = free_port(), Sink(bench.ours)
    data_dir = f'{bench.scratch.name}/tail-data-{port}' if journal else None
    settings = config(port, sink.address, processors=TAIL.replace('{durability}', durability), queue='enabled: true')
    server = bench.server(who, port, settings, data_dir)
    time.sleep(2)
    idle = server.memory('VmRSS')
    sending = load(bench.ours, server, spans=TAIL_RATE * (TAIL_SECONDS + 5), rate=TAIL_RATE, distinct=400_000, wait=False)
    # The first ten seconds decide nothing.
    while server.cpu_ns() == 0 or server.memory('VmRSS') < idle + 8 * MIB:
        time.sleep(0.1)
    time.sleep(12)
    before, samples = server.cpu_ns(), []
    began = time.monotonic()
    while time.monotonic() - began < TAIL_SECONDS - 12:
        samples.append(server.memory('VmRSS'))
        time.sleep(0.5)
    spans = TAIL_RATE * (time.monotonic() - began)
    used = server.cpu_ns() - before
    sent = json.loads(sending.communicate()[0])
    server.stop()
    taken = sink.stop()
    waiting = (statistics.median(samples) - idle) / (TAIL_RATE * 10)
    return {'ns': used / spans, 'waiting': waiting, 'rss': statistics.median(samples), 'sent': sent, 'taken': taken}


def tail(bench):
    """RUNS times each in turn: one run differs from the next by a third. Prints medians, and the ratios of each turn."""
    kinds = (('ours', 'ours', False), ('journal', 'ours', True), ('peer', 'peer', False))
    turns = [{name: tail_once(bench, who, journal) for name, who, journal in kinds} for _ in range(RUNS)]
    median = lambda name, what: statistics.median(turn[name][what] for turn in turns)
    for name, bound in (('ours', '1/8, aim 1/12; 600 B, aim 500'), ('journal', '1/6')):
        ratios = [turn['peer']['ns'] / turn[name]['ns'] for turn in turns]
        last = turns[-1]
        print(f"| tail sampling at {TAIL_RATE} spans/s{', journal' if name == 'journal' else ''} | {median(name, 'ns'):.0f} | "
              f"{median('peer', 'ns'):.0f} | 1/{statistics.median(ratios):.1f} ({', '.join(f'{ratio:.1f}' for ratio in ratios)}) | {bound} | "
              f"{median(name, 'rss') / MIB:.0f} / {median('peer', 'rss') / MIB:.0f} | "
              f"{median(name, 'waiting'):.0f} / {median('peer', 'waiting'):.0f} B a waiting span | "
              f"{last[name]['taken']['spans']} / {last['peer']['taken']['spans']} kept |", flush=True)


def latency(bench):
    """Time to the answer at half of saturation, into the store, every answer synced."""
    port = free_port()
    store = f'''
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:{port}' }} }} }} }}
exporters: {{ spanwise: {{}} }}
service: {{ pipelines: {{ traces: {{ receivers: [otlp], exporters: [spanwise] }} }} }}
'''
    server = bench.server('ours', port, store, f'{bench.scratch.name}/latency-data')
    full = load(bench.ours, server, spans=SPANS)
    time.sleep(3)
    half = int(full['accepted_per_second'] / 2)
    sent = load(bench.ours, server, spans=half * 8, rate=half, distinct=300_000, seed=3)
    server.stop()
    print(f"ack latency into the store at half of saturation ({half} spans/s): p50 {sent['p50_ms']:.1f} ms, p99 {sent['p99_ms']:.1f} ms, "
          f"max {sent['max_ms']:.0f} ms (bounds 8 and 40); at saturation {full['accepted_per_second']:.0f} spans/s, p99 {full['p99_ms']:.0f} ms", flush=True)


def overload(bench):
    """A next hop that is slower than the senders: memory stays inside its bound, every refusal is counted, and what is
    taken in does not fall. OVERLOAD_SECONDS=300 is the long run, at twice what the next hop takes."""
    seconds, limit = int(os.environ.get('OVERLOAD_SECONDS', 15)), 128
    limiter = f'  memory_limiter: {{ check_interval: 1s, limit_mib: {limit} }}\n  batch: {{}}'
    for who in ('ours', 'peer'):
        port, sink = free_port(), Sink(bench.ours, delay_ms=1000)
        server = bench.server(who, port, config(port, sink.address, processors=limiter, queue='enabled: true', retry='true'))
        idle = server.memory('VmRSS')
        # Ten consumers of 8,192 spans, one second each.
        peak = 81_920
        results, offered, answered = [], 0, 0
        for factor, share, lasting in ((1, 1, 15), (2, 2, seconds), (10, 10, min(seconds, 30)), ('after, 0.9', 0.9, 10)):
            if share < 1:
                time.sleep(5)
            rate = int(peak * share)
            sent = load(bench.ours, server, spans=rate * lasting, rate=rate, distinct=300_000, seed=int(share) + 1)
            refused = sent['refused'] + sent['failed']
            offered, answered = offered + rate * lasting, answered + sent['accepted'] + refused
            results.append(f"{factor}x: {sent['accepted_per_second'] / peak:.0%} of it accepted, {refused} refused in {sent['seconds']:.0f} s")
        rss = server.memory('VmHWM')
        server.stop()
        taken = sink.stop()
        print(f"overload, {who}, limit {limit} MiB, next hop {peak} spans/s: peak RSS {rss / MIB:.0f} MiB (idle {idle / MIB:.0f}); "
              f"{'; '.join(results)}; {offered - answered} without an answer, {taken['spans']} arrived", flush=True)


def idle(bench):
    found = []
    for who in ('ours', 'peer'):
        port = free_port()
        if who == 'ours':
            empty = f"receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:{port}' }} }} }} }}\nexporters: {{ spanwise: {{}} }}\n" \
                    'service: { pipelines: { traces: { receivers: [otlp], exporters: [spanwise] } } }\n'
            server = bench.server(who, port, empty, f'{bench.scratch.name}/idle-data')
        else:
            server = bench.server(who, port, config(port, None))
        time.sleep(4)
        found.append(f"{who} {server.memory('VmRSS') / MIB:.0f} MiB, ready after {server.start_seconds * 1000:.0f} ms")
        server.stop()
    print(f"idle, ours with an empty store: {'; '.join(found)} (bounds 60 MiB and 300 ms)", flush=True)


ROWS = {
    'nop-none': lambda bench: nop(bench, 'none', 7, 12),
    'nop-zstd': lambda bench: nop(bench, 'zstd', 5, 7),
    'relay-none': lambda bench: relay(bench, 'none', 6, 9),
    'relay-zstd': lambda bench: relay(bench, 'zstd', 6, 8),
    'relay-gzip': lambda bench: relay(bench, 'gzip', 10, 15),
    'batch-none': lambda bench: batch(bench, 'none', 6, 9),
    'batch-zstd': lambda bench: batch(bench, 'zstd', 4, 5),
    'batch-gzip': lambda bench: batch(bench, 'gzip', 3.5, 6),
    'rotel': rotel,
    'queue': queue,
    'tail': tail,
    'latency': latency,
    'overload': overload,
    'idle': idle,
}


def main():
    rows = sys.argv[1:]
    if not rows or any(row not in ROWS and row != 'all' for row in rows):
        raise SystemExit(f"{__doc__}\nrows: {' '.join(ROWS)}")
    bench = Bench()
    print('| path | Spanwise ns/span | collector ns/span | ratio | goal | RSS peak MiB | B/span sent | spans/s |\n|---|---|---|---|---|---|---|---|')
    for row in ROWS if 'all' in rows else rows:
        ROWS[row](bench)


if __name__ == '__main__':
    main()
