"""Kills: every recipe is killed at observed steps, goes on, and must end as the undisturbed run did, to the last bit.

    python runs/kills.py OUT --seed 0

Twenty kills with SIGKILL over all recipes and stages at steps drawn from the seed; every other one waits until a checkpoint is half written. Batches are
small, so that it is over sooner. Needs two cores, 2 GB of memory and about ten minutes. Writes OUT/kills.json and prints the table that stands in kills.md; the exit code is not 0 where a run differs.
"""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent))

from babyvlm.core.basics import read_json
from tests.pretraining_corpus import coloured_corpus

KILLS = {"clip": 2, "cvcl": 2, "babyllava": 4, "babyllava-v1": 4, "babyllava-v2": 5, "predict": 3}
STEPS = 60
CHILD = """
import sys
from babyvlm.nursery.hide_and_seek import Films
from babyvlm.pretraining.recipes import pretrain, recipes
corpus, out, name, steps = sys.argv[1:]
films = name == "predict"
recipe = recipes[name] | dict(name=name, stages=[stage | dict(batch=2 if films else 8) for stage in recipes[name]["stages"]])
pretrain(Films(24, 0, px=64) if films else corpus, out, recipe, steps=int(steps), resume=True)
"""


def sitting(corpus, out, recipe):
    return subprocess.Popen([sys.executable, "-c", CHILD, corpus, out, recipe, str(STEPS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ, FAST="1"))


def finish(process):
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"a sitting failed:\n{said[-2000:]}")


def steps_of(run):
    log = run / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.is_file() else []


def parts_of(run):
    return set((run / "checkpoints").glob(".step-*.part"))


def log_of(run):
    return (run / "metrics.jsonl").stat().st_ino if (run / "metrics.jsonl").is_file() else None


def kill(corpus, run, recipe, step, half_written):
    "Kill a new sitting once it has logged `step` itself and, if wanted, has a checkpoint half written; what was seen then, or None where it ended first."
    old_parts, old_log = parts_of(run), log_of(run)  # what an earlier kill left does not count: a sitting begins a new log
    process = sitting(corpus, run, recipe)
    while process.poll() is None:
        if log_of(run) != old_log and len(steps_of(run)) >= step and (not half_written or parts_of(run) - old_parts):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            rows = steps_of(run)
            return dict(step=len(rows), stage=rows[-1]["stage"], half_written=bool(parts_of(run) - old_parts))
        time.sleep(0.002)
    finish(process)
    return None


def differences(whole, run):
    "What differs between two finished runs: nothing, if all is well."
    clock = ("wall_s", "wait_s")
    rows = [[{k: v for k, v in row.items() if k not in clock} for row in steps_of(r)] for r in (whole, run)]
    found = ["metrics"] * (rows[0] != rows[1]) + ["steps"] * ([row["step"] for row in rows[1]] != list(range(1, STEPS + 1)))
    for name in ("model.safetensors", "trainer.safetensors"):
        a, b = (load_file(r / "checkpoints" / (r / "checkpoints" / "latest").read_text().strip() / name) for r in (whole, run))
        found += [name] * (a.keys() != b.keys() or not all(a[k].equal(b[k]) for k in a))
    cards = [read_json(r / "run.json") for r in (whole, run)]
    return found + ["seen"] * (cards[0]["seen"] != cards[1]["seen"])


def trial(corpus, out, recipe, count, rand):
    "One recipe, undisturbed and killed `count` times."
    whole, run, kills = out / f"{recipe}-whole", out / f"{recipe}-killed", []
    finish(sitting(corpus, whole, recipe))
    for number, step in enumerate(sorted(rand.choice(np.arange(2, STEPS - 8), count, replace=False).tolist())):
        seen = kill(corpus, run, recipe, step, half_written=number % 2 == 1)
        if seen:
            kills.append(dict(recipe=recipe, asked=step, **seen))
    finish(sitting(corpus, run, recipe))
    return dict(recipe=recipe, kills=kills, resumed_from=read_json(run / "run.json")["resumed_from"], differs=differences(whole, run))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="+", default=list(KILLS), choices=list(KILLS))
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    corpus, rand, started, trials = coloured_corpus(options.out / "corpus", 24), np.random.default_rng(options.seed), time.time(), []
    for recipe in options.recipes:
        trials.append(trial(corpus, options.out, recipe, KILLS[recipe], rand))
        last = trials[-1]
        kills = ", ".join(f"{k['step']} ({k['stage']}{', half-written' * k['half_written']})" for k in last["kills"])
        print(f"| {recipe} | {kills} | {last['resumed_from']} | {last['differs'] or 'nothing'} |", flush=True)
    result = dict(date=str(datetime.date.today()), machine=f"{platform.machine()}, {platform.system()}", seed=options.seed, steps=STEPS,
                  kills=sum(len(t["kills"]) for t in trials), minutes=round((time.time() - started) / 60, 1), trials=trials)  # fmt: skip
    (options.out / "kills.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['kills']} kills in {result['minutes']} minutes")
    sys.exit(any(t["differs"] for t in trials))


if __name__ == "__main__":
    main()
