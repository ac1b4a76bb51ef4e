"""The toolbox's pictures: the same things again, never the same file; no shortcut, at any number of trials."""
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, rng
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import read_trials
from babyvlm.milestones.asking import score_trials
from babyvlm.milestones.audit import audit
from babyvlm.milestones.items import items_of
from babyvlm.milestones.leaderboard_rules import memory_scores
from babyvlm.milestones.looks import looks
from babyvlm.milestones.solvers import solve
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.new_views import Again, mirrored, seen_anew
from babyvlm.nursery.render import dot, unit
from babyvlm.nursery.scene import draw_scene
from babyvlm.nursery.stimuli import Still
from babyvlm.nursery.things import COLOURS, FIRST_NOUNS, NOUNS
from babyvlm.nursery.toolbox_pictures import SideBySide, rounds_of
from babyvlm.nursery.two_words import TOOLBOX_PICTURES
from babyvlm.nursery.words import VOCABULARY

CHANCE = dict(left_right=.5, spatial_details=1 / 3, memory=.5, labeled_s=.25, vtwt=.5, baby_winoground=1 / 6, captioning=0.)
SOME = {task: TOOLBOX_PICTURES[task] for task in CHANCE if task != "memory"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_suite(tmp_path_factory.mktemp("toolbox") / "trials", "toolbox", SOME, n=48, px=32, seed=3, workers=1)


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    return read_trials(write_suite(tmp_path_factory.mktemp("memory") / "trials", "toolbox", dict(memory=TOOLBOX_PICTURES["memory"]), n=16, px=32, seed=3, workers=1))


@pytest.fixture(scope="module")
def trials(folder):
    return read_trials(folder)


def of(trials, task):
    return [t for t in trials if t.task == task]


class Dry:
    "A studio that draws nothing: the design of a thousand trials in a second."
    def __init__(self, nouns=FIRST_NOUNS, px=128): self.seed, self.px, self.nouns, self.shot, self.trials = 5, px, tuple(nouns), [], []
    def shoot(self, orders, doing=""): self.shot += orders
    def __getitem__(self, order): return f"{self.shot.index(order)}.png", []
    def add(self, task, number, **fields): self.trials.append(SimpleNamespace(task=task, number=number, **fields))


def test_oracle_coin_and_constant(trials, dialogues):
    for task, chance in CHANCE.items():
        media = dialogues if task == "memory" else trials
        some = of(media, task)
        assert len(some) == (16 if task == "memory" else 48) and some[0].chance == pytest.approx(chance)
        oracle, constant = (np.mean([m.credit for m in score_trials(learner, some, media)]) for learner in (Oracle(media), Constant()))
        coin = np.mean([m.credit for seed in range(2) for m in score_trials(Coin(seed), some, media)])
        assert oracle == 1 and abs(coin - chance) < .12
        assert abs(constant - (.5 if task == "memory" else chance)) < .1, task


def test_the_audit_is_clean(trials, dialogues):
    for media in (trials, dialogues):
        found = audit(media)
        assert found["verdict"] == "clean", str(found)


def test_nothing_is_shown_twice(trials, dialogues):
    for t in trials:
        before = {p.path for p in t.context if p.path}
        offered = [p.path for c in t.choices for p in c.parts if p.path]
        assert not before & set(offered) and len(set(offered)) == len(offered)
    for d in dialogues:
        seen = [c.parts[0].path for t in d.turns for c in t.choices]
        assert len(seen) == len(set(seen)) == 29


def test_a_fixed_liking_for_pictures_or_phrases_is_at_chance(trials):
    for task in ("left_right", "spatial_details", "labeled_s", "vtwt"):
        some = of(trials, task)
        for seed in range(4):
            liked = lambda c, seed=seed: rng(seed, c.parts[0].path or c.statement).random()
            right = [max(t.choices, key=liked).id in t.answer for t in some]
            assert np.mean(right) == pytest.approx(CHANCE[task])


def test_comparing_pixels_is_at_chance(trials):
    seen = looks(trials)
    for task in ("left_right", "spatial_details"):
        credit, _ = solve(items_of(of(trials, task)), seen)["nearest_neighbour"]
        assert abs(credit.mean() - CHANCE[task]) < .1


def test_toys_that_are_mirrored_leave_no_pixel_where_toys_were_before():
    for k, high in enumerate((True, False)):
        toys = (("duck", "yellow", "big"), ("cup", "blue", "big"))
        before, after = ([SideBySide(toys, k, view, high == (view == 0), mirror).draw(0, 64)[0].astype(int) for mirror in (False, True)] for view in (0, 1))
        changed = [np.abs(a - b).sum(-1) > 24 for a, b in (before, after)]
        assert changed[0].mean() > .03 < changed[1].mean() and (changed[0] & changed[1]).mean() < .01


@pytest.mark.parametrize("task", [t for t in CHANCE if t not in ("memory", "captioning", "baby_winoground")])
def test_a_thousand_trials_are_counter_balanced(task):
    studio = Dry()
    SOME[task](studio, 1000)
    size = len(studio.trials[0].choices)
    assert 1000 - 2 * size < len(studio.trials) <= 1000
    places = Counter(t.answer[0] for t in studio.trials)
    assert len(places) == size and max(places.values()) - min(places.values()) <= 1
    nouns = Counter(t.group["noun"] for t in studio.trials if t.facts.get("detail") != "pattern")   # narrow toys wear no patterns
    assert set(nouns) == set(FIRST_NOUNS) and max(nouns.values()) < 2 * min(nouns.values())
    sizes = Counter(t.facts["size"] for t in studio.trials)
    assert max(sizes.values()) - min(sizes.values()) <= 4 * size
    scenes = defaultdict(set)
    for t in studio.trials: scenes[t.group["scene"]].add(t.answer[0])
    assert all(len(answers) == size for answers in scenes.values())   # each picture, or phrase, is right once


def test_details_are_a_latin_square():
    studio = Dry()
    SOME["spatial_details"](studio, 300)
    scenes = [o for o in studio.shot if len(o.toys) == 3]
    sets = defaultdict(list)
    for o in scenes: sets[o.take].append(o)
    for some in sets.values():
        assert len(some) == 3 and len({tuple(t[0] for t in o.toys) for o in some}) == 1
        for column in (1, 4): assert len({tuple(sorted(t[column] for t in o.toys)) for o in some}) == 1
        assert len({o.toys[0] for o in some}) == 3
    assert {t.facts["detail"] for t in studio.trials} == {"colour", "pattern"}
    low = Dry(px=64)
    SOME["spatial_details"](low, 48)
    assert {t.facts["detail"] for t in low.trials} == {"colour"}


def test_phrases_are_true_of_their_own_picture_only():
    for task in ("vtwt", "baby_winoground"):
        studio = Dry()
        SOME[task](studio, 400)
        assert set(Counter(t.facts["differs"] for t in studio.trials)) == {"colour", "noun", "both"}
        for t in studio.trials:
            assert t.facts["phrase"] in t.facts["toys"] and t.facts["foil"] not in t.facts["toys"]
            a, b = t.facts["phrase"].split(), t.facts["foil"].split()
            assert dict(colour=a[1] == b[1], noun=a[0] == b[0], both=a[0] != b[0] and a[1] != b[1])[t.facts["differs"]]
            assert b[0] in {phrase.split()[0] for phrase in t.facts["toys"]}   # the foil's colour is in the picture, too


def test_memory_has_the_form_of_the_published_test(dialogues):
    for d in dialogues:
        golds = [t.answer[0] for t in d.turns]
        assert [len(t.choices) for t in d.turns] == [1] + [2] * 14 and Counter(golds[1:]) == dict(A=7, B=7)
        perfect = memory_scores(golds, golds, d.facts["labels"])
        assert perfect == dict(acc_testing_adjusted=1., acc_learning=1., acc_testing_raw=1.)
        assert memory_scores(["C"] * 15, golds, d.facts["labels"])["acc_testing_raw"] == 0
        assert len({word.split()[0] for row in d.facts["labels"] for word in row}) == 1   # no colour is new
        assert all(1 <= lag <= 14 for lag in d.facts["lags"][1:])


def test_few_nouns_still_make_fifteen_toys():
    studio = Dry(nouns=NOUNS[:8])
    TOOLBOX_PICTURES["memory"](studio, 20)
    for t in studio.trials:
        assert len({word for row in t.facts["labels"] for word in row}) == 15


@pytest.mark.parametrize("seed", range(5))
def test_rounds(seed):
    rounds = rounds_of(rng(seed))
    assert [new for new, _ in rounds] == list(range(15)) and Counter(old for _, old in rounds[5:]) == {k: 2 for k in range(5)}


def test_captions_name_what_is_there(trials):
    for t in of(trials, "captioning"):
        assert t.answer == [t.facts["reference"]] and t.facts["noun"] in t.answer[0].split() and t.facts["colour"] in t.answer[0].split()


def test_words_are_heard(trials, dialogues):
    assert {w for t in trials for w in t.prompt_words} <= set(VOCABULARY)
    assert {w for t in dialogues for w in t.prompt_words} - set(VOCABULARY) == {"new"}


def test_same_seed_same_trials(trials, folder, tmp_path):
    few = {task: SOME[task] for task in ("left_right", "labeled_s")}
    once, twice = (write_suite(tmp_path / name, "toolbox", few, n=16, px=32, seed=7, workers=1) for name in "ab")
    assert (once / "trials.jsonl").read_bytes() == (twice / "trials.jsonl").read_bytes()
    assert not set(read_trials(once).card["media"]) & set(trials.card["media"])


@pytest.mark.parametrize("seed", range(6))
def test_a_new_view_keeps_the_things_and_changes_view_and_light(seed):
    scene = draw_scene(rng(seed, "view"), 1 + seed % 3)
    anew = [seen_anew(scene, rng(seed, "view", k)) for k in range(4)]
    for one in anew:
        assert one.toys == scene.toys and one.person == scene.person and one.room.wall == scene.room.wall
        assert np.linalg.norm(np.subtract(one.eye, scene.eye)) > .02
        assert dot(unit(one.room.light.direction), unit(scene.room.light.direction)) < .999
    assert len({one.eye for one in anew}) == 4


def test_again_is_drawn_once_and_always_the_same():
    order = Again(Still("one", (("cup", "red", "big"),)), 2)
    assert (order.draw(1, 32)[0] == order.draw(1, 32)[0]).all() and (order.draw(1, 32)[0] != order.draw(2, 32)[0]).any()


def test_an_empty_scene_cannot_be_seen_again():
    scene = draw_scene(rng(0), 1)
    with pytest.raises(WrongInput, match="without any"): seen_anew(SimpleNamespace(toys=(), room=scene.room), rng(0))


def test_a_mirror_twice_is_no_mirror():
    parts = draw_scene(rng(0), 2).toys[0].parts()
    assert [(p.centre, p.rotation) for p in mirrored(mirrored(parts))] == [(p.centre, p.rotation) for p in parts]
    assert len(COLOURS) == 10
