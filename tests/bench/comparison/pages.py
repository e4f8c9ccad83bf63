"""Ordinary pages over kept connections: nginx serves them, wrk asks for them."""

import json
import os
import resource
import subprocess
import time

from comparison import figures, processes, workloads
from comparison.figures import CPU, RATE, markdown
from comparison.measuring import PATIENCE, Bench, Fault
from comparison.subjects import TEMPLATES, Subject

HTTPD = "@HTTPD@ -DFOREGROUND -d @DIR@ -f {pages-httpd.conf}"
# name: command, variables of its template
PEERS = {
    "httpd-event": (HTTPD, {"MPM": "event"}),
    "httpd-worker": (HTTPD, {"MPM": "worker"}),
    "nginx": ("nginx -p @DIR@ -c {pages-nginx.conf}", {"WORKERS": "auto"}),
    "haproxy": ("haproxy -db -f {pages-haproxy.cfg}", {}),
}
PRODUCT = "@PRODUCT@ -c 'User root' -f {pages-product.conf}"
BACKEND = "nginx -p @DIR@ -c {pages-backend.conf}"
# Whom the product is held against: of httpd's two, the better.
GROUPS = {"httpd": ["httpd-event", "httpd-worker"], "nginx": ["nginx"], "HAProxy": ["haproxy"]}
# Seconds that a proxy is under load before it is measured the first time.
WARMUP = 1


class PageBench(Bench):
    """The backend is nginx with files, and wrk is the client. Its windows are whole seconds."""

    def __init__(self, work, ports, values, subjects, pace, repeats):
        super().__init__(None, subjects, pace, repeats)
        self.work, self.ports, self.values = work, ports, values
        self.warm = set()

    def _start_backend(self):
        values = {**self.values, "LISTENS": " ".join(f"listen 127.0.0.1:{each.backend} reuseport;"
                                                     for each in self.subjects)}
        backend = Subject("backend", "backend", BACKEND)
        backend.prepare(self.work, self.ports, values)
        for workload in workloads.PAGES:
            # The large one is a hole, and takes no room on the disk.
            with open(backend.directory / workload.path, "wb") as file:
                file.truncate(workload.size)
        backend.ports = {"plain": self.subjects[0].backend}
        backend.start(self.pace.settle)
        self.backend = backend.process

    def _rate(self, workload, subject):
        if subject.process and subject.process.pid not in self.warm:
            self._ask(workload, subject, WARMUP)
            self.warm.add(subject.process.pid)
        return self._ask(workload, subject, self.pace.seconds)

    def _ask(self, workload, subject, seconds):
        before, began = self._clocks(subject), time.monotonic()
        load = processes.start(
            ["wrk", "--threads", 1, "--connections", workload.conns, "--duration", f"{seconds}s",
             "--script", TEMPLATES / "pages-wrk.lua", f"http://127.0.0.1:{subject.ports['plain']}/{workload.path}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            said, complaint = load.communicate(timeout=seconds + PATIENCE)
        finally:
            processes.stop(load)
        wall, after = time.monotonic() - began, self._clocks(subject)
        if load.returncode or not said:
            raise Fault(complaint.strip() or "wrk said nothing")
        counted = json.loads(said.strip().splitlines()[-1])
        took = counted.pop("us") / 1e6
        requests, received = counted.pop("requests"), counted.pop("bytes")
        counted["faults"] = {what: count for what, count in counted["faults"].items() if count}
        if not received:
            counted["faults"]["nothing came through"] = 1
        if workload.mode == "download":
            # The last one is cut off by wrk.
            cell = {"faults": counted["faults"], "units": received, "rate": received / 2**20 / took}
        else:
            cell = {**counted, "units": requests, "rate": requests / took}
        return {**cell, "cpu": {"wall": wall, **{name: after[name] - before[name] for name in after}}}

    def _clocks(self, subject):
        """Seconds of CPU time."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        clocks = {
            "backend": processes.cpu_seconds(self.backend.pid),
            "client": ended.ru_utime + ended.ru_stime,
            "machine": _busy_seconds(),
        }
        if subject.process:
            clocks["proxy"] = processes.cpu_seconds(subject.process.pid)
        return clocks


def _busy_seconds():
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def against(run, product):
    """How a product stands against each of the others."""
    rows = []
    for workload in workloads.PAGES:
        for metric, title in ((RATE, workload.unit), (CPU, workload.cost_unit)):
            figure = run.median(workload.name, product, metric.get)
            if figure is not None:
                bases = (run.best(workload.name, names, metric) for names in GROUPS.values())
                rows.append([workload.name, title, figures.number(figure), *(
                    figures.ratio(figure, base and run.median(workload.name, base, metric.get)) for base in bases)])
    return markdown(["workload", f"{product}'s", "", *(f"÷ {name}" for name in GROUPS)], rows, left=2)
