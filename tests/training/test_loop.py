"""A run that is stopped and resumed ends with the same bits as one that is not."""

import functools
import json
import math
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from cwf_jax.errors import InputError
from cwf_jax.models import parameters
from cwf_jax.training import loop, step
from cwf_jax.training.loop import Run, train
from cwf_jax.training.settings import Schedule, TrainingSettings
from tests.training.conftest import copy_state, draw_student

SETTINGS = TrainingSettings(Schedule(((32, 25), (32, 20))), batch_size=8, learning_rate=1e-2, warmup=4)
DESCRIPTION = {"settings": SETTINGS.to_json(), "data": [{"images": 8}], "start": "random"}
LINES = [20, 25, 40, 45]
"""The steps that metrics are told for: every 20, and at the end of a phase."""


def _make_batches(batch, number, stop_at=None):
  """Batch n holds the pictures in the n-th order; `stop_at` is (n, what is raised in its place)."""
  while True:
    if stop_at is not None and number == stop_at[0]:
      raise stop_at[1]
    order = np.random.default_rng(number).permutation(8)
    yield batch._replace(images=batch.images[order], labels=batch.labels[order])
    number += 1


def _validate(network):
  """A number that tells networks apart."""
  return {"validation_top1": float(np.abs(np.asarray(network.conv1_1.layer.kernel[...])).sum())}


def _train(prepared, batch, folder, *, resume=False, stop_at=None, **options):
  """The hash of the trained network, and the metrics."""
  method, state = prepared
  run = Run(folder, DESCRIPTION, resume)
  try:
    options = {"validate": _validate} | options
    network = train(method, copy_state(state), functools.partial(_make_batches, batch, stop_at=stop_at), run, **options)
    return parameters.hash_parameters(network), run.metrics()
  finally:
    run.close()


@pytest.fixture(scope="module")
def prepared():
  """Compiled once for the module."""
  return step.prepare(draw_student(), SETTINGS)


@pytest.fixture(scope="module")
def expected(prepared, batch, tmp_path_factory):
  """What a run gives that nothing disturbs."""
  return _train(prepared, batch, tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture
def start(prepared, batch, tmp_path):
  return functools.partial(_train, prepared, batch, tmp_path / "run")


def _kept(tmp_path):
  return [int(path.name) for path in (tmp_path / "run" / "steps").iterdir() if path.name.isdigit()]


def _raise_at(wanted, error):
  def tell(told):
    if told.step == wanted:
      raise error

  return tell


def _steps(lines, kind="loss"):
  return [line["step"] for line in lines if kind in line]


def _check_resumed(start, expected, tmp_path):
  """Goes on, and compares with the undisturbed run: the network to the bit, each line of metrics once."""
  sha256, lines = start(resume=True)
  assert sha256 == expected[0]
  told = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in told] == lines
  assert len(set(_steps(lines))) == len(_steps(lines))
  assert [line for line in lines if "validation_top1" in line] == [line for line in expected[1] if "validation_top1" in line]
  assert _kept(tmp_path) == [45]
  return lines


def test_a_run_tells_how_it_goes_and_keeps_its_last_state(start, expected, tmp_path):
  told = []
  sha256, lines = start(tell=told.append)
  assert sha256 == expected[0]
  assert _steps(lines) == LINES and _steps(lines, "validation_top1") == [25, 45]
  assert [line["step"] for line in lines] == [20, 25, 25, 40, 45, 45]  # in the order of the steps
  rates = step.learning_rates(SETTINGS)
  for line in (line for line in lines if "loss" in line):
    assert set(line) == {"step", "loss", "labels", "accuracy", "learning_rate", "size", "images_per_second"}
    assert line["learning_rate"] == float(rates(line["step"] - 1)) and line["size"] == 32
    assert line["images_per_second"] > 0 and line["loss"] == line["labels"] > 0 and 0 <= line["accuracy"] <= 1
  assert [(one.step, one.steps, {"step": one.step, **one.metrics}) for one in told] == [
    (line["step"], 45, line) for line in lines if "loss" in line
  ]
  assert json.loads((tmp_path / "run" / "run.json").read_text()) == json.loads(json.dumps(DESCRIPTION))
  assert _kept(tmp_path) == [45]


def test_metrics_are_means_over_their_steps(start, monkeypatch):
  take_step, losses = step.take_step, []

  def listening(*arguments, **options):
    state, metrics = take_step(*arguments, **options)
    losses.append(float(metrics["loss"]))
    return state, metrics

  monkeypatch.setattr(step, "take_step", listening)
  _, lines = start()
  found = [line["loss"] for line in lines if "loss" in line]
  spans = [losses[:20], losses[20:25], losses[25:40], losses[40:45]]
  assert found == [pytest.approx(np.mean(span), rel=1e-6) for span in spans]  # of float32


