"""The loop: takes steps, tells how it goes, keeps the run on disk, goes on after a kill as if nothing had been.

A run is a folder:

  run.json        what the run depends on; a resumed one is the same or refused
  metrics.jsonl   one line for every few steps, and one for every validation
  steps/          the last state, by orbax

Step n sees batch n and the random numbers of step n, whenever it is taken: what follows a restored state is, bit for bit, what
would have followed it.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cwf_jax.errors import InputError
from cwf_jax.training import step as steps
from cwf_jax.training.batches import Batch
from cwf_jax.writing import write_whole

RUN_NAME, METRICS_NAME, STEPS_NAME = "run.json", "metrics.jsonl", "steps"
WINDOW = 20
"""Steps that a line of metrics is the mean of."""


class Told(NamedTuple):
  """How a run goes.

  Attributes:
    step: steps taken.
    steps: of the whole run.
    metrics: of the last steps: "loss", its terms, "accuracy", "learning_rate", "size", "images_per_second".
  """

  step: int
  steps: int
  metrics: Mapping[str, float]


class Run:
  """A run's folder."""

  def __init__(self, folder: Path, description: Mapping[str, Any], resume: bool):
    """Starts a run, or takes one up.

    Args:
      folder: of the run.
      description: what the run depends on, as plain JSON values.
      resume: there is a run in the folder, and it goes on.

    Raises:
      InputError: there is one and `resume` is not asked for, or there is none and it is, or it is another run.
    """
    self.folder = folder
    description = json.loads(json.dumps(description))
    file = folder / RUN_NAME
    if resume:
      _check_same(file, description)
    elif file.exists():
      raise InputError(f"{folder} holds a run already: --resume goes on with it; else remove it or name another --output")
    else:
      folder.mkdir(parents=True, exist_ok=True)
      write_whole(file, (json.dumps(description, indent=1) + "\n").encode())
    options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True, enable_async_checkpointing=False)
    self._manager = ocp.CheckpointManager((folder / STEPS_NAME).absolute(), options=options)
    self._worker = ThreadPoolExecutor(1)  # an interrupt, which is the main thread's, would leave orbax half done
    self._worker.submit(int).result()  # starts it: interrupted while a thread starts, the pool would start a second

  @property
  def last_step(self) -> int:
    """Steps taken when a state was last kept; 0 if none was."""
    return self._manager.latest_step() or 0

  def restore(self, state: steps.State) -> steps.State:
    """The last state that was kept, or `state` if there is none; metrics of later steps are forgotten."""
    last = self.last_step
    self._forget_metrics(last)
    if not last:
      return state
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
    kept = self._worker.submit(self._manager.restore, last, args=ocp.args.StandardRestore(shapes)).result()
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(kept))

  def keep(self, state: steps.State) -> None:
    """Keeps a state in the place of the one before; whole or not at all. An interrupt does not stop it."""
    self._worker.submit(self._keep, state).result()

  def note(self, line: Mapping[str, Any]) -> None:
    """Adds a line to the metrics."""
    with (self.folder / METRICS_NAME).open("a", encoding="utf-8") as file:
      file.write(json.dumps(line) + "\n")

  def metrics(self) -> list[dict[str, Any]]:
    """All lines so far; a line that a kill cut off is left out."""
    file = self.folder / METRICS_NAME
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
      with contextlib.suppress(ValueError):
        found.append(json.loads(line))
    return found

  def is_validated(self, step: int) -> bool:
    """Whether the metrics tell of a validation after a step: a run can have been interrupted before it."""
    return any(line["step"] == step and "loss" not in line for line in self.metrics())

  def close(self) -> None:
    """Ends the threads."""
    self._worker.shutdown()
    self._manager.close()

  def _keep(self, state: steps.State) -> None:
    step = int(state.step)
    if step != self._manager.latest_step():
      self._manager.save(step, args=ocp.args.StandardSave(_plain(state)))

  def _forget_metrics(self, last: int) -> None:
    kept = [line for line in self.metrics() if line["step"] <= last]
    write_whole(self.folder / METRICS_NAME, "".join(json.dumps(line) + "\n" for line in kept).encode())


