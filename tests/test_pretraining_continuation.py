"""Exact continuation: every stream, every form of checkpoint, kills at observed steps, a full disk."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from babyvlm.core.basics import WrongInput, read_json, write_json
from babyvlm.core.device import deterministic
from babyvlm.models.load import load_learner, save_learner, seal
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.pretraining.checkpoints import CHECKPOINT, load_trainer, save_checkpoint
from babyvlm.pretraining.layouts import Item, layouts
from babyvlm.pretraining.loop import Trainer
from babyvlm.pretraining.objectives import objectives
from babyvlm.pretraining.recipes import pretrain
from tests.pretraining_corpus import coloured_corpus

SAID = ["look at the ball", "where is the duck", "a red cup", "ball"]


@pytest.fixture(scope="module")
def tokenizer():
    deterministic()
    return train_tokenizer(SAID * 3)


def noisy(out, batch):
    "An objective that draws from every random stream."
    return objectives["causal_lm"](out, batch) * (1 + 0.1 * torch.rand(()) + 0.1 * random.gauss(0, 1) + 0.1 * np.random.randn())


def a_trainer(tokenizer, family="babyllava", kind="fp32", **choices):
    model = new_model(family, "tiny", tokenizer, seed=1)
    asked = "contrastive" if family == "clip" else [noisy, "causal_lm"]
    return Trainer(model, asked, 1e-3, 12, kind=kind, **choices)


def a_batch(tokenizer, trainer, step):
    items = [Item((k, SAID[k]), (True,)) for k in range(4)]
    name = "contrastive" if hasattr(trainer.model, "text_head") else "causal_lm"
    batch = layouts[name](items, tokenizer, trainer.model.config, np.random.default_rng(step))
    return batch | dict(pixel_values=torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(step)))


def take(tokenizer, trainer, steps):
    return [trainer.take(a_batch(tokenizer, trainer, trainer.step)) for _ in range(steps)]


def save(run, tokenizer, trainer, step):
    return save_checkpoint(run, step, lambda folder: save_learner(folder, trainer.average, tokenizer), *trainer.state())


def equal(one, other):
    pairs = [(one.model, other.model), (one.average, other.average)]
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x.state_dict().values(), y.state_dict().values(), strict=True))


@pytest.mark.parametrize("family, kind, choices", [
    ("clip", "bf16", dict(accumulate=2)),
    ("clip", "fp16", {}),
    ("babyllava", "fp32", dict(freeze=["vision", "image_head"])),
    ("babyllava", "bf16", dict(schedule="cosine")),
    ("babyllava-gpt2", "fp32", {}),
])  # fmt: skip
def test_all_that_decides_the_next_step_is_kept(family, kind, choices, tokenizer, tmp_path):
    whole = a_trainer(tokenizer, family, kind, **choices)
    if kind == "fp16":
        whole.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)  # it falls at first, so that its value matters
    take(tokenizer, whole, 3)
    folder = save(tmp_path, tokenizer, whole, 3)
    rows = take(tokenizer, whole, 4)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)  # another process has other streams
    twin = a_trainer(tokenizer, family, kind, **choices)
    twin.restore(folder, *load_trainer(folder))
    assert take(tokenizer, twin, 4) == rows and equal(whole, twin)
    assert whole.scaler.state_dict() == twin.scaler.state_dict()
    a, b = (trainer.state()[0] for trainer in (whole, twin))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_checkpoint_of_the_first_form_goes_on(tokenizer, tmp_path):
    whole = a_trainer(tokenizer)
    take(tokenizer, whole, 3)
    folder = save(tmp_path, tokenizer, whole, 3)
    state = whole.optimizer.state_dict()["state"]
    first = {k: v for k, v in whole.state()[0].items() if k.startswith("model.") or k == "random.cpu"}
    first |= {f"optimizer.{number}.{moment}": value.clone() for number, row in state.items() for moment, value in row.items()}
    rest = random.getstate(), np.random.get_state()  # that form kept torch's stream alone
    rows = take(tokenizer, whole, 4)
    save_file(first, folder / "trainer.safetensors")
    write_json(folder / "trainer.json", dict(step=3, stage="joint", stage_step=3, seen={}, cost={}))
    seal(folder)
    random.setstate(rest[0]), np.random.set_state(rest[1])
    twin = a_trainer(tokenizer)
    twin.restore(folder, *load_trainer(folder))
    assert take(tokenizer, twin, 4) == rows and equal(whole, twin)


def test_what_does_not_fit_is_refused_in_one_line(tokenizer, tmp_path):
    trainer = a_trainer(tokenizer)
    folder = save(tmp_path, tokenizer, trainer, 0)
    tensors, past = load_trainer(folder)
    with pytest.raises(WrongInput, match="does not fit this model") as caught:
        a_trainer(tokenizer, "clip").restore(folder, tensors, past)
    assert "\n" not in str(caught.value) and past["checkpoint"] == CHECKPOINT
    with pytest.raises(WrongInput, match="a moment of 'language"):
        take(tokenizer, trainer, 1)
        frozen = a_trainer(tokenizer, freeze=["language"])
        frozen.restore(folder, trainer.state()[0], past)
    write_json(folder / "trainer.json", past | dict(checkpoint=CHECKPOINT + 1))
    seal(folder)
    with pytest.raises(WrongInput, match=f"form {CHECKPOINT + 1}, and this version goes on from forms 1 to {CHECKPOINT}"):
        load_trainer(folder)
    write_json(folder / "trainer.json", past)
    text = (folder / "trainer.json").read_text().replace('"format": 1', '"format": 7')
    (folder / "trainer.json").write_text(text)
    seal(folder)
    with pytest.raises(WrongInput, match="format 7"):
        load_trainer(folder)


def test_no_room_is_said_before_the_first_byte(tokenizer, tmp_path, monkeypatch):
    trainer = a_trainer(tokenizer)
    folder = save(tmp_path, tokenizer, trainer, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), dict(free=2**20))())
    with pytest.raises(WrongInput, match=r"needs \d+ MiB and 1 MiB are free; the last one is whole"):
        save(tmp_path, tokenizer, trainer, 2)
    assert [p.name for p in sorted(folder.parent.iterdir())] == ["latest", "step-000001"] and load_trainer(folder)


@pytest.mark.parametrize("step, said", [(22, "loss became nan at step 23"), (40, "a weight is no number after step 40")])
def test_numbers_that_are_none_cost_no_checkpoint(step, said, corpus, tmp_path):
    def poison(trainer, row, seen):
        if trainer.step == step:
            trainer.model.log_scale.data.fill_(float("nan"))

    with pytest.raises(WrongInput, match=said):
        pretrain(corpus, tmp_path / "run", "clip", steps=41, callbacks=[poison])
    learner = load_learner(tmp_path / "run")
    assert learner.step == 20 and all(p.isfinite().all() for p in learner.model.parameters())


RECIPE = dict(name="mine", model="babyllava", steps=60, stages=[
    dict(name="see", model="clip", objectives=["contrastive"], share=1.0, lr=1e-3, batch=8, accumulate=2, keep=0.5),
    dict(name="joint", objectives=["causal_lm", "masked_lm"], views=["image", "text"], share=1.0, lr=1e-3, batch=8, schedule="cosine", freeze=["vision"]),
])  # fmt: skip
STEPS = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return coloured_corpus(tmp_path_factory.mktemp("world") / "corpus")


def start(corpus, out, steps=STEPS):
    code = "import sys, json; from babyvlm.core.basics import WrongInput\nfrom babyvlm.pretraining.recipes import pretrain\na = sys.argv\n"
    code += "try: pretrain(a[1], a[2], json.loads(a[3]), steps=int(a[4]), resume=True)\nexcept WrongInput as error: print(error, file=sys.stderr); sys.exit(2)"
    return subprocess.Popen([sys.executable, "-c", code, corpus, out, json.dumps(RECIPE), str(steps)], env=dict(os.environ, OMP_NUM_THREADS="1"),
                            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)  # fmt: skip


def kill_when(process, seen):
    "Kill a run as soon as something is seen; returns whether it was still running."
    while not seen():
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return True


def lines(run):
    log = run / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.is_file() else 0


def finish(process):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-2000:]


def latest(run):
    return run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()


def same_run(one, other):
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    for row in [*rows[0], *rows[1]]:
        row.pop("wall_s"), row.pop("wait_s", None)
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == list(range(1, STEPS + 1))
    for name in ("model.safetensors", "trainer.safetensors"):
        a, b = (load_file(latest(run) / name) for run in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), name
    assert read_json(one / "run.json")["seen"] == read_json(other / "run.json")["seen"]


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(start(corpus, run))
    assert [stage["steps"] for stage in read_json(run / "run.json")["stages"]] == [30, 30]
    return run


def test_killed_in_each_stage_and_while_a_checkpoint_is_written(corpus, undisturbed, tmp_path):
    run = tmp_path / "run"
    half_written = lambda: [*(run / "checkpoints").glob(".step-000040.*.part")]
    assert kill_when(start(corpus, run), lambda: lines(run) >= 24)
    assert kill_when(start(corpus, run), half_written) and latest(run).name == "step-000030"
    finish(start(corpus, run))
    assert not [*(run / "checkpoints").glob(".*")]
    same_run(undisturbed, run)
    assert read_json(run / "run.json")["resumed_from"] in ([20, 30], [30, 30])


def test_a_disk_that_fills_up_costs_nothing_but_time(corpus, undisturbed, tmp_path):
    run = tmp_path / "run"
    process = start(corpus, run)
    while not (run / "checkpoints" / "latest").is_file():
        assert process.poll() is None
        time.sleep(0.002)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))  # files over a mebibyte can no longer be written
    _, said = process.communicate(timeout=300)
    line = said.strip().splitlines()[-1]
    assert process.returncode == 2 and "could not be written" in line and "the last one is whole, so make room and go on with --resume" in line
    assert load_learner(run).step in (20, 30) and not [*(run / "checkpoints").glob(".*")]
    finish(start(corpus, run))
    same_run(undisturbed, run)
