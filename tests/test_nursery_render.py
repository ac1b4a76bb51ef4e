"""The renderer against hand-made answers, a dense reference, and other processes."""
import ast
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, rng
from babyvlm.nursery import render as tracer
from babyvlm.nursery.render import box, capsule, cylinder, ellipsoid, look_at, masks, placed, plane, render, rotated, walls
from babyvlm.nursery.scene import changed, draw_scene, one_toy_scene, parts, same_toys_scene, still
from babyvlm.nursery.shot import Act, Shot
from babyvlm.nursery.things import NOUNS, radius

SHELL = [plane(0., (.5, .5, .5)), walls((0., .6, 1.2), (1.8, 1.9, 1.3), (.6, .6, .6))]
AHEAD = look_at((0., 0., .6), (0., 1., .6))


def digest(image, row): return hashlib.sha256(image.tobytes() + json.dumps(row, sort_keys=True).encode()).hexdigest()


def pictures():
    "Stills and moving frames: everything that must not depend on the machine's mood."
    out = []
    for k in range(4):
        scene = draw_scene(rng(7, "render", k))
        out.append(digest(*still(scene, 64, rng(7, "noise", k), truth=True, pointing=scene.toys[0].id)))
        shot = Shot(scene, 2., [Act(.5, 1.2, scene.toys[0].id, True, (.5, .8))], seed=7, name=f"shot{k}")
        out += [digest(*shot.view(t, px)) for t, px in ((.1, 64), (.55, 64), (.9, 96))]
    return out


def test_same_bytes_in_other_processes_and_thread_counts():
    root = Path(__file__).resolve().parents[1]
    code = f"import sys; sys.path.insert(0, {str(root / 'tests')!r}); from test_nursery_render import pictures; print('\\n'.join(pictures()))"
    runs = []
    for threads, hashing in (("1", "0"), ("2", "1")):
        env = dict(os.environ, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads, PYTHONHASHSEED=hashing, PYTHONPATH=str(root))
        runs.append(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout.split())
    assert runs[0] == runs[1] == pictures()


def test_the_pixel_path_uses_no_blas_no_sets_no_clock():
    tree = ast.parse(Path(tracer.__file__).read_text())
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert not names & {"matmul", "einsum", "linalg", "tensordot", "inner", "set", "time", "random"}
    assert not any(isinstance(n, (ast.MatMult, ast.Set, ast.SetComp)) for n in ast.walk(tree))
    assert not any(isinstance(n, ast.Attribute) and n.attr == "dot" for n in ast.walk(tree))


def inside(p, x):
    "Whether points (n, 3) lie in a primitive: the definition, in double precision."
    local = (x - np.array(p.centre)) @ np.array(p.rotation)
    q = local / np.array(p.half)
    if p.kind == "ellipsoid": return (q ** 2).sum(1) < 1
    if p.kind == "box": return (np.abs(q) < 1).all(1)
    if p.kind == "cylinder": return (q[:, 0] ** 2 + q[:, 1] ** 2 < 1) & (np.abs(q[:, 2]) < 1)
    z = local[:, 2] - np.clip(local[:, 2], -p.half[2], p.half[2])
    return local[:, 0] ** 2 + local[:, 1] ** 2 + z ** 2 < p.half[0] ** 2


@pytest.mark.parametrize("kind", ["ellipsoid", "box", "cylinder", "capsule"])
def test_every_solid_is_met_where_its_definition_says(kind):
    random, px, fov, met, grazed = rng(0, kind), 24, 60, 0, 0
    for _ in range(12):
        centre, half = np.array([random.uniform(-.3, .3), random.uniform(.6, 1.4), .6 + random.uniform(-.3, .3)]), random.uniform(.03, .25, 3)
        if kind == "capsule": p = capsule(tuple(centre), tuple(centre + random.uniform(-.3, .3, 3)), half[0], (1, 0, 0), owner="it")
        else: p = rotated([dict(ellipsoid=ellipsoid, box=box, cylinder=cylinder)[kind](centre, half, (1, 0, 0), owner="it")], random.uniform(0, 6), random.uniform(-1, 1, 3) + 1e-3, tuple(centre))[0]
        modal, amodal, depth = masks(SHELL + [p], AHEAD, px, fov, samples=1)
        nowhere = np.zeros((px, px), bool)
        modal, amodal = modal.get("it", nowhere), amodal.get("it", nowhere)
        f, (mx, my), t = .5 * px / math.tan(math.radians(fov / 2)), tracer._offsets(1)[0], np.linspace(.02, 2., 3000)
        for y, x in np.ndindex(px, px):
            if (x + y) % 3: continue
            ray = np.array([(x + mx - px / 2) / f, 1., (px / 2 - y - my) / f])
            within = inside(p, np.array(AHEAD.eye) + t[:, None] * ray)
            if within.sum() > 4:                                             # a ray that only grazes may go either way
                met += 1
                assert amodal[y, x]
                if modal[y, x]: assert abs(depth[y, x] - t[within][0]) < .002
                else: assert depth[y, x] < t[within][0] + .002
            elif not within.any() and amodal[y, x]: grazed += 1
    assert met > 100 and grazed < .02 * met


