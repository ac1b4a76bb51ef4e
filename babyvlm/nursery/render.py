"""Pictures of the nursery, traced analytically with numpy: `nbs/nursery/00_rendering.ipynb` explains this file.

A picture is made in four steps. (1) `_pack` turns a list of primitives into arrays. (2) `_trace` finds, for each
sub-sample ray, the nearest primitive. Each sub-sample has a camera of its own, so that their mean is anti-aliasing and
motion blur at once. (3) A second `_trace`, seen from the lamp, is the shadow map. (4) `_shade` colours the hits, one a
pixel where all sub-samples agree, each sub-sample where they do not.

Nothing here calls BLAS, iterates over a set or reads a clock: the same primitives give the same bytes whatever the
thread count. Vectors of one point are tuples of floats; arrays of many points are component-major, (3, n).
"""
import math
from typing import NamedTuple

import numpy as np

__all__ = ["Primitive", "ellipsoid", "box", "cylinder", "capsule", "plane", "walls", "placed", "rotated", "Camera", "look_at", "Light", "LIGHT",
           "PATTERNS", "render", "masks", "unit", "cross", "dot", "plus", "minus", "scaled", "turn", "columns"]

f32 = np.float32
NEAR = .02                                          # metres; nothing nearer than this is seen
KINDS = ("ellipsoid", "box", "cylinder", "capsule", "plane", "walls")
_KIND = {name: k for k, name in enumerate(KINDS)}
UPRIGHT = ((1., 0., 0.), (0., 1., 0.), (0., 0., 1.))

# ---------------------------------------------------------------------------------------------- vectors, one at a time
def plus(a, b): return (a[0] + b[0], a[1] + b[1], a[2] + b[2])
def minus(a, b): return (a[0] - b[0], a[1] - b[1], a[2] - b[2])
def scaled(a, k): return (a[0] * k, a[1] * k, a[2] * k)
def dot(a, b): return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
def cross(a, b): return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
def unit(a): return scaled(a, 1 / math.sqrt(dot(a, a)))
def turn(rotation, a): return (dot(rotation[0], a), dot(rotation[1], a), dot(rotation[2], a))
def columns(x, y, z): return ((x[0], y[0], z[0]), (x[1], y[1], z[1]), (x[2], y[2], z[2]))

def _product(A, B):
    "The rotation that turns by `B`, then by `A`."
    return columns(*(turn(A, (B[0][i], B[1][i], B[2][i])) for i in range(3)))

def _axis_angle(axis, angle):
    "Rodrigues' rotation by `angle` radians about `axis`."
    (x, y, z), c, s = unit(axis), math.cos(angle), math.sin(angle)
    k = 1 - c
    return ((c + x * x * k, x * y * k - z * s, x * z * k + y * s), (y * x * k + z * s, c + y * y * k, y * z * k - x * s), (z * x * k - y * s, z * y * k + x * s, c + z * z * k))

# ---------------------------------------------------------------------------------------------- primitives
class Primitive(NamedTuple):
    "One analytic shape. All things of the nursery are lists of these."
    kind: str                        # one of KINDS
    centre: tuple                    # world position of the local origin, metres
    rotation: tuple                  # 3 x 3 rows; the columns are the local axes
    half: tuple                      # half sizes along the local axes, metres
    colour: tuple                    # linear rgb
    colour2: tuple                   # where the pattern is 1
    pattern: str                     # a key of PATTERNS
    shine: float                     # strength of the highlight
    owner: str                       # whose pixels these are: the key of the truth ("" belongs to nobody)

def _primitive(kind, centre, half, colour, rotation=UPRIGHT, colour2=(.85, .85, .8), pattern="plain", shine=.12, owner=""):
    half = (half, half, half) if isinstance(half, (int, float)) else tuple(half)
    return Primitive(kind, tuple(centre), rotation, half, tuple(colour), tuple(colour2), pattern, shine, owner)

def ellipsoid(centre, half, colour, **look): return _primitive("ellipsoid", centre, half, colour, **look)
def box(centre, half, colour, **look): return _primitive("box", centre, half, colour, **look)
def cylinder(centre, half, colour, **look):
    "A closed cylinder about its local z axis."
    return _primitive("cylinder", centre, half, colour, **look)
def plane(height, colour, **look):
    "The endless floor at `height`."
    return _primitive("plane", (0., 0., height), 1., colour, **look)
def walls(centre, half, colour, **look):
    "A box seen from the inside."
    return _primitive("walls", centre, half, colour, **look)

def capsule(start, end, radius, colour, **look):
    "A rounded stick from `start` to `end`."
    axis = minus(end, start)
    length = math.sqrt(dot(axis, axis)) or 1e-6
    z = scaled(axis, 1 / length)
    x = unit(cross((0., 1., 0.) if abs(z[1]) < .9 else (1., 0., 0.), z))
    return _primitive("capsule", scaled(plus(start, end), .5), (radius, radius, length / 2), colour, rotation=columns(x, cross(z, x), z), **look)

