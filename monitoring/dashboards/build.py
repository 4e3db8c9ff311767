"""From our dashboards to the JSON that Grafana reads, by Grafana's own builders (grafana-foundation-sdk)."""

from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingConfig,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from monitoring.catalogue import METRICS
from monitoring.dashboards.model import Dashboard, Panel

#: Whoever looks may choose another Prometheus at the top of the page.
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHTS = {"number": 4}
_HEIGHT = 8
_OPACITY = 25


def as_json(page: Dashboard) -> str:
    """The dashboard's JSON, as Grafana's provisioning reads it."""
    builder = (
        grafana.Dashboard(page.title)
        .uid(page.uid)
        .description(page.text)
        .tags(["overspill"])
        .editable()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .with_variable(grafana.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    if page.asks_kind:
        metric = METRICS["queue_depth"].full_name
        builder = builder.with_variable(
            grafana.QueryVariable("kind")
            .label("Kind")
            .datasource(_SOURCE)
            .query(f"label_values({metric}, kind)")
            .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        )
    for row in page.rows:
        builder = builder.with_row(grafana.Row(row.title))
        for panel in row.panels:
            builder = builder.with_panel(_number(panel) if panel.shape == "number" else _lines(panel))
    return str(JSONEncoder(sort_keys=True, indent=2).encode(builder.build())) + "\n"


def _targets(panel: Panel, *, instant: bool) -> list[Builder[Dataquery]]:
    targets: list[Builder[Dataquery]] = []
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).datasource(_SOURCE)
        if query.legend:
            target = target.legend_format(query.legend)
        targets.append(target.instant() if instant else target.range().exemplar(True))
    return targets


def _number(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.text)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .height(_HEIGHTS["number"])
        .span(panel.width)
        .color_mode(BigValueColorMode.NONE)
        .targets(_targets(panel, instant=True))
    )


def _lines(panel: Panel) -> timeseries.Panel:
    legend = VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    builder = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.text)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .height(_HEIGHT)
        .span(panel.width)
        .min(0)
        .legend(legend)
        .targets(_targets(panel, instant=False))
    )
    if panel.shape == "bars":
        builder = builder.draw_style(GraphDrawStyle.BARS)
    if panel.shape == "areas":
        builder = builder.fill_opacity(_OPACITY).stacking(_Stacked())
    return builder


class _Stacked(Builder[StackingConfig]):
    """The SDK wants a builder wherever it takes a part."""

    def build(self) -> StackingConfig:
        """One above the other."""
        return StackingConfig(mode=StackingMode.NORMAL, group="A")
