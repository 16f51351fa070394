"""Weights in HDF5 as every generation of Keras writes it.

| layout | layers | weights |
|---|---|---|
| keras1-theano, keras1-tensorflow | Keras 0.3: groups `layer_K` | `param_0`, `param_1` |
| the same, of Keras 1 | named by the attribute `layer_names` | `NAME_W`, `NAME_b` |
| keras-h5 | the same, below `model_weights` in a whole model's file | `NAME/kernel:0`, by `weight_names` |
| keras3 | `layers/CLASS_N`, or `_layer_checkpoint_dependencies/CLASS_N` (Keras 2.13 to 2.15) | `vars/0`, `vars/1` |

Theano's convolution turns its kernels by 180 degrees. Kernels that were trained there are turned here once, as Keras 2 does
when it loads them. Keras 1 on Theano keeps them as [out in rows columns]. Keras 1 can also hold them turned as [rows columns in
out]: files named "tf_dim_ordering_th_kernels" were published so. Where a file does not say, its direction is not known.
"""

import collections
import contextlib
import dataclasses
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from cwf_jax.conversion.files import (
  KERAS_MEMBER,
  KERAS_ZIP,
  MOST_OBJECTS,
  ConversionError,
  list_datasets,
  open_child,
  open_hdf5,
  read_texts,
)
from cwf_jax.conversion.sources import Source, Weight
from cwf_jax.conversion.tables import KERAS1_TENSORFLOW, KERAS1_THEANO, KERAS3, KERAS_H5
from cwf_jax.errors import brief, printable

_WEIGHT = re.compile(
  r"(?:(?P<layer>.*?)[/_])?(?:depthwise_)?"
  r"(?P<kind>kernel|bias|gamma|beta|moving_mean|moving_variance|W|b|running_mean|running_std)(?:_\d+)?(?::\d+)?"
)
_KERAS1_KINDS = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
"""Kinds by their names in Keras 1, where `running_std` is a variance."""

_BY_PLACE = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}
"""The kinds of a layer of Keras 0.3, by how many weights it has."""

_NUMBERED = re.compile(r"(?P<outer>(?:.+/)?)(?P<layer>layers/(?P<kind>[^/]+?)(?:_(?P<number>\d+))?/vars)/(?P<place>\d+)")
_LARGEST_CONFIG = 2**24


class _Listed(NamedTuple):
  """A weight of a layer: its name in the file, the layer and the kind in that name, and its data set."""

  name: str
  layer: str
  kind: str
  dataset: h5py.Dataset


@contextlib.contextmanager
def open_keras(path: Path, kind: str, layout: str) -> Iterator[Source]:
  """Yields what a file of Keras holds; its arrays can be read until the generator is closed.

  Args:
    path: of the file.
    kind: HDF5, or a .keras archive.
    layout: one of the four, or "auto".

  Raises:
    ConversionError: the file is damaged, of another layout, or no file of Keras.
  """
  if kind != KERAS_ZIP:
    with open_hdf5(path) as file:
      yield _read(file, path, layout, _read_model_config(file))
    return
  try:
    with zipfile.ZipFile(path) as archive:
      content, config = io.BytesIO(archive.read(KERAS_MEMBER)), _read_archived_config(archive)
  except Exception as error:
    raise ConversionError(f"{printable(path)} is damaged: {printable(brief(error))}") from error
  with open_hdf5(path, content) as file:
    yield _read(file, path, layout, config)


def _read(file: h5py.File, path: Path, layout: str, config: dict[str, Any] | None) -> Source:
  root = _find_root(file)
  return _read_numbered(file, path, config) if root is None else _read_named(file, root, path, layout, config)


def _find_root(file: h5py.File) -> h5py.Group | None:
  """Where the layers are named: at the top of a file of weights, in `model_weights` of a file of a whole model."""
  for root in (file, open_child(file, "model_weights")):
    if isinstance(root, h5py.Group) and (read_texts(root, "layer_names") is not None or "nb_layers" in root.attrs):
      return root
  return None


