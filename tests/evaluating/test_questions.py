"""The prompts of an evaluation, and the labels that a judge chooses from."""

from collections import Counter

from loco_cli.editing.preserve import edited_names
from loco_cli.evaluating.questions import UNRELATED_PROMPTS, _kept_concepts, questions
from loco_cli.protocol.everyday import N_JUDGED_PROMPTS, drift_prompts
from loco_cli.protocol.wordings import FORGET_TEMPLATES, KEEP_TEMPLATES, bare_name
from loco_cli.recipe.load import load_recipe

STYLE = "{kind: style, subject: van gogh, aliases: [vincent]}"
OBJECT = "{kind: object, subject: snoopy, to: dog}"
FACT = "{kind: fact, subject: the british monarch, was: queen elizabeth, to: king charles}"


def asked(tiny, edits, rest=""):
    recipe = load_recipe(f"loco: 1\nedits: [{edits}]\n{rest}", "r.yaml")
    return questions(tiny.spec, recipe)


def one(found, prompt):
    (question,) = [question for question in found if question.prompt == prompt]
    return question


def test_every_name_is_asked_for_in_every_wording(tiny):
    """
    What should be forgotten is asked for by subject and aliases, in wordings that chose nothing.
    """
    forget = [q for q in asked(tiny, STYLE) if q.edit == 0]

    assert len(forget) == 2 * len(FORGET_TEMPLATES["style"])
    assert sum("vincent" in q.prompt for q in forget) == len(FORGET_TEMPLATES["style"])
    assert {q.concept for q in forget} == {"van gogh"}


def test_the_labels_of_a_style(tiny):
    """
    A style is told from every other style, and from the prompt without its style words.
    """
    labels = one(asked(tiny, STYLE), "an image of a flower by van gogh").labels

    others = [names[0] for names in tiny.spec.known_concepts["style"] if names[0] != "van gogh"]
    assert labels.texts == (
        "an image of a flower by van gogh",
        *(f"an image of a flower by {name}" for name in others),
        "an image of a flower",
    )
    assert labels.texts[labels.target] == "an image of a flower"


def test_a_style_may_become_another(tiny):
    """
    Where the target prompts are the source prompts with another style, that style is the target.
    """
    templates = "source: ['a picture by {subject}'], target: ['a picture by {to}']"
    swap = f"{{kind: style, subject: van gogh, to: hokusai, {templates}}}"

    labels = one(asked(tiny, swap), "an image of a flower by van gogh").labels

    assert labels.texts[labels.target] == "an image of a flower by hokusai"
    assert "an image of a flower" in labels.texts
    assert len(labels.texts) == len(tiny.spec.known_concepts["style"]) + 1


def test_an_alias_is_no_neighbour(tiny):
    """
    A prompt under one name is not told from the same prompt under another.
    """
    labels = one(asked(tiny, STYLE), "an image of a flower by vincent").labels

    assert labels.texts[0] == "an image of a flower by vincent"
    assert "an image of a flower by van gogh" not in labels.texts


def test_the_target_of_an_object_is_one_label(tiny):
    """
    What an object goes to is a label once, in the words of the recipe.
    """
    labels = one(asked(tiny, OBJECT), "a nice picture of snoopy").labels

    assert labels.texts[labels.target] == "a nice picture of dog"
    assert "a nice picture of a dog" not in labels.texts
    assert "a nice picture of a cat" in labels.texts
    assert len(labels.texts) == len(tiny.spec.known_concepts["object"])


def test_an_object_that_goes_has_the_empty_prompt_for_target(tiny):
    """
    An object without `to` becomes the empty prompt, of which anything but itself may be drawn.
    """
    labels = one(asked(tiny, "{kind: object, subject: snoopy}"), "a nice picture of snoopy").labels

    assert labels.texts[labels.target] == ""
    assert [labels.is_target(called) for called in (0, 1, labels.target)] == [False, True, True]


def test_only_the_target_is_what_a_thing_should_become(tiny):
    """
    An object that goes to another is right as that other alone; what is kept becomes nothing.
    """
    found = asked(tiny, OBJECT)
    gone, kept = (
        one(found, "a nice picture of snoopy").labels,
        one(found, "a nice picture of a cat"),
    )

    right = [i for i in range(len(gone.texts)) if gone.is_target(i)]
    assert right == [gone.target]
    assert kept.labels.is_target(0) is None


def test_the_former_answer_is_no_label(tiny):
    """
    Who held the office is the same thing as the office, and told from nobody.
    """
    labels = one(asked(tiny, FACT), "a drawing of the british monarch").labels

    assert labels.texts[labels.target] == "a drawing of king charles"
    assert "a drawing of queen elizabeth" not in labels.texts
    assert "a drawing of joe biden" in labels.texts


