"""Converts a weight file of another library into a checkpoint for `--weights=`.

    convert("mobilenet_v2_keras.h5", "mobilenet_v2", "out/mobilenet_v2")
    load_weights("out/mobilenet_v2")
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Float

from cwf_jax.conversion import files, published, reading, self_check, sources, tables
from cwf_jax.conversion.files import ConversionError
from cwf_jax.errors import printable
from cwf_jax.models import parameters, registry
from cwf_jax.models.checkpoint import save_checkpoint
from cwf_jax.models.class_names import ClassList
from cwf_jax.models.network import CamConfig, Preprocessing

TURN_FACTOR = 2.0
"""Factor by which `rate_shown` must grow for the other direction of kernels to be taken as the right one."""

PREPROCESSINGS = {
  "caffe": (Preprocessing.caffe(), "BGR less ImageNet's means"),
  "rgb_means": (Preprocessing.rgb_means(), "RGB less ImageNet's means"),
  "symmetric": (Preprocessing.symmetric(), "RGB from -1 to 1"),
  "torchvision": (Preprocessing.torchvision(), "RGB less ImageNet's means, over its standard deviations"),
}
"""The inputs that published networks take, by name, and each in words."""


@dataclasses.dataclass(frozen=True)
class Converted:
  """What a conversion made.

  Attributes:
    folder: of the checkpoint, absolute.
    network_name: the registry's.
    layout: in which the file was read.
    source_sha256: of the file.
    notes: what a person should know: how the file was read, and what the network says of a photograph.
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
  force: bool = False,
  preprocessing: str = tables.AUTO,
) -> Converted:
  """Converts a file into a checkpoint, which is written whole or not at all.

  The converted network is tried on three photographs; what it says of one is a note.

  Args:
    source: HDF5 or .keras of Keras, a .caffemodel, a state dict of PyTorch, safetensors or .npz.
    network_name: of the registry.
    folder: of the checkpoint; must not exist yet.
    layout: one of `tables.LAYOUTS`, or "auto".
    origin: what else to note about the source in the checkpoint: its address, its license.
    force: to convert a file whose kernels seem to be turned the other way.
    preprocessing: of `PREPROCESSINGS`; "auto" is the publisher's of such files.

  Raises:
    ConversionError: the source is something else, damaged, or not this network; with the first few things that are wrong.
      If there are more, all of them are listed in `folder` + ".problems.txt". Or no publisher is known for its names, and
      no preprocessing is named.
    InputError: the folder exists, or there is no such network.
  """
  registry.find_network(network_name)
  path, folder = Path(source).expanduser(), Path(folder).expanduser().absolute()
  report = folder.with_name(f"{folder.name}.problems.txt")
  read = read_network(path, network_name, layout, report)
  if preprocessing == tables.AUTO and not read.is_publisher_known:
    choices = ", ".join(f"{name} ({text})" for name, (_, text) in PREPROCESSINGS.items())
    raise ConversionError(
      f"{printable(path)} does not say how images are prepared for it, since its names are not PyTorch's; "
      f"--mode=convert --preprocessing=NAME says it: {choices}"
    )
  config = read.config if preprocessing == tables.AUTO else _with_preprocessing(read.config, preprocessing)
  sha256 = files.hash_file(path)
  network = _build(network_name, config, read.arrays)
  classes = ClassList.imagenet() if config.num_classes else ClassList.numbered(0)
  notes = [*read.notes, *_describe_input(config.preprocessing)]
  if config.num_classes:
    probabilities = self_check.compute_probabilities(network)
    if not read.is_turn_known and not force:
      _check_turn(path, network_name, config, read.arrays, probabilities)
    notes += self_check.report_probabilities(probabilities, classes)
  else:
    notes.append("it has no classifier: it has maps but no classes, so it cannot encode images: the complete file can")
  read_layout = read.layout
  del read  # as large as the network
  save_checkpoint(
    folder,
    network,
    network_name=network_name,
    classes=classes,
    metadata={
      "source": path.name,
      "source_sha256": sha256,
      "layout": read_layout,
      "conversion": "each batch norm folded in float64 into the convolution before it, or a factor and an offset where there "
      "is none; kernels as [rows columns in out]",
      "notes": notes,
      **(origin or {}),
    },
  )
  report.unlink(missing_ok=True)  # of an earlier call
  return Converted(str(folder), network_name, read_layout, sha256, tuple(notes))


