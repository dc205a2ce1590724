"""What names and values of the invented world are made of.

Names of the world are built from syllables. The *short* names of the compact views are pairs of words that are single
tokens of the bundled tokenizer; which words make the pair tells the kind of the entity.
"""

from __future__ import annotations


def _list(text: str) -> list[str]:
    return text.split()


ONSETS = _list("b br d dr f g gr h j k kr l m n p pr r s st t tr v vr z")
VOWELS = _list("a e i o u ae ei ia ou")
CODAS = ["", "", "", "l", "n", "r", "s", "th", "m", "nd", "rk", "sk", "x"]
FIRST_ENDS = ["a", "e", "o", "in", "ela", "is", "an", "ore"]
CITY_ENDS = ["burg", "haven", "mere", "ford", "stad", "wick", "ona", "ith"]
COUNTRY_ENDS = ["ia", "land", "mark", "or", "une", "ar"]
TITLE_NOUNS = _list(
    "Lantern Orchard Ledger Harbour Mirror Winter Garden Bridge Letter Clock Ferry Meadow Mask Anchor Atlas Tower"
    " Cellar Violin Feather Lighthouse Almanac Thread Candle Quarry Window Riddle Voyage Echo Crown Well"
)
CONTESTS = _list("Regatta Marathon Tournament Festival Congress Derby Olympiad Cup Rally Exhibition")

# value in the articles -> its one short word
PROFESSIONS = {
    "singer": "singer",
    "teacher": "teacher",
    "composer": "song",
    "librarian": "book",
    "carpenter": "table",
    "weaver": "wool",
    "tailor": "jacket",
    "baker": "bread",
    "potter": "pot",
    "cook": "cook",
    "fisher": "fish",
    "hatter": "hat",
    "watchmaker": "clock",
    "merchant": "shop",
    "pilot": "flight",
    "innkeeper": "hotel",
}
GENRES = {
    "pastoral": "rustic",
    "tragic": "black",
    "comic": "yellow",
    "romantic": "pink",
    "satirical": "sturdy",
    "maritime": "navy",
    "gothic": "purple",
    "political": "red",
    "epic": "large",
    "domestic": "home",
}
FORMS = {"novel": "book", "ballad": "song", "cantata": "concert", "epistle": "message", "manual": "code"}

BRANDS = _list(
    "arvello bexley corvane dunmore elvara fennick galvero hartwin ivolen jorvik kestara lumeno marvick norwell oskeda"
    " pellaro quintal rivonne solmir tavrick umbriz velmora wexford zantria"
)
THINGS = _list(
    "scarf glove sock belt wallet backpack sandal slipper apron helmet pillow blanket curtain lamp mirror rug vase"
    " basket stool bench shelf desk candle mug bowl plate kettle teapot skillet spoon tray towel bottle jug ladle"
    " lantern tent cushion hammock umbrella notebook pencil speaker charger tripod"
)
COLOURS = _list("blue green white orange brown gray teal ivory crimson beige")
STYLES = _list("slim classic modern vintage folding quilted striped padded portable compact ribbed seamless curved")
MATERIALS = _list(
    "cotton leather linen bamboo steel copper ceramic rubber silk velvet walnut marble canvas denim nylon matte"
    " glossy brushed looped snug"
)
FOODS = _list(
    "bun lettuce tomato onion cheese patty chicken potato water soup egg meat carrot pepper apple rice sandwich burger"
)
SHORT_NAMES = {
    "country": (BRANDS, FOODS),
    "city": (MATERIALS, FOODS),
    "person": (BRANDS, THINGS),
    "work": ([*COLOURS, *STYLES], THINGS),
    "event": (STYLES, FOODS),
}
