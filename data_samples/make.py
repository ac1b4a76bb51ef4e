"""Makes the sample that travels with the kit: two children at three ages, in folder `nursery` beside this file.

    python data_samples/make.py [FOLDER]

Needs eSpeak NG for the voices (pip install 'babyvlm[speech]'), one core and about two minutes. Pictures, transcripts and truth are the same
on every machine of a kind; the bytes of the videos are not, since encoders differ. What is there is replaced once all is made.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import babyvlm
from babyvlm.core.basics import read_json, sha256, write_json
from babyvlm.nursery.recordings import make_recordings
from babyvlm.nursery.world import World

SAMPLE = World(minutes=2.0, children=2, px=128, fps=5.0, pace=8.0, seed=2, voice="espeak", transcripts="both", ages=(5.0, 11.0, 24.0))
LARGEST = 12_000_000  # bytes of everything


def manifest(folder, world):
    "What the sample is, where it comes from, and the fingerprints of all its files."
    receipts = read_json(folder / "nursery.json")["recordings"]
    files = {p.relative_to(folder).as_posix(): dict(bytes=p.stat().st_size, sha256=sha256(p))
             for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json"}  # fmt: skip
    return dict(
        what="two synthetic children at 5, 11 and 24 months, 40 seconds each, 128 px, 5 frames per second, with sound, transcripts and truth",
        source="synthetic: nursery", licence="CC0-1.0", release_level="Public", version=babyvlm.__version__, seed=world.seed,
        made_with="python data_samples/make.py", frames_sha256={name: r["sha256"]["frames"] for name, r in receipts.items()},
        bytes=sum(f["bytes"] for f in files.values()), files=files,
    )  # fmt: skip


def make(folder, world=SAMPLE):
    "The sample in `folder`, which is replaced."
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sample") as scratch:
        made = make_recordings(Path(scratch) / "nursery", world, workers=1)
        card = manifest(made, world)
        assert card["bytes"] <= LARGEST, f"{card['bytes']:,} bytes are more than {LARGEST:,}; take fewer minutes"
        write_json(made / "manifest.json", card)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(made, folder)
    return folder


if __name__ == "__main__":
    there = make(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "nursery")
    print(f"{there}: {read_json(there / 'manifest.json')['bytes'] / 1e6:.1f} MB")
