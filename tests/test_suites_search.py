"""Search, leaving, tracking, behind a screen: even dials, closed covers that tell nothing, rules at chance, the same again."""
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import read_trials
from babyvlm.milestones.asking import score_trials
from babyvlm.milestones.audit import audit
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.behind import BEHIND, scene_of
from babyvlm.nursery.hiding import COVERS, Stage, setting
from babyvlm.nursery.leaving import LEAVING
from babyvlm.nursery.search import DELAYED, DELAYS, SEARCH
from babyvlm.nursery.things import NOUNS
from babyvlm.nursery.tracking import TRACKING
from babyvlm.nursery.words import SIDES, VOCABULARY

TASKS = {**SEARCH, **DELAYED, **LEAVING, **TRACKING, **BEHIND}
N = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_suite(tmp_path_factory.mktemp("search") / "trials", "permanence", TASKS, n=N, px=32, seed=5, workers=1)


@pytest.fixture(scope="module")
def trials(folder):
    return read_trials(folder)


def of(trials, task):
    return [t for t in trials if t.task == task]


def test_every_answer_is_right_equally_often_for_every_dial(trials):
    for task in TASKS:
        some = of(trials, task)
        sides = Counter(t.answer[0] for t in some)
        assert len(some) == N and set(sides.values()) == {N // len(some[0].choices)} and some[0].chance == 1 / len(some[0].choices)
        for dial in ("delay_s", "repeats", "swaps", "detour", "occlusion_s", "frames", "cover", "colour")[:6 if task in ("delayed_response_hidden", *TRACKING, *BEHIND) else 8]:
            table = defaultdict(Counter)
            for t in some: table[str(t.facts.get(dial))][t.answer[0]] += 1
            assert all(set(c.values()) == {sum(c.values()) // len(some[0].choices)} for c in table.values()), (task, dial)
    assert set(Counter(t.facts["delay_s"] for t in of(trials, "delayed_search")).values()) == {N // len(DELAYS)}


def test_oracle_coin_constant_and_audit(trials):
    for task in TASKS:
        some = trials[[t.task for t in trials].index(task):][:N]
        score = lambda learner, some=some: np.mean([m.credit for m in score_trials(learner, some, trials)])
        chance = some[0].chance
        assert {t.task for t in some} == {task} and score(Oracle(some)) == 1 and score(Constant()) == pytest.approx(chance)
        assert abs(np.mean([score(Coin(seed)) for seed in range(4)]) - chance) < .15
    report = audit(trials)
    assert report["verdict"] == "clean", str(report)


def test_all_words_have_been_heard(trials):
    assert all(set(t.prompt_words) <= set(VOCABULARY) for t in trials)


def test_films_of_a_scene_end_in_the_same_files(trials):
    for task, last in dict(delayed_search=1, a_not_b=1, delayed_response_hidden=1, delayed_response=1, delayed_response_open=1, tracking=1, permanence_answer=1, permanence_choice=1).items():
        scenes = defaultdict(list)
        for t in of(trials, task): scenes[t.group["scene"]].append(t)
        for told in scenes.values():
            ends = {tuple(t.pictures[-last - round(t.facts.get("delay_s", 0) / 2):]) for t in told}
            assert len(told) > 1 and len(ends) == 1 and len({t.pictures[0] for t in told}) == 1, task
            assert len({tuple(t.pictures) for t in told}) == (2 if task == "tracking" else len(told))


@pytest.mark.parametrize("seed", range(3))
def test_no_closed_cover_gives_the_toy_away(seed):
    "Toys rendered where they hide change nothing, whatever the noun."
    noun = NOUNS[(7 * seed) % len(NOUNS)]
    for cover in COVERS:
        made = setting(Stage((cover,) * 2, (noun,)), seed, 48)
        empty = made.things((None,), 1.)
        hidden = [p for k in (0, 1) for p in replace(made.toys[0], position=made.inside(k)).parts()]
        assert abs(made.photo(empty + hidden, 48).astype(int) - made.photo(empty, 48)).max() <= 2, (cover, noun)
    behind = scene_of((noun, NOUNS[seed]), 0, seed, 48)
    assert abs(behind.photo(("hidden", "hidden"), 48).astype(int) - behind.photo((None, None), 48)).max() <= 2


def test_a_cover_that_is_too_small_would_be_noticed():
    "The check sees a toy beside its screen."
    made = setting(Stage(("screen", "screen"), ("duck",)), 0, 48)
    made.inside = lambda k: (0., made.place(0)[1] + .1, made.room.surface)
    assert made.leaks(48)


def test_simple_rules_are_at_chance(trials):
    a = of(trials, "a_not_b")
    assert np.mean([t.facts["first"] == t.facts["side"] for t in a]) == .5 == np.mean([t.facts["switch"] for t in a])
    tracked = of(trials, "tracking")
    assert np.mean([t.facts["went"] == t.facts["side"] for t in tracked]) == .5
    assert np.mean([(t.facts["went"] == t.facts["side"]) != t.facts["hid_first"] for t in tracked]) == .5
    left = of(trials, "delayed_response")
    assert np.mean([t.facts["detour"] == t.facts["leaves"] for t in left]) == .5
    for task in BEHIND:
        some = of(trials, task)
        assert np.mean([t.facts["came_first"] for t in some]) == .5 and Counter(t.facts["from_side"] for t in some) == dict.fromkeys(SIDES, N // 2)


def test_nothing_is_both_shown_and_offered(trials):
    for t in of(trials, "permanence_choice"):
        assert not {p.path for c in t.choices for p in c.parts} & set(t.pictures)


def test_same_seed_same_bytes_alone_or_in_company_whatever_the_number_of_processes(folder, tmp_path):
    again = write_suite(tmp_path / "again", "permanence", TASKS, n=N, px=32, seed=5, workers=1, only=["permanence_films"])
    assert (again / "trials.jsonl").read_text().splitlines() == [line for line in (folder / "trials.jsonl").read_text().splitlines() if '"permanence_films"' in line]
    few = [write_suite(tmp_path / f"w{w}", "toolbox", LEAVING, n=65, px=32, seed=5, workers=w, only=["delayed_response_open"]) for w in (1, 2)]
    assert (few[0] / "trials.json").read_bytes() == (few[1] / "trials.json").read_bytes() and (few[0] / "trials.jsonl").read_bytes() == (few[1] / "trials.jsonl").read_bytes()


def test_strange_stages_are_named():
    with pytest.raises(WrongInput, match="bucket"): Stage(("bucket",), ("duck",))
    with pytest.raises(WrongInput, match="3 covers"): Stage(("box",) * 3, ("duck",))
