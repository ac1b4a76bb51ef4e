"""The clip inspector in a real JupyterLab, and where no page is attached."""
import base64
import json
import re
import subprocess
import sys

import pytest
from browser import LOOKS, ROOT, command, faults_for, fits, lab_page, open_and_run, put_on, write_notebook

MAKE = '''
import numpy as np
from babyvlm.core.records import Clip, Utterance
from babyvlm.widgets.clip_inspector import ClipInspector
def film(frames, px=64):
    y, x = np.mgrid[:px, :px] / px
    for k in range(frames):
        sky = np.stack([.55 + .3 * y, .65 + .1 * x, .8 - .3 * y], -1)
        ball = (x - .15 - .7 * k / frames) ** 2 + (y - .6) ** 2 < .02
        yield (255 * np.where(ball[..., None], (.8, .15, .1), sky)).astype(np.uint8)
words = lambda text, at: [(w, at + .28 * k) for k, w in enumerate(text.split())]
say = lambda on, off, text, who: Utterance(on, off, text, who.lower(), who, words(text, on))
said = [say(.6, 2.4, "look at the red ball", "FEM"), say(2.1, 2.9, "ba ba", "CHI"), say(3.2, 5.4, "where is the ball going", "MAL"),
        say(5.9, 7.6, "it rolls away from us", "FEM"), say(7.0, 8.4, "my ball", "OCH"), say(9.0, 10.6, "someone in the kitchen", "NA")]
clip = Clip(np.stack(list(film(120))), fps=10, utterances=said)
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder/"home.py").write_text(MAKE)
    write_notebook(folder/"ui.ipynb", 'from home import ClipInspector, clip\ninsp = ClipInspector(clip, release_level="Public", title="child_a_m08_01", dropped={5: "nobody in view"})\ninsp',
                   'print(f"t={insp.t:.3f} now={insp.now}")')
    write_notebook(folder/"blur.ipynb", "from home import ClipInspector, clip\nhidden = ClipInspector(clip)\nhidden", "hidden.t")
    with lab_page(folder, height=860) as (page, url):
        page.folder = folder
        open_and_run(page, url("ui.ipynb"))
        page.wait_for_selector(".bv-clip[data-ready=yes]")
        page.wait_for_selector(".bv-picture[data-frame='0']")
        yield page, url


def read_back(page):
    "Run the last cell and return the time and words that Python prints."
    cell = page.locator(".jp-Cell").nth(1)
    cell.locator(".cm-content").click()
    page.evaluate("document.querySelectorAll('.jp-Cell')[1].querySelectorAll('.jp-OutputArea-output').forEach(n => n.remove())")
    page.keyboard.press("Control+Enter")
    output = cell.locator(".jp-OutputArea-output:has-text('t=')")
    output.wait_for()
    t, now = re.match(r"t=([\d.]+) now=(.*)", output.inner_text().strip()).groups()
    return float(t), now


def at(page, selector, share):
    "Page coordinates of a point in an element, `share` of its width from the left."
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    return box["x"] + share * box["width"], box["y"] + .6 * box["height"]


def test_click_drag_and_keys_reach_python(lab):
    page, _ = lab
    span = min(12, page.locator(".bv-lane").bounding_box()["width"] / 96)  # seconds that the lane shows
    assert span > 7.5
    page.mouse.click(*at(page, ".bv-lane", 3 / span))
    t, now = read_back(page)
    assert abs(t - 3) < .05 and now == "[]"
    page.mouse.move(*at(page, ".bv-lane", 3 / span))
    page.mouse.down()
    page.mouse.move(*at(page, ".bv-lane", 5 / span), steps=5)
    page.mouse.move(*at(page, ".bv-lane", 7.2 / span), steps=5)
    page.mouse.up()
    t, now = read_back(page)
    assert abs(t - 7.2) < .05 and "it rolls away" in now and "my ball" in now
    page.locator(".bv-head").focus()
    for key, expected in [("Home", 0), ("ArrowRight", .1), ("ArrowRight", .2), ("ArrowLeft", .1), ("Shift+ArrowRight", .6),
                          ("Shift+ArrowRight", 2.1), ("Shift+ArrowLeft", .6), ("End", 12)]:
        page.locator(".bv-head").press(key)
        assert abs(float(page.locator(".bv-head").get_attribute("aria-valuenow")) - expected) < .06, key
    assert abs(read_back(page)[0] - 12) < .01
    page.mouse.click(*at(page, ".bv-overview", .5))
    assert abs(read_back(page)[0] - 6) < .05


def test_playing_keeps_pace_and_the_words_follow(lab):
    page, _ = lab
    head = page.locator(".bv-head")
    page.wait_for_timeout(500)  # JupyterLab takes the focus back for a moment after a cell has run
    head.press("Home")
    page.wait_for_function("document.activeElement.matches('.bv-head') && document.activeElement.getAttribute('aria-valuenow') == '0.00'")
    page.evaluate("""() => { window.heard = []; new MutationObserver(() => { const word = document.querySelector('.bv-words .bv-now')?.innerText;
      if (word && word !== heard.at(-1)) heard.push(word) }).observe(document.querySelector('.bv-caption'), {childList: true}) }""")
    head.press("Space")
    now = "Number(document.querySelector('.bv-head').getAttribute('aria-valuenow'))"
    page.wait_for_function(f"{now} > 2.2")
    assert page.locator(".bv-clip").get_attribute("data-playing") == "yes"
    words, heard = "look at the red ball".split(), page.evaluate("window.heard")
    heard = [word for word in heard if word in words]  # on a busy machine the next utterance has begun
    assert len(heard) >= 3 and heard == [word for word in words if word in heard]
    started = page.evaluate(f"[performance.now(), {now}]")
    page.wait_for_timeout(1500)
    ended = page.evaluate(f"[performance.now(), {now}]")
    pace = (ended[1] - started[1]) / (ended[0] - started[0]) * 1000
    assert .4 < pace < 1.15  # slower only where the machine cannot draw four pictures a second
    head.press("k")
    assert page.locator(".bv-clip").get_attribute("data-playing") == "no"
    before = float(head.get_attribute("aria-valuenow"))
    head.press("j")
    page.wait_for_function(f"{now} < {before - .3}")
    head.press("l")
    head.press("l")
    page.wait_for_function("document.querySelector('.bv-time').innerText.includes('2×')")
    head.press("k")
    shown = page.evaluate(f"[Number(document.querySelector('.bv-picture').dataset.frame), {now}]")
    assert abs(shown[0] / 10 - shown[1]) < .35
    assert page.locator(".jp-Cell").count() == 2  # J, K and L moved no cell and made none


def test_python_seeks_and_the_page_follows(lab):
    page, _ = lab
    page.evaluate("""() => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                             return kernel.requestExecute({code: 'insp.seek(3.5)'}).done }""")
    page.wait_for_function("document.querySelector('.bv-head').getAttribute('aria-valuenow') == '3.50'")
    page.wait_for_selector(".bv-picture[data-frame='35']")
    assert page.locator(".bv-words").inner_text().strip() == "where is the ball going"
    assert "man: where is the ball going" in page.locator(".bv-said").inner_text()
    page.mouse.click(*at(page, ".bv-overview", 9.5 / 12))
    assert "dropped: nobody in view" in page.locator(".bv-dropped").get_attribute("title")


CONTRAST = """() => {
  const lum = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => { v /= c.startsWith('color(') ? 1 : 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b };
  const clear = (c) => c === 'transparent' || /rgba\\(.*, 0\\)/.test(c);
  const paper = (node) => { while (node && clear(getComputedStyle(node).backgroundColor)) node = node.parentElement; return getComputedStyle(node).backgroundColor };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05) };
  const rows = [];
  for (const node of document.querySelectorAll('.bv-clip *')) {
    if ([...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && node.checkVisibility() && node.tagName !== 'STYLE')
      rows.push([node.className || node.tagName, ratio(getComputedStyle(node).color, paper(node)), 4.5, parseFloat(getComputedStyle(node).fontSize)]);
    if (node.matches('.bv-span')) rows.push(['edge ' + node.dataset.speaker, ratio(getComputedStyle(node).borderTopColor, paper(node.closest('.bv-clip'))), 3, 99]);
  }
  return rows }"""


@pytest.mark.parametrize("theme,width", LOOKS)
def test_looks(lab, tmp_path, theme, width):
    page, _ = lab
    put_on(page, theme, width, 860)
    page.mouse.click(*at(page, ".bv-overview", 7.25 / 12))
    page.wait_for_selector(".bv-picture[data-frame='72']")
    page.locator(".bv-head").press("ArrowLeft")
    page.locator(".bv-head").press("ArrowRight")
    page.wait_for_timeout(300)
    page.screenshot(path=tmp_path/f"{theme.split()[-1].lower()}-{width}.png")
    assert fits(page, ".bv-clip") and faults_for(page, ".bv-clip", "moderate") == []
    for name, ratio, needed, size in page.evaluate(CONTRAST):
        assert ratio >= needed, (theme, name, ratio)
        assert size >= 13, (name, size)
    page.set_viewport_size(dict(width=1280, height=860))


def test_axe_finds_what_is_planted(lab):
    page, _ = lab
    page.evaluate("""() => { const n = document.createElement('div'); n.className = 'planted'; n.style.background = '#fff';
      n.innerHTML = '<button></button><p style="color: #ccc; font-size: 14px">hardly to be read</p>'; document.querySelector('.bv-clip').append(n) }""")
    found = faults_for(page, ".planted")
    page.evaluate("document.querySelector('.planted').remove()")
    assert len(found) == 2 and found[0].startswith("critical button-name") != found[1].startswith("critical button-name")
    assert any(line.startswith("serious color-contrast") and "hardly to be read" in line for line in found)


def test_blurred_unless_public(lab, tmp_path):
    page, url = lab
    command(page, "docmanager:save")
    page.wait_for_timeout(800)
    open_and_run(page, url("blur.ipynb"))
    page.wait_for_selector(".bv-clip[data-ready=yes]")
    page.wait_for_selector(".bv-picture[data-frame='0']")
    assert "blurred" in page.locator(".bv-level").inner_text()
    sharpness = page.evaluate("""() => { const c = document.querySelector('.bv-picture'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      let most = 0; for (let k = 4; k < d.length; k += 4) if ((k / 4) % c.width) most = Math.max(most, Math.abs(d[k + 2] - d[k - 2])); return most }""")
    assert sharpness < 60 and faults_for(page, ".bv-clip", "moderate") == []
    page.locator(".bv-clip").screenshot(path=tmp_path/"blurred.png")


def long_runs(text):
    "Stretches of base64 that decode to a picture."
    magic = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")
    return [run for run in re.findall(r"[A-Za-z0-9+/=]{40,}", text) if base64.b64decode(run[:40] + "==", validate=False).startswith(magic)]


def test_saved_notebook_keeps_no_pictures_and_no_words(lab):
    page, _ = lab
    notebook = json.loads((page.folder/"ui.ipynb").read_text())
    state = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    inspectors = [s["state"] for s in state.values() if s["model_module"] == "anywidget"]
    assert inspectors and all(set(s) - {"t", "layout", "tabbable", "tooltip"} <= {k for k in s if k.startswith("_")} for s in inspectors)
    left = json.dumps([notebook["metadata"], [c["outputs"] for c in notebook["cells"][:1]]])
    assert not long_runs(left) and "image/" not in json.dumps([c["outputs"] for c in notebook["cells"]])
    assert "rolls away" not in left and "child_a" not in left


def test_nothing_left_the_machine_and_nothing_broke(lab):
    page, _ = lab
    assert page.away == []
    assert page.faults == []


def test_geometry_is_the_same_in_both_languages(lab):
    from babyvlm.widgets.contact_sheet import frame_at, time_to_x, x_to_time
    page, _ = lab
    cases = [(t, a, a + d, w) for t in (0, 1.5, 7.25) for a in (0, 3) for d in (0, 4, 30) for w in (1, 640)]
    source = (ROOT/"babyvlm/widgets/clip_inspector.js").read_text()
    theirs = page.evaluate("""async ([source, cases, times]) => {
      const js = await import(URL.createObjectURL(new Blob([source], {type: 'text/javascript'})));
      return [cases.map((c) => js.timeToX(...c)), cases.map((c) => js.xToTime(...c)), [-1, 0, .1, .25, 9].map((t) => js.frameAt(t, times)),
              js.pageStart(5, 0, 30, 100), js.pageStart(31, 0, 30, 100), js.pageStart(99, 0, 30, 100), js.clock(61.25)] }""", [source, cases, [0, .1, .2]])
    assert theirs[0] == pytest.approx([time_to_x(*c) for c in cases])
    assert theirs[1] == pytest.approx([x_to_time(*c) for c in cases])
    assert theirs[2] == [frame_at(t, [0, .1, .2]) for t in (-1, 0, .1, .25, 9)]
    assert theirs[3:] == [0, 28, 70, "1:01.3"]


def test_without_a_page_it_returns_at_once_with_a_picture(tmp_path):
    write_notebook(tmp_path/"bare.ipynb", MAKE + 'insp = ClipInspector(clip, release_level="Public")\ninsp', "hidden = ClipInspector(clip)\nhidden", "insp.seek(3.5)\nprint(insp.t, insp.now)")
    run = subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", "bare.ipynb"], cwd=tmp_path,
                         env=dict(__import__("os").environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr[-800:]
    notebook = json.loads((tmp_path/"done.ipynb").read_text())
    shown, hidden, said = (cell["outputs"][0] for cell in notebook["cells"])
    assert base64.b64decode(shown["data"]["image/png"]).startswith(b"\x89PNG") and "application/vnd.jupyter.widget-view+json" not in shown["data"]
    assert list(hidden["data"]) == ["text/plain"] and "Private: blurred" in "".join(hidden["data"]["text/plain"])
    assert "3.5 ['where is the ball going']" in "".join(said["text"])
    assert not long_runs(json.dumps(notebook["metadata"]))


def test_the_page_may_ask_for_nonsense():
    import numpy as np
    from babyvlm.core.records import Clip
    from babyvlm.widgets.clip_inspector import ClipInspector
    insp, sent = ClipInspector(Clip(np.zeros((3, 8, 8, 3), np.uint8), 1)), []
    insp.send = lambda content, buffers=None: sent.append((content, buffers or []))
    for content in ({}, dict(type="?"), dict(type="frames"), dict(type="frames", indices=[-1, 7, "a", None, 1.5])):
        insp.answer(insp, content, [])
    insp.answer(insp, dict(type="frames", indices=[2, 0]), [])
    assert [c["indices"] for c, _ in sent] == [[], [], [2, 0]] and len(sent[-1][1]) == 2
    empty = ClipInspector(Clip(np.zeros((0, 8, 8, 3), np.uint8), 1))
    assert empty.duration_s == 0 and empty.fallback() is not None
