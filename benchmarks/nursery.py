"""How fast the nursery is, how much it writes and how much memory it takes.

    python benchmarks/nursery.py [OUT] [--quick] [--only clip still pair processes minute memory]

Needs a machine that does nothing else: two free cores, 2 GB of memory, about 8 minutes (--quick: one, for trying it out). Times are
CPU-seconds of one process with one thread, except for two processes against one, where the clock counts. Writes OUT/nursery_DATE.json and
OUT/nursery_DATE.md; OUT is the folder of this file by default.
"""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
from common import Goal, apart, described, parser, report  # noqa: E402

GOALS = {
    "clip_224_fps": Goal("frames per CPU-second, moving clip at 224 px, truth, shadows, 4 sub-samples", 14, wished=18),
    "clip_128_fps": Goal("the same at 128 px", 32, wished=40),
    "still_64_fps": Goal("stills per CPU-second at 64 px, no truth", 70, wished=80),
    "two_processes": Goal("speed-up by a second process", 1.7),
    "minute_cpu_s": Goal("CPU-seconds for a minute at 224 px, 10 fps, sound", 45, less=True),
    "minute_mb": Goal("MB for that minute: video, sound, transcript, truth", 2, less=True),
    "memory_growth_mb": Goal("MB more memory for the longest recording than for the shortest", 8, less=True),
}


def clip(px, seconds=4.0, scenes=12, fps=10.0):
    "Frames per CPU-second of moving clips at all ages of the full world: shadows, four sub-samples, full truth, setting up included."
    from babyvlm.nursery.script import take
    from babyvlm.nursery.world import World, plan

    world = World(minutes=4.0, px=px, fps=fps, seed=1, longest=0.5)
    recordings, rates = plan(world), []
    for i in range(-1, scenes):  # the first one warms up
        recording = recordings[i % len(recordings)]
        begun = time.process_time()
        shot, n = take(recording, world, i % 3).shot(), round(seconds * fps)
        for f in range(n):
            shot.view((f + 10) / fps, px, truth=True, samples=4)
        if i >= 0:
            rates.append(n / (time.process_time() - begun))
    total = len(rates) / sum(1 / r for r in rates)  # all frames over all seconds
    return dict(fps=round(total, 2), slowest_scene=round(min(rates), 2), fastest_scene=round(max(rates), 2), scenes=scenes, frames=scenes * n)


def still(count=240):
    "Stills per CPU-second at 64 px without truth, as training on the plain world draws them; with and without drawing the scene."
    from babyvlm.core.basics import rng
    from babyvlm.nursery.scene import draw_scene, still as photograph

    scenes = [draw_scene(rng(1, "still", i)) for i in range(count)]
    for scene in scenes[:10]:
        photograph(scene, 64)
    begun = time.process_time()
    for i, scene in enumerate(scenes):
        photograph(scene, 64, rng(1, "noise", i))
    rendered = time.process_time() - begun
    begun = time.process_time()
    for i in range(count):
        draw_scene(rng(2, "still", i))
    drawn = time.process_time() - begun
    return dict(fps=round(count / rendered, 1), with_drawing_fps=round(count / (rendered + drawn), 1), stills=count)


def pairs(count=120):
    "Pairs per CPU-second of the online source at 64 px: one picture each."
    from babyvlm.nursery.stream import pair
    from babyvlm.nursery.world import FIRST_WORDS, World, turned

    rates = {}
    for name, world in (("plain", FIRST_WORDS), ("full", World())):
        world = turned(world, px=64, minutes=60.0)
        for i in range(5):
            pair(world, i)
        begun = time.process_time()
        for i in range(5, 5 + count):
            pair(world, i)
        rates[f"{name}_per_s"] = round(count / (time.process_time() - begun), 1)
    return dict(**rates, pairs=count)


def _render(ready, go, px, frames):
    "A worker: says when it is ready, waits for the signal, renders."
    from babyvlm.nursery.script import take
    from babyvlm.nursery.world import World, plan

    world = World(minutes=1.0, px=px, seed=1)
    shot = take(plan(world)[0], world, 0).shot()
    shot.view(0.5, px)
    ready.release()
    go.wait()
    for f in range(frames):
        shot.view(f / 10 % 7, px)


