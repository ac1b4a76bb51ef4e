"""Which milestones each learner meets, and which it does not: recipes × seeds on all suites, every claim beside its controls.

    python runs/milestones.py OUT [--seeds 0 1 2] [--recipes clip cvcl …] [--have FOLDER …] [--suites …] [--without TASK …] [--only TASK …] [--beside JSON] [--n 480] [--fast]

A seed redraws world, initialisation and order; the trials are the same for all learners (seed 0 of the suites), so that they can be compared trial by trial.
Tasks of surprise are asked in 400 quadruplets of films, whatever `--n` is (the eight of `first_words` stay eight: `permanence` asks the same).
Runs that are there already are taken: OUT/seedN/RECIPE, or FOLDER/seedN/RECIPE for each `--have`. The others are trained on the plain world of the quickstart. All but `clip` and `cvcl`
begin with a tower of their seed: that of `cvcl` for `babyllava-v1`, of `clip` for the others, `predict` with films of its own. Everything in OUT can be continued. Each suite gets a report (OUT/reports/SUITE) of all learners.
`--beside` takes the rows of an earlier report, of the same trials, for whatever is not asked now. Writes OUT/milestones.json and OUT/milestones.md. `--fast` walks the same road with far too few of everything.

Met: in every seed above guessing, the untrained twin, the learner's blinded selves and the best shortcut, the paired interval of each difference leaving out zero, with at least 400 trials.
"""

import argparse
import datetime
import platform
import time
from collections import Counter
from pathlib import Path

import numpy as np

from babyvlm.cli.quickstart import STEPS, WORLD, make_suite, sight
from babyvlm.core.basics import WrongInput, make_folder, read_json, write_json
from babyvlm.core.corpus import read_corpus
from babyvlm.core.trials import read_trials
from babyvlm.milestones.judge import judge
from babyvlm.milestones.suites import milestone
from babyvlm.milestones.verdicts import key_of
from babyvlm.nursery.suites import TASKS_OF, suites
from babyvlm.pretraining.stages import recipes, tower_of

TOWER_OF = {name: tower_of(name) for name in recipes}
RECIPES = tuple(TOWER_OF)
MET = ("can", "emerging")
FULL = dict(world=WORLD, n=480, films_asked=1600, films=2000, instruct=480, steps=STEPS | {"cvcl": 4500, "babyllava-v1": 3500, "babyllava-v2": 4500, "predict": 4000})
FAST = dict(world=dict(children=3, minutes=0.5, px=64, fps=1.0, pace=3.0, unrelated=0.3), n=16, films_asked=16, films=24, instruct=16, steps=dict.fromkeys(RECIPES, 4))


def corpus_of(out, seed, plan):
    "The corpus of a seed's plain world, with instructions from training trials of `first_words`, which show scenes of their own."
    from babyvlm.curation.pipeline import curate
    from babyvlm.curation.views import add_instruct
    from babyvlm.nursery.recordings import make_recordings
    from babyvlm.nursery.stimuli import write_first_words
    from babyvlm.nursery.world import FIRST_WORDS

    make_recordings(out / "recordings", FIRST_WORDS, seed=seed, **plan["world"])
    corpus = curate(out / "recordings", out / "corpus", fps=plan["world"]["fps"], px=plan["world"]["px"], seed=seed)
    if "instruct" not in corpus.card.get("views", {}):
        if not (out / "instruct" / "trials.json").is_file():
            write_first_words(out / "instruct", n=plan["instruct"], seed=seed, permanence=0, split="train")
        add_instruct(corpus, out / "instruct")
    return out / "corpus"


def trained(recipe, out, seed, plan, tower):
    "One run, which begins with the tower of another where one is given."
    from babyvlm.nursery.hide_and_seek import write_films
    from babyvlm.pretraining.recipes import pretrain

    if recipe == "predict":
        data = out / "films" if (out / "films" / "corpus.json").is_file() else write_films(out / "films", plan["films"], seed=1000 + seed)
    else:
        data = corpus_of(out, seed, plan)
    return pretrain(data, out / recipe, recipe, steps=plan["steps"].get(recipe), seed=seed, start=tower, resume=True)


