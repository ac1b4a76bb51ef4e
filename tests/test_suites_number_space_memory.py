"""Number, space, memory: balanced, controlled, learnable by looking alone, and clean under the audit."""
from collections import Counter, defaultdict

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, rng
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import read_trials
from babyvlm.milestones.asking import score_trials
from babyvlm.milestones.audit import audit
from babyvlm.milestones.baselines import SameColours
from babyvlm.milestones.looks import thumbnail
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.memory import DELAYS_S, LAGS, MEMORY
from babyvlm.nursery.number import COUNTS, MANY, MATCHED, NUMBER, RATIOS, TOTAL, WAYS, one_set, so_many, two_sets
from babyvlm.nursery.quantities import Group, compact, mean_gap, outline, scattered, string_around
from babyvlm.nursery.space import RELATIONS
from babyvlm.nursery.things import FIRST_NOUNS, NOUNS
from babyvlm.nursery.turning import ANGLES, SPACE, building, lopsided, mirrored, turned

SUITES = dict(number=NUMBER, space=SPACE, memory=MEMORY)
TASKS = [task for tasks in SUITES.values() for task in tasks]
N = 48


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    out = tmp_path_factory.mktemp("suites")
    return {name: read_trials(write_suite(out/name, name, tasks, n=N, px=32, seed=2, workers=1)) for name, tasks in SUITES.items()}


@pytest.fixture(scope="module")
def of(folders):
    return {task: ([t for t in trials if t.task == task], trials) for name, trials in folders.items() for task in SUITES[name]}


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_is_right_equally_often(of, task):
    trials, _ = of[task]
    right, options = Counter(t.answer[0] for t in trials), len(trials[0].choices)
    assert len(trials) == N and len(right) == options and max(right.values()) - min(right.values()) <= 1
    assert all(t.chance == 1 / options for t in trials)


@pytest.mark.parametrize("task", TASKS)
def test_oracle_is_right_and_coin_and_constant_are_not(of, task):
    trials, media = of[task]
    mean = lambda learner: np.mean([m.credit for m in score_trials(learner, trials, media)])
    assert mean(Oracle(media)) == 1
    assert mean(Constant()) == pytest.approx(trials[0].chance)
    assert abs(mean(Coin(1)) - trials[0].chance) < .22


@pytest.mark.parametrize("task", [t for t in TASKS if t not in ("subitizing", "counting", "approximate_number")])
def test_a_fixed_liking_for_pictures_is_at_chance(of, task):
    "Every picture that is offered is right as often as the others of its set."
    trials, _ = of[task]
    for seed in range(4):
        best = [max(t.choices, key=lambda c: rng(seed, c.parts[0].path).random()).id in t.answer for t in trials]
        assert np.mean(best) == pytest.approx(trials[0].chance)


@pytest.mark.parametrize("name", SUITES)
def test_the_audit_finds_nothing(folders, name):
    found = audit(folders[name])
    assert found["verdict"] == "clean", str(found)


@pytest.mark.parametrize("task", ["mental_rotation", "delayed_match", "serial_recognition"])
def test_no_picture_is_shown_and_offered_and_colours_do_not_help(of, task):
    trials, media = of[task]
    for t in trials:
        assert not {p.path for p in t.context if p.path} & {p.path for c in t.choices for p in c.parts}
    shown = lambda t: [media.image(p.path) for p in t.context if p.path][0]
    like = SameColours()
    right = [np.argmax(like.embed_images([media.image(c.parts[0].path) for c in t.choices]) @ like.embed_images([shown(t)])[0]) == int(t.answer[0]) for t in trials]
    assert abs(np.mean(right) - trials[0].chance) < .2
    far = lambda c, t: ((thumbnail(media.image(c.parts[0].path)) - thumbnail(shown(t))) ** 2).sum()
    for sign in (1, -1):                                             # the picture that looks most like it, or least
        assert np.mean([min(t.choices, key=lambda c: sign * far(c, t)).id in t.answer for t in trials]) < trials[0].chance + .2


