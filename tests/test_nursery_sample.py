"""The sample that is checked in: whole, small, readable, and made by this code."""
import gzip
import json

import pytest

from babyvlm.core.basics import fast, read_json, sha256
from babyvlm.core.samples import samples
from babyvlm.curation.recordings import find_recordings
from babyvlm.curation.transcripts import read_transcript
from babyvlm.nursery.recordings import masks_at, write_recording
from babyvlm.nursery.world import plan, turned, world_of

SAMPLE = samples() / "nursery"
WORLD = world_of(read_json(SAMPLE / "nursery.json")["parameters"])


def test_the_manifest_names_every_file():
    manifest = read_json(SAMPLE / "manifest.json")
    assert {"seed", "version", "frames_sha256", "licence", "source", "release_level", "files"} <= set(manifest)
    listed = manifest["files"]
    assert {p.relative_to(SAMPLE).as_posix() for p in SAMPLE.rglob("*") if p.is_file()} == {*listed, "manifest.json"}
    assert all(sha256(SAMPLE / name) == f["sha256"] and (SAMPLE / name).stat().st_size == f["bytes"] for name, f in listed.items())
    assert sum(p.stat().st_size for p in samples().rglob("*") if p.is_file()) <= 12_000_000
    assert manifest["seed"] == WORLD.seed and manifest["source"] == "synthetic: nursery" and manifest["licence"] == "CC0-1.0"
    assert manifest["frames_sha256"] == {name: r["sha256"]["frames"] for name, r in read_json(SAMPLE / "nursery.json")["recordings"].items()}


def test_two_children_at_three_ages():
    found = [(r.child_id, int(r.age_days / 30.4375)) for r in plan(WORLD)]
    assert len({child for child, _ in found}) == 2 and len({age for _, age in found}) == 3 and len(found) == 6
    assert {r.recording_id for r in plan(WORLD)} == {p.stem for p in SAMPLE.glob("*.mp4")} == {p.stem for p in SAMPLE.glob("*.cha")}


@pytest.mark.parametrize("recording", plan(WORLD)[::4] if fast() else plan(WORLD), ids=lambda r: r.recording_id)
def test_it_is_made_again(recording, tmp_path):
    (tmp_path / "truth").mkdir()
    receipt = write_recording(tmp_path, recording, turned(WORLD, voice="hum"))  # the voice changes no frame, no word and no time
    assert receipt["sha256"] == read_json(SAMPLE / "nursery.json")["recordings"][recording.recording_id]["sha256"]
    made = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".mp4"]
    assert len(made) == 5 and all(p.read_bytes() == (SAMPLE / p.relative_to(tmp_path)).read_bytes() for p in made)


def test_curation_reads_it():
    rows = find_recordings(SAMPLE)
    assert len(rows) == 6
    for recording in plan(WORLD):
        with gzip.open(SAMPLE / "truth" / f"{recording.recording_id}.utterances.jsonl.gz", "rt", encoding="utf-8") as file:
            said = [json.loads(line) for line in file]
        for suffix in (".vtt", ".cha"):
            read = read_transcript(SAMPLE / f"{recording.recording_id}{suffix}")
            heard = read[0] if isinstance(read, tuple) else read
            spoken = [u for u in said if u["words"]]
            assert len(heard) >= len(spoken) and abs(heard[0].onset_s - said[0]["onset_s"]) < .002


def test_masks_of_it_are_rendered_again():
    name = sorted(p.stem for p in SAMPLE.glob("*.mp4"))[0]
    modal, amodal, depth = masks_at(SAMPLE, name, 3.2, px=48)
    assert depth.shape == (48, 48) and modal and all((modal[k] <= amodal[k]).all() for k in modal)