def finished(folder):
    return (folder / "run.json").is_file() and read_json(folder / "run.json", "run").get("status") == "finished"


def runs_of(out, seed, recipes, plan, have=()):
    "`{recipe: run folder}` of a seed: those that are there, the others trained."
    found, here = {}, make_folder(out / f"seed{seed}")
    for recipe in sorted(recipes, key=RECIPES.index):
        there = next((Path(folder) / f"seed{seed}" / recipe for folder in (*have, out) if finished(Path(folder) / f"seed{seed}" / recipe)), None)
        found[recipe] = there or trained(recipe, here, seed, plan, found.get(TOWER_OF[recipe]))
    return found


def learners_of(out, seeds, recipes, plan, have):
    "All learners, named by recipe and seed, and the corpus that the first was trained on."
    from babyvlm.models.load import load_learner

    learners, corpus = [], None
    for seed in seeds:
        for recipe, run in runs_of(out, seed, recipes, plan, have).items():
            learner = load_learner(run)
            learner.name, learner.seed = f"{recipe} {seed}", seed
            learners.append(learner)
            corpus = corpus or (corpus_beside(run) if recipe != "predict" else None)
    return learners, corpus


def corpus_beside(run):
    "The corpus that a run was trained on: where its card says, or beside the run, where it lies after a move; None where neither is the same."
    card = read_json(run / "run.json", "run").get("corpus") or {}
    places = [path for path in (Path(str(card.get("path"))), run.resolve().parent / "corpus") if (path / "image.parquet").is_file()]
    return next((corpus for corpus in map(read_corpus, places) if corpus.sha256 == card.get("sha256")), None)


def lines_of(report, seeds, recipes):
    "One line for each suite, task and recipe: its seeds together."
    lines = {(t["suite"], t["task"], t["learner"]): t for t in report["tasks"]}
    keys = dict.fromkeys((suite, task) for suite, task, _ in lines)
    return [summary(suite, task, recipe, [lines[suite, task, f"{recipe} {seed}"] for seed in seeds]) for suite, task in keys for recipe in recipes]


def summary(suite, task, recipe, lines):
    "What the seeds of a recipe say together of one task."
    keys = [key_of(t) for t in lines]
    line = dict(suite=suite, task=task, recipe=recipe, title=milestone(suite, task).title, chance=lines[0]["chance"], n=lines[0]["n"], grades=keys, caution=milestone(suite, task).caution)
    if "none" in keys:
        return line | dict(outcome="cannot be asked", reason=lines[0]["reason"], scores=[], controls={}, lost_to={}, by={})
    controls = {pair["vs"]: float(np.mean([bar_of(t, pair["vs"]) for t in lines])) for pair in lines[0]["comparisons"]}
    lost = Counter(name_of(t, pair["vs"]) for t in lines for pair in t["comparisons"] if not pair["above"])
    met = [key in MET for key in keys]
    outcome = "met" if all(met) else "too few trials" if "few" in keys else "in some seeds" if any(met) else "colour is enough" if set(keys) == {"cue"} else "below guessing" if set(keys) == {"below"} else "not met"
    return line | dict(outcome=outcome, reason="", scores=[[t["score"], t["lo"], t["hi"]] for t in lines], controls={k: round(v, 4) for k, v in controls.items()}, lost_to=dict(lost), by=parts(lines),
                       heard=[t["heard_share"] for t in lines])  # fmt: skip


def parts(lines):
    "`{dial: {level: mean over seeds}}` of dials with a few levels; nouns are left to the reports."
    tables = {name: levels for name, levels in lines[0].get("by", {}).items() if name != "noun" and len(levels) <= 8}
    return {name: {level: round(float(np.mean([t["by"][name][level]["score"] for t in lines])), 4) for level in levels} for name, levels in tables.items()}


def bar_of(line, vs):
    return line["chance"] if vs == "chance" else line["baselines"][vs]["score"]


