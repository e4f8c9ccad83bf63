"""Starting and stopping processes, and what /proc tells about them and their descendants."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager

# Seconds that a process may take to end when it is asked to.
PATIENCE = 10


class Stopped(Exception):
    """The run was asked to end: report what there is."""


class Ending:
    """Turns the first signal that asks for an end into `Stopped`, but not where a process would be lost by it."""

    def __init__(self):
        self.asked = False
        self.held = False

    def listen(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._asked)

    def _asked(self, *_):
        # Once: a second signal must not disturb the stopping.
        first, self.asked = not self.asked, True
        if first and not self.held:
            raise Stopped

    @contextmanager
    def later(self):
        self.held, before = True, self.asked
        try:
            yield
        finally:
            self.held = False
        if self.asked and not before:
            raise Stopped


ENDING = Ending()
_started = []


def start(argv, **options):
    """Starts a process in a session of its own, so that it can be stopped with all that it starts."""
    with ENDING.later():
        process = subprocess.Popen(list(map(str, argv)), start_new_session=True, **options)
        _started.append(process)
    return process


def stop(process):
    """Ends a process that `start` gave, and what is left of its session."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 1
    while (left := _members(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if process in _started:
        _started.remove(process)


def stop_all():
    """Ends what is still running."""
    ENDING.asked = True
    for process in reversed(list(_started)):
        stop(process)


def _members(session):
    """The pids of a session. Its number is that of no other process for as long as it has any."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            if os.getsid(pid) == session:
                found.append(pid)
        except ProcessLookupError:
            pass
    return found


def tree(root):
    """The pids of `root` and of all its living descendants."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(entry))
    found, todo = [], [root] if os.path.exists(f"/proc/{root}") else []
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def footprint(root):
    """What a process tree takes: memory (KiB, shared pages in proportion), processes, threads and open files."""
    pids = tree(root)
    return {
        "kib": sum(_field(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids),
        "processes": len(pids),
        "threads": sum(_field(f"/proc/{pid}/status", "Threads:") for pid in pids),
        "files": sum(_count(f"/proc/{pid}/fd") for pid in pids),
    }


def cpu_seconds(root):
    """CPU time that the living processes of the tree have used."""
    cpuclock_sched = 2
    total = 0.0
    for pid in tree(root):
        try:
            total += time.clock_gettime((~pid) << 3 | cpuclock_sched)
        except OSError:
            pass
    return total


def _field(path, name):
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(name):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def _count(directory):
    try:
        return len(os.listdir(directory))
    except OSError:
        return 0
