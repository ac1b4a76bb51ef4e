"""Trials from a learner's own words, minimal pairs, novel words, lessons, and the growth of a vocabulary."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from babyvlm.core.basics import WrongInput
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import read_trials
from babyvlm.milestones.asking import score_trials, score_variants
from babyvlm.milestones.audit import audit
from babyvlm.milestones.growth import read_growth, words_known
from babyvlm.milestones.judge import judge
from babyvlm.milestones.teaching import after_lesson, exchanged, lesson_of, teaching
from babyvlm.models.learners import BabyLlavaLearner, ClipLearner
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.heldout import HELD_OUT_NOUNS
from babyvlm.nursery.minimal_pairs import MINIMAL_PAIRS
from babyvlm.nursery.novel_words import NOVEL, NOVEL_WORDS
from babyvlm.nursery.own_words import OWN_WORDS, heard_words, nursery_lines, own_words
from babyvlm.nursery.things import NOUNS

TASKS = OWN_WORDS | MINIMAL_PAIRS | NOVEL


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return read_trials(write_suite(tmp_path_factory.mktemp("own") / "trials", "language", TASKS, n=48, px=32, workers=1, nouns=NOUNS))


@pytest.fixture(scope="module")
def oracle(trials):
    return Oracle(trials)


def of(trials, task):
    return [t for t in trials if t.task == task]


def share(marks):
    return float(np.mean([m.credit for m in marks]))


def right_place(trial):
    return (trial.turns[-1] if trial.turns else trial).answer[0]


@pytest.mark.parametrize("task", TASKS)
def test_oracle_coin_and_constant(task, trials, oracle):
    some = of(trials, task)
    assert len(some) == 48 and {t.chance for t in some} == {0.5}
    assert share(score_trials(oracle, some, trials)) == 1
    assert share(score_trials(Constant(), some, trials)) == 0.5
    assert abs(share(score_trials(Coin(3), some, trials)) - 0.5) < 0.25  # 48 tosses stay within a quarter but once in two thousand times


@pytest.mark.parametrize("task", TASKS)
def test_answers_stand_everywhere_equally_often(task, trials):
    assert Counter(map(right_place, of(trials, task))) == {"0": 24, "1": 24}


@pytest.mark.parametrize("task", [*OWN_WORDS, *NOVEL])
def test_the_oracle_is_at_chance_when_blind(task, trials, oracle):
    some = of(trials, task)
    for kind in ("text_blind", "image_blind"):
        assert abs(share(score_variants(oracle, some, trials)[kind]) - 0.5) <= 0.1, kind


def test_the_audit_finds_no_flaw(trials):
    assert audit(trials).flaws == []


def test_same_seed_same_trials(tmp_path):
    only = ["property_swap", "fast_mapping"]
    folders = [write_suite(tmp_path / str(k), "language", TASKS, n=16, px=32, seed=seed, workers=1, only=only) for k, seed in enumerate((5, 5, 6))]
    first, again, other = [(f / "trials.jsonl").read_bytes() for f in folders]
    assert first == again != other


@pytest.mark.parametrize("task", ["word_swap", "inflection_swap", "agreement_swap", "property_swap", "grammar_article"])
def test_what_is_wrong_in_one_sentence_of_a_row_is_right_in_the_other(task, trials):
    rows = {}
    for t in of(trials, task):
        good, bad = sorted(t.choices, key=lambda c: c.id not in t.answer)
        more, less = Counter(good.statement.split()), Counter(bad.statement.split())
        kept = rows.setdefault(t.group["scene"], Counter())
        for word in more.keys() | less.keys():
            kept[word] += more[word] - less[word]
    assert len(rows) == 24 and not any(any(kept.values()) for kept in rows.values())


def test_what_shows_nothing_has_no_image_blind_self(trials):
    learner = Coin(0, trials)
    assert {"image_blind", "shuffled"}.isdisjoint(score_variants(learner, of(trials, "word_swap"), trials))
    assert {"text_blind", "image_blind", "shuffled"} <= set(score_variants(learner, of(trials, "lexical_nouns"), trials))


def test_orders_of_words_are_orders_of_the_same_words(trials):
    for t in of(trials, "grammar_order"):
        a, b = (c.statement for c in t.choices)
        assert a != b and sorted(a.split()) == sorted(b.split())


def test_only_words_that_were_heard_are_said_and_rare_stands_beside_rare(tmp_path):
    heard = dict(heard_words()) | dict(ball=4000, dog=4100, cup=3, shoe=2, red=5000, blue=4500, green=2, yellow=3)
    for word in ("spoon", "spoons", "brown"):
        heard.pop(word, None)
    some = read_trials(
        write_suite(
            tmp_path / "mine",
            "own_words",
            own_words(heard, MINIMAL_PAIRS | dict(lexical_nouns=OWN_WORDS["lexical_nouns"])),
            n=24,
            px=32,
            workers=1,
            nouns=NOUNS,
        )
    )
    assert {w for t in some for w in t.prompt_words} <= {*heard}
    pairs = [(t.facts["noun"], t.facts["foil"]) for t in of(some, "lexical_nouns")]
    assert all({a, b} <= {"cup", "shoe"} or not {a, b} & {"cup", "shoe"} for a, b in pairs)


@pytest.mark.parametrize("source", [{}, ["ball"], dict(ball=0), dict(qwertz=5)])
def test_words_that_make_no_trials_are_refused(source, tmp_path):
    with pytest.raises(WrongInput, match="words|heard"):
        write_suite(tmp_path / "none", "own_words", own_words(source), n=16, px=32, workers=1)


def test_a_checkpoint_tells_its_words(tmp_path):
    (tmp_path / "tokenizer_words.json").write_text('{"format": 1, "words": {"ball": 7}}')
    assert heard_words(tmp_path) == {"ball": 7}


def test_novel_words_and_things_are_new_and_free_of_each_other(trials):
    said = {w for line in nursery_lines() for w in line.split()}
    assert not said & ({*NOVEL_WORDS} | {*HELD_OUT_NOUNS})
    lessons = of(trials, "fast_mapping")
    assert {t.facts["noun"] for t in lessons} == {*HELD_OUT_NOUNS}
    assert len({(t.facts["noun"], t.facts["word"]) for t in lessons}) > 16  # of 32
    assert Counter(t.facts["named"] for t in lessons) == dict(first=24, last=24)
    files = [[p.path for p in t.turns[0].context if p.path] for t in lessons]
    assert all(len({*paths}) == 3 for paths in files)


def test_exclusion_is_asked_both_ways(trials):
    for scene in {t.group["scene"] for t in of(trials, "mutual_exclusivity")}:
        pair = [t for t in of(trials, "mutual_exclusivity") if t.group["scene"] == scene]
        assert {t.facts["asked"] for t in pair} == {"novel word", "familiar word"}
        assert len({tuple(p.path for c in t.choices for p in c.parts) for t in pair}) == 1


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*nursery_lines(50), *(f"this is a {w}" for w in NOVEL_WORDS)])


@pytest.mark.parametrize("family,kind", [("clip", ClipLearner), ("cvcl", ClipLearner), ("babyllava", BabyLlavaLearner), ("babyllava-gpt2", BabyLlavaLearner)])
def test_a_lesson_is_learnt_by_a_copy(family, kind, tokenizer, trials):
    learner = kind(new_model(family, "tiny", tokenizer), tokenizer, name=family, words_heard={"this"})
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    lesson = of(trials, "fast_mapping")[0]
    pairs, _, _, _ = lesson_of(lesson)
    images, texts = [trials.image(p) for p, _ in pairs], [text for _, text in pairs]
    pupil, twin = (learner.adapt(images, texts, steps=4, lr=1e-3, seed=1) for _ in range(2))

    def fit(who):
        return who.similarity(images, texts) if kind is ClipLearner else who.logprob([[i] for i in images], [texts] * 2)[0]

    def gap(who):
        return np.trace(fit(who)) - np.trace(fit(who)[::-1])

    assert gap(pupil) > gap(learner) and np.array_equal(fit(pupil), fit(twin))
    assert all(value.equal(weights[name]) for name, value in learner.model.state_dict().items())
    assert pupil.words_heard >= {"this", *texts[0].split()} and learner.words_heard == {"this"} and pupil.words_seen == 4 * 8


def test_lessons_are_scored_with_their_controls(tokenizer, trials):
    learner = ClipLearner(new_model("clip", "tiny", tokenizer), tokenizer)
    some = of(trials, "fast_mapping")[:8]
    found = teaching(learner, some, trials, steps=2)
    assert [*found] == ["before", "taught", "exchanged"] and all(0 <= v["lo"] <= v["score"] <= v["hi"] <= 1 for v in found.values())
    marks = after_lesson(learner, some, trials, steps=0)
    assert [m.trial_id for m in marks] == [t.trial_id for t in some] and {m.way for m in marks} == {"similarity"}
    assert exchanged((("a", "x"), ("b", "y"))) == (("a", "y"), ("b", "x"))


class Slow(Coin):
    "Knows some nouns for certain and tosses a coin for the others."

    def __init__(self, trials, known, words, name, of=None):
        super().__init__(1)
        self.oracle, self.known, self.words_seen, self.name, self.checkpoint_of, self.step = Oracle(trials), known, words, name, of, words

    def similarity(self, images, texts):
        rows = [[self.oracle.score([i], t) if self.known & {*t.split()} else self.score([i], t) for t in texts] for i in images]
        return np.array(rows)

    embed_images = embed_texts = logprob = generate = surprise = None


def test_growth_from_a_report_on_disk(tmp_path):
    trials = read_trials(write_suite(tmp_path / "trials", "language", OWN_WORDS, n=48, px=32, workers=1, only=["lexical_nouns"], nouns=NOUNS[:8]))
    nouns = sorted({t.facts["noun"] for t in trials})
    past = [Slow(trials, {*nouns[: 3 * k]}, 1000 * 4**k, "run" if k == 2 else f"run step {k}", None if k == 2 else "run") for k in range(3)]
    judge(past, trials, tmp_path / "report")
    found = read_growth(tmp_path / "report", "language", "lexical_nouns")["run"]
    assert [p["words"] for p in found] == [1000, 4000, 16000] and found[2]["known"] >= 6 and found[0]["of"] == len(nouns)
    assert found[0]["known"] <= found[1]["known"] <= found[2]["known"] and found[0]["size"] < found[2]["size"]
    with pytest.raises(WrongInput, match="counting"):
        read_growth(tmp_path / "report", "language", "counting")
    with pytest.raises(WrongInput, match="no trials"):
        words_known(pd.DataFrame(dict(noun=[], credit=[], chance=[])))
