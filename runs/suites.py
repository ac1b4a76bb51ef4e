"""Every task of every suite, tried: an oracle, coins, constants, blinds, a colour histogram, untrained learners; balance; audit; speed.

    python runs/suites.py OUT [--n 1000] [--suites toolbox …] [--tasks counting …] [--workers 2] [--runs RUN …] [--fast]

First each suite is made as `babyvlm milestones` would make it, 200 trials a task, with its page for people (OUT/pages). Then every task
gets a folder of `--n` trials of its own (removed when it has been tried). What is done is kept in OUT/done, and is not done again.
Writes OUT/suites.json and OUT/suites.md, to be committed as runs/suites_DATE.json and .md. `--fast` makes few of everything: it shows that the script runs.

A surprise task gets n / 4 quadruplets, which is about n films; *copying* expects the frame that was there 1 to 6 frames before, and the lag that is farthest from guessing is shown. *Text-blind*, *image-blind* and *colour histogram* are the audit's: each learns from four fifths
of the trials, with their answers, and is tried on the last; they are the best that words, pictures or colours by themselves give, and need no learner of ours. (In an exactly balanced task they end below guessing: what is frequent in four fifths is rare
in the last. Only what is above guessing counts. A `two_by_two` is four questions with two options to them, and guessing gives 50.)
*Nearest* is the option most like what was shown. *Untrained* are tiny learners with random weights. With `--runs`, trained learners are tried as well, seeing and blinded.
Speed is counted in seconds of one core (processor time, one process), so that it holds on a busy machine.
"""

import argparse
import datetime
import functools
import multiprocessing
import platform
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy import stats

from babyvlm.core.basics import WrongInput, make_folder, read_json, write_json
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.statistics import interval
from babyvlm.core.trials import TrialsWriter, read_trials
from babyvlm.milestones.asking import score_trials, score_variants, shows
from babyvlm.milestones.audit import audit
from babyvlm.milestones.pages import write_pages
from babyvlm.milestones.scoring import text_of, way_to_ask
from babyvlm.milestones.suites import milestone
from babyvlm.milestones.surprise import clip_of, quadruplets
from babyvlm.milestones.tally import units
from babyvlm.nursery.asking import write_suite
from babyvlm.nursery.stimuli import Studio
from babyvlm.nursery.suites import TASKS_OF

NEAR = 0.10  # from chance; what is farther must be named on the task's page
BLIND = ("text_blind", "image_blind", "colour_histogram")  # of the audit's solvers
ALSO = ("position", "length", "odd_one_out", "nearest_neighbour", "nearest_example", "pixel_change")
TWINS = dict(clip=3, babyllava=1, predictor=1)  # untrained learners, and how many seeds of each
READERS = 5  # seeds where nothing is shown: pairs of sentences are alike, so one random network may lean to one side in most
LAGS = range(1, 7)  # frames
SPOKEN = 300  # trials that a generative learner is asked: it is slow
FULL = dict(n=1000, sample=200, rated=24, rated_px=128)
FAST = dict(n=16, sample=16, rated=16, rated_px=32)


class Counted(TrialsWriter):
    "Counts the pictures it is given, the frames of films among them."

    pictures = 0

    def image(self, pixels):
        self.pictures += 1
        return super().image(pixels)

    def clip(self, frames, fps):
        self.pictures += len(frames)
        return super().clip(frames, fps)


def made(folder, suite, task, n, px, seed):
    "The trials of one task, with the pictures drawn (a second take that was not used, too) and the processor seconds they took."
    started = time.process_time()
    with Counted(folder, dict(name="babyvlm.nursery.stimuli", suite=suite, n=n, px=px), seed) as writer, Studio(writer, seed, px, 1, suite) as studio:
        TASKS_OF[suite][task](studio, n)
    return read_trials(folder), writer.pictures + len(studio.drawn), time.process_time() - started


def speed(suite, task, plan, seed):
    "Pictures and trials a second of one core; and whether the same seed makes the same trials."
    with tempfile.TemporaryDirectory() as here:
        first, _, _ = made(Path(here, "a"), suite, task, plan["rated"], plan["rated_px"], seed)
        again, pictures, seconds = made(Path(here, "b"), suite, task, plan["rated"], plan["rated_px"], seed)
        same = first.sha256 == again.sha256 and first.card["media"] == again.card["media"]
        return dict(px=plan["rated_px"], pictures=pictures, trials=len(again), seconds=round(seconds, 2), pictures_per_s=round(pictures / seconds, 1),
                    trials_per_s=round(len(again) / seconds, 2), same=same, min_px=max(t.min_px or 32 for t in again))  # fmt: skip


