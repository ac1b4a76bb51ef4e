"""Every form in every way a learner can answer: coin, constant, oracle; order, names and ties; what is encoded, and how often."""

import functools
import inspect
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from babyvlm.core.learner import Coin, Constant, Oracle, answer_texts
from babyvlm.core.records import Clip
from babyvlm.core.statistics import interval
from babyvlm.core.trials import Choice, Part, Trial, Turn, read_trials
from babyvlm.milestones import store as store_module
from babyvlm.milestones.asking import score_trials, score_variants
from babyvlm.milestones.scoring import PART_CHANCES, cells, two_by_two_scores
from babyvlm.milestones.store import Store, score_rows, score_table
from babyvlm.milestones.turns import score_turns
from babyvlm.nursery.suites import suites

NUMBERS = ["one", "two", "three", "four"]
SIDES = ["left", "right", "top", "bottom"]


class Shelf(list):
    "Trials with their media in memory: every picture, film and sound is new."

    def __init__(self, seed=0):
        super().__init__()
        self.random, self.files = np.random.default_rng(seed), {}

    def image(self, path):
        return self.files[path]

    clip = sound = load = image

    def keep(self, thing, kind):
        self.files[f"{kind}{len(self.files)}"] = thing
        return Part(kind, path=f"{kind}{len(self.files) - 1}")

    def new(self, kind="image"):
        pixels = self.random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        if kind == "clip":
            return self.keep(Clip(np.stack([pixels] * 3), 5.0), "clip")
        return self.keep(self.random.normal(size=40).astype(np.float32) if kind == "sound" else pixels, kind)


def shelf(case, n, seed=0):
    "n trials of one kind; the right place is random."
    trials, made = Shelf(seed), KINDS[case]
    for i in range(n):
        right = int(trials.random.integers(4))
        trials.append(made(trials, i, right, dict(trial_id=f"t{i}", suite="s", task=case, group=dict(scene=f"s{i}"))))
    return trials


def choosing_pictures(asks=(), options="image", words=True):
    def made(shelf, i, right, shared):
        context = [shelf.new(kind) for kind in asks] + [Part("text", f"which is number {i}?")] * words
        return Trial(form="choose_image", context=context, choices=[Choice(str(k), [shelf.new(options)]) for k in range(4)], answer=[str(right)], chance=1 / 4, **shared)

    return made


def choosing_words(shows=("image",), form="choose_text", bare=False, offered=NUMBERS, free=False):
    def made(shelf, i, right, shared):
        choices = [Choice(w, [Part("text", w)] if bare else [], "" if bare else f"{w} in {i}") for w in offered]
        context = [shelf.new(kind) for kind in shows] + [Part("text", f"which is it in {i}?")] * (bare or form == "open")
        return Trial(form=form, context=context, choices=[] if free else choices, answer=[offered[right]], chance=0.0 if free else 1 / 4, **shared)

    return made


def pairing(shelf, i, right, shared):
    choices = [Choice(str(k), [shelf.new()], f"{NUMBERS[k]} in {i}") for k in range(2)]
    return Trial(form="two_by_two", context=[], choices=choices, answer=["0", "1"], chance=1 / 6, **shared)


def talking(shelf, i, right, shared):
    "Four turns: one that is free, then the new picture beside the last."
    pictures, turns = [shelf.new() for _ in range(4)], []
    for k in range(4):
        pair = [pictures[k]] + ([pictures[k - 1]] if k else [])
        if shelf.random.integers(2):
            pair = pair[::-1]
        choices = [Choice(f"c{j}", [p]) for j, p in enumerate(pair)]
        turns.append(Turn([Part("text", "touch the new one")], choices, [c.id for c in choices if c.parts[0] is pictures[k]]))
    return Trial(form="turns", context=[], choices=[], answer=[], chance=1 / 2, turns=turns, **shared)


KINDS = dict(
    find=choosing_pictures(), same=choosing_pictures(("image",)), heard=choosing_pictures(("sound",), words=False), films=choosing_pictures(options="clip"),
    name=choosing_words(), bare=choosing_words(bare=True), shown=choosing_words(("clip",)), sounds=choosing_words(("sound",)), two_pictures=choosing_words(("image", "image")),
    sequence=choosing_words(("image",) * 5, "sequence"), ask=choosing_words(form="open"), ask_bare=choosing_words(form="open", bare=True),
    which_way=choosing_words(form="open", bare=True, offered=SIDES), letter=choosing_words(form="open", bare=True, offered=list("ABCD")), pairs=pairing, memory=talking)  # fmt: skip
