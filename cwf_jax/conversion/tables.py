"""Which weight of a file is which parameter of a network: one table for a network and a layout.

A key reads "LAYER/WEIGHT". A layer has its name in the file and a weight its kind: "bn_Conv1/gamma". Only in `keras3` (Keras
3's `model.save_weights`) layers are numbered by class, in the model's order, and weights by place: "layers/conv2d_4/vars/0".
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cwf_jax.conversion.rules import Normalization, Rule

KERAS_H5, KERAS3, KERAS1_THEANO, KERAS1_TENSORFLOW, CAFFE, TORCH, SAFETENSORS, NPZ = LAYOUTS = (
  "keras-h5", "keras3", "keras1-theano", "keras1-tensorflow", "caffe", "torch", "safetensors", "npz",
)  # fmt: skip
"""The layouts that are read."""

KERAS_LAYOUTS, TORCH_LAYOUTS = LAYOUTS[:4], LAYOUTS[5:]

AUTO = "auto"
"""In place of a layout: the one that the file has."""


@dataclasses.dataclass(frozen=True)
class Table:
  """The rules of one network and layout.

  Attributes:
    rules: one for each layer of ours.
    layers: the layers of the source that hold weights, in the source network's order: {layer: its name}.
    aliases: other names of these layers, in files that were published: {alias: name}.
  """

  rules: tuple[Rule, ...]
  layers: Mapping[str, str]
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Layer(NamedTuple):
  """One of our layers and the layers of the source that it is made of.

  Attributes:
    target: our layer's name.
    name: the source's convolution or dense layer; empty for a batch norm alone.
    norm: the batch norm after it; empty where there is none.
    kind: the class of `name` in Keras, as its files spell it.
    has_bias: whether `name` has a bias.
  """

  target: str
  name: str = ""
  norm: str = ""
  kind: str = "conv2d"
  has_bias: bool = False


def make_table(layers: Sequence[Layer], layout: str, epsilon: float = 0.0, aliases: Mapping[str, str] | None = None) -> Table:
  """The table of a network in a layout.

  Args:
    layers: in the source network's order.
    layout: one of `LAYOUTS`.
    epsilon: what the network's batch norms add to a variance.
    aliases: other names of the source's layers, {alias: name}; those of layers that it lacks are left out.
  """
  groups = _number_groups(layers) if layout == KERAS3 else {name: name for name, _ in _list_sources(layers)}

  def key(name: str, kind: str) -> str:
    return f"{groups[name]}/{_PLACES[kind] if layout == KERAS3 else kind}"

  rules = tuple(_make_rule(layer, key, epsilon) for layer in layers)
  known = {alias: name for alias, name in (aliases or {}).items() if name in groups}
  return Table(rules, {group: name for name, group in groups.items()}, known)


def _list_sources(layers: Sequence[Layer]) -> Iterator[tuple[str, str]]:
  """Each layer of the source that holds weights, in order: its name, and its class as Keras 3 spells it in files."""
  for layer in layers:
    if layer.name:
      yield layer.name, layer.kind
    if layer.norm:
      yield layer.norm, "batch_normalization"


def _number_groups(layers: Sequence[Layer]) -> dict[str, str]:
  """The group of each layer of the source in a file of Keras 3, which counts the layers of each class."""
  counts: collections.Counter[str] = collections.Counter()
  groups: dict[str, str] = {}
  for name, kind in _list_sources(layers):
    number = f"_{counts[kind]}" if counts[kind] else ""
    groups[name] = f"layers/{kind}{number}/vars"
    counts[kind] += 1
  return groups


_PLACES = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}
"""The index of each weight in its layer in a file of Keras 3."""


def _make_rule(layer: Layer, key: Callable[[str, str], str], epsilon: float) -> Rule:
  """The rule of a layer; `key` gives the key of a weight by its layer's name and its kind."""
  kernel = key(layer.name, "kernel") if layer.name else ""
  bias = key(layer.name, "bias") if layer.has_bias else ""
  kinds = ("gamma", "beta", "moving_mean", "moving_variance")
  norm = Normalization(*(key(layer.norm, kind) for kind in kinds)) if layer.norm else None
  return Rule(layer.target, kernel, norm, epsilon, layer.kind == "depthwise_conv2d", bias)
