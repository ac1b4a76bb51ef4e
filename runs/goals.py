"""Is it the place, and was it learnt? A follow-up of `runs/milestones.py`: `predict` is below guessing on *What she goes for*.

    python runs/goals.py OUT TRIALS --have FOLDER [--seeds 0 1 2] [--quadruplets 100] [--twins 8]

FOLDER holds seedN/predict, TRIALS is a trials folder with the task `goal_attribution` (OUT/reports/social_surprise/trials of `runs/milestones.py`). She reaches twice for one of two toys, they change places behind a screen, she reaches again: to the old
place for the new toy, or to the new place for the old toy. A quadruplet counts as right where the old place surprises more. The last four frames are the same four whatever she did before, so a score off one half is memory; below it, memory of the place.
Asked are the learner, and twins that remember without having learnt: untrained, the last layer drawn at random (`restless` of `runs/predict.py`). Writes OUT/goals.json and OUT/goals.md.
"""

import datetime
from pathlib import Path

from predict import restless
from sides import asking, run_of, share

from babyvlm.core.basics import make_folder, write_json
from babyvlm.core.trials import read_trials
from babyvlm.milestones.surprise import mark_quadruplet, quadruplets, surprises
from babyvlm.models.load import load_learner

TASK = "goal_attribution"


def films_of(trials, most):
    "The first quadruplets: {name: its four films}."
    return dict(list(quadruplets([t for t in trials if t.task == TASK]).items())[:most])


def scored(learner, four, trials):
    "Credit of each quadruplet."
    totals = surprises(learner, [t for members in four.values() for t in members], trials.clip)
    return [mark_quadruplet(name, members, totals).credit for name, members in four.items()]


def goals(out, trials, have, seeds, most, twins):
    "Everything; returns what is written to OUT/goals.json."
    out, trials, rows = make_folder(out), read_trials(trials), []
    four = films_of(trials, most)
    for seed in seeds:
        learner = load_learner(run_of(have, seed, "predict"))
        drawn = [share(scored(restless(learner, 100 * seed + k), four, trials)) for k in range(twins)]
        rows.append(dict(seed=seed, learner=share(scored(learner, four, trials)), untrained=share(scored(learner.fresh(seed), four, trials)), restless=[score for score, *_ in drawn]))
    result = dict(date=str(datetime.date.today()), quadruplets=len(four), rows=rows)
    write_json(out / "goals.json", result)
    lines = ["| seed | learner | untrained | twins that remember without having learnt |", "|" + " --- |" * 4]
    lines += [f"| {r['seed']} | {r['learner'][0]:.2f} [{r['learner'][1]:.2f}, {r['learner'][2]:.2f}] | {r['untrained'][0]:.2f} | {' '.join(f'{score:.2f}' for score in r['restless'])} |" for r in rows]
    (out / "goals.md").write_text("\n".join(lines) + "\n")
    return result


def main():
    parser = asking(__doc__)
    parser.add_argument("trials", type=Path)
    parser.add_argument("--quadruplets", type=int, default=100)
    parser.add_argument("--twins", type=int, default=8)
    options = parser.parse_args()
    goals(options.out, options.trials, options.have, options.seeds, options.quadruplets, options.twins)
    print((options.out / "goals.md").read_text())


if __name__ == "__main__":
    main()
