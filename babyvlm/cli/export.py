"""`babyvlm export`: a run goes out to be judged by others, and answers nursery items before it leaves."""

import tempfile
from pathlib import Path

from babyvlm.core.basics import WrongInput

TASKS = ("picture_vocabulary", "localization", "counting")  # of the dry run


def export_run(run, out, to, trials=None, seed=0):
    "Make the folder that others need and say what is in it; `trials` are nursery items unless a folder is given."
    from babyvlm.core.trials import read_trials
    from babyvlm.models.exports import export, exporters
    from babyvlm.models.load import learner_folder

    if to not in exporters:
        raise WrongInput(f"--to: {to!r} is not one of {', '.join(exporters)}")
    learner_folder(run)  # before any trial is drawn
    with tempfile.TemporaryDirectory() as scratch:
        items = read_trials(trials) if trials is not None else read_trials(nursery_items(Path(scratch) / "trials", seed))
        export(run, out, to, items)
    print(f"{to}: {out} (start with {Path(out) / 'README.md'})")


def nursery_items(folder, seed):
    "A few trials of three tasks, the same for the same seed."
    from babyvlm.nursery.stimuli import write_first_words

    return write_first_words(folder, n=16, px=64, seed=seed, permanence=0, workers=1, tasks=TASKS)
