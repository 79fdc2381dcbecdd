"""The prompts of an evaluation, and the labels of the judge."""

from collections import Counter

from loco_cli.editing.preserve import edited_names
from loco_cli.evaluating.questions import UNRELATED_PROMPTS, _kept_concepts, questions
from loco_cli.protocol.everyday import N_JUDGED_PROMPTS, drift_prompts
from loco_cli.protocol.wordings import FORGET_TEMPLATES, KEEP_TEMPLATES, bare_name
from loco_cli.recipe.load import load_recipe

STYLE = "{kind: style, subject: van gogh, aliases: [vincent]}"
OBJECT = "{kind: object, subject: snoopy, to: dog}"
FACT = "{kind: fact, subject: the british monarch, was: queen elizabeth, to: king charles}"


def questions_of(tiny, edits, rest=""):
    recipe = load_recipe(f"loco: 1\nedits: [{edits}]\n{rest}", "r.yaml")
    return questions(tiny.spec, recipe)


def question_of(found, prompt):
    (question,) = [question for question in found if question.prompt == prompt]
    return question


def test_every_name_is_used_in_every_wording(tiny):
    """The prompts to forget use the subject and each alias in every wording."""
    forget = [q for q in questions_of(tiny, STYLE) if q.edit == 0]

    assert len(forget) == 2 * len(FORGET_TEMPLATES["style"])
    assert sum("vincent" in q.prompt for q in forget) == len(FORGET_TEMPLATES["style"])
    assert {q.concept for q in forget} == {"van gogh"}


def test_the_labels_of_a_style(tiny):
    """The labels of a style are every other style and the prompt without a style."""
    labels = question_of(questions_of(tiny, STYLE), "an image of a flower by van gogh").labels

    others = [names[0] for names in tiny.spec.known_concepts["style"] if names[0] != "van gogh"]
    assert labels.texts == (
        "an image of a flower by van gogh",
        *(f"an image of a flower by {name}" for name in others),
        "an image of a flower",
    )
    assert labels.texts[labels.target] == "an image of a flower"


def test_a_style_may_become_another(tiny):
    """If the target prompts name another style, that style is the target label."""
    templates = "source: ['a picture by {subject}'], target: ['a picture by {to}']"
    swap = f"{{kind: style, subject: van gogh, to: hokusai, {templates}}}"

    labels = question_of(questions_of(tiny, swap), "an image of a flower by van gogh").labels

    assert labels.texts[labels.target] == "an image of a flower by hokusai"
    assert "an image of a flower" in labels.texts
    assert len(labels.texts) == len(tiny.spec.known_concepts["style"]) + 1


def test_an_alias_is_not_a_neighbour(tiny):
    """A prompt under one name does not have another name as a label."""
    labels = question_of(questions_of(tiny, STYLE), "an image of a flower by vincent").labels

    assert labels.texts[0] == "an image of a flower by vincent"
    assert "an image of a flower by van gogh" not in labels.texts


def test_the_target_of_an_object_is_one_label(tiny):
    """The target of an object is a label once, in the words of the recipe."""
    labels = question_of(questions_of(tiny, OBJECT), "a nice picture of snoopy").labels

    assert labels.texts[labels.target] == "a nice picture of dog"
    assert "a nice picture of a dog" not in labels.texts
    assert "a nice picture of a cat" in labels.texts
    assert len(labels.texts) == len(tiny.spec.known_concepts["object"])


def test_an_erased_object_has_the_empty_prompt_as_target(tiny):
    """Without `to` an object becomes the empty prompt, and any other label is correct."""
    labels = question_of(
        questions_of(tiny, "{kind: object, subject: snoopy}"), "a nice picture of snoopy"
    ).labels

    assert labels.texts[labels.target] == ""
    assert [labels.is_target(label) for label in (0, 1, labels.target)] == [False, True, True]


def test_a_replaced_object_has_one_correct_label(tiny):
    """Only the target label is correct; a kept object has no target."""
    found = questions_of(tiny, OBJECT)
    edited, kept = (
        question_of(found, "a nice picture of snoopy").labels,
        question_of(found, "a nice picture of a cat"),
    )

    right = [i for i in range(len(edited.texts)) if edited.is_target(i)]
    assert right == [edited.target]
    assert kept.labels.is_target(0) is None


def test_a_former_answer_is_not_a_label(tiny):
    """A fact's former answer names the same thing, so it is not a label."""
    labels = question_of(questions_of(tiny, FACT), "a drawing of the british monarch").labels

    assert labels.texts[labels.target] == "a drawing of king charles"
    assert "a drawing of queen elizabeth" not in labels.texts
    assert "a drawing of joe biden" in labels.texts