def test_a_sphere_fills_the_disc_that_trigonometry_says():
    px, fov, r, d = 200, 50, .1, 1.
    _, truth = render(SHELL + [ellipsoid((0, d, .6), r, (1, 0, 0), owner="ball")], [AHEAD], px, fov)
    radius_px = .5 * px / math.tan(math.radians(fov / 2)) * math.tan(math.asin(r / d))
    assert abs(truth["ball"]["visible_px"] - math.pi * radius_px ** 2) < .01 * math.pi * radius_px ** 2
    x0, y0, x1, y1 = truth["ball"]["box"]
    assert abs(x1 - x0 - 2 * radius_px) <= 1.5 and abs((x0 + x1) / 2 - px / 2) <= 1 and abs((y0 + y1) / 2 - px / 2) <= 1


def test_a_screen_hides_exactly_half():
    px = 128
    things = [ellipsoid((0, 1., .6), .2, (1, 0, 0), owner="ball"), box((.5, .5, .6), (.5, .01, .5), (0, 0, 1), owner="screen")]
    _, truth = render(SHELL + things, [AHEAD], px, 60)
    assert abs(truth["ball"]["visible_px"] / truth["ball"]["amodal_px"] - .5) < .03 and truth["ball"]["box"][2] == px // 2
    _, hidden = render(SHELL + [things[0], box((0, .5, .6), (.5, .01, .5), (0, 0, 1), owner="screen")], [AHEAD], px, 60)
    assert hidden["ball"]["visible_px"] == 0 and hidden["ball"]["box"] is None and hidden["ball"]["amodal_px"] == truth["ball"]["amodal_px"]


def test_what_is_behind_or_beside_the_camera_is_not_in_the_truth():
    behind, beside = ellipsoid((0, -.5, .6), .1, (1, 0, 0), owner="behind"), ellipsoid((1.5, .3, .6), .1, (1, 0, 0), owner="beside")
    image, truth = render(SHELL + [behind, beside], [AHEAD] * 4, 48)
    assert truth == {} and (image == render(SHELL + [behind, beside], [AHEAD] * 4, 48, truth=False)[0]).all()


@pytest.mark.parametrize("kind", ["ellipsoid", "box", "cylinder", "capsule"])
def test_a_camera_at_or_in_a_solid_still_gives_a_picture(kind):
    for y in (0., .03, .1, .2):
        p = capsule((0, y, .5), (0, y, .7), .1, (1, 0, 0), owner="it") if kind == "capsule" else dict(ellipsoid=ellipsoid, box=box, cylinder=cylinder)[kind]((0, y, .6), .1, (1, 0, 0), owner="it")
        image, _ = render(SHELL + [p], [AHEAD] * 4, 32)
        assert image.std() > 0


def test_a_ray_that_leaves_the_room_is_refused():
    with pytest.raises(AssertionError, match="walls"): render([ellipsoid((0, 1, .6), .1, (1, 0, 0))], [AHEAD], 16)


def test_moving_a_thing_moves_its_truth():
    thing = [box((0, 0, 0), (.1, .1, .1), (1, 0, 0))]
    left, right = (render(SHELL + placed(thing, (x, 1., .6), owner="it"), [AHEAD], 64)[1]["it"] for x in (-.3, .3))
    assert left["box"][0] == 64 - right["box"][2] and abs(left["visible_px"] - right["visible_px"]) <= 2


