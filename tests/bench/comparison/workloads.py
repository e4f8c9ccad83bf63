"""The workloads: what the load generator does, and what is counted."""

from dataclasses import dataclass

SIZES = {"32B": 32, "1K": 1024, "16K": 16 * 1024}
FRAME = 64 * 1024
STREAMS = {"down": f"source?size={FRAME}", "up": "sink", "both": f"both?size={FRAME}"}
UNITS = {"handshake": "handshakes/s", "echo": "messages/s", "stream": "MiB/s",
         "page": "requests/s", "download": "MiB/s"}
COSTS = {"handshake": "CPU µs/handshake", "echo": "CPU µs/message", "stream": "CPU s/GiB",
         "page": "CPU µs/request", "download": "CPU s/GiB"}


@dataclass(frozen=True)
class Workload:
    name: str
    # What the load generator is asked for; `mixed` is two echoes, and `idle` is steered. Pages are asked for by wrk.
    mode: str
    conns: int
    size: int = 32
    path: str = "echo"
    # Which legs are in TLS: `plain` none, `tls` that to the proxy, `wss` that to the backend, `both` both.
    link: str = "plain"

    @property
    def unit(self):
        return UNITS[self.mode]

    @property
    def cost_unit(self):
        return COSTS[self.mode]


def _in_tls(link):
    """What is done where a leg or two are in TLS."""
    return [
        Workload(f"{link}-handshake-c64", "handshake", 64, link=link),
        Workload(f"{link}-echo-32B-c1", "echo", 1, SIZES["32B"], link=link),
        Workload(f"{link}-echo-1K-c100", "echo", 100, SIZES["1K"], link=link),
        *(Workload(f"{link}-stream-{way}-c1", "stream", 1, FRAME, STREAMS[way], link) for way in ("down", "up")),
        Workload(f"{link}-idle-1000", "idle", 1000, link=link),
    ]


ALL = [
    *(Workload(f"handshake-c{conns}", "handshake", conns) for conns in (1, 64)),
    *(Workload(f"echo-{name}-c{conns}", "echo", conns, size)
      for name, size in SIZES.items() for conns in (1, 100, 1000)),
    *(Workload(f"stream-{way}-c{conns}", "stream", conns, FRAME, path)
      for conns in (1, 16) for way, path in STREAMS.items()),
    Workload("mixed", "mixed", 1000),
    *(Workload(f"idle-{conns}", "idle", conns) for conns in (1000, 5000, 9500)),
    *(workload for link in ("tls", "wss", "both") for workload in _in_tls(link)),
]
PAGES = [
    Workload("page-1K-c64", "page", 64, 1024, "page"),
    Workload("download-c1", "download", 1, 2**30, "download"),
]
QUICK = ["handshake-c64", "echo-32B-c1", "echo-1K-c100", "stream-down-c1", "idle-1000"]
# Where the system calls of a unit of work say the most.
COUNTED = ["handshake-c64", "echo-32B-c1", "echo-32B-c100", "echo-16K-c100", "stream-down-c1", "stream-up-c1",
           "both-handshake-c64", "both-echo-1K-c100", "both-stream-down-c1", "both-stream-up-c1"]