WAYS = [("find", "similarity"), ("find", "logprob"), ("find", "embed_images embed_texts"), ("same", "logprob"), ("same", "embed_images"), ("heard", "embed_sounds embed_images"),
        ("films", "embed_clips embed_texts"), ("name", "similarity"), ("name", "logprob"), ("bare", "logprob"), ("shown", "embed_clips embed_texts"),
        ("sounds", "embed_sounds embed_texts"), ("two_pictures", "logprob"), ("sequence", "logprob"), ("sequence", "embed_clips embed_texts"), ("ask", "generate"), ("ask", "logprob"),
        ("ask", "similarity"), ("ask_bare", "generate"), ("ask_bare", "logprob"), ("which_way", "generate"), ("letter", "generate"), ("pairs", "similarity"), ("pairs", "logprob"),
        ("pairs", "embed_images embed_texts"), ("memory", "logprob"), ("memory", "generate")]  # fmt: skip


class Only:
    "Some methods of another learner, so that each way of answering is tried by itself."

    def __init__(self, learner, methods):
        for method in methods.split():
            setattr(self, method, getattr(learner, method))


def credits(learner, methods, trials, **more):
    return [m.credit for m in score_trials(Only(learner, methods), trials, trials, **more)]


@pytest.mark.parametrize("case, methods", WAYS)
def test_a_coin_is_at_chance(case, methods):
    trials = shelf(case, 2000)
    mean, lo, hi = interval(credits(Coin(1, trials), methods, trials), [t.trial_id for t in trials], level=0.999)
    assert lo < trials[0].chance < hi, mean


@pytest.mark.parametrize("case, methods", [way for way in WAYS if way != ("same", "embed_images")])
def test_an_oracle_is_right_and_a_constant_is_not_above_chance(case, methods):
    trials = shelf(case, 60)
    assert credits(Oracle(trials), methods, trials) == [1.0] * 60
    assert max(credits(Constant(), methods, trials)) <= trials[0].chance + 1e-12


def test_a_free_answer_is_right_or_wrong():
    trials = Shelf()
    trials += [choosing_words(form="open", bare=True, free=True)(trials, i, i % 4, dict(trial_id=f"t{i}", suite="s", task="free", group={})) for i in range(40)]
    assert credits(Oracle(trials), "generate", trials) == [1.0] * 40 and credits(Constant(), "generate", trials) == [0.0] * 40
    assert 0 < np.mean(credits(Coin(0, trials), "generate", trials)) <= 1  # it knows no other answer than those that are given


@pytest.mark.parametrize("name", sorted(set(suites) - {"all"}))
def test_every_task_of_the_suites(name, tmp_path):
    fewer = {k: v for k, v in dict(permanence=2).items() if k in inspect.signature(suites[name]).parameters}
    trials = read_trials(suites[name](tmp_path / name, n=16, px=32, seed=5, workers=1, **fewer))
    trials.image, trials.clip = functools.cache(trials.image), functools.cache(trials.clip)
    for _, task in trials.tasks:
        some = [t for t in trials if t.task == task]
        oracle, constant = score_trials(Oracle(trials), some, trials), score_trials(Constant(), some, trials)
        assert {m.credit for m in oracle} == {1.0} and not any(m.error for m in oracle)
        assert np.mean([m.credit for m in constant]) <= some[0].chance + 1e-9
        seeds = range(math.ceil(2000 / len(oracle))) if some[0].form != "surprise" else range(3)
        drawn = [(f"{seed} {m.trial_id}", m.credit) for seed in seeds for m in score_trials(Coin(seed), some, trials)]
        mean, lo, hi = interval([c for _, c in drawn], [g for g, _ in drawn], level=0.999)
        assert lo < some[0].chance < hi or mean == some[0].chance == 0, (task, mean)  # nothing is offered where the answer is open


def turned(trial, order, rename):
    "The same trial with its choices in another order and under other names."
    move = lambda choices, order: [replace(choices[k], id=rename(choices[k].id)) for k in order if k < len(choices)]
    turns = trial.turns and [replace(t, choices=move(t.choices, order), answer=[rename(a) for a in t.answer]) for t in trial.turns]
    return replace(trial, choices=move(trial.choices, order), answer=[rename(a) for a in trial.answer], turns=turns)