def _with_preprocessing(config: CamConfig, name: str) -> CamConfig:
  """The settings with a preprocessing by its name.

  Raises:
    ConversionError: there is no such preprocessing.
  """
  if name not in PREPROCESSINGS:
    raise ConversionError(f"no preprocessing is named {name!r}; there are: {', '.join((tables.AUTO, *PREPROCESSINGS))}")
  return dataclasses.replace(config, preprocessing=PREPROCESSINGS[name][0])


def _describe_input(preprocessing: Preprocessing) -> list[str]:
  """One note, where the preprocessing has a name."""
  return [
    f"its input is {text} (--preprocessing={name})"
    for name, (known, text) in PREPROCESSINGS.items()
    if known == preprocessing
  ]


class Read(NamedTuple):
  """A network's parameters as a file has them.

  Attributes:
    layout: of the file.
    config: the settings of the network that its publisher has.
    arrays: by the parameters' paths, in float32.
    notes: what a person should know.
    is_turn_known: whether the file shows that kernels are turned or not.
    is_publisher_known: whether the file's names are those of a publisher, whose preprocessing `config` has.
  """

  layout: str
  config: CamConfig
  arrays: dict[str, np.ndarray]
  notes: tuple[str, ...]
  is_turn_known: bool
  is_publisher_known: bool


def read_network(source: Path, network_name: str, layout: str = tables.AUTO, report: Path | None = None) -> Read:
  """Reads a file as parameters of a network, which is not tried on photographs.

  Args:
    source: the file's path.
    network_name: of the registry.
    layout: one of `tables.LAYOUTS`, or "auto".
    report: where all problems go if a message cannot hold them.

  Raises:
    ConversionError: as `convert`.
  """
  known = published.find_tables(network_name)
  shapes = published.list_shapes(network_name)
  others = {name: published.find_tables(name) for name in published.NETWORKS if name != network_name}
  found = reading.read_apart(source, known, layout, shapes, others=others)
  matched, problems = found.matched, found.matched.problems
  arrays = {} if problems else sources.apply_table(known[found.layout][found.form], matched)
  problems.wrong += [f"{path} is not finite in float32" for path, array in arrays.items() if not np.isfinite(array).all()]
  if problems:
    lines, is_whole = problems.list_briefly()
    if report is not None and not is_whole:
      report.parent.mkdir(parents=True, exist_ok=True)
      report.write_text("".join(f"{printable(line)}\n" for line in problems.list_all()), encoding="utf-8")
      lines[-1] += f" (all of them are in {printable(report)})"
    raise ConversionError(f"{printable(source)} cannot become {network_name} ({found.layout}): {'; '.join(lines)}")
  form = published.find_published(network_name, found.layout)[found.form]
  return Read(found.layout, form.config, arrays, tuple(matched.notes), found.is_turn_known, found.is_publisher_known)


def _build(network_name: str, config: CamConfig, arrays: Mapping[str, np.ndarray]) -> nnx.Module:
  return parameters.with_parameters(registry.build_abstract(network_name, config), arrays)


def _check_turn(
  source: Path,
  network_name: str,
  config: CamConfig,
  arrays: Mapping[str, np.ndarray],
  probabilities: Float[np.ndarray, "3 c"],
) -> None:
  """Refuses kernels that make much more of photographs when they are turned by 180 degrees; see `self_check`.

  Raises:
    ConversionError: with both mean probabilities.
  """
  turned = {path: array[::-1, ::-1] if array.ndim == 4 else array for path, array in arrays.items()}
  here = self_check.rate_shown(probabilities)
  other = self_check.rate_shown(self_check.compute_probabilities(_build(network_name, config, turned)))
  if other >= max(TURN_FACTOR * here, 2 * self_check.CHANCE):
    raise ConversionError(
      f"{printable(source)} does not say which library trained it, and its kernels seem to be turned the other way: what two "
      f"photographs show has a mean probability of {here:.3g}, and of {other:.3g} with kernels turned by 180 degrees; name the "
      "other layout (--layout=keras1-theano or keras1-tensorflow), or convert it as it is by --force"
    )
