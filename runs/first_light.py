"""First light: `babyvlm quickstart` for several seeds, its scores, its time and its memory.

    python runs/first_light.py OUT --seeds 0 1 2

Needs two cores, 4 GB of memory and about 13 minutes a seed. A seed redraws world, initialisation and order. Each road is walked
in a process of its own, as the command does it. Writes OUT/first_light.json and prints the table that stands in first_light.md.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

TASKS = ("picture_vocabulary", "looking_while_listening", "colour_words")
COMMAND = "import sys; from babyvlm.cli import main; sys.argv[0] = 'babyvlm'; main()"


def tree(pid):
    "A process and all its descendants."
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for child in children for p in tree(int(child)))]


def resident(pids):
    "Memory that these processes hold, shared pages counted once, in bytes."
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        except (OSError, StopIteration):
            continue
    return total


def walk(out, seed):
    "One road; returns its wall seconds and the peak memory of its processes in bytes."
    started, peak = time.time(), 0
    process = subprocess.Popen([sys.executable, "-c", COMMAND, "quickstart", str(out), "--seed", str(seed)])
    while process.poll() is None:
        peak = max(peak, resident(tree(process.pid)))
        time.sleep(1)
    assert process.returncode == 0, f"quickstart failed for seed {seed}"
    return time.time() - started, peak


def rows(report, seed):
    "The figures of one report, one row a learner and task."
    keys = ("task", "learner", "status", "score", "lo", "hi", "chance", "n", "groups", "tie_rate", "baselines", "paired", "comparisons")
    return [dict(seed=seed, **{key: task.get(key) for key in keys}) for task in report["tasks"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    result = dict(date=str(datetime.date.today()), machine=f"{platform.machine()}, {platform.system()}", seeds={}, rows=[])
    for seed in options.seeds:
        seconds, peak = walk(options.out / f"seed{seed}", seed)
        result["seeds"][seed] = dict(minutes=round(seconds / 60, 2), peak_gb=round(peak / 1e9, 2))
        report = json.loads((options.out / f"seed{seed}" / "report" / "report.json").read_text())
        result["rows"] += rows(report, seed)
        (options.out / "first_light.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result["seeds"], indent=1))
    for row in result["rows"]:
        if row["score"] is not None:
            beside = ", ".join(f"{k} {v['score']:.2f}" for k, v in (row["baselines"] or {}).items() if v)
            print(f"{row['seed']} {row['learner']:<12} {row['task']:<26} {row['score']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}] chance {row['chance']:.2f}; {beside}")


if __name__ == "__main__":
    main()
