"""Metrics for Prometheus: one registry for each host, nothing global, so that two hosts in a process count apart."""

import platform
from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from clonk_core.errors import PluginError
from clonk_core.metrics import DatabaseUse, Family, FamilyKind, Metrics

MAX_LABEL_SETS: Final = 2000
"""Most combinations of label values of one metric; all further ones are counted together, as `other`. The host's own
have a few hundred at most: it bounds what a plugin can fill the memory with."""

OTHER: Final = "other"
UNKNOWN: Final = "unknown"

TRANSPORTS: Final = ("http", "websocket", "stdio")
OUTCOMES: Final = ("complete", "cancelled", "refused", "limited", "failed", "cut_off")

CALL_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
DATABASE_BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

M = TypeVar("M", bound=MetricWrapperBase)


class _Children(Generic[M]):
    """The numbers of one metric by their label values, kept at hand: the library's `labels()` takes 2 us each time.

    Args:
        parent: The metric.
        ready: Label values that are shown before anything happens.
    """

    def __init__(self, parent: M, ready: Iterable[tuple[str, ...]] = ()) -> None:
        self._parent = parent
        self._found: dict[tuple[str, ...], M] = {}
        for labels in ready:
            self.at(labels)

    def at(self, labels: tuple[str, ...]) -> M:
        """Return the number with these label values."""
        return self._found.get(labels) or self._add(labels)

    def _add(self, labels: tuple[str, ...]) -> M:
        if not labels:
            child = self._parent
        elif len(self._found) < MAX_LABEL_SETS:
            child = self._parent.labels(*labels)
        else:
            return self._parent.labels(*[OTHER] * len(labels))
        self._found[labels] = child
        return child


