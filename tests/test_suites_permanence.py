"""Films in fours: equal until the reveal, equal after it, balanced, and solved by nothing cheap."""
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import read_trials
from babyvlm.milestones.audit import audit
from babyvlm.milestones.baselines import PixelChange
from babyvlm.milestones.surprise import is_impossible, quadruplets, score_quadruplets
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.fours import SEEN, Member, Plan, Stage, differ, filmed
from babyvlm.nursery.passing import PASSING, Continuity, Solidity, Speed
from babyvlm.nursery.permanence import PERMANENCE, Number, Swap, Teleport, Vanish, unlike

TASKS = PERMANENCE | PASSING


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return read_trials(write_suite(tmp_path_factory.mktemp("permanence")/"all", "permanence", TASKS, n=24, px=32, seed=5, workers=1))


@pytest.fixture(scope="module")
def clips(trials):
    return {t.context[0].path: trials.clip(t.context[0].path) for t in trials}


@pytest.fixture(scope="module")
def films(trials, clips):
    return {t.trial_id: clips[t.context[0].path].frames for t in trials}


def fours(trials, films):
    "`(trials of a quadruplet, its films by (hidden, revealed))`."
    for four in quadruplets(trials).values():
        yield four, {(t.facts["hidden"], t.facts["revealed"]): films[t.trial_id] for t in four}


def test_four_films_two_of_them_impossible(trials, films):
    assert Counter(t.task for t in trials) == {task: 24 for task in TASKS}
    for four, by in fours(trials, films):
        assert len(by) == 4 and sum(map(is_impossible, four)) == 2 and len({len(f) for f in by.values()}) == 1
        assert len({t.context[0].path for t in four}) == 4 and len({t.reveal_frame for t in four}) == 1


def test_members_are_equal_until_the_reveal_and_what_follows_is_equal(trials, films):
    "Every pixel, noise and shadows included; hidden things leave no trace for as long as the facts say."
    for four, by in fours(trials, films):
        reveal, shared = four[0].reveal_frame, round(four[0].facts["occlusion_s"] * 5)
        assert 0 < reveal < len(by[True, True]) - 2 and shared >= 6
        for a in (True, False):
            assert (by[a, True][:reveal] == by[a, False][:reveal]).all() and (by[a, True][reveal] != by[a, False][reveal]).any()
            assert (by[True, a][reveal - shared:] == by[False, a][reveal - shared:]).all()
        assert any((by[True, True][k] != by[False, True][k]).any() for k in range(reveal - shared))


def test_the_noise_is_new_in_every_frame_and_shared_by_the_four(trials, films):
    for four, by in fours(trials, films):
        film, reveal = by[True, True], four[0].reveal_frame
        still = film[reveal - 3:reveal - 1].astype(int)
        assert .5 < np.abs(still[0] - still[1]).mean() < 20


def test_controls(trials, clips):
    oracle = Oracle(trials)
    for task in TASKS:
        some = [t for t in trials if t.task == task]
        assert {m.credit for m in score_quadruplets(oracle, some, clips.get)} == {1.}
        for learner in (Coin(0), Constant(), PixelChange()): assert {m.credit for m in score_quadruplets(learner, some, clips.get)} == {.5}, (task, learner)


class Ahead:
    "Expects the frame of some time ago again."
    def __init__(self, frames): self.frames = frames
    def surprise(self, clips):
        return [np.concatenate([np.zeros(self.frames), np.abs(c.frames[self.frames:].astype(np.float32) - c.frames[:-self.frames]).mean((1, 2, 3))]) for c in clips]


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_to_expect_no_change_is_a_tie_as_far_ahead_as_the_shortest_occlusion(trials, clips, frames):
    assert {m.credit for m in score_quadruplets(Ahead(frames), trials, clips.get)} == {.5}


def test_dials_are_balanced(trials):
    for task in TASKS:
        some = [t.facts for t in trials if t.task == task]
        for dial in ("side", "occlusion_s"): assert len(set(Counter(f[dial] for f in some).values())) == 1, (task, dial)
        assert Counter((f["hidden"], f["revealed"]) for f in some) == {(a, b): 6 for a in (True, False) for b in (True, False)}
        nouns, colours = (Counter(f[what] for f in some) for what in ("noun", "colour"))
        assert max(nouns.values()) - min(nouns.values()) <= 4 and set(colours.values()) == {4}
        assert all({"if_hidden", "if_not_hidden", "if_revealed", "if_not_revealed"} <= set(f) for f in some)


