"""Pictures of the six widgets at work, on nursery material: in both themes and at two widths, as a page shows them.

    python runs/portraits.py OUT QUICKSTART [--only clip_inspector review …] [--readme] [--themes Light Dark] [--widths 1280 800] [--recordings FOLDER]

QUICKSTART is the folder of a finished `babyvlm quickstart`. The recording of the clip inspector is made here (half a minute of an infant's day, 224 px,
6 frames a second; a minute of work), unless FOLDER holds it from an earlier call. Needs Chromium. Writes OUT/NAME-THEME-WIDTH.png, or with --readme
OUT/NAME.png: light and 1280 pixels wide, as they stand in nbs/images.
"""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEIGHT = 2200
FULL, WIDEST, README = 1400, 1180, 1280  # a window in which a widget has all the width that it takes; that width; the pixels of a picture in the README
sys.path.insert(0, str(HERE.parent / "tests"))

CLIP = '''
from babyvlm.widgets.clip_inspector import ClipInspector
inspector = ClipInspector.from_corpus(CORPUS, boxes=TRUTH, names=("naming", "showing", "unsure"), labels="labels")
inspector.seek(27.1)
inspector
'''
REVIEW = '''
from babyvlm.widgets.review import CurationReview
review = CurationReview.from_corpus(QUICKSTART / "corpus", column="sharpness", recipe="recipe.json")
review
'''
ATTENTION = '''
from babyvlm.core.basics import rng
from babyvlm.models.load import load_learner
from babyvlm.nursery.scene import draw_scene, still
from babyvlm.probing.capture import beside_untrained
from babyvlm.widgets.attention_viewer import AttentionViewer
scene = draw_scene(rng(0, "portrait", 5), [("ball", "red", None), ("duck", None, None)])
picture = still(scene, 224, rng(0, "portrait"))[0]
seen, twin = beside_untrained(load_learner(QUICKSTART / "babyllava"), [picture], ["look at the red ball"])[0]
viewer = AttentionViewer(seen, beside=twin, release_level="Public", title="look at the red ball")
viewer
'''
OCCLUSION = ATTENTION.replace("viewer = ", '''from babyvlm.probing.occlusion import missed
seen, twin = (missed(learner, picture, ["ball", "duck"]) for learner in (load_learner(QUICKSTART / "clip"), load_learner(QUICKSTART / "clip").fresh(0)))
viewer = ''').replace('"look at the red ball")\nviewer', '"A ball and a duck")\nviewer.choose("ball")\nviewer')  # fmt: skip
TRIALS = '''
from babyvlm.widgets.trial_player import TrialPlayer
player = TrialPlayer(QUICKSTART / "report" / "trials", QUICKSTART / "report", at=2)
player
'''
REPORT = '''
from babyvlm.widgets.report_view import ReportView
card = ReportView(QUICKSTART / "report")
card
'''
MONITOR = '''
from babyvlm.widgets.monitor import TrainingMonitor
monitor = TrainingMonitor(QUICKSTART / "babyllava")
monitor
'''
SLID = "page.locator('.bv-number').fill('900'); page.keyboard.press('Enter'); page.wait_for_selector('.bv-side[data-keep=no] img')"
LABEL = "page.locator('.bv-head').press('1'); page.evaluate('document.activeElement.blur()')"
ANSWER = "page.locator('.bt-option').first.click(); page.wait_for_selector('.bt[data-state=known]')"
WIDGETS = {  # name -> (cell, what to photograph, what to wait for, what to do first)
    "clip_inspector": (CLIP, ".bv-clip", ".bv-picture[data-frame]", LABEL),
    "clip_labelled": (CLIP, ".bv-clip", ".bv-picture[data-frame]", "[page.locator('.bv-head').press(key) for key in '2w']"),
    "review": (REVIEW, ".bv-review", ".bv-card img", SLID),
    "review_untouched": (REVIEW, ".bv-review", ".bv-card img", ""),
    "attention_viewer": (ATTENTION, ".bva", ".bva[data-ready=yes]", ""),
    "occlusion": (OCCLUSION, ".bva", ".bva[data-ready=yes]", ""),
    "trial": (TRIALS, ".bt", ".bt[data-state=asking]", ""),
    "trial_answered": (TRIALS, ".bt", ".bt[data-state=asking]", ANSWER),
    "report": (REPORT, ".br", ".br[data-ready]", ""),
    "monitor": (MONITOR, ".bv-monitor", ".bv-monitor[data-ready=yes] svg", ""),
}