class PrometheusMetrics(Metrics):
    """The metrics of one host; see `clonk_core.metrics.Metrics`.

    Args:
        version: Of clonk-core, for `clonk_build_info`.

    Attributes:
        registry: Gives the numbers to whoever encodes them.
    """

    def __init__(self, *, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Info("clonk_build", "Versions of clonk-core and of Python.", registry=self.registry)
        build.info({"version": version, "python": platform.python_version()})
        self._methods: frozenset[str] = frozenset()
        self._families: dict[str, tuple[tuple[object, ...], Family]] = {}
        self._count_calls()
        self._count_connections()
        self._count_runs()
        self._measure_waits()

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, help, labels, registry=self.registry, buckets=buckets)

    # ── Calls ────────────────────────────────────────────────────────────────

    def _count_calls(self) -> None:
        calls = self._counter("clonk_calls", "Calls at the door, ended with this outcome.", "method", "outcome")
        times = self._histogram(
            "clonk_call_duration_seconds", "Time from a call to its answer, or its stream.", CALL_BUCKETS_S, "method"
        )
        limited = self._counter("clonk_rate_limited", "Calls refused because of a limit, by its kind.", "kind")
        failures = self._counter("clonk_authentication_failures", "Credentials refused, by reason.", "reason")
        self._calls, self._call_times = _Children(calls), _Children(times)
        self._limited, self._failures = _Children(limited), _Children(failures)

    def know_methods(self, names: Iterable[str]) -> None:
        self._methods |= set(names)

    def call_ended(self, method: str, outcome: str, duration_s: float) -> None:
        name = method if method in self._methods else UNKNOWN
        self._calls.at((name, outcome)).inc()
        self._call_times.at((name,)).observe(duration_s)

    def rate_limited(self, kind: str) -> None:
        self._limited.at((kind,)).inc()

    def authentication_failed(self, reason: str) -> None:
        self._failures.at((reason,)).inc()

    # ── Connections ──────────────────────────────────────────────────────────

    def _count_connections(self) -> None:
        each = [(transport,) for transport in TRANSPORTS]
        opened = Gauge("clonk_open_connections", "Connections now open.", ["transport"], registry=self.registry)
        received = self._counter("clonk_received_bytes", "Bytes received, headers and frames included.", "transport")
        sent = self._counter("clonk_sent_bytes", "Bytes sent, headers and frames included.", "transport")
        self._open = _Children(opened, each)
        self._received, self._sent = _Children(received, each), _Children(sent, each)

    def connection_opened(self, transport: str) -> None:
        self._open.at((transport,)).inc()

    def connection_closed(self, transport: str) -> None:
        self._open.at((transport,)).dec()

    def bytes_received(self, transport: str, size: int) -> None:
        self._received.at((transport,)).inc(size)

    def bytes_sent(self, transport: str, size: int) -> None:
        self._sent.at((transport,)).inc(size)

    # ── Runs ─────────────────────────────────────────────────────────────────

    def _count_runs(self) -> None:
        ended = self._counter("clonk_runs_ended", "Runs ended with this outcome.", "outcome")
        self._running = Gauge("clonk_runs_running", "Runs now going on.", registry=self.registry)
        self._ended = _Children(ended, [(outcome,) for outcome in OUTCOMES])
        self._events = self._counter("clonk_events_written", "Events of durable runs stored.")

    def run_started(self) -> None:
        self._running.inc()

    def run_ended(self, outcome: str | None) -> None:
        self._running.dec()
        self._ended.at((outcome or "cut_off",)).inc()

    def events_written(self, count: int) -> None:
        self._events.inc(count)

    # ── Waits ────────────────────────────────────────────────────────────────

    def _measure_waits(self) -> None:
        uses = self._histogram(
            "clonk_database_duration_seconds",
            "Time of one use of a database, waiting for others included.",
            DATABASE_BUCKETS_S,
            "database",
            "kind",
        )
        self._uses = _Children(uses)
        self._lag = self._histogram(
            "clonk_event_loop_lag_seconds", "How much later than asked for a task was woken.", LAG_BUCKETS_S
        )

    def database_used(self, database: str, use: DatabaseUse, duration_s: float) -> None:
        self._uses.at((database, use)).observe(duration_s)

    def loop_lagged(self, lag_s: float) -> None:
        self._lag.observe(lag_s)

    # ── Plugins ──────────────────────────────────────────────────────────────

    def plugin_family(
        self, package: str, kind: FamilyKind, name: str, help: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> Family:
        identity = (package, kind, tuple(labels), tuple(buckets))
        known = self._families.get(name)
        if known is None:
            known = self._families[name] = (identity, self._new_family(kind, name, help, labels, buckets))
        if known[0] != identity:
            raise PluginError(f"metric {name!r} is declared already, by another package or in another way")
        return known[1]

    def _new_family(
        self, kind: FamilyKind, name: str, help: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> Family:
        try:
            if kind == "counter":
                return _CounterFamily(_Children(self._counter(name, help, *labels)))
            if kind == "gauge":
                return _GaugeFamily(_Children(Gauge(name, help, labels, registry=self.registry)))
            return _HistogramFamily(_Children(self._histogram(name, help, buckets or CALL_BUCKETS_S, *labels)))
        except ValueError as error:  # taken by the host's own, a reserved label, buckets that do not rise
            raise PluginError(f"metric {name!r} cannot be declared: {error}") from error


class _CounterFamily(Family):
    def __init__(self, children: _Children[Counter]) -> None:
        self._children = children

    def add(self, labels: tuple[str, ...], amount: float) -> None:
        self._children.at(labels).inc(amount)


class _GaugeFamily(Family):
    def __init__(self, children: _Children[Gauge]) -> None:
        self._children = children

    def add(self, labels: tuple[str, ...], amount: float) -> None:
        self._children.at(labels).inc(amount)

    def put(self, labels: tuple[str, ...], value: float) -> None:
        self._children.at(labels).set(value)


class _HistogramFamily(Family):
    def __init__(self, children: _Children[Histogram]) -> None:
        self._children = children

    def put(self, labels: tuple[str, ...], value: float) -> None:
        self._children.at(labels).observe(value)
