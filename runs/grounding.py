"""Does a learner's map for a noun fall on that thing? Attention or patch–word similarity, rollout and occlusion, against a coin and untrained twins.

    python runs/grounding.py OUT RUN [RUN …] [--pictures 400] [--twins 3] [--seed 0]

RUN is a run folder (of a quickstart, say). Every picture holds two things and is asked about both; the scenes were in no recording. Writes OUT/grounding.json and OUT/grounding.png, and prints one line a measure.
"""

import argparse
import datetime
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from babyvlm.core.basics import fast
from babyvlm.core.show import show_grid
from babyvlm.core.statistics import interval
from babyvlm.models.load import load_learner
from babyvlm.nursery.scene import two_in_view
from babyvlm.probing.capture import beside_untrained, captured, rows_of, spotlight
from babyvlm.probing.grounding import MEASURES, Sighting, asked, best_head, grounding, grounds, verdict
from babyvlm.probing.head_kinds import head_kinds
from babyvlm.probing.occlusion import missed
from babyvlm.probing.rollout import rolled
from babyvlm.probing.weights import recorded

def sighted(seed, number):
    "A picture of two toys with different nouns, and the place of each."
    return Sighting(**two_in_view(number, seed))


def by_capture(learner, sightings): return asked(learner, sightings)


def by_rollout(learner, sightings): return asked(learner, sightings, capture=lambda *given: [replace(c, maps=c.maps[-1:]) for c in rolled(*given)])


def by_occlusion(learner, sightings):
    captures = (missed(learner, s.picture, s.nouns) for s in sightings)
    return grounding((c for c, s in zip(captures, sightings) for _ in s.nouns), sightings)


def mean_of(tables):
    "The same questions put to several twins: the mean of their scores."
    return pd.concat(tables).groupby(["sighting", "noun", "layer", "head"], sort=False, as_index=False)[["on_it", "rather"]].mean()


def ways_of(learner, picture):
    "How this learner can be looked into: name → function of a learner and sightings."
    kind = captured(learner, [picture], ["look"])[0].kind
    return {kind: by_capture} | ({"rollout": by_rollout} if kind == "attention" else {}) | {"occlusion": by_occlusion}


def figures(result):
    "A verdict as plain numbers."
    rounded = lambda d: {k: round(float(v), 5) for k, v in d.items()}
    return {measure: rounded({k: row[k] for k in ("score", "lo", "hi", "twin", "n", "pictures")}) | dict(over_chance=rounded(row["over_chance"]), over_twin=rounded(row["over_twin"]))
            for measure, row in result.iterrows()} | dict(grounds=grounds(result))


def study(learner, sightings, twins=3):
    "Every way of looking at one learner: the mean of all heads, and the best head where there are several."
    found, untrained = {}, [learner.fresh(seed) for seed in range(twins)]
    for name, way in ways_of(learner, sightings[0].picture).items():
        began = time.time()
        table, twin = way(learner, sightings), mean_of([way(other, sightings) for other in untrained])
        found[name] = figures(verdict(table, twin)) | dict(seconds=round(time.time() - began, 1))
        if len(table) > 2 * len(table[table.layer < 0]): found[f"{name}, best head"] = figures(verdict(best_head(table), best_head(twin)))
    return found


def alike(tokens):
    "Mean cosine between the patches (B, N, D) of a picture: 1 when they cannot be told apart."
    unit = torch.nn.functional.normalize(tokens.float(), dim=-1)
    between = unit @ unit.transpose(1, 2)
    N = between.shape[1]
    return round(float((between.sum((1, 2)) - N).mean() / (N * (N - 1))), 5)


@torch.inference_mode()
def tower(learner, pictures):
    "What the vision tower makes of patches: how alike they are after it and on entering the language model, how even its attention is, what kinds of heads it has."
    vision, seen = learner.model.vision, []
    pixels = learner.pixels(pictures)
    weights = recorded(vision, lambda: seen.append(vision(pixels)))
    found = dict(alike=alike(seen[0]), evenness=[round(float(-(w * np.log(np.maximum(w, 1e-12))).sum(-1).mean() / np.log(w.shape[-1])), 4) for w in weights.values()],
                 heads=head_kinds(weights).kind.value_counts().to_dict(), dependence=head_kinds(weights).groupby("module", sort=False).dependence.mean().round(4).tolist())
    if hasattr(learner.model, "connector"): found["alike_in_language"] = alike(learner.model.image_tokens(pixels)[:, -seen[0].shape[1]:])
    return found


