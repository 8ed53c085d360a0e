"""Jaeger's own sampler for Python (OpenTelemetry has none on PyPI): says whenever it changes its mind."""

import os
import time
from urllib.parse import urlsplit

from jaeger_client import ConstSampler
from jaeger_client.local_agent_net import LocalAgentSender
from jaeger_client.sampler import RemoteControlledSampler

server = urlsplit(os.environ["SAMPLING"])
channel = LocalAgentSender(host=server.hostname, sampling_port=server.port, reporting_port=1)
sampler = RemoteControlledSampler(channel, "shop", init_sampler=ConstSampler(False), sampling_refresh_interval=0.05)
last = None
while True:
    decisions = [sampler.is_sampled(2**62, name)[0] for name in ("GET /", "GET /rare")]
    now = " ".join(str(decision).lower() for decision in decisions)
    if now != last:
        print("SAMPLES", now, flush=True)
    last = now
    time.sleep(0.02)
