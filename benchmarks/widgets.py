"""How fast the widgets answer in a real JupyterLab, and whether they fill the page's memory.

    python benchmarks/widgets.py [OUT] [--quick] [--only viewer inspector memory] [--recordings FOLDER]

`viewer`: two learners of twelve layers and six heads stand side by side in the attention viewer, 14 × 14 places and 16 words, over 200 frames. `inspector`: a
recording of ten minutes (made by the nursery as mp4 with sound and transcript at 224 px, 5 frames a second, and curated: 3,000 frames), from running the cell to
the first decoded picture, and from a click on a far place of the recording to the frame of that moment. `memory`: 200 clips, turned one after the other as keys
do, each looked at in two places; what is left after tidying up is compared between the 40th and the last.
Needs Chromium, a machine that does nothing else, 2 GB of memory, ten minutes, of which the nursery takes four (FOLDER keeps its recordings for another time).
Times are medians, from the key or the click to the drawn page. Writes OUT/widgets_DATE.json and OUT/widgets_DATE.md; OUT is the folder of this file by default.
"""

import bisect
import contextlib
import random
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from common import HERE, Goal, described, parser, report

sys.path.insert(0, str(HERE.parent / "tests"))

GOALS = {
    "inspector_first_ms": Goal("milliseconds from running the cell to the first picture of a ten-minute recording", 1000, less=True),
    "inspector_seek_ms": Goal("milliseconds from a click on a far place to its frame", 100, less=True),
    "first_ms": Goal("milliseconds from the message of the kernel to the attention viewer's first picture with its heads", 1000, less=True),
    "word_ms": Goal("milliseconds to another word, all 168 maps drawn anew", 100, less=True),
    "place_ms": Goal("milliseconds to the words that look at a place", 100, less=True),
    "frame_ms": Goal("milliseconds to a frame that the page has not asked for before", 1000, less=True),
    "payload_mb": Goal("MB that a frame of attention sends, both sides", 5, less=True),
    "growth_mb": Goal("MB more in the page after the last frame of attention than after the 80th", 8, less=True),
    "clips_heap_mb": Goal("MB more in the page (heap and buffers) after the 200th clip than after the 40th", 8, less=True),
    "clips_page_mb": Goal("MB more memory of the page's process, likewise", 40, less=True),
    "clips_kernel_mb": Goal("MB more memory of the kernel, likewise", 40, less=True),
}
SPREAD = (statistics.median, min, max)
DRAWN = "(act) => new Promise((done) => { const from = performance.now(); (0, eval)(act); requestAnimationFrame(() => setTimeout(() => done(performance.now() - from))) })"


# ---- what all need ----
@contextlib.contextmanager
def lab(*cells):
    "A notebook of these cells in a JupyterLab; yields a function that opens and runs it, and the page."
    from browser import lab_page, open_and_run, write_notebook

    with tempfile.TemporaryDirectory() as folder:
        write_notebook(Path(folder) / "ui.ipynb", *cells)
        with lab_page(folder) as (page, url):
            yield page, lambda: open_and_run(page, url("ui.ipynb"))


def kernel(page, code):
    "What Python prints."
    return page.evaluate("""async (code) => { const asked = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code}); let said = '';
      asked.onIOPub = (m) => { said += m.content.text ?? (m.content.traceback ?? []).join('') }; await asked.done; return said }""", code).strip()  # fmt: skip


def heap(session):
    "MB that the page holds after tidying up, buffers included."
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")
    return (used["usedSize"] + used.get("backingStorageSize", 0)) / 1e6


def renderer():
    "MB of the largest of Chromium's processes that draw pages."
    import psutil

    kinds = [p for p in psutil.Process().children(recursive=True) if "--type=renderer" in " ".join(p.cmdline())]
    return max(p.memory_info().rss for p in kinds) / 1e6


def spread(seconds):
    "[median, least, most] in milliseconds."
    return [round(1000 * f(seconds), 1) for f in SPREAD]


# ---- attention ----
VIEWER = """
import numpy as np
from types import SimpleNamespace
from babyvlm.widgets.attention_viewer import AttentionViewer
words, stream = "look at the red ball on the floor it is round and it rolls away now".split(), np.random.default_rng(0)
picture = stream.integers(0, 255, (28, 28, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
maps = stream.random((12, 6, len(words), 14, 14), np.float32)
side = lambda name: [SimpleNamespace(kind="attention", words=words, maps=np.roll(maps, k, -1), picture=np.roll(picture, k, 1), name=name) for k in range(FRAMES)]
view = AttentionViewer(side("trained"), side("untrained"), release_level="Public")
print(sum(len(b) for b in view.one_picture(0)[1]))
view
"""
WATCH = """() => { window.said = 0; const seen = new MutationObserver(() => { if (!said && document.querySelector('.bva')) said = performance.now();
  if (document.querySelector('.bva[data-ready=yes]')) { window.first = performance.now() - said; seen.disconnect() } }); seen.observe(document.body, {childList: true, subtree: true, attributes: true}) }"""
