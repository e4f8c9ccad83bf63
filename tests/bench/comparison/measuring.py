"""Measuring: one subject under one workload gives a cell, a dictionary that goes into the JSON file as it is."""

import json
import subprocess
import time
from dataclasses import dataclass

from comparison import figures, processes
from comparison.subjects import NotStarted

# A noisy cell is measured again, up to this often; the quietest counts.
TRIES = 3
# Seconds that opening all tunnels of an idle workload may take.
OPENING = 60
# Seconds beyond its window that the load generator may take.
PATIENCE = 90


@dataclass(frozen=True)
class Pace:
    """How long and how often."""

    seconds: float
    rounds: int
    # Idle workloads are slow, and vary little.
    idle_rounds: int
    warmup: float = 0.3
    # A wait for helpers of a proxy that has started, and for tunnels that have been opened.
    settle: float = 0.5


class Fault(Exception):
    """A measurement that came to nothing."""


class Bench:
    """The backend, the subjects, and how they are measured."""

    def __init__(self, loadgen, subjects, pace, repeats, identity=None):
        self.loadgen = loadgen
        self.subjects = subjects
        self.pace = pace
        # Cells that may still be measured again.
        self.repeats = repeats
        # What the backend shows in TLS.
        self.identity = identity

    def start(self, skipped):
        """Starts everybody; peers that cannot be started are left out, and said to be in `skipped`."""
        self._start_backend()
        for subject in list(self.subjects):
            try:
                subject.start(self.pace.settle)
            except NotStarted as error:
                # What somebody else has installed may be built in another way.
                if subject.role != "peer":
                    raise
                self.subjects.remove(subject)
                skipped.append(str(error))

    def _start_backend(self):
        addresses = [part for subject in self.subjects for part in (
            "--listen", f"127.0.0.1:{subject.backend}", "--listen-tls", f"127.0.0.1:{subject.backend_tls}")]
        argv = [self.loadgen, "backend", *addresses, "--cert", self.identity["CERT"], "--key", self.identity["KEY"]]
        self.backend = processes.start(argv, stdout=subprocess.PIPE, text=True)
        if self.backend.stdout.readline().strip() != "ready":
            raise Fault("the backend did not start")

    def turns(self, chosen):
        """Each round has every workload, and each workload every subject, so that the machine's moods are shared."""
        for number in range(self.pace.rounds):
            for workload in chosen:
                if workload.mode == "idle" and number >= self.pace.idle_rounds:
                    continue
                taking = [subject for subject in self.subjects if subject.takes(workload)]
                turn = number % max(1, len(taking))
                for subject in taking[turn:] + taking[:turn]:
                    yield number, workload, subject

    def measure(self, workload, subject):
        """A cell. One in which others have used the machine is measured again, as long as repeats are left."""
        tries = [self._once(workload, subject)]
        while (self.repeats > 0 and len(tries) < TRIES and workload.mode != "idle"
               and (figures.others(tries[-1]) or 0) >= figures.NOISY):
            self.repeats -= 1
            time.sleep(0.5)
            tries.append(self._once(workload, subject))
        return min(tries, key=lambda cell: figures.others(cell) or 0)

    def _once(self, workload, subject):
        how = {"idle": self._idle, "mixed": self._mixed}.get(workload.mode, self._rate)
        try:
            subject.start(self.pace.settle)
            cell = how(workload, subject)
        except (Fault, NotStarted, OSError, ValueError, subprocess.TimeoutExpired) as error:
            cell = {"faults": {f"{type(error).__name__}: {error}"[:300]: 1}}
        if subject.has_died():
            cell.setdefault("faults", {})["the proxy has died"] = 1
        return {"workload": workload.name, "subject": subject.name, **cell}

    def _load(self, workload, subject, mode, seconds, *more):
        argv = [self.loadgen, mode, "--to", f"127.0.0.1:{subject.ports[workload.link]}",
                "--protocol", subject.protocol(workload), "--path", f"/ws/{workload.path}",
                "--conns", workload.conns, "--size", workload.size,
                "--seconds", seconds, "--warmup", self.pace.warmup, "--watch", f"backend={self.backend.pid}"]
        if subject.process:
            argv += ["--watch", f"proxy={subject.process.pid}"]
        return processes.start([*argv, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)

    def _rate(self, workload, subject):
        return self._result(self._load(workload, subject, workload.mode, self.pace.seconds))

    def _result(self, load):
        """What a load generator prints before it ends."""
        try:
            said, complaint = load.communicate(timeout=self.pace.seconds + PATIENCE)
        finally:
            processes.stop(load)
        if not said:
            raise Fault(complaint.strip() or "the load generator said nothing")
        result = json.loads(said)
        if not result["units"]:
            result["faults"]["nothing came through"] = 1
        return result

    def _mixed(self, workload, subject):
        """Echoes alone, and the same beside one tunnel that streams as fast as it goes."""
        results = {}
        for name, more in {"alone": [], "beside": ["--beside", "/ws/source"]}.items():
            load = self._load(workload, subject, "echo", self.pace.seconds, *more)
            results[name] = self._result(load)
        faults = {**results["alone"].pop("faults"), **results["beside"].pop("faults")}
        return {**results, "cpu": results["beside"]["cpu"], "faults": faults}

    def _idle(self, workload, subject):
        """On a fresh proxy: what it takes before and with the tunnels, then one message through each."""
        subject.stop()
        subject.start(self.pace.settle)
        pid = subject.process and subject.process.pid
        fresh = pid and processes.footprint(pid)
        load = self._load(workload, subject, "idle", OPENING)
        try:
            cell = said(load)
            if pid:
                time.sleep(self.pace.settle)
                cell["fresh"], cell["held"] = fresh, processes.footprint(pid)
                before, began = processes.cpu_seconds(pid), time.monotonic()
                time.sleep(self.pace.seconds)
                spent = processes.cpu_seconds(pid) - before
                cell["idle_ms_per_s"] = 1000 * spent / (time.monotonic() - began)
            load.stdin.write("broadcast\n")
            load.stdin.flush()
            cell["broadcast"] = said(load)
            cell["faults"] = cell["broadcast"].pop("faults")
        finally:
            processes.stop(load)
        # The next workload shall not find a proxy that has held so many.
        subject.stop()
        return cell

    def count_calls(self, workload, subject):
        """System calls of the proxy per unit of work, in a run of its own: counting slows it down."""
        seconds = max(self.pace.seconds, 1.0)
        load = self._load(workload, subject, workload.mode, seconds + 0.6)
        time.sleep(self.pace.warmup + 0.2)
        pids = ",".join(map(str, processes.tree(subject.process.pid)))
        counting = processes.start(
            ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", pids, "--", "sleep", seconds],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        cell = {"workload": workload.name, "subject": subject.name}
        try:
            _, counts = counting.communicate(timeout=seconds + PATIENCE)
            result = self._result(load)
            calls = int(counts.strip().splitlines()[-1].split(",")[0])
            cell["calls"] = calls / seconds / result["rate"]
        except (Fault, ValueError, IndexError, ZeroDivisionError, subprocess.TimeoutExpired):
            cell["faults"] = {"no count": 1}
        finally:
            processes.stop(counting)
            processes.stop(load)
        return cell


def said(load):
    """The next line of a load generator."""
    line = load.stdout.readline()
    if not line:
        raise Fault("the load generator ended")
    return json.loads(line)
