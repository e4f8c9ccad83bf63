"""The tables of a run, in Markdown."""

import datetime
import os
import platform
import re
import subprocess
import sys

from comparison import bars, workloads
from comparison.figures import (
    BROADCAST, CPU, MEMORY, OPENING, P50, P99, P999, RATE, SLOWDOWN, Figures, faults, markdown, number, others, path,
    per, percent, ratio)
from comparison.subjects import CORES, versions

OVERVIEWS = [
    ("Throughput: handshakes/s, messages/s, MiB/s", RATE),
    ("Median latency, µs", P50),
    ("99th percentile of latency, µs", P99),
    ("CPU of the proxy: µs per handshake or message, s per GiB", CPU),
    ("Memory per idle tunnel, KiB", MEMORY),
]
# The README's columns: title, workload, metric.
README = [
    ("handshakes/s", "handshake-c64", RATE),
    ("CPU µs/handshake", "handshake-c64", CPU),
    ("messages/s", "echo-1K-c100", RATE),
    ("CPU µs/message", "echo-1K-c100", CPU),
    ("stream MiB/s", "stream-down-c1", RATE),
    ("CPU s/GiB", "stream-down-c1", CPU),
    ("KiB/idle tunnel", "idle-1000", MEMORY),
]
README_NAMES = {"worker": "**proxy-wstunnel**", "reactor": "**proxy-wstunnel**, `ProxyWebsocketAsync On`"}


