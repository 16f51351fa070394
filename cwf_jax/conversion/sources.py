"""What a file of weights holds, in one form for every kind of file; matched with a network's table and checked as a whole.

Keras itself loads by order. Here a layer is matched by its name where every layer has the name that the table lists (or a
published file's); otherwise by order, with a note, if the numbers of layers agree and no known name is out of place.
"""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from cwf_jax.conversion.files import ConversionError, find_storage_problem
from cwf_jax.conversion.rules import Rule
from cwf_jax.conversion.tables import Table
from cwf_jax.errors import printable

SHOWN = 3
"""How many names a message lists."""

_SPREAD = {"": (0, 1, 2, 3), "oihw": (2, 3, 1, 0), "oi": (1, 0)}
"""The axes of each order in ours: [rows columns in out] and [in out]."""


@dataclasses.dataclass(frozen=True)
class Weight:
  """An array of a file, not read yet.

  Attributes:
    path: in the file, for messages.
    array: as the file has it.
    axes: their order: "" as ours, "oihw" for [out in rows columns], "oi" for [out in].
    is_turned: rows and columns run backward, as Theano's convolution takes them.
    groups: of a grouped convolution, whose kernel becomes a dense one with zeros between the groups.
    is_channels_first: a dense layer's inputs are a map's cells channel by channel, as in PyTorch, Caffe and Keras on Theano;
      otherwise all channels of a cell lie together.
  """

  path: str
  array: h5py.Dataset | np.ndarray
  axes: str = ""
  is_turned: bool = False
  groups: int = 1
  is_channels_first: bool = False

  @property
  def shape(self) -> tuple[int, ...] | None:
    """In our order of axes, all groups together; None of an empty data set."""
    shape = self.array.shape
    if not self.axes or shape is None or len(shape) != len(_SPREAD[self.axes]):
      return shape
    sides = [shape[axis] for axis in _SPREAD[self.axes]]
    sides[-2] *= self.groups
    return tuple(sides)

  def has_shape(self, shape: tuple[int, ...]) -> bool:
    """Whether it is an array of this shape, or the dense kernel [in out] of a convolution that covers its whole map."""
    return self.shape in (shape, _flatten(shape))

  def find_problem(self, shape: tuple[int, ...]) -> str | None:
    """Why it is not read as an array of this shape; no value is touched."""
    if not self.has_shape(shape):
      return f"is {self.shape if self.shape is not None else 'empty'}, expected {shape}"
    dtype = self.array.dtype
    if dtype.name != "bfloat16" and (dtype.kind != "f" or dtype.itemsize not in (2, 4, 8)):
      return f"holds {dtype}, expected floating-point numbers of 16, 32 or 64 bits"
    if shape[-1] % self.groups:
      return f"has {shape[-1]} channels in {self.groups} groups"
    return find_storage_problem(self.array) if isinstance(self.array, h5py.Dataset) else None

  def read(self, shape: tuple[int, ...]) -> np.ndarray:
    """The values in our order of axes and in a shape that it has; a kernel of groups as a dense one, bfloat16 as float32."""
    array = self.array[()]
    if array.dtype.name == "bfloat16":  # no dtype of NumPy's own, so no file of NumPy's keeps it
      array = array.astype(np.float32)
    if self.axes:
      array = array.transpose(_SPREAD[self.axes])
    if self.is_turned:
      array = array[::-1, ::-1]
    if self.groups > 1:
      return _spread_groups(array, self.groups)
    if array.shape != shape and self.is_channels_first:
      rows, columns, inner, outer = shape
      return array.reshape(inner, rows, columns, outer).transpose(1, 2, 0, 3)
    return array.reshape(shape)


def _flatten(shape: tuple[int, ...]) -> tuple[int, ...]:
  """[in out] of a kernel [rows columns in out]; other shapes as they are."""
  return (math.prod(shape[:3]), shape[3]) if len(shape) == 4 else shape


