"""Composes the scene of a prompt: which layers, in which order, and paints them for a moment in time.

The scene is painted small (its longer side is at most 512 pixels) and enlarged by the codec library's scaler: that is
what makes a frame cost milliseconds. The words are drawn at full size afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from engines.render.contract import RenderRequest
from engines.render.procedural import fields, ground, lexicon, palette, particles, silk, sky, subjects
from engines.render.procedural.fields import Array
from engines.render.procedural.palette import Palette

_LONG_SIDE_PX: Final = 512
_PACES: Final = {"calm": 0.65, "": 1.0, "lively": 1.7}
_RIDGES: Final = {"mountains": "mountains", "meadow": "hills", "forest": "forest", "desert": "dunes", "city": "city"}


class Layer(Protocol):
    """One thing in the scene. What it paints depends on its own fields and the time alone."""

    def paint(self, canvas: Array, t_s: float) -> None:
        """Paints itself over the canvas as it looks at `t_s` seconds."""
        ...


@dataclass(frozen=True)
class Scene:
    """Layers from back to front on a small canvas."""

    height: int
    width: int
    palette: Palette
    layers: tuple[Layer, ...]

    def paint(self, t_s: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """The picture at `t_s` seconds: uint8 RGB of shape (height, width, 3)."""
        canvas = np.empty((3, self.height, self.width), np.float32)
        for layer in self.layers:
            layer.paint(canvas, t_s)
        np.clip(canvas, 0, 255, out=canvas)
        picture = np.empty((self.height, self.width, 3), np.uint8)
        for channel in range(3):
            picture[..., channel] = canvas[channel]
        return picture


@dataclass(frozen=True)
class _Plan:
    """What every builder needs to know; `rng(purpose)` gives each layer its own chance."""

    request: RenderRequest
    tags: lexicon.Tags
    palette: Palette
    height: int
    width: int
    horizon: float
    pace: float
    light_x: float

    def rng(self, purpose: str) -> np.random.Generator:
        return fields.generator(self.request.prompt, self.request.seed, purpose)


def compose(request: RenderRequest) -> Scene:
    """Builds the scene of a request. Costs tens of milliseconds; painting it costs a few per frame."""
    tags = lexicon.read(request.prompt)
    rng = fields.generator(request.prompt, request.seed, "plan")
    scale = min(1.0, _LONG_SIDE_PX / max(request.width, request.height))
    plan = _Plan(
        request=request,
        tags=tags,
        palette=palette.choose(tags, rng),
        height=max(36, round(request.height * scale)),
        width=max(36, round(request.width * scale)),
        horizon=float(rng.uniform(0.56, 0.66)),
        pace=_PACES[tags.pace],
        light_x=float(rng.choice([rng.uniform(0.16, 0.34), rng.uniform(0.66, 0.84)])),
    )
    layers = [*_behind(plan), *_place(plan), *_in_front(plan)]
    return Scene(plan.height, plan.width, plan.palette, tuple(layers))


def _behind(plan: _Plan) -> list[Layer]:
    """Sky and what hangs in it."""
    has_ground = plan.tags.setting in _RIDGES or plan.tags.setting == "sea"
    reach = plan.horizon if has_ground else 1.0
    layers: list[Layer] = [sky.make_backdrop(plan.palette, plan.height, plan.width, reach, plan.rng("sky"))]
    if not has_ground:
        return layers
    if plan.palette.is_dark and plan.tags.time != "storm":
        layers.append(_swarm(plan, "stars", below=plan.horizon))
    rows = max(8, round(plan.height * plan.horizon))
    duration_s, pace = plan.request.seconds, plan.pace
    if plan.tags.time == "aurora":
        layers.append(
            sky.make_aurora(
                plan.palette, rows, plan.width, duration_s=duration_s, speed=16 * pace, rng=plan.rng("aurora")
            )
        )
    elif plan.tags.time != "storm" and plan.tags.weather != "rain":
        layers.append(_disc(plan))
    cover = {"storm": 0.9, "night": 0.28, "aurora": 0.06}.get(plan.tags.time, 0.6)
    clouds = sky.make_clouds(
        plan.palette, rows, plan.width, duration_s=duration_s, speed=14 * pace, cover=cover, rng=plan.rng("clouds")
    )
    return [*layers, clouds]


def _disc(plan: _Plan) -> Layer:
    low = plan.tags.time in {"sunset", "dawn"} or not plan.palette.is_dark
    lift = 0.16 if low else 0.40
    return sky.Disc(
        x=plan.width * plan.light_x,
        y=plan.height * (plan.horizon - lift),
        radius=max(plan.height, plan.width) * (0.038 if low else 0.026),
        climb=plan.height * 0.006 * plan.pace,
        colour=plan.palette.light,
        halo=0.62 if low else 0.34,
    )


def _place(plan: _Plan) -> list[Layer]:
    """The ground, or what there is in its stead."""
    height, width, pace = plan.height, plan.width, plan.pace
    duration_s, colours = plan.request.seconds, plan.palette
    match plan.tags.setting:
        case "sea":
            return _sea(plan)
        case "underwater":
            rng = plan.rng("beams")
            beams = sky.make_beams(colours, height, width, duration_s=duration_s, speed=11 * pace, rng=rng)
            return [beams, *subjects.make_fish(colours, height, width, pace=pace, rng=plan.rng("fish"))]
        case "fire":
            rng = plan.rng("flames")
            return [
                ground.make_flames(colours, height, width, duration_s=duration_s, speed=height * 0.5 * pace, rng=rng)
            ]
        case "space":
            return _space(plan)
        case setting if setting in _RIDGES:
            kind = _RIDGES[setting]
            speed = (26 if kind == "city" else 18) * pace
            rng = plan.rng("ridges")
            ridges = ground.make_ridges(
                colours, height, width, kind=kind, horizon=plan.horizon, duration_s=duration_s, speed=speed, rng=rng
            )
            return list(ridges)
        case _:
            return _abstract(plan)


def _sea(plan: _Plan) -> list[Layer]:
    height, width, colours = plan.height, plan.width, plan.palette
    waves = ground.make_waves(colours, height, width, horizon=plan.horizon, speed=6 * plan.pace, rng=plan.rng("waves"))
    layers: list[Layer] = list(waves)
    if plan.tags.time != "storm":
        glitter = ground.make_glitter(
            colours, height, width, x=plan.light_x * width, horizon=plan.horizon, duration_s=plan.request.seconds,
            rng=plan.rng("glitter"),
        )  # fmt: skip
        layers.append(glitter)
    if "boat" in plan.tags.subjects:
        boat = subjects.make_boat(
            colours, height, width, horizon=plan.horizon + 0.04, pace=plan.pace, rng=plan.rng("boat")
        )
        layers.insert(3, boat)
    return layers


def _space(plan: _Plan) -> list[Layer]:
    height, width, colours, rng = plan.height, plan.width, plan.palette, plan.rng("space")
    nebula = sky.make_clouds(
        colours, height, width, duration_s=plan.request.seconds, speed=6 * plan.pace, cover=0.55, rng=rng
    )
    flight = particles.make_star_flight(colours, height, width, pace=plan.pace, rng=rng)
    layers: list[Layer] = [nebula, _swarm(plan, "stars"), flight]
    if "planet" in plan.tags.subjects or rng.random() < 0.5:  # noqa: PLR2004  # every other sky has one
        layers.append(subjects.make_planet(colours, height, width, rng=rng))
    return layers


def _abstract(plan: _Plan) -> list[Layer]:
    """No place was named: silk in the prompt's own colours, with soft lights over it."""
    folds = silk.make_silk(plan.palette, plan.height, plan.width, pace=plan.pace, rng=plan.rng("silk"))
    return [folds, _swarm(plan, "bokeh")]


