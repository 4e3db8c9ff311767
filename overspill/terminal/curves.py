"""How a training run goes, as people see it: a sparkline of its loss, a few words, a line for each row. Pure."""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

BARS = "▁▂▃▄▅▆▇█"
#: Cells of a sparkline.
WIDTH = 32


def sparkline(values: Sequence[float], *, width: int = WIDTH) -> str:
    """Values as a row of bars, the lowest low and the highest high; more values than cells are averaged."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    cells = [_mean(finite[a:b]) for a, b in _cuts(len(finite), min(width, len(finite)))]
    low, high = min(cells), max(cells)
    span = high - low
    return "".join(
        BARS[min(len(BARS) - 1, int((value - low) / span * len(BARS)))] if span else BARS[0] for value in cells
    )


def losses(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The loss curve in rows of a run: of steps that were done twice, the last time counts."""
    by_step = {int(row["step"]): float(row["loss"]) for row in rows if row.get("loss") is not None}
    return [by_step[step] for step in sorted(by_step)]


def in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where a run stands: step, loss, speed, the last evaluation."""
    if not rows:
        return ""
    last = rows[-1]
    words = [f"step {last['step']}/{last['steps']}"]
    loss = next((row["loss"] for row in reversed(rows) if row.get("loss") is not None), None)
    speed = next((row["examples_per_s"] for row in reversed(rows) if row.get("examples_per_s")), None)
    metrics: Mapping[str, float] = next((row["metrics"] for row in reversed(rows) if row.get("metrics")), {})
    if loss is not None:
        words.append(f"loss {loss:.4g}")
    if speed is not None:
        words.append(f"{speed:,.0f} examples/s")
    words += [f"{name} {value:.4g}" for name, value in sorted(metrics.items())]
    return ", ".join(words)


def line(row: Mapping[str, Any]) -> str:
    """One row as a line of a log."""
    at = dt.datetime.fromtimestamp(float(row["at"]), dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    words = [at, f"attempt {row['attempt']}", f"{row['kind']:<10}", f"step {row['step']}/{row['steps']}"]
    words += [f"{name}={row[name]:.5g}" for name in ("loss", "learning_rate", "examples_per_s") if row.get(name)]
    words += [f"{name}={value:.5g}" for name, value in sorted(dict(row.get("metrics") or {}).items())]
    words += [str(row[name]) for name in ("path", "message") if row.get(name)]
    return "  ".join(words)


def _cuts(length: int, parts: int) -> list[tuple[int, int]]:
    return [(length * number // parts, length * (number + 1) // parts) for number in range(parts)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
