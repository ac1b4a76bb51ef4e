"""The loop: parts, freezing, averages, half precision, numbers that are none, memory, speed."""

import builtins
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from babyvlm.core.basics import WrongInput
from babyvlm.core.device import autocast, deterministic, free_memory, precision
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.pretraining.callbacks import Metrics, Progress, Samples, TensorBoard
from babyvlm.pretraining.layouts import Item, layouts
from babyvlm.pretraining.loop import Trainer, fit, hold_still
from babyvlm.pretraining.memory import Held, check_room, forecast
from babyvlm.pretraining.objectives import objectives
from babyvlm.pretraining.schedules import schedules
from babyvlm.pretraining.speed import fastest, flops_of, go, steps_in, usual_way

SAID = ["look at the ball", "where is the duck", "a red cup", "ball", "the duck is on the left", "see the big red ball", "cup", "a duck"]


@pytest.fixture(scope="module")
def tokenizer():
    deterministic()
    return train_tokenizer(SAID * 3)


def a_batch(tokenizer, model, objective, count=8, seed=0):
    items = [Item((k, SAID[k % len(SAID)]), (True,)) for k in range(count)]
    batch = layouts[objective](items, tokenizer, model.config, np.random.default_rng(seed))
    return batch | dict(pixel_values=torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed)))


def batches_of(tokenizer, model, objective):
    return lambda step: (a_batch(tokenizer, model, objective, seed=step), dict(pairs=8, words=20, frames=8))


FAMILY = dict(contrastive="clip", sigmoid="clip", causal_lm="babyllava", masked_lm="babyllava")


@pytest.mark.parametrize("objective", FAMILY)
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_parts_give_the_gradients_of_the_whole(objective, parts, tokenizer):
    more = {"sigmoid": dict(bias=-3.0), "causal_lm": dict(whole=False), "masked_lm": dict(whole=False)}.get(objective, {})  # a talker's own batch norm would see a part only
    found = []
    for accumulate in (1, parts):
        model = new_model(FAMILY[objective], "tiny", tokenizer, seed=1, **more)
        trainer = Trainer(model, objective, 1e-3, 10, accumulate=accumulate, kind="fp32")
        batch = a_batch(tokenizer, model, objective)
        loss = trainer.backward(batch).item()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((loss, grads, {name: value.clone() for name, value in model.named_buffers()}))
    (loss, whole, buffers), (again, taken, after) = found
    assert loss == pytest.approx(again, abs=1e-5) and whole.keys() == taken.keys()
    for name in whole:
        assert (whole[name] - taken[name]).abs().max() <= 2e-5 + 1e-3 * whole[name].abs().max(), name
    for name in buffers:
        assert torch.allclose(buffers[name].float(), after[name].float(), atol=1e-5), name


