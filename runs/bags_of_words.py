"""Bags of words, and the cure: does a dual encoder learn who stands where, and do swapped captions teach it? (ARO / NegCLIP in miniature.)

    python runs/bags_of_words.py OUT [--seeds 0 1 2] [--steps 600] [--fast]

Two batch compositions (random; *apart*: no two pictures of a batch hold the same toys) × three objectives (contrast; with relation swaps; with relation and
attribute swaps). Six arms a seed; a seed redraws pictures, held-out toys, initialisation and order. Nouns-and-colours of a fifth of the scenes are held out.
Refuted if, in batches kept apart, both negatives lift the held-out relation swap by less than 10 points, or retrieval falls by more than 3.
Writes OUT/bags_of_words.json and prints the table.
"""

import argparse
import datetime
import itertools
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from babyvlm.core.basics import fast, make_folder, rng, write_json
from babyvlm.core.statistics import interval, paired
from babyvlm.core.trials import TrialsWriter, read_trials
from babyvlm.models.clip import Clip, ClipConfig, text_config
from babyvlm.models.learners import ClipLearner
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.models.vision import VisionConfig, to_pixels
from babyvlm.nursery.packs import CLEAR, COMPOSITION, Side, phrase, write_square
from babyvlm.nursery.stimuli import Studio
from babyvlm.pretraining.hard_negatives import hard_batch, hard_negative, swaps, turned
from babyvlm.pretraining.loop import Trainer
from babyvlm.probing.composition import BagOfWords, answers, text_only

NOUNS = ("ball", "duck", "cup", "teddy")
CLASSES = [set(NOUNS), set(CLEAR)]
PX = 32
FULL = dict(takes=8, squares=60, steps=600, batch=64, rate=2e-3)
FAST = dict(takes=1, squares=3, steps=4, batch=24, rate=2e-3)
SHARES = dict(left=0.5, both=0.25, without=0.25)  # of the captions
NEGATIVES = {"contrast": None, "+ relation": lambda text: turned(text, CLASSES), "+ both": lambda text: turned(text, CLASSES) + swaps(text, CLASSES[1:])}