def material(folder):
    "A recording of the nursery, curated at its own frame rate: (corpus, truth)."
    from babyvlm.curation.pipeline import curate
    from babyvlm.nursery.recordings import make_recordings

    if not (folder / "corpus" / "corpus.json").is_file():
        make_recordings(folder / "recordings", minutes=0.5, children=1, px=224, fps=6, pace=5, seed=237, progress=False)
        curate(folder / "recordings", folder / "corpus", fps=6, px=224, quiet=True)
    return folder / "corpus", folder / "recordings" / "truth"


def portraits(out, folder, names, themes, widths, preamble, **context):
    "One notebook a widget, all in one JupyterLab."
    from browser import command, lab_page, open_and_run, write_notebook

    for name in names:
        write_notebook(folder / f"{name}.ipynb", preamble + WIDGETS[name][0])
    with lab_page(folder, height=HEIGHT, **context) as (page, url):
        for name in names:
            _, root, ready, first = WIDGETS[name]
            page.set_viewport_size(dict(width=widths[0], height=HEIGHT))
            open_and_run(page, url(f"{name}.ipynb"))
            page.wait_for_selector(ready)
            page.wait_for_timeout(800)
            if context and page.locator("#jp-left-stack").is_visible():
                command(page, "application:toggle-left-area")
            exec(first, dict(page=page))
            for theme in themes:
                command(page, "apputils:change-theme", theme=f"JupyterLab {theme}")
                page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")
                for width in widths:
                    page.set_viewport_size(dict(width=width, height=HEIGHT))
                    page.wait_for_timeout(900)
                    page.locator(root).screenshot(path=out / f"{name}-{theme.lower()}-{width}.png")
        assert not page.faults, page.faults


def smaller(folder):
    "The names that the pictures have in nbs/images, and what PNG can save without loss."
    from PIL import Image

    for path in folder.glob(f"*-light-{FULL}.png"):
        Image.open(path).convert("RGB").save(folder / path.name.replace(f"-light-{FULL}", ""), optimize=True)
        path.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("quickstart", type=Path)
    parser.add_argument("--only", nargs="+", choices=WIDGETS, default=list(WIDGETS))
    parser.add_argument("--themes", nargs="+", default=["Light", "Dark"])
    parser.add_argument("--widths", nargs="+", type=int, default=[1280, 800])
    parser.add_argument("--recordings", type=Path, help="where the recording and its corpus are kept")
    parser.add_argument("--readme", action="store_true", help="as they stand in the README")
    options = parser.parse_args()
    options.themes, options.widths, context = (["Light"], [FULL], dict(device_scale_factor=README / WIDEST)) if options.readme else (options.themes, options.widths, {})
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        corpus, truth = material(options.recordings or Path(scratch)) if {"clip_inspector", "clip_labelled"} & set(options.only) else (scratch, scratch)
        (Path(scratch) / "lab").mkdir()
        preamble = "from pathlib import Path\nCORPUS, TRUTH, QUICKSTART = " + ", ".join(f"Path({str(Path(p).resolve())!r})" for p in (corpus, truth, options.quickstart))
        portraits(options.out, Path(scratch) / "lab", options.only, options.themes, options.widths, preamble, **context)
    if options.readme:
        smaller(options.out)


if __name__ == "__main__":
    main()
