"""Finding a network's weights in an HDF5 file of Keras, in the layouts that `tables` names, and checking all of them.

Keras itself loads by order. Here a layer is matched by its name where every layer has the name that the table lists (or a
published file's); else by order, which is told, where their number agrees and no known name is out of its place.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from cwf_jax.conversion.files import ConversionError, find_problem, list_datasets, open_child, read_texts
from cwf_jax.conversion.rules import Convolution
from cwf_jax.conversion.tables import KERAS3, KERAS_H5, Table
from cwf_jax.errors import printable

_KIND = re.compile(r"(?:^|.*[/_])(?:depthwise_)?(kernel|bias|gamma|beta|moving_mean|moving_variance)(?:_\d+)?(?::\d+)?")
_SHOWN = 3


class Found(NamedTuple):
  """A data set, and its path in the file."""

  path: str
  dataset: h5py.Dataset


class Source(NamedTuple):
  """The weights of a file by the keys of a table.

  Attributes:
    file_name: as messages show it.
    layers: the names of the file's layers that hold weights.
    weights: what was found; a weight that the table does not know has a key of its own.
    problems: what is wrong with the layers, for `read_weights` to tell with the rest.
    notes: what a person should know about the matching.
  """

  file_name: str
  layers: tuple[str, ...]
  weights: Mapping[str, Found]
  problems: tuple[str, ...]
  notes: tuple[str, ...]


def detect_layout(file: h5py.File) -> str:
  """The layout of an HDF5 file.

  Raises:
    ConversionError: it is none of them; the message tells what the file holds.
  """
  if _keras_h5_root(file) is not None:
    return KERAS_H5
  layers = open_child(file, "layers")
  if isinstance(layers, h5py.Group) and any(open_child(layers, f"{name}/vars") is not None for name in layers):
    return KERAS3
  names = [printable(name) for name, _ in zip(file, range(8), strict=False)]
  raise ConversionError(
    f"{printable(file.filename)} is HDF5 and holds no network of Keras: neither a list layer_names nor layers/NAME/vars; "
    f"what it holds is called {', '.join(names) or 'nothing'}"
  )


def list_weights(file: h5py.File, layout: str, table: Table) -> Source:
  """Finds what a file holds in a layout; nothing is read yet.

  Raises:
    ConversionError: the file is of another layout.
  """
  detected = detect_layout(file)
  if detected != layout:
    raise ConversionError(f"{printable(file.filename)} is of the layout {detected}, not {layout}")
  return _list_keras_h5(file, table) if layout == KERAS_H5 else _list_keras3(file, table)


def read_weights(
  source: Source, table: Table, kernel_shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Reads the weights of every rule of a table.

  Args:
    source: of `list_weights`.
    table: the same.
    kernel_shapes: of our layers, by target.

  Returns:
    The arrays by their keys, and the problems: missing, extra, misshapen, of no number, not finite. Arrays with a problem
    are left out.

  Raises:
    ConversionError: fewer than half of the network's layers are there in name and shape: the file is of another network.
  """
  expected: dict[str, tuple[int, ...]] = {}
  for rule in table.rules:
    expected |= rule.sources(kernel_shapes[rule.target])
  _check_network(source, table, expected)
  variances = {rule.norm.variance for rule in table.rules if isinstance(rule, Convolution)}
  missing = [f"{key} {shape}" for key, shape in expected.items() if key not in source.weights]
  extra = [f"{printable(found.path)} {found.dataset.shape}" for key, found in source.weights.items() if key not in expected]
  problems = [*source.problems]
  problems += [f"missing: {list_briefly(missing)}"] if missing else []
  problems += [f"extra: {list_briefly(extra)}"] if extra else []
  arrays = {}
  for key, shape in expected.items():
    if key in source.weights:
      path, dataset = source.weights[key]
      problem = find_problem(dataset, shape)
      array = np.empty(0) if problem else dataset[()]
      if not problem and not np.isfinite(array).all():
        problem = "holds values that are not finite"
      elif not problem and key in variances and array.min(initial=0) < 0:
        problem = f"holds a variance of {array.min():g}, expected none below 0"
      if problem:
        problems.append(f"{printable(path)} {problem}")
      else:
        arrays[key] = array
  return arrays, problems


def list_briefly(names: Sequence[str], separator: str = ", ") -> str:
  """The first few names, and how many more there are."""
  more = f"{separator.rstrip(', ')} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
  return separator.join(map(printable, names[:_SHOWN])) + more


def _check_network(source: Source, table: Table, expected: Mapping[str, tuple[int, ...]]) -> None:
  found = {key: source.weights[key] for key in expected if key in source.weights}
  misshapen = [key for key in found if found[key].dataset.shape != expected[key]]
  wrong = {key.rpartition("/")[0] for key in (*misshapen, *(expected.keys() - found.keys()))}
  agreeing = len(table.layers) - len(wrong)
  if 2 * agreeing >= len(table.layers):
    return
  example = ""
  if misshapen:
    path, dataset = found[misshapen[0]]
    example = f"; {printable(path)} {find_problem(dataset, expected[misshapen[0]])}"
  raise ConversionError(
    f"{source.file_name} is of another network: it has {len(source.layers)} layers with weights "
    f"({list_briefly(source.layers)}), expected {len(table.layers)} ({list_briefly(list(table.layers.values()))}), and "
    f"{agreeing or 'none'} of these agree in name and shape{example}"
  )


def _keras_h5_root(file: h5py.File) -> h5py.Group | None:
  """Where the layers lie: at the top of a file of weights, in `model_weights` of a file of a whole model."""
  for root in (file, open_child(file, "model_weights")):
    if isinstance(root, h5py.Group) and read_texts(root, "layer_names") is not None:
      return root
  return None