def test_a_kept_concept_has_the_edited_one_as_label(tiny):
    """A neighbour has no target, and the edited subject is one of its labels."""
    labels = question_of(
        questions_of(tiny, STYLE), "a drawing of a dog in the style of monet"
    ).labels

    assert labels.target is None
    assert labels.texts[0] == "a drawing of a dog in the style of monet"
    assert labels.texts[1] == "a drawing of a dog in the style of van gogh"
    assert labels.texts[-1] == "a drawing of a dog"


def test_edits_of_a_kind_are_neighbours(tiny):
    """Other subjects of the same kind are labels, those of another kind are not."""
    found = questions_of(tiny, f"{STYLE}, {{kind: style, subject: odilon redon}}, {OBJECT}")

    labels = question_of(found, "an image of a flower by van gogh").labels

    assert "an image of a flower by odilon redon" in labels.texts
    assert not any("snoopy" in text for text in labels.texts)


def test_the_preserve_list_is_among_the_labels(tiny):
    """Subjects of the preserve list are labels and questions; its prompts are neither."""
    found = questions_of(tiny, STYLE, "preserve: [jeremy mann, a painting of a house]")

    labels = question_of(found, "an image of a flower by van gogh").labels

    assert "an image of a flower by jeremy mann" in labels.texts
    assert not any("a painting of a house" in text for text in labels.texts)
    assert "jeremy mann" in {q.concept for q in found}


def test_every_neighbour_has_questions(tiny):
    """Each neighbour has two wordings, and so do three things of every other kind."""
    found = questions_of(tiny, STYLE)

    keep = Counter((q.kind, q.concept) for q in found if q.edit is None and q.kind)
    assert set(keep.values()) == {len(KEEP_TEMPLATES["style"])}
    per_kind = Counter(kind for kind, _ in keep)
    assert per_kind == {"style": 7, "object": 3, "fact": 3}


def test_user_prompts_that_name_a_concept_have_labels(tiny):
    """A user's prompt with an edited or known concept is judged like the others."""
    rest = "evaluate: {forget: [the sea by Van Gogh], keep: [the sea by monet, the cat asleep]}"
    found = questions_of(tiny, STYLE, rest)

    forget, keep = question_of(found, "the sea by Van Gogh"), question_of(found, "the sea by monet")
    assert (forget.edit, keep.edit) == (0, None)
    assert forget.labels.texts[forget.labels.target] == "the sea"
    assert keep.concept == "monet"
    assert "the sea by van gogh" in keep.labels.texts
    assert "a dog asleep" in question_of(found, "the cat asleep").labels.texts


def test_other_user_prompts_have_no_labels(tiny):
    """A user's prompt without a known concept counts by its score alone."""
    rest = "evaluate: {forget: [a starry night], keep: [a bicycle on a bridge]}"
    found = questions_of(tiny, STYLE, rest)

    assert question_of(found, "a starry night").labels is None
    assert question_of(found, "a starry night").edit == 0
    assert question_of(found, "a bicycle on a bridge").labels is None


def test_everyday_prompts_are_held_out(tiny):
    """The unrelated prompts avoid edited and known concepts, and the edit never uses them."""
    recipe = load_recipe(f"loco: 1\nedits: [{OBJECT}]\n", "r.yaml")

    unrelated = [q.prompt for q in questions(tiny.spec, recipe) if q.concept == UNRELATED_PROMPTS]

    assert len(unrelated) == N_JUDGED_PROMPTS
    assert not set(unrelated) & set(drift_prompts(edited_names(recipe)))
    near = [bare_name(name) for names in tiny.spec.known_concepts["object"] for name in names]
    assert not [p for p in unrelated for name in near if f" {name} " in p]


def test_questions_are_unique(tiny):
    """A user's prompt that is already a question appears once."""
    rest = "evaluate: {keep: [a drawing of a dog in the style of monet]}"

    found = questions_of(tiny, STYLE, rest)

    assert len({q.prompt for q in found}) == len(found)


def test_edited_concepts_are_never_kept(tiny):
    """No edited concept is among the kept ones."""
    recipe = load_recipe(f"loco: 1\nedits: [{STYLE}, {OBJECT}, {FACT}]\n", "r.yaml")

    kept = _kept_concepts(tiny.spec, recipe)

    assert {kind for kind, _ in kept} == {"style", "object", "fact"}
    assert not {"van gogh", "snoopy", "the british monarch"} & {name for _, name in kept}
    assert ("fact", "king charles") in kept
