"""Composition: what each pack can and cannot be passed with, and swapped captions."""
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import binom

from babyvlm.core.basics import WrongInput
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.statistics import interval, paired
from babyvlm.core.trials import read_trials
from babyvlm.nursery.packs import CLEAR, COMPOSITION, Side, casts, square, write_composition
from babyvlm.pretraining.hard_negatives import confusable, hard_negative, swaps, turned
from babyvlm.probing.composition import BagOfWords, answers, composition, text_only


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return read_trials(write_composition(tmp_path_factory.mktemp("packs")/"composition", n=48, px=24, seed=5))


def of(trials, task):
    return [t for t in trials if t.task == task]


def means(table):
    return table.groupby("task").credit.mean()


def test_every_sentence_is_right_once_and_at_each_place_once(trials):
    for task in COMPOSITION:
        some = of(trials, task)
        assert len(some) == 48
        assert set(Counter(t.answer[0] for t in some).values()) == {48 // len(some[0].choices)}
        scenes = {t.group["scene"] for t in some}
        for scene in scenes:
            right = [c.statement for t in some if t.group["scene"] == scene for c in t.choices if c.id in t.answer]
            assert len(set(right)) == len(right) == len(some[0].choices)


def test_same_words_but_for_the_control(trials):
    for t in trials:
        bags = {tuple(sorted(c.statement.split())) for c in t.choices}
        assert len(bags) == (2 if t.task == "noun_replaced" else 1)


def test_oracle_constant_coin(trials):
    assert (answers(Oracle(trials), trials).credit == 1).all()
    constant = answers(Constant(), trials)
    assert np.allclose(constant.credit, constant.chance)
    coin = answers(Coin(3), trials)
    assert (means(coin) - coin.groupby("task").chance.mean()).abs().max() < .25


def test_a_bag_of_words_passes_the_control_only(trials):
    table = answers(BagOfWords(trials), trials)
    for task, some in table.groupby("task"):
        assert np.allclose(some.credit, 1 if task == "noun_replaced" else some.chance)


def test_text_alone_is_at_chance_whatever_it_likes(trials):
    for task in COMPOSITION:
        found = text_only(of(trials, task))
        assert found.credit.mean() == pytest.approx(found.chance.mean())
    likings = np.random.default_rng(0).normal(size=(5, 400))

    class Reader:
        def __init__(self, liking): self.liking = liking
        def similarity(self, images, texts): return np.array([[self.liking[sum(map(ord, t)) * len(t) % 400] + len(t) / 7 for t in texts]] * len(images))

    for liking in likings:
        found = answers(Reader(liking), trials)
        assert np.allclose(means(found), found.groupby("task").chance.mean())


class Seen(list):
    "Trials whose pictures are not opened again and again."
    def image(self, path): return np.zeros((1, 1, 3), np.uint8)


class Guess:
    "Says at random what fits."
    def __init__(self, seed): self.stream = np.random.default_rng(seed)
    def similarity(self, images, texts): return self.stream.normal(size=(len(images), len(texts)))


def test_nothing_is_found_in_guesses(trials):
    "A thousand pairs of guessers: one in twenty is called better or worse than the other, and no more than that than chance (Wilson's interval is wide)."
    some = Seen(of(trials, "relation_swap"))
    runs = [[answers(Guess((seed, who)), some) for who in (0, 1)] for seed in range(1000)]
    bounds = [interval(one.credit, one.scene)[1:] for one, _ in runs]
    against = [paired(one.credit, other.credit, one.scene) for one, other in runs]
    low, high = binom.interval(.99, 1000, .05)
    assert 0 < sum(not lo <= .5 <= hi for lo, hi in bounds) <= high
    assert low <= sum(row["p"] < .05 for row in against) <= high


def test_pictures_of_a_square_differ_in_the_toys_only(trials):
    a, b = ("ball", "red"), ("cup", "green")
    one, other = (Side(toys, ("ball", "cup", "duck"), "one").scene(0) for toys in ((a, b), (b, a)))
    assert one.camera == other.camera and one.room == other.room and one.person == other.person
    assert [t.position for t in one.toys] == [t.position for t in other.toys] and one.toys[0].position[0] < one.toys[1].position[0]


@pytest.mark.parametrize("seed", range(20))
def test_casts_use_nouns_evenly(seed):
    some = casts(64, np.random.default_rng(seed))
    counts = Counter(noun for a, b, c in some for noun in (a[0], b[0], c))
    assert len(counts) == 16 and max(counts.values()) <= 2 * min(counts.values())
    assert all(len({a[0], b[0], c}) == 3 and a[1] != b[1] and {a[1], b[1]} <= set(CLEAR) for a, b, c in some)


def test_the_same_seed_gives_the_same_trials(trials, tmp_path):
    again = read_trials(write_composition(tmp_path/"again", n=48, px=24, seed=5, tasks=("negation",)))
    assert [t.context[0].path for t in again] == [t.context[0].path for t in of(trials, "negation")]
    other = read_trials(write_composition(tmp_path/"other", n=8, px=24, seed=6, tasks=("negation",)))
    assert not {t.context[0].path for t in other} & {t.context[0].path for t in again}


def test_the_table_has_its_controls(trials):
    some = type(trials)(trials.path, of(trials, "relation_swap") + of(trials, "noun_replaced"), trials.card)
    table = composition(Oracle(trials), some, twin=Coin(0))
    assert (table.score == 1).all() and (table.whole == 1).all() and (table.over_lo > 0).all()
    assert table.bag_of_words["relation_swap"] == .5 and table.text_only["noun_replaced"] == .5 and (table.image_blind == .5).all()


def test_wrong_input(tmp_path):
    for call in (lambda: write_composition(tmp_path/"x", tasks=("rhyme",)), lambda: write_composition(tmp_path/"x", nouns=("ball", "cup")),
                 lambda: square("negation", ("ball", "red"), ("ball", "blue"), "cup")):
        with pytest.raises(WrongInput): call()


def test_swaps_keep_the_words_and_change_the_order():
    classes = [{"ball", "duck"}, {"red", "blue"}]
    text = "the red ball is left of the blue duck"
    for other in (*swaps(text, classes), *turned(text, classes)):
        assert other != text and sorted(other.split()) == sorted(text.split())
    assert confusable([text, *turned(text, classes)]) == 1


def test_the_objective_against_its_definition():
    logits, same = torch.randn(4, 7, generator=torch.Generator().manual_seed(1)), torch.eye(4, dtype=torch.bool)
    out = type("Out", (), dict(logits=logits))
    rows = -(logits.log_softmax(1)[range(4), range(4)]).mean()
    columns = -(logits[:, :4].log_softmax(0)[range(4), range(4)]).mean()
    assert math.isclose(hard_negative(out, dict(same=same)), (rows + columns) / 2, rel_tol=1e-5)