def bags(seed):
    "All sets of two toys; a fifth is held out."
    every = [(ns, cs) for ns in itertools.combinations(NOUNS, 2) for cs in itertools.combinations(CLEAR, 2)]
    order = rng(seed, "bags of words", "held out").permutation(len(every))
    return [every[k] for k in order[len(every) // 5 :]], [every[k] for k in order[: len(every) // 5]]


def facts(bag):
    "The four pictures that two nouns and two colours make."
    (m, n), (c, d) = bag
    return [(a, b) for x, y in (((m, c), (n, d)), ((m, d), (n, c))) for a, b in ((x, y), (y, x))]


def drawn(job):
    "One picture to learn from."
    toys, number, seed = job
    return Side(toys, NOUNS, f"to learn from {number}").draw(1000 + seed, PX)[0]


def pictures(seed, plan, workers):
    "What there is to see: uint8 (n, px, px, 3), the toys of each, the number of its bag."
    seen, _ = bags(seed)
    jobs = [(toys, f"{k} {j} {take}", seed) for k, bag in enumerate(seen) for j, toys in enumerate(facts(bag)) for take in range(plan["takes"])]
    if workers == 1: images = list(map(drawn, jobs))  # fmt: skip
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            images = list(pool.map(drawn, jobs, chunksize=16))
    return np.stack(images), [toys for toys, *_ in jobs], np.array([int(name.split()[0]) for _, name, _ in jobs])


def caption(toys, stream):
    "Something true of a picture, and how to tell of which others it is true."
    kind, way = stream.choice(list(SHARES), p=list(SHARES.values())), int(stream.integers(2))
    a, b = toys if kind == "left" else [toys[k] for k in stream.permutation(2)]
    if kind == "without":
        b = (str(stream.choice([n for n in NOUNS if n not in (toys[0][0], toys[1][0])])), "")
    return kind, phrase(kind, way, a, b), a, b


def true_of(said, toys):
    "Whether a caption is true of a picture."
    kind, _, a, b = said
    names = {noun for noun, _ in toys}
    return tuple(toys) == (a, b) if kind == "left" else set(toys) == {a, b} if kind == "both" else a[0] in names and b[0] not in names


def turned_truth(text, shown):
    "Whether a swapped caption happens to be true of one of the pictures of a batch."
    return any(
        text in (phrase(kind, way, *pair) for kind in ("left", "both") for way in (0, 1) for pair in ((toys,) if kind == "left" else (toys, toys[::-1])))
        for toys in shown
    )


def batch_of(seen, step, seed, plan, apart, wrong, tokenizer):
    "A batch, and the share of its pictures whose toys another picture has in another way."
    images, toys, bag = seen
    stream = rng(seed, "bags of words", "order", step)
    order = stream.permutation(len(toys))
    if apart:
        order = order[np.sort(np.unique(bag[order], return_index=True)[1])]
    rows = order[: plan["batch"]]
    shown = [toys[k] for k in rows]
    said = [caption(t, stream) for t in shown]
    allowed = wrong and (lambda text: [other for other in wrong(text) if not turned_truth(other, shown)])
    batch = hard_batch(to_pixels(images[rows]), [text for _, text, _, _ in said], tokenizer, allowed, seed, step)
    batch["same"] = torch.tensor([[true_of(s, t) for s in said] for t in shown])
    confusable = np.mean(
        [any(set(n for n, _ in t) == set(n for n, _ in u) and set(c for _, c in t) == set(c for _, c in u) and t != u for u in shown) for t in shown]
    )
    return batch, confusable


def every_caption():
    "All that is ever said, for the tokenizer."
    toys = list(itertools.product(NOUNS, CLEAR))
    return [phrase(kind, way, a, b) for a in toys for b in toys if a[0] != b[0] and a[1] != b[1] for kind in SHARES for way in (0, 1)]


def new_learner(seed, tokenizer):
    "A quarter of a million weights."
    ids = {k: getattr(tokenizer, k) for k in ("pad_token_id", "bos_token_id", "eos_token_id")}
    vision = VisionConfig(image_px=PX, stem=[32, 64], width=64, layers=3, heads=4)
    torch.manual_seed(seed)
    model = Clip(ClipConfig(vision, text_config(len(tokenizer), width=64, layers=2, limit=24, **ids), joint=64, text_kind="transformer"))
    return ClipLearner(model, tokenizer, name="bags", seed=seed)


def train(seen, seed, plan, apart, wrong, tokenizer):
    "One arm: the learner, its last losses, the confusable share and the seconds it took."
    learner, began, shares, losses = new_learner(seed, tokenizer), time.process_time(), [], []
    trainer = Trainer(learner.model, hard_negative, lr=plan["rate"], steps=plan["steps"], decay=0.99)
    for step in range(plan["steps"]):
        batch, share = batch_of(seen, step, seed, plan, apart, wrong, tokenizer)
        losses.append(trainer.take(batch)["loss"])
        shares.append(share)
    learner.model = trainer.average
    return ClipLearner(trainer.average, tokenizer, name="bags", seed=seed), dict(
        loss=float(np.mean(losses[-20:])), confusable=float(np.mean(shares)), cpu_s=time.process_time() - began
    )


def write_trials(path, some, seed, squares, workers):
    "A trials folder about these bags only."
    stream = rng(seed, "bags of words", str(path.name))
    with TrialsWriter(path, dict(name="runs/bags_of_words.py"), seed) as writer, Studio(writer, seed, PX, workers, "composition", NOUNS) as studio:
        for task in COMPOSITION:
            for number in range(squares):
                (m, n), (c, d) = some[int(stream.integers(len(some)))]
                (m, n), (c, d) = ([str(w) for w in stream.permutation(pair)] for pair in ((m, n), (c, d)))
                third = str(stream.choice([w for w in NOUNS if w not in (m, n)]))
                write_square(studio, task, number, ((m, c), (n, d), third))
    return read_trials(path)


def gallery(some, seed):
    "Every fact of some toys: one picture and one caption each."
    every = [toys for bag in some for toys in facts(bag)]
    return [drawn((toys, f"retrieval {k}", seed)) for k, toys in enumerate(every)], [phrase("left", 0, *toys) for toys in every]


def retrieval(learner, images, texts):
    "R@1 of texts for pictures."
    return (learner.similarity(images, texts).argmax(1) == np.arange(len(texts))).astype(float)


def one_seed(out, seed, plan, workers):
    "All arms of a seed: rows of credits, and what each arm cost."
    seen_bags, held = bags(seed)
    seen, shown, tokenizer = pictures(seed, plan, workers), gallery(held, seed), train_tokenizer(every_caption())
    packs = {name: write_trials(out / f"seed{seed}" / name, some, seed, plan["squares"], workers) for name, some in (("seen", seen_bags), ("held_out", held))}
    rows, costs, arms = [], {}, {f"{batches}, {cure}": (batches == "apart", wrong) for batches in ("random", "apart") for cure, wrong in NEGATIVES.items()}
    for arm, (apart, wrong) in arms.items():
        learner, costs[arm] = train(seen, seed, plan, apart, wrong, tokenizer)
        for name, trials in packs.items():
            rows.append(answers(learner, trials).assign(arm=arm, pack=name, seed=seed))
        found = retrieval(learner, *shown)
        rows.append(pd.DataFrame(dict(task="R@1", scene=np.arange(len(found)), credit=found, chance=1 / len(found), arm=arm, pack="held_out", seed=seed)))
        print(
            seed,
            arm,
            {k: round(v, 3) for k, v in costs[arm].items()},
            rows[-2].groupby("task", sort=False).credit.mean().round(3).to_dict(),
            round(found.mean(), 3),
            flush=True,
        )
    for name, trials in packs.items():
        rows.append(answers(BagOfWords(trials), trials).assign(arm="a perfect bag of words", pack=name, seed=seed))
        rows += [text_only([t for t in trials if t.task == task], seed=seed).assign(task=task, arm="text only", pack=name, seed=seed) for task in COMPOSITION]
    return pd.concat(rows), costs


def lift(table, a, b, task, pack="held_out"):
    "One arm over another, paired by trial, clustered by square."
    one, other = (table[(table.arm == arm) & (table.task == task) & (table.pack == pack)] for arm in (a, b))
    return {k: round(float(v), 4) for k, v in paired(one.credit.to_numpy(), other.credit.to_numpy(), [f"{s} {k}" for s, k in zip(one.seed, one.scene)]).items()}


def figures(table):
    "Every arm × pack × task with its interval, and the lifts that were predicted."
    cells = [dict(arm=arm, pack=pack, task=task, **dict(zip(("score", "lo", "hi"), (round(v, 4) for v in interval(some.credit, [f"{s} {k}" for s, k in zip(some.seed, some.scene)])))),
                  chance=float(some.chance.mean()), by_seed=some.groupby("seed").credit.mean().round(4).tolist()) for (arm, pack, task), some in table.groupby(["arm", "pack", "task"], sort=False)]  # fmt: skip
    lifts = {f"{cure}, {batches}: {task}": lift(table, f"{batches}, {cure}", f"{batches}, contrast", task)
             for batches in ("random", "apart") for cure in ("+ relation", "+ both") for task in (*COMPOSITION, "R@1")}  # fmt: skip
    relation, recall = lifts["+ both, apart: relation_swap"]["delta"], lifts["+ both, apart: R@1"]["delta"]
    return dict(cells=cells, lifts=lifts, refuted=bool(relation < 0.1 or recall < -0.03))


def bags_of_words(out, seeds, plan, workers=None):
    "All seeds; returns what is written to OUT/bags_of_words.json."
    out, tables, result = make_folder(out), [], dict(date=str(datetime.date.today()), plan=plan, seeds=list(seeds), costs={})
    for seed in seeds:
        table, result["costs"][str(seed)] = one_seed(out, seed, plan, workers or os.cpu_count())
        tables.append(table)
        result |= figures(pd.concat(tables))
        write_json(out / "bags_of_words.json", result)
    return result


def page(result):
    "The table in Markdown, held-out toys."
    tasks = [*COMPOSITION, "R@1"]
    rows = [f"| arm | {' | '.join(tasks)} |", "| --- |" + " --- |" * len(tasks)]
    of = {(c["arm"], c["task"]): c for c in result["cells"] if c["pack"] == "held_out"}
    for arm in dict.fromkeys(arm for arm, _ in of):
        cells = [of.get((arm, task)) for task in tasks]
        rows.append(f"| {arm} | " + " | ".join(f"{c['score']:.2f} [{c['lo']:.2f}, {c['hi']:.2f}]" if c else "–" for c in cells) + " |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--fast", action="store_true", default=fast())
    options = parser.parse_args()
    plan = (FAST if options.fast else FULL) | (dict(steps=options.steps) if options.steps else {})
    result = bags_of_words(options.out, options.seeds, plan, options.workers)
    print(page(result))
    print(json.dumps({k: v for k, v in result["lifts"].items() if "apart" in k}, indent=1))
    print(
        "refuted" if result["refuted"] else "holds: the cure lifts the held-out relation swap by 10 points or more, and retrieval does not fall by more than 3"
    )


if __name__ == "__main__":
    main()
