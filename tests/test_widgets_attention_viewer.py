"""The attention viewer in a real JupyterLab, and where no page is attached."""
import base64
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from browser import LOOKS, ROOT, command, faults_for, fits, lab_page, open_and_run, put_on, write_notebook
from PIL import Image

MAKE = '''
import numpy as np
from types import SimpleNamespace
from babyvlm.widgets.attention_viewer import AttentionViewer
words = "<bos> look at the red ball on the floor , it is round".split()
def floor(k=0, px=224):
    y, x = np.mgrid[:px, :px] / px
    ball = (x - .42 - .1 * k) ** 2 + (y - .6) ** 2 < .012
    return (255 * np.where(ball[..., None], (.8, .15, .1), np.stack([.8 - .3 * y, .75 - .2 * y, .7 + 0 * x], -1))).astype(np.uint8)
def look(name, k=0, layers=12, heads=6, grid=14, plant=True):
    "In layer 10, head 2, the ball's word looks at the ball: row 9, column 6 + k."
    stream = np.random.default_rng([len(name), k])
    maps = stream.dirichlet(np.full(grid * grid, .5), (layers, heads, len(words))).reshape(layers, heads, len(words), grid, grid) * .2
    if plant: maps[9, 1, 5] = .001; maps[9, 1, 5, 8, 5 + k] = .5
    return SimpleNamespace(kind="attention", words=words, maps=maps, picture=floor(k), name=name)
trained, twin = look("trained"), look("untrained", plant=False)
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder/"home.py").write_text(MAKE)
    write_notebook(folder/"ui.ipynb", 'from home import *\nview = AttentionViewer(trained, beside=twin, release_level="Public", title="Where it looks")\nview')
    write_notebook(folder/"film.ipynb", 'from home import *\nfilm = AttentionViewer([look("trained", k) for k in range(4)], times_s=[0, .5, 1, 1.5], release_level="Authorized Users")\nfilm')
    with lab_page(folder, height=960) as (page, url):
        page.folder = folder
        open_and_run(page, url("ui.ipynb"))
        page.wait_for_selector(".bva[data-ready=yes]")
        page.wait_for_selector('text="Python 3 (ipykernel) | Idle"')
        page.wait_for_timeout(700)  # JupyterLab takes the focus back for a moment after a cell has run
        yield page, url


def python(page, code):
    "What Python prints."
    return page.evaluate("""async (code) => { const asked = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code}); let said = '';
      asked.onIOPub = (m) => { said += m.content.text ?? (m.content.traceback ?? []).join('') }; await asked.done; return said }""", code).strip()


def agrees(page, code, expected, seconds=15):
    "Whether Python soon prints what is expected: the page holds a choice back until the kernel has answered the one before."
    for _ in range(10 * seconds):
        if (said := python(page, code)) == expected:
            return True
        page.wait_for_timeout(100)
    raise AssertionError(f"{code}: {said!r} instead of {expected!r}")


def word(page, text):
    return page.locator(f".bva-word:text-is('{text}')") if text else page.locator(".bva-word[aria-checked=true]")


def test_a_word_and_a_head_by_click_and_keys(lab):
    page, _ = lab
    assert agrees(page, "print(view.words[view.word])", "round")
    page.locator(".bva-word", has_text="ball").click()
    assert agrees(page, "print(view.words[view.word])", "ball")
    word(page, "").press("ArrowRight")
    assert agrees(page, "print(view.word)", "6")
    for key, expected in [("End", "12"), ("Home", "0"), ("ArrowRight", "1"), *[("ArrowRight", str(k)) for k in range(2, 6)]]:
        word(page, "").press(key)
        assert agrees(page, "print(view.word)", expected), key
    side = page.locator(".bva-side").first
    side.locator(".bva-thumb[data-layer='8'][data-head='1']").click()
    assert agrees(page, "print(view.layer, view.head)", "8 1")
    side.locator(".bva-thumb[aria-checked=true]").press("ArrowRight")
    assert agrees(page, "print(view.layer, view.head, view.where)", "9 1 layer 10 of 12, head 2 of 6")
    facts = page.locator(".bva-facts").all_inner_texts()
    assert "strongest at row 9, column 6: 0.5" in facts[0] and "row 9, column 6" not in facts[1] and re.search(r"likeness to trained: r\s=\s−?0\.\d\d$", facts[1])
    assert page.locator(".bva-scale").first.inner_text() == page.locator(".bva-scale").last.inner_text()  # one scale for both
    side.locator(".bva-thumb[aria-checked=true]").press("m")
    assert agrees(page, "print(view.head)", "-1")
    side.locator(".bva-thumb[aria-checked=true]").press("ArrowDown")
    assert agrees(page, "print(view.head)", "0")
    assert page.locator(".jp-Cell").count() == 1 and page.locator(".jp-Cell.jp-mod-selected").count() == 1  # M merged no cells


def at(page, row, column, grid=14):
    box = page.locator(".bva-stage").first.bounding_box()
    return box["x"] + (column + .5) * box["width"] / grid, box["y"] + (row + .5) * box["height"] / grid


def heights(page, side):
    return page.evaluate(f"[...document.querySelectorAll('.bva-word')].map((n) => parseFloat(n.querySelectorAll('.bva-look')[{side}].style.height))")


def test_a_place_shows_which_words_look_there(lab):
    page, _ = lab
    python(page, "view.word, view.layer, view.head = 5, 9, 1")
    page.mouse.click(*at(page, 8, 5))
    page.mouse.move(3, 3)
    assert agrees(page, "print(view.patch, view.words[int(view.looks()[0].argmax())])", "[8, 5] ball")
    trained, twin = heights(page, 0), heights(page, 1)
    assert np.argmax(trained) == 5 and trained[5] == 100 and max(twin) < 50
    assert "most at the chosen place: ball 0.5" in page.locator(".bva-facts").first.inner_text()
    stage = page.locator(".bva-stage").first
    for key, place in [("ArrowRight", "[8, 6]"), ("ArrowUp", "[7, 6]"), ("ArrowLeft", "[7, 5]"), ("ArrowDown", "[8, 5]"), ("Escape", "[]"), ("ArrowUp", "[7, 7]")]:
        stage.press(key)
        assert agrees(page, "print(view.patch)", place), key
    stage.press("Escape")
    assert page.locator(".bva-words").get_attribute("data-looks") == "no"
    page.mouse.move(*at(page, 8, 5))
    assert "row 9, column 6: trained 0.5" in page.locator(".bva-read").inner_text()


def test_python_chooses_and_the_page_follows(lab):
    page, _ = lab
    python(page, "view.choose('red'); view.layer = 2; view.head = 3; view.scale = 'all'; view.patch = [13, 0]")
    page.wait_for_function("document.querySelector('.bva-word[aria-checked=true]').innerText.trim() == 'red'")
    assert page.locator(".bva-thumb[aria-checked=true]").first.get_attribute("aria-label") == "layer 3, head 4"
    assert page.locator("select.bva-button").input_value() == "all" and page.locator(".bva-place").first.is_visible()
    page.locator("select.bva-button").select_option("own")
    assert agrees(page, "print(view.scale)", "own")
    page.locator(".bva-stage").first.press("s")
    assert agrees(page, "print(view.scale)", "head")
    page.locator(".bva-stage").first.press("p")
    assert page.locator("[data-do=bare]").get_attribute("aria-pressed") == "true" and page.locator(".bva-heat").first.is_hidden()
    page.locator(".bva-stage").first.press("p")
    assert python(page, "view.word = 999; print(view.word)") == "12"


def test_tab_reaches_everything_in_the_order_of_the_page(lab):
    page, _ = lab
    word(page, "").focus()
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(() => { const n = document.activeElement; return n.dataset.do ?? n.className.split(' ')[0] ?? n.tagName })()"))
    assert reached == ["bva-stage", "bva-thumb", "bva-stage", "bva-thumb", "bva-button", "bare", "svg", "png", ""]
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_export_carries_its_words(lab, tmp_path):
    page, _ = lab
    python(page, "view.choose('ball'); view.layer, view.head, view.patch = 9, 1, []")
    page.wait_for_function("document.querySelector('.bva-word[aria-checked=true]').innerText.trim() == 'ball'")
    caption, alt = python(page, "print(view.caption); print(view.alt)").splitlines()
    for kind in ("svg", "png"):
        with page.expect_download() as waiting:
            page.locator(f"[data-do={kind}]").click()
        assert waiting.value.suggested_filename == f"attention-ball.{kind}"
        waiting.value.save_as(tmp_path/f"ball.{kind}")
    top, name = ET.parse(tmp_path/"ball.svg").getroot(), "{http://www.w3.org/2000/svg}"
    assert top.find(name + "title").text == caption and top.find(name + "desc").text == alt and "strongest at row 9 of 14, column 6 of 14 (0.5)" in alt
    assert " ".join("".join(t.text or "" for t in [node]) for node in top.findall(f"{name}g")[-1]) == caption
    assert len(top.findall(f".//{name}image")) == 2 and len([r for r in top.iter(name + "rect") if r.get("fill-opacity")]) == 2 * 14 * 14
    picture = Image.open(tmp_path/"ball.png")
    picture.load()
    assert picture.info["Description"] == alt and picture.info["Title"] == caption and picture.width > 1200


CONTRAST = """() => {
  const lum = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * r + .7152 * g + .0722 * b };
  const clear = (c) => c === 'transparent' || /rgba\\(.*, 0\\)/.test(c);
  const paper = (node) => { while (node && clear(getComputedStyle(node).backgroundColor)) node = node.parentElement; return getComputedStyle(node).backgroundColor };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05) };
  return [...document.querySelectorAll('.bva *')].filter((n) => [...n.childNodes].some((t) => t.nodeType === 3 && t.data.trim()) && n.checkVisibility() && n.tagName !== 'STYLE')
    .map((n) => [n.className || n.tagName, ratio(getComputedStyle(n).color, paper(n)), parseFloat(getComputedStyle(n).fontSize)]) }"""


@pytest.mark.parametrize("theme,width", LOOKS)
def test_looks(lab, tmp_path, theme, width):
    page, _ = lab
    python(page, "view.choose('ball'); view.layer, view.head, view.patch = 9, 1, [8, 5]")
    put_on(page, theme, width, 960)
    page.screenshot(path=tmp_path/f"{theme.split()[-1].lower()}-{width}.png")
    assert fits(page, ".bva") and faults_for(page, ".bva", "moderate") == []
    for name, ratio, size in page.evaluate(CONTRAST):
        assert ratio >= 4.5, (theme, name, ratio)
        assert size >= 13, (name, size)
    page.set_viewport_size(dict(width=1280, height=960))


def test_a_film_goes_frame_by_frame_and_is_blurred(lab, tmp_path):
    page, url = lab
    command(page, "docmanager:save")
    page.wait_for_timeout(800)
    open_and_run(page, url("film.ipynb"))
    page.wait_for_selector(".bva[data-ready=yes][data-frame='0']")
    assert "blurred" in page.locator(".bva-level").inner_text() and "Nothing stands beside it" in page.locator(".bva-says").inner_text()
    python(page, "film.choose('ball'); film.layer, film.head = 9, 1")
    page.locator(".bva-stage").press(".")
    page.wait_for_selector(".bva[data-frame='1']")
    page.locator("[data-do=next]").click()
    page.wait_for_selector(".bva[data-frame='2']")
    assert agrees(page, "print(film.frame, film.times[film.frame])", "2 1.0")
    assert "strongest at row 9, column 8" in page.locator(".bva-facts").inner_text() and "0:01.0 · frame 3 of 4" in page.locator(".bva-at").inner_text()
    python(page, "film.frame = 3")
    page.wait_for_selector(".bva[data-frame='3']")
    page.locator(".bva-stage").press(",")
    page.wait_for_selector(".bva[data-frame='2']")
    page.evaluate("for (const k of [3, 0, 3, 1, 0, 3, 2, 1, 0]) { const s = document.querySelector('.bva-slider'); s.value = k; s.dispatchEvent(new Event('input', {bubbles: true})) }")
    page.wait_for_selector(".bva[data-frame='0']")
    assert agrees(page, "print(film.frame)", "0") and "strongest at row 9, column 6" in page.locator(".bva-facts").inner_text()
    page.locator(".bva-stage").press("p")
    sharpness = page.evaluate("""() => { const c = document.querySelector('.bva-picture'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      let most = 0; for (let k = 4; k < d.length; k += 4) if ((k / 4) % c.width) most = Math.max(most, Math.abs(d[k + 2] - d[k - 2])); return most }""")
    assert sharpness < 60
    page.locator(".bva-help summary").click()
    assert fits(page, ".bva") and faults_for(page, ".bva", "moderate") == []
    page.locator(".bva").screenshot(path=tmp_path/"film.png")


def test_saved_notebook_keeps_choices_only(lab):
    page, _ = lab
    notebook = json.loads((page.folder/"ui.ipynb").read_text())
    state = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    viewers = [s["state"] for s in state.values() if s["model_module"] == "anywidget"]
    kept = {k for s in viewers for k in s if not k.startswith("_")} - {"layout", "tabbable", "tooltip"}
    assert viewers and kept <= {"word", "layer", "head", "patch", "frame", "scale"}
    for viewer in viewers: del viewer["_esm"]  # the page's own program
    left = json.dumps([notebook["metadata"], [c["outputs"] for c in notebook["cells"]]])
    assert "image/" not in left and "round" not in left and "floor" not in left and len(left) < 60_000


def test_nothing_left_the_machine_and_nothing_broke(lab):
    page, _ = lab
    assert page.away == []
    assert page.faults == []


def test_numbers_are_the_same_in_both_languages(lab):
    from matplotlib import colormaps

    from babyvlm.widgets.heat import heads_of, likeness, packed, scale_of, unpacked
    page, _ = lab
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    ranges, data = packed(maps)
    whole, kinds = heads_of(unpacked(ranges, data), 2), ["attention", "similarity", "difference"]
    theirs = page.evaluate("""async ([source, ranges, data, kinds]) => {
      const js = await import(URL.createObjectURL(new Blob([source], {type: 'text/javascript'})));
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer, side = {map: js.unpack(bytes(ranges), bytes(data), 30), heads: 3, words: 4};
      const one = js.mapOf(side, 1, 2, 2), mean = js.mapOf(side, 1, -1, 2);
      return [[...one], [...mean], kinds.map((k) => js.scaleOf([one, mean], k)), js.likeness(one, mean), [false, true].map((s) => [0, .1, .35, .5, 1].map((v) => js.colour(v, s))),
              js.placeAt(99, 10, 100, 50, 5, 6), js.placeAt(-5, 80, 100, 50, 5, 6)] }""",
        [(ROOT/"babyvlm/widgets/attention_viewer.js").read_text(), base64.b64encode(ranges.tobytes()).decode(), base64.b64encode(data.tobytes()).decode(), kinds])
    one, mean = whole[1, 2], whole[1, -1]
    assert np.allclose(theirs[0], one.ravel(), atol=1e-6) and np.allclose(theirs[1], mean.ravel(), atol=1e-6)
    assert np.allclose(theirs[2], [[v.item() for v in scale_of(np.stack([one, mean]), kind)] for kind in kinds], atol=1e-6)
    assert theirs[3] == pytest.approx(likeness(one, mean), abs=1e-5)
    ours = [[np.array(colormaps[name](v)[:3]) * 255 for v in (0., .1, .35, .5, 1.)] for name in ("inferno", "PuOr_r")]
    assert abs(np.array(theirs[4]) - ours).max() < 12  # straight lines between every tenth colour
    assert theirs[5:] == [[1, 5], [4, 0]]


def test_twelve_layers_of_six_heads_stay_under_five_megabytes():
    from types import SimpleNamespace

    from babyvlm.widgets.attention_viewer import AttentionViewer
    picture = np.random.default_rng(0).integers(0, 255, (336, 336, 3), dtype=np.uint8)  # noise: the largest JPEG

    def seen(words, grid):
        return SimpleNamespace(kind="attention", words=["word"] * words, maps=np.random.default_rng(0).random((12, 6, words, grid, grid), np.float32), picture=picture)
    sizes = {}
    for words, grid in [(32, 16), (77, 24)]:
        view = AttentionViewer(seen(words, grid), beside=seen(words, grid), release_level="Public")
        sizes[grid] = sum(len(b) for b in view.one_picture(0)[1])
        assert sizes[grid] < 5e6 and bool(view.cut) == (grid == 24)
    assert "12 × 12 places shown instead of 24 × 24, to stay under 5 MB" in view.hello()["cut"] and sizes[16] > 1e6


def test_without_a_page_it_returns_at_once_with_a_figure(tmp_path):
    write_notebook(tmp_path/"bare.ipynb", MAKE + 'view = AttentionViewer(trained, beside=twin, release_level="Public")\nview', "hidden = AttentionViewer(trained)\nhidden")
    run = subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", "bare.ipynb"], cwd=tmp_path,
                         env=dict(__import__("os").environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr[-800:]
    shown, hidden = (cell["outputs"][0] for cell in json.loads((tmp_path/"done.ipynb").read_text())["cells"])
    assert base64.b64decode(shown["data"]["image/png"]).startswith(b"\x89PNG") and "application/vnd.jupyter.widget-view+json" not in shown["data"]
    assert "strongest at" in shown["metadata"]["image/png"]["alt"]
    assert list(hidden["data"]) == ["text/plain"] and "Unknown: blurred" in "".join(hidden["data"]["text/plain"])


def test_the_page_may_ask_for_nonsense():
    from types import SimpleNamespace

    from babyvlm.widgets.attention_viewer import AttentionViewer
    view, sent = AttentionViewer(SimpleNamespace(kind="attention", words=["ball"], maps=np.ones((1, 1, 1, 2, 2)))), []
    view.send = lambda content, buffers=None: sent.append((content["type"], len(buffers or [])))
    for content in ({}, dict(type="?"), *(dict(type="picture", frame=f) for f in (-1, 7, "a", None, 1.5, [0]))):
        view.answer(view, content, [])
    assert sent == []
    for choices in ({}, dict(word="a", scale=7, layer=None), dict(word=99, head=-7, scale="own")):
        view.answer(view, dict(type="caption", choices=choices), [])
    assert (view.word, view.layer, view.head, view.scale) == (0, 0, -1, "own") and len(sent) == 3
    sent.clear()
    for kind in ("hello", "caption", "picture"): view.answer(view, dict(type=kind, frame=0), [])
    assert sent == [("captures", 0), ("caption", 0), ("picture", 3)]
    view.patch = [1, 2, 3]
    assert view.patch == [] and view.figure() is not None


def test_learners_of_each_kind_can_be_seen():
    from babyvlm.models.learners import BabyLlavaLearner, ClipLearner
    from babyvlm.models.sizes import new_model
    from babyvlm.models.tokenizer import train_tokenizer
    from babyvlm.nursery.stimuli import Still
    from babyvlm.probing.capture import beside_untrained, difference
    from babyvlm.widgets.attention_viewer import AttentionViewer
    from babyvlm.widgets.heat import SAYS
    heard = ["look at the ball", "where is the duck"]
    tokenizer = train_tokenizer(heard)
    picture, _ = Still("one", (("ball", "red", "big"),)).draw(seed=0, px=64)
    for kind, make, says in [("clip", ClipLearner, "not attention"), ("babyllava", BabyLlavaLearner, "share of a word's attention")]:
        seen, twin = beside_untrained(make(new_model(kind, "tiny", tokenizer), tokenizer, name=kind), [picture], heard[:1], seed=1)[0]
        view = AttentionViewer(seen, beside=twin, release_level="Public")
        view.choose("ball")
        assert says in view.hello()["says"] and says in view.caption and (view.heats()[0] != view.heats()[1]).any()
        assert view.heats()[0].shape == seen.maps.shape[3:] and view.picture().shape == (64, 64, 3)
        less = AttentionViewer(difference(seen, twin), release_level="Public")
        (low, high), = less.spans()
        assert low == -high and less.hello()["signed"] and SAYS["difference"].capitalize() in less.caption
