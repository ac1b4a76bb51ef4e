"""Real video files for the tests of curation, and readers that misbehave on purpose."""

import ctypes
import os
import time
from fractions import Fraction

import av
import numpy as np

os.environ["SVT_LOG"] = "0"


def picture(second, size=(96, 64), seed=0):
    "A textured ground with a red ball whose column tells the time: 8 + 8 * second."
    y, x = np.mgrid[: size[1], : size[0]]
    ground = 120 + 40 * np.sin((x + 3 * seed) / 7) * np.cos((y + 5 * seed) / 5)
    image = np.stack([ground, ground, ground + 30], axis=-1)
    image[(x - 8 - 8 * second) ** 2 + (y - 16) ** 2 < 36] = 230, 30, 30
    return image.astype(np.uint8)


def told_time(image):
    "The time that a picture of the full size tells."
    red = image[..., 0].astype(int) - image[..., 2] > 90
    return (np.nonzero(red)[1].mean() - 8) / 8


def film(path, times=(), codec="libx264", size=(96, 64), rotation=0, mirrored=False, sound=True, second=None, options=None, seed=0):
    "Writes a film: pictures at `times` (default 4 s at 10 a second), a tone that is on during odd seconds; `second` adds a smaller stream first."
    times = list(times) or [k / 10 for k in range(40)]
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {"preset": "12"} if codec == "libsvtav1" else {}
    with av.open(path, "w", options=options or {}) as container:
        sizes = [second, size] if second else [size]
        streams = []
        for width, height in sizes:
            stream = container.add_stream(codec, rate=10, width=width, height=height, pix_fmt="yuv420p", options=quiet)
            if path.suffix != ".avi":
                stream.codec_context.time_base = Fraction(1, 1000)
            streams.append(stream)
        if rotation or mirrored:
            streams[-1].set_display_rotation(rotation, hflip=mirrored)
        voice = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48_000 if path.suffix == ".webm" else 16_000, layout="mono") if sound else None
        for stream, dims in zip(streams, sizes):
            for k, at in enumerate(times):
                frame = av.VideoFrame.from_ndarray(picture(at, dims, seed), "rgb24")
                frame.pts, frame.time_base = (k, Fraction(1, 10)) if path.suffix == ".avi" else (round(at * 1000), Fraction(1, 1000))
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if sound:
            rate = voice.rate
            at = np.arange(round((times[-1] + 0.1) * rate)) / rate
            tone = (0.4 * np.sin(2 * np.pi * 440 * at) * (at.astype(int) % 2)).astype(np.float32)
            for start in range(0, len(tone) - 1024, 1024):
                frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "flt", "mono")
                frame.sample_rate, frame.pts = rate, start
                container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


def fragile(job):
    "`curate_recording` with a reader that crashes or hangs on some files."
    from babyvlm.curation.pipeline import curate_recording

    if "segfault" in job["path"] or "with decord" in job["path"] and job["reader"] == "auto":
        ctypes.string_at(0)
    if "hang" in job["path"]:
        time.sleep(600)
    if "killed" in job["path"]:
        os.kill(os.getpid(), 9)
    return curate_recording(job)


def slow(job):
    "`curate_recording` that takes its time, so that it can be killed on the way."
    from babyvlm.curation.pipeline import curate_recording

    time.sleep(0.7)
    return curate_recording(job)


def end(kind):
    "Ends its process in the way that is asked for."
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "exit":
        os._exit(7)
    if kind == "loud":
        os.system("echo noise; echo noise >&2")
        print("noise" * 100_000, flush=True)
    if kind == "large":
        return b"x" * 20_000_000
    if kind == "memory":
        raise MemoryError
    if kind == "sleep":
        time.sleep(600)
    return os.getpid()
