"""The curation review in a real JupyterLab: the slider, the edge, decisions, the recipe."""

import json

import pytest
from browser import LOOKS, command, faults_for, fits, lab_page, open_and_run, put_on, write_notebook

HOME = '''
import numpy as np, pandas as pd
from babyvlm.widgets.review import CurationReview
words = "ball cup dog shoe book".split()
table = pd.DataFrame(dict(pair_id=[f"p{k:03d}" for k in range(200)], text=[f"look at the {words[k // 40]}" for k in range(200)], fit=np.arange(200) / 200, light=np.arange(200)[::-1] / 10.))
stripes = np.zeros((64, 64, 3), np.uint8)
stripes[:, ::4] = 255
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    (folder / "home.py").write_text(HOME)
    write_notebook(folder / "ui.ipynb", 'from home import *\nreview = CurationReview(table, picture=lambda row: stripes, recipe="recipe.json", release_level="Private")\nreview')
    with lab_page(folder, height=1000) as (page, url):
        page.folder = folder
        open_and_run(page, url("ui.ipynb"))
        page.wait_for_selector(".bv-review[data-ready=yes]")
        page.wait_for_selector(".bv-card")
        page.wait_for_timeout(500)
        yield page


def ask(page, code):
    "What an expression is in the kernel, through JSON."
    return json.loads(page.evaluate("""async (code) => {
      const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel; let said = '';
      const future = kernel.requestExecute({code: `import json; print(json.dumps(${code}))`});
      future.onIOPub = (m) => { if (m.header.msg_type === 'stream') said += m.content.text };
      await future.done; return said }""", code))


def test_the_slider_says_at_once_what_is_kept_and_lost(lab):
    page = lab
    page.locator(".bv-number").fill("0.505")
    page.locator(".bv-number").press("Enter")
    assert page.locator(".bv-counts").inner_text() == "99 of 200 pairs kept (50 %), 101 dropped, 2 of 8 words lost"
    assert page.locator(".bv-lost li").all_inner_texts() == ["ball 40", "cup 40"]
    page.wait_for_selector(".bv-card:has-text('0.505')")
    kept = page.locator(".bv-side[data-keep=yes] .bv-value").all_inner_texts()
    assert kept == [f"fit {v:g}" for v in (0.505, 0.51, 0.515, 0.52, 0.525, 0.53)]
    assert ask(page, "[len(review.kept), review.lost_words]") == [99, ["ball", "cup"]]
    before = int(page.locator(".bv-review").get_attribute("data-kept"))
    page.locator(".bv-slider").press("ArrowRight")
    page.locator(".bv-slider").press("ArrowRight")
    page.locator(".bv-slider").press("ArrowRight")
    page.locator(".bv-slider").press("ArrowRight")
    page.locator(".bv-slider").press("ArrowRight")
    assert int(page.locator(".bv-review").get_attribute("data-kept")) < before


def test_accept_reject_undo_by_keys(lab):
    page = lab
    page.locator(".bv-number").fill("0.505")
    page.locator(".bv-number").press("Enter")
    page.wait_for_selector(".bv-side[data-keep=no] .bv-card[data-id=p100]:first-child")
    first = page.locator(".bv-side[data-keep=no] .bv-card").first
    assert first.get_attribute("data-id") == "p100"
    first.locator("button").focus()
    page.keyboard.press("a")
    page.wait_for_selector(".bv-review[data-decided='1']")
    page.wait_for_selector(".bv-side[data-keep=no] .bv-card[data-id=p099]:first-child")
    page.locator(".bv-side[data-keep=yes] .bv-card button").first.click()
    page.wait_for_selector(".bv-review[data-decided='2']")
    assert ask(page, "[review.accepted, review.rejected, len(review.kept)]") == [["p100"], ["p101"], 99]
    page.locator(".bv-slider").focus()
    page.keyboard.press("u")
    page.wait_for_selector(".bv-review[data-decided='1']")
    assert ask(page, "[review.accepted, review.rejected, len(review.kept)]") == [["p100"], [], 100]


def test_the_recipe_is_written(lab):
    page = lab
    page.get_by_role("button", name="Write recipe").click()
    page.wait_for_selector("text=written: 100 pairs are kept")
    recipe = json.loads((page.folder / "recipe.json").read_text())
    assert recipe["column"] == "fit" and abs(recipe["at_least"] - 0.505) < 1e-9 and recipe["accept"] == ["p100"] and recipe["counts"]["words_lost"] == 2


def test_another_measurement(lab):
    page = lab
    page.locator(".bv-column").select_option("light")
    page.wait_for_selector(".bv-review[data-column=light]")
    assert ask(page, "review.column") == "light"
    page.locator(".bv-number").fill("10")
    page.locator(".bv-number").press("Enter")
    page.wait_for_function("document.querySelector('.bv-review').dataset.lost == '2'")
    assert page.locator(".bv-lost li").all_inner_texts() == ["book 40", "shoe 40"]


def test_keys_alone_go_through_a_review(lab):
    page = lab
    page.locator(".bv-column").focus()
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className.split(' ')[0]"))
    assert reached == ["bv-number", "bv-slider", "bv-tool", "bv-tool"] and page.evaluate("document.activeElement.closest('.bv-card') !== null")
    page.locator(".bv-slider").focus()
    page.keyboard.press("Home")
    page.wait_for_selector(".bv-review[data-kept='200']")
    for _ in range(3):
        page.keyboard.press("PageUp")
    page.wait_for_selector(".bv-side[data-keep=no] .bv-card")
    decided = int(page.locator(".bv-review").get_attribute("data-decided"))
    page.wait_for_timeout(600)  # the edge of the new threshold
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.closest('.bv-card').dataset.id")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.bv-card').dataset.id") != first
    page.keyboard.press("x" if page.evaluate("document.activeElement.closest('.bv-side').dataset.keep") == "yes" else "a")
    page.wait_for_selector(f".bv-review[data-decided='{decided + 1}']")
    assert page.evaluate("document.activeElement.closest('.bv-review') !== null")  # the card has gone, the focus has not
    page.keyboard.press("u")
    page.wait_for_selector(f".bv-review[data-decided='{decided}']")
    assert page.locator(".jp-Cell").count() == 1


@pytest.mark.parametrize("theme,width", LOOKS)
def test_looks(lab, tmp_path, theme, width):
    page = lab
    put_on(page, theme, width)
    page.locator(".bv-review").screenshot(path=tmp_path / f"{theme.split()[-1].lower()}-{width}.png")
    assert fits(page, ".bv-review") and faults_for(page, ".bv-review", "moderate") == []
    page.set_viewport_size(dict(width=1280, height=1000))


def test_pictures_are_blurred_and_none_is_saved(lab):
    page = lab
    contrast = page.evaluate("""async () => { const i = document.querySelector('.bv-card img'); await i.decode(); const c = new OffscreenCanvas(i.naturalWidth, i.naturalHeight), g = c.getContext('2d');
      g.drawImage(i, 0, 0); const d = g.getImageData(0, 0, c.width, c.height).data; let most = 0;
      for (let k = 4; k < d.length; k += 4) if ((k / 4) % c.width) most = Math.max(most, Math.abs(d[k] - d[k - 4])); return most }""")
    assert contrast < 60
    command(page, "docmanager:save")
    page.wait_for_timeout(800)
    left = (page.folder / "ui.ipynb").read_text()
    assert "widget-view" in left and "look at the" not in left.replace("look at the pair", "") and "p100" not in left and "data:image" not in left
    assert page.faults == [] and page.away == []


def test_without_a_page_there_is_a_curve(tmp_path):
    namespace = {}
    exec(HOME, namespace)
    review = namespace["CurationReview"](namespace["table"])
    bundle, _ = review._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG") and "200 of 200 pairs kept" in bundle["text/plain"]
