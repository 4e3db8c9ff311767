"""Colours of a scene, from its tags and a little chance. All colours are RGB in 0..255, as float triples."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.render.procedural.lexicon import Tags

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Palette:
    """The colours of one scene.

    Attributes:
        sky: Top, middle and horizon of the sky.
        light: Sun, moon, stars, lit windows.
        far: The ground where it meets the sky.
        near: The ground at the viewer's feet.
        mist: Clouds, foam, nebulae.
        accent: The evocative words.
        text: All other words.
        is_dark: Whether stars may show.
    """

    sky: tuple[Colour, Colour, Colour]
    light: Colour
    far: Colour
    near: Colour
    mist: Colour
    accent: Colour
    text: Colour
    is_dark: bool


def _rgb(code: str) -> Colour:
    red, green, blue = (float(int(code[i : i + 2], 16)) for i in (0, 2, 4))
    return (red, green, blue)


@dataclass(frozen=True)
class _Mood:
    top: str
    middle: str
    horizon: str
    light: str
    far: str
    near: str
    mist: str
    accent: str
    is_dark: bool = False


_MOODS: Final = {
    "night": _Mood("070b22", "13204a", "35477d", "fff3d0", "1f2c57", "060a1c", "7f92c9", "ffd98a", is_dark=True),
    "sunset": _Mood("3a2352", "a8456a", "ffb36b", "ffe6b0", "7a3a5c", "1f1230", "ffd0a8", "ffe08f"),
    "dawn": _Mood("5a6fb0", "d99ab5", "ffd9b8", "fff4dc", "8d7aa6", "2b2747", "ffe9e0", "fff0a8"),
    "day": _Mood("1f6fc4", "5aa9e6", "c5e6f5", "fffbe6", "5f96ad", "16384f", "ffffff", "ffe97a"),
    "storm": _Mood("1b232e", "3a4957", "7a8a94", "dbe7ee", "4a5963", "10161d", "a9b6bf", "9fe0ff", is_dark=True),
    "aurora": _Mood("080c24", "16264f", "2a5570", "d8fff0", "1c3a58", "050a18", "6ff0c0", "8dffd2", is_dark=True),
}
# Settings that bring their own light, at any hour.
_SETTING_MOODS: Final = {
    "space": _Mood("05060f", "10102a", "1b1740", "fff6e0", "3a2a6b", "08060f", "8a6bff", "ffd98a", is_dark=True),
    "fire": _Mood("120506", "35100c", "7a2410", "ffe9a0", "5a1c0c", "0d0303", "ff8a3a", "ffd35a", is_dark=True),
    "underwater": _Mood("2f9fc0", "11638f", "052a52", "d8fbff", "0d4a72", "03162e", "9fe8f2", "aef6e6"),
}
# For prompts that call up no place: dark to bright, hand-picked because most random hues are ugly.
_ABSTRACT_MOODS: Final = tuple(
    _Mood(dark, middle, bright, shine, middle, dark, shine, accent, is_dark=True)
    for dark, middle, bright, shine, accent in (
        ("120b2e", "3b1d6e", "a0347e", "f59a8c", "ffd1a8"),
        ("041e2b", "0b4a5c", "1f8a8a", "b8e6c8", "ffe08f"),
        ("1d0b1f", "5b1a4a", "b8433f", "f2b35e", "ffe2a0"),
        ("06122e", "123a7a", "2f7fc9", "bfe3f7", "ffd98a"),
        ("07190f", "1a4a35", "4f8f5a", "dbe8a0", "fff0a8"),
        ("14161f", "39415c", "8a6a6a", "e6b893", "ffdcb0"),
    )
)
_DEFAULT_TIMES: Final = {
    "sea": ("sunset", "day", "dawn"),
    "forest": ("dawn", "day", "sunset"),
    "mountains": ("dawn", "sunset", "day"),
    "city": ("night", "sunset"),
    "desert": ("sunset", "day"),
    "meadow": ("day", "dawn", "sunset"),
}
# What the ground is made of: pulls the mood's far and near colours towards itself.
_GROUNDS: Final = {
    "sea": "1d6a8c",
    "forest": "1f4a34",
    "mountains": "4f6284",
    "city": "2b3050",
    "desert": "c9803f",
    "meadow": "4f8a3a",
}
_GROUND_PULLS: Final = {"desert": 0.72, "meadow": 0.6}
_GROUND_PULL: Final = 0.45
_COLOUR_WORDS: Final = {
    "red": "d8283a",
    "orange": "ff8426",
    "gold": "f5bd2e",
    "green": "2fa35a",
    "teal": "1fb5b0",
    "blue": "2b6de0",
    "purple": "8a3fd1",
    "pink": "f57fae",
}
_COLOUR_WORD_PULL: Final = 0.6
_SKY_COLOURS: Final = frozenset({"red", "orange", "gold", "purple", "pink"})
_HUE_PLAY: Final = 0.025  # of a full turn, either way: seeds differ, a sea stays a sea


def choose(tags: Tags, rng: np.random.Generator) -> Palette:
    """Makes the palette of a scene.

    Args:
        tags: What the prompt calls up.
        rng: Chance, seeded by the request.
    """
    mood = _mood(tags, rng)
    colours = [_rgb(code) for code in (mood.top, mood.middle, mood.horizon, mood.far, mood.near, mood.mist)]
    turn = float(rng.uniform(-_HUE_PLAY, _HUE_PLAY))
    top, middle, horizon, far, near, mist = (turned(colour, turn) for colour in colours)
    if tags.setting in _GROUNDS:
        ground = _rgb(_GROUNDS[tags.setting])
        pull = _GROUND_PULLS.get(tags.setting, _GROUND_PULL)
        far = mix(far, ground, pull)
        near = mix(near, scaled(ground, 0.35), pull)
    accent = _rgb(mood.accent)
    if tags.colours:
        tint = _rgb(_COLOUR_WORDS[tags.colours[0]])
        second = _rgb(_COLOUR_WORDS[tags.colours[min(1, len(tags.colours) - 1)]])
        # Over a landscape only warm colours reach the sky: a green meadow has a blue one.
        if tags.setting not in _GROUNDS or tags.colours[0] in _SKY_COLOURS:
            middle = _tinted(middle, tint)
            horizon = _tinted(horizon, second)
            mist = _tinted(mist, second)
        far = _tinted(far, tint)
        accent = _readable(tint)
    return Palette(
        (top, middle, horizon), _rgb(mood.light), far, near, mist, accent, (250.0, 249.0, 245.0), mood.is_dark
    )


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with `share` (0..1) of `other` in it."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return (red, green, blue)


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour made brighter or darker by a factor, within bounds."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return (red, green, blue)


def turned(colour: Colour, turn: float) -> Colour:
    """The colour with its hue turned by a share of the full circle."""
    hue, light, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    red, green, blue = (channel * 255 for channel in colorsys.hls_to_rgb((hue + turn) % 1, light, saturation))
    return (red, green, blue)


def _tinted(colour: Colour, tint: Colour) -> Colour:
    # The tint takes over the hue, not the brightness: a red night stays a night.
    brightness = max(max(colour) / max(*tint, 1.0), 0.12)
    return mix(colour, scaled(tint, brightness), _COLOUR_WORD_PULL)


def _readable(colour: Colour) -> Colour:
    """The hue of a colour, light enough to be read over a shadow."""
    hue, _, _ = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    red, green, blue = (channel * 255 for channel in colorsys.hls_to_rgb(hue, 0.83, 0.95))
    return (red, green, blue)


def _mood(tags: Tags, rng: np.random.Generator) -> _Mood:
    if tags.setting in _SETTING_MOODS:
        return _SETTING_MOODS[tags.setting]
    if tags.time:
        return _MOODS[tags.time]
    if tags.setting in _DEFAULT_TIMES:
        choices = _DEFAULT_TIMES[tags.setting]
        return _MOODS[choices[int(rng.integers(len(choices)))]]
    return _ABSTRACT_MOODS[int(rng.integers(len(_ABSTRACT_MOODS)))]
