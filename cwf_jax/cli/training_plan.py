"""What a call of `--mode=train` means: data, network, classes, teacher and settings, checked before the first step."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags
from flax import nnx

from cwf_jax.cli.call import CallError
from cwf_jax.cli.training_data import CheckedPool, Mixture, check_pool, choose_classes, map_labels
from cwf_jax.datasets.class_folders import Pool, open_pool
from cwf_jax.encoder import Encoder, encoder_of
from cwf_jax.errors import printable
from cwf_jax.images.decoding import EXTENSIONS
from cwf_jax.indexing.build import processors
from cwf_jax.models import parameters, registry
from cwf_jax.models.checkpoint import LoadedNetwork, load_weights
from cwf_jax.models.class_names import ClassList
from cwf_jax.training.batches import Batch
from cwf_jax.training.settings import Schedule, TrainingSettings
from cwf_jax.training.step import HEAD

_SCRATCH, _TUNED, _FROZEN = 2e-3, 1e-4, 1e-3
"""Learning rates: with batch norm from random weights; of a trained network, without it; of a new head on one."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """Everything that a run is made of.

  Attributes:
    settings: of the run.
    network_name: the registry's.
    network: where it starts from.
    from_scratch: its weights are random, so that it trains with batch norm.
    classes: that it will predict.
    teacher: or None.
    mixture: the images to train on.
    validation: the pools to measure accuracy on.
    description: what the run depends on, as plain JSON values.
  """

  settings: TrainingSettings
  network_name: str
  network: nnx.Module
  from_scratch: bool
  classes: ClassList
  teacher: LoadedNetwork | None
  mixture: Mixture
  validation: tuple[Pool, ...]
  description: dict[str, Any]

  def validation_batches(self) -> Iterator[Batch]:
    """One pass over all validation images."""
    size = self.settings.batch_size
    return itertools.chain.from_iterable(
      self.mixture.validation_batches(pool, size, label_map=map_labels(pool, self.classes, self.teacher is not None))
      for pool in self.validation
    )

  def make_encoder(self, network: nnx.Module) -> Encoder:
    """The encoder of the trained network."""
    loaded = LoadedNetwork(network, "trained", self.network_name, self.classes, parameters.hash_parameters(network))
    return encoder_of(loaded)


def make_plan(values: flags.FlagValues, console) -> Plan:
  """Opens and checks everything that the call names.

  Raises:
    CallError: flags that do not go together.
    InputError: data, weights or a teacher that cannot be used.
  """
  settings = _read_settings(values)
  sources = values["data"].value.split(",")
  shares = _read_mix(values["mix"].value, len(sources))
  teacher = None if values["teacher"].value is None else load_weights(values["teacher"].value)
  checked = [_check(open_pool(source, EXTENSIONS), console) for source in sources]
  pools = [one.pool for one in checked]
  found = [open_pool(source, EXTENSIONS, "val", optional=True) for source in sources]
  validation = tuple(_check(pool, console).pool for pool in found if pool is not None)
  name, network, classes = _choose_network(values, pools, teacher)
  label_maps = [map_labels(pool, classes, teacher is not None) for pool in pools]
  mixture = Mixture(
    pools, label_maps, values["canvas"].value, weights=shares, seed=settings.seed, threads=processors()
  )
  description = {
    "settings": settings.to_json(),
    "network": name,
    "config": registry.config_to_json(network.config),
    "start": values["weights"].value or "random",
    "start_sha256": parameters.hash_parameters(network),
    "teacher": None if teacher is None else teacher.name,
    "teacher_sha256": None if teacher is None else teacher.sha256,
    "data": [
      {"images": len(one.pool), "classes": len(one.pool.classes), "sha256": one.sha256} for one in checked
    ],
    "mix": shares,
    "canvas": values["canvas"].value,
  }
  return Plan(settings, name, network, values["weights"].value is None, classes, teacher, mixture, validation, description)


def _read_settings(values: flags.FlagValues) -> TrainingSettings:
  rate = values["learning_rate"].value
  if rate is None:
    rate = _FROZEN if values["freeze_backbone"].value else _SCRATCH if values["weights"].value is None else _TUNED
  return TrainingSettings(
    schedule=Schedule.parse(values["schedule"].value),
    batch_size=values["batch_size"].value or 32,
    learning_rate=rate,
    warmup=values["warmup"].value,
    weight_decay=values["weight_decay"].value,
    seed=values["seed"].value,
    frozen=values["freeze_backbone"].value,
    area=(values["least_area"].value, 1.0),
    mosaic=values["mosaic"].value,
    teacher_scale=values["teacher_scale"].value,
    dtype="float32" if jax.default_backend() == "cpu" else "bfloat16",
  )


def _read_mix(text: str | None, count: int) -> list[float] | None:
  if text is None:
    return None
  try:
    shares = [float(part) for part in text.split(",")]
  except ValueError:
    raise CallError(f"--mix takes numbers separated by commas, as in 1,2; found {text!r}") from None
  if len(shares) != count or not all(0 < share < float("inf") for share in shares):
    raise CallError(f"--mix takes a share above 0 for each of the {count} sources of --data; found {text!r}")
  return shares


def _check(pool: Pool, console) -> CheckedPool:
  with console.progress("files checked") as progress:
    checked = check_pool(pool, processors(), progress)
  if checked.skipped:
    named = "; ".join(f"{printable(one.id)}: {one.reason}" for one in checked.skipped[:3])
    found = f"{len(checked.skipped)} of {len(pool)} images of {printable(pool.source)}"
    console.say(f"{found} cannot be read and are left out: {named}")
  return checked


def _choose_network(
  values: flags.FlagValues, pools: list[Pool], teacher: LoadedNetwork | None
) -> tuple[str, nnx.Module, ClassList]:
  """The registry's name, the network to start from and its classes: the teacher's, the checkpoint's own, or the data's."""
  size = values["image_size"].value
  if values["weights"].value is not None and values["network"].present:
    raise CallError("--network is for random weights, and --weights brings a network of its own: leave one of them out")
  start = None if values["weights"].value is None else load_weights(values["weights"].value)
  name = values["network"].value if start is None else start.network_name
  config = registry.find_network(name).config if start is None else start.network.config
  named = {folder for pool in pools for folder in pool.classes}
  if teacher is not None:
    classes = teacher.classes
  elif start is not None and named <= set(start.classes.wnids):
    classes = start.classes
  else:
    classes = choose_classes(pools)
  changed = dataclasses.replace(config, num_classes=len(classes), **({} if size is None else {"image_size": size}))
  drawn = registry.draw(name, changed, values["seed"].value)
  if start is None:
    return name, drawn, classes
  return name, _take_over(start, drawn, classes), classes


def _take_over(start: LoadedNetwork, drawn: nnx.Module, classes: ClassList) -> nnx.Module:
  """The weights of a checkpoint, with a new classifier where the classes are others."""
  arrays = dict(parameters.list_parameters(start.network))
  if start.classes.wnids != classes.wnids:
    fresh = parameters.list_parameters(drawn)
    arrays |= {path: fresh[path] for path in arrays if path.split("/")[0] == HEAD[-1]}
  return parameters.with_parameters(drawn, jax.device_get(arrays))
