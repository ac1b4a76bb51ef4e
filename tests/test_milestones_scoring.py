"""Fairness of the scoring, on trials that never touch a disk."""

import numpy as np
import pytest

from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.records import Clip
from babyvlm.core.statistics import interval
from babyvlm.core.trials import Choice, Part, Trial
from babyvlm.milestones.baselines import PixelChange, blinds, shuffled_films, with_grey
from babyvlm.milestones.scoring import cells, mark, way_to_ask
from babyvlm.milestones.store import score_table
from babyvlm.milestones.surprise import score_quadruplets

RANDOM = np.random.default_rng(7)
PICTURES = {f"p{k}": RANDOM.integers(0, 255, (6, 6, 3), dtype=np.uint8) for k in range(80)}


class Shelf(list):
    "Trials with media in memory."

    films = {}

    def image(self, path):
        return PICTURES[path]

    def clip(self, path):
        return self.films[path]


def choosing(form, n, seed=0, choices=4):
    "Trials in which every question is new, and the right place is random."
    random, trials = np.random.default_rng(seed), Shelf()
    for i in range(n):
        right, offered = int(random.integers(choices)), random.choice(80, choices, replace=False)
        shared = dict(trial_id=f"t{i}", suite="s", task=form, form=form, answer=[str(right)], chance=1 / choices, group=dict(scene=f"s{i}"))
        if form == "choose_image":
            shown = [Choice(str(k), [Part("image", path=f"p{p}")]) for k, p in enumerate(offered)]
            trials.append(Trial(context=[Part("text", f"where is thing {i}")], choices=shown, **shared))
        else:
            said = [Choice(str(k), statement=f"this is {i} {p}") for k, p in enumerate(offered)]
            trials.append(Trial(context=[Part("image", path=f"p{offered[right]}")], choices=said, **shared))
    return trials


def films(n, seed=0):
    "Quadruplets of four noisy frames each; the reveal is at frame 2."
    random, trials = np.random.default_rng(seed), Shelf()
    trials.films = {}
    for q in range(n):
        before = {h: random.integers(0, 255, (2, 2, 2, 3), dtype=np.uint8) for h in (0, 1)}
        after = {r: random.integers(0, 255, (2, 2, 2, 3), dtype=np.uint8) for r in (0, 1)}
        for h, r in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            name = f"q{q}_{h}{r}"
            trials.films[name] = Clip(np.concatenate([before[h], after[r]]), 5)
            trials.append(Trial(name, "s", "vanish", "surprise", [Part("clip", path=name)], [], [], .5, dict(scene=f"q{q}"),
                                dict(violation=h != r), quad_id=f"q{q}", reveal_frame=2))  # fmt: skip
    return trials


class Guess:
    "Surprise by chance, film by film."

    def __init__(self):
        self.random = np.random.default_rng(3)

    def surprise(self, clips):
        return self.random.random((len(clips), len(clips[0].frames)))


class Only:
    "One method of another learner, so that each way of answering is tried."

    def __init__(self, learner, method):
        setattr(self, method, getattr(learner, method))


def credits(learner, trials):
    return [m.credit for m in score_table(learner, trials, [cells(t) for t in trials], trials.image)]


FORMS = [(form, method) for form in ("choose_image", "choose_text") for method in ("similarity", "logprob")]


@pytest.mark.parametrize("form, method", FORMS)
def test_a_coin_is_at_chance(form, method):
    trials = choosing(form, 2000)
    mean, lo, hi = interval(credits(Only(Coin(1), method), trials), [t.trial_id for t in trials], level=.999)
    assert lo < .25 < hi


@pytest.mark.parametrize("form, method", FORMS)
def test_an_oracle_is_right_and_a_constant_is_not_above_chance(form, method):
    trials = choosing(form, 200)
    assert np.mean(credits(Only(Oracle(trials), method), trials)) == 1
    assert credits(Only(Constant(), method), trials) == [.25] * 200


def test_films_coin_oracle_constant_and_copy_last():
    trials = films(2000)
    marks = score_quadruplets(Guess(), trials, trials.clip)
    mean, lo, hi = interval([m.credit for m in marks], [m.trial_id for m in marks], level=.999)
    assert len(marks) == 2000 and lo < .5 < hi
    few = films(50)
    assert {m.credit for m in score_quadruplets(Oracle(few), few, few.clip)} == {1.0}
    assert {m.credit for m in score_quadruplets(Constant(), few, few.clip)} == {.5}
    assert {m.credit for m in score_quadruplets(Coin(0), few, few.clip)} == {.5}  # it sees the same frames at the same time after the reveal
    assert len(score_quadruplets(PixelChange(), shuffled_films(few), few.clip)) == 50


