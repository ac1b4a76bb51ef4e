"""Every notebook runs, once, in its short form: the examples are the tests."""

import os
from pathlib import Path

import pytest
from nbdev.test import test_nb as run_notebook  # pytest would collect a name starting with test_

NOTEBOOKS = Path(__file__).parent.parent / "nbs"
FOUND = sorted(p for p in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def test_there_are_notebooks():
    assert len(FOUND) > 20


@pytest.mark.parametrize("path", FOUND, ids=lambda p: str(p.relative_to(NOTEBOOKS)))
def test_notebook(path, monkeypatch):
    monkeypatch.setenv("FAST", "1")
    before = set(os.listdir(path.parent))
    ok, _ = run_notebook(path, do_print=False, basepath=path.parent)
    assert ok, f"{path.name} failed; its traceback stands above"
    assert set(os.listdir(path.parent)) - before - {"__pycache__"} == set(), "a notebook left files beside itself"