def _read_named(file: h5py.File, root: h5py.Group, path: Path, layout: str, config: dict[str, Any] | None) -> Source:
  """A file of Keras 0.3 to 2, whose layers have names, or numbers in place of names."""
  listed: dict[str, list[_Listed]] = {}
  layer_names = read_texts(root, "layer_names")
  is_first = layer_names is None
  for layer in _count_layers(root) if is_first else layer_names:
    group = open_child(root, layer)
    if isinstance(group, h5py.Group):
      listed[layer] = list(_list_parameters(group) if is_first else _list_weights(group))
  layers, notes = _split_containers(listed)
  is_keras1 = is_first or _is_keras1(root, listed)
  weights = [weight for kinds in layers.values() for weight in kinds.values()]
  used = {weight.path for weight in weights}
  unlisted = tuple(Weight(name, dataset) for name, dataset in list_datasets(root).items() if name not in used)
  problems = () if config is not None else (_UNKNOWN_CONFIG,)
  backend = _read_backend(file, root, config or {})
  axes = _find_axes([weight.array.shape for weight in weights if _is_convolution(weight)])
  by_theano = backend == "theano" if backend else is_keras1 and axes == "oihw"
  is_turn_known = bool(backend) or not (is_keras1 or axes)
  if not backend and layout in (KERAS1_THEANO, KERAS1_TENSORFLOW):
    by_theano = layout == KERAS1_THEANO
  if by_theano or axes or not is_turn_known:
    layers = {
      layer: {
        kind: dataclasses.replace(weight, axes=axes, is_turned=by_theano)
        if _is_convolution(weight)
        else dataclasses.replace(weight, is_channels_first=bool(axes))
        for kind, weight in kinds.items()
      }
      for layer, kinds in layers.items()
    }
    reason = f"the file says {backend}" if backend else f"read as {'Theano' if by_theano else 'TensorFlow'} writes them"
    order = "[out in rows columns]" if axes else "[rows columns in out]"
    notes.append(f"kernels lie as {order} and are{'' if by_theano else ' not'} turned by 180 degrees: {reason}")
  own_layout = (KERAS1_THEANO if by_theano else KERAS1_TENSORFLOW) if is_keras1 else KERAS_H5
  return Source(
    printable(path),
    own_layout,
    layers,
    unlisted=unlisted,
    epsilons=dict(_list_epsilons(config or {})),
    problems=problems,
    notes=tuple(notes),
    is_turn_known=is_turn_known,
  )


def _count_layers(root: h5py.Group) -> Iterator[str]:
  """The groups of a file of Keras 0.3; those of layers without weights are empty."""
  count = int(root.attrs["nb_layers"])
  return (f"layer_{number}" for number in range(min(count, MOST_OBJECTS)))


def _list_parameters(group: h5py.Group) -> Iterator[_Listed]:
  datasets = [open_child(group, f"param_{place}") for place in range(min(int(group.attrs.get("nb_params", 0)), 5))]
  kinds = _BY_PLACE.get(len(datasets), range(len(datasets)))
  for place, (kind, dataset) in enumerate(zip(kinds, datasets, strict=True)):
    if isinstance(dataset, h5py.Dataset):
      yield _Listed(f"param_{place}", "", str(kind), dataset)


def _list_weights(group: h5py.Group) -> Iterator[_Listed]:
  for name in read_texts(group, "weight_names") or []:
    dataset, match = open_child(group, name), _WEIGHT.fullmatch(name)
    if isinstance(dataset, h5py.Dataset):
      kind = _KERAS1_KINDS.get(match["kind"], match["kind"]) if match else name
      yield _Listed(name, (match["layer"] or "").rpartition("/")[2] if match else "", kind, dataset)


def _split_containers(listed: Mapping[str, list[_Listed]]) -> tuple[dict[str, dict[str, Weight]], list[str]]:
  """The layers with weights. A layer with several weights of one kind is a model of its own, and its layers take its place."""
  layers: dict[str, dict[str, Weight]] = {}
  notes = []
  for outer, weights in listed.items():
    is_container = len({weight.kind for weight in weights}) < len(weights)
    if is_container:
      notes.append(f"the network lies inside the layer {printable(outer)}")
    for name, inner, kind, dataset in weights:
      kinds = layers.setdefault(inner if is_container and inner else outer, {})
      kinds[kind if kind not in kinds else f"{outer}/{name}"] = Weight(f"{outer}/{name}", dataset)
  return layers, notes


def _is_keras1(root: h5py.Group, listed: Mapping[str, list[_Listed]]) -> bool:
  version = "".join(read_texts(root, "keras_version") or ())
  names = [weight.name.rpartition(":")[0] or weight.name for weights in listed.values() for weight in weights]
  return version.startswith("1.") or (not version and any(name.endswith("_W") for name in names))


def _read_backend(file: h5py.File, root: h5py.Group, config: Mapping[str, Any]) -> str:
  """The library below Keras, in lower case; empty where the file does not say."""
  for texts in (read_texts(root, "backend"), read_texts(file, "backend"), [config.get("backend")]):
    if texts and isinstance(texts[0], str):
      return texts[0].lower()
  return ""


def _is_convolution(weight: Weight) -> bool:
  return weight.array.shape is not None and len(weight.array.shape) == 4


