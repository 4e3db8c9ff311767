"""Reads a prompt: which setting, time, weather, pace, colours and subjects its words call up. Pure, no chance.

The lists are small on purpose: a word that is in none of them costs nothing (the scene is then an abstract one, and its
colours come from the prompt's hash). Emoji are read by their Unicode names, so a wave emoji is a sea.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_SETTINGS: Final = {
    "sea": "sea ocean wave surf tide beach coast shore harbor harbour sail sailing boat ship island lake river "
    "bay pirate lighthouse seagull gull yacht fjord lagoon mer mar meer ozean море океан 海 洋 湖 波 江 河 بحر "
    "ים θάλασσα",
    "underwater": "underwater undersea submarine coral reef fish whale dolphin shark jellyfish octopus turtle "
    "diver diving aquarium kelp mermaid abyss squid seahorse 魚 鱼 鯨 鲸",
    "forest": "forest wood woods woodland tree pine fir oak jungle grove fox deer owl bear wolf leaf moss fern "
    "bamboo foret bosque wald лес 森 林 木 竹 樹 树 غابة יער",
    "mountains": "mountain peak summit alps cliff ridge climber glacier canyon valley eagle alpine everest "
    "volcano montagne montana berg гора горы 山 峰 جبل הר snow winter ice frost frozen ski arctic penguin 雪 冬 "
    "冰 氷",
    "city": "city town street skyline building skyscraper tower neon traffic car taxi train subway metropolis "
    "downtown rooftop tokyo paris london york berlin shanghai robot cyberpunk factory train tram window office "
    "ville ciudad stadt город 城 市 街 町 مدينة עיר",
    "desert": "desert sand dune sahara cactus camel oasis pyramid egypt mars martian caravan mesa desierto "
    "пустыня 沙 漠 صحراء מדבר",
    "meadow": "meadow field grass hill prairie garden flower farm wheat sheep cow horse spring butterfly bee "
    "picnic park dog puppy rabbit tulip rose daisy sunflower lavender poppy village countryside kite balloon "
    "поле луг 花 草 原 野 زهرة",
    "space": "space galaxy cosmos cosmic universe planet star stars nebula rocket astronaut spaceship alien "
    "orbit satellite comet asteroid saturn jupiter telescope milky interstellar starship espace космос звезда "
    "звезды 星 宇 宙 空間 نجم כוכב",
    "fire": "fire flame burn burning ember bonfire campfire candle lava inferno blaze torch dragon phoenix "
    "furnace forge hell feu fuego feuer огонь 火 炎 焰 نار אש",
}
_TIMES: Final = {
    "night": "night midnight moon moonlit moonlight dark darkness star stars starry owl nocturnal dream sleep "
    "neon firefly fireflies nuit noche nacht ночь луна 夜 月 ليل ليلا قمر קמר לילה ירח black",
    "sunset": "sunset dusk evening twilight golden autumn fall october romantic sundown abend закат вечер 夕 秋 "
    "غروب orange",
    "dawn": "dawn sunrise morning spring cherry blossom sakura early aube alba morgen рассвет утро 朝 暁 春 فجر pink",
    "day": "day noon sun sunny bright summer afternoon clear soleil sol sonne солнце день лето 日 昼 夏 晴 شمس שמש",
    "storm": "storm stormy thunder lightning rain rainy grey gray gloomy cloudy tempest hurricane fog foggy mist "
    "misty haunted буря дождь туман 雨 雷 嵐 曇 雾 霧 مطر גשם",
    "aurora": "aurora borealis northern lights polar magic magical enchanted fairy mystic wizard neon cyberpunk "
    "vaporwave",
}
_WEATHERS: Final = {
    "snow": "snow snowy snowing winter blizzard christmas ice frost arctic ski penguin snowflake neige nieve "
    "schnee снег зима 雪 冬 ثلج שלג",
    "rain": "rain rainy raining storm drizzle umbrella monsoon downpour thunder pluie lluvia regen дождь 雨 嵐 مطر גשם",
    "embers": "fire flame ember burning lava volcano bonfire campfire dragon phoenix spark forge inferno огонь "
    "火 炎 نار אש",
    "leaves": "autumn leaf leaves fall october wind windy 秋 葉 叶 осень",
    "petals": "petal blossom sakura cherry flower rose spring wedding love butterfly 花 桜 春 樱",
    "fireflies": "firefly fireflies magic magical fairy enchanted lantern glow glowing dream wizard spell",
    "bubbles": "bubble underwater undersea fish whale coral reef submarine diver jellyfish mermaid soap champagne 泡",
    "dust": "dust sand desert sunlight attic ancient memory old nostalgia warm 沙",
}
_PACES: Final = {
    "calm": "calm slow gentle gently quiet still peaceful silent drift drifting floating soft serene sleep lazy "
    "slowly dream",
    "lively": "fast race racing run running storm speed rush quick dance dancing chase explode explosion wild "
    "jump fly flying party energetic rocket galloping",
}
_COLOURS: Final = {
    "red": "red crimson scarlet ruby blood rouge rojo rot красный 赤 红 紅 أحمر אדום",
    "orange": "orange amber copper pumpkin tangerine 橙",
    "gold": "gold golden yellow honey lemon jaune gelb золотой 金 黄",
    "green": "green emerald jade lime mint vert verde grun зелёный зеленый 绿 緑 أخضر",
    "teal": "teal turquoise cyan aqua",
    "blue": "blue azure navy sapphire indigo cobalt bleu azul blau синий голубой 青 蓝 藍 أزرق כחול",
    "purple": "purple violet lavender lilac magenta plum neon cyberpunk 紫",
    "pink": "pink rose blush salmon flamingo sakura 桃",
}
_SUBJECTS: Final = {
    "boat": "boat ship sail sailing yacht sailboat pirate schooner vessel canoe 船 舟",
    "birds": "bird birds gull seagull crow raven swallow swan goose geese eagle heron crane flock dove pigeon "
    "kite 鳥 鸟",
    "balloon": "balloon zeppelin airship hot-air",
    "fish": "fish shoal school whale shark dolphin salmon koi reef coral underwater 魚 鱼 鯨 鲸",
    "planet": "planet saturn jupiter mars moon world earth globe astronaut space alien 星 地球",
}

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*", re.UNICODE)
# Scripts that write without spaces: here each character is looked up as a word of its own.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Tags:
    """What a prompt calls up. Empty text or tuple: nothing of that kind was found.

    Attributes:
        setting: The place, such as `sea` or `city`.
        time: Time of day or light, such as `night`.
        weather: What falls, rises or floats in the air.
        pace: `calm` or `lively`.
        colours: Colour words, most frequent first.
        subjects: Things that can be drawn as silhouettes, most frequent first.
    """

    setting: str
    time: str
    weather: str
    pace: str
    colours: tuple[str, ...]
    subjects: tuple[str, ...]


def read(prompt: str) -> Tags:
    """Reads the tags out of a prompt. The most frequent tag of each kind wins; at a tie, the one named first."""
    words = list(lookup_forms(prompt))
    return Tags(
        setting=_first(_ranked(words, _SETTING_OF)),
        time=_first(_ranked(words, _TIME_OF)),
        weather=_first(_ranked(words, _WEATHER_OF)),
        pace=_first(_ranked(words, _PACE_OF)),
        colours=_ranked(words, _COLOUR_OF),
        subjects=_ranked(words, _SUBJECT_OF),
    )


def is_evocative(word: str) -> bool:
    """Whether the word, as it stands in a prompt, is one that shapes the scene; such words take the accent colour."""
    tables = (_SETTING_OF, _TIME_OF, _WEATHER_OF, _COLOUR_OF, _SUBJECT_OF)
    forms = [form for found in lookup_forms(word) for form in _bare_forms(found)]
    return any(form in table for form in forms for table in tables)


def lookup_forms(text: str) -> Iterable[str]:
    """The words of a text as the lexicon spells them: lower case, no accents, no plural; emoji by their names."""
    for token in _WORD.findall(_emoji_names(text)):
        folded = _fold(token)
        if _UNSPACED.search(folded):
            yield from folded
            continue
        yield folded
        for part in re.split(r"['’-]", folded) if len(folded) > 1 else ():
            if part != folded:
                yield part


def _emoji_names(text: str) -> str:
    return "".join(f" {unicodedata.name(char, '').lower()} " if _is_symbol(char) else char for char in text)


def _is_symbol(char: str) -> bool:
    return unicodedata.category(char) == "So"


def _fold(word: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))
    # Korean and some kana come apart under NFKD; composed again they are the characters of the lists.
    return unicodedata.normalize("NFC", plain)


def _bare_forms(word: str) -> tuple[str, ...]:
    """The word, then what it may be without an English plural or an Arabic article."""
    if word.startswith("ال"):
        return (word, word[2:])
    if len(word) > 4 and word.endswith("ves"):  # noqa: PLR2004  # leaves -> leaf; shorter words are not plurals
        return (word, word[:-1], word[:-3] + "f")
    if len(word) > 4 and word.endswith("es"):  # noqa: PLR2004
        return (word, word[:-1], word[:-2])
    if len(word) > 3 and word.endswith("s"):  # noqa: PLR2004
        return (word, word[:-1])
    return (word,)


def _table(lists: Mapping[str, str]) -> dict[str, str]:
    table: dict[str, str] = {}
    for tag, words in lists.items():
        for word in words.split():
            table.setdefault(_fold(word), tag)
    return table


def _ranked(words: Iterable[str], table: Mapping[str, str]) -> tuple[str, ...]:
    hits = Counter[str]()
    for word in words:
        for form in _bare_forms(word):
            if form in table:
                hits[table[form]] += 1
                break
    return tuple(tag for tag, _ in hits.most_common())  # most_common keeps the order of first appearance at ties


def _first(ranked: tuple[str, ...]) -> str:
    return ranked[0] if ranked else ""


_SETTING_OF: Final = _table(_SETTINGS)
_TIME_OF: Final = _table(_TIMES)
_WEATHER_OF: Final = _table(_WEATHERS)
_PACE_OF: Final = _table(_PACES)
_COLOUR_OF: Final = _table(_COLOURS)
_SUBJECT_OF: Final = _table(_SUBJECTS)
