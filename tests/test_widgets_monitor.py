"""The training monitor in a real JupyterLab, beside a run that is being written."""

import json

import pytest
from browser import LOOKS, faults_for, fits, lab_page, open_and_run, put_on, write_notebook

CARD = dict(format=1, status="running", recipe="clip", size="tiny", chance_loss=4.0, not_learning=False, stages=[dict(name="contrast", steps=300, chance=[4.0])])


def log(run, first, last, loss):
    with open(run / "metrics.jsonl", "a") as file:
        for k in range(first, last + 1):
            sample = dict(sample="a red ball") if k % 50 == 0 else {}
            file.write(json.dumps(dict(step=k, stage="contrast", loss=loss(k), wall_s=k / 2, **sample)) + "\n")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitor")
    run = folder / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps(CARD))
    log(run, 1, 60, lambda k: 4.0 + 0.01 * (k % 3))
    write_notebook(folder / "ui.ipynb", 'from babyvlm.widgets.monitor import TrainingMonitor\nmonitor = TrainingMonitor("run")\nmonitor')
    with lab_page(folder, height=800) as (page, url):
        page.folder, page.run = folder, run
        open_and_run(page, url("ui.ipynb"))
        page.wait_for_selector(".bv-monitor[data-ready=yes]")
        yield page


def test_it_follows_the_run_and_says_when_it_is_stuck(lab):
    page = lab
    assert page.locator(".bv-flag").is_visible() and "60 of 300 steps" in page.locator(".bv-monitor").inner_text()
    assert faults_for(page, ".bv-monitor", "moderate") == []
    log(page.run, 61, 200, lambda k: 4.0 - k / 100)
    page.wait_for_selector(".bv-monitor[data-step='200']")
    page.wait_for_selector(".bv-flag", state="hidden")
    assert page.locator(".bv-samples li").first.inner_text() == "step 200 a red ball"
    assert page.locator(".bv-chance").count() == 1 and "50 s left" in page.locator(".bv-monitor").inner_text()


def test_stop_and_continue_through_files(lab, tmp_path):
    page = lab
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("s")
    page.wait_for_selector(".bv-monitor[data-status=stopping]")
    assert (page.run / "stop").is_file()
    page.keyboard.press("c")
    page.wait_for_selector(".bv-monitor[data-status=running]")
    assert not (page.run / "stop").exists()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".bv-monitor[data-status=stopping]")
    (page.run / "stop").unlink()  # as the trainer does
    (page.run / "run.json").write_text(json.dumps(CARD | dict(status="stopped")))
    page.wait_for_selector(".bv-monitor[data-status=stopped]")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_selector("text=with --resume; the run is at step 200")
    (page.run / "metrics.jsonl").write_text("")
    log(page.run, 1, 100, lambda k: 4.0 - k / 100)  # cut back to its checkpoint
    page.wait_for_selector(".bv-monitor[data-step='100']")
    page.screenshot(path=tmp_path / "monitor.png")


@pytest.mark.parametrize("theme,width", LOOKS)
def test_looks(lab, tmp_path, theme, width):
    page = lab
    put_on(page, theme, width, 800)
    page.locator(".bv-monitor").screenshot(path=tmp_path / f"{theme.split()[-1].lower()}-{width}.png")
    assert fits(page, ".bv-monitor") and faults_for(page, ".bv-monitor", "moderate") == []
    for size, text in page.evaluate("[...document.querySelectorAll('.bv-monitor svg text')].map((n) => [n.getBoundingClientRect().height, n.textContent])"):
        assert size >= 13, (width, text, size)
    assert page.faults == [] and page.away == []


def test_without_a_page_there_is_a_curve(lab):
    from babyvlm.widgets.monitor import TrainingMonitor

    monitor = TrainingMonitor(lab.run)
    bundle, _ = monitor._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG") and "step 100, loss 3.000 (chance 4.000)" in bundle["text/plain"]
