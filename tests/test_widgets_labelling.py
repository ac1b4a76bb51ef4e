"""The clip inspector at work, in a real JupyterLab: labels, sound, reasons, looks, many recordings."""

import json

import pytest
from browser import LOOKS, command, faults_for, fits, lab_page, open_and_run, put_on, write_notebook

from babyvlm.curation.scan import scan
from babyvlm.widgets.labels import Labels, read_eaf

HOME = '''
import numpy as np
from babyvlm.core.records import Clip, Utterance
from babyvlm.widgets.clip_inspector import ClipInspector
from babyvlm.widgets.lanes import curve_lane, span_lane
from babyvlm.widgets.sources import ClipFrames, Material
stripes = np.zeros((64, 64, 3), np.uint8)
stripes[:, ::4] = 255
hum = (.1 * np.sin(np.arange(160_000) / 16_000 * 1400)).astype(np.float32)
said = [Utterance(.6, 2.4, "look at the ball", "mum", "FEM"), Utterance(3.2, 5.4, "ga ga", "child", "CHI")]
seen = [dict(time_s=k / 4, objects=[dict(id="b", noun="ball", box=[8, 16, 40, 48])], gaze_target="to:b") for k in range(40)]
opened = []
def home(k, level="Public"):
    opened.append(k)
    clip = Clip(np.stack([stripes] * 40), 4, sound=hum, utterances=said)
    lanes = [curve_lane("light", clip.times_s, np.sin(clip.times_s)), span_lane("visitors", [(1, 2, "neighbour")], "calm")]
    return Material(ClipFrames(clip), said, [f"c{k}_u0", f"c{k}_u1"], {1: "key_child_speech"}, 10., level, f"child_{k:04d}", lanes, [(8, 9, "bath")], seen, (64, 64))
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelling")
    (folder / "home.py").write_text(HOME)
    write_notebook(folder / "many.ipynb", 'from home import *\ninsp = ClipInspector(many=(1_000, home), labels="labels", names=("naming", "pointing"))\ninsp')
    write_notebook(folder / "looks.ipynb", 'from home import *\ninsp = ClipInspector(home(7, "Private"), reveal_log="looks.jsonl")\ninsp')
    write_notebook(folder / "never.ipynb", 'from home import *\ninsp = ClipInspector(home(7, None), reveal_log="never.jsonl")\ninsp')
    with lab_page(folder, height=1000) as (page, url):
        page.folder = folder
        begin(page, url, "many.ipynb")
        yield page, url


def begin(page, url, name):
    open_and_run(page, url(name))
    page.wait_for_selector(".bv-clip[data-ready=yes]")
    page.wait_for_selector(".bv-picture[data-frame='0']")
    page.wait_for_timeout(500)
    page.locator(".bv-head").focus()


def ask(page, code):
    "What an expression is in the kernel, through JSON."
    return json.loads(page.evaluate("""async (code) => {
      const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel; let said = '';
      const future = kernel.requestExecute({code: `import json; print(json.dumps(${code}))`});
      future.onIOPub = (m) => { if (m.header.msg_type === 'stream') said += m.content.text };
      await future.done; return said }""", code))


def labels(page, count):
    page.wait_for_selector(f".bv-clip[data-labels='{count}']")


def test_keys_label_leave_out_and_undo(lab):
    page, _ = lab
    for key in ("Home", "Shift+ArrowRight", "1"):  # what the woman says
        page.keyboard.press(key)
    labels(page, 1)
    for key in ("End", "ArrowLeft", "]", "Home", "["):  # a stretch marked by keys
        page.keyboard.press(key)
    page.keyboard.press("2")
    labels(page, 2)
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("x")
    labels(page, 3)
    page.wait_for_selector(".bv-veil:has-text('marked by hand')")
    rows = ask(page, "insp.labels.rows")
    assert [(r["label"], r["utterance_id"]) for r in rows] == [("naming", "c0_u0"), ("pointing", ""), ("exclude", "c0_u0")]
    assert (rows[0]["onset_s"], rows[0]["offset_s"]) == (0.6, 2.4) and rows[1]["onset_s"] == 0 and rows[1]["offset_s"] > 9
    assert Labels(page.folder / "labels").rows == rows
    assert read_eaf(page.folder / "labels" / "child_0000.eaf")["exclude"] == [(0.6, 2.4, "exclude")]
    page.keyboard.press("u")
    labels(page, 2)
    page.wait_for_selector(".bv-veil", state="hidden")
    page.keyboard.press("u")
    labels(page, 1)
    assert len(Labels(page.folder / "labels").rows) == 1


def test_a_drag_with_shift_marks_a_stretch(lab):
    page, _ = lab
    box = page.locator(".bv-tracks").bounding_box()
    shown = min(10, box["width"] / 96)
    x = lambda t: box["x"] + box["width"] * t / shown
    page.locator(".bv-head").press("Home")
    page.keyboard.down("Shift")
    page.mouse.move(x(4), box["y"] + 8)
    page.mouse.down()
    page.mouse.move(x(6), box["y"] + 8, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_selector(".bv-mark:not([hidden])")
    page.locator(".bv-palette button", has_text="pointing").click()
    labels(page, 2)
    row = ask(page, "insp.labels.rows")[-1]
    assert abs(row["onset_s"] - 4) < 0.06 and abs(row["offset_s"] - 6) < 0.06
    page.locator(".bv-palette button", has_text="undo").click()
    labels(page, 1)


def test_lanes_boxes_and_reasons(lab):
    page, _ = lab
    page.locator(".bv-head").focus()
    for key in ("Home", "Shift+ArrowRight", "Shift+ArrowRight", "w"):
        page.keyboard.press(key)
    page.wait_for_selector(".bv-why:has-text('dropped: the child who wears the camera speaks')")
    names = page.locator(".bv-track .bv-name").all_inner_texts()
    assert names == ["light", "visitors", "labels", "left out"]
    assert "visitors: 1 from 0:00.0" in page.locator(".bv-track").nth(1).get_attribute("aria-label")
    box, picture = page.locator(".bv-box").bounding_box(), page.locator(".bv-picture").bounding_box()
    assert "ball" in page.locator(".bv-box").inner_text() and "bv-looked" in page.locator(".bv-box").get_attribute("class")
    assert abs((box["x"] - picture["x"]) / picture["width"] - 8 / 64) < 0.02 and abs(box["height"] / picture["height"] - 0.5) < 0.02
    page.keyboard.press("b")
    assert page.locator(".bv-box").count() == 0
    page.keyboard.press("b")
    page.keyboard.press("w")
    assert page.locator(".bv-why").is_hidden()


@pytest.mark.parametrize("theme,width", LOOKS)
def test_looks_of_labels_and_reasons(lab, tmp_path, theme, width):
    page, _ = lab
    page.locator(".bv-head").focus()
    for key in ("Home", "Shift+ArrowRight", "w", "[", "Shift+ArrowRight", "]"):  # a stretch is marked, reasons are shown
        page.keyboard.press(key)
    page.wait_for_selector(".bv-why:has-text('dropped: the child who wears the camera speaks')")
    page.locator(".bv-help").evaluate("(n) => { n.open = true }")
    put_on(page, theme, width)
    page.locator(".bv-clip").screenshot(path=tmp_path / f"labels-{theme.split()[-1].lower()}-{width}.png")
    assert fits(page, ".bv-clip") and faults_for(page, ".bv-clip", "moderate") == []
    page.locator(".bv-help").evaluate("(n) => { n.open = false }")
    page.locator(".bv-head").focus()
    for key in ("w", "Escape"):
        page.keyboard.press(key)
    page.set_viewport_size(dict(width=1280, height=1000))


def test_tab_reaches_every_tool_in_the_order_of_the_page(lab):
    page, _ = lab
    page.locator(".bv-many button").first.focus()
    reached = []
    for _ in range(20):
        reached.append(page.evaluate("(() => { const n = document.activeElement; return n.dataset.do ?? n.dataset.key ?? n.className.split(' ')[0] })()"))
        page.keyboard.press("Tab")
    assert reached[:20] == ["before", "bv-number", "after", "first", "back", "play", "next", "last", "sound", "boxes", "why", "", "bv-head", "1", "2", "x", "u", *reached[17:]]


def test_sound_plays_with_the_pictures_and_can_be_switched_off(lab):
    page, _ = lab
    page.locator(".bv-head").press("Home")
    page.keyboard.press("Space")
    page.wait_for_selector(".bv-clip[data-sound=sounding]")
    page.keyboard.press("m")
    assert page.locator(".bv-clip").get_attribute("data-sound") == "silent"
    page.keyboard.press("m")
    page.wait_for_selector(".bv-clip[data-sound=sounding]")
    page.keyboard.press("k")
    assert page.locator(".bv-clip").get_attribute("data-sound") == "silent"


def test_many_recordings_are_opened_one_by_one(lab):
    page, _ = lab
    assert ask(page, "opened") == [0]
    page.locator(".bv-head").press("PageDown")
    page.wait_for_selector(".bv-clip[data-clip='1']")
    page.locator(".bv-number").fill("1000")
    page.locator(".bv-number").press("Enter")
    page.wait_for_selector(".bv-clip[data-clip='999']")
    page.wait_for_selector(".bv-picture[data-frame='0']")
    assert page.locator(".bv-title").inner_text() == "child_0999" and ask(page, "opened") == [0, 1, 999]
    page.locator(".bv-many button").first.click()
    page.wait_for_selector(".bv-clip[data-clip='998']")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code: 'insp.show(0)'}).done")
    page.wait_for_selector(".bv-clip[data-clip='0']")
    labels(page, 1)


EDGE = """() => { const c = document.querySelector('.bv-picture'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let most = 0; for (let k = 4; k < d.length; k += 4) if ((k / 4) % c.width) most = Math.max(most, Math.abs(d[k] - d[k - 4])); return most }"""


def test_the_saved_notebook_keeps_nothing(lab):
    page, _ = lab
    command(page, "docmanager:save")
    page.wait_for_timeout(800)
    notebook = json.loads((page.folder / "many.ipynb").read_text())
    found = scan(page.folder, allow=[".*", "__pycache__/*", "*.csv", "*.eaf", "home.py"], names=["neighbour", "child_0000"])
    assert found.clean and found.files == 3, str(found)
    left = json.dumps([notebook["metadata"], [c["outputs"] for c in notebook["cells"]]])
    assert "widget-view" in left
    for secret in ("look at the ball", "child_0", "naming", "bath", "neighbour", "data:image"):
        assert secret not in left, secret
    assert not [mime for c in notebook["cells"] for o in c["outputs"] for mime in o.get("data", {}) if mime.startswith(("image/", "audio/", "video/"))]


def test_a_look_is_held_and_written_down(lab):
    page, url = lab
    begin(page, url, "looks.ipynb")
    assert page.evaluate(EDGE) < 60 and not (page.folder / "looks.jsonl").exists()
    page.keyboard.down("r")
    page.wait_for_selector(".bv-clip[data-bare=yes]")
    page.wait_for_function(f"({EDGE})() > 150")
    page.keyboard.up("r")
    page.wait_for_selector(".bv-clip[data-bare=no]")
    page.wait_for_function(f"({EDGE})() < 60")
    line = json.loads((page.folder / "looks.jsonl").read_text())
    assert line["recording_id"] == "child_0007" and line["release_level"] == "Private"
    page.keyboard.press("Space")  # a blurred recording is silent
    page.wait_for_timeout(700)
    assert page.locator(".bv-clip").get_attribute("data-sound") != "sounding"
    page.keyboard.press("k")


def test_nobody_looks_where_the_level_is_unknown(lab):
    page, url = lab
    begin(page, url, "never.ipynb")
    page.keyboard.down("r")
    page.wait_for_selector(".bv-status:has-text('nobody may look')")
    page.wait_for_timeout(300)
    page.keyboard.up("r")
    assert page.evaluate(EDGE) < 60 and not (page.folder / "never.jsonl").exists()


def test_nothing_broke_and_nothing_left(lab):
    page, _ = lab
    assert page.faults == [] and page.away == []
