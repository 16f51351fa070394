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

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cwf_jax.errors import InputError, brief
from cwf_jax.files import write_whole
from cwf_jax.training import step as steps
from cwf_jax.training.batches import Batch
from cwf_jax.training.settings import TrainingSettings

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
      InputError: there is one that has kept a state and `resume` is not asked for, or there is none and it is, or it is
        another run, or another process is at it.
    """
    self.folder = folder
    description = json.loads(json.dumps(description))
    file = folder / RUN_NAME
    if resume:
      _check_same(file, description)
    elif file.exists() and _has_state(folder):
      raise InputError(f"{folder} holds a run already: --resume goes on with it; else remove it or name another --output")
    folder.mkdir(parents=True, exist_ok=True)
    self._lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
      self._lock.acquire()
    except filelock.Timeout:
      raise InputError(f"another process is at the run {folder}; wait for it, or name another --output") from None
    if not resume:
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
    """The last state that was kept, or `state` if there is none; metrics of later steps are forgotten.

    Raises:
      InputError: it cannot be read.
    """
    last = self.last_step
    self._forget_metrics(last)
    if not last:
      return state
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
    try:
      kept = self._worker.submit(self._manager.restore, last, args=ocp.args.StandardRestore(shapes)).result()
    except Exception as error:  # a damaged folder fails in as many ways as orbax and TensorStore have parts
      raise InputError(
        f"the state of step {last} in {self.folder} cannot be read ({brief(error)}): remove the folder and start again"
      ) from error
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(kept))

  def keep(self, state: steps.State) -> None:
    """Keeps a state in the place of the one before; whole or not at all. An interrupt does not stop it.

    Raises:
      OSError: the disk does not take it; the one before is still there.
    """
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
    """Ends the threads, and lets others at the run."""
    self._worker.shutdown()
    self._manager.close()
    self._lock.release()

  def _keep(self, state: steps.State) -> None:
    step = int(state.step)
    if step != self._manager.latest_step():
      try:
        self._manager.save(step, args=ocp.args.StandardSave(_plain(state)))
      except ValueError as error:  # TensorStore's name for a disk that takes no more
        raise OSError(f"the state of step {step} cannot be written into {self.folder}: {brief(error)}") from error

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
    FloatingPointError: the loss or a parameter is not finite any more; the last state that was kept is before that.
  """
  settings, schedule = method.settings, method.settings.schedule
  check_devices(settings.batch_size)
  replicated, cut = _place()
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
        line = _describe(window, settings, rates(number - 1), schedule.size(number - 1), time.monotonic() - started)
        if not np.isfinite(line["loss"]):
          raise FloatingPointError(f"the loss is {line['loss']} at step {number}: a lower learning rate may help")
        run.note({"step": number, **line})
        window, started = [], time.monotonic()
        if tell is not None:
          tell(Told(number, schedule.steps, line))
        if at_end or time.monotonic() - kept_at > keep_seconds:
          if not _are_finite(state.parameters):
            raise FloatingPointError(f"parameters are not finite after step {number}: a lower learning rate may help")
          run.keep(state)
          kept_at = time.monotonic()
        if at_end and validate is not None:
          run.note({"step": number, **validate(steps.network_of(method, state))})
        started = time.monotonic()
    except KeyboardInterrupt:
      gone = any(leaf.is_deleted() for leaf in jax.tree.leaves(state))  # and the next state is not there yet
      with contextlib.suppress(RuntimeError):
        if not gone and _are_finite(state.parameters):
          if window and number == int(state.step) and number not in (line["step"] for line in run.metrics()):
            seconds = time.monotonic() - started
            run.note({"step": number, **_describe(window, settings, rates(number - 1), schedule.size(number - 1), seconds)})
          run.keep(state)
      raise
  return steps.network_of(method, jax.device_get(state))


def check_devices(batch_size: int) -> None:
  """Refuses a batch that cannot be cut evenly among the devices.

  Raises:
    InputError: it cannot.
  """
  devices = len(jax.devices())
  if batch_size % devices:
    raise InputError(f"a batch of {batch_size} cannot be cut evenly among {devices} devices; choose another --batch_size")


def _place():
  devices = jax.devices()
  mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
  return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def _describe(
  window: list[Mapping[str, jax.Array]], settings: TrainingSettings, rate: Any, size: int, seconds: float
) -> dict[str, float]:
  """A line of metrics: means over the steps of the window, which took so many seconds."""
  fetched = jax.device_get(window)
  line = {name: float(np.mean([metrics[name] for metrics in fetched])) for name in fetched[0]}
  line |= {"learning_rate": float(rate), "size": size}
  return line | {"images_per_second": len(window) * settings.batch_size / seconds}


@jax.jit
def _all_finite(parameters: nnx.State) -> jax.Array:
  return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters)]).all()


def _are_finite(parameters: nnx.State) -> bool:
  return bool(_all_finite(parameters))


def _plain(state: steps.State) -> dict[str, list]:
  """The state's arrays in their order: orbax need not know what they are of."""
  return {"leaves": jax.tree.leaves(state)}


def _has_state(folder: Path) -> bool:
  steps_folder = folder / STEPS_NAME
  return steps_folder.is_dir() and any(path.name.isdecimal() for path in steps_folder.iterdir())


def _check_same(file: Path, description: Mapping[str, Any]) -> None:
  try:
    before = json.loads(file.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise InputError(f"there is no run to resume: {file} is not there; leave --resume out to start one") from None
  except ValueError as error:
    raise InputError(f"{file} cannot be read as JSON: {error}") from None
  changed = _list_changes("", before, description)
  if changed:
    raise InputError(f"the run {file.parent} was started otherwise: {'; '.join(changed)}")


def _list_changes(name: str, before: Any, now: Any) -> list[str]:
  """What differs, down to the single values."""
  if isinstance(before, dict) and isinstance(now, dict):
    names = sorted({*before, *now})
    return [change for part in names for change in _list_changes(f"{name}.{part}", before.get(part), now.get(part))]
  if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
    pairs = enumerate(zip(before, now, strict=True))
    return [change for place, pair in pairs for change in _list_changes(f"{name}[{place}]", *pair)]
  return [] if before == now else [f"{name.lstrip('.')} was {json.dumps(before)} and is {json.dumps(now)}"]
