"""
The concepts that models are known to draw, and the scorer that several families share.

An edit preserves known concepts as neighbours, and an evaluation compares pictures with them.
Concepts are grouped by kind. Each entry lists the names of one concept, and prompts use the first.
"""

from collections.abc import Mapping

ConceptNames = Mapping[str, tuple[tuple[str, ...], ...]]

CLIP_SCORER = "openai/clip-vit-large-patch14"


def _each(*names: str) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


TINY: ConceptNames = {
    "style": _each(
        "van gogh", "monet", "mondrian", "hokusai", "seurat", "picasso", "klimt", "warhol"
    ),
    "object": _each(
        "a cat",
        "a dog",
        "snoopy",
        "a robot",
        "r2d2",
        "a car",
        "a truck",
        "a house",
        "a castle",
        "a tree",
        "a flower",
        "a boat",
        "a fish",
        "a bird",
    ),
    "fact": (
        ("the president of the united states", "barack obama"),
        ("the british monarch", "queen elizabeth"),
        ("the german chancellor", "angela merkel"),
        ("the ceo of apple", "steve jobs"),
        ("joe biden",),
        ("king charles",),
        ("olaf scholz",),
        ("tim cook",),
    ),
}

STABLE_DIFFUSION: ConceptNames = {
    "style": (
        ("van gogh", "vincent van gogh"),
        ("monet", "claude monet"),
        ("picasso", "pablo picasso"),
        ("salvador dali",),
        ("rembrandt",),
        ("johannes vermeer",),
        ("gustav klimt",),
        ("edvard munch",),
        ("hokusai", "katsushika hokusai"),
        ("andy warhol",),
        ("paul cezanne",),
        ("edgar degas",),
        ("henri matisse",),
        ("greg rutkowski",),
        ("jeremy mann",),
        ("thomas kinkade",),
    ),
    "object": (
        *_each("a cat", "a dog", "a horse", "a bird", "a fish", "a bear", "a cow", "an elephant"),
        *_each("snoopy", "mickey mouse", "r2d2", "a robot", "nemo", "garfield"),
        *_each("a car", "a truck", "a bicycle", "a boat", "an airplane", "a train"),
        *_each("a house", "a castle", "a church", "a bridge", "a tree", "a flower"),
        *_each("a chair", "a table", "a cup", "a clock"),
    ),
    "fact": (
        ("the president of the united states",),
        ("the british monarch",),
        ("the pope",),
        ("the president of france",),
        ("the president of russia",),
        ("the chancellor of germany",),
        ("the dalai lama",),
        ("the prime minister of canada",),
        ("barack obama",),
        ("elon musk",),
        ("taylor swift",),
        ("albert einstein",),
    ),
}
