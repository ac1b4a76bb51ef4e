"""What the benchmarks share: the machine in words, the options, and the page of figures beside their goals."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
LIBRARIES = dict(numpy="numpy", av="PyAV", torch="torch")  # module -> its name in the page


class Goal(NamedTuple):
    "What a figure should be."

    what: str  # the figure in words
    asked: float  # at least; at most where less is better
    less: bool = False  # whether less is better
    wished: float | None = None  # reached for, beyond what is asked

    def met(self, value):
        return value <= self.asked if self.less else value >= self.asked

    def bound(self, number):
        return "" if number is None else f"{'≤' if self.less else '≥'} {number}"


def described(*modules, **more):
    "The machine, in a few words a stranger can compare with, and the versions of some modules."
    info = Path("/proc/cpuinfo")
    model = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), "") if info.exists() else ""
    return dict(processor=model or platform.processor() or platform.machine(), machine=platform.machine(), system=platform.system(), cores=os.cpu_count(),
                load=round(os.getloadavg()[0], 2), **more, python=platform.python_version(), **{m.__name__: m.__version__ for m in (np, *modules)})  # fmt: skip


def apart(code):
    "What a fresh process prints as JSON."
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=str(HERE.parent)))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def where(name, result):
    "The command, the machine and the versions, in a sentence."
    m = result["machine"]
    threads = f" {m['threads']} threads," if "threads" in m else ""
    libraries = ", ".join(f"{label} {m[name]}" for name, label in LIBRARIES.items() if name in m)
    return (f"`python benchmarks/{name}.py{' --quick' if result['quick'] else ''}` on {m['processor']} ({m['cores']} cores,{threads} {m['machine']},"
            f" {m['system']}, load {m['load']} at the start), Python {m['python']}, {libraries}; babyvlm {result['version']}.")  # fmt: skip


def table(figures, goals):
    "The lines of the table of figures; the last column only where something is reached for."
    columns = {
        "figure": [goals[name].what for name in figures],
        "measured": [f"{value}{'' if goals[name].met(value) else ' (missed)'}" for name, value in figures.items()],
        "asked for": [goals[name].bound(goals[name].asked) for name in figures],
        "reached for": [goals[name].bound(goals[name].wished) for name in figures],
    }
    if not any(goal.wished for goal in goals.values()):
        del columns["reached for"]
    return ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *zip(*columns.values(), strict=True))]


def page(name, title, result, figures, goals, measures):
    "The Markdown page."
    lines = [f"# {title}, {result['date']}", "", where(name, result), ""]
    if result["quick"]:
        lines += ["**A quick run: these figures mean nothing.**", ""]
    found = {k: result[k] for k in measures if k in result}
    return "\n".join([*lines, *table(figures, goals), "", "All that was measured:", "", "```json", json.dumps(found, indent=1), "```", ""])


def parser(about, measures):
    "The options that every benchmark has."
    options = argparse.ArgumentParser(description=about.splitlines()[0])
    options.add_argument("out", type=Path, nargs="?", default=HERE)
    options.add_argument("--quick", action="store_true", help="little of everything, only to see that it runs")
    options.add_argument("--only", nargs="+", choices=measures, default=list(measures))
    return options


def report(
    name,  # of the benchmark's file
    title,  # of the page
    options,  # parsed by `parser`
    machine,  # as `described`
    measures,  # name -> (in full, to try it out)
    figures,  # result -> {name: figure that has a goal}
    goals,  # name -> `Goal`
    *given,  # what every measure is handed
):
    "Measure what was asked for, and write OUT/NAME_DATE.json and OUT/NAME_DATE.md."
    import babyvlm

    result = dict(date=str(datetime.date.today()), version=babyvlm.__version__, quick=options.quick, machine=machine)
    for measure in options.only:
        print(f"{measure} …", file=sys.stderr, flush=True)
        result[measure] = measures[measure][options.quick](*given)
        print(json.dumps(result[measure]), file=sys.stderr, flush=True)
    written = page(name, title, result, figures(result), goals, measures)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"{name}_{result['date']}{'_quick' if options.quick else ''}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    stem.with_suffix(".md").write_text(written)
    print(written)