@pytest.mark.parametrize("wanted", [20, 25, 45])
def test_an_interrupted_run_keeps_what_it_has(start, expected, tmp_path, wanted):
  with pytest.raises(KeyboardInterrupt):
    start(tell=_raise_at(wanted, KeyboardInterrupt))
  assert _kept(tmp_path) == [wanted]
  assert _steps(_check_resumed(start, expected, tmp_path)) == LINES


def test_a_run_is_interrupted_between_two_lines(start, expected, tmp_path):
  with pytest.raises(KeyboardInterrupt):
    start(stop_at=(33, KeyboardInterrupt()))
  assert _kept(tmp_path) == [33]
  assert _steps(_check_resumed(start, expected, tmp_path)) == [20, 25, 33, 40, 45]  # the steps before it are told of, too


def test_a_run_that_fails_goes_on_from_the_last_state_that_was_kept(start, expected, tmp_path):
  with pytest.raises(OSError, match="the disk has gone"):
    start(stop_at=(43, OSError("the disk has gone")))
  assert _kept(tmp_path) == [25]  # the end of a phase
  lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
  assert _steps(lines) == [20, 25, 40]  # the line of step 40 is told again
  assert _steps(_check_resumed(start, expected, tmp_path)) == LINES


def test_a_run_that_fails_at_once_begins_anew(start, expected, tmp_path):
  with pytest.raises(OSError, match="no"):
    start(stop_at=(0, OSError("no")))
  assert _kept(tmp_path) == []
  _check_resumed(start, expected, tmp_path)


def test_states_are_kept_as_often_as_asked(start, expected, tmp_path):
  with pytest.raises(OSError, match="no"):
    start(stop_at=(43, OSError("no")), keep_seconds=0.0)
  assert _kept(tmp_path) == [40]  # and none of those before
  _check_resumed(start, expected, tmp_path)


def test_many_interruptions_end_with_the_same_bits(start, expected, tmp_path):
  for number in (7, 8, 26, 44):
    with pytest.raises(KeyboardInterrupt):
      start(resume=(tmp_path / "run" / "run.json").exists(), stop_at=(number, KeyboardInterrupt()))
    assert _kept(tmp_path) == [number]
  _check_resumed(start, expected, tmp_path)


def test_a_validation_that_was_interrupted_is_made_when_the_run_goes_on(start, expected, tmp_path):
  def interrupt_at(number):
    def validate(network):
      nonlocal number
      number -= 1
      if number < 0:
        raise KeyboardInterrupt
      return _validate(network)

    return validate

  with pytest.raises(KeyboardInterrupt):
    start(validate=interrupt_at(0))
  assert _kept(tmp_path) == [25]
  with pytest.raises(KeyboardInterrupt):
    start(resume=True, validate=interrupt_at(1))
  assert _kept(tmp_path) == [45]
  _check_resumed(start, expected, tmp_path)


def test_an_interrupt_while_a_state_is_written_loses_nothing(start, expected, tmp_path, monkeypatch):
  """It is raised in the main thread, which is waiting; the writing goes on and is waited for."""
  save, times = ocp.CheckpointManager.save, []

  def slow(self, *arguments, **options):
    times.append(arguments)
    if len(times) == 1:
      signal.raise_signal(signal.SIGINT)
      time.sleep(0.2)
    return save(self, *arguments, **options)

  monkeypatch.setattr(ocp.CheckpointManager, "save", slow)
  with pytest.raises(KeyboardInterrupt):
    start()
  assert _kept(tmp_path) == [25] and len(times) == 1
  _check_resumed(start, expected, tmp_path)


def test_a_run_that_is_done_takes_no_step_more(start, expected):
  start()
  again = start(resume=True, stop_at=(45, AssertionError("a batch too many")), validate=None)
  assert again[0] == expected[0] and _steps(again[1]) == LINES and _steps(again[1], "validation_top1") == [25, 45]


def test_threads_end_with_the_run(start):
  before = threading.active_count()
  with pytest.raises(KeyboardInterrupt):
    start(tell=_raise_at(20, KeyboardInterrupt))
  end = time.monotonic() + 5
  while threading.active_count() > before and time.monotonic() < end:
    time.sleep(0.01)
  assert threading.active_count() <= before


def test_a_run_is_never_started_over_another(prepared, tmp_path):
  run = Run(tmp_path, DESCRIPTION, resume=False)
  run.keep(prepared[1])
  run.close()
  with pytest.raises(InputError, match="holds a run already: --resume goes on with it"):
    Run(tmp_path, DESCRIPTION, resume=False)


def test_a_run_that_is_not_there_is_not_resumed(tmp_path):
  with pytest.raises(InputError, match=r"no run to resume: .*run\.json is not there; leave --resume out"):
    Run(tmp_path / "none", DESCRIPTION, resume=True)
  assert not (tmp_path / "none").exists()


