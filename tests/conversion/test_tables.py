"""The tables are complete, without a repetition, and know every name that publishers use."""

import h5py
import numpy as np
import pytest

from cwf_jax.conversion import published, reading, sources
from cwf_jax.conversion.files import list_datasets
from cwf_jax.conversion.rules import Rule
from cwf_jax.models.densenet import DenseNetConfig
from cwf_jax.models.resnet50 import ResNet50Config
from cwf_jax.models.vgg import VGGConfig
from tests.conversion.foreign import REAL, write_keras_h5
from tests.conversion.foreign_vgg16_cam import write_npz, write_torch

NARROW = {
  "vgg16": VGGConfig(widths=(8, 9, 10, 11, 12), classifier_channels=5, num_classes=6),
  "resnet50": ResNet50Config(False, VGGConfig().preprocessing, conv1_channels=3, widths=(1, 2, 3, 4), num_classes=6),
  "densenet121": DenseNetConfig(growth=1, depths=(6, 12, 24, 16), conv1_channels=4, num_classes=6),
}
"""Networks with the published layers and few channels."""


@pytest.mark.parametrize("name", published.NETWORKS)
def test_every_parameter_has_one_rule_and_every_weight_one_use(name):
  shapes = published.list_shapes(name)
  for layout, forms in published.find_tables(name).items():
    for place, table in enumerate(forms):
      targets = [rule.target for rule in table.rules]
      assert len(set(targets)) == len(targets)
      assert set(targets) == set(shapes) - (set() if place == 0 else {"fc6", "fc7", "classifier"})
      keys = [key for rule in table.rules for key in rule.sources(shapes[rule.target])]
      assert len(keys) == len(set(keys)) and {key.rpartition("/")[0] for key in keys} == set(table.layers)
      assert set(table.aliases.values()) <= set(table.layers.values()), layout


@pytest.mark.parametrize(
  ("name", "layout", "count"),
  [("mobilenet_v2", "keras-h5", 262), ("resnet50", "keras3", 320), ("resnet50", "torch", 267), ("densenet121", "keras-h5", 606),
   ("densenet161", "torch", 806), ("vgg16", "caffe", 32), ("vgg19", "torch", 38)],
)  # fmt: skip
def test_a_network_has_as_many_arrays_as_its_publisher_counts(name, layout, count):
  """`len(model.weights)` in Keras; in torchvision `len(state_dict())` without `num_batches_tracked`."""
  shapes, table = published.list_shapes(name), published.find_tables(name)[layout][0]
  assert sum(len(rule.sources(shapes[rule.target])) for rule in table.rules) == count


@pytest.mark.parametrize(
  ("name", "layout", "rule"),
  [
    ("mobilenet_v2", "keras-h5", Rule("block2_depthwise", "block_2_depthwise", "block_2_depthwise_BN", 1e-3)),
    ("mobilenet_v2", "keras3", Rule("block1_expand", "layers/conv2d_2/vars", "layers/batch_normalization_3/vars", 1e-3)),
    ("resnet50", "keras-h5", Rule("layer3_5_conv2", "conv4_block6_2_conv", "conv4_block6_2_bn", 1.001e-5)),
    ("resnet50", "torch", Rule("layer2_0_downsample", "layer2.0.downsample.0", "layer2.0.downsample.1", 1e-5)),
    ("densenet161", "torch", Rule("transition3_norm", "", "features.transition3.norm", 1e-5)),
    ("densenet121", "keras-h5", Rule("block4_15_conv2", "conv5_block16_2_conv")),
    ("vgg16", "keras3", Rule("fc6", "layers/dense/vars")),
  ],
)
def test_names_and_numbers_of_layers(name, layout, rule):
  """The layers that a rule reads, and the epsilon of its batch norm; their weights are counted above."""
  (found,) = [found for found in published.find_tables(name)[layout][0].rules if found.target == rule.target]
  assert found.kernel.rpartition("/")[0] == rule.kernel
  assert (found.norm and (found.norm.layer, found.epsilon)) == (rule.norm and (rule.norm, rule.epsilon))