@pytest.mark.parametrize("task", ["approximate_number", "who_has_more_synthetic"])
def test_no_single_quantity_tells_which_is_more(of, task):
    trials, media = of[task]
    rules = dict(item=lambda g: g["item_area"], area=lambda g: g["area"], hull=lambda g: g["hull"], gap=lambda g: g["gap"])
    assert set(Counter((t.facts["size"], t.facts["spread"]) for t in trials).values()) == {N // 4}
    for name, rule in rules.items():
        assert abs(np.mean([rule(t.facts["larger"]) > rule(t.facts["smaller"]) for t in trials]) - .5) <= .1, name
    for t in trials:
        assert t.facts["larger"]["count"] > t.facts["smaller"]["count"]
        assert (t.facts["larger"]["area"] > t.facts["smaller"]["area"]) == (t.facts["larger"]["item_area"] > t.facts["smaller"]["item_area"]) == (t.facts["size"] == "with")


def test_what_is_matched_is_the_same_for_all_numbers(of):
    for task in ("subitizing", "counting"):
        trials, _ = of[task]
        assert set(Counter(t.facts["matched"] for t in trials).values()) == {N // 3}
        value = dict(area="area", hull="hull", density="gap")
        for matched in MATCHED:
            some = [t.facts[value[matched]] for t in trials if t.facts["matched"] == matched and t.facts["count"] > 1]
            assert max(some) - min(some) <= .02 * max(some)
    for t in of["counting"][0]:
        assert t.choices[t.facts["count"] - 2].statement == so_many(t.facts["count"], t.facts["noun"]) and t.answer == [str(t.facts["count"] - 2)]
    assert so_many(1, "teddy") == "one teddy" and so_many(9, "brush") == "nine brushes" and len(COUNTS) == 9


def test_sets_find_room_whatever_their_dials():
    nouns = compact(NOUNS)
    for seed in range(2):
        for pairs in (RATIOS, MANY):
            for counts in (c for some in pairs.values() for c in some):
                for size in WAYS:
                    for spread in WAYS:
                        things = [(str(w), "red") for w in rng(seed, counts, size, spread).choice(nouns, 2)]
                        groups = two_sets(*counts, things, size, spread)
                        for g, points in zip(groups, scattered(rng(seed, "room"), groups)):
                            assert len(points) == g.count
                            if g.string: assert string_around(points) == pytest.approx(g.string)
                            if g.gap: assert mean_gap(points) == pytest.approx(g.gap)


@pytest.mark.parametrize("noun", compact())
def test_one_set_finds_room_for_every_noun(noun):
    for matched in MATCHED:
        for count in range(1, 10):
            group = one_set(noun, "red", count, matched, rng(0, noun, count, matched))
            (points,) = scattered(rng(1, noun, count), (group,))
            assert len(points) == count
            if matched == "area": assert group.area * count == pytest.approx(TOTAL, abs=5e-5)


def test_measures_grow_with_scale_alone():
    points = rng(0, "points").normal(size=(12, 2))
    for measure in (string_around, mean_gap):
        assert measure(3 * points + 7) == pytest.approx(3 * measure(points)) and measure(points[:1]) == 0
    assert string_around(points[:2]) == pytest.approx(2 * np.hypot(*(points[0] - points[1])))
    assert outline("ball")[0] == pytest.approx(np.pi * .065 ** 2, rel=.05)
    with pytest.raises(WrongInput, match="do not find room"): scattered(rng(0), (Group("ball", "red", 9, .09),))


def test_relations_and_angles_are_even(of):
    assert Counter(t.facts["relation"] for t in of["spatial_relations"][0])["on"] == N // 4
    assert {t.facts["relation"] for t in of["spatial_relations"][0]} == {r for some in RELATIONS.values() for r in some}
    for t in of["spatial_relations"][0]:
        assert t.question == f"the {t.facts['noun']} is {t.facts['relation']} the {t.facts['thing']}" and len(set(t.facts["foils"]) | {t.facts["relation"]}) == 4
    assert set(Counter(t.facts["angle"] for t in of["mental_rotation"][0]).values()) == {N // 4} and {t.facts["angle"] for t in of["mental_rotation"][0]} == set(ANGLES)


def test_buildings_are_not_their_own_mirror_image():
    for k in range(100):
        cells = building(rng(k, "blocks"))
        assert lopsided(cells) and lopsided(mirrored(cells)) and turned(turned(cells, 1), 3) == cells and mirrored(mirrored(cells)) == cells


def test_delays_lags_and_lists(of):
    trials, _ = of["delayed_match"]
    assert {(t.facts["delay_s"], t.facts["lag"]) for t in trials} == {(d, lag) for d in DELAYS_S for lag in LAGS}
    for t in trials:
        frames = [p for p in t.context if p.path]
        assert len(frames) == 2 + t.facts["delay_s"] / 2 + t.facts["lag"] and [p.onset_s for p in frames] == [2. * k for k in range(len(frames))]
    by_pair = defaultdict(set)
    for t in of["serial_recognition"][0]:
        assert len([p for p in t.context if p.path]) == t.facts["length"] == t.facts["position"] + t.facts["lag"]
        by_pair[t.group["scene"]].add((t.facts["noun"], t.facts["foil"]))
    assert all({pair[::-1] for pair in pairs} == pairs for pairs in by_pair.values())      # each is the old one once
    assert set(Counter(t.facts["length"] for t in of["serial_recognition"][0]).values()) == {N // 2}


def test_same_seed_same_trials_other_seed_other_trials(tmp_path):
    some = ("approximate_number", "spatial_relations", "mental_rotation", "serial_recognition")
    tasks = {task: function for suite in SUITES.values() for task, function in suite.items() if task in some}
    first, again, other = (write_suite(tmp_path/label, "all", tasks, n=16, px=32, seed=seed, workers=1, nouns=FIRST_NOUNS[:8]) for label, seed in (("a", 5), ("b", 5), ("c", 6)))
    for file in ("trials.jsonl", "trials.json"): assert (first/file).read_bytes() == (again/file).read_bytes()
    assert not set(read_trials(first).card["media"]) & set(read_trials(other).card["media"])
