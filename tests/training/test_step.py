import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.models import parameters, registry
from cwf_jax.training import step
from cwf_jax.training.settings import Schedule, TrainingSettings
from tests.tiny import TEACHER
from tests.training.conftest import copy_state, draw_student

SETTINGS = TrainingSettings(Schedule(((32, 24),)), batch_size=8, learning_rate=1e-2, warmup=4, area=(0.5, 1.0), jitter=0.1)
SIDE = 32


def _take(method, state, batch, steps, teacher=None, side=SIDE):
  """The state after some steps, and what each of them told; the state given stays."""
  state, told = copy_state(state), []
  for _ in range(steps):
    state, metrics = step.take_step(method, state, teacher, *batch, side=side)
    told.append(metrics)
  return state, jax.device_get(told)


def _arrays(method, state):
  """Every array of the network by its path."""
  return jax.device_get(parameters.list_parameters(step.network_of(method, state)))


def _changed(before, after):
  assert before.keys() == after.keys()
  return {path for path in before if before[path].tobytes() != after[path].tobytes()}


@pytest.fixture(scope="module")
def prepared():
  return step.prepare(draw_student(), SETTINGS)


@pytest.fixture(scope="module")
def trained(prepared, batch):
  return _take(*prepared, batch, SETTINGS.schedule.steps)


def test_a_few_steps_learn_the_labels(trained):
  _, told = trained
  losses, accuracies = ([metrics[name] for metrics in told] for name in ("loss", "accuracy"))
  assert np.isfinite(losses).all()
  assert set(told[0]) == {"loss", "labels", "accuracy"}
  assert losses[0] > 1.0  # the logarithm of five classes is 1.6
  assert np.mean(losses[-4:]) < 0.3 * losses[0]
  assert np.mean(accuracies[-4:]) > 0.9 > np.mean(accuracies[:2])


def test_every_parameter_and_every_statistic_moves(prepared, trained):
  method, state = prepared
  before, after = _arrays(method, state), _arrays(method, trained[0])
  assert _changed(before, after) == set(before)
  assert {path.rpartition("/")[2] for path in before} == {"kernel", "bias", "scale", "mean", "var"}
  assert int(trained[0].step) == SETTINGS.schedule.steps
  assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in after.values())


