"""Battle of the tiny backbones: three architectures × three ways of learning, and none, by one protocol.

    python runs/battle.py OUT [--seeds 0 1 2] [--steps 400] [--fast]

Backbones: a plain vision transformer, a transformer over a convolutional stem, a ResNeXt. Each is untrained, or learns from the same pictures the same number of steps:
supervised (which noun), contrastive (picture and words), masked (covered blocks painted in again, L1 on them alone). Probes on other pictures: noun by linear,
nearest-neighbour and few-shot probe, colour and size by linear probe. A seed redraws initialisation and order. Then the same encoders at another size and with another
normalisation than they learnt with. Refuted if an untrained backbone is not last, if two seeds of one recipe tie in 90 % of duels or fewer, or if the mismatch costs 5 points or less.
Writes OUT/battle.json and OUT/battle.parquet; vectors are kept in OUT/cache, and
`python runs/battle.py OUT --again` makes the tables anew from there, without training or looking.
"""

import argparse
import datetime
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from babyvlm.core.basics import WrongInput, fast, make_folder, read_json, rng, write_json
from babyvlm.core.statistics import paired
from babyvlm.models.vision import VisionConfig, VisionTower
from babyvlm.nursery.scene import one_toy_scene, still
from babyvlm.nursery.shapes import COLOURS
from babyvlm.nursery.things import FIRST_NOUNS, FIRST_SIZES
from babyvlm.probing.linear import linear
from babyvlm.probing.neighbours import few_shot, neighbours
from babyvlm.probing.protocol import Contract, Encoder, Question, duels, grid, prepared, ranks, seed_ties, tower_encoder, win_tie_loss
from babyvlm.probing.splits import folds

