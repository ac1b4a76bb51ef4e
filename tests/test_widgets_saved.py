"""One notebook that used every widget, saved with all that JupyterLab can save: is anybody in it?"""

import base64
import json
import subprocess
import sys

import pytest
import test_widgets_attention_viewer
import test_widgets_labelling
import test_widgets_review
import test_widgets_trials
from browser import command, lab_page, open_and_run, write_notebook
from test_widgets_monitor import CARD, log

from babyvlm.curation.scan import in_notebook

FAMILY = ["Annabel", "neighbour"]
HOMES = dict(  # Annabel and a day are said, shown as titles, asked for and written into logs; everything is Public, so that pictures and sound do travel
    clips=test_widgets_labelling.HOME.replace("look at the ball", "Annabel look 2021-03-05").replace("child_{k:04d}", "Annabel_2021-03-05_{k}"),
    maps=test_widgets_attention_viewer.MAKE.replace("red ball", "Annabel ball").replace("it is round", "on 2021-03-05"),
    pairs=test_widgets_review.HOME.replace("ball cup", "Annabel cup").replace('"p{k:03d}"', '"Annabel_2021-03-05_{k:03d}"'),
    trials=test_widgets_trials.MAKE.replace("marmalade", "Annabel 2021-03-05"),
)
CELLS = [
    'import clips\ninspector = clips.ClipInspector(many=(9, clips.home), labels="labels", names=("naming", "Annabel"))\ninspector',
    'import pairs\nreview = pairs.CurationReview(pairs.table, picture=lambda row: pairs.stripes, recipe="recipe.json", release_level="Public")\nreview',
    'import maps\nviewer = maps.AttentionViewer(maps.trained, beside=maps.twin, release_level="Public", title="Annabel, 2021-03-05")\nviewer',
    "import trials\ncard = trials.ReportView(trials.card)\ncard",
    'player = card.player(trials.trials, tally="tally.jsonl")\nplayer',
    'from babyvlm.widgets.monitor import TrainingMonitor\nmonitor = TrainingMonitor("Annabel_2021-03-05")\nmonitor',
]
READY = dict(clip=".bv-picture[data-frame]", review=".bv-card img", attention=".bva[data-ready=yes]", report=".br[data-ready]", player=".bt[data-state=asking]", monitor=".bv-monitor[data-ready=yes]")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "The folder of a saved notebook whose six widgets have all been used."
    folder = tmp_path_factory.mktemp("saved")
    for name, text in HOMES.items():
        assert "Annabel" in text and "2021-03-05" in text, name
        (folder / f"{name}.py").write_text(text)
    run = folder / "Annabel_2021-03-05"
    run.mkdir()
    (run / "run.json").write_text(json.dumps(CARD))
    log(run, 1, 100, lambda k: 4.0 - k / 100)
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().replace("a red ball", "Annabel, 2021-03-05"))
    write_notebook(folder / "all.ipynb", *CELLS)
    with lab_page(folder, height=1000) as (page, url):
        open_and_run(page, url("all.ipynb"))
        for selector in READY.values():
            page.wait_for_selector(selector, state="attached")
        use(page)
        command(page, "docmanager:save")
        page.wait_for_timeout(1200)
        assert page.faults == [] and page.away == []
    return folder


def use(page):
    "Something is done with each."
    page.wait_for_timeout(700)  # JupyterLab takes the focus back for a moment after a cell has run
    page.locator(".bv-head").focus()
    for key in ("Home", "Shift+ArrowRight", "2", "w", "Space"):
        page.keyboard.press(key)
    page.wait_for_selector(".bv-clip[data-labels='1']")
    page.wait_for_selector(".bv-why:has-text('Annabel look 2021-03-05')")
    page.wait_for_selector(".bv-clip[data-sound=sounding]")
    page.keyboard.press("k")
    page.locator(".bv-slider").focus()
    page.keyboard.press("PageUp")
    page.locator(".bv-side[data-keep=yes] .bv-card button").first.click()
    page.wait_for_selector(".bv-review[data-decided='1']")
    page.get_by_role("button", name="Write recipe").click()
    page.wait_for_selector("text=pairs are kept")
    page.locator(".bva-word", has_text="Annabel").click()
    page.locator(".bva-stage").first.click()
    page.wait_for_selector(".bva-words[data-looks=yes]")
    page.locator(".br-chip").nth(1).click()
    page.locator(".bt-option").first.click()
    page.wait_for_selector(".bt[data-state=known]")
    assert "Annabel 2021-03-05" in page.locator(".bt-prompt").inner_text() and "Annabel, 2021-03-05" in page.locator(".bv-samples").inner_text()


def scanned(folder, names):
    "What `babyvlm scan` says of a folder: (exit code, text)."
    done = subprocess.run([sys.executable, "-c", "from babyvlm.cli import main; main()", "scan", str(folder), "--names", str(names)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def apart(notebook, folder, names):
    "The notebook alone in a folder, without its sources, and the names of the family beside it."
    folder.mkdir()
    (folder / "all.ipynb").write_text(json.dumps(notebook | dict(cells=[cell | dict(source=[]) for cell in notebook["cells"]])))
    names.write_text("\n".join(FAMILY))
    return folder


def test_nobody_is_in_a_notebook_that_used_every_widget(saved, tmp_path):
    notebook = json.loads((saved / "all.ipynb").read_text())
    kept = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    programs = {s["state"]["_anywidget_id"].rsplit(".", 1)[-1] for s in kept.values() if s["model_module"] == "anywidget"}
    assert programs == {"ClipInspector", "CurationReview", "AttentionViewer", "ReportView", "TrialPlayer", "TrainingMonitor"}
    assert all("application/vnd.jupyter.widget-view+json" in cell["outputs"][0]["data"] for cell in notebook["cells"])
    code, said = scanned(apart(notebook, tmp_path / "leaves", tmp_path / "names.txt"), tmp_path / "names.txt")
    assert code == 0 and "1 files: nothing found" in said, said
    left = json.dumps([notebook["metadata"], [cell["outputs"] for cell in notebook["cells"]]])
    for secret in ("Annabel", "2021-03", "bath", "naming", "data:image", "data:audio"):
        assert secret not in left, secret


def test_a_planted_leak_is_found(saved, tmp_path):
    notebook = json.loads((saved / "all.ipynb").read_text())
    state = next(s["state"] for s in notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values() if s["model_module"] == "anywidget")
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(range(256))).decode()
    for number, (plant, kind) in enumerate([(dict(picture=jpeg), "pixels"), (dict(title="Annabel at home"), "identity"), (dict(title="filmed on 2021-03-05"), "identity")]):
        state.update(plant)
        code, said = scanned(apart(notebook, tmp_path / f"leaks{number}", tmp_path / "names.txt"), tmp_path / "names.txt")
        assert code == 1 and kind in said and "all.ipynb (metadata)" in said, said
        for name in plant:
            del state[name]
    assert in_notebook(json.dumps(notebook | dict(cells=[])), FAMILY) == []