def test_what_is_frozen_stays_and_is_freed_again(tokenizer):
    model = new_model("clip", "tiny", tokenizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(model, "contrastive", 1e-2, 5, freeze=["vision", "image_head"])
    for step in range(5):
        trainer.take(a_batch(tokenizer, model, "contrastive", seed=step))
    for name, value in model.state_dict().items():
        if name.startswith(("vision.", "image_head.")):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(model.text_head.projection.weight, before["text_head.projection.weight"])
    hold_still(model)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(WrongInput, match="'ears' is no part"):
        Trainer(model, "contrastive", 1e-2, 5, freeze=["ears"])


def test_tied_weights_are_averaged_once(tokenizer):
    model = new_model("babyllava-gpt2", "tiny", tokenizer)
    assert len(model.state_dict()) > len([*model.parameters(), *model.buffers()]) - 5
    trainer = Trainer(model, "causal_lm", 1e-2, 10, kind="fp32")
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.take(a_batch(tokenizer, model, "causal_lm"))
    for (name, now), mean in zip(model.named_parameters(), trainer.average.parameters()):
        assert torch.allclose(mean, start[name].lerp(now, 1 - min(0.998, 1 / 10)), atol=1e-7), name


def test_objectives_take_turns(tokenizer):
    model = new_model("clip", "tiny", tokenizer)
    rows, make = [], batches_of(tokenizer, model, "contrastive")

    def doubled(out, batch):
        return 2 * objectives["contrastive"](out, batch)

    fit(Trainer(model, ["contrastive", doubled], 0.0, 5), make, [lambda trainer, row, seen: rows.append((row["objective"], row["loss"]))])
    assert [name for name, _ in rows] == ["contrastive", "doubled"] * 2 + ["contrastive"]
    assert rows[1][1] > 1.5 * rows[0][1]


@pytest.mark.parametrize("name", schedules)
def test_schedules_rise_and_fall(name):
    for steps in (1, 2, 7, 100, 1000):
        rates = [schedules[name](step, steps, 1.0) for step in range(steps)]
        assert all(0 < rate <= 1 for rate in rates) and (steps < 100 or rates[0] < 0.2 and rates[-1] < 0.05 and max(rates) > 0.95)


def test_no_number_leaves_the_weights_as_they_were(tokenizer):
    model = new_model("clip", "tiny", tokenizer)
    trainer = Trainer(model, "contrastive", 1e-3, 10, kind="fp32")
    batch = a_batch(tokenizer, model, "contrastive")
    trainer.take(batch)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(WrongInput, match="loss became nan at step 2 of the stage; the last checkpoint is whole"):
        trainer.take(batch | dict(pixel_values=batch["pixel_values"] * float("nan")))
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters()) and trainer.step == 1
    model.log_scale.data.fill_(float("inf"))
    with pytest.raises(WrongInput, match="a weight is no number"):
        trainer.state()


