"""Our peers' arithmetic, re-computed from the written rules on random scores, trial for trial."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from scipy.optimize import direct
from scipy.special import rel_entr

from babyvlm.core.basics import WrongInput
from babyvlm.milestones.likeness import fitted_kl
from babyvlm.milestones.peer_rules import fours, inflevel, machine_devbench, pairing_credit, wins

BINS = ["[1,2)", "[2,4)", "[4,8)", "[8,16)", "[512,inf)"]


def random_items(n, seed):
    rand, items = np.random.default_rng(seed), []
    for _ in range(n):
        task = str(rand.choice(["lex_nouns", "lex_adjectives", "gram_order", "gram_negation", "gram_counting"]))
        shape = (2, 1) if task.startswith("lex") else (2, 2)
        items.append((task, rand.normal(size=shape).astype(np.float32), str(rand.choice(BINS))))
    return items


def right_or_not(task, s):
    if task.startswith("lex"):
        return int(s[0][0] > s[1][0])
    return int(float(s[0][0]) + float(s[1][1]) > float(s[0][1]) + float(s[1][0]))


@pytest.mark.parametrize("seed", range(5))
def test_machine_devbench(seed):
    items = random_items(300, seed)
    right = [right_or_not(task, s) for task, s, _ in items]
    assert [pairing_credit(s) for _, s, _ in items] == right  # trial for trial
    tasks = {}
    for task in {t for t, _, _ in items}:
        mine = [(r, b) for r, (t, _, b) in zip(right, items) if t == task]
        if task.startswith("gram"):
            tasks[task] = sum(r for r, _ in mine) / len(mine)
        else:
            pooled = defaultdict(list)
            for r, b in mine:
                pooled["[1,4)" if b in ("[1,2)", "[2,4)") else b].append(r)
            tasks[task] = sum(sum(rs) / len(rs) for rs in pooled.values()) / len(pooled)
    lexical = np.mean([v for t, v in tasks.items() if t.startswith("lex")])
    grammatical = np.mean([v for t, v in tasks.items() if t.startswith("gram")])
    found = machine_devbench(items)
    assert found["tasks"] == pytest.approx(tasks) and found["lexical"] == pytest.approx(lexical) and found["grammatical"] == pytest.approx(grammatical)
    assert found["overall"] == pytest.approx((lexical + grammatical) / 2) and found["ties"] == 0
    assert machine_devbench(items, tie=0.5)["overall"] == found["overall"]  # without ties the two rules are one


def test_machine_devbench_one_family_and_wrong_items():
    items = [item for item in random_items(60, 9) if item[0] == "gram_order"]
    found = machine_devbench(items)
    assert found["lexical"] is None and found["overall"] == found["grammatical"]
    with pytest.raises(WrongInput, match="begins neither"):
        machine_devbench([("nouns", [[1], [0]], "")])
    with pytest.raises(WrongInput, match="shape"):
        machine_devbench([("lex_nouns", [[1, 0, 1]], "")])


def random_films(category, n, seed, levels):
    rand = np.random.default_rng(seed)
    kinds = dict(continuity=["vv", "ii", "iv", "vi"]).get(category, ["ui", "cv", "uv", "ci"])
    rows = [dict(camera_loc=c, cover=v, obj=str(o), trial_type=k, score=float(rand.integers(levels)))
            for c, v, o, k in itertools.product(("a", "b"), ("box", "cloth"), range(n), kinds)]  # fmt: skip
    return [row for row in rows if rand.random() > 0.05]  # some fours are not whole


@pytest.mark.parametrize("category", ["continuity", "solidity", "gravity"])
@pytest.mark.parametrize("levels", [4, 10**6])
def test_inflevel(category, levels):
    rows = random_films(category, 15, 3, levels)
    real, magic = dict(continuity=(("vv", "ii"), ("iv", "vi"))).get(category, (("ui", "cv"), ("uv", "ci")))
    groups = defaultdict(dict)
    for row in rows:
        groups[row["camera_loc"], row["cover"], row["obj"]][row["trial_type"]] = row["score"]
    whole, won = [g for g in groups.values() if len(g) == 4], []
    for g in whole:
        won.append(sum(1.0 if g[r] > g[m] else 0.5 if g[r] == g[m] else 0.0 for r in real for m in magic) / 4)
    scores, _, skipped = fours(rows, category)
    assert wins(scores).tolist() == won and skipped == len(groups) - len(whole)
    found = inflevel(rows, category, draws=400)
    assert found["accuracy"] == pytest.approx(sum(won) / len(won)) and found["n"] == len(whole) and found["lo"] <= found["accuracy"] <= found["hi"]
    rand, drawn = np.random.default_rng(11), []
    for _ in range(400):  # their permutation test, with other draws
        mixed = np.array([rand.permutation(list(g[k] for k in (*real, *magic))) for g in whole])
        drawn.append(np.mean([sum((r > m) + 0.5 * (r == m) for r in row[:2] for m in row[2:]) / 4 for row in mixed]))
    one_sided = np.mean(np.array(drawn) >= found["accuracy"])
    assert abs(found["p_one_sided"] - one_sided) < 5 * np.sqrt(0.25 / 400 * 2)


def test_inflevel_with_directions_and_repeats():
    rows = random_films("gravity", 4, 5, 100)
    both = [row | dict(dir=way) for row in rows for way in ("left", "right")]
    assert inflevel(both, "gravity", draws=20)["n"] == 2 * inflevel(rows, "gravity", draws=20)["n"]
    with pytest.raises(WrongInput, match="repeats"):
        inflevel(rows + rows[:1], "gravity")
    with pytest.raises(WrongInput, match="trial_type"):
        inflevel(rows, "continuity")


@pytest.mark.parametrize("seed", range(4))
def test_devbench_kl(seed):
    "softmax(beta x score), the mean over trials of KL(human || model) in nats, and the beta between .025 and 40 that makes it least."
    rand = np.random.default_rng(seed)
    human, scores = rand.dirichlet([1.5] * 4, 60), rand.normal(size=(60, 4)) * [0.1, 1, 5, 0.02][seed]
    human[0] = [1, 0, 0, 0]  # a choice that nobody made costs nothing

    def kl(beta):
        odds = np.exp(beta * (scores - scores.max(1, keepdims=True)))
        return rel_entr(human, np.maximum(odds / odds.sum(1, keepdims=True), 1e-300)).sum(1).mean()

    best = direct(lambda b: kl(b[0]), bounds=[(0.025, 40)], f_min_rtol=1e-4, maxfun=200, locally_biased=True)
    found = fitted_kl(human, scores, lo=0.025, hi=40.0)
    assert found["kl"] == pytest.approx(best.fun, abs=2e-4) and found["kl"] <= best.fun + 1e-6
    assert found["kl"] == pytest.approx(kl(found["beta"]), abs=1e-9)
