"""`babyvlm scan`: exit codes, planted leaks of every kind, no alarm over what is plain."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from babyvlm.curation.scan import scan

COMMAND = [sys.executable, "-c", "from babyvlm.cli import main; main()", "scan"]
NOISE = np.random.default_rng(3).integers(0, 256, (48, 48, 3)).astype(np.uint8)


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)


def picture(kind):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, kind)
    return buffer.getvalue()


def test_exit_codes(tmp_path):
    assert run(tmp_path / "nowhere").returncode == 2
    (tmp_path / "a.md").write_text("nothing to see\n")
    clean = run(tmp_path)
    assert clean.returncode == 0 and clean.stdout.strip() == "1 files: nothing found"
    (tmp_path / "b.md").write_bytes(picture("JPEG"))
    found = run(tmp_path)
    assert found.returncode == 1 and "pixels    b.md: a JPEG picture" in found.stdout
    assert run(tmp_path, "--allow", "b.*").returncode == 0
    (tmp_path / "b.md").write_text("Marla was there")
    (tmp_path.parent / "names.txt").write_text("Marla\n")
    assert run(tmp_path).returncode == 0 and run(tmp_path, "--names", tmp_path.parent / "names.txt").returncode == 1
    assert run(tmp_path, "--names", tmp_path / "none").returncode == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PDF", "AVIF"])
def test_every_kind_of_picture_under_a_false_name(tmp_path, kind):
    (tmp_path / "weights.bin").write_bytes(picture(kind))
    assert [leak.kind for leak in scan(tmp_path).leaks] == ["pixels"]


@pytest.mark.parametrize("suffix,codec", [("mp4", "mpeg4"), ("mkv", "mpeg4"), ("avi", "mpeg4"), ("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame")])
def test_films_and_sounds_under_a_false_name(tmp_path, suffix, codec):
    import av

    if codec not in av.codecs_available:
        codec = "mp3"
    buffer = io.BytesIO()
    sound = suffix in ("wav", "flac", "mp3")
    with av.open(buffer, "w", format={"mkv": "matroska"}.get(suffix, suffix)) as file:
        if sound:
            stream = file.add_stream(codec, rate=16_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), "s16", "mono")
            frame.sample_rate = 16_000
            frames = av.AudioResampler(stream.format.name, "mono", 16_000).resample(frame)
        else:
            stream = file.add_stream(codec, rate=5)
            stream.width = stream.height = 48
            stream.pix_fmt = "yuv420p"
            frames = [av.VideoFrame.from_ndarray(NOISE, "rgb24")]
        for frame in frames:
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    (tmp_path / "thing").write_bytes(buffer.getvalue())
    assert [leak.kind for leak in scan(tmp_path).leaks] == ["sound" if sound else "pixels"]


def test_in_a_tar_and_in_a_squeezed_array(tmp_path):
    np.savez_compressed(tmp_path / "cache.npz", frames=NOISE[None])
    with tarfile.open(tmp_path / "all.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("deep/x")
        info.size = len(picture("PNG"))
        archive.addfile(info, io.BytesIO(picture("PNG")))
    assert {(leak.path, leak.kind) for leak in scan(tmp_path).leaks} == {("cache.npz", "pixels"), ("all.tgz", "pixels")}


def test_a_plain_project_raises_no_alarm(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.randn(300, 300)}, tmp_path / "model.safetensors")
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(dict(step=k, loss=4.1 / k, wall_s=k / 7)) + "\n" for k in range(1, 2000)))
    (tmp_path / "run.json").write_text(json.dumps(dict(format=1, sha="3f2a20130401bc" * 4, seen=dict(pairs=20230917), steps=[1] * 4000, rates=[0.25] * 4000)))
    (tmp_path / "chart.svg").write_text("<svg><path d='" + " ".join(f"L {k / 3:.2f} {k}" for k in range(3000)) + "'/></svg>")
    (tmp_path / "tokenizer.json").write_text(json.dumps(dict(vocab={f"word{k}": k for k in range(5000)})))
    found = scan(tmp_path)
    assert found.clean and found.files == 6, str(found)


def test_chance_makes_no_leaks(tmp_path):
    "Random bytes, and random letters: 40 MB of the one, 8 MB of the other."
    import base64

    rng = np.random.default_rng(5)
    (tmp_path / "a.bin").write_bytes(rng.bytes(40_000_000))
    (tmp_path / "b.txt").write_text("\n".join(base64.b64encode(rng.bytes(600)).decode() for _ in range(10_000)))
    found = scan(tmp_path)
    assert not [leak for leak in found.leaks if leak.kind != "identity"], str(found)