def test_another_run_is_refused_with_what_has_changed(tmp_path):
  Run(tmp_path, DESCRIPTION, resume=False).close()
  other = {**DESCRIPTION, "settings": {**SETTINGS.to_json(), "seed": 7}, "start": "default", "teacher": None}
  with pytest.raises(InputError) as caught:
    Run(tmp_path, other, resume=True)
  told = str(caught.value)
  assert f"the run {tmp_path} was started otherwise" in told
  assert 'start was "random" and is "default"' in told and "settings.seed was 0 and is 7" in told
  assert "data" not in told
  Run(tmp_path, DESCRIPTION, resume=True).close()


def test_a_description_that_cannot_be_read_is_named(tmp_path):
  (tmp_path / "run.json").write_text("{")
  with pytest.raises(InputError, match=r"run\.json cannot be read as JSON"):
    Run(tmp_path, DESCRIPTION, resume=True)


def test_a_line_that_a_kill_cut_off_is_forgiven(prepared, tmp_path):
  run = Run(tmp_path, DESCRIPTION, resume=False)
  for number in (20, 40, 60):
    run.note({"step": number, "loss": 0.5})
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 80, "lo')
  assert [line["step"] for line in run.metrics()] == [20, 40, 60]
  state = prepared[1]
  run.keep(state._replace(step=jnp.int32(40)))
  restored = run.restore(state)
  assert int(restored.step) == 40
  assert [line["step"] for line in run.metrics()] == [20, 40]
  run.note({"step": 60, "loss": 0.25})
  assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [
    json.dumps({"step": number, "loss": loss}) for number, loss in ((20, 0.5), (40, 0.5), (60, 0.25))
  ]
  run.close()


def test_a_state_comes_back_with_all_that_it_holds(prepared, tmp_path):
  state, generator = prepared[1], np.random.default_rng(0)
  after = jax.tree.map(lambda leaf: jnp.asarray(generator.uniform(1, 9, leaf.shape), leaf.dtype), state)
  run = Run(tmp_path, DESCRIPTION, resume=False)
  assert run.restore(state) is state  # nothing was kept
  run.keep(after)
  found = run.restore(state)
  run.close()
  assert jax.tree.structure(found) == jax.tree.structure(after)
  for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(after), strict=True):
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_kept(prepared, batch, tmp_path):
  method, state = prepared
  broken = copy_state(state._replace(parameters=jax.tree.map(lambda leaf: leaf * math.nan, state.parameters)))
  run = Run(tmp_path / "run", DESCRIPTION, resume=False)
  with pytest.raises(FloatingPointError, match="the loss is nan at step 20: a lower learning rate may help"):
    train(method, broken, functools.partial(_make_batches, batch), run)
  run.close()
  assert _kept(tmp_path) == [] and run.metrics() == []


def test_a_batch_that_cannot_be_cut_among_the_devices_is_refused(start, monkeypatch):
  monkeypatch.setattr(loop.jax, "devices", lambda: [None] * 3)
  with pytest.raises(InputError, match="a batch of 8 cannot be cut evenly among 3 devices; choose another --batch_size"):
    start()


def test_two_processes_are_not_at_one_run(start, tmp_path):
  run = Run(tmp_path / "run", DESCRIPTION, resume=False)
  try:
    with pytest.raises(InputError, match="another process is at the run"):
      start(resume=True)
  finally:
    run.close()


def test_a_run_that_kept_nothing_makes_room(tmp_path):
  Run(tmp_path / "run", DESCRIPTION, resume=False).close()
  Run(tmp_path / "run", {**DESCRIPTION, "start": "others"}, resume=False).close()
  assert json.loads((tmp_path / "run" / "run.json").read_text())["start"] == "others"


def test_an_interrupt_tells_of_the_steps_since_the_last_line(start, tmp_path):
  with pytest.raises(KeyboardInterrupt):
    start(stop_at=(23, KeyboardInterrupt()))
  lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
  assert _steps(lines) == [20, 23] and _kept(tmp_path) == [23]


def test_a_disk_that_takes_no_more_is_one_error_and_the_state_before_stays(start, expected, tmp_path, monkeypatch):
  save = ocp.CheckpointManager.save

  def fail(manager, step, **kwargs):
    if step == 45:
      raise ValueError("OUT_OF_RANGE: Failed to write 12 bytes to file 18: No space left on device [os_error_code='28']")
    return save(manager, step, **kwargs)

  monkeypatch.setattr(ocp.CheckpointManager, "save", fail)
  with pytest.raises(OSError, match=r"the state of step 45 cannot be written into .*: No space left on device$"):
    start()
  monkeypatch.undo()
  _check_resumed(start, expected, tmp_path)


def test_a_state_that_is_damaged_is_named(start, tmp_path):
  with pytest.raises(OSError, match="gone"):
    start(stop_at=(33, OSError("gone")))
  (state,) = (path for path in (tmp_path / "run" / "steps").iterdir() if path.name.isdecimal())
  for path in state.rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:7])
  with pytest.raises(InputError, match=r"the state of step 25 in .* cannot be read .*: remove the folder and start again"):
    start(resume=True)