def _list_keras_h5(file: h5py.File, table: Table) -> Source:
  root = _keras_h5_root(file)
  listed: dict[str, dict[str, Found]] = {}
  for layer in read_texts(root, "layer_names"):
    group = open_child(root, layer)
    for name in (read_texts(group, "weight_names") or []) if isinstance(group, h5py.Group) else []:
      dataset, kind = open_child(group, name), _KIND.fullmatch(name)
      if isinstance(dataset, h5py.Dataset):
        listed.setdefault(layer, {})[kind[1] if kind else name] = Found(f"{layer}/{name}", dataset)
  places, problems, notes = _match_layers(list(listed), table)
  problems += _compare_statements(file, root, places, table)
  weights = {
    f"{places.get(layer, layer)}/{kind}": found for layer, kinds in listed.items() for kind, found in kinds.items()
  }
  used = {found.path for found in weights.values()}
  weights |= {path: Found(path, dataset) for path, dataset in list_datasets(root).items() if path not in used}
  return Source(printable(file.filename), tuple(listed), weights, tuple(problems), tuple(notes))


def _compare_statements(file: h5py.File, root: h5py.Group, places: Mapping[str, str], table: Table) -> Iterator[str]:
  """The problems of what a file states beside its arrays: by which library it was saved, and each batch norm's epsilon.

  Keras 2 writes `backend` beside the layers, and `model_config` at the top of a whole model's file. Kernels that Theano
  saved are turned by 180 degrees, as Keras's loader knows.
  """
  config = _read_config(file)
  if config is None:
    yield "its model_config cannot be read, so the epsilon of its batch norms is not known"
    return
  backends = [*(read_texts(root, "backend") or ()), *(read_texts(file, "backend") or ()), str(config.get("backend"))]
  if "theano" in map(str.lower, backends):
    yield "it was saved by Keras on Theano, whose kernels are turned by 180 degrees, and such a file is not read"
  expected = {rule.norm.gamma.rpartition("/")[0]: rule.epsilon for rule in table.rules if isinstance(rule, Convolution)}
  stated = [(name, epsilon) for name, epsilon in _list_epsilons(config) if places.get(name) in expected]
  others = [f"{name} ({epsilon!r:.20})" for name, epsilon in stated if not _is_close(epsilon, expected[places[name]])]
  if others:
    epsilons = ", ".join(f"{epsilon:g}" for epsilon in sorted(set(expected.values())))
    yield f"its model_config states another epsilon of {list_briefly(others)}; only batch norms with {epsilons} are read"


def _read_config(file: h5py.File) -> dict[str, Any] | None:
  """The configuration of a whole model's file; empty for a file of weights, None if it cannot be read."""
  if "model_config" not in file.attrs:
    return {}
  try:
    config = json.loads("".join(read_texts(file, "model_config") or ()))
  except (ValueError, RecursionError):
    return None
  return config if isinstance(config, dict) else None


def _is_close(epsilon: Any, right: float) -> bool:
  """Whether an epsilon is the right one, up to float32's rounding."""
  return isinstance(epsilon, int | float) and math.isclose(epsilon, right, rel_tol=1e-6)


def _list_epsilons(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
  """The name and the epsilon of each layer that has one, in a model's configuration and in the models inside it."""
  pending: list[Any] = [config]
  while pending:
    value = pending.pop()
    if isinstance(value, dict):
      if "epsilon" in value:
        yield str(value.get("name")), value["epsilon"]
      pending += reversed(value.values())
    elif isinstance(value, list):
      pending += reversed(value)


def _match_layers(names: list[str], table: Table) -> tuple[dict[str, str], list[str], list[str]]:
  """The table's layer of each layer of a file, the problems and the notes."""
  expected, known = list(table.layers), {**{name: name for name in table.layers}, **table.aliases}
  named = {name: known[name] for name in names if name in known}
  if len(names) != len(expected) or sorted(named.values()) == sorted(expected):
    return named, [], []
  places = dict(zip(names, expected, strict=True))
  return places, *_compare_places(places, known)


def _compare_places(places: Mapping[str, str], known: Mapping[str, str]) -> tuple[list[str], list[str]]:
  """The problems and notes of layers that are matched by order, or by number: {name in the file: name in the table}."""
  moved = [(name, place) for name, place in places.items() if known.get(name, place) != place]
  problems = [f"the layer {printable(name)} is where {place} is expected" for name, place in moved]
  strange = [f"{name} for {place}" for name, place in places.items() if name not in known]
  matched = "layers are matched by their order, since some have other names"
  return problems, [f"{matched}: {list_briefly(strange)}"] if strange else []


def _list_keras3(file: h5py.File, table: Table) -> Source:
  weights = {path: Found(path, dataset) for path, dataset in list_datasets(file).items()}
  notes = []
  if any(path.startswith("optimizer/") for path in weights):
    weights = {path: found for path, found in weights.items() if not path.startswith("optimizer/")}
    notes.append("the state of the optimizer is left out")
  names = {}
  for group in dict.fromkeys(path.rpartition("/")[0] for path in reversed(weights)):
    texts = read_texts(file[group or "/"], "name")
    names[group] = texts[0] if texts else group
  places = {names[group]: place for group, place in table.layers.items() if names.get(group, group) != group}
  problems, told = _compare_places(places, {name: name for name in table.layers.values()})
  return Source(printable(file.filename), tuple(names.values()), weights, tuple(problems), (*notes, *told))