@pytest.mark.parametrize(
  ("name", "layout", "aliases"),
  [
    ("mobilenet_v2", "keras-h5", {"mobl1_conv_1_expand": "block_1_expand", "Logits": "predictions"}),
    ("mobilenet_v2", "keras-h5", {"bn1_conv_1_bn_expand": "block_1_expand_BN"}),
    ("resnet50", "keras-h5", {"conv1": "conv1_conv", "res4f_branch2c": "conv4_block6_3_conv"}),
    ("resnet50", "keras-h5", {"bn2a_branch1": "conv2_block1_0_bn", "fc1000": "predictions"}),
    ("densenet121", "keras-h5", {"conv1/bn": "conv1_bn", "fc1000": "predictions"}),
    ("densenet161", "torch", {"features.denseblock1.denselayer1.norm.2": "features.denseblock1.denselayer1.norm2"}),
    ("vgg19", "torch", {"features.34": "conv5_4", "classifier.3": "fc7"}),
    ("vgg16", "keras1-theano", {"block5_conv1": "conv5_1", "predictions": "fc8"}),
  ],
)
def test_names_in_published_files(name, layout, aliases):
  table = published.find_tables(name)[layout][0]
  assert aliases.items() <= table.aliases.items()


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("is_published", [False, True])
def test_a_file_under_either_name_gives_every_parameter(tmp_path, name, is_published):
  config, shapes = NARROW[name], published.list_shapes(name, NARROW[name])
  known = published.find_tables(name)
  generator = np.random.default_rng(0)
  for layout, writer in (("keras-h5", write_keras_h5), ("torch", _write_state)):
    table = known[layout][0]
    names = {layer: alias for alias, layer in table.aliases.items()} if is_published else {}
    arrays = {
      key: generator.uniform(0.1, 1, shape).astype(np.float32)
      for rule in table.rules
      for key, shape in rule.sources(shapes[rule.target]).items()
    }
    layers = {}
    for key, array in arrays.items():
      layer, _, kind = key.rpartition("/")
      layers.setdefault(names.get(layer, layer), {})[kind] = array
    read = reading.read(writer(tmp_path / f"{layout}.h5x", layers), known, "auto", shapes)
    assert read.matched.problems.list_all() == read.matched.notes == []
    found = sources.apply_table(table, read.matched)
    parts = {rule.target: "kernel" if rule.kernel else "scale" for rule in table.rules}
    assert set(found) == {f"{target}/{kind}" for target in shapes for kind in ("bias", parts[target])}
    for rule in table.rules:
      for path, array in rule.apply(arrays).items():
        np.testing.assert_array_equal(found[path], array.astype(np.float32))
    assert published.find_published(name, layout)[read.form].config.num_classes == 1000, config


def _write_state(path, layers):
  """As PyTorch does, with dense kernels [out in] whose inputs are a map's cells channel by channel."""
  state = {}
  kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
  for layer, arrays in layers.items():
    is_dense = layer.startswith(("fc", "classifier"))
    for kind, array in arrays.items():
      if kind == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        array = array.reshape(len(array), -1) if is_dense else array
      state[f"{layer}.{kinds.get(kind, kind).replace('kernel', 'weight')}"] = np.ascontiguousarray(array)
    if "moving_mean" in arrays:
      state[f"{layer}.num_batches_tracked"] = np.asarray(3)
  return write_torch(path, state)


def test_the_inputs_of_a_flattened_map_are_sorted_cell_by_cell(tmp_path):
  """fc6 over a map of 7x7 cells in our own order; PyTorch's, channel by channel, is in the test above."""
  shapes = published.list_shapes("vgg16", NARROW["vgg16"])
  kernel = np.arange(7 * 7 * 12 * 5, dtype=np.float32).reshape(7, 7, 12, 5)
  kernels = {layer: np.zeros(shape, np.float32) for layer, shape in shapes.items()} | {"fc6": kernel}
  state = {}
  for layer, values in kernels.items():
    name = layer if layer != "classifier" else "fc8"
    state[f"{name}/kernel"] = values.reshape(-1, values.shape[-1]) if layer.startswith("fc") else values
    state[f"{name}/bias"] = np.zeros(values.shape[-1], np.float32)
  read = reading.read(write_npz(tmp_path / "x.npz", state), published.find_tables("vgg16"), "auto", shapes)
  assert read.matched.problems.list_all() == []
  np.testing.assert_array_equal(read.matched.arrays["fc6/kernel"], kernel)


@pytest.mark.parametrize("layout", REAL)
def test_the_real_files_hold_these_weights_and_no_other(layout):
  if not REAL[layout].exists():
    pytest.skip("the project's data pack (shared/data/weights) is not here")
  with h5py.File(REAL[layout]) as file:
    found = {path: dataset.shape for path, dataset in list_datasets(file).items()}
  shapes, expected = published.list_shapes("mobilenet_v2"), {}
  for rule in published.find_tables("mobilenet_v2")[layout][0].rules:
    expected |= rule.sources(shapes[rule.target])
  if layout == "keras-h5":
    found = {path.split("/", 1)[1].replace("depthwise_kernel", "kernel").removesuffix(":0"): found[path] for path in found}
  assert found == expected
