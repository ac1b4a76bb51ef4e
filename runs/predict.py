"""Out of sight, not out of mind: does a predictor expect a hidden toy? Films, training, quadruplets, comparisons, for several seeds.

    python runs/predict.py OUT --start CLIP_RUN [--seeds 0 1 2] [--films 4000] [--steps 6000] [--quadruplets 120]

CLIP_RUN is a run of the recipe `clip` (of a quickstart, say), whose tower is kept as it is. A seed redraws films, initialisation, order and trials.
An OUT that was interrupted goes on. Writes OUT/predict.json, and prints one line a seed.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np
import torch

from babyvlm.core.statistics import interval, paired
from babyvlm.core.trials import read_trials
from babyvlm.milestones.baselines import PixelChange, grey_clip
from babyvlm.milestones.surprise import score_quadruplets
from babyvlm.models.load import load_learner
from babyvlm.nursery.hide_and_seek import write_films
from babyvlm.nursery.stimuli import write_first_words
from babyvlm.pretraining.recipes import pretrain


class CopyLast:
    "Expects each frame to be the one before, in the learner's own tokens."

    def __init__(self, learner):
        self.learner = learner.fresh(0)
        self.learner.model.load_state_dict(learner.model.state_dict())
        torch.nn.init.zeros_(self.learner.model.change.weight)
        torch.nn.init.zeros_(self.learner.model.change.bias)

    def surprise(self, clips): return self.learner.surprise(clips)


def restless(learner, seed):
    "An untrained twin that is not silent: its last layer is drawn at random."
    twin = learner.fresh(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(): twin.model.change.weight.copy_(.05 * torch.randn(twin.model.change.weight.shape, generator=generator))
    return twin


def judged(learner, trials, seed):
    "Marks of the learner and of all that it is compared with."
    untrained = learner.fresh(seed)
    marks = dict(learner=score_quadruplets(learner, trials, trials.clip), untrained=score_quadruplets(untrained, trials, trials.clip),
                 copy_last=score_quadruplets(CopyLast(learner), trials, trials.clip), pixel_change=score_quadruplets(PixelChange(), trials, trials.clip),
                 grey=score_quadruplets(learner, trials, grey_clip(trials.clip)))
    marks |= {f"restless_{k}": score_quadruplets(restless(learner, 100 * seed + k), trials, trials.clip) for k in range(8)}
    return {name: [mark.credit for mark in some] for name, some in marks.items()}


def walk(out, start, seed, options):
    "One seed from films to figures."
    began, corpus = time.time(), out / f"films{seed}"
    if not (corpus / "corpus.json").is_file(): write_films(corpus, options.films, seed=1000 + seed)
    made = time.time()
    run = pretrain(corpus, out / f"run{seed}", "predict", size=options.size, steps=options.steps, seed=seed, start=start, resume=True)
    trained = time.time()
    folder = out / f"trials{seed}"
    if not (folder / "trials.json").is_file(): write_first_words(folder, n=16, px=64, seed=seed, permanence=options.quadruplets, tasks=())
    trials = read_trials(folder)
    credit = judged(load_learner(run), trials, seed)
    groups = [f"q{k}" for k in range(len(credit["learner"]))]
    result = dict(minutes=dict(films=round((made - began) / 60, 1), training=round((trained - made) / 60, 1), trials_and_judging=round((time.time() - trained) / 60, 1)),
                  n=len(groups), restless=[float(np.mean(credit[f"restless_{k}"])) for k in range(8)])
    for name in ("learner", "untrained", "copy_last", "pixel_change", "grey"):
        score, lo, hi = interval(credit[name], groups)
        result[name] = dict(score=score, lo=lo, hi=hi)
        if name != "learner": result[name]["learner_minus_it"] = paired(credit["learner"], credit[name], groups)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--films", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--quadruplets", type=int, default=120)
    parser.add_argument("--size", default="tiny")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    result = dict(date=str(datetime.date.today()), films=options.films, steps=options.steps, seeds={})
    for seed in options.seeds:
        result["seeds"][seed] = one = walk(options.out, options.start, seed, options)
        (options.out / "predict.json").write_text(json.dumps(result, indent=1))
        print(f"seed {seed}: " + ", ".join(f"{name} {one[name]['score']:.3f} [{one[name]['lo']:.3f}, {one[name]['hi']:.3f}]" for name in ("learner", "untrained", "copy_last", "pixel_change", "grey")))


if __name__ == "__main__":
    main()
