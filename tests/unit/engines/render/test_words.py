"""Reading a prompt and setting its words: tags, cards, lines, order, stand-ins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.render.contract import RenderRequest
from engines.render.procedural import fonts, lexicon, typography


@pytest.mark.parametrize(
    ("prompt", "setting", "time", "weather"),
    [
        ("a paper boat on the sea at sunset", "sea", "sunset", ""),
        ("Fireflies in the FOREST by night", "forest", "night", "fireflies"),
        ("autumn in the park", "meadow", "sunset", "leaves"),
        ("🌊", "sea", "", ""),
        ("夜の海", "sea", "night", ""),
        ("البحر ليلا", "sea", "night", ""),
        ("an idea about justice", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_words_call_up_a_scene(prompt: str, setting: str, time: str, weather: str) -> None:
    tags = lexicon.read(prompt)
    assert (tags.setting, tags.time, tags.weather) == (setting, time, weather)


def test_the_word_named_more_often_wins_and_the_first_at_a_tie() -> None:
    assert lexicon.read("city city forest").setting == "city"
    assert lexicon.read("forest city").setting == "forest"


@given(st.text(max_size=300))
def test_any_text_can_be_read(prompt: str) -> None:
    lexicon.read(prompt)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280), (1024, 1792), (96, 64)])
@pytest.mark.parametrize(
    "prompt", ["Sunrise", "a " * 50, "The quick brown fox jumps over the lazy dog, twice.", "x" * 200, "字" * 90]
)
def test_every_word_stands_inside_the_picture(prompt: str, width: int, height: int) -> None:
    # given a prompt and a size / when its cards are laid out
    request = RenderRequest(prompt, width, height, 4, 24, 1)
    cards = typography.compose(request)
    # then each settled word lies inside, at a readable size, and the cards follow one another without a gap
    for card in cards:
        assert card.size >= min(6, min(width, height) * 0.04)
        for placed in card.words:
            assert placed.x >= 0
            assert placed.x + fonts.width_px(placed.word.text, card.size, placed.word.face) <= width
            assert placed.baseline - card.size * 0.6 >= 0
            assert placed.baseline <= height
    assert cards[0].starts_s < 0
    assert [card.ends_s for card in cards[:-1]] == [card.starts_s for card in cards[1:]]
    assert cards[-1].ends_s > request.seconds


def test_a_short_prompt_is_shown_whole_and_a_long_one_ends_with_an_ellipsis() -> None:
    def shown(prompt: str) -> str:
        cards = typography.compose(RenderRequest(prompt, 1280, 720, 4, 24, 1))
        return " ".join(placed.word.text for card in cards for placed in card.words)

    assert shown("A boat, drifting\n home") == "A boat, drifting home"
    assert shown("word " * 6_000).endswith("word…")
    assert len(shown("word " * 6_000)) < 200


def test_words_of_both_directions_keep_their_order() -> None:
    # given a line with Hebrew and English / when it is ordered from left to right
    face = fonts.face_for("a")
    line = [typography.Word(text, face) for text in ("שלום", "עולם", "one", "two")]
    # then in a right-to-left line the English words stand on the left, in their own order
    assert typography.visual_order(line, right_to_left=True) == [2, 3, 1, 0]
    assert typography.visual_order(line, right_to_left=False) == [1, 0, 2, 3]


def test_accents_fall_away_only_where_no_typeface_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a machine without any system typeface
    monkeypatch.setattr(fonts, "_faces", lambda: (fonts.Face(None),))
    fonts._stand_in.cache_clear()
    try:
        # when text is made displayable / then what has a plain form gets it, and the rest stays and is drawn as seals
        assert fonts.displayable("naïve café, 海。") == "naive cafe, 海."
        drawn = fonts.draw("海海", 40, fonts.Face(None))
        assert drawn.mask.max() == 255
        assert drawn.mask.shape[1] > 60
    finally:
        fonts._stand_in.cache_clear()


def test_different_missing_characters_get_different_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_faces", lambda: (fonts.Face(None),))
    seals = {fonts.draw(char, 60, fonts.Face(None)).mask.tobytes() for char in "海山川空火水木金"}
    assert len(seals) > 4


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_word_comes_in_once(share: float) -> None:
    assert typography.settle_share(1.0 + share * 10, 1.0) == pytest.approx(1 - (1 - min(1.0, share * 20)) ** 3)
    assert typography.settle_share(0.9, 1.0) == 0.0