def _spread_groups(kernel: np.ndarray, groups: int) -> np.ndarray:
  """The block-diagonal kernel of a convolution in groups."""
  rows, columns, inner, outer = kernel.shape
  dense = np.zeros((rows, columns, inner * groups, outer), kernel.dtype)
  width = outer // groups
  for group in range(groups):
    block = slice(group * width, (group + 1) * width)
    dense[:, :, group * inner : (group + 1) * inner, block] = kernel[..., block]
  return dense


@dataclasses.dataclass(frozen=True)
class Source:
  """The weights of a file by layers.

  Attributes:
    file_name: as messages show it.
    layout: one of `tables.LAYOUTS`.
    layers: in the file's order, {layer: {kind: weight}}; the kinds are those of the layout's table.
    names: of layers that are known by a number, {layer: what the file calls it}; empty where layers have names.
    unlisted: weights that belong to no layer.
    epsilons: what the file says that is added to a variance, by layer.
    problems: what is wrong with the file as a whole.
    notes: what a person should know.
    is_turn_known: whether the file shows that kernels are turned or not.
    is_publisher_known: whether the names show which library's preprocessing the network has.
    may_lack_biases: a missing bias is zero in this kind of file.
  """

  file_name: str
  layout: str
  layers: Mapping[str, Mapping[str, Weight]]
  names: Mapping[str, str] = dataclasses.field(default_factory=dict)
  unlisted: tuple[Weight, ...] = ()
  epsilons: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  problems: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()
  is_turn_known: bool = True
  is_publisher_known: bool = True
  may_lack_biases: bool = False


@dataclasses.dataclass
class Problems:
  """Everything that is wrong with a file: missing weights, extra weights, and other problems."""

  missing: list[str] = dataclasses.field(default_factory=list)
  extra: list[str] = dataclasses.field(default_factory=list)
  wrong: list[str] = dataclasses.field(default_factory=list)

  def __bool__(self) -> bool:
    return bool(self.missing or self.extra or self.wrong)

  def list_all(self) -> list[str]:
    """One line a problem."""
    lines = [f"missing: {name}" for name in self.missing] + [f"extra: {name}" for name in self.extra]
    return lines + self.wrong

  def list_briefly(self) -> tuple[list[str], bool]:
    """At most three lines, and whether they say everything."""
    lines = [f"{title}: {list_briefly(names)}" for title, names in (("missing", self.missing), ("extra", self.extra)) if names]
    lines += [list_briefly(self.wrong, "; ")] if self.wrong else []
    return lines, all(len(names) <= SHOWN for names in (self.missing, self.extra, self.wrong))


@dataclasses.dataclass(frozen=True)
class Matched:
  """A network's weights, read from a file.

  Attributes:
    arrays: by the keys of the table; those with a problem are left out.
    epsilons: that the file states, by the table's layers.
    problems: everything that is wrong.
    notes: what a person should know.
  """

  arrays: dict[str, np.ndarray]
  epsilons: dict[str, float]
  problems: Problems
  notes: list[str]


def read_weights(source: Source, table: Table, kernel_shapes: Mapping[str, tuple[int, ...]]) -> Matched:
  """Matches a file's layers with a table and reads the weights of every rule.

  Args:
    source: the file.
    table: of the network and the file's layout.
    kernel_shapes: of our layers' kernels, and factors where there is no kernel, by target.

  Raises:
    ConversionError: fewer than half of the network's layers are there in name and shape: the file is of another network.
  """
  expected: dict[str, tuple[int, ...]] = {}
  for rule in table.rules:
    expected |= rule.sources(kernel_shapes[rule.target])
  places, wrong, notes = _match_layers(source, table)
  notes = [*source.notes, *notes]
  weights, extra = {}, list(source.unlisted)
  for layer, kinds in source.layers.items():
    for kind, weight in kinds.items():
      key = f"{places.get(layer, layer)}/{kind}"
      if key in expected and key not in weights:
        weights[key] = weight
      else:
        extra.append(weight)
  _add_biases(source, expected, weights, notes)
  _check_network(source, table, weights, expected)
  classifier = _find_classifier_problem(table.rules[-1], weights, expected, extra)
  explained = {table.rules[-1].kernel, table.rules[-1].bias} if classifier else set()
  problems = Problems(
    missing=[f"{key} {shape}" for key, shape in expected.items() if key not in weights and key not in explained],
    extra=[f"{printable(weight.path)} {weight.shape}" for weight in extra],
    wrong=[*source.problems, *wrong, *classifier],
  )
  epsilons = _list_epsilons(source, table, places, problems.wrong, notes)
  variances = {rule.norm.variance for rule in table.rules if rule.norm}
  arrays = {}
  for key, shape in expected.items():
    if key in weights and key not in explained:
      problem = weights[key].find_problem(shape)
      array = np.empty(0) if problem else weights[key].read(shape)
      problem = problem or _find_wrong_values(array, key in variances)
      if problem:
        problems.wrong.append(f"{printable(weights[key].path)} {problem}")
      else:
        arrays[key] = array
  return Matched(arrays, epsilons, problems, notes)


