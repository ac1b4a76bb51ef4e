"""The command line: one thin command a verb, wiring rooms together. Explained in nbs/cli/00_commands.ipynb."""

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from babyvlm.core.basics import WrongInput

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Infants' recordings to a small vision-language model, and an honest report of which developmental milestones it meets.",
)  # fmt: skip

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BARRED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
Seed = Annotated[int, typer.Option(help="Redraws world, initialisation and order.")]


def explain(error: BaseException) -> str | None:
    "The one line for an error that the user can mend; None when the error is a bug of ours."
    if isinstance(error, WrongInput):
        return " ".join(str(error).split())
    if getattr(error, "errno", None) in FULL or "No space left on device" in str(error):
        where = getattr(error, "filename", None)
        return f"no space left{f' for {where}' if where else ' where OUT lies'}; free some and give the same command again"
    if isinstance(error, OSError) and error.errno in BARRED:
        return f"{error.filename or 'a file'}: {error.strerror}; choose a place that you may write"
    return None


def main():
    "Run a command; wrong input prints one line and leaves with exit code 2."
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        fail("stopped; give the same command again to go on", 130)
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own complaints about options
            context = getattr(error, "ctx", None)
            fail(f"{error.format_message()}{f' (see {context.command_path} --help)' if context else ''}", 2)
        if line := explain(error):
            fail(line, 2)
        raise


def fail(line: str, code: int):
    "Print one line and leave."
    print(f"babyvlm: {line}", file=sys.stderr)
    sys.exit(code)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Argument(help="Folder for everything that is made.")] = Path("quickstart"),
    seed: Seed = 0,
):
    "The whole road on nursery data, small: a report card at the end, in about 12 minutes on two cores."
    from babyvlm.cli.quickstart import quickstart as walk

    walk(out, seed=seed)


@app.command()
def nursery(
    out: Annotated[Path, typer.Argument(help="Recordings folder to make or continue.")],
    minutes: Annotated[float | None, typer.Option(help="Minutes per child; 2 by default.")] = None,
    children: Annotated[int | None, typer.Option(help="How many children; 1 by default.")] = None,
    px: Annotated[int | None, typer.Option(help="Side of a frame, in pixels; 224 by default.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second; 10 by default.")] = None,
    world: Annotated[str, typer.Option(help="full, or first_words: sixteen toys, two rooms, nothing happens. Other options turn its dials.")] = "full",
    unrelated: Annotated[float | None, typer.Option(help="Share of utterances that are not about anything in view; 0.3 by default.")] = None,
    pace: Annotated[float | None, typer.Option(help="Seconds until a new scene; 8 by default.")] = None,
    events: Annotated[float | None, typer.Option(help="Share of scenes in which something happens.")] = None,
    nouns: Annotated[str | None, typer.Option(help="first, all, or how many, in the order in which children learn them.")] = None,
    places: Annotated[str | None, typer.Option(help="Where scenes are: rug, table, high chair, kitchen, bath, window; with commas between.")] = None,
    ages: Annotated[str | None, typer.Option(help="First and last month: 3,31. Three or more: these months.")] = None,
    growing: Annotated[bool | None, typer.Option(help="Whether body, scenes and speech change with age, in a home that stays.")] = None,
    held_out: Annotated[bool | None, typer.Option(help="Whether held-out nouns and noun-colour pairs are kept for experiments.")] = None,
    zipf: Annotated[float | None, typer.Option(help="How unevenly nouns are used: 0 all alike, 1 as in speech.")] = None,
    offset_s: Annotated[float | None, typer.Option(help="Seconds by which the transcripts are late.")] = None,
    wrong: Annotated[float | None, typer.Option(help="Share of namings with a wrong noun.")] = None,
    transcripts: Annotated[str | None, typer.Option(help="vtt, cha or both.")] = None,
    voice: Annotated[str | None, typer.Option(help="auto, espeak or hum.")] = None,
    longest: Annotated[float | None, typer.Option(help="Minutes of one recording at most; 5 by default.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; as many as processors by default.")] = None,
    seed: Seed = 0,
):
    "Make recordings of infants' days, with transcripts and known truth."
    record(**{name: value for name, value in locals().items() if value is not None})  # every option that was given, by its name


