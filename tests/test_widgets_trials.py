"""The trial player and the report view in a real JupyterLab, and where no page is attached."""
import base64
import json
import os
import re
import subprocess
import sys

import pytest
from browser import LOOKS, ROOT, command, faults_for, fits, lab_page, open_and_run, put_on, write_notebook

MAKE = '''
import pathlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from babyvlm.core.basics import write_json
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter, read_trials
from babyvlm.widgets.trial_player import TrialPlayer
from babyvlm.widgets.report_view import ReportView

paint = dict(red=(200, 40, 40), green=(40, 160, 60), blue=(40, 70, 200), yellow=(230, 200, 40))
def patch(name):
    y, x = np.mgrid[:64, :64] / 64
    return np.clip(np.array(paint[name]) * (.6 + .4 * y + .3 * x)[..., None] + 30 * (np.arange(64) % 2)[None, :, None], 0, 255).astype(np.uint8)
def film(hidden, revealed):
    frames = np.full((6, 64, 64, 3), 60, np.uint8)
    frames[:2, 16:32, 16:32] = 220 if hidden else 60
    frames[2:4] = 128
    frames[4:, 16:32, 16:32] = 220 if revealed else 60
    return frames
def world(here, level):
    with TrialsWriter(here, dict(name="patches")) as writer:
        shared = dict(suite="patches", source=dict(release_level=level))
        for k in range(12):
            order = list(paint)[k % 4:] + list(paint)[:k % 4]
            right = order[k * 7 % 4]
            picks = [Choice(c, [Part("image", path=writer.image(patch(c)))]) for c in order]
            writer.add(Trial(f"t{k:02d}", task="find", form="choose_image", context=[Part("text", text=f"where is the {right} marmalade")], choices=picks, answer=[right], chance=.25,
                             group=dict(scene=f"s{k // 4}", noun=right), facts=dict(delay_s=[0, 4][k % 2]) if k < 0 else dict(ratio=["1 to 2", "2 to 3"][k % 2]), age_months=[6, 14], **shared))
        tell = [Choice(c, [], f"it is {c}") for c in paint]
        writer.add(Trial("w0", task="tell", form="choose_text", context=[Part("image", path=writer.image(patch("blue")))], choices=tell, answer=["blue"], chance=.25, **shared))
        seen = [Part("image", path=writer.image(patch(c)), onset_s=.5 * i) for i, c in enumerate(("blue", "red"))]
        writer.add(Trial("m0", task="remember", form="sequence", context=[*seen, Part("text", text="we saw this")], choices=picks[:2], answer=[picks[0].id], chance=.5, facts=dict(lag=0), **shared))
        for hidden, revealed in [(1, 1), (0, 0), (1, 0), (0, 1)]:
            writer.add(Trial(f"q{hidden}{revealed}", task="vanish", form="surprise", context=[Part("clip", path=writer.clip(film(hidden, revealed), 10))], choices=[], answer=[], chance=.5,
                             quad_id="q", reveal_frame=4, facts=dict(violation=hidden != revealed), **shared))
    return here
def report(here, trials):
    here.mkdir()
    rows, lines, random = [], [], np.random.default_rng(0)
    for name, skill in (("clip", .4), ("babyllava", 1.2)):
        for t in trials[:12]:
            scores = [float(random.normal(skill * (c.id in t.answer), .5)) for c in t.choices]
            rows.append(dict(learner=name, suite="patches", task="find", variant="learner", trial_id=t.trial_id, scores=scores, credit=float(t.choices[int(np.argmax(scores))].id in t.answer), tied=False, error="", way="similarity", reply=""))
        rows.append(dict(rows[-1], task="vanish", trial_id="q", scores=[3.2, 5.1], credit=1., way="surprise"))
    base = dict(score=.25, lo=.2, hi=.3)
    def line(name, task, score): return dict(suite="patches", task=task, learner=name, status="ok", reason="", score=score, lo=score - .05, hi=score + .05, chance=.25, n=480, groups=120, tie_rate=0., errors=0, heard_share=1., grade="emerging",
        baselines=dict(untrained=base, shortcut=None), comparisons=[dict(vs="chance", delta=score - .25, lo=score - .3, hi=score - .2, p=.001, above=True)], by=dict(noun={c: dict(score=.2 * k + .2, lo=.1, hi=.9, n=120) for k, c in enumerate(paint)}),
        norm=dict(statement="Children aged 6-9 months look at the named picture.", source="Bergelson & Swingley 2012"))
    names = ["clip", "babyllava", "clip step 100"]
    lines = [line(n, task, .8 - .2 * k) for task in ("find", "tell") for k, n in enumerate(names)]
    lines.append(dict(suite="patches", task="vanish", learner="clip", status="not_applicable", reason="needs surprise", score=None, lo=None, hi=None, chance=.5, n=1, groups=1, baselines={}, comparisons=[], by={}, norm=None))
    cards = [dict(name="clip", words_seen=90000, step=900), dict(name="babyllava", words_seen=14000), dict(name="clip step 100", words_seen=9000, step=100, checkpoint_of="clip")]
    pq.write_table(pa.Table.from_pylist(rows), here/"trials.parquet")
    child = dict(task="find", age_months=20., score=.6, lo=.5, hi=.7, n=12, statistic="share right", source="an example", licence="none")
    write_json(here/"report.json", dict(learners=cards, tasks=lines, children=[child]))
    return here
root = pathlib.Path(__import__("tempfile").mkdtemp())
trials = read_trials(world(root/"trials", "Public"))
card = report(root/"report", trials)
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder/"home.py").write_text(MAKE)
    write_notebook(folder/"ui.ipynb", "from home import *\np = TrialPlayer(trials, card)\np", 'print("state", [p.task, p.order, p.at, p.filters, p.listed, [[r["unit_id"], r["given"], r["credit"]] for r in p.tally.rows]])')
    write_notebook(folder/"card.ipynb", "from home import *\nv = ReportView(card)\nv", 'p = v.player(trials)\nprint("state", [v.task, v.learner, p.task])')
    write_notebook(folder/"blur.ipynb", "from home import *\np = TrialPlayer(world(root/'private', 'Private'), reveal_log='looks.jsonl')\np")
    with lab_page(folder, height=1000) as (page, url):
        page.folder = folder
        open_and_run(page, url("ui.ipynb"))
        page.wait_for_selector(".bt[data-state=asking]")
        yield page, url


def in_kernel(page, code):
    "Run code in the kernel of the open notebook; what it prints."
    return page.evaluate("""async (code) => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel; let text = '';
      const future = kernel.requestExecute({code}); future.onIOPub = (m) => { if (m.header.msg_type === 'stream') text += m.content.text; if (m.header.msg_type === 'error') text += 'ERROR ' + m.content.evalue };
      await future.done; return text }""", code).strip()


def state(page):
    return json.loads(in_kernel(page, "import json; print(json.dumps([p.task, p.order, p.at, p.filters, p.listed, [[r['unit_id'], r['given'], r['credit']] for r in p.tally.rows]]))"))


def place(page, expected):
    page.wait_for_function("(text) => document.querySelector('.bt-place').innerText === text", arg=expected)


def test_taking_a_trial_comes_before_its_key(lab):
    page, _ = lab
    assert page.locator(".bt-prompt").inner_text() == "where is the red marmalade" and page.locator(".bt-option").count() == 4
    assert "key" not in page.locator(".bt-stage").inner_text() and page.locator(".bt-learner").count() == 0
    page.locator(".bt-option").nth(1).click()
    page.wait_for_selector(".bt[data-state=known]")
    assert page.locator(".bt-done[data-right=yes] .bt-number").inner_text() == "1"
    assert "you" in page.locator(".bt-done").nth(1).inner_text() and "You: wrong" in page.locator(".bt-verdict").inner_text()
    assert "guessing gives 25 of 100" in page.locator(".bt-verdict").inner_text() and "6-9 months" in page.locator(".bt-norm").inner_text()
    assert page.locator(".bt-learner").count() == 2 and page.locator(".bt-learner .bt-fill").count() == 8
    assert state(page)[5] == [["t00", [1], 0.0]]


def test_keys_alone_are_enough(lab):
    page, _ = lab
    page.locator(".bt-button[data-do=next]").focus()
    page.keyboard.press("ArrowRight")
    place(page, "2 of 12")
    page.wait_for_selector(".bt[data-state=asking]")
    right = page.evaluate("document.querySelectorAll('.bt-option').length")
    page.locator(".bt-prompt").focus()
    page.keyboard.press("4")
    page.wait_for_selector(".bt[data-state=known]")
    taken = state(page)[5]
    assert [row[0] for row in taken] == ["t00", "t01"] and taken[1][1] == [3] and right == 4
    page.keyboard.press("u")
    page.wait_for_selector(".bt[data-state=asking]")
    assert [row[0] for row in state(page)[5]] == ["t00"]
    page.locator(".bt-prompt").focus()
    page.keyboard.press("s")
    page.wait_for_selector(".bt[data-state=known]")
    assert "have not answered" in page.locator(".bt-verdict").inner_text() and len(state(page)[5]) == 1
    page.keyboard.press("ArrowLeft")
    place(page, "1 of 12")
    page.wait_for_selector(".bt[data-state=known]")  # it was answered before
    assert page.locator(".jp-Cell").count() == 2


def test_errors_come_by_margin_and_filters_narrow(lab):
    page, _ = lab
    page.locator("select[aria-label=Order]").select_option("errors")
    page.wait_for_function("document.querySelector('.bt-place').innerText.startsWith('1 of') && document.querySelector('.bt-place').innerText !== '1 of 12'")
    _, order, at, _, listed, _ = state(page)
    margins = json.loads(in_kernel(page, "print(json.dumps([p.answers.margin('clip', p.units[k]) for k in p.listed]))"))
    assert order == "errors" and at == 0 and len(margins) == len(listed) > 1 and margins == sorted(margins) and margins[-1] <= 0
    page.wait_for_selector(".bt[data-state=asking], .bt[data-state=known]")
    page.locator("select[aria-label=Order]").select_option("as written")
    place(page, "1 of 12")
    page.locator(".bt-filterfold summary").click()
    page.locator("select[aria-label=ratio]").select_option("2 to 3")
    place(page, "1 of 6")
    assert state(page)[3] == {"ratio": "2 to 3"} and state(page)[4] == [1, 3, 5, 7, 9, 11]
    assert "1 on: 6 of 12" in page.locator(".bt-filterfold summary").inner_text()
    page.locator("select[aria-label=ratio]").select_option("")
    place(page, "1 of 12")
    page.locator(".bt-filterfold summary").click()


def test_python_steers_the_page(lab):
    page, _ = lab
    assert in_kernel(page, "p.at = 4") == ""
    place(page, "5 of 12")
    assert "ERROR" in in_kernel(page, "p.task = 'no/such'")
    in_kernel(page, "p.task = 'patches/tell'")
    page.wait_for_function("document.querySelector('.bt-option .bt-words')?.innerText === 'it is red'")
    page.wait_for_selector(".bt[data-state=asking]")
    in_kernel(page, "p.answer(2)")
    page.wait_for_selector(".bt[data-state=known]")
    assert "You: correct" in page.locator(".bt-verdict").inner_text()


def test_pictures_of_a_sequence_are_gone_when_it_asks(lab):
    page, _ = lab
    in_kernel(page, "p.task = 'patches/remember'")
    page.wait_for_function("document.querySelector('.bt-prompt').innerText === 'we saw this' && document.querySelector('.bt').dataset.state === 'asking'")
    assert page.locator(".bt-scene canvas").count() == 0 and page.locator(".bt-option").count() == 2
    page.locator(".bt-option").nth(0).click()
    page.wait_for_selector(".bt[data-state=known]")
    assert page.locator(".bt-reel canvas").count() == 2


def test_a_quadruplet_is_four_films_and_one_decision(lab):
    page, _ = lab
    page.locator("select[aria-label=Task]").select_option("patches/vanish")
    for film in range(4):
        page.wait_for_function("(k) => document.querySelector('.bt').dataset.state === 'asking' && document.querySelectorAll('.bt-phases li')[k].className === 'bt-here'", arg=film)
        assert page.locator(".bt-prompt").inner_text() == "Can that be?"
        page.locator(".bt-prompt").focus()
        page.keyboard.press("2" if film < 2 else "1")
    page.wait_for_selector(".bt[data-state=known]")
    assert page.locator(".bt-film[data-odd=yes]").count() == 2 and page.locator(".bt-film").count() == 4
    page.evaluate("document.querySelectorAll('.bt details').forEach((n) => { n.open = true })")
    assert faults_for(page, ".bt", "moderate") == [] and fits(page, ".bt")
    page.evaluate("document.querySelectorAll('.bt details').forEach((n) => { n.open = false })")
    unit, given, credit = state(page)[5][-1]
    assert unit == "q" and given == [1, 1, 0, 0] and credit in (0, .5, 1)
    odd = [row == "yes" for row in page.evaluate("[...document.querySelectorAll('.bt-film')].map((n) => n.dataset.odd)")]
    called = sum(odd[:2]) - sum(not o for o in odd[:2])
    assert credit == (1 if called > 0 else .5 if called == 0 else 0)
    assert "surprise" in page.locator(".bt-learner").nth(0).inner_html()


CONTRAST = """(root) => {
  const lum = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => { v /= c.startsWith('color(') ? 1 : 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b };
  const clear = (c) => c === 'transparent' || /rgba\\(.*, 0\\)/.test(c);
  const paper = (node) => { while (node && clear(getComputedStyle(node).backgroundColor)) node = node.parentElement; return getComputedStyle(node).backgroundColor };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05) };
  const rows = [];
  for (const node of document.querySelectorAll(root + ' *')) {
    if (!node.checkVisibility() || node.tagName === 'STYLE' || node.closest('[disabled], option, .bt-said, .br-said')) continue;
    if (![...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const drawn = node instanceof SVGElement, box = node.ownerSVGElement, zoom = drawn ? box.getBoundingClientRect().width / box.viewBox.baseVal.width : 1;
    rows.push([String(node.className.baseVal ?? node.className) + ' ' + node.textContent.slice(0, 20), ratio(drawn ? getComputedStyle(node).fill : getComputedStyle(node).color, paper(node)), parseFloat(getComputedStyle(node).fontSize) * zoom]);
  }
  return rows }"""


def looks(page, root, theme, width, path):
    put_on(page, theme, width)
    page.locator(root).screenshot(path=path)
    assert fits(page, root) and faults_for(page, root, "moderate") == []
    rows = page.evaluate(CONTRAST, root)
    assert len(rows) > 15
    for name, ratio, size in rows:
        assert ratio >= 4.5, (theme, name, ratio)
        assert size >= 12.9, (theme, width, name, size)
    page.set_viewport_size(dict(width=1280, height=1000))


@pytest.mark.parametrize("theme,width", LOOKS)
def test_looks_of_the_player(lab, tmp_path, theme, width):
    page, _ = lab
    in_kernel(page, "p.task = 'patches/find'; p.at = 0")
    place(page, "1 of 12")
    page.wait_for_selector(".bt[data-state=known]")
    looks(page, ".bt", theme, width, tmp_path/f"{theme.split()[-1].lower()}-{width}.png")
    in_kernel(page, "p.at = 5")
    place(page, "6 of 12")
    page.wait_for_selector(".bt[data-state=asking]")
    looks(page, ".bt", theme, width, tmp_path/f"asking-{theme.split()[-1].lower()}-{width}.png")


def long_runs(text):
    "Stretches of base64 that decode to a picture or a sound."
    magic = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")
    return [run for run in re.findall(r"[A-Za-z0-9+/=]{40,}", text) if base64.b64decode(run[:40] + "==", validate=False).startswith(magic)]


def test_saved_notebook_keeps_no_pictures_and_no_words(lab):
    page, _ = lab
    command(page, "docmanager:save")
    page.wait_for_timeout(800)
    notebook = json.loads((page.folder/"ui.ipynb").read_text())
    kept = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    players = [s["state"] for s in kept.values() if s["model_module"] == "anywidget"]
    assert players and all({k for k in s if not k.startswith("_")} <= {"task", "learner", "order", "filters", "at", "layout", "tabbable", "tooltip"} for s in players)
    left = json.dumps([notebook["metadata"], notebook["cells"][0]["outputs"]])
    assert not long_runs(left) and "image/" not in json.dumps(notebook["cells"][0]["outputs"]) and "marmalade" not in left


def test_the_report_answers_and_leads_to_trials(lab, tmp_path):
    page, url = lab
    open_and_run(page, url("card.ipynb"))
    page.wait_for_selector(".br[data-ready]")
    page.wait_for_function("document.querySelector('.jp-Notebook').innerText.includes('state [')")
    assert page.locator(".br-row").count() == 3 and page.locator(".br-chart .br-fill").count() == 3
    row = page.locator(".br-row[aria-checked=true]")
    assert "clip 80 (75–85)" in row.get_attribute("aria-label") and "20 months: 60" in page.locator(".br-chart").inner_html().replace("&nbsp;", " ")
    row.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".br[data-task='patches/tell']")
    page.locator(".br-chip").nth(1).click()
    assert page.evaluate("document.activeElement.dataset.name") == "babyllava"
    assert in_kernel(page, "print(v.task, v.learner, p.task)") == "patches/tell babyllava patches/tell"
    page.keyboard.press("Tab")
    page.locator(".br-row[aria-checked=true]").focus()
    page.keyboard.press("End")
    page.wait_for_selector(".br[data-task='patches/vanish']")
    assert "needs surprise" in page.locator(".br-detail").inner_text() and faults_for(page, ".br", "moderate") == []
    in_kernel(page, "v.task = 'patches/find'")
    page.wait_for_selector(".br[data-task='patches/find']")
    for theme, width in LOOKS[::-1]:
        looks(page, ".br", theme, width, tmp_path/f"card-{theme.split()[-1].lower()}-{width}.png")


def test_blurred_unless_public(lab):
    page, url = lab
    open_and_run(page, url("blur.ipynb"))
    page.wait_for_selector(".bt[data-state=asking]")
    assert page.locator(".bt-note").inner_text() == "Private: blurred" and not (page.folder/"looks.jsonl").exists()
    assert faults_for(page, ".bt", "moderate") == []
    detail = """() => { const c = document.querySelectorAll('.bt-option canvas')[2], d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      let most = 0; for (let k = 4; k < d.length; k += 4) if ((k / 4) % c.width) most = Math.max(most, Math.abs(d[k] - d[k - 4])); return most }"""
    before = page.evaluate(detail)
    page.locator(".bt-prompt").focus()
    page.keyboard.press("r")
    page.wait_for_function("document.querySelector('.bt-note').innerText === 'Private'")
    page.wait_for_selector(".bt[data-state=asking]")
    assert json.loads((page.folder/"looks.jsonl").read_text())["recording_id"] == "t00"
    assert before < 10 < 20 < page.evaluate(detail)
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.bt-note').innerText === 'Private: blurred'")


def test_nothing_left_the_machine_and_nothing_broke(lab):
    page, _ = lab
    assert page.away == []
    assert page.faults == []


def test_without_a_page_they_return_at_once_with_a_picture(tmp_path):
    write_notebook(tmp_path/"bare.ipynb", MAKE + "TrialPlayer(trials, card)", "ReportView(card)", "TrialPlayer(world(root/'private', 'Private'))")
    run = subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", "bare.ipynb"], cwd=tmp_path,
                         env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr[-800:]
    player, card, private = (cell["outputs"][0]["data"] for cell in json.loads((tmp_path/"done.ipynb").read_text())["cells"])
    for shown in (player, card):
        assert base64.b64decode(shown["image/png"]).startswith(b"\x89PNG") and "application/vnd.jupyter.widget-view+json" not in shown
    assert "Find, 1 of 12" in "".join(player["text/plain"]) and "clip 80 (75–85)" in "".join(card["text/plain"])
    assert list(private) == ["text/plain"] and "Private: blurred" in "".join(private["text/plain"])