@pytest.mark.parametrize("case, methods", [way for way in WAYS if way[0] not in ("memory", "pairs") and way[1] != "generate"])
def test_permuting_choices_permutes_scores_and_names_do_nothing(case, methods):
    trials = shelf(case, 30)
    before = score_trials(Only(Coin(2, trials), methods), trials, trials)
    orders = [np.random.default_rng(i).permutation(4) for i in range(30)]
    after = score_trials(Only(Coin(2, trials), methods), [turned(t, order, lambda a: f"x{a}") for t, order in zip(trials, orders)], trials)
    for a, b, order in zip(before, after, orders):
        assert a.credit == b.credit and a.scores and np.allclose([a.scores[k] for k in order], b.scores, rtol=1e-6)


def test_names_do_nothing_in_a_dialogue_and_order_only_changes_letters():
    trials = shelf("memory", 20)
    named = [turned(t, (0, 1), lambda a: f"x{a}") for t in trials]
    for how in ("logprob", "generate"):
        marks = [score_turns(Coin(3, trials), some, trials, how) for some in (trials, named)]
        assert [m.credit for m in marks[0]] == [m.credit for m in marks[1]] and [m.reply for m in marks[0]] == [m.reply for m in marks[1]]
    flipped = Shelf()
    flipped.files = trials.files
    flipped += [turned(t, (1, 0), str) for t in trials]
    oracle = Oracle(flipped)
    assert [m.credit for m in score_turns(oracle, flipped, flipped)] == [1.0] * 20


def test_two_by_two_follows_both_pictures_and_texts():
    random = np.random.default_rng(0)
    for _ in range(200):
        s = random.random(4)
        a, b = two_by_two_scores(s), two_by_two_scores(s[[3, 2, 1, 0]])  # the pairs change places
        assert a["group"] == b["group"] and a["image"] == b["image"] and a["text"] == b["text"] and a["match"] == b["match"]
        assert a["positive"] == b["negative"] and a["group"] == a["image"] * a["text"]
        direct = float(s[0] > s[2] and s[3] > s[1] and s[0] > s[1] and s[3] > s[2])
        assert a["group"] == direct and a["match"] == float(s[0] + s[3] > s[1] + s[2])
        assert two_by_two_scores(7 * s - 3) == a
    assert two_by_two_scores([1, 1, 0, 1])["text"] == 0.5 and two_by_two_scores([1, 1, 0, 1])["group"] == pytest.approx(1 / 3)
    assert set(PART_CHANCES) == set(two_by_two_scores([0, 0, 0, 0]))


def test_a_failing_pair_earns_nothing_and_is_counted():
    class Fails:
        def similarity(self, images, texts):
            if "one in 1" in texts:
                raise RuntimeError("cannot read this")
            return np.eye(2)[: len(images), : len(texts)] + 1.0 * (len(images) < 2)

    marks = score_trials(Fails(), trials := shelf("pairs", 3), trials)
    assert [bool(m.error) for m in marks] == [False, True, False] and marks[1].credit == 0 and set(marks[1].parts.values()) == {0.0}


def test_a_reply_that_is_no_answer_is_wrong_and_counted():
    class Says:
        def __init__(self, *replies):
            self.replies = replies

        def generate(self, contexts, max_new_tokens):
            return [self.replies[k % len(self.replies)] for k in range(len(contexts))]

    trials = shelf("letter", 40)
    for reply in ("a ball", "", "A or B", "E", "not A"):
        marks = score_trials(Says(reply), trials, trials)
        assert all(m.credit == 0 and m.error and m.reply == reply for m in marks)
    marks = score_trials(Says("(A)"), trials, trials)
    assert [m.credit for m in marks] == [float(t.answer == ["A"]) for t in trials] and not any(m.error for m in marks)
    for wrong in (None, 3, b"A"):
        assert all(m.credit == 0 and m.error for m in score_trials(Says(wrong), trials[:3], trials))


def test_a_learner_hears_its_own_replies_not_the_right_ones():
    class Notes:
        def __init__(self):
            self.heard = []

        def generate(self, contexts, max_new_tokens):
            self.heard.append([[p for p in c if isinstance(p, str)] for c in contexts])
            return ["(B)" if len(self.heard) % 2 else "I do not know"] * len(contexts)

    trials, notes = shelf("memory", 3), Notes()
    marks = score_turns(notes, trials, trials)
    last = notes.heard[-1][0]
    assert [p for p in last if p in ("(B)", "I do not know")].count("I do not know") == 1 and last.index("I do not know") > 0
    assert all(json.loads(m.reply) == ["(B)", "I do not know"] * 2 for m in marks)
    assert all(math.isnan(m.scores[0]) and m.credit == pytest.approx(np.mean(m.scores[1:])) and m.error for m in marks)