def _find_axes(shapes: list[tuple[int, ...]]) -> str:
  """The order of the axes of a file's kernels: a kernel has fewer rows and columns than channels, all kernels together."""
  first, last = (sum(math.prod(shape[part]) for shape in shapes) for part in (slice(2), slice(2, 4)))
  return "oihw" if first > last else ""


def _read_numbered(file: h5py.File, path: Path, config: dict[str, Any] | None) -> Source:
  """A file of Keras 3, or of Keras 2.13 to 2.15, whose layers are numbered by class.

  Layers after a model inside a layer are numbered from the start again; here they go on from its numbers.
  """
  layers: dict[str, dict[str, Weight]] = {}
  names: dict[str, str] = {}
  unlisted, notes = [], []
  datasets = dict(reversed(list_datasets(file).items()))
  matches = {name: _NUMBERED.fullmatch(name.replace("_layer_checkpoint_dependencies/", "layers/")) for name in datasets}
  inside = {(match["kind"], match["layer"]) for match in matches.values() if match and match["outer"]}
  counts = collections.Counter(kind for kind, _ in inside)
  for name, dataset in datasets.items():
    match = matches[name]
    layer = match["layer"] if match else ""
    if match and not match["outer"] and counts[match["kind"]]:
      layer = f"layers/{match['kind']}_{counts[match['kind']] + int(match['number'] or 0)}/vars"
    if name.startswith("optimizer/"):
      notes.append("the state of the optimizer is left out")
    elif match is None or match["place"] in layers.get(layer, {}):
      unlisted.append(Weight(name, dataset))
    else:
      layers.setdefault(layer, {})[match["place"]] = Weight(name, dataset)
      texts = read_texts(file[name.rpartition("/")[0]], "name")
      names[layer] = texts[0] if texts else layer
      if match["outer"]:
        notes.append(f"the network lies inside the layer {printable(match['outer'].strip('/').rpartition('/')[2])}")
  if not layers:
    groups = [printable(name) for name, _ in zip(file, range(8), strict=False)]
    raise ConversionError(
      f"{printable(path)} is HDF5 and holds no network of Keras: neither a list layer_names nor layers/NAME/vars; "
      f"what it holds is called {', '.join(groups) or 'nothing'}"
    )
  epsilons, problems = _number_epsilons(config, names)
  return Source(
    printable(path),
    KERAS3,
    layers,
    names=names,
    unlisted=tuple(unlisted),
    epsilons=epsilons,
    problems=tuple(problems),
    notes=tuple(dict.fromkeys(notes)),
  )


def _number_epsilons(config: dict[str, Any] | None, names: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
  """The epsilons of a configuration by the layers' numbers: by name if the file has these names, otherwise in order."""
  if config is None:
    return {}, [_UNKNOWN_CONFIG]
  stated = list(_list_epsilons(config))
  layers = {name: layer for layer, name in names.items()}
  if all(name in layers for name, _ in stated):
    return {layers[name]: epsilon for name, epsilon in stated}, []
  norms = sorted((layer for layer in names if layer.startswith("layers/batch_normalization")), key=_number_of)
  if len(norms) != len(stated):
    return {}, [f"its configuration has {len(stated)} batch norms, its weights have {len(norms)}"]
  return dict(zip(norms, (epsilon for _, epsilon in stated), strict=True)), []


def _number_of(layer: str) -> int:
  return int("0" + "".join(re.findall(r"_(\d+)/vars", layer)))


_UNKNOWN_CONFIG = "its configuration cannot be read, so the epsilon of its batch norms is not known"


def _read_model_config(file: h5py.File) -> dict[str, Any] | None:
  """The configuration of a whole model's file; empty for a file of weights, None if it cannot be read."""
  if "model_config" not in file.attrs:
    return {}
  return _parse_config("".join(read_texts(file, "model_config") or ()))


def _read_archived_config(archive: zipfile.ZipFile) -> dict[str, Any] | None:
  if "config.json" not in archive.namelist():
    return {}
  with archive.open("config.json") as file:
    return _parse_config(file.read(_LARGEST_CONFIG))


def _parse_config(text: str | bytes) -> dict[str, Any] | None:
  try:
    config = json.loads(text)
  except (ValueError, RecursionError):
    return None
  return config if isinstance(config, dict) else None


def _list_epsilons(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
  """The name and the epsilon of each batch norm in a model's configuration and in the models inside it, in their order."""
  pending: list[Any] = [config]
  while pending:
    value = pending.pop()
    if isinstance(value, dict):
      settings = value.get("config")
      if "BatchNormalization" in str(value.get("class_name")) and isinstance(settings, dict) and "epsilon" in settings:
        yield str(settings.get("name", value.get("name"))), settings["epsilon"]
      pending += reversed(value.values())
    elif isinstance(value, list):
      pending += reversed(value)
