"""What a generative learner needs to begin to look: `babyllava` from nothing, one factor at a time.

    python runs/scratch.py OUT CORPUS [--ways alone tower_first …] [--seed 0] [--steps 2000] [--fast]

CORPUS is of the quickstart's world. Every way gives the causal objective the same number of steps on the image view, at the recipe's rate; a stage before it, or a second objective, comes on top. Written down for each: picture
vocabulary and looking while listening beside the untrained twin, the blind selves and the histogram; what the right picture is worth (the loss with another's pictures less the loss with the right ones, natural logarithm per
token); and how much of what the tower says of a picture is that picture's own (the spread between pictures of its tokens, as a share of their length). Everything in OUT can be continued.
Writes OUT/scratch.json and OUT/scratch.md. `--fast` walks the same road with far too few of everything.
"""

import argparse
import datetime
from pathlib import Path

import torch

from babyvlm.cli.quickstart import TRIALS, judge_runs
from babyvlm.core.basics import WrongInput, make_folder, read_json, write_json
from babyvlm.core.trials import read_trials
from babyvlm.models.load import load_learner
from babyvlm.nursery.stimuli import write_first_words
from babyvlm.pretraining.recipes import pretrain

TASKS = ("picture_vocabulary", "looking_while_listening")
JOINT = dict(name="joint", objectives=["causal_lm"], lr=1.5e-3)
SEE = dict(name="see", objectives=["contrastive"], model="clip", lr=1e-3)
LISTEN = dict(name="listen", objectives=["causal_lm"], views=["text"], lr=1e-3, freeze=["vision", "image_head", "connector"])
WAYS = {  # name: (what it changes, stages; a share of 1 is the steps of the causal objective)
    "alone": ("the causal objective alone", [JOINT]),
    "tower_first": ("a tower that learnt by contrast first", [SEE, JOINT]),
    "tower_kept": ("the same, and the tower stays as it is", [SEE, JOINT | dict(freeze=["vision", "image_head"])]),
    "in_turn": ("contrast and the causal objective in turn", [JOINT | dict(objectives=["causal_lm", "contrastive"], share=2.0)]),
    "words_first": ("a language model that learnt the speech first", [LISTEN, JOINT]),
    "patches_only": ("no token for the whole picture", [JOINT]),
    "tower_first_patches_only": ("contrast first, and no token for the whole picture", [SEE, JOINT]),
    "patches_gentle": ("contrast first, no such token, a third of the rate", [SEE, JOINT | dict(lr=5e-4)]),
    "patches_longer_tower": ("three times the contrast first, no such token", [SEE | dict(share=3.0), JOINT]),
    "patches_centred": ("contrast first, no such token, and a batch norm takes off the patches what all of them share", [SEE, JOINT]),
    "centred": ("contrast first, the token, and that batch norm", [SEE, JOINT]),
    "patches_centred_alone": ("the causal objective alone, no such token, and that batch norm", [JOINT]),
    "gentle": ("a third of the rate", [JOINT | dict(lr=5e-4)]),
    "longer": ("the causal objective alone, three times as long", [JOINT | dict(share=3.0)]),
}
CONFIG = dict(in_turn=dict(contrast=True), centred=dict(centred=True)) | dict.fromkeys(("patches_only", "tower_first_patches_only", "patches_gentle", "patches_longer_tower"), dict(whole=False))
CONFIG |= dict.fromkeys(("patches_centred", "patches_centred_alone"), dict(whole=False, centred=True))


def trained(way, out, corpus, seed, steps):
    "One run."
    stages = WAYS[way][1]
    total = int(steps * sum(stage.get("share", 1.0) for stage in stages))
    return pretrain(corpus, out / way, dict(name=way, model="babyllava", stages=stages, config=CONFIG.get(way, {})), steps=total, seed=seed, resume=True)


def spread(run, images):
    "How far the tower's tokens differ between pictures, as a share of their length: the mean over places."
    learner = load_learner(run)
    with torch.inference_mode():
        tokens = learner.model.eval().vision(learner.pixels(images)).float()  # (P, N, D)
    return round(float(((tokens - tokens.mean(0)).norm(dim=2).mean() / tokens.norm(dim=2).mean())), 4)


def row_of(way, run, report, images):
    "What is written down of one way."
    card = read_json(run / "run.json", "run")
    looking = next((v for k, v in card["stages"][-1]["looking"].items() if k.startswith("causal_lm")), None)
    lines = {line["task"]: line for line in report["tasks"] if line["learner"] == way}
    scores = {task: dict(score=[lines[task][k] for k in ("score", "lo", "hi")], baselines={k: v and v["score"] for k, v in lines[task]["baselines"].items()},
                         above={c["vs"]: c["above"] for c in lines[task]["comparisons"]}) for task in TASKS}  # fmt: skip
    return dict(way=way, what=WAYS[way][0], steps={s["name"]: s["steps"] for s in card["stages"]}, cpu_minutes=round(card["cost"]["cpu_s"] / 60, 1), scores=scores, looking=looking, spread=spread(run, images))


def scratch(out, corpus, ways=tuple(WAYS), seed=0, steps=2000, fast=False):
    "All ways; returns what is written to OUT/scratch.json."
    if unknown := set(ways) - set(WAYS):
        raise WrongInput(f"--ways: {sorted(unknown)[0]!r} is not one of {', '.join(WAYS)}")
    out = make_folder(out)
    if not (out / "trials" / "trials.json").is_file():
        write_first_words(out / "trials", n=16 if fast else TRIALS, seed=seed, permanence=0, tasks=TASKS)
    trials = read_trials(out / "trials")
    images = [trials.image(choice.parts[0].path) for t in list(trials)[:24] if t.task == TASKS[0] for choice in t.choices]
    runs = {way: trained(way, out, corpus, seed, 4 if fast else steps) for way in ways}
    report = judge_runs(list(runs.values()), out / "report", trials=out / "trials", seed=seed)
    result = dict(date=str(datetime.date.today()), seed=seed, steps=steps, fast=fast, rows=[row_of(way, run, report, images) for way, run in runs.items()])
    write_json(out / "scratch.json", result)
    (out / "scratch.md").write_text(table(result["rows"]) + "\n")
    return result


def table(rows):
    lines = ["| way | picture vocabulary | untrained, shortcut | looking while listening | worth of the picture | the tower's spread | CPU-minutes |", "|" + " --- |" * 7]
    for r in rows:
        (words, looks) = (r["scores"][task] for task in TASKS)
        figures = "{:.2f} [{:.2f}, {:.2f}]"
        beside = ", ".join(f"{words['baselines'][k]:.2f}" for k in ("untrained", "shortcut"))
        worth = "–" if r["looking"] is None else f"{r['looking']['other'] - r['looking']['own']:.3f}"
        lines.append(f"| {r['what']} | {figures.format(*words['score'])} | {beside} | {figures.format(*looks['score'])} | {worth} | {r['spread']:.3f} | {r['cpu_minutes']} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    scratch(options.out, options.corpus, options.ways, options.seed, options.steps, options.fast)
    print((options.out / "scratch.md").read_text())


if __name__ == "__main__":
    main()
