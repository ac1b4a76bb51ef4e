"""The shape of the house: arrows between rooms, generated modules, light imports, clean notebooks."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PACKAGE, NOTEBOOKS = TOP / "babyvlm", TOP / "nbs"
ROOMS = {"core", "nursery", "curation", "models", "pretraining", "probing", "milestones", "widgets", "cli"}
MAY = {room: {"core", room} for room in ROOMS} | {"core": {"core"}, "pretraining": {"core", "models", "pretraining"}, "cli": ROOMS}
BY_HAND = {"nursery/render.py", "curation/transcripts.py", "curation/isolate.py"}


def imported_rooms(source, package=("babyvlm", "core")):
    "Which of our rooms a module's source imports, functions included; `package` resolves relative imports."
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return {parts[1] for name in names if len(parts := name.split(".")) > 1 and parts[0] == "babyvlm" and parts[1] in ROOMS}


def wrong_arrows(room, source):
    return imported_rooms(source, ("babyvlm", room)) - MAY[room]


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "_modidx.py") or "cli" in p.parts)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows(path):
    room = path.relative_to(PACKAGE).parts[0]
    if room not in ROOMS:  # `babyvlm.all`, the hub of the tutorials
        return
    assert not wrong_arrows(room, path.read_text()), f"{path} imports a room that design forbids"
    assert not re.search(r"^\s*(from|import) (tests|nbs)\b", path.read_text(), re.M)


def test_a_wrong_arrow_is_seen():
    assert wrong_arrows("curation", "from babyvlm.models.clip import Clip") == {"models"}
    assert wrong_arrows("core", "def f():\n    import babyvlm.nursery.scene") == {"nursery"}
    assert wrong_arrows("widgets", "from babyvlm import milestones") == {"milestones"}
    assert wrong_arrows("nursery", "from ..curation.pipeline import curate") == {"curation"}
    assert not wrong_arrows("nursery", "from .scene import Scene\nfrom ..core.basics import rng")
    assert not wrong_arrows("pretraining", "from babyvlm.models.clip import Clip")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_is_generated_or_on_the_list(path):
    name = path.relative_to(PACKAGE).as_posix()
    if name in BY_HAND or name.startswith("cli/"):
        return
    match = re.search(r"File to edit: (\S+\.ipynb)", path.read_text())
    assert match, f"{name} was written by hand and is not on the closed list"
    assert (path.parent / match[1]).resolve().is_file(), f"{name} comes from {match[1]}, which is gone"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_package_needs_no_build_tools(path):
    assert not re.search(r"^\s*(from|import) (nbdev|fastcore|execnb)\b", path.read_text(), re.M)


def notebooks():
    return sorted(p for p in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: str(p.relative_to(NOTEBOOKS)))
def test_notebook_is_clean_and_titled(path):
    notebook = json.loads(path.read_text())
    first = "".join(notebook["cells"][0]["source"])
    assert first.startswith("# ") and "\n> " in first, "a title and a `>` subtitle come first"
    assert "widgets" not in notebook["metadata"], "saved widget state may hold pictures"
    mimes = {m for c in notebook["cells"] for o in c.get("outputs", []) for m in o.get("data", {})}
    if path.parent.name in ("tutorials", "labs"):
        assert path.stat().st_size <= 300_000
        assert not re.search(r"^\s*(from|import) (nbdev|fastcore)\b", path.read_text(), re.M)
    else:
        assert not any(m.startswith(("image/", "audio/", "video/")) for m in mimes), "pictures stay out of source notebooks"


def test_import_and_help_are_light():
    code = (
        "import sys, babyvlm\n"
        "from babyvlm.cli import main\n"
        "sys.argv = ['babyvlm', '--help']\n"
        "try: main()\n"
        "except SystemExit as leave: assert not leave.code\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'decord', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout


def test_version_is_said_once():
    import babyvlm

    version = re.search(r"^version = (\S+)", (TOP / "settings.ini").read_text(), re.M)[1]
    assert babyvlm.__version__ == version
    assert f"version: {version}" in (TOP / "CITATION.cff").read_text()


def test_readme_is_the_index_notebook():
    sys.path.insert(0, str(NOTEBOOKS))
    try:
        from make_readme import readme
    finally:
        sys.path.pop(0)
    assert (TOP / "README.md").read_text() == readme(), "run `python nbs/make_readme.py`"
