"""Jaeger's own sampler for Python (OpenTelemetry has none on PyPI): says whenever it changes its mind."""

import os
import threading
from urllib.parse import urlsplit

from jaeger_client import ConstSampler
from jaeger_client.local_agent_net import LocalAgentSender
from jaeger_client.sampler import RemoteControlledSampler


class Sampler(RemoteControlledSampler):
    said = None

    def tell(self):
        decisions = [self.is_sampled(2**62, name)[0] for name in ("GET /", "GET /rare")]
        now = " ".join(str(decision).lower() for decision in decisions)
        if now != self.said:
            print("SAMPLES", now, flush=True)
        self.said = now

    def _sampling_request_callback(self, future):
        super()._sampling_request_callback(future)
        self.tell()


server = urlsplit(os.environ["SAMPLING"])
channel = LocalAgentSender(host=server.hostname, sampling_port=server.port, reporting_port=1)
sampler = Sampler(channel, "shop", init_sampler=ConstSampler(False), sampling_refresh_interval=0.05)
threading.Event().wait()
