"""Run by .ci/run inside an empty environment that holds only the wheel: everything travelled, and the road starts."""

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import babyvlm
from babyvlm.core.samples import samples, tutorials

command = sys.argv[1]
assert "site-packages" in babyvlm.__file__, f"the installed package is meant, not {babyvlm.__file__}"
names = [m.name for m in pkgutil.walk_packages(babyvlm.__path__, "babyvlm.")]
for name in names:
    importlib.import_module(name)
rooms = {name.split(".")[1] for name in names}
assert rooms >= {"core", "nursery", "curation", "models", "pretraining", "milestones", "widgets", "cli", "all"}, rooms
assert "nbdev" not in sys.modules and "fastcore" not in sys.modules
package = Path(babyvlm.__file__).parent
assert list(package.glob("widgets/*.js")), "the widgets' JavaScript is missing"
assert list(samples().rglob("*.mp4")) and package in samples().parents, samples()
assert list(tutorials().glob("*.ipynb")) and package in tutorials().parents, tutorials()


def run(*arguments):
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    there = Path(folder)
    run("doctor")
    run("lab", there / "lab", "--copy-only")
    run("nursery", there / "recordings", "--minutes", 0.3, "--px", 64, "--fps", 2, "--pace", 3)
    run("curate", there / "recordings", there / "corpus", "--px", 64)
    run("pretrain", there / "corpus", there / "run", "--recipe", "clip", "--steps", 3)
    assert (there / "run" / "checkpoints" / "latest").is_file()
print(f"wheel: {len(names)} modules, samples, tutorials and the road work in an empty environment")