def _moved(parts, rotation, scale, pivot, shift, owner=None):
    return [p._replace(centre=plus(turn(rotation, scaled(minus(p.centre, pivot), scale)), shift), rotation=_product(rotation, p.rotation),
                       half=scaled(p.half, scale), owner=p.owner if owner is None else owner) for p in parts]

def placed(parts, position, yaw=0., scale=1., owner=""):
    "The parts of a thing made at the origin, scaled, turned by `yaw` radians and put at `position`."
    return _moved(parts, _axis_angle((0, 0, 1), yaw), scale, (0., 0., 0.), position, owner)

def rotated(parts, angle, axis, pivot):
    "Parts turned rigidly by `angle` radians about the `axis` through `pivot`."
    return _moved(parts, _axis_angle(axis, angle), 1., pivot, pivot)

# ---------------------------------------------------------------------------------------------- cameras and light
class Camera(NamedTuple):
    "A pinhole: where it is and its axes."
    eye: tuple
    right: tuple
    up: tuple
    forward: tuple

def look_at(eye, at, roll=0.):
    "The camera at `eye` that looks at `at`, its head tilted by `roll` radians."
    forward = unit(minus(at, eye))
    right = unit(cross(forward, (0., 0., 1.)))
    up, c, s = cross(right, forward), math.cos(roll), math.sin(roll)
    return Camera(tuple(float(e) for e in eye), plus(scaled(right, c), scaled(up, s)), plus(scaled(up, c), scaled(right, -s)), forward)

class Light(NamedTuple):
    "One lamp and what the room gives back."
    direction: tuple = (-.45, -.35, .82)            # towards the lamp, from the middle of the scene
    key: tuple = (.98, .90, .76)                    # linear rgb of the lamp
    ambient: tuple = (.92, .96, 1.08)               # tint of the light from everywhere

LIGHT = Light()
LAMP_DISTANCE, LIT_RADIUS, LIT_CENTRE = 6., 1.15, (0., .4, .2)      # the shadow map looks from the lamp at this disc, metres

def _offsets(S):
    "Where in the pixel each of S sub-samples looks: a rotated grid for 4, otherwise a low-discrepancy sequence; never the exact middle."
    if S == 4: return ((.375, .125), (.875, .375), (.125, .625), (.625, .875))
    return tuple(((.5004 + k * .7548776662) % 1, (.5003 + k * .5698402910) % 1) for k in range(S))

# ---------------------------------------------------------------------------------------------- tracing
class _Packed:
    "Primitives as arrays (P primitives)."
    def __init__(self, primitives):
        self.kind = np.array([_KIND[p.kind] for p in primitives])
        self.centre = np.array([p.centre for p in primitives])                                         # (P, 3)
        self.rotation = np.array([p.rotation for p in primitives])                                     # (P, 3, 3)
        self.half = np.array([p.half for p in primitives])                                             # (P, 3)
        names = list(dict.fromkeys(p.owner for p in primitives))
        self.owners, self.owner = names, np.array([names.index(p.owner) for p in primitives])
        patterns = list(dict.fromkeys(p.pattern for p in primitives))
        self.patterns, self.pattern = patterns, np.array([patterns.index(p.pattern) for p in primitives])
        look = np.array([p.colour + p.colour2 + (p.shine,) for p in primitives])                       # (P, 7)
        self.table = np.concatenate([self.rotation.reshape(-1, 9), self.centre, self.half, look], 1).T.astype(f32)     # (22, P): what shading looks up
        self.scale = np.where((self.kind == 3)[:, None], 1., self.half)                                # capsules are met in metres, the rest in half sizes

def _project(v, axes):
    "(…, 3) vectors on rows of `axes`: (…, n)."
    return v[..., 0, None] * axes[:, 0] + v[..., 1, None] * axes[:, 1] + v[..., 2, None] * axes[:, 2]

def _windows(P, cameras, focal, px):
    "The screen box (x0, y0, x1, y1) of each primitive over all cameras, (P, 4); empty where it is behind them."
    reach = P.half + np.where((P.kind == 3)[:, None], P.half[:, :1] * np.array([0., 0., 1.]), 0.)
    arms = P.rotation * reach[:, None, :]                                                              # (P, 3, axis)
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)            # (8, 3)
    corners = P.centre[:, None] + sum(signs[None, :, None, i] * arms[:, None, :, i] for i in range(3)) # (P, 8, 3)
    lo, hi, front, behind = np.full((2, len(arms)), np.inf), np.full((2, len(arms)), -np.inf), np.zeros(len(arms), bool), np.zeros(len(arms), bool)
    for camera in cameras:
        x, y, z = np.moveaxis(_project(corners - np.array(camera.eye), np.array(camera[1:])), -1, 0)   # each (P, 8)
        front |= (z > NEAR).any(1); behind |= (z <= NEAR).any(1)
        k = focal / np.maximum(z, NEAR)
        xy = np.stack([px / 2 + x * k, px / 2 - y * k])                                                # (2, P, 8)
        lo, hi = np.minimum(lo, xy.min(2)), np.maximum(hi, xy.max(2))
    lo, hi = np.where(behind, 0, np.clip(np.floor(lo) - 1, 0, px)), np.where(behind, px, np.clip(np.ceil(hi) + 1, 0, px))
    lo, hi = np.where(P.kind >= 4, 0, lo), np.where((P.kind >= 4) | front, hi, 0)
    hi = np.where(P.kind >= 4, px, hi)
    return np.concatenate([lo, hi]).T.astype(int)

