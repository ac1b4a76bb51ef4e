"""The road end to end: nursery, curate, pretrain twice, milestones."""

import time
from pathlib import Path

from babyvlm.core.basics import WrongInput, make_folder, open_out

WORLD = dict(children=5, minutes=40.0, px=64, fps=1.0, pace=2.5, unrelated=0.3)  # dials of FIRST_WORDS: 5 x 40 min / 2.5 s = 4,800 scenes
STEPS = dict(clip=4500, babyllava=700)  # of training: seven and two minutes on two cores; steps, so that the load of a machine costs time and not scores
TRIALS = 480  # of each task


def quickstart(out, seed=0, world=WORLD, steps=STEPS, trials=TRIALS):
    "Walk the whole road into `out`, going on where an earlier walk stopped; returns the report."
    from babyvlm.curation.pipeline import curate
    from babyvlm.nursery.recordings import make_recordings
    from babyvlm.nursery.world import FIRST_WORDS
    from babyvlm.pretraining.recipes import pretrain

    started = time.time()
    out = open_out(out, dict(seed=seed, world=world, steps=steps, trials=trials), "quickstart.json")
    make_recordings(out / "recordings", FIRST_WORDS, seed=seed, **world)
    curate(out / "recordings", out / "corpus", fps=world["fps"], px=world["px"], seed=seed)
    pretrain(out / "corpus", out / "clip", "clip", steps=steps["clip"], seed=seed, resume=True)
    pretrain(out / "corpus", out / "babyllava", "babyllava", steps=steps["babyllava"], seed=seed,
             start=out / "clip", resume=True)  # fmt: skip
    report = judge_runs([out / "clip", out / "babyllava"], out / "report", seed=seed, trials_count=trials)
    print(f"the whole road took {(time.time() - started) / 60:.1f} minutes")
    return report


def judge_runs(runs, out, trials=None, suite="first_words", seed=0, trials_count=TRIALS, checkpoints="latest", children=None, people=None):
    "Load runs, make or read the trials, judge, and print the table and where the page is; returns the report."
    from babyvlm.milestones.child_curves import read_curve
    from babyvlm.milestones.devcv_more import open_trials
    from babyvlm.milestones.judge import judge
    from babyvlm.milestones.likeness import read_likeness
    from babyvlm.milestones.pieces import text_table

    if trials is not None and not Path(trials).exists():
        raise WrongInput(f"trials: {trials} does not exist; give the path of an existing folder")
    curve = read_curve(children) if children is not None else []
    alike = read_likeness(people) if people is not None else None
    learners = learners_of(runs, checkpoints)
    out = make_folder(out)
    if not any((out / card).exists() for card in ("milestones.json", "trials")) and any(out.iterdir()):
        raise WrongInput(f"{out} holds other files and no report; choose a new or empty folder")
    own = [learner for learner in learners if not getattr(learner, "checkpoint_of", None)]  # asking an earlier one would load it
    source = trials if trials is not None else make_suite(suite, out / "trials", seed, trials_count, sight(own))
    most = [m for learner in own if (m := getattr(learner, "max_pictures", None)) and m >= 2]
    stimuli = open_trials(source, out / "trials", splits="test", longest=min(most, default=None))  # long published items are cut, and the report says so
    report = judge(learners, stimuli, out, corpus=training_corpus(runs), seed=seed, children=curve, likeness=alike)
    print(text_table(report))
    print(f"report card: {Path(out) / 'report.html'}")
    return report


def learners_of(runs, checkpoints="latest"):
    "The learners of some runs, each with a name of its own; with `all`, their earlier checkpoints too."
    from babyvlm.cli.checkpoints import earlier
    from babyvlm.milestones.judge import names
    from babyvlm.models.load import load_learner

    learners = [load_learner(run) for run in runs]
    for run, learner, name in zip(runs, learners, names(learners)):
        learner.name, learner.started_from = name, start_of(run)
    past = [c for run, learner in zip(runs, learners) for c in earlier(run, learner.name)] if checkpoints == "all" else []
    return learners + past


def start_of(run):
    "The fingerprint of the run whose towers this one began with; None where it began with nothing."
    from babyvlm.core.basics import read_json

    card = Path(run) / "run.json"
    return (read_json(card, "run").get("settings") or {}).get("start") if card.is_file() else None


def sight(learners):
    "The side of the pictures to draw for some learners: what the best eye among them sees, from 64 to 128 px; some tasks ask about eyes and patterns."
    return max([64, *(min(128, px) for learner in learners if (px := getattr(learner, "max_px", None)))])


def make_suite(suite, folder, seed, count, px=64, **some):
    "The trials folder of a suite, made by the nursery unless it is there already; the plain suite is drawn at 64 px for everybody. `some`: further options of the suite."
    from babyvlm.nursery.suites import suites

    if suite not in suites:
        raise WrongInput(f"--suite: {suite!r} is not one of {', '.join(suites)}")
    if not (folder / "trials.json").is_file():
        suites[suite](folder, n=count, seed=seed, px=64 if suite == "first_words" else px, **some)
    return folder


def training_corpus(runs):
    "The corpus that the first of these runs was trained on, where it still lies; None otherwise."
    from babyvlm.core.basics import read_json
    from babyvlm.core.corpus import read_corpus

    for run in runs:
        try:
            return read_corpus(read_json(Path(run) / "run.json", "run")["corpus"]["path"])
        except (WrongInput, KeyError):
            continue
    return None
