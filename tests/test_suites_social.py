"""The suite social: whoever ignores her is at chance exactly; films are equal until the reveal; everything is balanced."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import Trials, read_trials
from babyvlm.milestones.asking import score_trials
from babyvlm.milestones.audit import audit
from babyvlm.milestones.baselines import PixelChange
from babyvlm.milestones.surprise import quadruplets
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.faces import head_parts
from babyvlm.nursery.intentions import INTENTIONS, STEPS
from babyvlm.nursery.people import caregiver, draw_person
from babyvlm.nursery.purposes import PURPOSES, Climbing, Reaching, _frame
from babyvlm.nursery.scene import still
from babyvlm.nursery.social import CUES, SOCIAL, Attending, guess, nearness, salience

TASKS = {**SOCIAL, **INTENTIONS, **PURPOSES}
FILMS = dict(goal_attribution=Reaching, helper_hinderer=Climbing)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    "48 trials of each task about pictures, 24 films of each task about films."
    out = tmp_path_factory.mktemp("social")
    kinds = dict(stills={k: v for k, v in TASKS.items() if k not in FILMS}, films={k: TASKS[k] for k in FILMS})
    return {name: read_trials(write_suite(out/name, "social", some, n=24 if name == "films" else 48, px=32, seed=5, workers=1)) for name, some in kinds.items()}


def of(trials, task):
    "The trials of one task, as a folder of their own."
    whole = trials["films" if task in FILMS else "stills"]
    return Trials(whole.path, [t for t in whole if t.task == task], whole.card)


def answer(trial):
    return int((trial.turns[0] if trial.form == "turns" else trial).answer[0])


def credit(trial, scores):
    return 0.5 if scores[0] == scores[1] else float(np.argmax(scores) == answer(trial))


def test_every_task_has_its_trials(trials):
    forms = dict(gaze_following="choose_text", pointing="choose_text", joint_attention="turns", expression_in_context="choose_text", intentions="sequence",
                 goal_attribution="surprise", helper_hinderer="surprise")
    for task in TASKS: assert len(of(trials, task)) == (24 if task in FILMS else 48) and {t.form for t in of(trials, task)} == {forms[task]}


@pytest.mark.parametrize("task", [name for name in TASKS if name not in FILMS])
def test_answers_are_even_in_every_scene(trials, task):
    scenes = defaultdict(list)
    for t in of(trials, task): scenes[t.group["scene"]].append(answer(t))
    assert all(np.mean(found) == 0.5 for found in scenes.values())


@pytest.mark.parametrize("task", list(SOCIAL))
@pytest.mark.parametrize("rule", [salience, nearness])
def test_whoever_ignores_her_is_at_chance(trials, task, rule):
    assert np.mean([credit(t, guess(t, of(trials, task).image, rule)) for t in of(trials, task)]) == 0.5


@pytest.mark.parametrize("task", ["gaze_following", "pointing", "expression_in_context"])
def test_sides_cues_and_sizes_are_even(trials, task):
    some = of(trials, task)
    assert Counter(t.facts["side"] for t in some) == dict(left=24, right=24)
    assert set(Counter((t.facts.get("cue") or t.facts["expression"] == "happy", t.facts["side"]) for t in some).values()) == {48 // 2 // len(CUES.get(task, "ab"))}
    assert Counter(t.facts["size"] for t in some) == dict(little=24, middle=24)
    assert all(t.facts["noun"] != t.facts["other"] and len(set(t.facts["colours"])) == 2 for t in some)
    spoken = [c.statement for t in some for c in t.choices]
    assert all(t.facts["noun"] in t.choices[answer(t)].statement.split() for t in some) and len(set(spoken)) > 16


@pytest.mark.parametrize("task", ["gaze_following", "pointing"])
def test_only_she_differs_between_the_trials_of_a_scene(trials, task):
    some = of(trials, task)
    for a, b in zip(list(some)[0::2], list(some)[1::2]):
        assert [c.statement for c in a.choices] == [c.statement for c in b.choices] and a.answer != b.answer and a.facts["boxes"] == b.facts["boxes"]
        one, two = some.image(a.pictures[0]), some.image(b.pictures[0])
        assert (one != two).any() and (one != two).any(2).mean() < 0.5


def test_a_glance_moves_the_eyes_alone():
    toys = (("duck", "yellow", "little"), ("cup", "blue", "little"))
    both, eyes, none = (Attending(toys, eyes=e, head=h).draw(1, 128)[0] for e, h in ((0, 0), (0, None), (None, None)))
    assert 0 < (eyes != none).any(2).sum() < (both != none).any(2).sum()


def test_a_head_turned_to_what_is_looked_at_is_the_head_of_old():
    person, goal = draw_person(np.random.default_rng(0)), (-0.4, 0.3, 0.3)
    assert caregiver(person, goal) == caregiver(person, goal, turned=goal)
    assert head_parts(person, (0.0, 0.0, 0.0), goal) == head_parts(person, (0.0, 0.0, 0.0), goal, turned=goal)
    assert caregiver(person, goal) != caregiver(person, goal, turned=(0.4, 0.3, 0.3))


def test_a_new_word_is_said_once_for_each_thing(trials):
    for t in of(trials, "joint_attention"):
        first, second = t.facts["words"]
        told = [p.text for p in t.turns[0].context if p.type == "text"]
        assert told == [f"look at the {first}", f"look at the {second}"] and first != second
        right = first if t.facts["tested"] == t.facts["first"] else second
        assert t.turns[0].choices[answer(t)].statement == f"this is a {right}"


def test_a_way_back_is_the_way_in_the_other_order(trials):
    some = of(trials, "intentions")
    assert Counter(t.facts["act"] for t in some) == dict.fromkeys(("give", "take", "show", "hide"), 12)
    for a, b in zip(list(some)[0::2], list(some)[1::2]):
        assert a.pictures == b.pictures[::-1] and len(set(a.pictures)) == STEPS and a.answer != b.answer


@pytest.mark.parametrize("task", list(FILMS))
def test_films_are_equal_until_the_reveal_and_from_the_turn_on(trials, task):
    turn, reveal = FILMS[task].turn, FILMS[task].reveal
    quads = quadruplets(of(trials, task))
    assert len(quads) == 6
    for members in quads.values():
        films = {(t.facts["hidden"], t.facts["revealed"]): of(trials, task).clip(t.context[0].path).frames for t in members}
        assert len(films) == 4 and {t.reveal_frame for t in members} == {reveal} and {len(f) for f in films.values()} == {FILMS[task].length}
        for begun in (True, False):
            a, b = films[begun, True], films[begun, False]
            assert (a[:reveal] == b[:reveal]).all() and (a[reveal] != b[reveal]).any()
        for ended in (True, False):
            a, b = films[True, ended], films[False, ended]
            assert (a[turn:] == b[turn:]).all() and (a[:turn] != b[:turn]).any()
        between = [f[reveal - 8:reveal] for f in films.values()]  # longer than a predictor of short horizon looks back
        assert all((f == between[0]).all() for f in between)
        assert {t.facts["violation"] for t in members if t.facts["hidden"] == t.facts["revealed"]} == {False}


def test_places_and_order_in_films_are_even(trials):
    assert Counter(t.facts["first_side"] for t in of(trials, "goal_attribution")) == dict(left=12, right=12)
    some = of(trials, "helper_hinderer")
    for key in ("first_side", "hill", "first"): assert set(Counter(t.facts[key] for t in some).values()) == {12}


@pytest.mark.parametrize("task", list(TASKS))
def test_oracle_constant_and_pixel_change(trials, task):
    some = of(trials, task)
    mean = lambda learner: float(np.mean([m.credit for m in score_trials(learner, some, some)]))
    assert mean(Oracle(some)) == 1 and mean(Constant()) == 0.5 and 0.2 <= mean(Coin(0)) <= 0.8
    if task in FILMS: assert mean(PixelChange()) == 0.5


@pytest.mark.parametrize("kind", ["stills", "films"])
def test_the_audit_finds_nothing(trials, kind):
    report = audit(trials[kind])
    assert report["verdict"] == "clean", str(report)


def test_same_seed_same_trials(tmp_path):
    some = dict(joint_attention=TASKS["joint_attention"])
    one, two, other = (write_suite(tmp_path/name, "social", some, n=16, px=32, seed=seed, workers=1) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    for name in ("trials.jsonl", "trials.json"):
        assert (one/name).read_bytes() == (two/name).read_bytes() != (other/name).read_bytes()


@pytest.mark.parametrize("made", [Reaching, Climbing])
def test_a_film_is_the_same_whenever_it_is_drawn(made):
    toys = (("ball", "red", "little"), ("cup", "blue", "little"), ("block", "yellow", "little"))[:2 if made is Reaching else 3]
    first = made(toys, hidden=True).draw(3, 32)[0]
    _frame.cache_clear()
    made(toys, revealed=True).draw(3, 32)
    assert (made(toys, hidden=True).draw(3, 32)[0] == first).all() and (made(toys, hidden=True).draw(4, 32)[0] != first).any()


@pytest.mark.parametrize("take", range(4))
def test_places_are_where_things_are(take):
    order = Attending((("duck", "yellow", "little"), ("bottle", "blue", "middle")), take=take)
    scene, (known, row) = order.scene(2), (order.draw(2, 32)[1], still(order.scene(2), 64, truth=True)[1])
    for box, toy in zip(known["boxes"], row["objects"]):
        mine, seen = np.array(box) * 64, np.array(toy["box"])
        shared = np.clip(np.minimum(mine, seen)[2:] - np.maximum(mine, seen)[:2], 0, None).prod()
        assert shared > 0.5 * (seen[2:] - seen[:2]).prod() and shared > 0.4 * (mine[2:] - mine[:2]).prod()
    left, top, right, bottom = row["people"]["caregiver_face"]["box"]
    assert left < 64 * known["head"][0] < right and top < 64 * known["head"][1] < bottom
    assert scene.toys[0].position[0] < scene.person.x < scene.toys[1].position[0]
