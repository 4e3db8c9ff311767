"""From what a scrape has read to metrics, by the catalogue. Pure: no Redis, no clock."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.samples import Exemplar as FamilyExemplar

from ledger.measuring import Labels, Measurement
from ledger.metrics import bound_text, bounds_of
from monitoring.catalogue import METRICS, Metric, Source, Type
from monitoring.exporter.computed import computed
from monitoring.exporter.facts import Facts
from monitoring.exporter.reading import Reading

_PLUS_INF = "+Inf"
_MS = 1e-3


@dataclass(frozen=True)
class _Histogram:
    buckets: Mapping[str, int]
    total: float


def families(reading: Reading, facts: Facts) -> Iterator[Family]:
    """Every metric that can be shown, in the catalogue's order. One that has no samples is left out."""
    shown: dict[str, list[tuple[Sequence[str], float]]] = defaultdict(list)
    for sample in computed(reading, facts):
        shown[sample.metric].append((sample.labels, sample.value))
    if reading.ledger is not None:
        shown["exporter_unlisted_series"].append(((), unlisted(reading.ledger)))
    counters = _by_name(reading.ledger)
    for metric in METRICS.values():
        if metric.source is Source.LEDGER:
            if reading.ledger is not None:
                yield from _counted(metric, reading.ledger, counters)
        elif metric.source is Source.NOTED:
            if reading.ledger is not None:
                yield from _family(metric, _noted(metric, reading.ledger, facts.noted_max_age_s))
        else:
            yield from _family(metric, shown[metric.name])


def unlisted(measured: Measurement) -> int:
    """How many series of the ledger the catalogue lacks: another version counts them, or somebody forgot."""
    listed = {metric.ledger_name for metric in METRICS.values()} | {"duty_done", "duty_failed"}
    names = [
        *(name for name, _ in measured.counters),
        *(series.metric for series in measured.histograms),
        *(name for name, _ in measured.gauges),
    ]
    return sum(name not in listed for name in names)


def _family(metric: Metric, samples: Iterable[tuple[Sequence[str], float]]) -> Iterator[Family]:
    rows = list(samples)
    if not rows:
        return
    make = CounterMetricFamily if metric.type is Type.COUNTER else GaugeMetricFamily
    family = make(metric.full_name, metric.help, labels=metric.labels, unit=_declared_unit(metric))
    for labels, value in rows:
        family.add_metric(labels, value)
    yield family


def _declared_unit(metric: Metric) -> str:
    """OpenMetrics wants a declared unit to be the end of the name."""
    return metric.unit if metric.full_name.removesuffix("_total").endswith(f"_{metric.unit}") else ""


_Counters = Mapping[str, Sequence[tuple[Labels, int]]]


def _by_name(measured: Measurement | None) -> _Counters:
    found: dict[str, list[tuple[Labels, int]]] = defaultdict(list)
    for (name, labels), value in measured.counters.items() if measured is not None else ():
        found[name].append((labels, value))
    return found


def _counted(metric: Metric, measured: Measurement, counters: _Counters) -> Iterator[Family]:
    if metric.type is Type.HISTOGRAM:
        yield from _histogram_family(metric, measured)
        return
    sums: dict[Sequence[str], float] = dict.fromkeys(metric.zero_labels(), 0.0)
    for labels, value in counters.get(metric.ledger_name, ()):
        key = _values(metric, labels)
        sums[key] = sums.get(key, 0.0) + value * metric.scale
    yield from _family(metric, sums.items())


def _noted(metric: Metric, measured: Measurement, max_age_s: float) -> Iterator[tuple[Sequence[str], float]]:
    for (name, labels), gauge in measured.gauges.items():
        if name == metric.ledger_name and (measured.now_ms - gauge.at_ms) * _MS <= max_age_s:
            yield _values(metric, labels), gauge.value


def _values(metric: Metric, labels: Labels) -> tuple[str, ...]:
    known = dict(labels)
    return tuple(known.get(name, "") for name in metric.labels)


def _histogram_family(metric: Metric, measured: Measurement) -> Iterator[Family]:
    found: dict[Sequence[str], _Histogram] = dict.fromkeys(metric.zero_labels(), _Histogram({}, 0.0))
    examples: dict[tuple[Sequence[str], str], FamilyExemplar] = {}
    for series in measured.histograms:
        if series.metric == metric.ledger_name:
            found[_values(metric, series.labels)] = _Histogram(series.buckets, series.total)
    for (name, labels, bound), one in measured.exemplars.items():
        if name == metric.ledger_name:
            example = FamilyExemplar({"job_id": one.job_id}, one.value, one.at_ms * _MS)
            examples[_values(metric, labels), bound] = example
    if not found:
        return
    family = HistogramMetricFamily(metric.full_name, metric.help, labels=metric.labels, unit=_declared_unit(metric))
    bounds = [*(bound_text(bound) for bound in bounds_of(metric.ledger_name)), _PLUS_INF]
    for key, histogram in found.items():
        cumulative = 0
        buckets: list[tuple[str, float] | tuple[str, float, FamilyExemplar]] = []
        for bound in bounds:
            cumulative += histogram.buckets.get(bound, 0)
            shown = bound if bound == _PLUS_INF else str(float(bound))
            newest = examples.get((key, bound))
            buckets.append((shown, cumulative) if newest is None else (shown, cumulative, newest))
        family.add_metric(key, buckets=buckets, sum_value=histogram.total)
    yield family