def _affine(k, u, v):
    "k = (1, u, v) coefficients on a grid: u along the last axis, v along the one before."
    return (k[0] + k[1] * u) + k[2] * v

def _quadratic(k, u, v):
    "k = (1, u, v, uu, uv, vv) coefficients on a grid."
    out = (k[2] + k[4] * u) + k[5] * v
    out *= v
    out += k[0] + u * (k[1] + u * k[3])
    return out

def _conic(o, d, a, b, depth, c):
    """Rays o + t (d + a u + b v) meet the quadric x^2 + y^2 + depth z^2 = c at t = (-B - sqrt(q)) / A: (15, P, S) coefficients of A, B and q.

    They belong to the middle of each window and are worked out in double precision, so that single precision is enough on the grid.
    """
    def dots(x, y): return x[..., 0] * y[..., 0] + x[..., 1] * y[..., 1] + depth * (x[..., 2] * y[..., 2])
    od, oa, ob, C = dots(o, d), dots(o, a), dots(o, b), dots(o, o) - c
    A = np.stack([dots(d, d), 2 * dots(d, a), 2 * dots(d, b), dots(a, a), 2 * dots(a, b), dots(b, b)])
    q = np.stack([od * od, 2 * od * oa, 2 * od * ob, oa * oa, 2 * oa * ob, ob * ob]) - C * A
    return np.concatenate([A, [od, oa, ob], q]).astype(f32)

def _nearest(k, u, v):
    "The nearer root of a conic, and where there is one."
    q = _quadratic(k[9:], u, v)
    hit = q > 0
    t = np.sqrt(np.maximum(q, 0, out=q), out=q)
    t += _affine(k[6:9], u, v)
    t /= _quadratic(k[:6], u, v)
    np.negative(t, out=t)
    hit &= t > NEAR
    return t, hit

class _Rays:
    """Rays in the coordinates of each primitive: o, and per pixel d + a u + b v, each (P, S, 3), with their conics."""
    def __init__(self, P, o, d, a, b):
        lines = np.stack([d, a, b]).transpose(3, 0, 1, 2)                                   # (axis, 1 u v, P, S)
        self.o, self.lines, self.half = o.transpose(2, 0, 1).astype(f32), lines.astype(f32), P.half.T[..., None].astype(f32)
        wide, stick = (P.kind == 0)[:, None], (P.kind == 3)[:, None]
        self.conic, self.caps = _conic(o, d, a, b, wide * 1., np.where(stick, P.half[:, :1] ** 2, 1.)), None
        if stick.any():
            shift = P.half * np.array([0., 0., 1.])
            self.caps = [_conic(o + sign * shift[:, None], d, a, b, 1., P.half[:, :1] ** 2) for sign in (-1, 1)]

    @np.errstate(divide="ignore", invalid="ignore")             # a ray along a plane meets it at infinity
    def meet(self, kind, ks, sub, u, v):
        """The distance to primitives `ks`, all of one kind, along each ray of their windows, infinite where it misses: (G, S, h, w)."""
        pick = lambda x: x[..., ks, sub, None, None]
        o = pick(self.o)
        line = lambda axis: _affine(pick(self.lines[axis]), u, v)
        if kind == 4: return _beyond(o[2] / -line(2))
        if kind in (1, 5): return _meet_box(kind, o, line)
        t, hit = _nearest(pick(self.conic), u, v)
        if kind == 2: return _meet_cylinder(t, hit, o, line)
        if kind == 3: return _meet_capsule(t, hit, o, line, self.half[2, ks, :, None, None], [pick(c) for c in self.caps], u, v)
        t[~hit] = np.inf
        return t

def _beyond(t): return np.where(t > NEAR, t, f32(np.inf))

def _meet_box(kind, o, line):
    near, far = None, None
    for axis in range(3):
        inverse = 1 / line(axis)
        middle, width = -o[axis] * inverse, np.abs(inverse)
        far = middle + width if far is None else np.fmin(far, middle + width)
        if kind == 1:
            middle -= width
            near = middle if near is None else np.fmax(near, middle)
    if kind == 5: return far
    return np.where((near < far) & (near > NEAR), near, f32(np.inf))

def _meet_cylinder(t, hit, o, line):
    dz = line(2)
    t[~(hit & (np.abs(o[2] + t * dz) < 1))] = np.inf
    side = np.sign(o[2]) * (np.abs(o[2]) > 1)                   # only the lid that faces the eye can be entered
    if not side.any(): return t
    lid = (side - o[2]) / dz
    x, y = (o[axis] + lid * line(axis) for axis in (0, 1))
    return np.where((x * x + y * y < 1) & (lid > NEAR) & (lid < t) & (side != 0), lid, t)