@pytest.mark.parametrize("ties", [1, 2, 3, 4])
def test_a_tie_among_m_earns_one_mth(ties):
    scores = [1.] * ties + [0.] * (4 - ties)
    found = mark("t", scores, [0])
    assert found.credit == pytest.approx(1 / ties) and found.tied == (ties > 1)
    assert mark("t", [s * (1 + 1e-9 * k) for k, s in enumerate(scores)], [0]).credit == pytest.approx(1 / ties)


@pytest.mark.parametrize("form", ["choose_image", "choose_text"])
def test_permuting_choices_permutes_answers_and_relabelling_does_nothing(form):
    trials, random = choosing(form, 60), np.random.default_rng(0)
    before = score_table(Coin(2), trials, [cells(t) for t in trials], trials.image)
    turned, orders = Shelf(), []
    for t in trials:
        order = random.permutation(4)
        new = [Choice(f"x{t.choices[k].id}", t.choices[k].parts, t.choices[k].statement) for k in order]
        orders.append(order)
        turned.append(Trial(**{**t.__dict__, "choices": new, "answer": [f"x{a}" for a in t.answer]}))
    after = score_table(Coin(2), turned, [cells(t) for t in turned], turned.image)
    for a, b, order in zip(before, after, orders):
        assert a.credit == b.credit and [a.scores[k] for k in order] == b.scores


@pytest.mark.parametrize("method", ["similarity", "logprob"])
def test_one_failing_item_is_wrong_and_counted(method):
    trials = choosing("choose_text", 100)
    oracle, bad = Oracle(trials), trials[37].choices[0].statement

    class Fails:
        def similarity(self, images, texts):
            if bad in texts:
                raise RuntimeError("cannot read this")
            return oracle.similarity(images, texts)

        def logprob(self, contexts, answers):
            if any(bad in row for row in answers):
                raise RuntimeError("cannot read this")
            return oracle.logprob(contexts, answers)

    marks = score_table(Only(Fails(), method), trials, [cells(t) for t in trials], trials.image)
    assert [k for k, m in enumerate(marks) if m.error] == [37]
    assert marks[37].credit == 0 and "cannot read this" in marks[37].error and sum(m.credit for m in marks) == 99


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_numbers_are_errors(value):
    class Odd:
        def similarity(self, images, texts):
            return np.full((len(images), len(texts)), value)

    trials = choosing("choose_image", 5)
    marks = score_table(Odd(), trials, [cells(t) for t in trials], trials.image)
    assert all(m.credit == 0 and m.error for m in marks)


def test_wrong_shapes_are_errors_not_scores():
    class Short:
        def similarity(self, images, texts):
            return np.zeros((1, 2))

    trials = choosing("choose_image", 4)
    assert all(m.error and m.credit == 0 for m in score_table(Short(), trials, [cells(t) for t in trials], trials.image))


def test_each_distinct_stimulus_is_embedded_once():
    seen = []

    class Dual:
        def embed_images(self, images):
            seen.extend(im.tobytes() for im in images)
            return np.stack([im.reshape(-1).astype(float) for im in images])

        def embed_texts(self, texts):
            seen.extend(texts)
            return np.ones((len(texts), 108))

    trials = choosing("choose_image", 300)
    table = [cells(t) for t in trials]
    rows = [row for change in (lambda t, *_: t, *blinds.values()) for row in change(table, trials, 0)]
    score_table(Dual(), list(trials) * 4, rows, with_grey(trials.image, "p0"))
    assert len(seen) == len(set(seen))


def test_what_does_not_apply_is_said():
    trial = choosing("choose_image", 1)[0]
    for form in ("choose_image", "two_by_two", "sequence", "open", "turns", "surprise"):
        way, reason = way_to_ask(object(), Trial(**{**trial.__dict__, "form": form}))
        assert way is None and reason.startswith("needs ")
    assert "generate" in way_to_ask(Only(Coin(0), "similarity"), Trial(**{**trial.__dict__, "form": "open", "choices": []}))[1]
    blurred = Coin(0)
    blurred.max_px = 16
    assert "16 px" in way_to_ask(blurred, Trial(**{**trial.__dict__, "min_px": 32}))[1]


def test_an_incomplete_quadruplet_is_an_error():
    trials = films(2)
    few = Shelf(trials[:7])
    few.films = trials.films
    marks = score_quadruplets(Oracle(trials), few, few.clip)
    assert [bool(m.error) for m in marks] == [False, True]


def test_intervals_cover_the_truth():
    random, inside = np.random.default_rng(5), 0
    for _ in range(300):
        scene = np.repeat(random.beta(4, 4, 60), 4)  # four trials a scene
        mean, lo, hi = interval((random.random(240) < scene).astype(float), np.repeat(np.arange(60), 4))
        inside += lo <= .5 <= hi
    assert inside >= 275  # 95 % of 300, less three standard errors
