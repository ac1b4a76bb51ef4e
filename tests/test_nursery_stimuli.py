"""Trials of the nursery: balanced, held out, equal on every run, films equal until the reveal."""
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, rng
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.records import histogram
from babyvlm.core.statistics import credit
from babyvlm.core.trials import TrialsWriter, read_trials
from babyvlm.nursery.company import company, evened, told_by_colour
from babyvlm.nursery.stimuli import FILM, TASKS, Studio, design, vanishing, write_first_words
from babyvlm.nursery.things import NOUNS

IMAGE_TASKS = [task for task in TASKS if task not in ("localization", "counting")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_first_words(tmp_path_factory.mktemp("stimuli")/"first_words", n=48, px=32, seed=3, permanence=3, workers=1)


@pytest.fixture(scope="module")
def trials(folder):
    return read_trials(folder)


def of(trials, task):
    return [t for t in trials if t.task == task]


def test_every_task_is_there_and_answers_are_even(trials):
    for task in TASKS:
        some = of(trials, task)
        assert len(some) == 48
        assert set(Counter(t.answer[0] for t in some).values()) == {48 // len(some[0].choices)}
        assert some[0].chance == 1 / len(some[0].choices)


def test_a_fixed_liking_for_pictures_is_at_chance(trials):
    "Whatever pleases a learner that does not listen, it is right once in a set."
    for task in ("picture_vocabulary", "looking_while_listening", "picture_vocabulary_many"):
        for seed in range(5):
            liking = {p: rng(seed, p).random() for t in of(trials, task) for c in t.choices for p in [c.parts[0].path]}
            credits = [credit(np.array([liking[c.parts[0].path] for c in t.choices]), {int(t.answer[0])})[0] for t in of(trials, task)]
            assert np.mean(credits) == pytest.approx(of(trials, task)[0].chance)
    for task in ("localization", "counting"):
        for k in range(4):
            assert np.mean([t.answer[0] == str(k) for t in of(trials, task)]) == .25


def test_foils_differ_in_the_factor_that_is_named(trials):
    for t in trials:
        toys = [t.facts, *t.facts.get("foils", [])]
        if t.foil_factor == "noun":
            assert len({toy["noun"] for toy in toys}) == len(t.choices)
            assert t.facts["noun"] in t.question.split() and not any(f["noun"] in t.question.split() for f in t.facts["foils"])
        if t.foil_factor == "colour":
            assert len({toy["noun"] for toy in toys}) == len({toy["size"] for toy in toys}) == 1
            assert len({toy["colour"] for toy in toys}) == 4 and t.facts["colour"] in t.question.split()


def test_nouns_colours_and_sizes_are_crossed():
    toys = [order.toys[0] for order in design(480)]
    assert len(toys) == 480 and set(Counter(t[:2] for t in toys).values()) == {3}
    for noun in NOUNS:  # each size comes in the same colours
        sizes = defaultdict(Counter)
        for n, colour, size in toys:
            if n == noun: sizes[size][colour] += 1
        assert all(len(set(c.values())) == 1 and len(c) == 10 for c in sizes.values())
    for n in range(16, 700, 37):
        assert n / 2 < len(design(n)) <= n
    for n in (-1, 0, 15):
        with pytest.raises(WrongInput, match="ask for 16 or more"): design(n)


@pytest.mark.parametrize("n", [16, 48, 160, 480])
def test_every_picture_finds_company(n):
    nouns = [order.toys[0][0] for order in design(n)]
    for size in (2, 4):
        sets = company(nouns, size, rng(1))
        assert len(sets) == len(nouns) // size and len({k for s in sets for k in s}) == len(sets) * size
        assert all(len({nouns[k] for k in s}) == size for s in sets)


def share_right(sets, told, take, column):
    "Of questions that colours by themselves answer."
    return float(np.mean([np.argmax(told[take[s], s][:, column[s]], 0) == np.arange(len(s)) for s in sets]))


def test_colours_choose_little_after_pictures_have_changed_places():
    stream, kinds, column = np.random.default_rng(0), np.arange(240) % 2, np.arange(240) // 2 % 6
    told = np.rint(100 * np.eye(6)[column] + 90 * stream.normal(size=(2, 240, 6))).astype(int)
    before = [s for kind in (0, 1) for s in (np.array(company(list(column[kinds == kind]), 2, stream)) * 2 + kind).tolist()]
    after, take = evened(before, told, column, kinds, rng(3))
    assert share_right(before, told, 0 * take, column) > .65 and abs(share_right(after, told, take, column) - .5) < .1 and 0 < take.sum() < 240
    assert sorted(k for s in after for k in s) == sorted(k for s in before for k in s)
    assert all(kinds[a] == kinds[b] and column[a] != column[b] for a, b in after)
    again, same = evened(before, told, column, kinds, rng(3))
    assert after == again != before and (take == same).all()
    assert not evened(before, told[:1], column, kinds, rng(3))[1].any()  # there is one take only


def test_what_colours_tell_is_told_from_the_other_pictures():
    stream, kinds, nouns = np.random.default_rng(0), np.arange(200) // 20, np.arange(200) % 2
    own = .2 * nouns + kinds  # what the pictures of a kind share is larger than what tells the nouns apart
    colours = stream.random((2, 200, 512)) * .01 + own[None, :, None] * np.eye(512)[3]
    told = told_by_colour(colours, nouns, kinds)
    assert told.shape == (2, 200, 2) and told.dtype == int and (np.argmax(told, 2) == nouns).all()
    assert not told_by_colour(colours[:, :1], nouns[:1], kinds[:1]).any()


@pytest.mark.parametrize("size", [2, 4, 200])
def test_where_colours_tell_nothing_nothing_is_told(size):
    stream, nouns, kinds = np.random.default_rng(0), np.arange(200) % 2, np.arange(200) // size
    sets = np.arange(200).reshape(-1, 2).tolist()  # within a kind
    found = [share_right(sets, told_by_colour(stream.random((2, 200, 512)), nouns, kinds), np.zeros(200, int), nouns) for _ in range(5)]
    assert abs(np.mean(found) - .5) < .08, found


@dataclass(frozen=True)
class Plain:
    "An order for a picture of one colour, by and large that of its noun."
    noun: int
    take: int

    def draw(self, seed, px):
        stream = rng(seed, self)
        shade = 40 * self.noun + 20 + int(stream.integers(-25, 25))
        return np.clip(shade + stream.integers(-12, 12, (px, px, 3)), 0, 255).astype(np.uint8), [dict(noun=str(self.noun))]


def test_a_studio_keeps_only_what_is_shown_and_draws_each_order_once(tmp_path):
    orders, drawn = [Plain(k % 4, k) for k in range(160)], []

    class Watched(Studio):
        def all(self, function, jobs, doing=""):
            drawn.extend(order for order, *_ in jobs)
            return super().all(function, jobs, doing)

    with TrialsWriter(tmp_path / "t", dict(name="test"), 0) as writer, Watched(writer, px=16) as studio:
        sets = [[orders[k] for k in s] for s in company([o.noun for o in orders], 4, rng(0))]
        even = studio.evened(sets, lambda o: Plain(o.noun, -1 - o.take), lambda o: o.noun, "plain")
        shown = [order for some in even for order in some]
        assert sorted(studio.shelf, key=str) == sorted(shown, key=str) and len(studio.drawn) == 160 and len(writer.media) == 160
        assert any(o.take < 0 for o in shown) and all({o.noun for o in some} == set(range(4)) for some in even)
        assert studio.evened(sets, lambda o: Plain(o.noun, -1 - o.take), lambda o: o.noun, "plain") == even and len(drawn) == len(set(drawn)) == 320
        assert studio.evened([], lambda o: o, lambda o: o.noun, "plain") == []

        def owed(sets):
            flat = [o for some in sets for o in some]
            told = told_by_colour(np.array([[histogram(studio.picture(o)) for o in flat]]), [o.noun for o in flat], np.zeros(160))
            return share_right(np.arange(160).reshape(-1, 4).tolist(), told, np.zeros(160, int), np.array([o.noun for o in flat]))

        studio.shoot([o for some in sets for o in some])
        assert owed(even) < owed(sets) - .1


@pytest.mark.parametrize("task", ["picture_vocabulary", "looking_while_listening"])
def test_each_picture_is_in_one_set_and_asked_for_once(trials, task):
    some = of(trials, task)
    asked = Counter(c.parts[0].path for t in some for c in t.choices if c.id in t.answer)
    assert set(asked.values()) == {1} and asked.keys() == {c.parts[0].path for t in some for c in t.choices}
    assert all(len({c["noun"] for c in [*t.facts["foils"], t.facts]}) == len(t.choices) for t in some)
    looks = Counter((t.facts["noun"], t.facts["colour"]) for t in some)
    assert len(looks) == 48 and set(looks.values()) == {1}  # twelve nouns, four colours: another take has the same


def test_equal_toy_counts_in_all_pictures(trials):
    some = of(trials, "picture_vocabulary_many")
    by_set = defaultdict(set)
    for t in some: by_set[t.group["scene"]].add(t.facts["toys"])
    assert all(len(counts) == 1 for counts in by_set.values()) and {c for counts in by_set.values() for c in counts} == {2, 3, 4}


def test_films_are_equal_until_the_reveal_and_show_equal_things_after(trials):
    quads = defaultdict(dict)
    for t in of(trials, "permanence_vanish"):
        quads[t.quad_id][t.facts["hidden"], t.facts["revealed"]] = (trials.clip(t.context[0].path).frames, t)
    assert len(quads) == 3
    start = FILM["move"] + FILM["wait"]
    for films in quads.values():
        assert len(films) == 4 and {len(f) for f, _ in films.values()} == {sum(FILM.values())}
        reveal = {t.reveal_frame for _, t in films.values()}
        assert len(reveal) == 1 and start <= (reveal := reveal.pop()) < start + FILM["fold"]
        for before in (True, False):
            a, b = films[before, True][0], films[before, False][0]
            assert (a[:reveal] == b[:reveal]).all() and (a[reveal] != b[reveal]).any()
        for after in (True, False):
            a, b = films[True, after][0], films[False, after][0]
            assert (a[FILM["move"]:] == b[FILM["move"]:]).all() and (a[:FILM["move"]] != b[:FILM["move"]]).any()
        assert {t.facts["violation"] for (h, r), (_, t) in films.items() if h == r} == {False}


@pytest.mark.parametrize("seed", range(4))
def test_no_shadow_gives_the_hidden_toy_away(seed):
    begin, _, reveal, _ = vanishing((seed, seed, 48))
    wait = slice(FILM["move"], FILM["move"] + FILM["wait"])
    assert (begin[True][wait] == begin[False][wait]).all()
    assert len({frame.tobytes() for frame in begin[True][wait]}) == FILM["wait"]  # sensor noise goes on


def test_same_seed_same_bytes_whatever_the_number_of_processes(folder, tmp_path):
    again = write_first_words(tmp_path/"again", n=48, px=32, seed=3, permanence=3, workers=1)
    for name in ("trials.jsonl", "trials.json"):
        assert (again/name).read_bytes() == (folder/name).read_bytes()
    small = [write_first_words(tmp_path/f"w{w}", n=72, px=32, seed=1, permanence=0, workers=w) for w in (1, 2)]
    assert (small[0]/"trials.json").read_bytes() == (small[1]/"trials.json").read_bytes()
    other = write_first_words(tmp_path/"other", n=16, px=32, seed=4, permanence=0, workers=1)
    assert not set(read_trials(other).card["media"]) & set(read_trials(folder).card["media"])


def test_coin_constant_and_oracle(trials):
    def score(learner, t):
        if t.form == "choose_image":
            return learner.similarity([trials.image(c.parts[0].path) for c in t.choices], [t.question])[:, 0]
        return learner.similarity([trials.image(t.pictures[0])], [c.statement for c in t.choices])[0]
    still = [t for t in trials if t.form != "surprise"]
    mean = lambda learner: np.mean([credit(score(learner, t), {int(t.answer[0])})[0] for t in still])
    chance = np.mean([t.chance for t in still])
    assert mean(Oracle(trials)) == 1 and mean(Constant()) == pytest.approx(chance) and abs(mean(Coin(0)) - chance) < .1


def test_trials_carry_their_source_and_words(trials):
    from babyvlm.nursery.words import VOCABULARY
    for t in trials:
        assert t.source["synthetic"] and t.source["licence"] == "CC0-1.0" and t.source["release_level"] == "Public" and t.source["seed"] == 3
        assert set(t.prompt_words) <= set(VOCABULARY) and (t.prompt_words or t.form == "surprise")
        assert set(t.group) == {"scene", "noun", "child"} and t.min_px <= 64 and t.suite == "first_words"


def test_wrong_sizes_are_named_and_leave_nothing(tmp_path):
    for wrong in (dict(n=3), dict(px=8)):
        with pytest.raises(WrongInput): write_first_words(tmp_path/"out", **wrong)
    (tmp_path/"file").write_text("x")
    with pytest.raises(WrongInput): write_first_words(tmp_path/"file", n=16)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