def test_one_dialogue_that_breaks_does_not_break_the_others():
    trials = shelf("memory", 9)
    bad, oracle = trials.files[trials[4].turns[2].choices[0].parts[0].path], Oracle(trials)

    class Fragile:
        def logprob(self, contexts, answers):
            if any(part is bad for context in contexts for part in context):
                raise RuntimeError("no")
            return oracle.logprob(contexts, answers)

    marks = score_turns(Fragile(), trials, trials)
    assert [bool(m.error) for m in marks] == [k == 4 for k in range(9)] and sum(m.credit == 1 for m in marks) == 8 and 0 <= marks[4].credit < 1


def test_a_missing_picture_spoils_one_item_of_any_form():
    for case, methods in (("find", "similarity"), ("same", "logprob"), ("sequence", "logprob"), ("ask", "generate"), ("memory", "generate"), ("pairs", "logprob")):
        trials = shelf(case, 12)
        oracle, parts = Oracle(trials), [p for t in (trials[5], *trials[5].choices, *(trials[5].turns or [])) for p in getattr(t, "context", getattr(t, "parts", []))]
        parts += [p for t in trials[5].turns or [] for c in t.choices for p in c.parts]
        del trials.files[next(p.path for p in parts if p.type == "image")]
        marks = score_trials(Only(oracle, methods), trials, trials)
        assert [k for k, m in enumerate(marks) if m.error] == [5] and marks[5].credit == 0 and sum(m.credit for m in marks) == 11, case


class Counting:
    "A dual encoder that notes what it is asked to encode."

    def __init__(self):
        self.seen, self.batches = [], []

    def embed_images(self, images):
        self.seen += [im.tobytes() for im in images]
        self.batches.append(len(images))
        return np.stack([im.reshape(-1).astype(float) for im in images])

    def embed_texts(self, texts):
        self.seen += texts
        return np.ones((len(texts), 108))


def test_each_stimulus_is_encoded_once_over_all_variants_and_chunks(monkeypatch):
    monkeypatch.setattr(store_module, "CHUNK", 50)
    monkeypatch.setattr("babyvlm.milestones.asking.CHUNK", 50)
    trials, learner = shelf("find", 300), Counting()
    found = score_variants(learner, trials, trials)
    assert {len(m) for m in found.values()} == {300} and len(learner.seen) == len(set(learner.seen)) == 4 * 300 + 1 + 300 + 1
    assert np.mean(learner.batches) > 30


def test_a_dialogue_is_read_in_batches_and_each_logprob_is_asked_once():
    calls, coin = [], Coin(0)

    class Reads:
        def logprob(self, contexts, answers):
            calls.extend((tuple(p if isinstance(p, str) else p.tobytes() for p in c), *a) for c, a in zip(contexts, answers))
            return coin.logprob(contexts, answers)

    trials = shelf("find", 40)
    score_table(Reads(), list(trials) * 3, [cells(t) for t in trials] * 3, trials.image)
    assert len(calls) == len(set(calls)) == 160


def test_the_store_forgets_the_oldest_and_never_the_answer(monkeypatch):
    trials, whole = shelf("find", 200), Counting()
    want = [m.scores for m in score_trials(whole, trials, trials)]
    monkeypatch.setattr(store_module, "KEPT_BYTES", 20_000)
    monkeypatch.setattr(store_module, "CHUNK", 20)
    learner = Counting()
    store, found = Store(learner, trials.image), []
    for k in range(0, 200, 20):
        found += score_rows(store, trials[k:k + 20], [cells(t) for t in trials[k:k + 20]])
        assert len(store.vectors) < 60
    assert [m.scores for m in found] == want


def test_all_variants_of_every_form_have_a_mark_for_every_trial():
    for case, methods in WAYS:
        trials = shelf(case, 12)
        found = score_variants(Only(Coin(0, trials), methods + " fresh"), trials, trials, seed=1)
        assert {"learner", "text_blind", "image_blind", "shuffled"} <= set(found) and all([m.trial_id for m in marks] == [t.trial_id for t in trials] for marks in found.values())
        again = score_variants(Only(Coin(0, trials), methods + " fresh"), trials, trials, seed=1)
        assert {k: [m.credit for m in v] for k, v in again.items()} == {k: [m.credit for m in v] for k, v in found.items()}


def test_answers_are_letters_only_for_pictures():
    picture, words, said = Choice("x", [Part("image", path="p")], "a ball"), Choice("y", [Part("text", "left")]), Choice("z", statement="two balls")
    assert answer_texts([picture, words, said]) == ["A", "left", "two balls"] and answer_texts([picture, words], "text") == ["x", "y"]