ACTS = dict(
    word=lambda k: f"document.querySelectorAll('.bva-word')[{k % 16}].click()",
    place=lambda k: "{ const s = document.querySelector('.bva-stage'), b = s.getBoundingClientRect();"
                    f" s.dispatchEvent(new MouseEvent('click', {{bubbles: true, clientX: b.left + {.03 + .06 * (k % 15)} * b.width, clientY: b.top + 9}})) }}",
)  # fmt: skip


def frames(page, session, count):
    "Seconds of each step, and MB after the 80th (or the middle) and after the last."
    steps, marks = [], {}
    for k in range(1, count):
        start = time.perf_counter()
        page.locator(".bva-stage").first.press(".")
        page.wait_for_selector(f".bva[data-frame='{k}']")
        steps.append(time.perf_counter() - start)
        if k in (min(80, count // 2), count - 1):
            marks[k] = heap(session)
    return steps, list(marks.values())


def viewer(options, count=200, repeats=30):
    "Times and memory of one attention viewer."
    with lab(VIEWER.replace("FRAMES", str(count))) as (page, run):
        page.add_init_script(f"addEventListener('DOMContentLoaded', {WATCH})")
        run()
        page.wait_for_function("window.first > 0")
        first, payload = page.evaluate("window.first"), int(page.locator(".jp-OutputArea-output pre").first.inner_text())
        times = {name: [page.evaluate(DRAWN, act(k)) / 1000 for k in range(repeats)] for name, act in ACTS.items()}
        steps, marks = frames(page, page.context.new_cdp_session(page), count)
    return dict(first_ms=round(first), payload_mb=round(payload / 1e6, 2), frames=count, memory_mb=[round(m, 1) for m in marks], repeats=repeats,
                **{f"{name}_ms": spread(seconds) for name, seconds in (times | dict(frame=steps)).items()})  # fmt: skip


# ---- the clip inspector ----
IMPORTS = "from pathlib import Path\nfrom babyvlm.core.corpus import read_corpus\nfrom babyvlm.widgets.clip_inspector import ClipInspector\nfrom babyvlm.widgets.sources import corpus_material"
FIRST = """() => new Promise((done) => {
  const shell = window.jupyterapp.shell.currentWidget, from = performance.now();
  const seen = new MutationObserver(() => { if (document.querySelector('.bv-picture[data-frame]')) { seen.disconnect(); requestAnimationFrame(() => done(performance.now() - from)) } });
  seen.observe(document.body, {childList: true, subtree: true, attributes: true, attributeFilter: ['data-frame']});
  window.jupyterapp.commands.execute('notebook:run-cell') })"""
CLICKED = """() => { window.took = null;
  addEventListener('pointerdown', () => {
    const from = performance.now(), picture = document.querySelector('.bv-picture');
    const seen = new MutationObserver(() => { seen.disconnect(); requestAnimationFrame(() => setTimeout(() => { window.took = performance.now() - from })) });
    seen.observe(picture, {attributes: true, attributeFilter: ['data-frame']}) }, true) }"""


def recorded(folder, minutes):
    "A recording of so many minutes, curated at its own frame rate; the corpus."
    from babyvlm.core.corpus import read_corpus
    from babyvlm.curation.pipeline import curate
    from babyvlm.nursery.recordings import make_recordings

    make_recordings(folder / "recordings", minutes=minutes, longest=minutes, children=1, px=224, fps=5, seed=3, workers=1, progress=False)
    curate(folder / "recordings", folder / "corpus", fps=5, workers=1, quiet=True)
    return read_corpus(folder / "corpus")


def firsts(page, repeats):
    "Seconds from running the cell to a picture, each time with nothing there before."
    found = []
    for _ in range(repeats):
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-cell-output')")
        page.wait_for_selector(".bv-clip", state="detached")
        page.wait_for_timeout(700)
        found.append(page.evaluate(FIRST) / 1000)
    return found


def seeks(page, times, repeats):
    "Seconds from a click on a random far place to the frame of that moment."
    found, stream, bounds = [], random.Random(0), page.locator(".bv-overview").bounding_box()
    page.evaluate(CLICKED)
    share = 0.0
    for _ in range(repeats):
        share = (share + stream.uniform(0.2, 0.8)) % 1
        page.evaluate("window.took = null")
        page.mouse.click(bounds["x"] + share * bounds["width"], bounds["y"] + bounds["height"] / 2)
        page.wait_for_function("window.took !== null")
        page.wait_for_timeout(400)  # the frames that follow are fetched
        t, frame = page.evaluate("[Number(document.querySelector('.bv-head').getAttribute('aria-valuenow')), Number(document.querySelector('.bv-picture').dataset.frame)]")
        assert abs(frame - (bisect.bisect_right(times, t + 1e-6) - 1)) <= 1, (t, frame)  # the page rounds the time that it shows
        found.append(page.evaluate("window.took") / 1000)
    return found


def inspector(options, minutes=10.0, repeats=15):
    "A long recording: its first picture, and far places of it."
    from babyvlm.widgets.sources import CorpusFrames

    with tempfile.TemporaryDirectory() as scratch:
        corpus = recorded(options.recordings or Path(scratch), minutes)
        name = corpus.recordings.recording_id[0]
        size = (corpus.path.parent / "recordings" / f"{name}.mp4").stat().st_size
        times = CorpusFrames(corpus, name).times
        with lab(f"{IMPORTS}\nCORPUS = Path({str(corpus.path.resolve())!r})", "insp = ClipInspector.from_corpus(CORPUS)\ninsp") as (page, run):
            run()
            page.wait_for_selector(".bv-picture[data-frame]")
            page.locator(".jp-Cell").nth(1).locator(".cm-content").click()
            page.wait_for_timeout(1000)
            first, far = firsts(page, max(3, repeats // 2)), seeks(page, times, repeats)
    return dict(minutes=minutes, mp4_mb=round(size / 1e6, 1), frames=len(times), repeats=[len(first), len(far)], first_ms=spread(first), seek_ms=spread(far))


MANY = """
corpora = read_corpus(CORPUS)
names = list(corpora.recordings.recording_id)
insp = ClipInspector(many=(COUNT, lambda k: corpus_material(corpora, names[k % len(names)])))
insp
"""
TURN = """(k) => new Promise((done) => {
  const root = document.querySelector('.bv-clip'), there = () => root.dataset.clip === String(k) && document.querySelector('.bv-picture[data-frame]');
  const seen = new MutationObserver(() => { if (there()) { seen.disconnect(); done() } });
  seen.observe(root, {subtree: true, attributes: true, attributeFilter: ['data-frame', 'data-clip']});
  document.querySelector('.bv-head').dispatchEvent(new KeyboardEvent('keydown', {key: 'PageDown', bubbles: true})) })"""


def line_through(counts, values):
    "The slope of a straight line, per hundred."
    mean = statistics.fmean
    x, y = mean(counts), mean(values)
    return 100 * sum((a - x) * (b - y) for a, b in zip(counts, values)) / sum((a - x) ** 2 for a in counts)


def memory(options, count=200, every=20):
    "What 200 clips leave behind, in the page and in the kernel."
    from babyvlm.curation.pipeline import curate

    marks = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = curate(HERE.parent / "data_samples" / "nursery", Path(folder) / "corpus", fps=5, workers=1, quiet=True)
        with lab(f"{IMPORTS}\nimport psutil\nCORPUS = Path({str(corpus.path.resolve())!r})", MANY.replace("COUNT", str(count))) as (page, run):
            run()
            page.wait_for_selector(".bv-picture[data-frame]")
            session = page.context.new_cdp_session(page)
            began = time.perf_counter()
            for k in range(1, count):
                page.evaluate(TURN, k)
                page.locator(".bv-head").press("End")
                page.wait_for_timeout(60)
                page.locator(".bv-head").press("Home")
                if (k + 1) % every == 0:
                    page.wait_for_timeout(500)
                    rss = float(kernel(page, "import gc; gc.collect(); print(psutil.Process().memory_info().rss / 1e6)"))
                    marks.append((k + 1, round(heap(session), 1), round(renderer(), 1), round(rss, 1)))
            seconds = time.perf_counter() - began
    settled = [mark for mark in marks if mark[0] >= 2 * every]
    columns = dict(heap=1, page=2, kernel=3)
    return dict(clips=count, s_per_clip=round(seconds / (count - 1), 2), marks=[dict(zip(("clip", *(f"{name}_mb" for name in columns)), mark)) for mark in marks],
                growth_mb={name: round(settled[-1][k] - settled[0][k], 1) for name, k in columns.items()},
                mb_per_100_clips={name: round(line_through([m[0] for m in settled], [m[k] for m in settled]), 2) for name, k in columns.items()} if len(settled) > 2 else None)  # fmt: skip


def figures(result):
    "Those with a goal."
    found = {f"inspector_{name}": result["inspector"][name][0] for name in ("first_ms", "seek_ms")} if "inspector" in result else {}
    if seen := result.get("viewer"):
        found |= {k: seen[k] for k in ("first_ms", "payload_mb")} | {k: seen[k][0] for k in ("word_ms", "place_ms", "frame_ms")}
        found["growth_mb"] = round(seen["memory_mb"][1] - seen["memory_mb"][0], 1)
    return found | {f"clips_{name}_mb": mb for name, mb in result.get("memory", {}).get("growth_mb", {}).items()}


MEASURES = dict(viewer=(viewer, partial(viewer, count=8, repeats=3)), inspector=(inspector, partial(inspector, minutes=0.5, repeats=3)), memory=(memory, partial(memory, count=12, every=3)))  # fmt: skip


def main():
    asked = parser(__doc__, MEASURES)
    asked.add_argument("--recordings", type=Path, help="keeps the ten minutes for another time")
    options = asked.parse_args()
    report("widgets", "The widgets' speed and memory", options, described(), MEASURES, figures, GOALS, options)


if __name__ == "__main__":
    main()