def _wall(processes, frames, px=128):
    "Seconds on the clock that so many processes need for so many frames each."
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    workers = [context.Process(target=_render, args=(ready, go, px, frames)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    begun = time.perf_counter()
    go.set()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begun


def processes(frames=150, repeats=3):
    "How much faster two processes are than one: the same scenes at 128 px, best of some repeats each."
    one, two = (min(_wall(n, frames) for _ in range(repeats)) for n in (1, 2))
    return dict(speed_up=round(2 * one / two, 2), one_s=round(one, 2), two_s=round(two, 2), frames_each=frames)


_MAKE = """
import json, resource, time
from babyvlm.nursery.recordings import make_recordings
from babyvlm.nursery.world import World
make_recordings({warm!r}, World(minutes=.05, px=64, fps=2., seed=9), workers=1, progress=False)
begun = time.process_time()
make_recordings({out!r}, World(**{dials!r}), workers=1, progress=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(dict(cpu_s=time.process_time() - begun, peak_mb=peak * 1024 / 1e6)))
"""


def made(**dials):
    "CPU-seconds, peak memory and bytes by kind of one recordings folder, made in a process of its own."
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        figures = apart(_MAKE.format(warm=str(Path(folder) / "warm"), out=str(out), dials=dials))
        kinds = {"video with sound": "*.mp4", "transcript": "*.vtt", "truth": "truth/*"}
        return dict(**figures, bytes={kind: sum(p.stat().st_size for p in out.glob(pattern)) for kind, pattern in kinds.items()})


def minute(px=224, fps=10.0, minutes=1.0, seeds=(1, 2, 3)):
    "CPU-seconds and megabytes of a minute with sound, transcript and truth: means over some homes, and the worst."
    runs = [made(minutes=minutes, px=px, fps=fps, seed=seed) for seed in seeds]
    cpu, size = [r["cpu_s"] / minutes for r in runs], [sum(r["bytes"].values()) / 1e6 / minutes for r in runs]
    kinds = {kind: round(float(np.mean([r["bytes"][kind] for r in runs])) / 1e6 / minutes, 3) for kind in runs[0]["bytes"]}
    return dict(cpu_s=round(float(np.mean(cpu)), 1), worst_cpu_s=round(max(cpu), 1), mb=round(float(np.mean(size)), 2), worst_mb=round(max(size), 2),
                mb_by_kind=kinds, homes=len(runs))


def memory(minutes=(1.0, 4.0, 16.0)):
    "Peak memory of one recording of so many minutes (64 px, 2 frames a second)."
    peaks = [made(minutes=m, px=64, fps=2.0, longest=m, seed=1, ages=(12.0, 13.0))["peak_mb"] for m in minutes]
    return dict(minutes=list(minutes), peak_mb=[round(p, 1) for p in peaks], growth_mb=round(peaks[-1] - peaks[0], 1))


MEASURES = {  # name -> (in full, to try it out)
    "clip": (lambda: {str(px): clip(px) for px in (224, 128)}, lambda: {str(px): clip(px, seconds=0.5, scenes=2) for px in (224, 128)}),
    "still": (still, lambda: still(20)),
    "pair": (pairs, lambda: pairs(10)),
    "processes": (processes, lambda: processes(20, 1)),
    "minute": (minute, lambda: minute(minutes=0.1, seeds=(1,))),
    "memory": (memory, lambda: memory((0.2, 0.6))),
}  # fmt: skip


def figures(result):
    "The figures that have a goal."
    found = {}
    if "clip" in result:
        found |= {f"clip_{px}_fps": c["fps"] for px, c in result["clip"].items()}
    for name, measure, key in (("still_64_fps", "still", "fps"), ("two_processes", "processes", "speed_up"), ("minute_cpu_s", "minute", "cpu_s"),
                               ("minute_mb", "minute", "mb"), ("memory_growth_mb", "memory", "growth_mb")):  # fmt: skip
        if measure in result:
            found[name] = result[measure][key]
    return found


def main():
    import av

    report("nursery", "The nursery's speed", parser(__doc__, MEASURES).parse_args(), described(av), MEASURES, figures, GOALS)


if __name__ == "__main__":
    main()
