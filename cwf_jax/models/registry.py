"""The networks by name. Another network is one file beside this one and one line in `NETWORKS`.

    network = build("vgg16_cam_quarter")                         # seeded random weights
    settings = config_to_json(network.config)                    # plain JSON
    config_from_json("vgg16_cam_quarter", settings)              # == network.config
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from flax import nnx

from cwf_jax.errors import InputError, near
from cwf_jax.models import parameters
from cwf_jax.models.densenet import DenseNet, DenseNetConfig
from cwf_jax.models.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from cwf_jax.models.mobilenet_v2 import MobileNetV2, MobileNetV2Config
from cwf_jax.models.network import CamConfig, CamNetwork
from cwf_jax.models.resnet50 import ResNet50, ResNet50Config
from cwf_jax.models.vgg import VGG, VGGConfig
from cwf_jax.models.vgg16_cam import VGG16CAM, VGG16CAMConfig


class Entry(typing.NamedTuple):
  """What a name stands for: a class, called as `network(config, rngs=...)`, and its settings, a frozen dataclass."""

  network: type[CamNetwork]
  config: CamConfig


NETWORKS: Mapping[str, Entry] = types.MappingProxyType(
  {
    "vgg16_cam": Entry(VGG16CAM, VGG16CAMConfig.vgg16()),
    "vgg16_cam_quarter": Entry(VGG16CAM, VGG16CAMConfig.narrow(0.25, image_size=320)),
    "vgg16_cam_small": Entry(VGG16CAM, VGG16CAMConfig.small()),
    "mobilenet_v2": Entry(MobileNetV2, MobileNetV2Config()),
    "vgg16": Entry(VGG, VGGConfig.vgg16()),
    "vgg19": Entry(VGG, VGGConfig.vgg19()),
    "resnet50": Entry(ResNet50, ResNet50Config.torchvision()),
    "densenet121": Entry(DenseNet, DenseNetConfig.densenet121()),
    "densenet161": Entry(DenseNet, DenseNetConfig.densenet161()),
    "efficientnet_lite0": Entry(EfficientNetLite, EfficientNetLiteConfig.lite0()),
    "efficientnet_lite1": Entry(EfficientNetLite, EfficientNetLiteConfig.lite1()),
    "efficientnet_lite2": Entry(EfficientNetLite, EfficientNetLiteConfig.lite2()),
  }
)


VARIABLE_SETTINGS = frozenset({"image_size", "num_classes", "preprocessing", "stride_in_1x1"})
"""The settings in which networks of one name may differ: where their weights come from decides them."""


def network_names() -> tuple[str, ...]:
  """The names that `build` takes."""
  return tuple(NETWORKS)


def find_network(name: str) -> Entry:
  """Looks up a name.

  Raises:
    InputError: there is no such network; the message lists the names.
  """
  if name not in NETWORKS:
    raise InputError(f"no network is named {name!r}; there are: {', '.join(NETWORKS)}{near(name, NETWORKS, '{!r}')}")
  return NETWORKS[name]


def name_network(network: CamNetwork) -> str:
  """The name of a network of such a shape, whatever its `VARIABLE_SETTINGS`; else its class's name."""
  fields = {field.name for field in dataclasses.fields(network.config)} & VARIABLE_SETTINGS
  free = {field: getattr(network.config, field) for field in fields}
  for name, entry in NETWORKS.items():
    if type(network) is entry.network and dataclasses.replace(entry.config, **free) == network.config:
      return name
  return type(network).__name__


def build(name: str, config: CamConfig | None = None, seed: int = 0) -> CamNetwork:
  """Builds a network with random weights that are the same, to the bit, on every machine and device.

  They are drawn on the host as whole numbers, so an index that an accelerator made with random weights is searched with
  the same weights on a laptop. It is faster than running the constructor, too, since nothing is compiled.
  """
  abstract = build_abstract(name, config)
  shapes = parameters.list_parameters(abstract)
  drawn = {path: parameters.draw_parameter(path, leaf.shape, seed) for path, leaf in shapes.items()}
  return parameters.with_parameters(abstract, drawn)


def build_abstract(name: str, config: CamConfig | None = None) -> CamNetwork:
  """The network with shapes in place of arrays, at no cost.

  Args:
    name: of `network_names()`.
    config: settings other than the name's own, of the same class.
  """
  entry = find_network(name)
  settings = entry.config if config is None else config
  return nnx.eval_shape(lambda: entry.network(settings, rngs=nnx.Rngs(0)))


def config_to_json(config: CamConfig) -> dict[str, Any]:
  """A network's settings as plain JSON values; dataclasses become objects, tuples become lists."""
  return {field.name: _to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}


def config_from_json(name: str, settings: Any) -> CamConfig:
  """The reverse of `config_to_json`, for a network's name.

  Raises:
    InputError: a setting is missing, unknown or of the wrong type; all of them are named.
  """
  problems: list[str] = []
  config = _from_json(type(find_network(name).config), settings, "config", problems)
  if problems:
    raise InputError(f"these are no settings of {name}: {'; '.join(problems)}")
  return config


def _to_json(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    return config_to_json(value)
  return [_to_json(item) for item in value] if isinstance(value, tuple) else value


def _from_json(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
  """Reads `value` as a `kind` (a dataclass, a tuple, int, float, bool or str); what is wrong goes into `problems`."""
  if dataclasses.is_dataclass(kind):
    return _dataclass_from_json(kind, value, where, problems)
  if typing.get_origin(kind) is tuple:
    inner = typing.get_args(kind)
    if not isinstance(value, list):
      problems.append(f"{where} is a list, not {value!r}")
      return None
    kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
    if len(kinds) != len(value):
      problems.append(f"{where} has {len(kinds)} values, not {len(value)}")
      return None
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_from_json(inner_kind, item, f"{where}[{i}]", problems) for i, (inner_kind, item) in pairs)
  if kind is float and type(value) is int:
    return float(value)
  if type(value) is not kind:
    problems.append(f"{where} is of type {kind.__name__}, not {value!r}")
  return value


def _dataclass_from_json(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
  if not isinstance(value, dict):
    problems.append(f"{where} is an object, not {value!r}")
    return None
  hints = typing.get_type_hints(kind)
  names = [field.name for field in dataclasses.fields(kind)]
  before = len(problems)
  problems += [f"{where}.{name} is missing" for name in names if name not in value]
  problems += [f"{where}.{name} is unknown" for name in value if name not in names]
  inner = {name: _from_json(hints[name], value[name], f"{where}.{name}", problems) for name in names if name in value}
  if len(problems) > before:
    return None
  try:
    return kind(**inner)
  except ValueError as error:  # the class's own check
    problems.append(f"{where}: {error}")
    return None
