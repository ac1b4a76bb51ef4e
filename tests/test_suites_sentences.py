"""Words and sentences: only what is said tells the pictures of a set apart, and nothing hides or leaks."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, rng
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import read_trials
from babyvlm.milestones.asking import score_trials
from babyvlm.milestones.audit import audit
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.scene import still
from babyvlm.nursery.sentences import SENTENCE_TASKS, comparable, holdable
from babyvlm.nursery.shape_bias import SHAPE_TASKS, SHAPES, others
from babyvlm.nursery.things import FIRST_NOUNS, NOUNS, height, radius
from babyvlm.nursery.together import HOWS, Held, Strewn, Together, setting
from babyvlm.nursery.words import VOCABULARY
from babyvlm.nursery.who_does_what import EVENT_TASKS, FRAMES, Push
from babyvlm.nursery.words_asked import WORD_TASKS, bands

TASKS = WORD_TASKS | SENTENCE_TASKS | SHAPE_TASKS | EVENT_TASKS
PAIRS = [task for task in TASKS if task not in ("receptive_vocabulary", "who_does_what")]

DRAWN = [task for task in TASKS if task != "who_does_what"]  # a film has seven pictures: its plan is tested, and its notebook draws some


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return read_trials(write_suite(tmp_path_factory.mktemp("language") / "suite", "language", {task: TASKS[task] for task in TASKS if task != "who_does_what"}, n=48, px=32, seed=5, workers=1))


def of(trials, task): return [t for t in trials if t.task == task]
def mean(learner, some, trials): return np.mean([m.credit for m in score_trials(learner, some, trials)])


@pytest.mark.parametrize("task", DRAWN)
def test_who_knows_is_right_and_who_does_not_is_at_chance(trials, task):
    some = of(trials, task)
    assert len(some) == 48
    assert mean(Oracle(trials), some, trials) == 1
    assert mean(Constant(), some, trials) == pytest.approx(some[0].chance)
    assert abs(np.mean([mean(Coin(seed), some, trials) for seed in range(4)]) - some[0].chance) < .15


@pytest.mark.parametrize("task", DRAWN)
def test_a_liking_for_pictures_or_places_is_at_chance(trials, task):
    "Whoever does not listen is right once in a set, whatever it likes."
    some = of(trials, task)
    for seed in range(5):
        liking = {c.parts[0].path: rng(seed, c.parts[0].path).random() for t in some for c in t.choices}
        assert np.mean([max(t.choices, key=lambda c, liking=liking: liking[c.parts[0].path]).id in t.answer for t in some]) == some[0].chance
    assert set(Counter(t.answer[0] for t in some).values()) == {48 // len(some[0].choices)}


@pytest.mark.parametrize("task", PAIRS)
def test_a_pair_is_asked_twice(trials, task):
    some = of(trials, task)
    for a, b in zip(some[::2], some[1::2], strict=True):
        assert a.choices == b.choices and a.answer != b.answer and a.question != b.question
        assert a.group["scene"] == b.group["scene"] and a.context[:-1] == b.context[:-1]
    assert len({c.parts[0].path for t in some for c in t.choices}) == 48, "pairs share no picture"


@pytest.mark.parametrize("task, fact", [("adjectives", "adjective"), ("number_words", "count"), ("noun_colour_binding", "place"), ("word_order", "relation"), ("prepositions", "preposition"),
                                        ("negation", "negated"), ("relative_clause", "about"), ("comparatives", "comparative"), ("shape_bias", "frame")])
def test_no_word_stands_on_one_side(tmp_path, task, fact):
    "Asked of the plan alone: pictures are not drawn."
    plan = planned(task, 960)
    for value in {t["facts"][fact] for t in plan}:
        right = Counter(t["answer"][0] for t in plan if t["facts"][fact] == value)
        assert abs(right["0"] - right["1"]) <= .1 * right.total(), (value, right)


class Planner:
    "A `Studio` that draws nothing."
    suite, split, seed, px = "language", "test", 3, 32
    def __init__(self, nouns=FIRST_NOUNS): self.rows, self.nouns = [], tuple(nouns)
    def shoot(self, orders, doing=""): self.orders = list(orders)
    def evened(self, sets, again, noun, task, kind):
        "Every other picture in its second take."
        taken = [[again(order) if k % 2 else order for k, order in enumerate(some)] for some in sets]
        self.shoot([order for some in taken for order in some])
        assert all((noun(again(o)), kind(again(o))) == (noun(o), kind(o)) and again(o) != o for some in sets for o in some)
        return taken
    def __getitem__(self, order): return f"{hash(order)}.png", {}
    def add(self, task, number, **fields): self.rows.append(dict(fields, task=task, number=number))


def planned(task, n, nouns=FIRST_NOUNS):
    studio = Planner(nouns)
    TASKS[task](studio, n)
    return studio.rows


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("n", [16, 200, 1000])
def test_as_many_trials_as_asked_for_with_any_nouns(task, n):
    for nouns in (FIRST_NOUNS, NOUNS):
        rows = planned(task, n, nouns)
        assert len(rows) == n and [row["number"] for row in rows] == list(range(n))
        assert max(Counter(row["answer"][0] for row in rows).values()) == n // len(rows[0]["choices"])


def test_the_audit_is_clean(trials):
    report = audit(trials)
    assert report["verdict"] == "clean", str(report)


def test_same_seed_same_trials(tmp_path):
    some = {task: TASKS[task] for task in ("number_words", "shape_bias")}
    lines = [(write_suite(tmp_path / name, "language", some, n=16, px=32, seed=seed, workers=1) / "trials.jsonl").read_text() for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert lines[0] == lines[1] != lines[2]


def test_pictures_of_a_setting_differ_in_what_was_ordered_alone():
    duck, ball = ("duck", "red", "big", "plain"), ("ball", "blue", "little", "plain")
    for how in HOWS[1:]:
        a, b = (Together(things, how, "one").scene(0) for things in ((duck, ball), (ball, duck)))
        assert (a.room, a.person, a.eye, a.at, a.fov) == (b.room, b.person, b.eye, b.at, b.fov)
        looks = [{(t.noun, t.colour, t.size, t.yaw, t.trim) for t in scene.toys} for scene in (a, b)]
        assert looks[0] == looks[1] and a.toys[0].position != b.toys[1].position
    swapped = [setting(0, "two", things, "beside")[0].eye for things in ((("duck", "red", size, "plain"), ("ball", "red", less, "plain")) for size, less in (("big", "little"), ("little", "big")))]
    assert swapped[0] == swapped[1]


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ("shape_bias", "who_does_what")])
def test_everything_can_be_seen(task):
    "No toy is out of the picture, and most of each is in sight, at 64 px."
    studio = Planner()
    TASKS[task](studio, 64)
    for order in studio.orders[::5]:
        scene, extra = order.scene(studio.seed) if isinstance(order, Held) else (order.scene(studio.seed), ())
        row = still(scene, 64, truth=True, samples=1, extra=extra)[1]
        for toy in row["objects"]:
            x0, y0, x1, y1 = toy["box"]
            assert toy["visible_px"] >= (20 if isinstance(order, (Strewn, Held)) else 40), (order, toy)
            assert toy["visible_px"] > .35 * toy["amodal_px"] and (min(x0, y0) > 0 and max(x1, y1) < 64 or isinstance(order, Strewn) or getattr(order, "how", "") == "alone"), (order, toy)


def test_bands_and_pairs():
    assert [len(band) for band in bands(FIRST_NOUNS).values()] == [4, 4, 4, 4]
    for nouns in (NOUNS[:8], NOUNS[:9], NOUNS):
        ranks = [NOUNS.index(noun) for band in bands(nouns).values() for noun in band]
        assert all(a < b for a, b in pairwise(ranks)) and len(ranks) == len(nouns)
    for a, b in comparable(FIRST_NOUNS):
        for big, little in ((a, b), (b, a)): assert radius(big, "big") > 1.1 * radius(little, "little") and height(big, "big") > 1.1 * height(little, "little")
    assert all(len(set(zip(a, b))) == 3 and not any(x == y for x, y in zip(a, b)) for a in SHAPES for b in others(a))


def test_what_cannot_be_made_is_said():
    flat = [noun for noun in NOUNS if noun not in holdable(NOUNS)]
    for task, nouns in dict(adjectives=["spoon", "key"], word_order=["spoon", "banana", "ball", "cup"], relative_clause=["spoon", "tree"], prepositions=[flat[0]], comparatives=["spoon", "key", "ball"]).items():
        with pytest.raises(WrongInput, match="nouns: "): planned(task, 16, nouns)
    with pytest.raises(WrongInput, match="no way to stand"): Together((("duck", "red", "big", "plain"),), "over", "x").scene(0)
    with pytest.raises(WrongInput, match="14 toys"): Strewn((("book", "red", 14),), "x")


def test_most_words_are_heard_in_the_nursery(trials):
    heard = defaultdict(list)
    for t in trials: heard[t.task].append(np.mean([w in VOCABULARY for w in t.prompt_words]))
    for task in ("receptive_vocabulary", "adjectives", "number_words", "noun_colour_binding", "prepositions", "negation"): assert np.mean(heard[task]) == 1, task
    unheard = {w for t in trials if t.task in SENTENCE_TASKS for w in t.prompt_words if w not in VOCABULARY}
    assert unheard == {"of", "than", "bigger", "smaller"}


def test_a_push_says_who_did_it_by_time_alone():
    "Films in twos with the same toys, both sentences offered each time in the same order; neither side, direction nor first place tells the doer."
    plan = planned("who_does_what", 960)
    for a, b in zip(plan[::2], plan[1::2], strict=True):
        assert [c.statement for c in a["choices"]] == [c.statement for c in b["choices"]] and a["answer"] != b["answer"]
        assert {a["facts"]["doer"], b["facts"]["doer"]} == {a["facts"]["doer"], a["facts"]["other"]}
    for fact, value in (("ahead", "left"), ("ahead", "right"), ("turned", True), ("turned", False)):
        right = Counter(t["answer"][0] for t in plan if t["facts"][fact] == value)
        assert abs(right["0"] - right["1"]) <= .05 * right.total()
    car, duck = ("car", "red", "middle", "plain"), ("duck", "yellow", "middle", "plain")
    for a, b, ahead in ((car, duck, 1), (car, duck, -1)):
        places = [[toy.position[0] * ahead for toy in Push(a, b, ahead, k, "test").scene(0).toys] for k in range(FRAMES)]
        moved = np.diff(places, axis=0)
        assert (moved >= -1e-9).all() and moved[0, 0] > 0 and abs(moved[0, 1]) < 1e-9 and moved[-1, 1] > 0 and abs(moved[-1, 0]) < 1e-9
        row = [still(Push(a, b, ahead, k, "test").scene(0), 64, truth=True, samples=1)[1] for k in (0, FRAMES - 1)]
        assert all(toy["visible_px"] > 40 and min(toy["box"]) > 0 and max(toy["box"]) < 64 for r in row for toy in r["objects"])