class Copied:
    "Expects the frame that was there some frames before."

    def __init__(self, lag):
        self.lag = lag

    def surprise(self, clips):
        found = []
        for clip in clips:
            frames = clip.frames.astype(np.float32)
            change = np.abs(frames[self.lag :] - frames[: -self.lag]).mean((1, 2, 3))
            found.append(np.concatenate([np.zeros(self.lag), change]))
        return found


def film_controls(trials):
    "Of a surprise task: copying at the lag that is farthest from guessing, and for how many frames before the reveal all four films are alike, at the least."
    some = list(trials)
    if some[0].form != "surprise":
        return {}, None
    copies = [share(score_trials(Copied(lag), some, trials), units(some)) for lag in LAGS]
    alike = []
    for members in quadruplets(some).values():
        films, reveal = [trials.clip(clip_of(t)).frames for t in members], members[0].reveal_frame
        differ = [k for k in range(reveal) if any((film[k] != films[0][k]).any() for film in films[1:])]
        alike.append(reveal - 1 - max(differ, default=-1))
    return dict(copying=max(copies, key=lambda c: abs(c["score"] - 0.5))), min(alike)


def share(marks, some):
    "`{score, lo, hi}` of some marks, clustered by scene."
    scenes = [t.group.get("scene", t.trial_id) for t in some]
    score, lo, hi = interval([m.credit for m in marks], scenes)
    return dict(score=round(score, 4), lo=round(lo, 4), hi=round(hi, 4))


def plain_controls(trials):
    "The oracle, four coins and the constant."
    some, counted = list(trials), units(list(trials))
    coins = [score_trials(Coin(seed, trials), some, trials) for seed in range(4)] if some[0].form != "open" else []
    found = dict(oracle=share(score_trials(Oracle(trials), some, trials), counted), constant=share(score_trials(Constant(), some, trials), counted))
    if coins:
        found["coin"] = share([m for marks in coins for m in marks], counted * len(coins))
    return found