def _in_front(plan: _Plan) -> list[Layer]:
    """Named things that fly, and the weather."""
    height, width, colours, pace = plan.height, plan.width, plan.palette, plan.pace
    layers: list[Layer] = []
    flying_space = plan.tags.setting not in {"underwater", "space", "fire"}
    if "birds" in plan.tags.subjects and flying_space:
        layers += subjects.make_birds(colours, height, width, pace=pace, rng=plan.rng("birds"))
    if "balloon" in plan.tags.subjects and flying_space:
        layers.append(subjects.make_balloon(colours, height, width, pace=pace, rng=plan.rng("balloon")))
    weather = plan.tags.weather or {"fire": "embers", "underwater": "bubbles", "forest": "dust"}.get(
        plan.tags.setting, ""
    )
    if plan.tags.setting in {"underwater", "space"} and weather in {"snow", "rain", "leaves", "petals", "dust"}:
        weather = "bubbles" if plan.tags.setting == "underwater" else ""  # no weather down there, and none out there
    if weather:
        layers.append(_swarm(plan, weather))
    return layers


def _swarm(plan: _Plan, kind: str, below: float = 1.0) -> Layer:
    return particles.make_swarm(
        kind, plan.palette, plan.height, plan.width, pace=plan.pace, rng=plan.rng(kind), below=below
    )