def test_half_precision_passes_over_an_overflow_and_goes_on(tokenizer):
    model = new_model("clip", "tiny", tokenizer)
    trainer = Trainer(model, "contrastive", 1e-3, 30, kind="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26)  # far too large on purpose
    before, batch = model.log_scale.item(), a_batch(tokenizer, model, "contrastive", 4)
    rows = [trainer.take(batch) for _ in range(16)]
    skipped = [row.get("skipped", False) for row in rows]
    assert skipped[0] and not skipped[-1] and all(math.isfinite(row["loss"]) for row in rows) and rows[-1]["loss"] < rows[0]["loss"]
    assert model.log_scale.item() != before and json.dumps(rows, allow_nan=False)


def test_precision_by_device(monkeypatch):
    for capability, kind in (((6, 1), "fp32"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where, capability=capability: capability)
        assert precision("cuda") == kind
    for kind, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        with autocast("cpu", kind):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_forecast_from_few_rows_meets_the_whole(tokenizer):
    for objective in ("contrastive", "causal_lm"):
        model = new_model(FAMILY[objective], "tiny", tokenizer)
        trainer = Trainer(model, objective, 1e-3, 5)
        trainer.take(batch := a_batch(tokenizer, model, objective, 64))
        before, stream = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
        needs = forecast(trainer, batch, spare=1.0)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and torch.equal(stream, torch.get_rng_state())
        with Held([*model.parameters(), *model.buffers()]) as held:
            trainer.loss(batch).backward()
        assert 0.95 < (needs["fixed"] + 64 * needs["each"]) / held.peak < 1.25, objective


LIMITED = """
import os, resource, torch
from babyvlm.core.basics import WrongInput
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.pretraining.layouts import Item, layouts
from babyvlm.pretraining.loop import Trainer, fit
torch.set_num_threads(1)
said = ["look at the ball"]
tokenizer = train_tokenizer(said)
model = new_model("clip", "tiny", tokenizer)
def batches(count):
    batch = layouts["contrastive"]([Item((k, said[0]), (True,)) for k in range(count)], tokenizer, model.config, None)
    return lambda step: (batch | dict(pixel_values=torch.zeros(count, 3, 64, 64)), {})
def beforehand(count, **more): fit(Trainer(model, "contrastive", 1e-3, 1, **more), batches(count))
def at_the_step(count, **more): Trainer(model, "contrastive", 1e-3, 1, **more).take(batches(count)(0)[0])
beforehand(4)
size = next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size + 450 * 2**20,) * 2)

def apart(train, *args, **more):
    "What a process of its own says of training."
    out, inn = os.pipe()
    if not os.fork():
        try: train(*args, **more); said = "it fits"
        except WrongInput as error: said = str(error)
        except BaseException as error: said = repr(error)
        os.write(inn, said.encode())
        os._exit(0)
    os.wait()
    return os.read(out, 10000).decode()

for train in (beforehand, at_the_step):
    said_so = apart(train, 1000)
    assert said_so.count("a batch of ") == 2, said_so
    fits, parts = int(said_so.split("a batch of ")[2].split()[0]), int(said_so.split("accumulate=")[1])
    print(said_so, apart(train, fits), apart(train, 1000, accumulate=parts), sep="|")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a process are Linux's")
def test_out_of_memory_says_what_fits_and_it_does():
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for line in done.stdout.splitlines():
        said, fewer, parts = line.split("|")
        assert said.startswith("out of memory on cpu: a batch of 1000 needs about") and (fewer, parts) == ("it fits", "it fits"), line
    assert len(done.stdout.splitlines()) == 2


def test_room_is_not_measured_where_there_is_plenty(tokenizer, monkeypatch):
    model = new_model("clip", "tiny", tokenizer)
    trainer, batch = Trainer(model, "contrastive", 1e-3, 5), a_batch(tokenizer, model, "contrastive")
    monkeypatch.setattr(trainer, "loss", None)
    monkeypatch.setattr("babyvlm.pretraining.memory.free_memory", lambda where: 2**40)
    check_room(trainer, batch)
    assert free_memory("cpu") > 0


def test_the_ways_agree_and_the_fastest_is_kept(tokenizer):
    model = new_model("clip", "tiny", tokenizer)
    trainer, batches = Trainer(model, "contrastive", 1e-3, 5, kind="fp32"), batches_of(tokenizer, model, "contrastive")
    before, stream = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    assert fastest(trainer, batches, 5) == usual_way("cpu") == dict(attention="eager", compile=False)
    way = fastest(trainer, batches, 5, measure_from=0)
    assert way["seconds"][way["attention"]] == min(way["seconds"].values()) and flops_of(trainer, batches(0)[0]) > 1e8 and steps_in(0.01, trainer, batches) >= 1
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and torch.equal(stream, torch.get_rng_state())
    losses = []
    for attention in ("eager", "sdpa"):
        go(trainer, dict(attention=attention, compile=False))
        losses.append(trainer.loss(batches(0)[0]).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_callbacks_are_short_and_neutral(tokenizer, tmp_path, monkeypatch):
    model = new_model("clip", "tiny", tokenizer)
    make, sent = batches_of(tokenizer, model, "contrastive"), []
    writer = type("Writer", (), dict(add_scalar=lambda self, *scalar: sent.append(scalar)))()

    def trained(*callbacks):
        torch.manual_seed(0)
        trainer = Trainer(new_model("clip", "tiny", tokenizer), "contrastive", 1e-3, 4)
        fit(trainer, make, callbacks)
        return trainer.model.state_dict()

    bar, log = Progress(4), Metrics(tmp_path / "metrics.jsonl")
    watched = trained(Samples(lambda model: float(torch.rand(1) + np.random.rand()), every=2), bar, log, TensorBoard(tmp_path, writer=writer))
    assert all(torch.equal(a, b) for a, b in zip(watched.values(), trained().values()))
    rows = [json.loads(line) for line in open(tmp_path / "metrics.jsonl")]
    assert ["sample" in row for row in rows] == [False, True] * 2 and bar.bar.n == 4 and {name for name, *_ in sent} >= {"loss", "lr", "words"}
    board = TensorBoard(tmp_path / "board")
    trained(board)
    board.writer.close()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([row["loss"] for row in rows])
    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (_ for _ in ()).throw(ImportError(name)) if name == "torch.utils.tensorboard" else real(name, *rest))
    with pytest.raises(WrongInput, match=r"babyvlm\[track\]"):
        TensorBoard(tmp_path)