def _find_classifier_problem(
  rule: Rule, weights: Mapping[str, Weight], expected: Mapping[str, tuple[int, ...]], extra: Sequence[Weight]
) -> list[str]:
  """At most one problem: the file has no classifier, or one of other classes over the same features."""
  shape = expected[rule.kernel]
  if len(shape) != 2:  # the network is read without one
    return []
  if rule.kernel in weights:
    found = weights[rule.kernel].shape
    is_other = found is not None and len(found) == 2 and found[0] == shape[0] and found != shape
    return [f"it has {found[1]} classes; only files of ImageNet's {shape[1]} are read"] if is_other else []
  if any(weight.shape is not None and len(weight.shape) == 2 for weight in extra):
    return []
  return ["it has no classifier (include_top=False in Keras); the complete file is needed"]


def _find_wrong_values(array: np.ndarray, is_variance: bool) -> str | None:
  if not np.isfinite(array).all():
    return "holds values that are not finite"
  if is_variance and array.min(initial=0) < 0:
    return f"holds a variance of {array.min():g}, expected none below 0"
  return None


def list_briefly(names: Sequence[str], separator: str = ", ") -> str:
  """The first few names, and how many more there are."""
  more = f"{separator.rstrip(', ')} and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
  return separator.join(map(printable, names[:SHOWN])) + more


def _add_biases(
  source: Source, expected: Mapping[str, tuple[int, ...]], weights: dict[str, Weight], notes: list[str]
) -> None:
  """Zeros in place of the biases of layers that have none, where the kind of file allows it."""
  if not source.may_lack_biases:
    return
  absent = [key for key in expected if key.endswith("/bias") and key not in weights and f"{key[:-5]}/kernel" in weights]
  for key in absent:
    weights[key] = Weight(key, np.zeros(expected[key], np.float32))
  if absent:
    notes.append(f"layers without a bias, which is zero: {list_briefly([key[:-5] for key in absent])}")


def _check_network(
  source: Source, table: Table, weights: Mapping[str, Weight], expected: Mapping[str, tuple[int, ...]]
) -> None:
  misshapen = [key for key, shape in expected.items() if key in weights and not weights[key].has_shape(shape)]
  wrong = {key.rpartition("/")[0] for key in (*misshapen, *(expected.keys() - weights.keys()))}
  agreeing = len(table.layers) - len(wrong)
  if 2 * agreeing >= len(table.layers):
    return
  example = ""
  if misshapen:
    weight = weights[misshapen[0]]
    example = f"; {printable(weight.path)} {weight.find_problem(expected[misshapen[0]])}"
  names = [source.names.get(layer, layer) for layer in source.layers]
  raise ConversionError(
    f"{source.file_name} is of another network: it has {len(names)} layers with weights "
    f"({list_briefly(names)}), expected {len(table.layers)} ({list_briefly(list(table.layers.values()))}), and "
    f"{agreeing or 'none'} of these agree in name and shape{example}"
  )