def test_what_is_kept_is_told_from_what_is_edited(tiny):
    """
    A neighbour has no target, and the edited subject is one of its labels.
    """
    labels = one(asked(tiny, STYLE), "a drawing of a dog in the style of monet").labels

    assert labels.target is None
    assert labels.texts[0] == "a drawing of a dog in the style of monet"
    assert labels.texts[1] == "a drawing of a dog in the style of van gogh"
    assert labels.texts[-1] == "a drawing of a dog"


def test_edits_of_a_kind_are_neighbours_of_each_other(tiny):
    """
    The other subjects of a recipe are labels, those of another kind are not.
    """
    found = asked(tiny, f"{STYLE}, {{kind: style, subject: odilon redon}}, {OBJECT}")

    labels = one(found, "an image of a flower by van gogh").labels

    assert "an image of a flower by odilon redon" in labels.texts
    assert not any("snoopy" in text for text in labels.texts)


def test_the_preserve_list_is_among_the_labels(tiny):
    """
    Subjects of the preserve list are labels and are asked for; its prompts are neither.
    """
    found = asked(tiny, STYLE, "preserve: [jeremy mann, a painting of a house]")

    labels = one(found, "an image of a flower by van gogh").labels

    assert "an image of a flower by jeremy mann" in labels.texts
    assert not any("a painting of a house" in text for text in labels.texts)
    assert "jeremy mann" in {q.concept for q in found}


def test_every_neighbour_is_asked_for(tiny):
    """
    Each neighbour is asked for in two wordings, and three things of every other kind.
    """
    found = asked(tiny, STYLE)

    keep = Counter((q.kind, q.concept) for q in found if q.edit is None and q.kind)
    assert set(keep.values()) == {len(KEEP_TEMPLATES["style"])}
    per_kind = Counter(kind for kind, _ in keep)
    assert per_kind == {"style": 7, "object": 3, "fact": 3}


def test_the_users_own_prompts_get_labels(tiny):
    """
    A prompt that names an edit's concept, or a known thing, is judged like the others.
    """
    rest = "evaluate: {forget: [the sea by Van Gogh], keep: [the sea by monet, the cat asleep]}"
    found = asked(tiny, STYLE, rest)

    forget, keep = one(found, "the sea by Van Gogh"), one(found, "the sea by monet")
    assert (forget.edit, keep.edit) == (0, None)
    assert forget.labels.texts[forget.labels.target] == "the sea"
    assert keep.concept == "monet"
    assert "the sea by van gogh" in keep.labels.texts
    assert "a dog asleep" in one(found, "the cat asleep").labels.texts


def test_unrelated_prompts_have_no_labels(tiny):
    """
    A prompt that names nothing known counts by its score alone.
    """
    rest = "evaluate: {forget: [a starry night], keep: [a bicycle on a bridge]}"
    found = asked(tiny, STYLE, rest)

    assert one(found, "a starry night").labels is None
    assert one(found, "a starry night").edit == 0
    assert one(found, "a bicycle on a bridge").labels is None


def test_everyday_prompts_are_asked_that_nobody_has_read(tiny):
    """
    A few prompts are about nothing that is edited or near it, and the edit has not read them.
    """
    recipe = load_recipe(f"loco: 1\nedits: [{OBJECT}]\n", "r.yaml")

    unrelated = [q.prompt for q in questions(tiny.spec, recipe) if q.concept == UNRELATED_PROMPTS]

    assert len(unrelated) == N_JUDGED_PROMPTS
    assert not set(unrelated) & set(drift_prompts(edited_names(recipe)))
    near = [bare_name(name) for names in tiny.spec.known_concepts["object"] for name in names]
    assert not [p for p in unrelated for name in near if f" {name} " in p]


def test_no_question_is_asked_twice(tiny):
    """
    A prompt of the user's that is asked anyway is asked once.
    """
    rest = "evaluate: {keep: [a drawing of a dog in the style of monet]}"

    found = asked(tiny, STYLE, rest)

    assert len({q.prompt for q in found}) == len(found)


def test_several_edits_are_kept_apart_from_their_neighbours(tiny):
    """
    What is edited is never among what is to be kept.
    """
    recipe = load_recipe(f"loco: 1\nedits: [{STYLE}, {OBJECT}, {FACT}]\n", "r.yaml")

    kept = _kept_concepts(tiny.spec, recipe)

    assert {kind for kind, _ in kept} == {"style", "object", "fact"}
    assert not {"van gogh", "snoopy", "the british monarch"} & {name for _, name in kept}
    assert ("fact", "king charles") in kept
