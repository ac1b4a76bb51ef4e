"""What each recipe learns: every learner beside its untrained twin, its blind selves and the best shortcut, on the tasks it is trained for.

    python runs/learning.py OUT --seeds 0 1 2 [--recipes clip babyllava …] [--steps clip=4500 …] [--nouns 30] [--minutes 80] [--towers] [--fast]

Needs two cores, 4 GB of memory. A seed redraws world, initialisation and order; trials are of held-out scenes. `--towers`: a recipe begins with the tower of this
seed's `clip` (`babyllava-v1`: of its `cvcl`) where that is there, as `predict` does in any case. Everything in OUT can be continued. Writes OUT/learning.json and
prints the table that stands in learning.md.
`--fast` walks the same road in a minute or two with far too few of everything: it shows that the script runs, and nothing else.
"""

import argparse
import datetime
import platform
import time
from pathlib import Path

from babyvlm.cli.quickstart import WORLD, judge_runs
from babyvlm.core.basics import WrongInput, make_folder, read_json, write_json
from babyvlm.curation.pipeline import curate
from babyvlm.curation.views import add_instruct
from babyvlm.nursery.hide_and_seek import write_films
from babyvlm.nursery.recordings import make_recordings
from babyvlm.nursery.stimuli import write_first_words
from babyvlm.nursery.things import FIRST_NOUNS, NOUNS
from babyvlm.nursery.world import FIRST_WORDS
from babyvlm.pretraining.recipes import pretrain, recipes
from babyvlm.pretraining.stages import tower_of

WORDS = ("picture_vocabulary", "looking_while_listening")
TRAINED_FOR = {
    "clip": (*WORDS, "picture_vocabulary_many", "colour_words"),
    "cvcl": (*WORDS, "picture_vocabulary_many", "colour_words"),
    "babyllava": (*WORDS, "counting"),
    "babyllava-v1": WORDS,
    "babyllava-v2": (*WORDS, "counting", "localization"),
    "predict": ("permanence_vanish",),
}
BESIDE = ("untrained", "text_blind", "image_blind", "shortcut")
FULL = dict(world=WORLD, trials=480, films=100, instruct=480, shown=4000, towers=False)
FAST = dict(world=dict(children=3, minutes=0.5, px=64, fps=2.0, pace=3.0, unrelated=0.3), trials=16, films=2, instruct=16, shown=24, towers=False)


def corpus_of(out, seed, plan):
    "The corpus of a seed, in five views: the fifth are instructions made from training trials, drawn from scenes of their own."
    make_recordings(out / "recordings", FIRST_WORDS, seed=seed, **plan["world"])
    corpus = curate(out / "recordings", out / "corpus", fps=plan["world"]["fps"], px=plan["world"]["px"], seed=seed)
    if "instruct" not in corpus.card.get("views", {}):
        add_instruct(out / "corpus", write_trials(out / "instruct", seed, plan, plan["instruct"], 0, "train"))
    return out / "corpus"


def nouns_of(plan):
    "The nouns of a plan's world."
    return FIRST_NOUNS if "nouns" not in plan["world"] else tuple(NOUNS)[: plan["world"]["nouns"]]


def write_trials(folder, seed, plan, n, permanence, split):
    "A trials folder of the plan's nouns, made once; training trials show other scenes."
    if not (folder / "trials.json").is_file():
        write_first_words(folder, n=n, seed=seed, permanence=permanence, nouns=nouns_of(plan), split=split)
    return folder


def train(recipe, corpus, out, seed, steps, plan):
    "One run. The predictor watches films of their own, for the corpus has too few frames a second, with the tower of this seed's `clip` where there is one."
    tower = tower_of(recipe) if plan["towers"] or recipe == "predict" else None
    seen = out / tower if tower and (out / tower / "run.json").is_file() else None
    return pretrain(films_of(out, seed, plan) if recipe == "predict" else corpus, out / recipe, recipe, steps=steps, seed=seed, start=seen, resume=True)


def films_of(out, seed, plan):
    "A corpus of films, made once."
    return out / "films" if (out / "films" / "corpus.json").is_file() else write_films(out / "films", plan["shown"], seed=1000 + seed)