PX = 32
CONTRACT, LARGER, OTHER = Contract(PX), Contract(48), Contract(PX, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BACKBONES = dict(
    vit=dict(stem=[], patch=8, width=64, layers=4, heads=4),
    conv_vit=dict(stem=[32, 64], width=64, layers=3, heads=4),
    resnext=dict(kind="resnext", blocks=[1, 1], first=32, groups=8, group_width=16),
)  # fmt: skip
FULL = dict(learn=1600, ask=480, steps=400, batch=64, rate=1e-3)
FAST = dict(learn=48, ask=96, steps=3, batch=16, rate=1e-3)
NOUNS = FIRST_NOUNS


def picture(job):
    "One toy, and what it is; the words go round so that each comes equally often."
    number, seed, split = job
    noun, colour, size = (
        NOUNS[number % len(NOUNS)],
        list(COLOURS)[number // len(NOUNS) % len(COLOURS)],
        FIRST_SIZES[(number + number // len(NOUNS) + number // (len(NOUNS) * len(COLOURS))) % 2],
    )
    stream = rng(seed, "stimuli", "battle", split, number)
    return still(one_toy_scene(stream, noun, colour, size), PX, stream, samples=2)[0], noun, colour, size


def several(function, jobs, workers):
    "The results of all jobs, in order."
    if workers == 1: return list(map(function, jobs))  # fmt: skip
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(function, jobs, chunksize=16))


def drawn(number, split, workers):
    "Pictures and their words."
    found = several(picture, [(k, 0, split) for k in range(number)], workers)
    return [np.stack([row[0] for row in found])] + [np.array([row[k] for row in found]) for k in (1, 2, 3)]


class Supervised(nn.Module):
    "Which noun?"

    def __init__(self, tower, data):
        super().__init__()
        self.tower, self.head, self.wanted = tower, nn.Linear(tower.config.width, len(NOUNS)), torch.tensor([NOUNS.index(n) for n in data[1]])

    def forward(self, pixels, rows, stream):
        return cross_entropy(self.head(self.tower(pixels).mean(1)), self.wanted[rows])


class Contrastive(nn.Module):
    "Picture and words (noun and colour), by the symmetric contrast; equal words belong together."

    def __init__(self, tower, data):
        super().__init__()
        self.tower, self.head, self.words = tower, nn.Linear(tower.config.width, 64), nn.Embedding(len(NOUNS) + len(COLOURS), 64)
        self.said = torch.tensor([[NOUNS.index(n), len(NOUNS) + list(COLOURS).index(c)] for n, c in zip(data[1], data[2])])
        self.log_scale = nn.Parameter(torch.tensor(np.log(1 / 0.2), dtype=torch.float32))

    def forward(self, pixels, rows, stream):
        said = self.said[rows]
        scores = self.log_scale.clamp(0, 4.6).exp() * normalize(self.head(self.tower(pixels).mean(1)), dim=-1) @ normalize(self.words(said).sum(1), dim=-1).T
        same = (said[:, None] == said).all(-1).float()
        share = same / same.sum(1, keepdim=True)
        return (cross_entropy(scores, share) + cross_entropy(scores.T, share)) / 2


class Masked(nn.Module):
    "Half of the 8 × 8 blocks are replaced by noise and painted in again from the tokens (GMML: Atito et al. 2022, arXiv 2205.14986; L1 on what was covered)."

    def __init__(self, tower, data):
        super().__init__()
        side = tower.config.grid
        self.tower, self.side, self.paint = tower, side, nn.Linear(tower.config.width, 3 * (PX // side) ** 2)

    def forward(self, pixels, rows, stream):
        covered = torch.from_numpy(stream.random((len(pixels), 1, 4, 4)) < 0.5).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
        noise = torch.from_numpy(stream.uniform(-1, 1, pixels.shape).astype(np.float32))
        tokens = self.tower(pixels * (1 - covered) + noise * covered)[:, -(self.side**2) :]
        painted = nn.functional.pixel_shuffle(self.paint(tokens).transpose(1, 2).unflatten(2, (self.side, self.side)), PX // self.side)
        return ((painted - pixels).abs() * covered).sum() / (3 * covered.sum())


LEARNING = dict(untrained=None, supervised=Supervised, contrastive=Contrastive, masked=Masked)


def learnt(backbone, way, seed, data, plan):
    "A tower that has learnt, and its first and last losses."
    torch.manual_seed(1000 + seed)
    tower, losses = VisionTower(VisionConfig(image_px=PX, **BACKBONES[backbone])), []
    if LEARNING[way] is None:
        return tower, losses
    task, pixels = LEARNING[way](tower, data), torch.from_numpy(prepared(data[0], CONTRACT).pixels)
    optimizer = torch.optim.AdamW(task.parameters(), lr=plan["rate"], weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan["rate"], plan["steps"] + 1)
    for step in range(plan["steps"]):
        stream = rng(seed, "battle", step)
        rows = torch.from_numpy(stream.choice(len(pixels), plan["batch"], replace=False))
        seen = pixels[rows].flip(3) if stream.random() < 0.5 else pixels[rows]
        loss = task.train()(seen, rows, stream)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return tower, losses


def encoders_of(seeds, data, plan):
    "All towers as encoders, and what each cost."
    found, costs = [], {}
    for backbone in BACKBONES:
        for way in LEARNING:
            for seed in seeds:
                began = time.process_time()
                tower, losses = learnt(backbone, way, seed, data, plan)
                found.append(tower_encoder(f"{backbone}, {way}", seed, tower, CONTRACT))
                costs[f"{backbone}, {way}, {seed}"] = dict(
                    cpu_s=round(time.process_time() - began, 1),
                    weights=sum(p.numel() for p in tower.parameters()),
                    first=losses[:1],
                    last=[float(np.mean(losses[-20:]))] if losses else [],
                )
                print(f"{backbone}, {way}, {seed}", costs[f"{backbone}, {way}, {seed}"], flush=True)
    return found, costs


def questions_of(asked, fewest):
    "Five probes; every picture is a scene of its own, none of them was learnt from."
    _, nouns, colours, sizes = asked
    scenes = np.arange(len(nouns))
    ask = lambda name, labels, predict: Question(name, labels, predict, scenes, folds(scenes, labels, 4))
    return [ask("noun, linear", nouns, linear()), ask("noun, neighbours", nouns, neighbours()), ask("noun, few shots", nouns, few_shot(fewest)),
            ask("colour, linear", colours, linear()), ask("size, linear", sizes, linear())]  # fmt: skip


def mismatch(encoders, asked, questions):
    "What it costs to ask trained encoders at another size, or with another normalisation: points of the linear noun probe fitted to pictures as they should be."
    question, found = questions[0], {}
    for name, contract in (("size", LARGER), ("normalisation", OTHER)):
        rows = []
        for encoder in [e for e in encoders if "untrained" not in e.kind]:
            right, wrong = encoder(prepared(asked[0], CONTRACT)), encoder(prepared(asked[0], contract), anyway=True)
            answers = np.concatenate(
                [
                    question.predict(right[train], question.labels[train], np.concatenate([right[test], wrong[test]])).reshape(2, -1) == question.labels[test]
                    for train, test in question.splits
                ],
                1,
            )
            rows += [dict(kind=encoder.kind, example=k, right=float(a), wrong=float(b)) for k, (a, b) in enumerate(answers.T)]
        some = pd.DataFrame(rows)
        found[name] = {
            kind: {k: round(v, 4) for k, v in paired(own.right.to_numpy(), own.wrong.to_numpy(), own.example.to_numpy()).items()}
            for kind, own in some.groupby("kind", sort=False)
        }
        found[name]["all"] = {k: round(v, 4) for k, v in paired(some.right.to_numpy(), some.wrong.to_numpy(), some.example.to_numpy()).items()}
    return found


def refuted(result):
    "The predictions that failed, in words."
    order = list(result["ranks"])
    worst, share = order[-len(BACKBONES) :], result["seed_ties"]["share"]
    failed = [] if set(worst) == {f"{b}, untrained" for b in BACKBONES} else [f"the last {len(worst)} are {', '.join(worst)}, not the untrained"]
    if share is not None and not share > 0.9:
        failed.append(f"two seeds of one recipe tie in {share:.0%} of duels")
    return failed + [f"another {name} costs {row['all']['delta']:.3f}" for name, row in result["mismatch"].items() if not row["all"]["delta"] > 0.05]


def battle(out, seeds, plan, workers=None):
    "The whole table; returns what is written to OUT/battle.json."
    out, began, workers = make_folder(out), time.time(), workers or os.cpu_count()
    data, asked = drawn(plan["learn"], "learn", workers), drawn(plan["ask"], "ask", workers)
    encoders, costs = encoders_of(seeds, data, plan)
    questions = questions_of(asked, 5 if plan["ask"] >= 320 else 2)
    table = grid(encoders, asked[0], questions, out / "cache")
    table.to_parquet(out / "battle.parquet")
    write_json(out / "keys.json", dict(encoders=[[e.kind, e.seed, e.key] for e in encoders]))
    result = (
        dict(date=str(datetime.date.today()), plan=plan, seeds=list(seeds), costs=costs) | tables(table) | dict(mismatch=mismatch(encoders, asked, questions))
    )
    result |= dict(refuted=refuted(result), minutes=round((time.time() - began) / 60, 2))
    write_json(out / "battle.json", result)
    return result


def tables(table):
    "Scores, ranks, duels and the ties of seeds."
    met, order = duels(table), ranks(table)
    share, number = seed_ties(met)
    scores = table.groupby(["kind", "question"]).credit.mean().unstack().loc[order.index]
    as_rows = lambda frame: frame.round(4).to_dict("index")
    return dict(scores=as_rows(scores), ranks=as_rows(order), win_tie_loss=as_rows(win_tie_loss(met)), seed_ties=dict(share=share if number else None, duels=number))


def gone(pixels):
    raise WrongInput("battle: a vector is missing from the cache; run without --again")


def again(out, workers=None):
    "The tables from the cache alone; what needs the encoders themselves is as it was."
    result, asked_for = read_json(out / "battle.json", "battle"), read_json(out / "keys.json", "battle")["encoders"]
    asked = drawn(result["plan"]["ask"], "ask", workers or os.cpu_count())
    encoders = [Encoder(kind, seed, gone, CONTRACT, key) for kind, seed, key in asked_for]
    return result | tables(grid(encoders, asked[0], questions_of(asked, 5 if result["plan"]["ask"] >= 320 else 2), out / "cache"))


def page(result):
    "The table in Markdown, the best first."
    names = list(next(iter(result["scores"].values())))
    rows = [f"| encoder | {' | '.join(names)} | mean rank | win / tie / loss |", "| --- |" + " --- |" * (len(names) + 2)]
    for kind, row in result["ranks"].items():
        met = result["win_tie_loss"][kind]
        rows.append(
            f"| {kind} | "
            + " | ".join(f"{result['scores'][kind][n]:.2f}" for n in names)
            + f" | {row['rank']:.1f} [{row['lo']:.1f}, {row['hi']:.1f}] | {met['win']:.2f} / {met['tie']:.2f} / {met['loss']:.2f} |"
        )
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--fast", action="store_true", default=fast())
    options = parser.parse_args()
    plan = (FAST if options.fast else FULL) | (dict(steps=options.steps) if options.steps else {})
    result = again(options.out, options.workers) if options.again else battle(options.out, options.seeds, plan, options.workers)
    print(page(result))
    print({k: result[k] for k in ("seed_ties", "mismatch", "minutes")})
    print("; ".join(result["refuted"]) or "holds: the untrained are last, seeds tie, a mismatch costs more than 5 points")


if __name__ == "__main__":
    main()
