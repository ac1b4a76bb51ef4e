"""A year in the life: a learner trained on one year, in the order in which it happened, judged at every checkpoint.

    python runs/year.py OUT [--seeds 0 1 2] [--recipe clip] [--months 6 18] [--suites first_words language …] [--n 480] [--fast]

The plain world grows: from the first month to the last, rooms, speech and body change with age. Training goes from the youngest pairs to the oldest, chapter by chapter
(the order `age` of a recipe), and keeps a checkpoint in every octave of steps. Each suite is judged at all of them (OUT/seedN/reports/SUITE).
The same world in shuffled order is trained beside it (`--no-shuffled` leaves it out): what the order by itself does to the end. Writes OUT/year.json, OUT/year.md and a page a seed.
"""

import argparse
import datetime
import platform
from dataclasses import asdict
from pathlib import Path

from babyvlm.cli.quickstart import STEPS, WORLD, judge_runs
from babyvlm.core.basics import WrongInput, make_folder, write_json
from babyvlm.core.corpus import read_corpus
from babyvlm.milestones.curves import main_learners
from babyvlm.milestones.year import MET, same_order, year_of, year_page
from babyvlm.nursery.suites import suites
from babyvlm.nursery.world import DAYS_PER_MONTH, FIRST_WORDS, turned
from babyvlm.pretraining.recipes import pretrain
from babyvlm.pretraining.stages import recipes

FULL = dict(world=WORLD, n=480, steps=STEPS["clip"])
FAST = dict(world=dict(children=2, minutes=0.4, px=64, fps=1.0, pace=3.0, unrelated=0.3, longest=0.2), n=16, steps=24)


def in_order(recipe):
    "The recipe with every stage in the order of age."
    found = dict(name=f"{recipe}-age", **{k: v for k, v in recipes[recipe].items()})
    return found | dict(stages=[stage | dict(order="age") for stage in found["stages"]])


def corpus_of(out, seed, plan, months):
    "The corpus of a year: the plain world, growing."
    from babyvlm.curation.pipeline import curate
    from babyvlm.nursery.recordings import make_recordings

    world = turned(FIRST_WORDS, growing=True, ages=tuple(months))
    make_recordings(out / "recordings", world, seed=seed, **plan["world"])
    curate(out / "recordings", out / "corpus", fps=plan["world"]["fps"], px=plan["world"]["px"], seed=seed)
    return out / "corpus"


def ages_of(folder):
    "The child's age in months at each pair of the training split."
    corpus = read_corpus(folder)
    days = dict(zip(corpus.recordings.recording_id, corpus.recordings.age_days))
    return [float(days[name]) / DAYS_PER_MONTH for name in corpus.pairs("train").recording_id]


def one_seed(out, seed, recipe, months, names, plan, shuffled):
    "Rows of one seed, of the run in order and of the shuffled one."
    out = make_folder(out / f"seed{seed}")
    corpus = corpus_of(out, seed, plan, months)
    run = pretrain(corpus, out / "in_order", in_order(recipe), steps=plan["steps"], seed=seed, resume=True)
    other = [pretrain(corpus, out / "shuffled", recipe, steps=plan["steps"], seed=seed, resume=True)] if shuffled else []
    ages, rows, ends, end = ages_of(corpus), [], [], 0
    for suite in names:
        folder = make_folder(out / "reports") / suite
        report = judge_runs([run], folder, suite=suite, seed=seed, trials_count=plan["n"], checkpoints="all")
        (learner,) = main_learners(report)
        end = max(end, next(c["words_seen"] for c in report["learners"] if c["name"] == learner) or 0)
        rows += year_of(report, learner, plan["steps"], ages)
        if other:
            beside = judge_runs(other, out / "reports" / f"{suite}_shuffled", trials=folder / "trials", seed=seed)
            ends += [dict(suite=t["suite"], task=t["task"], score=t["score"], lo=t["lo"], hi=t["hi"]) for t in beside["tasks"] if t["status"] == "ok"]
    rows.sort(key=lambda r: (r["first"] is None, r["grade"] not in MET, r["first"]["words"] if r["first"] else 0, r["title"]))
    notes = [f"Seed {seed}; the stream goes from month {months[0]:g} to month {months[1]:g} of the nursery's plain world, which grows; {plan['steps']:,} steps of {recipe}."]
    (out / "year.html").write_text(year_page(rows, end, f"{recipe}, seed {seed}", notes), encoding="utf-8")
    return dict(seed=seed, words=end, in_childrens_order=list(same_order(rows)), rows=rows, shuffled=ends)