@pytest.mark.parametrize("k", range(12))
def test_truth_of_scenes_is_consistent(k):
    scene = draw_scene(rng(11, k))
    image, row = still(scene, 64, truth=True, gaze=scene.toys[0].id, pointing=scene.toys[0].id)
    modal, amodal, depth = masks(parts(scene, scene.toys[0].id, scene.toys[0].id), scene.camera, 64, scene.fov)
    assert np.isfinite(depth).all() and depth.min() > 0
    assert sum(m.astype(int) for m in modal.values()).max() == 1, "a pixel belongs to one owner"
    for o in row["objects"]:
        assert 0 <= o["visible_px"] <= o["amodal_px"] and (o["box"] is None) == (o["visible_px"] == 0)
        assert o["visible_px"] == modal[o["id"]].sum() and o["amodal_px"] == amodal[o["id"]].sum() and not (modal[o["id"]] & ~amodal[o["id"]]).any()
        ys, xs = np.nonzero(modal[o["id"]])
        assert o["box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize("noun", NOUNS)
def test_a_named_toy_is_large_central_and_not_hidden_by_a_pointing_arm(noun):
    for k in range(3):
        o = still(one_toy_scene(rng(12, noun, k), noun=noun), 64, truth=True, gaze="toy_0", pointing="toy_0")[1]["objects"][0]
        x0, y0, x1, y1 = o["box"]
        assert max(x1 - x0, y1 - y0) >= .2 * 64 and o["visible_px"] > .9 * o["amodal_px"]
        assert abs((x0 + x1) / 2 - 32) < 14 and abs((y0 + y1) / 2 - 32) < 20


def test_toys_stand_apart_and_counts_are_visible():
    for k in range(12):
        scene = same_toys_scene(rng(13, k), 1 + k % 4)
        for i, a in enumerate(scene.toys):
            for b in scene.toys[:i]: assert math.dist(a.position, b.position) > radius(a.noun, a.size) + radius(b.noun, b.size)
        row = still(scene, 64, truth=True)[1]
        assert len(row["objects"]) == 1 + k % 4 and all(o["visible_px"] > .7 * o["amodal_px"] > 0 for o in row["objects"])


@pytest.mark.parametrize("quadrant", ["top left", "top right", "bottom left", "bottom right"])
def test_quadrants_are_those_of_the_picture(quadrant):
    for k in range(6):
        x0, y0, x1, y1 = still(one_toy_scene(rng(14, quadrant, k), quadrant=quadrant), 64, truth=True)[1]["objects"][0]["box"]
        assert ("left" in quadrant) == ((x0 + x1) / 2 < 32) and ("top" in quadrant) == ((y0 + y1) / 2 < 32)


def test_factors_are_drawn_apart():
    first, second = (draw_scene(rng(15), toys=[(noun, colour, "big")]) for noun, colour in (("duck", "red"), ("car", "blue")))
    assert first.room == second.room and first.person == second.person
    other = changed(first, "toy_0", colour="green")
    assert other.toys[0].position == first.toys[0].position and other.toys[0].colour == "green" and other.eye == first.eye


def test_wrong_words_are_named():
    for wrong in ([("unicorn", None, None)], [(None, "beige", None)], [(None, None, "huge")]):
        with pytest.raises(WrongInput, match="is not in the nursery"): draw_scene(rng(0), wrong)
    with pytest.raises(WrongInput, match="no place in a picture"): one_toy_scene(rng(0), quadrant="middle")
    with pytest.raises(WrongInput, match="toy_9"): still(draw_scene(rng(0), 1), 16, gaze="toy_9")


def test_any_frame_of_a_shot_can_be_made_alone():
    scene = draw_scene(rng(16), toys=2)
    make = lambda: Shot(scene, 3., [Act(.5, 1.5, "toy_0", True, (.5, .9)), Act(1.8, 2.5, "toy_1", False, (1.8,))], seed=16, name="alone")
    forwards, backwards = make(), make()
    times = [0., .7, 1.4, 2.2]
    a = [digest(*forwards.view(t, 48)) for t in times]
    b = [digest(*backwards.view(t, 48)) for t in reversed(times)][::-1]
    assert a == b and len(set(a)) == len(times)
    rows = [forwards.row(t) for t in np.arange(0, 3, .05)]
    labels = [r["gaze_target"] for r in rows]
    assert labels[0] == "infant" and {"to:toy_0", "toy_0", "toy_1"} <= set(labels) and all(r["pointing_target"] in (None, "toy_0") for r in rows)
    assert labels.index("infant") < labels.index("to:toy_0") < labels.index("toy_0") < labels.index("to:toy_1") < labels.index("toy_1")