def untrained(trials):
    "Tiny learners with random weights: the first family that can be asked, several seeds of it."
    from babyvlm.models.learners import BabyLlavaLearner, ClipLearner
    from babyvlm.models.predictor_learner import PredictorLearner
    from babyvlm.models.sizes import new_model
    from babyvlm.models.tokenizer import train_tokenizer

    families = dict(clip=ClipLearner, babyllava=BabyLlavaLearner, predictor=PredictorLearner)
    tokenizer = train_tokenizer(sorted({w for t in trials for w in t.prompt_words}) or ["look"])
    for family, seeds in TWINS.items():
        seeds = seeds if any(map(shows, trials)) else READERS
        twins = [families[family](new_model(family, "tiny", tokenizer, seed), tokenizer, name=f"untrained {family}", seed=seed) for seed in range(seeds)]
        for twin in twins:
            twin.max_px = 4096  # a random eye loses nothing by being small
        some = list(trials) if family != "babyllava" else list(trials)[: SPOKEN // len(trials[0].turns or [1])]
        if way_to_ask(twins[0], some[0])[0]:
            return family, dict(untrained=share([m for twin in twins for m in score_trials(twin, some, trials)], units(some) * seeds))
    return "", {}


def trained(trials, runs):
    "Trained learners, and their blinded selves, where they can be asked."
    from babyvlm.models.load import load_learner

    found = {}
    for run in runs:
        learner = load_learner(run)
        some = list(trials)[:SPOKEN] if hasattr(learner, "generate") else list(trials)
        if way_to_ask(learner, some[0])[0]:
            found |= {f"{learner.name} {name}".replace(" learner", ""): share(marks, units(some)) for name, marks in score_variants(learner, some, trials).items()}
    return found


def asked_places(trials):
    "`[(place of the answer, options, trial, turn)]` of everything that offers a choice."
    rows = [(t, turn) for t in trials for turn in (t.turns or [t]) if len(turn.choices) > 1 and t.form != "two_by_two"]
    return [(next(k for k, c in enumerate(turn.choices) if c.id in turn.answer), len(turn.choices), t, turn) for t, turn in rows]


def plain_facts(trial):
    "What is known of a trial as single values, the noun among it."
    return {k: v for k, v in {**trial.group, **trial.facts}.items() if isinstance(v, (str, bool, int, float)) and k not in ("scene", "child", "violation")}


def association(places, values):
    "The p of the hypothesis that a fact and the place of the answer have nothing to do with each other; None where it cannot be tried."
    if len(set(values)) < 2 or len(set(places)) < 2:
        return None
    if len(set(values)) > 24:
        if not all(isinstance(v, (int, float)) for v in values):
            return None
        groups = [[v for v, p in zip(values, places) if p == place] for place in sorted(set(places))]
        return float(stats.kruskal(*groups).pvalue) if min(map(len, groups)) > 4 else None
    table = np.array([[sum(v == value and p == place for v, p in zip(values, places)) for place in sorted(set(places))] for value in sorted(set(values), key=str)])
    return float(stats.chi2_contingency(table).pvalue) if table.sum() >= 5 * table.size else None


def balance(trials):
    "Whether answers stand in all places alike, whatever the noun, colour, side, size or area; which facts are the answer itself is said by name."
    rows = asked_places(trials)
    if not rows:
        return dict(places={}, answers_differ_by=None, is_the_answer=[], tied_to=[])
    widest = max(k for _, k, _, _ in rows)
    rows = [row for row in rows if row[1] == widest]
    places = [place for place, *_ in rows]
    counts = Counter(places)
    facts = [plain_facts(t) for _, _, t, _ in rows]
    names = sorted(set.intersection(*(set(f) for f in facts)))
    found, answers = {}, []
    right = [text_of(turn.choices[place]) if not any(p.type != "text" for p in turn.choices[place].parts) else str(place) for place, _, _, turn in rows]
    for name in names:
        values = [f[name] for f in facts]
        if 1 < len(set(values)) <= min(24, len(values) // 4) and all(len({p for p, v in zip(places, values) if v == value}) == 1 for value in set(values)):
            answers.append(name)  # it says where the answer is: either it is what was asked, or it is a leak
        elif (p := association(places, values)) is not None:
            found[name] = p
    spread = (max(counts.values()) - min(counts.get(k, 0) for k in range(widest))) / len(rows)
    return dict(places={str(k): counts[k] for k in sorted(counts)}, answers_differ_by=round(spread, 4), different_answers=len(set(right)), is_the_answer=answers,
                tied_to=[dict(fact=name, p=round(p, 6)) for name, p in found.items() if p < 0.001 / max(1, len(found))])  # fmt: skip


def audited(trials, seed):
    "`(verdict, flaws and notes, {solver: share})` of the audit."
    task = audit(trials, seed)["tasks"][0]
    told = [{k: f[k] for k in ("check", "status", "says", "figure")} for f in task["findings"] if f["status"] != "clean"]
    return task["verdict"], told, {f["check"]: {k: f[k] for k in ("score", "lo", "hi", "chance")} for f in task["findings"] if f["score"] is not None}


def far(controls, chance, form):
    "The controls that are above chance by more than `NEAR`, and those that should be at it exactly and are not; films that all surprise alike must be at it from both sides."
    above = lambda found: found["score"] - found.get("chance", chance)
    names = [name for name in (*BLIND, "untrained") if name in controls and above(controls[name]) > NEAR]
    names += [name for name in ("untrained", "copying") if form == "surprise" and name in controls and name not in names and abs(above(controls[name])) > NEAR]
    coin, constant = controls.get("coin"), controls["constant"]["score"]
    names += ["coin"] * bool(coin and not coin["lo"] - 0.02 <= chance <= coin["hi"] + 0.02) + ["constant"] * (constant > chance + 1e-3) + ["oracle"] * (controls["oracle"]["score"] < 1)
    return names


def one_task(job):
    "All that is known of one task; kept at once."
    suite, task, out, plan, seed, runs = job
    file, parameters = Path(out, "done", f"{suite}--{task}.json"), dict(n=plan["n"], seed=seed, runs=[str(run) for run in runs])
    if file.is_file() and (kept := read_json(file))["parameters"] == parameters:
        return kept
    started = time.process_time()
    rate = speed(suite, task, plan, seed)
    folder, px = Path(out, "trials", f"{suite}--{task}"), max(64, rate["min_px"])
    shutil.rmtree(folder, ignore_errors=True)
    trials, pictures, seconds = made(folder, suite, task, plan["n"], px, seed)
    trials.image, trials.clip = functools.cache(trials.image), functools.cache(trials.clip)
    counted = units(list(trials))
    chance = float(np.mean([t.chance for t in counted]))
    verdict, told, solvers = audited(trials, seed)
    family, twins = untrained(trials)
    films, alike = film_controls(trials)
    controls = plain_controls(trials) | films | {name: solvers[name] for name in (*BLIND, *ALSO) if name in solvers} | twins | trained(trials, runs)
    result = dict(parameters=parameters, suite=suite, task=task, form=counted[0].form, n=len(counted), trials=len(trials), px=px, chance=round(chance, 4), min_px=rate["min_px"],
                  scenes=len({t.group.get("scene") for t in counted}), twin=family, controls=controls, far=far(controls, chance, counted[0].form), alike_before=alike, balance=balance(trials), audit=verdict, told=told, speed=rate,
                  made=dict(pictures=pictures, seconds=round(seconds, 1)), cpu_s=round(time.process_time() - started, 1), caution=milestone(suite, task).caution)  # fmt: skip
    write_json(file, result)
    shutil.rmtree(folder)
    return result


def one_suite(out, suite, plan, seed, workers):
    "A suite as a command would make it: the folder, and the seconds it took by the clock and of processor time in this process."
    folder, file = Path(out, "suites", suite), Path(out, "done", f"{suite}.json")
    if not file.is_file() or not (folder / "trials.json").is_file():
        started = time.time()
        write_suite(folder, suite, TASKS_OF[suite], n=plan["sample"], seed=seed, workers=workers)
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        write_json(file, dict(suite=suite, tasks=len(TASKS_OF[suite]), trials=len(read_trials(folder)), minutes=round((time.time() - started) / 60, 2), megabytes=round(size / 1e6, 1), processes=workers))
    return read_json(file)


def chosen(suites, tasks):
    "`[(suite, task)]`, each task once: a task of two suites is tried in the first."
    if unknown := set(suites or ()) - set(TASKS_OF):
        raise WrongInput(f"--suites: {sorted(unknown)[0]!r} is not one of {', '.join(TASKS_OF)}")
    known = {task for some in TASKS_OF.values() for task in some}
    if unknown := set(tasks or ()) - known:
        raise WrongInput(f"--tasks: {sorted(unknown)[0]!r} is not one of {', '.join(sorted(known))}")
    seen, found = set(), []
    for suite in suites or TASKS_OF:
        for task, function in TASKS_OF[suite].items():
            if (not tasks or task in tasks) and (task, function) not in seen:
                seen.add((task, function))
                found.append((suite, task))
    return found


def hundred(found):
    return "–" if not found else f"{100 * found['score']:.0f}"


def table(rows, sizes):
    "The figures as Markdown."
    lines = ["| suite | task | form | n | chance | oracle | coin | constant | text-blind | image-blind | histogram | nearest | untrained | copying | answers differ by | audit | pictures/s | trials/s |", "|" + " --- |" * 18]
    for r in rows:
        c = r["controls"]
        names = ("oracle", "coin", "constant", "text_blind", "image_blind", "colour_histogram", "nearest_neighbour", "untrained", "copying")
        marked = [f"**{hundred(c.get(name))}**" if name in r["far"] else hundred(c.get(name)) for name in names]
        differ = "–" if r["balance"]["answers_differ_by"] is None else f"{100 * r['balance']['answers_differ_by']:.1f}"
        lines.append(f"| {r['suite']} | {r['task']} | {r['form']} | {r['n']:,} | {100 * r['chance']:.0f} | {' | '.join(marked)} | {differ} | {r['audit']} | {r['speed']['pictures_per_s']:.0f} | {r['speed']['trials_per_s']:.1f} |")
    forms = {form: [r["speed"] for r in rows if r["form"] == form] for form in dict.fromkeys(r["form"] for r in rows)}
    lines += ["", "| form | tasks | trials/s, slowest to fastest |", "| --- | --- | --- |"]
    lines += [f"| {form} | {len(some)} | {min(s['trials_per_s'] for s in some):.1f} to {max(s['trials_per_s'] for s in some):.1f} |" for form, some in forms.items()]
    lines += ["", "| suite | tasks | trials | minutes by the clock | processes | MB |", "| --- | --- | --- | --- | --- | --- |"]
    return lines + [f"| {s['suite']} | {s['tasks']} | {s['trials']:,} | {s['minutes']:.1f} | {s['processes']} | {s['megabytes']:.0f} |" for s in sizes]


def remarks(rows):
    "What is not as it should be, or needs a word, task by task."
    lines = []
    for r in rows:
        name, said = f"{r['suite']}/{r['task']}", []
        if r["far"]:
            said.append(f"farther than {100 * NEAR:.0f} points from chance: {', '.join(r['far'])}; the page says: {r['caution'] or 'nothing'}")
        said += [f"audit: {f['check']} ({f['status']}): {f['figure']}" for f in r["told"]]
        said += [f"the place of the answer goes with {t['fact']} (p {t['p']:.4g})" for t in r["balance"]["tied_to"]]
        said += [f"films of a quadruplet are alike for {r['alike_before']} frames before the reveal"] * (r["alike_before"] is not None and r["alike_before"] < max(LAGS))
        said += ["other trials from the same seed"] * (not r["speed"]["same"]) + [f"{r['speed']['pictures_per_s']:.0f} pictures/s"] * (0 < r["speed"]["pictures_per_s"] < 30)
        lines += [f"- **{name}**: {'; '.join(said)}"] if said else []
    return lines or ["- nothing"]


def written(out, result):
    "Both files."
    write_json(out / "suites.json", result)
    rows, sizes = result["rows"], result["suites"]
    head = [f"# Suites: what is right without the ability\n\n{result['date']}, {result['machine']}, seed {result['seed']}: {len(rows)} tasks. Shares right of 100; **bold**: not where it should be.",
            "Made by `python runs/suites.py OUT`, whose first lines say what each column means. Speed at 128 px, in seconds of one core.\n"]  # fmt: skip
    (out / "suites.md").write_text("\n".join([*head, *table(rows, sizes), "\n## What needs a word\n", *remarks(rows)]) + "\n")


def controls_of(rows):
    "`{suite: {task: controls}}`, for the pages."
    found = {}
    for r in rows:
        found.setdefault(r["suite"], {})[r["task"]] = r["controls"]
    return found


def suites(out, names=None, tasks=None, n=None, seed=0, workers=1, runs=(), fast=False, sample=True):
    "All of it; returns what is written to OUT/suites.json."
    out, plan, wanted = make_folder(out), FAST if fast else FULL, chosen(names, tasks)
    plan = plan | (dict(n=n) if n else {})
    for name in ("done", "trials", "suites"):
        (out / name).mkdir(exist_ok=True)
    sizes = [one_suite(out, suite, plan, seed, workers) for suite in dict.fromkeys(s for s, _ in wanted)] if sample else []
    jobs = [(suite, task, str(out), plan, seed, runs) for suite, task in wanted]
    result = dict(date=str(datetime.date.today()), machine=f"{platform.machine()}, {platform.system()}", seed=seed, fast=fast, suites=sizes, rows=[])
    if workers > 1:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            for row in pool.map(one_task, jobs):
                result["rows"].append(row)
                written(out, result)
    else:
        for job in jobs:
            result["rows"].append(one_task(job))
            written(out, result)
    for size in sizes:
        write_pages(read_trials(out / "suites" / size["suite"]), out / "pages", controls_of(result["rows"]))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, help="trials of each task; 1,000 when not given")
    parser.add_argument("--suites", nargs="+")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="run folders of trained learners, tried as well")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--no-sample", action="store_true", help="no folders of whole suites and no pages")
    options = parser.parse_args()
    result = suites(options.out, options.suites, options.tasks, options.n, options.seed, options.workers, options.runs, options.fast, not options.no_sample)
    print("\n".join(table(result["rows"], result["suites"]) + ["", *remarks(result["rows"])]))


if __name__ == "__main__":
    main()
