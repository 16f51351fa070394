"""Which weight of a file is which parameter of a network: one table for each network and layout.

A key reads "LAYER/WEIGHT". A layer has its name in the file and a weight its kind: "bn_Conv1/gamma". Only in `keras3` (Keras
3's `model.save_weights`) layers are numbered by class, in the model's order, and weights by place: "layers/conv2d_4/vars/0".
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from cwf_jax.conversion.files import FROM_PYTHON, ConversionError
from cwf_jax.conversion.rules import Affine, Convolution, Normalization, Rule

KERAS_H5, KERAS3, KERAS1_THEANO, KERAS1_TENSORFLOW, CAFFE, TORCH, SAFETENSORS, NPZ = LAYOUTS = (
  "keras-h5", "keras3", "keras1-theano", "keras1-tensorflow", "caffe", "torch", "safetensors", "npz",
)  # fmt: skip
"""The layouts that are read."""

KERAS_LAYOUTS = LAYOUTS[:4]

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


class _Layer(NamedTuple):
  """One of our layers and the layers of the source that it is made of: `kind` is a class of Keras; `norm` may be empty."""

  target: str
  kind: str
  name: str
  norm: str


@dataclasses.dataclass(frozen=True)
class _Network:
  """A network as it was published: its layers, what its batch norms add to a variance, and other names of its layers."""

  layers: tuple[_Layer, ...]
  aliases: Mapping[str, str]
  epsilon: float = 0.0
  layouts: tuple[str, ...] = KERAS_LAYOUTS


def find_tables(network_name: str) -> Mapping[str, Table]:
  """The tables of a network by layout.

  Raises:
    ConversionError: no foreign files are known for it.
  """
  if network_name not in NETWORKS:
    raise ConversionError(f"no file of {network_name} is read, only those of {', '.join(NETWORKS)}; {FROM_PYTHON}")
  network = NETWORKS[network_name]()
  by_name = _by_name(network)
  return {layout: _by_number(network) if layout == KERAS3 else by_name for layout in network.layouts}


def check_layout(layout: str) -> None:
  """Refuses a layout that is neither one that is read nor "auto".

  Raises:
    ConversionError: it is neither.
  """
  if layout not in (AUTO, *LAYOUTS):
    raise ConversionError(f"no layout is named {layout!r}; there are: {AUTO}, {', '.join(LAYOUTS)}")


def _by_name(network: _Network) -> Table:
  rules = _make_rules(network, lambda name, kind: f"{name}/{kind}")
  return Table(rules, {name: name for name, _ in _source_layers(network)}, network.aliases)


def _by_number(network: _Network) -> Table:
  counts: collections.Counter[str] = collections.Counter()
  groups: dict[str, str] = {}
  for name, kind in _source_layers(network):
    number = f"_{counts[kind]}" if counts[kind] else ""
    groups[name] = f"layers/{kind}{number}/vars"
    counts[kind] += 1
  rules = _make_rules(network, lambda name, kind: f"{groups[name]}/{_PLACES[kind]}")
  return Table(rules, {group: name for name, group in groups.items()}, network.aliases)


_PLACES = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}
"""Where in its layer Keras 3 keeps each weight."""


def _source_layers(network: _Network) -> Iterator[tuple[str, str]]:
  """Each layer of the source that holds weights, in order: its name, and its class as Keras 3 spells it in files."""
  for layer in network.layers:
    yield layer.name, layer.kind
    if layer.norm:
      yield layer.norm, "batch_normalization"


def _make_rules(network: _Network, key: Callable[[str, str], str]) -> tuple[Rule, ...]:
  """One rule a layer; `key` gives the key of a layer's weight, by the layer's name and the weight's kind."""
  rules: list[Rule] = []
  for layer in network.layers:
    kernel = key(layer.name, "kernel")
    if layer.norm:
      norm = Normalization(*(key(layer.norm, kind) for kind in ("gamma", "beta", "moving_mean", "moving_variance")))
      rules.append(Convolution(layer.target, kernel, norm, network.epsilon, layer.kind == "depthwise_conv2d"))
    else:
      rules.append(Affine(layer.target, kernel, key(layer.name, "bias")))
  return tuple(rules)


def _mobilenet_v2() -> _Network:
  """`keras.applications.MobileNetV2`, and the names of its layers in the file that Keras publishes, from 2018."""
  layers = [_Layer("conv1", "conv2d", "Conv1", "bn_Conv1"), *_mobilenet_v2_blocks()]
  layers += [_Layer("cam", "conv2d", "Conv_1", "Conv_1_bn"), _Layer("classifier", "dense", "predictions", "")]
  aliases = {"Logits": "predictions"}
  for layer in layers:
    block, _, part = layer.target.partition("_")
    if part:
      number = block.removeprefix("block")
      aliases[f"mobl{number}_conv_{number}_{part}"] = layer.name
      aliases[f"bn{number}_conv_{number}_bn_{part}"] = layer.norm
  return _Network(tuple(layers), aliases, epsilon=1e-3)


def _mobilenet_v2_blocks() -> Iterator[_Layer]:
  for number in range(17):
    prefix = f"block_{number}" if number else "expanded_conv"
    for part in ("expand", "depthwise", "project") if number else ("depthwise", "project"):
      kind = "depthwise_conv2d" if part == "depthwise" else "conv2d"
      yield _Layer(f"block{number}_{part}", kind, f"{prefix}_{part}", f"{prefix}_{part}_BN")


def _vgg16_cam() -> _Network:
  """VGG-16-CAM in the names of Caffe's release, of the authors' Keras 1, of Keras Applications and of torchvision."""
  layers: list[_Layer] = []
  aliases = {"cam": "CAM_conv", "CAM_relu": "CAM_conv", "cam_conv": "CAM_conv"}
  aliases |= {"classifier": "CAM_fc", "predictions": "CAM_fc"}
  place = 0  # in torchvision, which counts ReLUs and pools too
  for block, depth in enumerate((2, 2, 3, 3, 3), 1):
    for number in range(1, depth + 1):
      name = f"conv{block}_{number}"
      layers.append(_Layer(name, "conv2d", name, ""))
      aliases |= dict.fromkeys((f"relu{block}_{number}", f"block{block}_conv{number}", f"features.{place}"), name)
      place += 2
    place += 1
  layers += [_Layer("cam", "conv2d", "CAM_conv", ""), _Layer("classifier", "dense", "CAM_fc", "")]
  return _Network(tuple(layers), aliases, layouts=LAYOUTS)


NETWORKS: Mapping[str, Callable[[], _Network]] = {"mobilenet_v2": _mobilenet_v2, "vgg16_cam": _vgg16_cam}
"""The networks of which files are read."""