def record(out, world, nouns=None, places=None, ages=None, **dials):
    "Make recordings of the world of that name, its dials turned."
    from babyvlm.nursery.recordings import make_recordings
    from babyvlm.nursery.world import FIRST_WORDS, World

    worlds = dict(full=World(), first_words=FIRST_WORDS)
    if world not in worlds:
        raise WrongInput(f"--world: {world!r} is not one of {', '.join(worlds)}")
    dials |= dict(nouns=whole(nouns), places=listed(places), ages=listed(ages, "--ages", float))
    make_recordings(out, worlds[world], **{name: value for name, value in dials.items() if value is not None})
    print(f"recordings are in {out}")


def whole(text: str | None):
    "The whole number that a text spells, or the text itself."
    return int(text) if text is not None and text.strip().lstrip("-").isdigit() else text


def listed(text: str | None, option: str = "", kind=str) -> tuple | None:
    "What stands between the commas."
    try:
        return None if text is None else tuple(kind(part.strip()) for part in text.split(","))
    except ValueError:
        raise WrongInput(f"{option}: {text!r} is not numbers with commas between, as in 3,31") from None


@app.command()
def curate(
    recordings: Annotated[Path, typer.Argument(help="Any tree of video files with transcripts beside them.")],
    out: Annotated[Path, typer.Argument(help="Corpus folder to make or continue.")],
    fps: Annotated[float, typer.Option(help="Frames kept per second.")] = 1.0,
    px: Annotated[int, typer.Option(help="Short side of the kept frames; never enlarged.")] = 224,
    workers: Annotated[int | None, typer.Option(help="Processes; as many as processors by default.")] = None,
    seed: Seed = 0,
):
    "Turn recordings into a corpus of tables, with a reason for all that is dropped."
    from babyvlm.curation.pipeline import curate as run, problems

    corpus = run(recordings, out, fps=fps, px=px, workers=workers, seed=seed)
    if table := problems(corpus):
        print(table)
    counts = corpus.card["counts"]
    print(f"{counts['pairs']:,} pairs from {counts['recordings']:,} recordings in {out}")


@app.command()
def pretrain(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder.")],
    out: Annotated[Path, typer.Argument(help="Run folder to make.")],
    recipe: Annotated[str, typer.Option(help="clip, cvcl, babyllava, babyllava-v1, babyllava-v2 or predict; or a JSON file with stages of your own.")],
    size: Annotated[str, typer.Option(help="tiny, small, base or large.")] = "tiny",
    start: Annotated[Path | None, typer.Option("--from", help="Run whose towers and tokenizer to start from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Total optimizer steps, shared among the stages.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time limit; turned into steps once, and stored.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes that make batches; as the data needs by default.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write curves for TensorBoard.")] = False,
    seed: Seed = 0,
):
    "Train a learner from nothing, or from another run's towers."
    from babyvlm.cli.pretrain import train

    train(corpus, out, recipe, size=size, steps=steps, minutes=minutes, seed=seed, start=start, resume=resume, workers=workers, tensorboard=tensorboard)


@app.command()
def probe(
    run: Annotated[str, typer.Argument(help="A run folder, or a transformers folder or name.")],
    out: Annotated[Path, typer.Argument(help="Folder for probe.json, probe.html and the features.")],
    corpus: Annotated[Path | None, typer.Option(help="Corpus whose frames and nouns are asked; pictures of the nursery when not given.")] = None,
    seed: Seed = 0,
):
    "Ask what can be read from a learner's frozen features, layer by layer, beside its untrained twin."
    from babyvlm.cli.probe import probe_run

    probe_run(run, out, corpus=corpus, seed=seed)


