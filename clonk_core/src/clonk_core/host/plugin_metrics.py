"""A package's own metrics: named for it, checked also while metrics are off, the same one when asked for twice."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, TypeVar

from clonk_core.errors import PluginError
from clonk_core.metrics import Family, FamilyKind, Metrics

_NAME: Final = re.compile("[a-z][a-z0-9_]*")
_RESERVED_ENDINGS: Final = ("_total", "_created", "_count", "_sum", "_bucket", "_info")
"""Prometheus adds these itself."""


class _Numbers:
    """What a package holds of one of its metrics."""

    kind: ClassVar[FamilyKind]

    def __init__(self, name: str, labels: tuple[str, ...], family: Family) -> None:
        self.name = name
        self.labels = labels
        self._family = family

    def _values(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        if labels.keys() != set(self.labels):
            wanted = ", ".join(self.labels) or "none"
            raise PluginError(f"metric {self.name!r} has the labels {wanted}, not {', '.join(labels) or 'none'}")
        return tuple(str(labels[name]) for name in self.labels)


class CounterNumbers(_Numbers):
    """Implements `interfaces.Counter`."""

    kind = "counter"

    def inc(self, amount: float = 1, **labels: str) -> None:
        if not amount >= 0:
            raise PluginError(f"metric {self.name!r} is a counter and cannot go up by {amount}")
        self._family.add(self._values(labels), amount)


class GaugeNumbers(_Numbers):
    """Implements `interfaces.Gauge`."""

    kind = "gauge"

    def add(self, amount: float, **labels: str) -> None:
        self._family.add(self._values(labels), amount)

    def set(self, value: float, **labels: str) -> None:
        self._family.put(self._values(labels), value)


class HistogramNumbers(_Numbers):
    """Implements `interfaces.Histogram`."""

    kind = "histogram"

    def observe(self, value: float, **labels: str) -> None:
        self._family.put(self._values(labels), value)


N = TypeVar("N", bound=_Numbers)


class PackageMetrics:
    """Implements `interfaces.PluginMetrics` for one package.

    Args:
        package: Its name; what a metric's name may not have becomes `_`.
        metrics: The host's.
    """

    def __init__(self, package: str, metrics: Metrics) -> None:
        self._package = package
        self._prefix = f"clonk_{re.sub('[^a-z0-9_]', '_', package.lower())}_"
        self._metrics = metrics
        self._declared: dict[str, _Numbers] = {}

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> CounterNumbers:
        return self._declare(CounterNumbers, name, help, labels)

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> GaugeNumbers:
        return self._declare(GaugeNumbers, name, help, labels)

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = ()
    ) -> HistogramNumbers:
        return self._declare(HistogramNumbers, name, help, labels, buckets)

    def _declare(self, of: type[N], name: str, help: str, labels: Sequence[str], buckets: Sequence[float] = ()) -> N:
        found = self._declared.get(name)
        if found is None:
            _check(name, labels)
            family = self._metrics.plugin_family(self._package, of.kind, self._prefix + name, help, labels, buckets)
            found = self._declared[name] = of(self._prefix + name, tuple(labels), family)
        if not isinstance(found, of) or found.labels != tuple(labels):
            told = f"a {found.kind} with the labels {', '.join(found.labels) or 'none'}"
            raise PluginError(f"metric {name!r} is declared already, as {told}")
        return found


def _check(name: str, labels: Sequence[str]) -> None:
    """Refuse names that Prometheus would refuse or change.

    Raises:
        PluginError: One is such.
    """
    for each in (name, *labels):
        if not _NAME.fullmatch(each):
            raise PluginError(f"metric {name!r}: {each!r} needs lower-case letters, digits and `_`, a letter first")
    if name.endswith(_RESERVED_ENDINGS):
        raise PluginError(f"metric {name!r}: leave out the ending, which Prometheus adds itself where it belongs")