SWAPS = dict(nothing=lambda out: out, patches=lambda out: torch.cat([out[:, :1], out[:, 1:].flip(0)], 1), whole=lambda out: torch.cat([out[:, :1].flip(0), out[:, 1:]], 1))


def exchanged(learner, one, other, swap):
    "Two pictures exchange what `swap` says on entering the language model: whether each still makes its own noun likelier than the other's."
    nouns = [next(n for n in s.nouns if n not in t.nouns) for s, t in ((one, other), (other, one))]
    hook = learner.model.connector.register_forward_hook(lambda module, given, out: swap(out))
    try:
        learner.forget()
        scores = learner.logprob([[one.picture, "look at the"], [other.picture, "look at the"]], [nouns] * 2)[0]
    finally:
        hook.remove()
        learner.forget()
    return [float(scores[0, 0] > scores[0, 1]), float(scores[1, 1] > scores[1, 0])]


def who_speaks(learner, sightings):
    "Which part of what the language model gets of a picture decides its words: the token for the whole, or the patches."
    pairs = [(a, b) for a, b in zip(sightings[::2], sightings[1::2]) if not set(a.nouns) & set(b.nouns)]
    found = {}
    for name, swap in SWAPS.items():
        credits = np.ravel([exchanged(learner, a, b, swap) for a, b in pairs])
        score, lo, hi = interval(credits, np.repeat(np.arange(len(pairs)), 2))
        found[name] = dict(score=round(score, 4), lo=round(lo, 4), hi=round(hi, 4), n=len(credits))
    return found


def pictured(learners, some):
    "A row for each noun: the scene, and for each learner its map, its twin's map and what it misses; returns a figure."
    images, titles = [], []
    for s in some:
        for noun in s.nouns:
            images, titles = [*images, s.picture], [*titles, f"the {noun}?"]
            for learner in learners:
                one, twin = beside_untrained(learner, [s.picture], [f"look at the {noun}"])[0]
                lost = missed(learner, s.picture, [noun])
                maps = [capture.maps[:, :, rows_of(capture.words, noun)].mean((0, 1, 2)) for capture in (one, twin, lost)]
                images += [spotlight(s.picture, heat) for heat in maps]
                titles += [f"{learner.name}:\n{one.kind}", "untrained:\n" + one.kind, f"{learner.name}:\nocclusion"]
    return show_grid(images, titles, cols=1 + 3 * len(learners), inches=1.3, alt="Two things in each scene, each asked for: where each learner looks, where its untrained twin looks, what it misses when covered")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--pictures", type=int, default=12 if fast() else 400)
    parser.add_argument("--twins", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, nargs="+", default=[1, 6], help="which pictures stand in the figure")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sightings = list(map(partial(sighted, options.seed), range(options.pictures)))
    result = dict(date=str(datetime.date.today()), pictures=options.pictures, twins=options.twins, seed=options.seed, learners={})
    learners = [load_learner(run) for run in options.runs]
    pictured(learners, [sightings[k % len(sightings)] for k in options.show]).savefig(options.out / "grounding.png", dpi=80)
    for learner in learners:
        key = f"{learner.name}, seed {learner.seed}, step {learner.step}"
        result["learners"][key] = one = study(learner, sightings, options.twins)
        one["tower"] = {who: tower(other, [s.picture for s in sightings[:48]]) for who, other in (("learner", learner), ("twin", learner.fresh(0))) if hasattr(other.model, "vision")}
        if getattr(learner.model.config, "whole", False): one["exchange"] = who_speaks(learner, sightings)
        (options.out / "grounding.json").write_text(json.dumps(result, indent=1))
        for name, row in one.items():
            if name in ("tower", "exchange"): print(f"{key}, {name}: {row}", flush=True)
            for measure in [m for m in MEASURES if m in row]:
                r = row[measure]
                print(f"{key}, {name}, {measure}: {r['score']:.3f} [{r['lo']:.3f}, {r['hi']:.3f}], twins {r['twin']:.3f}, over them {r['over_twin']['delta']:.3f} [{r['over_twin']['lo']:.3f}, {r['over_twin']['hi']:.3f}]", flush=True)


if __name__ == "__main__":
    main()