def name_of(line, vs):
    return (line["baselines"]["shortcut"] or {}).get("cue", vs) if vs == "shortcut" else vs


def reports_of(suite, plan, without, only=()):
    "`{name of a report: options of its trials}`: tasks of surprise stand apart, since four films make one question."
    if suite not in TASKS_OF:
        return {} if only else {suite: dict(count=plan["n"])}
    tasks = [task for task in TASKS_OF[suite] if task not in without and (not only or task in only)]
    films = [task for task in tasks if milestone(suite, task).needs == ("surprise",)]
    parts = {suite: dict(only=[task for task in tasks if task not in films], count=plan["n"]), f"{suite}_surprise": dict(only=films, count=plan["films_asked"])}
    return {name: options for name, options in parts.items() if options["only"]}


def hundred(share):
    return f"{100 * share:.0f}"


def cell(row):
    "One recipe on one task: its seeds, and the outcome."
    if row["outcome"] == "cannot be asked":
        return "–"
    scores = " ".join(hundred(score) for score, *_ in row["scores"])
    return f"**{scores}**" if row["outcome"] == "met" else f"{scores}{dict([('in some seeds', ' (some)'), ('colour is enough', ' (colour)'), ('below guessing', ' (below)'), ('too few trials', ' (few)')]).get(row['outcome'], '')}"


def claim(row):
    "A milestone that was met, beside everything it was compared with."
    beside = ", ".join(f"{name.replace('_', ' ')} {hundred(value)}" for name, value in row["controls"].items())
    return f"- **{row['recipe']}** meets *{row['title']}* ({row['suite']}/{row['task']}): {', '.join(f'{hundred(s)} [{hundred(lo)}, {hundred(hi)}]' for s, lo, hi in row['scores'])} of 100; {beside}.{' Caution: ' + row['caution'] if row['caution'] else ''}"


def split(row):
    "The same by its dials, in one line; empty where it has none."
    told = [f"{name.replace('_', ' ')}: {', '.join(f'{level} {hundred(value)}' for level, value in levels.items())}" for name, levels in row["by"].items()]
    return f"  - by {'; '.join(told)}" if told else ""


def missed(row):
    "A milestone that was not met, and by what."
    lost = ", ".join(f"{name.replace('_', ' ')} ({count} of {len(row['grades'])})" for name, count in row["lost_to"].items())
    return f"- {row['recipe']}, *{row['title']}* ({row['suite']}/{row['task']}): {row['outcome']}; {' '.join(hundred(s) for s, *_ in row['scores'])} of 100, guessing {hundred(row['chance'])}; not above {lost or 'the mastery line'}"


def written(out, result):
    "Both files."
    write_json(out / "milestones.json", result)
    rows, recipes = result["rows"], result["recipes"]
    head = f"# Milestones: who meets which\n\n{result['date']}, {result['machine']}; seeds {', '.join(map(str, result['seeds']))}; {result['n']} trials a task, of surprise {result['films_asked'] // 4} quadruplets of films{'; left out: ' + ', '.join(result['without']) if result['without'] else ''}. Right of 100, one number a seed; **bold**: met in every seed; – cannot be asked.\n"
    lines = [head, f"| suite | task | guessing | {' | '.join(recipes)} |", "|" + " --- |" * (3 + len(recipes))]
    for suite, task in dict.fromkeys((r["suite"], r["task"]) for r in rows):
        some = {r["recipe"]: r for r in rows if (r["suite"], r["task"]) == (suite, task)}
        lines.append(f"| {suite} | {next(iter(some.values()))['title']} | {hundred(next(iter(some.values()))['chance'])} | {' | '.join(cell(some[name]) if name in some else '' for name in recipes)} |")
    counted = [f"{name}: {sum(r['recipe'] == name and r['outcome'] == 'met' for r in rows)} of {sum(r['recipe'] == name and r['outcome'] != 'cannot be asked' for r in rows)} it can be asked" for name in recipes]
    lines += ["", f"Met: {'; '.join(counted)}.", "\n## Met, each beside its controls\n", *[line for r in rows if r["outcome"] == "met" for line in (claim(r), split(r)) if line],
              "\n## Not met\n", *[line for r in rows if r["outcome"] not in ("met", "cannot be asked") for line in (missed(r), split(r) if r["outcome"] in ("in some seeds", "below guessing") else "") if line]]  # fmt: skip
    (out / "milestones.md").write_text("\n".join(lines) + "\n")