def test_the_same_seed_gives_the_same_bits(prepared, trained, batch):
  again, told = _take(*prepared, batch, 10)
  first, first_told = trained
  assert [metrics["loss"].tobytes() for metrics in told] == [metrics["loss"].tobytes() for metrics in first_told[:10]]
  whole, _ = _take(prepared[0], again, batch, SETTINGS.schedule.steps - 10)
  for ours, theirs in zip(jax.tree.leaves(whole), jax.tree.leaves(first), strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_each_step_sees_views_of_its_own(prepared, batch):
  method, state = prepared
  losses = {float(_take(method, state._replace(step=jnp.int32(number)), batch, 1)[1][0]["loss"]) for number in range(4)}
  assert len(losses) == 4


def test_images_without_a_label_do_not_count(prepared, batch):
  nobody = batch._replace(labels=np.full(8, -1, np.int32))
  after, told = _take(*prepared, nobody, 2)
  assert [(metrics["loss"], metrics["accuracy"]) for metrics in told] == [(0.0, 0.0)] * 2
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
  some = batch._replace(labels=np.where(np.arange(8) < 2, batch.labels, -1))
  _, told = _take(*prepared, some, 1)
  assert told[0]["accuracy"] in (0.0, 0.5, 1.0)  # of two


def test_projections_are_there_with_a_teacher_only_and_drawn_by_the_seed(teacher):
  assert set(step.prepare(draw_student(), SETTINGS)[1].parameters) == {"network"}
  first, other = (
    step.prepare(draw_student(), dataclasses.replace(SETTINGS, seed=seed), teacher)[1].parameters["projections"]
    for seed in (0, 1)
  )
  assert (first["features"]["kernel"][...] != other["features"]["kernel"][...]).any()
  assert first["features"]["kernel"][...].shape == (16, teacher.config.feature_channels)


DISTILLED = dataclasses.replace(SETTINGS, teacher_scale=2, mosaic=0.25, feature_weight=2.0, cam_weight=3.0)


@pytest.fixture(scope="module")
def distilled(teacher, batch):
  method, state = step.prepare(draw_student(), DISTILLED, teacher)
  return method, state, *_take(method, state, batch, DISTILLED.schedule.steps, teacher)


def test_a_few_steps_learn_from_the_teacher(distilled):
  _, _, _, told = distilled
  assert set(told[0]) == {"loss", "probabilities", "features", "cam_features", "accuracy"}
  for name in ("probabilities", "features", "cam_features"):
    values = [metrics[name] for metrics in told]
    assert np.isfinite(values).all() and min(values) >= 0
    assert np.mean(values[-4:]) < 0.8 * np.mean(values[:2]), name
  for metrics in told:
    assert metrics["loss"] == pytest.approx(
      float(metrics["probabilities"] + 2.0 * metrics["features"] + 3.0 * metrics["cam_features"]), rel=1e-5
    )


def test_the_teacher_stays_and_the_projections_learn(distilled, teacher):
  _, before, after, _ = distilled
  assert parameters.hash_parameters(teacher) == parameters.hash_parameters(registry.build("mobilenet_v2", TEACHER))
  for name in ("features", "cam_features"):
    for part in ("kernel", "bias"):
      first, last = (state.parameters["projections"][name][part][...] for state in (before, after))
      assert (first != last).any()


@pytest.mark.parametrize("with_teacher", [False, True])
def test_a_frozen_backbone_stays_to_the_bit(batch, teacher, with_teacher):
  chosen = teacher if with_teacher else None
  settings = dataclasses.replace(SETTINGS, frozen=True)
  method, state = step.prepare(draw_student(), settings, chosen, normalized=False)
  before = _arrays(method, state)
  after, told = _take(method, state, batch, 6, chosen)
  head = {f"{layer}/{kind}" for layer in ("cam", "classifier") for kind in ("kernel", "bias")}
  assert _changed(before, _arrays(method, after)) == head
  assert told[-1]["loss"] < told[0]["loss"]
  trained = {path[0] for path, _ in jax.tree_util.tree_leaves_with_path(after.parameters)}
  assert {str(key.key) for key in trained} == {"network", "projections"} if with_teacher else {"network"}


def test_a_network_is_tuned_without_batch_norm(batch):
  method, state = step.prepare(draw_student(), SETTINGS, normalized=False)
  before = _arrays(method, state)
  assert {path.rpartition("/")[2] for path in before} == {"kernel", "bias"}
  assert not jax.tree.leaves(state.others)
  after, _ = _take(method, state, batch, 3)
  assert _changed(before, _arrays(method, after)) == set(before)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 200), (2, 1), (24, 4), (24, 0), (24, 500), (1000, 200)])
def test_the_learning_rate_rises_and_falls(steps, warmup):
  rates = step.learning_rates(TrainingSettings(Schedule(((32, steps),)), learning_rate=0.5, warmup=warmup))
  every = np.array([rates(number) for number in range(steps + 1)], np.float64)
  turn = min(warmup, max(steps - 1, 0))
  np.testing.assert_allclose(every[: turn + 1], 0.5 * np.arange(turn + 1) / max(turn, 1) if turn else [0.5], rtol=1e-6)
  cosine = 0.25 * (1 + np.cos(np.pi * np.arange(steps - turn + 1) / (steps - turn)))
  np.testing.assert_allclose(every[turn:], cosine, atol=1e-6)  # float32
  assert every.argmax() == turn and every[-1] == pytest.approx(0, abs=1e-6)