def _meet_capsule(t, hit, o, line, length, caps, u, v):
    t[~(hit & (np.abs(o[2] + t * line(2)) < length))] = np.inf
    for k in caps:
        cap, ok = _nearest(k, u, v)
        np.copyto(t, cap, where=ok & (cap < t))
    return t

def _batches(P, boxes, S, budget=30000):
    "Primitives of one kind whose windows are of like size go together: (kind, indices, h, w)."
    size = boxes[:, 2:] - boxes[:, :2]
    for kind in range(len(KINDS)):
        ks = np.flatnonzero((P.kind == kind) & (size > 0).all(1))
        ks = ks[np.argsort(size[ks].max(1), kind="stable")]
        while len(ks):
            w, h = size[ks[0]]
            n = 1
            while n < len(ks):
                w1, h1 = max(w, size[ks[n]][0]), max(h, size[ks[n]][1])
                if (n + 1) * S * w1 * h1 > budget or w1 * h1 > 2.2 * max(30, size[ks[n // 2]].prod()): break
                w, h, n = w1, h1, n + 1
            yield kind, ks[:n], int(h), int(w)
            ks = ks[n:]

def _in_place(P, cameras, offsets, px, focal, tiles):
    "The rays of each primitive's tile (x0, y0, w, h), in its own coordinates."
    M = P.rotation / P.scale[:, None, :]                                                    # world -> local: columns
    def local(x): return x[..., 0, None] * M[:, None, 0] + x[..., 1, None] * M[:, None, 1] + x[..., 2, None] * M[:, None, 2]     # (P or 1, S, 3) -> (P, S, 3)
    eyes, axes, offsets = np.array([c.eye for c in cameras]), np.array([[c.right, c.up, c.forward] for c in cameras]), np.array(offsets)
    o = local(eyes[None] - P.centre[:, None])
    right, up, forward = (local(axes[None, :, i]) / (focal if i < 2 else 1.) for i in range(3))         # right and up: per pixel
    x0, y0, w, h = (t[:, None] for t in tiles.T)
    u, v = x0 + w / 2 + offsets[:, 0] - .5 - px / 2, px / 2 - (y0 + h / 2 + offsets[:, 1] - .5)         # (P, S) the tile's middle
    return _Rays(P, o, forward + right * u[..., None] + up * v[..., None], right, up)

def _trace(P, cameras, offsets, px, focal, owners=0):
    """The nearest primitive along each ray: depth and primitive (S, px, px), and the amodal masks (owners, px, px) of the first sub-sample."""
    S = len(cameras)
    Z, ID = np.full((S, px, px), np.inf, f32), np.full((S, px, px), -1, np.int16)
    amodal = np.zeros((owners, px, px), bool)
    boxes = _windows(P, cameras if cameras[0] is not cameras[-1] else cameras[:1], focal, px)
    batches, tiles = list(_batches(P, boxes, S)), np.ones((len(P.kind), 4), int)
    for _, ks, h, w in batches: tiles[ks] = np.stack([np.minimum(boxes[ks, 0], px - w), np.minimum(boxes[ks, 1], px - h), np.full(len(ks), w), np.full(len(ks), h)], 1)
    rays = _in_place(P, cameras, offsets, px, focal, tiles)
    for kind, ks, h, w in batches:
        u, v = (np.arange(w) - (w - 1) / 2).astype(f32), ((h - 1) / 2 - np.arange(h)).astype(f32)[:, None]
        step = S if S * h * w <= 60000 else 1
        for s in range(0, S, step):
            sub = slice(s, s + step)
            t = rays.meet(kind, ks, sub, u, v)
            for tg, k, (x0, y0) in zip(t, ks.tolist(), tiles[ks, :2].tolist()):
                y, x = slice(y0, y0 + h), slice(x0, x0 + w)
                z = Z[sub, y, x]
                nearer = tg < z
                np.copyto(z, tg, where=nearer)
                np.copyto(ID[sub, y, x], k, where=nearer)
                if owners and s == 0:
                    m = amodal[P.owner[k], y, x]
                    m |= tg[0] < np.inf
    return Z, ID, amodal

# ---------------------------------------------------------------------------------------------- patterns
def _soft(x, width): return np.clip(x / f32(width) + f32(.5), 0, 1)
def _wave(x): return f32(.5) + f32(.5) * np.sin(x * f32(2 * math.pi))

def _frame(l, q, x):
    a, b, c = (np.abs(axis) for axis in q)
    middle = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return _soft(middle - f32(.74), .06)

def _zigzag(l, q, x):
    return _soft(f32(.12) - np.abs(np.abs(q[2]) * f32(1.2) - np.abs(f32(2) * ((np.arctan2(q[1], q[0]) * f32(.9549297)) % 1) - 1)), .15)

def _wood(l, q, x): return f32(.7) * _wave(x[1] * f32(9) + f32(.5) * np.sin(x[0] * f32(7))) ** 2

def _planks(l, q, x):
    row = np.floor(x[0] * f32(7))
    return f32(.5) + f32(.5) * np.sin(row * f32(12.9) + np.floor(x[1] * f32(1.5) + row * f32(.37)) * f32(4.1))

def _tiles(l, q, x): return (np.floor(x[0] * f32(4)) + np.floor(x[1] * f32(4))) % 2

def _faced(l, q):
    "Coordinates (2, n) of points on a surface laid flat: round a cylinder or a stick, else on the nearest face of the part's box."
    a, b, c = (np.abs(axis) for axis in q)
    x, y = (a >= b) & (a >= c), (b > a) & (b >= c)
    round_ = (np.abs(a * a + b * b - 1) < f32(.002)) & (c < f32(.999))
    arc = np.arctan2(l[1], l[0]) * np.sqrt(l[0] * l[0] + l[1] * l[1])
    return np.where(round_, arc, np.where(x, l[1], l[0])), np.where(round_ | x | y, l[2], l[1])

def _toy_checks(l, q, x):
    a, b = (np.floor(axis * f32(34) + f32(.5)) for axis in _faced(l, q))
    return (a + b) % 2

def _toy_dots(l, q, x):
    a, b = (axis * f32(31) for axis in _faced(l, q))
    a = a + f32(.5) * (np.floor(b) % 2)
    a, b = a - np.floor(a) - f32(.5), b - np.floor(b) - f32(.5)
    return _soft(f32(.1) - a * a - b * b, .06)

def _weave(l, q, x):
    around = np.where(np.abs(q[2]) > f32(.99), l[0] * f32(30), l[0] * f32(30) + l[1] * f32(30))
    row = np.floor(l[2] * f32(50))
    return f32(.25) + f32(.75) * _wave(around + f32(.5) * (row % 2)) * _soft(f32(.42) - np.abs(l[2] * f32(50) - row - f32(.5)), .2)

def _along(l): return l[0] + l[1]                    # the horizontal coordinate of a wall, whichever wall it is

def _wall_dots(l, q, x):
    a, b = _along(l) * f32(5), l[2] * f32(5)
    a = a + f32(.5) * (np.floor(b) % 2)
    a, b = a - np.floor(a) - f32(.5), b - np.floor(b) - f32(.5)
    return _soft(f32(.06) - a * a - b * b, .04)

def _folds(l, q, x): return _wave(l[0] * f32(7))

def _sky(l, q, x): return np.clip(f32(.45) - f32(.55) * q[2], 0, 1)

def _water(l, q, x):
    a, b = x[0] * f32(5.5) + f32(.22) * np.sin(x[1] * f32(23)), x[1] * f32(8) + f32(.25) * np.sin(x[0] * f32(17))
    return _soft(_wave(a) * _wave(b) - f32(.42), .9)

def _wall_tiles(l, q, x):
    row = np.floor(l[2] * f32(5))
    a, b = _along(l) * f32(3) + f32(.5) * (row % 2), l[2] * f32(5) - row
    return 1 - _soft(f32(.47) - np.abs(a - np.floor(a) - f32(.5)), .02) * _soft(f32(.46) - np.abs(b - f32(.5)), .03)

def _doors(l, q, x):
    a, b = l[0] * f32(2.4), q[2]
    a = np.abs(a - np.floor(a) - f32(.5))                # 0 in the middle of a door, .5 at its edge
    rim = np.maximum(a * f32(2) - f32(.93), np.abs(b) - f32(.93))
    panel = np.maximum(a * f32(2) - f32(.72), np.abs(b) - f32(.72))
    return np.maximum(_soft(rim, .03), f32(.45) * _soft(f32(.03) - np.abs(panel), .03))

def _oven(l, q, x):
    glass = _soft(f32(.74) - np.abs(q[0]), .03) * _soft(f32(.42) - np.abs(q[2] + f32(.22)), .03)
    a = q[0] * f32(2.6) - np.floor(q[0] * f32(2.6)) - f32(.5)
    return np.maximum(glass, _soft(f32(.055) - a * a * f32(.8) - (q[2] - f32(.72)) ** 2 * f32(4.), .02))

PATTERNS = dict(                                     # name -> weight of the second colour, (n,), from local metres l, local half sizes q, world x: each (3, n)
    plain=None,
    band=lambda l, q, x: _soft(f32(.24) - np.abs(q[2]), .06),
    frame=_frame,
    stripes=lambda l, q, x: _soft(_wave(l[2] * f32(11)) - f32(.5), .5),
    checks=lambda l, q, x: (np.floor(l[0] * f32(24)) + np.floor(l[2] * f32(24))) % 2,
    windows=lambda l, q, x: _soft(f32(.62) - np.abs(q[2]), .2),
    cover=lambda l, q, x: _soft(f32(.52) - np.abs(q[0]), .08) * _soft(f32(.5) - np.abs(q[1]), .08) * (q[2] > f32(.9)),
    label=lambda l, q, x: _soft(f32(.32) - np.abs(q[2]), .06),
    rings=lambda l, q, x: _wave(np.sqrt(q[0] * q[0] + q[1] * q[1]) * f32(3)),
    zigzag=_zigzag,
    toy_stripes=lambda l, q, x: _soft(f32(.5) - _wave(l[0] * f32(17) + l[2] * f32(27)), .4),
    toy_dots=_toy_dots,
    toy_checks=_toy_checks,
    grain=lambda l, q, x: _wave(l[1] * f32(37) + l[2] * f32(53) + f32(.6) * np.sin(l[0] * f32(30) + l[2] * f32(17))) ** 2,
    weave=_weave,
    hoops=lambda l, q, x: _soft(_wave(l[0] * f32(12)) - f32(.5), .25),
    wood=_wood, planks=_planks, tiles=_tiles,
    wall_stripes=lambda l, q, x: _wave(_along(l) * f32(3.5)),
    wall_dots=_wall_dots,
    wall_checks=lambda l, q, x: f32(.5) * ((np.floor(_along(l) * f32(4)) % 2) + (np.floor(l[2] * f32(4)) % 2)),
    panes=lambda l, q, x: 1 - _soft(np.minimum(np.abs(q[0]), np.abs(q[2])) - f32(.07), .05) * _soft(f32(.86) - np.maximum(np.abs(q[0]), np.abs(q[2])), .05),
    iris=lambda l, q, x: _soft(q[1] - f32(.83), .07),                                             # people: local y is where the eye looks
    pinpoint=lambda l, q, x: _soft(q[1] - f32(.92), .04),
    grin=lambda l, q, x: _soft(f32(.12) - q[2], .2),                                              # upper teeth
    clench=lambda l, q, x: np.maximum(_soft(f32(.15) - np.abs(q[2]), .12), _soft(f32(.1) - np.abs((f32(2.5) * q[0]) % 1 - f32(.5)), .1)),
    fright=lambda l, q, x: _soft(f32(.52) - np.abs(q[2]), .12),                                   # a gap between the teeth
    fingers=lambda l, q, x: _soft(f32(.16) - np.abs((f32(2) * q[0] + f32(.5)) % 1 - f32(.5)), .12) * _soft(q[1] - f32(.05), .1),
    curls=lambda l, q, x: _wave(l[0] * f32(26) + np.sin(l[2] * f32(120))) * _wave(l[2] * f32(26) + np.sin(l[1] * f32(120))),
    wall_tiles=_wall_tiles, folds=_folds, sky=_sky, water=_water, doors=_doors, oven=_oven,
    picture=lambda l, q, x: _soft(np.maximum(np.abs(q[0]), np.abs(q[2])) - f32(.8), .05) + _wave(q[0] + q[2] * q[0]) * _soft(f32(.8) - np.maximum(np.abs(q[0]), np.abs(q[2])), .05),
)

# ---------------------------------------------------------------------------------------------- light and shadow
def _blurred(m, k):
    "A box of 2k + 1 pixels, twice in each direction; the rim is not meaningful."
    for axis in (0, 1, 0, 1):
        m = np.swapaxes(m, 0, axis)
        out = m.copy()
        for j in range(1, k + 1):
            out[j:] += m[:-j]
            out[:-j] += m[j:]
        m = np.swapaxes(out, 0, axis) * f32(1 / (2 * k + 1))
    return m

class _Shadow:
    "A variance shadow map (Donnelly & Lauritzen 2006): mean and variance of the depth that the lamp sees."
    def __init__(self, primitives, light, px):
        self.n = n = 96 if px <= 80 else 144 if px <= 140 else 224
        lamp = unit(light.direction)
        self.camera = look_at(plus(LIT_CENTRE, scaled(lamp, LAMP_DISTANCE)), LIT_CENTRE)
        self.focal = .5 * n / (LIT_RADIUS / LAMP_DISTANCE)
        things = [p for p in primitives if p.kind not in ("plane", "walls") and (p.owner or p.centre[1] < 1.7)]      # furniture at the far wall lies beyond the map
        Z = np.full((n, n), 1.5, f32)
        if things: Z = np.minimum(_trace(_Packed(things), [self.camera], _offsets(1), n, self.focal)[0][0] - f32(LAMP_DISTANCE), Z)
        k = max(1, round(n / 96))
        mean, square, rim = _blurred(Z, k), _blurred(Z * Z, k), 2 * k + 2
        variance = np.maximum(square - mean * mean, f32(4e-4))
        for edge in (np.s_[:rim], np.s_[-rim:], np.s_[:, :rim], np.s_[:, -rim:]): mean[edge] = 1.5       # points beyond the map are lit
        self.mean, self.variance = mean.ravel(), variance.ravel()

    def __call__(self, x):
        "How much of the lamp reaches the points x (3, n): (n,) in 0..1, by Chebyshev's bound on bilinear moments."
        c, n = self.camera, self.n
        r = [x[i] - f32(c.eye[i]) for i in range(3)]
        along = lambda axis: r[0] * f32(axis[0]) + r[1] * f32(axis[1]) + r[2] * f32(axis[2])
        depth = along(c.forward)
        k = f32(self.focal) / depth
        gx, gy = (np.clip(g, 0, n - f32(1.001)) for g in (along(c.right) * k + f32(n / 2 - .5), f32(n / 2 - .5) - along(c.up) * k))
        ix, iy = gx.astype(np.int32), gy.astype(np.int32)
        wx, wy, at = gx - ix, gy - iy, iy * n + ix
        def tap(m):
            low, high = m[at], m[at + n]
            low += (m[at + 1] - low) * wx; high += (m[at + n + 1] - high) * wx
            return low + (high - low) * wy
        beyond, variance = depth - f32(LAMP_DISTANCE + .012) - tap(self.mean), tap(self.variance)
        return np.where(beyond <= 0, f32(1), np.clip((variance / (variance + beyond * beyond) - f32(.15)) / f32(.85), 0, 1))

# ---------------------------------------------------------------------------------------------- shading
def _surface(P, ids, x):
    "World normal (3, n), linear rgb (3, n) and shine (n,) of points x (3, n) on primitives ids (n,)."
    looked_up = P.table.take(ids, 1)                                                # (22, n)
    rot, half, rgb = looked_up[:9], looked_up[12:15], looked_up[15:18]
    r = [x[i] - looked_up[9 + i] for i in range(3)]
    l = [r[0] * rot[i] + r[1] * rot[3 + i] + r[2] * rot[6 + i] for i in range(3)]
    q = [l[i] / half[i] for i in range(3)]
    m = _local_normal(P.kind.take(ids), l, q, half)
    N = [m[0] * rot[3 * i] + m[1] * rot[3 * i + 1] + m[2] * rot[3 * i + 2] for i in range(3)]
    k = 1 / (np.sqrt(N[0] * N[0] + N[1] * N[1] + N[2] * N[2]) + f32(1e-9))
    which = P.pattern.take(ids)
    for p, name in enumerate(P.patterns):
        if name == "plain": continue
        at = np.flatnonzero(which == p)
        if not len(at): continue
        w = PATTERNS[name](*([c[at] for c in s] for s in (l, q, x))).astype(f32)
        for i in range(3): rgb[i, at] += (looked_up[18 + i, at] - rgb[i, at]) * w
    return [n * k for n in N], rgb, looked_up[21]

def _local_normal(kind, l, q, half):
    m = [q[i] / half[i] for i in range(3)]                                          # ellipsoids
    at = np.flatnonzero((kind == 1) | (kind == 5))
    if len(at):
        a = [c[at] for c in q]
        size, inside = [np.abs(c) for c in a], np.where(kind[at] == 5, f32(-1), f32(1))
        largest = np.maximum(np.maximum(size[0], size[1]), size[2])
        for i in range(3): m[i][at] = np.where(size[i] == largest, np.sign(a[i]) * inside, 0)
    at = np.flatnonzero(kind == 2)
    if len(at):
        z = q[2][at]
        lid = np.abs(z) > f32(.999)
        for i in (0, 1): m[i][at] = np.where(lid, 0, m[i][at])
        m[2][at] = np.where(lid, np.sign(z), 0)
    at = np.flatnonzero(kind == 3)
    if len(at):
        z, h = l[2][at], half[2][at]
        m[0][at], m[1][at], m[2][at] = l[0][at], l[1][at], z - np.minimum(np.maximum(z, -h), h)
    at = np.flatnonzero(kind == 4)
    m[0][at], m[1][at], m[2][at] = 0, 0, 1
    return m

def _shade(P, ids, x, d, light, shadow):
    "Linear rgb (3, n) of the light that leaves points x along rays d."
    N, rgb, shine = _surface(P, ids, x)
    L = [f32(c) for c in unit(light.direction)]
    s = shadow(x)
    facing = np.maximum(N[0] * L[0] + N[1] * L[1] + N[2] * L[2], 0) * s
    around = (f32(.34) + f32(.14) * N[2] + f32(.08) * np.abs(N[0])) * (f32(.55) + f32(.45) * s)
    for i in range(3): rgb[i] *= around * f32(light.ambient[i]) + facing * f32(light.key[i])
    shine = shine * s
    at = np.flatnonzero(shine > f32(.02))
    if len(at):
        V = [-d[i][at] for i in range(3)]
        k = 1 / np.sqrt(V[0] * V[0] + V[1] * V[1] + V[2] * V[2])
        H = [V[i] * k + L[i] for i in range(3)]
        n = [c[at] for c in N]
        c = np.maximum(n[0] * H[0] + n[1] * H[1] + n[2] * H[2], 0) / np.sqrt(H[0] * H[0] + H[1] * H[1] + H[2] * H[2])
        c *= c; c *= c; c *= c                                                      # to the 8th
        rgb[:, at] += shine[at] * c * c * c
    return rgb

# ---------------------------------------------------------------------------------------------- pictures
def _sweep(cameras, focal, px):
    "How many pixels the picture moves during the exposure."
    first = cameras[0]
    far = lambda a, b: math.sqrt(dot(minus(a, b), minus(a, b)))
    return max(focal * far(c.forward, first.forward) + .5 * px * far(c.right, first.right) + focal * far(c.eye, first.eye) for c in cameras)

def _focal(px, fov): return .5 * px / math.tan(math.radians(fov) / 2)

def _lit(P, cameras, Z, ID, picks, focal, light, shadow, block=16384):
    "Linear rgb of flat pixels picks[s] of each sub-sample s: one (3, n) a sub-sample. In blocks, so that the arrays stay in the cache."
    px, out = Z.shape[1], []
    for s, (camera, at, (dx, dy)) in enumerate(zip(cameras, picks, _offsets(len(cameras)))):
        u, v = ((np.arange(px) + dx - px / 2) / focal).astype(f32), ((px / 2 - np.arange(px) - dy) / focal).astype(f32)
        z, ids, lit = Z[s].ravel(), ID[s].ravel().astype(np.intp), np.empty((3, len(at)), f32)
        for start in range(0, len(at), block):
            some = at[start:start + block]
            row = some // px
            us, vs, zs = u[some - row * px], v[row], z[some]
            d = [us * f32(camera.right[i]) + vs * f32(camera.up[i]) + f32(camera.forward[i]) for i in range(3)]
            lit[:, start:start + block] = _shade(P, ids[some], [d[i] * zs + f32(camera.eye[i]) for i in range(3)], d, light, shadow)
        out.append(lit)
    return out

def _truth(P, first, amodal):
    "Box, visible and amodal pixels of each owner in view, from the first sub-sample."
    owner_at = P.owner[first]
    truth = {}
    for k, name in enumerate(P.owners):
        if not name or not amodal[k].any(): continue
        seen = owner_at == k
        ys, xs = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        truth[name] = dict(box=[int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1] if len(ys) else None, visible_px=int(seen.sum()), amodal_px=int(amodal[k].sum()))
    return truth

def render(primitives,               # what there is; must hold a `walls`, so that every ray ends somewhere
           cameras,                  # one Camera per sub-sample; their mean is the picture
           px,                       # side of the picture in pixels
           fov=65.,                  # field of view in degrees
           light=LIGHT,              # lamp and ambient light
           noise_rng=None,           # generator of the sensor noise; None is a clean picture
           noise=.012,               # its standard deviation, of full scale
           truth=True):              # also say what is where
    "A picture, uint8 (px, px, 3), and its truth: {owner: {box, visible_px, amodal_px}}, the truth being that of the first sub-sample."
    P, S, focal = _Packed(primitives), len(cameras), _focal(px, fov)
    Z, ID, amodal = _trace(P, cameras, _offsets(S), px, focal, owners=len(P.owners) if truth else 0)
    assert (ID >= 0).all(), "a ray leaves the room: the scene needs walls, and the camera must be inside them"
    everywhere, flat = np.arange(px * px), ID.reshape(S, -1)
    mixed = np.flatnonzero((flat != flat[:1]).any(0))                               # pixels in which the sub-samples disagree
    second = S // 2 if _sweep(cameras, focal, px) >= 1.5 else 0                     # a moving camera: blur the inside of things too, with two samples
    picks = [everywhere if s in (0, second) else mixed for s in range(S)]
    lit = _lit(P, cameras, Z, ID, picks, focal, light, _Shadow(primitives, light, px))
    image = (lit[0] + lit[second]) * f32(.5) if second else lit[0]
    if S > 1: image[:, mixed] = sum(part[:, mixed] if len(at) == px * px else part for part, at in zip(lit, picks)) / f32(S)
    image = np.sqrt(np.clip(image, 0, 1)).T.reshape(px, px, 3)                      # a display's gamma, taken as 2: a square root is the same on every machine
    if noise_rng is not None: image += noise_rng.standard_normal(image.shape, dtype=f32) * f32(noise)
    return (np.clip(image, 0, 1) * 255 + f32(.5)).astype(np.uint8), _truth(P, ID[0], amodal) if truth else {}

def masks(primitives, camera, px, fov=65., samples=4):
    """What `render` counted: modal and amodal masks {owner: bool (px, px)}, and depth, float32 (px, px), metres along the line of sight.

    `camera` is the first of those the picture was made with, `samples` their number.
    """
    P = _Packed(primitives)
    Z, ID, amodal = _trace(P, [camera], _offsets(samples)[:1], px, _focal(px, fov), owners=len(P.owners))
    names = [(k, name) for k, name in enumerate(P.owners) if name and amodal[k].any()]
    return {name: P.owner[ID[0]] == k for k, name in names}, {name: amodal[k] for k, name in names}, Z[0]
