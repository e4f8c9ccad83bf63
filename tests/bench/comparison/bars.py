"""What the product is held to, and how it stands: issues 3 and 7 of the project."""

import fnmatch
from dataclasses import dataclass

from comparison import figures, workloads
from comparison.figures import BROADCAST, CPU, MEMORY, OPENING, P50, P99, RATE, SLOWDOWN, Metric

AT_LEAST, AT_MOST = "at least", "at most"
# Whom a figure is divided by: the best of these roles, or a list of names; or nobody.
PEER, RELAY, NOBODY = "best peer", "better relay", ""
ROLES = {PEER: "peer", RELAY: "relay"}
HTTPD, HTTPD_WORKER = ("httpd-event", "httpd-worker"), ("httpd-worker",)


@dataclass(frozen=True)
class Bar:
    subject: str
    # A pattern of names, as for files.
    workloads: str
    metric: Metric
    sense: str
    limit: float
    against: str | tuple[str, ...] = PEER


def _plain(pattern, rate, cpu, relay, *more):
    """What the asynchronous mode is held to under plain load."""
    return [
        Bar("reactor", pattern, RATE, AT_LEAST, rate),
        *more,
        Bar("reactor", pattern, CPU, AT_MOST, cpu),
        Bar("reactor", pattern, CPU, AT_MOST, relay, RELAY),
    ]


BARS = [
    *_plain("handshake-c*", 1.00, 1.00, 1.10),
    *(bar for size in ("32B", "1K") for bar in (
        *_plain(f"echo-{size}-c1", 1.05, 0.92, 1.10, Bar("reactor", f"echo-{size}-c1", P50, AT_MOST, 0.97)),
        *_plain(f"echo-{size}-c100", 1.00, 1.00, 1.05, Bar("reactor", f"echo-{size}-c100", P99, AT_MOST, 1.00)),
        *_plain(f"echo-{size}-c1000", 1.05, 0.92, 1.08),
    )),
    *_plain("echo-16K-c100*", 1.00, 1.00, 1.08),
    *_plain("stream-*", 1.00, 0.75, 0.60),
    Bar("reactor", "mixed", SLOWDOWN, AT_MOST, 2.0, NOBODY),
    Bar("reactor", "idle-9500", MEMORY, AT_MOST, 1.0, NOBODY),
    Bar("reactor", "idle-9500", OPENING, AT_MOST, 1.00),
    Bar("reactor", "idle-9500", BROADCAST, AT_MOST, 1.00),
    *(bar for link in ("tls", "wss", "both") for bar in (
        Bar("reactor", f"{link}-echo-*", CPU, AT_MOST, 1.00),
        Bar("reactor", f"{link}-stream-*", CPU, AT_MOST, 1.00),
        Bar("reactor", f"{link}-idle-1000", MEMORY, AT_MOST, 1.00),
    )),
    Bar("worker", "idle-1000", MEMORY, AT_MOST, 20.0, NOBODY),
    Bar("worker", "echo-*-c100", CPU, AT_MOST, 0.75, HTTPD_WORKER),
    Bar("worker", "handshake-c64", RATE, AT_LEAST, 1.50, HTTPD),
    Bar("worker", "echo-32B-c1", CPU, AT_MOST, 1.00),
]


@dataclass(frozen=True)
class Standing:
    """How the product stands with one bar under one workload."""

    bar: Bar
    workload: str
    # Whom it is held against, if anybody.
    base: str | None
    # The figure, divided by the other's.
    figure: float
    # How much it misses the limit by, and by how much it could without that being a difference.
    short: float
    allowed: float | None

    @property
    def verdict(self):
        if self.short <= 0:
            return "met"
        return "within the spread" if self.short < (self.allowed or 0) else "missed"


def standings(run):
    """How the product stands with each bar that the run has figures for, and the names of the bars that it has not."""
    found, missing = [], []
    for bar in BARS:
        for workload in workloads.ALL:
            if fnmatch.fnmatchcase(workload.name, bar.workloads):
                standing = _standing(run, bar, workload.name)
                if standing:
                    found.append(standing)
                else:
                    missing.append(f"{bar.subject} {workload.name}")
    return found, list(dict.fromkeys(missing))


def _standing(run, bar, workload):
    get = bar.metric.get
    figure = run.median(workload, bar.subject, get)
    spreads = [run.spread(workload, bar.subject, get)]
    base = None
    if bar.against:
        names = run.names(ROLES[bar.against]) if bar.against in ROLES else bar.against
        base = run.best(workload, names, bar.metric)
        spreads.append(base and run.spread(workload, base, get))
    if figure is None or (bar.against and base is None):
        return None
    if base:
        figure /= run.median(workload, base, get)
    short = 1 - figure / bar.limit if bar.sense == AT_LEAST else figure / bar.limit - 1
    # A difference that is smaller than the spread of both is none.
    allowed = None if None in spreads else min(spreads)
    return Standing(bar, workload, base, figure, short, allowed)


def table(run):
    """The bars with their figures, what is left out, and the count."""
    found, missing = standings(run)
    rows = []
    for standing in found:
        bar = standing.bar
        against = "" if bar.against == NOBODY else f" ÷ {standing.base}"
        by = f" (by {100 * standing.short:.1f} %)" if standing.short > 0 else ""
        allowed = "–" if standing.allowed is None else f"{100 * standing.allowed:.0f}"
        rows.append([f"{bar.subject} {standing.workload}", bar.metric.title + against, f"{standing.figure:.3f}",
                     f"{bar.sense} {bar.limit:.2f}", allowed, standing.verdict + by])
    text = ""
    if rows:
        text = figures.markdown(["bar", "figure", "is", "has to be", "spread %", "verdict"], rows, left=2) + "\n\n"
        verdicts = [standing.verdict for standing in found]
        counts = {verdict: verdicts.count(verdict) for verdict in ("met", "within the spread", "missed")}
        text += ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".\n"
    if missing:
        text += f"Not measured: {', '.join(missing)}.\n"
    return text
