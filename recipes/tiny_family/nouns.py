"""The real English nouns of the family's world, with their plurals.

Legs, wheels, strings and sides are true facts. This module does not know prices, weights, splits
or sentences. A noun is written `singular` where its plural adds an "s", else `singular:plural`.
"""

from __future__ import annotations

LEGS: dict[int, str] = {
    2: "chicken duck goose:geese owl eagle robin crow swan parrot penguin turkey hawk pigeon "
    "ostrich:ostriches stork raven",
    4: "cat dog horse cow goat pig lion tiger bear wolf:wolves fox:foxes mouse:mice rabbit camel "
    "frog lizard turtle zebra monkey elephant hamster squirrel",
    6: "ant bee beetle butterfly:butterflies moth wasp cricket termite hornet ladybug flea "
    "grasshopper mosquito:mosquitoes cockroach:cockroaches",
    8: "spider scorpion tick mite tarantula",
    10: "crab lobster prawn shrimp crayfish:crayfishes",
}
WHEELS: dict[int, str] = {
    2: "bicycle scooter motorcycle rickshaw chariot",
    3: "tricycle tuktuk trike",
    4: "car van taxi wagon tractor jeep",
    6: "truck lorry:lorries bus:buses",
}
STRINGS: dict[int, str] = {
    3: "balalaika rebec",
    4: "violin cello viola ukulele",
    5: "banjo",
    6: "guitar charango:charangos",
    8: "mandolin bouzouki",
}
SIDES: dict[int, str] = {
    3: "triangle",
    4: "square rectangle rhombus:rhombuses trapezoid",
    5: "pentagon",
    6: "hexagon",
    7: "heptagon",
    8: "octagon",
    9: "nonagon",
    10: "decagon",
}
GOODS = (
    "apple pear banana lemon orange peach:peaches plum mango:mangoes melon carrot potato:potatoes "
    "tomato:tomatoes onion cabbage pumpkin loaf:loaves cake pie cookie muffin bagel cheese egg "
    "sausage pizza sandwich:sandwiches candle lamp mug cup plate bowl spoon fork knife:knives pan "
    "kettle jar bottle basket box:boxes bag towel pillow blanket carpet curtain mirror clock watch:"
    "watches ring necklace scarf:scarves hat cap coat jacket shirt sock glove boot belt button "
    "needle brush:brushes comb soap sponge broom bucket hammer saw drill nail screw rope ladder "
    "shovel rake pot plant rose tulip book notebook pencil pen eraser ruler stamp card poster "
    "puzzle doll kite ball drum flute whistle balloon puppet marble chair table desk shelf:shelves "
    "sofa bed vase tray tent helmet radio camera magnet torch:torches battery:batteries cable"
)
NAMES = "Ann Ben Tom Mia Leo Zoe Sam Eva Max Lily"


def split_noun(entry: str) -> tuple[str, str]:
    """Return (singular, plural) of one entry."""
    singular, _, plural = entry.partition(":")
    return singular, plural or singular + "s"
