"""A foreign file of weights into a checkpoint that `--weights=` takes.

    convert("mobilenet_v2_keras.h5", "mobilenet_v2", "out/mobilenet_v2")
    load_weights("out/mobilenet_v2")
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cwf_jax.conversion import files, layouts, reading, tables
from cwf_jax.conversion.files import ConversionError
from cwf_jax.errors import printable
from cwf_jax.models import parameters, registry
from cwf_jax.models.checkpoint import save_checkpoint
from cwf_jax.models.class_names import ClassList

DONE = (
  "each batch norm folded in float64 into the convolution before it, depthwise kernels transposed to "
  "[rows columns 1 channels], the classifier as it was"
)


@dataclasses.dataclass(frozen=True)
class Converted:
  """What a conversion made.

  Attributes:
    folder: of the checkpoint, absolute.
    network_name: the registry's.
    layout: in which the file was read.
    source_sha256: of the file.
    notes: what a person should know.
  """

  folder: str
  network_name: str
  layout: str
  source_sha256: str
  notes: tuple[str, ...]


def convert(
  source: str | os.PathLike,
  network_name: str,
  folder: str | os.PathLike,
  layout: str = tables.AUTO,
  origin: Mapping[str, str] | None = None,
) -> Converted:
  """Converts a file into a checkpoint, which is written whole or not at all.

  Args:
    source: HDF5 as Keras writes it.
    network_name: of the registry.
    folder: of the checkpoint; must not exist yet.
    layout: one of `tables.LAYOUTS`, or "auto".
    origin: what else to note about the source in the checkpoint: its address, its license.

  Raises:
    ConversionError: the source is something else, damaged, or not this network; with the first few things that are wrong.
    InputError: the folder exists, or there is no such network.
  """
  registry.find_network(network_name)
  path = Path(source).expanduser()
  chosen, arrays, notes = read_network(path, network_name, layout)
  sha256 = files.hash_file(path)
  network = parameters.with_parameters(registry.build_abstract(network_name), arrays)
  save_checkpoint(
    folder,
    network,
    network_name=network_name,
    classes=ClassList.imagenet(),
    metadata={
      "source": path.name,
      "source_sha256": sha256,
      "layout": chosen,
      "conversion": DONE,
      "notes": list(notes),
      **(origin or {}),
    },
  )
  return Converted(str(Path(folder).expanduser().absolute()), network_name, chosen, sha256, notes)


def read_network(
  source: str | os.PathLike, network_name: str, layout: str = tables.AUTO
) -> tuple[str, dict[str, np.ndarray], tuple[str, ...]]:
  """Reads a file as parameters of a network.

  Returns:
    The layout, the parameters by their paths (float32), and notes.

  Raises:
    ConversionError: as `convert`.
  """
  known = tables.find_tables(network_name)
  tables.check_layout(layout)
  expected = parameters.list_parameters(registry.build_abstract(network_name))
  shapes = {path.removesuffix("/kernel"): leaf.shape for path, leaf in expected.items() if path.endswith("/kernel")}
  found = reading.read_apart(source, known, layout, shapes)
  arrays = {} if found.problems else _apply(known[found.layout], found.weights)
  problems = [f"{path} is not finite in float32" for path, array in arrays.items() if not np.isfinite(array).all()]
  if found.problems or problems:
    told = layouts.list_briefly(found.problems + problems, "; ")
    raise ConversionError(f"{printable(source)} cannot become {network_name} ({found.layout}): {told}")
  return found.layout, arrays, tuple(found.notes)


def _apply(table: tables.Table, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  with np.errstate(over="ignore"):  # what is too large for float32 is reported
    return {path: array.astype(np.float32) for rule in table.rules for path, array in rule.apply(weights).items()}
