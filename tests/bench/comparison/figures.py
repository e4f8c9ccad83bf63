"""Figures out of cells: what is looked at, medians and spreads over the rounds, and who is best."""

from dataclasses import dataclass
from statistics import median
from typing import Callable

# Others' share of the machine, in percent, from which a cell counts as noisy.
NOISY = 8


def path(*keys):
    """What stands in a cell under these keys, one below the other."""

    def get(cell):
        for key in keys:
            cell = cell.get(key) if isinstance(cell, dict) else None
        return cell

    return get


def per(amount, units, factor=1):
    """An amount of a cell for each of its units."""

    def get(cell):
        whole, count = amount(cell), units(cell)
        return None if whole is None or not count else factor * whole / count

    return get


def _cost(cell):
    """CPU time of the proxy: µs for each handshake or message, s for each GiB of a stream."""
    return per(path("cpu", "proxy"), path("units"), 2**30 if "p50_us" not in cell else 1e6)(cell)


def _growth(cell):
    """Memory that the tunnels have added to the fresh proxy, in KiB."""
    return cell["held"]["kib"] - cell["fresh"]["kib"] if "held" in cell else None


@dataclass(frozen=True)
class Metric:
    """A figure of a cell, and which one of several is the best."""

    title: str
    get: Callable
    best: Callable = min


RATE = Metric("rate", path("rate"), max)
P50 = Metric("p50", path("p50_us"))
P99 = Metric("p99", path("p99_us"))
P999 = Metric("p99.9", path("p999_us"))
CPU = Metric("CPU per unit", _cost)
MEMORY = Metric("KiB per tunnel", per(_growth, path("opened")))
OPENING = Metric("opening time", path("seconds"))
BROADCAST = Metric("broadcast time", path("broadcast", "seconds"))
SLOWDOWN = Metric("p99 beside ÷ alone", per(path("beside", "p99_us"), path("alone", "p99_us")))


def others(cell):
    """Share of the machine that others used meanwhile, in percent."""
    cpu = cell.get("cpu", {})
    if not cpu.get("wall") or "cores" not in cell:
        return None
    ours = sum(cpu.get(key, 0) for key in ("client", "backend", "proxy"))
    return max(0.0, 100 * (cpu["machine"] - ours) / (cpu["wall"] * cell["cores"]))


def faults(cells):
    """What went wrong, as `what (how often)`."""
    counts = {}
    for cell in cells:
        for what, count in cell.get("faults", {}).items():
            counts[what] = counts.get(what, 0) + count
    return "; ".join(f"{what} ({count})" for what, count in sorted(counts.items()))


class Figures:
    """All cells of a run. `roles`: the role of each subject, in the order of the tables."""

    def __init__(self, cells, roles):
        self.roles = roles
        self.by_place = {}
        for cell in cells:
            self.by_place.setdefault((cell["workload"], cell["subject"]), []).append(cell)

    def names(self, *roles):
        return [name for name, role in self.roles.items() if role in roles]

    def measured(self, workload):
        """Who has been measured under a workload."""
        return [name for name in self.roles if (workload, name) in self.by_place]

    def cells(self, workload, name):
        """The rounds of a subject; without the noisy ones, where two quiet ones remain."""
        cells = self.by_place.get((workload, name), [])
        quiet = [cell for cell in cells if (others(cell) or 0) < NOISY]
        return quiet if len(quiet) >= 2 else cells

    def values(self, workload, name, get):
        return [value for value in map(get, self.cells(workload, name)) if value is not None]

    def median(self, workload, name, get):
        values = self.values(workload, name, get)
        return median(values) if values else None

    def spread(self, workload, name, get):
        """(max − min) / median; `None` where there is no second round to compare with."""
        values = self.values(workload, name, get)
        middle = median(values) if values else 0
        return (max(values) - min(values)) / middle if len(values) > 1 and middle else None

    def best(self, workload, names, metric):
        """Who has the best median of these subjects, if any has one."""
        known = {name: value for name in names
                 if (value := self.median(workload, name, metric.get)) is not None and value > 0}
        return metric.best(known, key=known.get) if known else None


def number(value):
    """A figure with three digits or so."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def percent(share):
    return "–" if share is None else f"{100 * share:.0f}"


def ratio(value, base):
    return "–" if not base or value is None else f"{value / base:.2f}"


def markdown(head, rows, left=1):
    """A table; the first columns hold text."""
    alignment = ["---" if column < left else "---:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, alignment, *rows])