def joined(result, earlier):
    "The result with the rows of an earlier one that it has not got: whoever was asked the same trials of the same worlds may stand beside."
    for key in ("seeds", "n", "films_asked", "fast"):
        if earlier[key] != result[key]:
            raise WrongInput(f"--beside: its {key} is {earlier[key]}, and here it is {result[key]}; only the same trials can stand in one table")
    rows = {(r["suite"], r["task"], r["recipe"]): r for r in (*earlier["rows"], *result["rows"])}
    seen = list(dict.fromkeys((suite, task) for suite, task, _ in rows))
    order = lambda key: ([*suites].index(key[0]), seen.index(key[:2]), RECIPES.index(key[2]))
    both = {recipe for _, _, recipe in rows}
    return result | dict(rows=[rows[key] for key in sorted(rows, key=order)], recipes=[name for name in RECIPES if name in both], minutes=earlier["minutes"] | result["minutes"],
                         without=[task for task in earlier["without"] if task not in {key[1] for key in rows}])  # fmt: skip


def milestones(out, seeds=(0, 1, 2), recipes=RECIPES, names=None, n=None, have=(), fast=False, without=(), only=(), beside=None):
    "All learners on all suites; returns what is written to OUT/milestones.json."
    earlier = read_json(beside, "report") if beside else None
    known = [name for name in suites if name != "all"]
    if unknown := set(names or ()) - set(known):
        raise WrongInput(f"--suites: {sorted(unknown)[0]!r} is not one of {', '.join(known)}")
    if unknown := set(recipes) - set(RECIPES):
        raise WrongInput(f"--recipes: {sorted(unknown)[0]!r} is not one of {', '.join(RECIPES)}")
    if unknown := {*without, *only} - {task for tasks in TASKS_OF.values() for task in tasks}:
        raise WrongInput(f"--without, --only: {sorted(unknown)[0]!r} is no task of a suite")
    out, plan = make_folder(out), (FAST if fast else FULL) | (dict(n=n) if n else {})
    learners, corpus = learners_of(out, seeds, recipes, plan, have)
    result = dict(date=str(datetime.date.today()), machine=f"{platform.machine()}, {platform.system()}", seeds=list(seeds), recipes=list(recipes), n=plan["n"], films_asked=plan["films_asked"], without=list(without), fast=fast, minutes={}, rows=[])
    for suite, name, options in [(s, *report) for s in names or known for report in reports_of(s, plan, without, only).items()]:
        started, folder = time.time(), make_folder(out / "reports" / name)
        trials = read_trials(make_suite(suite, folder / "trials", 0, px=sight(learners), **options))
        result["rows"] += lines_of(judge(learners, trials, folder, corpus=corpus, seed=0), seeds, recipes)
        result["minutes"][name] = round((time.time() - started) / 60, 1)
        written(out, joined(result, earlier) if earlier else result)
    return joined(result, earlier) if earlier else result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--suites", nargs="+")
    parser.add_argument("--without", nargs="+", default=[], metavar="TASK", help="tasks that are left out, the long dialogues of `memory` for one")
    parser.add_argument("--only", nargs="+", default=[], metavar="TASK")
    parser.add_argument("--n", type=int)
    parser.add_argument("--have", nargs="+", type=Path, default=[], help="folders that hold seedN/RECIPE")
    parser.add_argument("--beside", type=Path, metavar="JSON", help="an earlier milestones.json")
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    milestones(options.out, options.seeds, options.recipes, options.suites, options.n, options.have, options.fast, options.without, options.only, options.beside)
    print((options.out / "milestones.md").read_text())


if __name__ == "__main__":
    main()