@app.command()
def milestones(
    run: Annotated[str, typer.Argument(help="A run folder, or a transformers folder or name.")],
    out: Annotated[Path, typer.Argument(help="Report folder to make or continue.")],
    suite: Annotated[str, typer.Option(help="Which suite to make and judge: first_words, toolbox, permanence, social, language, number, space, memory, or all; or composition, for word order and negation.")] = "first_words",
    trials: Annotated[Path | None, typer.Option(help="A trials folder, or published items in any known layout, to judge instead.")] = None,
    checkpoints: Annotated[str, typer.Option(help="latest, or all: a learning curve.")] = "latest",
    children: Annotated[Path | None, typer.Option(help="A table of children's ages and scores, drawn beside the learner's.")] = None,
    people: Annotated[Path | None, typer.Option(help="People's choices and the learner's arrays in DevBench's layout: how alike they are.")] = None,
    seed: Seed = 0,
):
    "Judge a learner and write its report card."
    from babyvlm.cli.quickstart import judge_runs

    if checkpoints not in ("latest", "all"):
        raise WrongInput(f"--checkpoints: {checkpoints!r} is not latest or all")
    judge_runs([run], out, trials=trials, suite=suite, seed=seed, checkpoints=checkpoints, children=children, people=people)


@app.command()
def audit(
    trials: Annotated[Path, typer.Argument(help="A trials folder, or published items in any known layout.")],
    out: Annotated[Path | None, typer.Option(help="File for every item that was found; audit.json in TRIALS by default.")] = None,
    seed: Seed = 0,
):
    "Say which items can be solved without seeing, reading or knowing; exit code 0 clean, 1 flaws, 2 wrong input."
    from babyvlm.cli.audit import audit_folder

    if audit_folder(trials, out, seed=seed)["verdict"] != "clean":
        raise typer.Exit(1)


@app.command()
def compare(
    reports: Annotated[list[Path], typer.Argument(help="Report folders, two or more, or one with several learners.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the page; only a table is printed when not given.")] = None,
    seed: Seed = 0,
):
    "Compare learners trial by trial: differences with intervals, wins, ties and losses."
    from babyvlm.cli.compare import compare_reports

    compare_reports(reports, out, seed=seed)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    to: Annotated[str, typer.Option(help="hf, lmms-eval, egobabyvlm or devbench.")],
    trials: Annotated[Path | None, typer.Option(help="A trials folder, for devbench and for the dry run; a few of the nursery's when not given.")] = None,
    seed: Seed = 0,
):
    "Write a run so that another harness can judge it."
    from babyvlm.cli.export import export_run

    export_run(run, out, to, trials=trials, seed=seed)


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(help="What is to leave the machine.")],
    allow: Annotated[list[str] | None, typer.Option(help="Paths that may hold anything: 'tutorials/*'. May be given several times.")] = None,
    names: Annotated[Path | None, typer.Option(help="A file with people's names to look for, one a line; keep it out of FOLDER.")] = None,
):
    "Say where pixels, sound or identities could leak; exit code 0 nothing found, 1 something, 2 wrong input."
    from babyvlm.curation.scan import read_names, scan as look

    found = look(folder, allow or (), read_names(names) if names else ())
    print(found)
    if not found.clean:
        raise typer.Exit(1)


@app.command()
def lab(
    folder: Annotated[Path, typer.Argument(help="Where to copy the tutorials.")] = Path("babyvlm-lab"),
    copy_only: Annotated[bool, typer.Option("--copy-only", help="Do not open JupyterLab.")] = False,
):
    "Copy the tutorials to a folder of your own and open JupyterLab there."
    import shutil
    import subprocess

    from babyvlm.core.samples import tutorials

    if folder.exists() and not folder.is_dir():
        raise WrongInput(f"{folder} is a file, and a folder is meant; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(tutorials().glob("*.ipynb")):
        if not (folder / notebook.name).exists():  # never overwrite a student's work
            shutil.copyfile(notebook, folder / notebook.name)
    print(f"tutorials are in {folder}")
    if not copy_only:
        subprocess.run([sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"], check=False)


@app.command()
def doctor():
    "What this machine can do: device, precision, video readers, memory, free disk."
    from babyvlm.cli.doctor import examine

    for name, finding in examine().items():
        print(f"{name:<14} {finding}")
