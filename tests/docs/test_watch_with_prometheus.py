"""The how-to "watch it with Prometheus" names every metric there is, and none that is not."""

import re
from pathlib import Path

import pytest
import yaml

from clonk_claudecode.metrics import CountedSessions
from clonk_core.errors import CallError
from clonk_core.host.plugin_metrics import PackageMetrics
from clonk_core.observe import metrics as observed
from clonk_core.observe.metrics import PrometheusMetrics

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "watch-with-prometheus.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| (.+) \|$", re.MULTILINE)
ENDINGS = {"counter": ("_total", "_created"), "histogram": ("_bucket", "_count", "_sum", "_created")}


@pytest.fixture(scope="module")
def metrics() -> PrometheusMetrics:
    metrics = PrometheusMetrics(version="1")
    CountedSessions(PackageMetrics("claudecode", metrics))
    return metrics


def shown(metrics: PrometheusMetrics) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return kind and labels of each metric by the name that a scrape shows."""
    found = {}
    for collector in metrics.registry._collector_to_names:
        labels = getattr(collector, "_labelnames", ())
        for family in collector.collect():
            ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
            kind = {"info": "gauge"}.get(family.type, family.type)
            if family.type == "info":
                labels = tuple(family.samples[0].labels)
            found[family.name + ending] = (kind, tuple(labels))
    return found


def test_the_table_names_every_metric_with_its_kind_and_labels(metrics: PrometheusMetrics) -> None:
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in ROW.findall(PAGE)}
    assert told == {name: found for name, found in shown(metrics).items() if not name.startswith("process_")}


def test_those_of_the_process_are_named(metrics: PrometheusMetrics) -> None:
    named = set(re.findall(r"`(process_\w+)`", PAGE))
    assert named == {name for name in shown(metrics) if name.startswith("process_")}


def test_the_alerts_ask_for_what_there_is(metrics: PrometheusMetrics) -> None:
    series = set()
    for name, (kind, _) in shown(metrics).items():
        series |= {name.removesuffix("_total") + ending for ending in ENDINGS.get(kind, ())} | {name}
    (_, rules) = re.findall(r"^```yml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (group,) = yaml.safe_load(rules)["groups"]
    for rule in group["rules"]:
        used = re.findall(r"\bclonk_\w+", rule["expr"])
        assert used
        assert set(used) <= series


def test_the_kinds_of_errors_in_the_alerts_exist() -> None:
    kinds = {error.kind for error in _subclasses(CallError)}
    named = set(re.findall(r'clonk_calls_total\{outcome="(\w+)"\}', PAGE))
    assert named
    assert named <= kinds


def test_the_bound_that_is_told_is_the_one_that_holds() -> None:
    assert f"at most {observed.MAX_LABEL_SETS} combinations" in PAGE


def _subclasses(of: type[CallError]) -> set[type[CallError]]:
    return {of}.union(*(_subclasses(one) for one in of.__subclasses__()))