def table(result):
    "When each milestone appeared, seed by seed, as Markdown."
    seeds = result["seeds"]
    keys = dict.fromkeys((r["suite"], r["task"]) for s in seeds for r in s["rows"])
    lines = ["| suite | milestone | children, months | " + " | ".join(f"words, seed {s['seed']} (month; at the end)" for s in seeds) + " |", "|" + " --- |" * (3 + len(seeds))]
    for key in keys:
        found = [next((r for r in s["rows"] if (r["suite"], r["task"]) == key), None) for s in seeds]
        one = next(r for r in found if r)
        ages = (one["norm"] or {}).get("ages_months")
        lines.append(f"| {key[0]} | {one['title']} | {'–'.join(f'{a:g}' for a in ages) if ages else '–'} | {' | '.join(map(cell, found))} |")
    return lines


def cell(row):
    "One milestone in one seed."
    if row is None or row["grade"] == "none":
        return "–"
    month = f"{row['age_months']:.1f}; " if row["age_months"] is not None else ""
    ended = f"{month}{100 * row['score']:.0f}"
    return f"not above guessing ({ended})" if not row["first"] else f"{'**' if row['grade'] in MET else ''}{row['first']['words']:,}{'**' if row['grade'] in MET else ''} ({ended})"


def written(out, result):
    "Both files."
    write_json(out / "year.json", result)
    said = [f"# A year in the life\n\n{result['date']}, {result['machine']}. {result['recipe']}, months {result['months'][0]:g} to {result['months'][1]:g} in order; {result['n']} trials a task. "
            "Words heard when the interval rose above guessing for good; the child's age in the stream; right of 100 at the end. **Bold**: above every control at the end.\n", *table(result), ""]  # fmt: skip
    said += [f"Seed {s['seed']}: {s['words']:,} words in all; pairs of met milestones in children's order {s['in_childrens_order'][0]}, against it {s['in_childrens_order'][1]}." for s in result["seeds"]]
    for s in result["seeds"]:
        ends = {(r["suite"], r["task"]): r["score"] for r in s["shuffled"]}
        apart = [f"{r['title']} {100 * r['score']:.0f} and {100 * ends[r['suite'], r['task']]:.0f}" for r in s["rows"] if (r["suite"], r["task"]) in ends and r["score"] is not None]
        said += [f"\nSeed {s['seed']}, in order and shuffled, right of 100 at the end: {'; '.join(apart)}."] if apart else []
    (out / "year.md").write_text("\n".join(said) + "\n")


def year(out, seeds=(0,), recipe="clip", months=(6.0, 18.0), names=("first_words",), n=None, shuffled=True, fast=False):
    "All seeds; returns what is written to OUT/year.json."
    if recipe not in recipes:
        raise WrongInput(f"--recipe: {recipe!r} is not one of {', '.join(recipes)}")
    if unknown := set(names) - set(suites):
        raise WrongInput(f"--suites: {sorted(unknown)[0]!r} is not one of {', '.join(suites)}")
    out, plan = make_folder(out), (FAST if fast else FULL) | (dict(n=n) if n else {})
    world = asdict(turned(FIRST_WORDS, growing=True, ages=tuple(months), **plan["world"]))
    result = dict(date=str(datetime.date.today()), machine=f"{platform.machine()}, {platform.system()}", recipe=recipe, months=list(months), n=plan["n"], steps=plan["steps"], fast=fast, world=world, seeds=[])
    for seed in seeds:
        result["seeds"].append(one_seed(out, seed, recipe, months, names, plan, shuffled))
        written(out, result)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="clip")
    parser.add_argument("--months", type=float, nargs=2, default=[6.0, 18.0])
    parser.add_argument("--suites", nargs="+", default=["first_words"])
    parser.add_argument("--n", type=int)
    parser.add_argument("--no-shuffled", action="store_true")
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    year(options.out, options.seeds, options.recipe, options.months, options.suites, options.n, not options.no_shuffled, options.fast)
    print((options.out / "year.md").read_text())


if __name__ == "__main__":
    main()