def about(pace, skipped, product):
    """What a run was made with."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    version = subprocess.run([product, "-v"], capture_output=True, text=True, timeout=10).stdout
    ours = re.search(r"\d+\.\d+\.\d+\S*", version)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "versions": {"proxy-wstunnel": ours[0] if ours else "?", **versions()},
        "cores": CORES,
        "memory_gib": round(memory / 2**30),
        "kernel": platform.release(),
        "rounds": pace.rounds,
        "seconds": pace.seconds,
        "skipped": skipped,
    }


def say(cell):
    """Tells who waits how it goes."""
    what = faults([cell]) or " ".join(
        f"{metric.title}={number(value)}"
        for metric in (RATE, P50, P99, CPU, SLOWDOWN, MEMORY)
        if (value := metric.get(cell)) is not None)
    print(f"  {cell['workload']:18} {cell['subject']:14} {what}", file=sys.stderr, flush=True)


class Report:
    """The report of a run, which is what the JSON file holds."""

    def __init__(self, run):
        self.about = run["about"]
        self.ended_early = run["ended_early"]
        self.calls = run["calls"]
        self.run = Figures(run["cells"], run["subjects"])

    def everything(self):
        parts = [f"{self.machine()}\n", *self._overviews()]
        for workload in workloads.ALL:
            if self.run.measured(workload.name):
                make = {"idle": self._idle, "mixed": self._mixed}.get(workload.mode, self.rates)
                parts.append(f"### {workload.name}\n\n{make(workload)}\n")
        if self.calls:
            parts.append(f"### System calls of the proxy per handshake, message or MiB\n\n{self._system_calls()}\n")
        if text := bars.table(self.run):
            parts.append(f"### The bars\n\n{text}")
        return "\n".join(parts)

    def machine(self):
        about = self.about
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        lines = [
            f"{versions}; {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['kernel']}; {about['date']}.",
            f"Rounds: {about['rounds']}, of {about['seconds']} s each.",
            *(f"Skipped: {what}." for what in about["skipped"]),
            *(["The run was ended early."] if self.ended_early else []),
        ]
        return "\n".join(lines)

    def readme(self):
        """The table of the project's README."""
        names = [*self.run.names("product"), *self.run.names("peer"), *self.run.names("relay")]
        rows = [[README_NAMES.get(name, name)] + [number(self.run.median(workload, name, metric.get))
                                                  for _, workload, metric in README]
                for name in names]
        return f"{markdown(['', *(title for title, _, _ in README)], rows)}\n\n{self.machine()}"

    def _overviews(self):
        """One figure for each workload and subject; the best peer in bold."""
        for title, metric in OVERVIEWS:
            known = {name for workload, name in self.run.by_place if self.run.median(workload, name, metric.get)}
            names = [name for name in self.run.roles if name in known]
            rows = []
            for workload in workloads.ALL:
                values = {name: self.run.median(workload.name, name, metric.get) for name in names}
                best = self.run.best(workload.name, self.run.names("peer"), metric)
                if any(values.values()):
                    rows.append([workload.name] + [f"**{number(value)}**" if name == best else number(value)
                                                   for name, value in values.items()])
            if rows:
                yield f"### {title}\n\n{markdown(['workload', *names], rows)}\n"

    def _bases(self, workload, metric):
        """The median of the best of each role."""
        for role in ("peer", "direct", "relay"):
            best = self.run.best(workload.name, self.run.names(role), metric)
            yield best and self.run.median(workload.name, best, metric.get)

    def rates(self, workload):
        is_timed = workload.mode not in ("stream", "download")
        head = ["subject", workload.unit, "spread %", "÷ best peer", "÷ direct", "÷ relay",
                *(["p50 µs", "p99 µs", "p99.9 µs"] if is_timed else []),
                workload.cost_unit, "spread %", "÷ best peer", "÷ relay", "others' CPU %", "faults"]
        rates = list(self._bases(workload, RATE))
        peer_cost, _, relay_cost = self._bases(workload, CPU)
        rows = []
        for name in self.run.measured(workload.name):
            place = workload.name, name
            rate, cost = (self.run.median(*place, metric.get) for metric in (RATE, CPU))
            rows.append([
                name, number(rate), percent(self.run.spread(*place, RATE.get)), *(ratio(rate, base) for base in rates),
                *([number(self.run.median(*place, metric.get)) for metric in (P50, P99, P999)] if is_timed else []),
                number(cost), percent(self.run.spread(*place, CPU.get)),
                ratio(cost, peer_cost), ratio(cost, relay_cost),
                number(self.run.median(*place, others)), faults(self.run.cells(*place)),
            ])
        # A column is left out where nobody has anything in it, as that of the relays where none took part.
        told = [column for column in range(len(head)) if any(row[column] != "–" for row in rows)]
        head, *rows = ([row[column] for column in told] for row in (head, *rows))
        return markdown(head, rows)

    def _columns(self, workload, columns):
        """A table of medians, column by column."""
        rows = [[name, *(number(self.run.median(workload.name, name, get)) for get in columns.values()),
                 faults(self.run.cells(workload.name, name))]
                for name in self.run.measured(workload.name)]
        return markdown(["subject", *columns, "faults"], rows)

    def _mixed(self, workload):
        return self._columns(workload, {
            "alone: messages/s": path("alone", "rate"),
            "p99 µs": path("alone", "p99_us"),
            "beside a stream: messages/s": path("beside", "rate"),
            "p99 µs ": path("beside", "p99_us"),
            SLOWDOWN.title: SLOWDOWN.get,
            "stream MiB/s": path("beside", "beside"),
            "others' CPU %": others,
        })

    def _idle(self, workload):
        least, _, _ = self._bases(workload, MEMORY)
        return self._columns(workload, {
            "opened": path("opened"),
            "opening s": OPENING.get,
            "CPU µs/tunnel": per(path("cpu", "proxy"), path("opened"), 1e6),
            "memory MiB": per(path("held", "kib"), lambda _: 1024),
            MEMORY.title: MEMORY.get,
            "÷ best peer": per(MEMORY.get, lambda _: least),
            "processes": path("held", "processes"),
            "threads": path("held", "threads"),
            "files": path("held", "files"),
            "idle CPU ms/s": path("idle_ms_per_s"),
            "broadcast ms": per(BROADCAST.get, lambda _: 1e-3),
            "p99 µs": path("broadcast", "p99_us"),
            "CPU µs/message": per(path("broadcast", "cpu", "proxy"), path("broadcast", "units"), 1e6),
        })

    def _system_calls(self):
        counted = [name for name in workloads.COUNTED if any(cell["workload"] == name for cell in self.calls)]
        run = Figures(self.calls, self.run.roles)
        rows = [[name, *(number(run.median(workload, name, path("calls"))) for workload in counted)]
                for name in self.run.roles if any(cell["subject"] == name for cell in self.calls)]
        return markdown(["subject", *counted], rows)