def rows_of(report, runs, seed):
    "One row for each learner and task it was trained for."
    keys = ("task", "score", "lo", "hi", "chance", "n", "groups", "tie_rate", "baselines", "comparisons")
    names = {row["learner"] for row in report["tasks"]}
    assert set(runs) <= names, f"the report has {names}"
    return [dict(seed=seed, recipe=row["learner"], status=row["status"], reason=row.get("reason"), **{key: row.get(key) for key in keys}) | verdict(row)
            for row in report["tasks"] if row["task"] in TRAINED_FOR.get(row["learner"], ())]  # fmt: skip


def verdict(row):
    "Whether the learner is above each of the four: the paired interval excludes zero."
    above = {c["vs"]: c["above"] for c in row.get("comparisons") or []}
    asked = {name: above[name] for name in BESIDE if name in above}
    return dict(above=asked, holds=bool(asked) and all(asked.values()))


def one_seed(out, seed, names, steps, plan):
    "Walk the road for one seed; returns rows of scores and cards of the runs."
    out = make_folder(out / f"seed{seed}")
    corpus = corpus_of(out, seed, plan)
    runs = {name: train(name, corpus, out, seed, steps.get(name), plan) for name in names}
    trials = write_trials(out / "trials", seed, plan, plan["trials"], plan["films"] * ("predict" in names), "test")
    report = judge_runs(list(runs.values()), out / "report", trials=trials, seed=seed)
    cards = {name: read_json(run / "run.json", "run") for name, run in runs.items()}
    costs = {name: {k: card[k] for k in ("parameters", "stages", "seen", "cost", "not_learning")} for name, card in cards.items()}
    return rows_of(report, runs, seed), costs


def line_of(row):
    "One row in words."
    if row["score"] is None:
        return f"{row['seed']} {row['recipe']:<13} {row['task']:<26} {row['status']}: {row['reason']}"
    beside = ", ".join(f"{name} {value['score']:.2f}{'' if row['above'].get(name) else ' (!)'}" for name, value in (row["baselines"] or {}).items() if value and name in BESIDE)
    return f"{row['seed']} {row['recipe']:<13} {row['task']:<26} {row['score']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}] chance {row['chance']:.2f}; {beside}"


def steps_asked(pairs):
    "`clip=4500` as a dict."
    try:
        return {name: int(number) for name, number in (pair.split("=") for pair in pairs)}
    except ValueError:
        raise WrongInput(f"--steps: {' '.join(pairs)} is not RECIPE=NUMBER") from None


def learning(out, seeds=(0,), names=tuple(TRAINED_FOR), steps=None, nouns=None, minutes=None, towers=False, fast=False):
    "All seeds; returns what is written to OUT/learning.json."
    if unknown := set(names) - set(recipes):
        raise WrongInput(f"--recipes: {', '.join(sorted(unknown))} is not one of {', '.join(recipes)}")
    out, plan = make_folder(out), FAST if fast else FULL
    plan = plan | dict(world=plan["world"] | (dict(nouns=nouns) if nouns else {}) | (dict(minutes=minutes) if minutes else {}), towers=towers)
    if nouns and not fast:
        plan["trials"] = max(plan["trials"], 20 * nouns)  # each noun as often as every other, and 400 trials at least
    steps = dict.fromkeys(names, 8) | (steps or {}) if fast else steps or {}
    result = dict(date=str(datetime.date.today()), machine=f"{platform.machine()}, {platform.system()}", world=plan["world"], fast=fast, rows=[], runs={}, minutes={})
    for seed in seeds:
        started = time.time()
        rows, costs = one_seed(out, seed, names, steps, plan)
        result["rows"] += rows
        result["runs"][str(seed)] = costs
        result["minutes"][str(seed)] = round((time.time() - started) / 60, 2)
        write_json(out / "learning.json", result)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", default=list(TRAINED_FOR))
    parser.add_argument("--steps", nargs="+", default=[], metavar="RECIPE=NUMBER")
    parser.add_argument("--nouns", type=int, help="how many, in the order in which children learn them; the sixteen of first_words when not given")
    parser.add_argument("--minutes", type=float, help="of recording a child, instead of forty")
    parser.add_argument("--towers", action="store_true", help="begin with towers that are there")
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    result = learning(options.out, options.seeds, options.recipes, steps_asked(options.steps), options.nouns, options.minutes, options.towers, options.fast)
    for row in result["rows"]:
        print(line_of(row))
    failed = sorted({f"{row['recipe']} {row['task']} (seed {row['seed']})" for row in result["rows"] if not row["holds"]})
    print("every learner is above its untrained twin, blind selves and the best shortcut" if not failed else f"not above all of them: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
