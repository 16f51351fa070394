"""What a call of `--mode=train` means: data, network, classes, teacher and settings, checked before the first step."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx

from cwf_jax.cli.call import CallError
from cwf_jax.encoder import Encoder
from cwf_jax.errors import printable
from cwf_jax.images.decoding import EXTENSIONS
from cwf_jax.labelled.class_folders import open_pool
from cwf_jax.labelled.mixture import CheckedPool, Mixture, check_pool, choose_classes, map_labels
from cwf_jax.labelled.pool import Pool
from cwf_jax.load import load_encoder, load_weights
from cwf_jax.models import parameters, registry
from cwf_jax.models.checkpoint import LoadedNetwork
from cwf_jax.models.class_names import ClassList
from cwf_jax.runtime import processors
from cwf_jax.training.batches import Batch
from cwf_jax.training.loop import check_devices
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
    validation: the pools to measure accuracy on, and the labels of each in the network's classes.
    whitening: of the checkpoint that it starts from, where the features stay as they are; or None.
    description: what the run depends on, as plain JSON values.
  """

  settings: TrainingSettings
  network_name: str
  network: nnx.Module
  from_scratch: bool
  classes: ClassList
  teacher: LoadedNetwork | None
  mixture: Mixture
  validation: tuple[tuple[Pool, np.ndarray], ...]
  whitening: Mapping[str, np.ndarray] | None
  description: dict[str, Any]

  @property
  def has_validation(self) -> bool:
    """Whether there are validation images of the network's classes."""
    return any((label_map >= 0).any() for _, label_map in self.validation)

  def remarks(self) -> Iterator[str]:
    """What a user may not expect."""
    shown = len({folder for pool in self.mixture.pools for folder in pool.classes})
    if self.teacher is None and shown < len(self.classes):
      yield f"the network keeps its {len(self.classes)} classes; the folders, which are named after them, are of {shown}"
    if not self.has_validation:
      folders = "no folder of val/ is one of the network's classes" if self.validation else "there is no val/ beside train/"
      yield f"accuracy on other images is not measured: {folders}"

  def validation_batches(self) -> Iterator[Batch]:
    """One pass over all validation images."""
    size = self.settings.batch_size
    return itertools.chain.from_iterable(
      self.mixture.validation_batches(pool, size, label_map=label_map) for pool, label_map in self.validation
    )

  def make_encoder(self, network: nnx.Module) -> Encoder:
    """The encoder of the trained network."""
    loaded = LoadedNetwork(network, "trained", self.network_name, self.classes, parameters.hash_parameters(network))
    return load_encoder(loaded)


def make_plan(values: flags.FlagValues, console) -> Plan:
  """Opens and checks everything that the call names.

  Raises:
    CallError: flags that do not go together.
    InputError: data, weights or a teacher that cannot be used.
  """
  settings = _read_settings(values)
  check_devices(settings.batch_size)
  sources = values["data"].value.split(",")
  if not all(sources):
    raise CallError(f"--data takes folders, tars or tfds:NAME, separated by commas; one of {len(sources)} is empty")
  shares = _read_mix(values["mix"].value, len(sources))
  teacher = None if values["teacher"].value is None else load_weights(values["teacher"].value)
  checked = [_check(open_pool(source, EXTENSIONS), console) for source in sources]
  pools = [one.pool for one in checked]
  found = [open_pool(source, EXTENSIONS, "val", optional=True) for source in sources]
  validation = [_check(pool, console).pool for pool in found if pool is not None]
  start = _load_start(values)
  name, network, classes = _choose_network(values, pools, teacher, start)
  if teacher is not None:
    _check_scale(network.config, teacher.network.config, settings)
  label_maps, validation_maps = (
    [map_labels(pool, classes, teacher is not None) for pool in some] for some in (pools, validation)
  )
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
  return Plan(
    settings=settings,
    network_name=name,
    network=network,
    from_scratch=start is None,
    classes=classes,
    teacher=teacher,
    mixture=mixture,
    validation=tuple(zip(validation, validation_maps, strict=True)),
    whitening=start.whitening if start is not None and settings.frozen else None,
    description=description,
  )


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


def _load_start(values: flags.FlagValues) -> LoadedNetwork | None:
  """The weights to start from; None where they are random ones."""
  if values["weights"].value is None:
    return None
  if values["network"].present:
    raise CallError("--network is for random weights, and --weights brings a network of its own: leave one of them out")
  start = load_weights(values["weights"].value)
  if start.is_random:
    raise CallError(f"random weights to start from are asked for by --network={start.network_name}, without --weights")
  return start


def _check_scale(student: Any, teacher: Any, settings: TrainingSettings) -> None:
  """Every map of the teacher has a whole number of cells for one of the student's, or the other way round."""
  for name, own, other in (
    ("features", student.stride, teacher.stride),
    ("CAM features", student.cam_stride, teacher.cam_stride),
  ):
    ratio = settings.teacher_scale * own / other
    if ratio % 1 and (1 / ratio) % 1:
      raise CallError(
        f"--teacher_scale={settings.teacher_scale} lays {ratio:g} cells of the teacher's {name} (stride {other}) on one of the "
        f"network's (stride {own}), and it must be a whole number"
      )


def _choose_network(
  values: flags.FlagValues, pools: list[Pool], teacher: LoadedNetwork | None, start: LoadedNetwork | None
) -> tuple[str, nnx.Module, ClassList]:
  """The registry's name, the network to start from and its classes: the teacher's, the checkpoint's own, or the data's."""
  size = values["image_size"].value
  name = values["network"].value if start is None else start.network_name
  config = registry.find_network(name).config if start is None else start.network.config
  if teacher is not None:
    classes = teacher.classes
  elif start is not None and all((map_labels(pool, start.classes, allow_unknown=True) >= 0).all() for pool in pools):
    classes = start.classes
  else:
    classes = choose_classes(pools)
  changed = dataclasses.replace(config, num_classes=len(classes), **({} if size is None else {"image_size": size}))
  drawn = registry.build(name, changed, values["seed"].value)
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