def test_swapped_toys_differ_in_one_thing(trials):
    some = [t for t in trials if t.task == "permanence_swap"]
    assert Counter(t.foil_factor for t in some) == dict(noun=12, colour=12)
    for t in some:
        f = t.facts
        assert (f["noun"] != f["other_noun"], f["colour"] != f["other_colour"]) == (t.foil_factor == "noun", t.foil_factor == "colour")
        assert f["colour"] == f["other_colour"] or f["other_colour"] in unlike(f["colour"])


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("noun", ["block", "car"])
def test_the_dial_says_which_toy_is_seen_last(last, noun):
    order = Swap(0, ((noun, "red"), (noun, "blue")), 1, 6, last=last)
    stage = Stage(0, ("stimuli", "test"), 32, order.far)
    shut = stage.clean(stage.screen())
    seen = [[k for k, things in enumerate(order.plan(stage).beginnings[True]) if differ(stage.clean([p for p in things if p.owner == "screen" or p.owner == noun and (p.centre[0] > 0) == (side > 0)]), shut)] for side in (1, -1)]
    assert (max(seen[0]) > max(seen[1])) == last and min(map(len, seen)) >= 4      # the hidden one comes from the right


def test_the_audit_is_clean(trials):
    report = audit(trials)
    assert report["verdict"] == "clean", str(report)


def test_same_seed_same_films(trials, tmp_path):
    again = read_trials(write_suite(tmp_path/"again", "permanence", TASKS, n=24, px=32, seed=5, workers=1, only=["permanence_number"]))
    assert list(again) == [t for t in trials if t.task == "permanence_number"]
    assert set(again.card["media"].items()) <= set(trials.card["media"].items())


def test_a_film_alone_is_the_one_of_the_four_and_another_seed_makes_another():
    order = Swap(0, (("cup", "red"), ("cup", "blue")), 1, 6, hidden=True, revealed=False)
    begins, ends, known = replace(order, hidden=False).quadruplet(3, 32)
    film = order.draw(3, 32)[0]
    assert (film == np.concatenate([begins[True], ends[False]])).all() and known["reveal"] >= len(begins[True])
    assert (film != order.draw(4, 32)[0]).any((1, 2, 3)).all()


@pytest.mark.parametrize("order", [Vanish(0, (("teddy", "blue"),), -1, 6), Swap(0, (("cup", "red"), ("hat", "red")), 1, 6), Number(1, (("ball", "pink"),), 1, 6), Teleport(2, (("cup", "white"),), -1, 6),
                                   Solidity(0, (("car", "red"),), 1, 6), Continuity(0, (("ball", "green"),), -1, 6), Speed(0, (("duck", "yellow"),), 1, 6)], ids=lambda order: type(order).__name__)
def test_what_is_hidden_shows_nothing_but_rounding(order):
    "Drawn with what is hidden and without it, the stage differs less than the noise of the sensor."
    take = order.quadruplet(1, 64)[2]["take"]
    stage = Stage(1, ("stimuli", replace(order, hidden=True, revealed=True), take), 64, order.far)
    plan = order.plan(stage)
    shut = stage.clean(plan.shut).astype(int)
    assert plan.unseen and all(np.abs(stage.clean(things) - shut).max() <= SEEN for things in plan.unseen)


def test_a_toy_that_shows_makes_no_film():
    stage = Stage(0, ("stimuli", "test"), 32, .63)
    board, duck = stage.screen(), stage.toy(("duck", "yellow"), "big", .3)
    halves = ({True: [duck, board], False: [board, board]}, {True: [duck], False: [stage.screen(fold=1.)]})
    assert filmed(Plan(*halves, board, [duck + board]), stage) is None and filmed(Plan(*halves, board, []), stage) is not None
    assert filmed(Plan(halves[0], {True: [board], False: [board]}, board, []), stage) is None      # nothing is revealed
    with pytest.raises(NotImplementedError, match="Member needs a plan"): Member(0, (("duck", "red"),), 1, 6).plan(stage)


def test_nouns_that_do_not_fit_are_named(tmp_path):
    flat = ("spoon", "book", "chair", "boat", "teddy", "bottle", "duck", "doll")
    with pytest.raises(WrongInput, match="fewer than two of spoon, book"):
        write_suite(tmp_path/"flat", "permanence", dict(permanence_vanish=TASKS["permanence_vanish"]), n=16, px=32, nouns=flat)
