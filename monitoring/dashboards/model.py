"""What a dashboard is, before Grafana's own words."""

from dataclasses import dataclass
from typing import Literal

#: Units as Grafana spells them.
Unit = Literal["short", "s", "percentunit", "currencyUSD", "bytes", "dateTimeFromNow", "bool_on_off"]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its series. `$__rate_interval` and `$kind` are Grafana's to fill in."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    shape: Literal["lines", "areas", "number", "bars"] = "lines"
    #: Of the 24 columns.
    width: int = 8


@dataclass(frozen=True)
class Row:
    """Panels beside each other, under a title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page of rows."""

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    #: Whether the kind of job is chosen at the top (`$kind`).
    asks_kind: bool = False


def number(title: str, text: str, expr: str, unit: Unit = "short", *, width: int = 4) -> Panel:
    """A panel with one big number."""
    return Panel(title, text, (Query(expr),), unit, "number", width)


def quantiles(title: str, text: str, metric: str, *, where: str = "", by: str = "") -> Panel:
    """Median and 95th percentile of a histogram of seconds, or of a ratio."""
    selector = f"{{{where}}}" if where else ""
    group = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return Panel(
        title,
        text,
        tuple(
            Query(
                f"histogram_quantile({share}, sum by ({group}) (rate({metric}_bucket{selector}[$__rate_interval])))",
                f"{name}{legend}",
            )
            for share, name in ((0.5, "median"), (0.95, "95 %"))
        ),
        "percentunit" if metric.endswith("_ratio") else "s",
    )


def rates(metric: str, *, legend: str, by: str = "", where: str = "", times: int = 1) -> Query:
    """How fast a counter rises, by second (or by `times` seconds), summed by labels."""
    return _rises("rate", metric, by=by, where=where, legend=legend, times=times)


def increases(metric: str, *, legend: str, by: str = "", where: str = "") -> Query:
    """How much a counter has risen since the point before, summed by labels."""
    return _rises("increase", metric, by=by, where=where, legend=legend, times=1)


def _rises(function: str, metric: str, *, by: str, where: str, legend: str, times: int) -> Query:
    selector = f"{{{where}}}" if where else ""
    group = f" by ({by}) " if by else ""
    scale = f" * {times}" if times != 1 else ""
    return Query(f"sum{group}({function}(overspill_{metric}{selector}[$__rate_interval])){scale}", legend)