def train(
  method: steps.Method,
  state: steps.State,
  make_batches: Callable[[int], Iterator[Batch]],
  run: Run,
  *,
  teacher: nnx.Module | None = None,
  validate: Callable[[nnx.Module], Mapping[str, float]] | None = None,
  tell: Callable[[Told], None] | None = None,
  keep_seconds: float = 300.0,
) -> nnx.Module:
  """Takes all steps that are left.

  Args:
    method: of `step.prepare`.
    state: of it; replaced by the run's last one.
    make_batches: the batches from a step on, without end.
    run: keeps the state every `keep_seconds`, at the end, and when interrupted.
    teacher: that `step.prepare` was given.
    validate: gets the network at the end of every phase; its numbers go into the metrics.
    tell: called for every line of metrics.
    keep_seconds: between two states that are kept.

  Returns:
    The network, with its batch norm.

  Raises:
    InputError: a batch cannot be cut among the devices.
    FloatingPointError: the loss is not finite any more; the last state that was kept is before that.
  """
  settings, schedule = method.settings, method.settings.schedule
  replicated, cut = _place(settings.batch_size)
  state = jax.device_put(run.restore(state), replicated)
  teacher = jax.device_put(teacher, replicated)
  rates = steps.learning_rates(settings)
  number, window = int(state.step), []
  if validate is not None and number in schedule.last_steps and not run.is_validated(number):
    run.note({"step": number, **validate(steps.network_of(method, state))})
  kept_at = started = time.monotonic()
  with contextlib.closing(make_batches(number)) as batches:
    try:
      while number < schedule.steps:
        batch = jax.device_put(tuple(next(batches)), cut)
        state, metrics = steps.take_step(method, state, teacher, *batch, side=schedule.size(number))
        number += 1
        window.append(metrics)
        at_end = number in schedule.last_steps
        if number % WINDOW and not at_end:
          continue
        line = _average(window)
        seconds, started = time.monotonic() - started, time.monotonic()
        line |= {"learning_rate": float(rates(number - 1)), "size": schedule.size(number - 1)}
        line |= {"images_per_second": len(window) * settings.batch_size / seconds}
        window = []
        if not np.isfinite(line["loss"]):
          raise FloatingPointError(f"the loss is {line['loss']} at step {number}: a lower learning rate may help")
        run.note({"step": number, **line})
        if tell is not None:
          tell(Told(number, schedule.steps, line))
        if at_end and validate is not None:
          run.note({"step": number, **validate(steps.network_of(method, state))})
          started = time.monotonic()
        if at_end or time.monotonic() - kept_at > keep_seconds:
          run.keep(state)
          kept_at = started = time.monotonic()
    except KeyboardInterrupt:
      with contextlib.suppress(RuntimeError):  # interrupted where one state was gone and the next not there yet
        if not window or np.isfinite(_average(window)["loss"]):
          run.keep(state)
      raise
  return steps.network_of(method, jax.device_get(state))


def _place(batch_size: int):
  devices = jax.devices()
  if batch_size % len(devices):
    raise InputError(f"a batch of {batch_size} cannot be cut evenly among {len(devices)} devices; choose another --batch_size")
  mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
  return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def _average(window: list[Mapping[str, jax.Array]]) -> dict[str, float]:
  fetched = jax.device_get(window)
  return {name: float(np.mean([metrics[name] for metrics in fetched])) for name in fetched[0]}


def _plain(state: steps.State) -> dict[str, list]:
  """The state's arrays in their order: orbax need not know what they are of."""
  return {"leaves": jax.tree.leaves(state)}


def _check_same(file: Path, description: Mapping[str, Any]) -> None:
  try:
    before = json.loads(file.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise InputError(f"there is no run to resume: {file} is not there; leave --resume out to start one") from None
  except ValueError as error:
    raise InputError(f"{file} cannot be read as JSON: {error}") from None
  changed = [
    f"{name} was {json.dumps(before.get(name))} and is {json.dumps(description.get(name))}"
    for name in sorted({*before, *description})
    if before.get(name) != description.get(name)
  ]
  if changed:
    raise InputError(f"the run {file.parent} was started otherwise: {'; '.join(changed)}")