def test_weight_decay_is_of_kernels_only(teacher):
  """Without a gradient it is all that moves a parameter: towards zero, by the learning rate times the decay."""
  settings = dataclasses.replace(SETTINGS, weight_decay=0.1, warmup=1)
  method, state = step.prepare(draw_student(), settings, teacher)
  still = jax.tree.map(jnp.zeros_like, state.parameters)
  update = jax.jit(method.transform.update)
  first, optimizer = update(still, state.optimizer, state.parameters)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(first))  # the rate of step 0 is 0
  second, _ = update(still, optimizer, state.parameters)
  kinds = set()
  pairs = zip(*map(jax.tree_util.tree_leaves_with_path, (second, state.parameters)), strict=True)
  for (path, moved), (_, value) in pairs:
    kind = str(path[-2].key)
    kinds.add(kind)
    expected = -settings.learning_rate * 0.1 * np.asarray(value) if kind == "kernel" else np.zeros(value.shape)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, err_msg=str(path))
  assert kinds == {"kernel", "bias", "scale"}


def test_half_precision_computes_in_it_and_keeps_float32(batch):
  method, state = step.prepare(draw_student(), dataclasses.replace(SETTINGS, dtype="bfloat16"))
  after, told = _take(method, state, batch, 3)
  assert {leaf.dtype for leaf in jax.tree.leaves(after) if leaf.dtype.kind == "f"} == {np.dtype(np.float32)}
  assert all(np.isfinite(metrics["loss"]) for metrics in told)
  traced = step.take_step.trace(method, state, None, *batch, side=SIDE).lower().as_text()
  assert "stablehlo.convolution" in traced
  for line in traced.splitlines():
    if "stablehlo.convolution" in line:
      assert "bf16" in line, line


_SHARDED = """
import json, sys
import jax, numpy as np
from jax.sharding import SingleDeviceSharding
jax.config.update("jax_default_matmul_precision", "highest")
from cwf_jax.training import loop, step
from tests.training.conftest import copy_state, draw_student
from tests.training.test_step import SETTINGS, SIDE
with np.load(sys.argv[1]) as file:
  batch = tuple(file[name] for name in ("images", "sizes", "labels"))
method, state = step.prepare(draw_student(), SETTINGS)
one = SingleDeviceSharding(jax.devices()[0])
answers = []
for replicated, cut in ((one, one), loop._place()):
  current, losses = jax.device_put(copy_state(state), replicated), []
  for _ in range(3):
    current, metrics = step.take_step(method, current, None, *jax.device_put(batch, cut), side=SIDE)
    losses.append(float(metrics["loss"]))
  answers.append((losses, current))
(losses, alone), (losses_cut, together) = answers
spread = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(together)}
moved = apart = 0.0
for start, ours, theirs in zip(*(jax.tree.leaves(it[:2]) for it in (state, alone, together)), strict=True):
  moved = max(moved, float(np.abs(np.asarray(ours) - np.asarray(start)).max()))
  apart = max(apart, float(np.abs(np.asarray(ours) - np.asarray(theirs)).max()))
found = {"devices": jax.device_count(), "spread": sorted(spread), "losses": losses, "cut": losses_cut}
json.dump(found | {"moved": moved, "apart": apart}, sys.stdout)
"""


def test_eight_devices_give_what_one_gives(batch, tmp_path):
  """Statistics of batch norm and gradients are those of the whole batch, in sums of another order."""
  np.savez(tmp_path / "batch.npz", **batch._asdict())
  # Compiled as a user's: without optimization the shards' sums end in other digits on some processors, and Adam enlarges them.
  flags = "--xla_force_host_platform_device_count=8"
  done = subprocess.run(
    [sys.executable, "-c", _SHARDED, tmp_path / "batch.npz"],
    cwd=Path(__file__).parents[2],
    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": "."},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert found["devices"] == 8 and found["spread"] == [8]
  np.testing.assert_allclose(found["cut"], found["losses"], rtol=1e-5)  # 2e-7 was seen
  assert found["moved"] > 1e-3
  assert found["apart"] < 1e-3 * found["moved"]  # Adam divides by the root of small squares; 1e-5 and 4e-6 were seen