def _match_layers(source: Source, table: Table) -> tuple[dict[str, str], list[str], list[str]]:
  """The table's layer of each layer of a file, the problems and the notes."""
  known = _find_names(source, table)
  if source.names:  # layers are numbered in the network's order
    places = {layer: layer for layer in table.layers if layer in source.layers}
    called = {source.names[layer]: layer for layer in places if source.names.get(layer, layer) != layer}
    return places, *_compare_places(called, known, table)
  named = {layer: known[layer] for layer in source.layers if layer in known}
  if len(source.layers) != len(table.layers) or sorted(named.values()) == sorted(table.layers):
    return named, [], []
  places = dict(zip(source.layers, table.layers, strict=True))
  return places, *_compare_places(places, known, table)


def has_names(source: Source, table: Table) -> bool:
  """Whether the layers of a file are those of a table, by their names or numbers; no shape is compared."""
  known = _find_names(source, table)
  places = [known.get(layer, layer) for layer in source.layers]
  return sorted(places) == sorted(table.layers)


def _find_names(source: Source, table: Table) -> dict[str, str]:
  """The table's layers by every name that a file may call them, behind what stands before every name of the file."""
  known = {name: layer for layer, name in table.layers.items()}
  known |= {alias: known[name] for alias, name in table.aliases.items()}
  prefix = _find_prefix(source.layers, known)
  return {prefix + name: layer for name, layer in known.items()}


def _find_prefix(layers: Collection[str], known: Collection[str]) -> str:
  """What stands before every layer's name in the file, "module." or "model.backbone.", if names are known without it."""
  first = next(iter(layers), "")
  prefixes = ("", *(first[: end.end()] for end in re.finditer(r"[./]", first)))
  return max(prefixes, key=lambda prefix: sum(prefix + name in layers for name in known))


def _compare_places(
  places: Mapping[str, str], known: Mapping[str, str], table: Table
) -> tuple[list[str], list[str]]:
  """The problems and notes of layers that are matched by order, or by number: {name in the file: the table's layer}."""
  moved = [(name, table.layers[place]) for name, place in places.items() if known.get(name, place) != place]
  problems = [f"the layer {printable(name)} is where {place} is expected" for name, place in moved]
  strange = [f"{name} for {table.layers[place]}" for name, place in places.items() if name not in known]
  matched = "layers are matched by their order, since some have other names"
  return problems, [f"{matched}: {list_briefly(strange)}"] if strange else []


def _list_epsilons(
  source: Source, table: Table, places: Mapping[str, str], wrong: list[str], notes: list[str]
) -> dict[str, float]:
  """The epsilons that a file states of the table's batch norms; what is no epsilon goes to `wrong`, others to the notes."""
  usual = {rule.norm.layer: rule.epsilon for rule in table.rules if rule.norm}
  stated = {places[layer]: value for layer, value in source.epsilons.items() if places.get(layer) in usual}
  epsilons = {layer: value for layer, value in stated.items() if type(value) in (int, float) and 0 <= value <= 1}
  unfit = [f"{table.layers[layer]} ({value!r:.20})" for layer, value in stated.items() if layer not in epsilons]
  if unfit:
    wrong.append(f"its configuration states an epsilon that is no number from 0 to 1: {list_briefly(unfit)}")
  others = [layer for layer, value in epsilons.items() if not math.isclose(value, usual[layer], rel_tol=1e-6)]
  if others:
    values = ", ".join(f"{value:g}" for value in sorted({epsilons[layer] for layer in others}))
    notes.append(f"the file's own epsilon ({values}) is used in {len(others)} batch norms")
  return {layer: float(epsilons[layer]) for layer in others}


def apply_table(table: Table, matched: Matched) -> dict[str, np.ndarray]:
  """Our parameters by their paths, in float32, from a file's weights without problems."""
  arrays: dict[str, np.ndarray] = {}
  with np.errstate(over="ignore"):  # what is too large for float32 is reported
    for rule in table.rules:
      if rule.norm:
        rule = dataclasses.replace(rule, epsilon=matched.epsilons.get(rule.norm.layer, rule.epsilon))
      arrays |= {path: array.astype(np.float32, copy=False) for path, array in rule.apply(matched.arrays).items()}
  return arrays
