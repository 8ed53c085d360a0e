"""Servers under test on core 0, load and sink on core 1; what a process has used, as the kernel counts it."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time

SERVER_CPU, LOAD_CPU = '0', '1'


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def pinned(cpu, command, **options):
    return subprocess.Popen(['taskset', '-c', cpu, *command], **options)


class Server:
    """Ours or the peer, with the same config file. Ours binds all it has to an address of its own, so that nothing
    else on the machine is in the way. `command` gets the path of the config where it says CONFIG."""

    def __init__(self, command, config, port, scratch, host='127.0.0.1'):
        self.log = open(os.path.join(scratch, f'server-{port}.log'), 'ab')
        path = os.path.join(scratch, f'config-{port}.yaml')
        with open(path, 'w') as file:
            file.write(config)
        self.command, self.host, self.port = [path if part == 'CONFIG' else part for part in command], host, port
        self.address = f'{host}:{port}'
        self.environment = {**os.environ, 'GOMAXPROCS': '1'}
        self.start()

    def start(self):
        began = time.monotonic()
        self.process = pinned(SERVER_CPU, self.command, stdout=self.log, stderr=self.log, env=self.environment)
        while time.monotonic() - began < 30:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                self.start_seconds = time.monotonic() - began
                return
            except OSError:
                time.sleep(0.002)
                if self.process.poll() is not None:
                    break
        raise SystemExit(f'{self.command} did not start: see {self.log.name}')

    def cpu_ns(self):
        """Of all threads there are, in nanoseconds."""
        total = 0
        for task in os.listdir(f'/proc/{self.process.pid}/task'):
            try:
                with open(f'/proc/{self.process.pid}/task/{task}/schedstat') as file:
                    total += int(file.read().split()[0])
            except FileNotFoundError:
                pass
        return total

    def memory(self, field):
        """VmRSS or VmHWM, in bytes."""
        with open(f'/proc/{self.process.pid}/status') as file:
            line = next(line for line in file if line.startswith(field))
        return int(line.split()[1]) * 1024

    def quiet(self, patience=60):
        """Waits until it has done nothing for a second; answers the CPU used so far."""
        last, began = self.cpu_ns(), time.monotonic()
        while time.monotonic() - began < patience:
            time.sleep(1)
            now = self.cpu_ns()
            if now - last < 10_000_000:
                return now
            last = now
        return last

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.log.close()


class Sink:
    def __init__(self, spanwise, port=0, distinct=False, delay_ms=0):
        command = [spanwise, 'load', '--sink', f'127.0.0.1:{port}', '--delay-ms', str(delay_ms)]
        command += ['--count-distinct'] if distinct else []
        self.process = pinned(LOAD_CPU, command, stdout=subprocess.PIPE)
        self.address = json.loads(self.process.stdout.readline())['listening']

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        counted = json.loads(self.process.stdout.readline())
        self.process.wait()
        return counted


def load(spanwise, server, compression='none', spans=1_000_000, wait=True, **options):
    """Sends over 2 connections with 4 requests in flight each; answers what the generator reports."""
    command = [spanwise, 'load', '--endpoint', server.address, '--format', 'json', '--compression', compression]
    defaults = {'protocol': 'grpc', 'connections': 2, 'in-flight': 4, 'spans': spans}
    for name, value in {**defaults, **options}.items():
        command += [f'--{name}', str(value)]
    process = pinned(LOAD_CPU, command, stdout=subprocess.PIPE)
    return json.loads(process.communicate()[0]) if wait else process


def scratch():
    return tempfile.TemporaryDirectory(prefix='spanwise-bench-')
