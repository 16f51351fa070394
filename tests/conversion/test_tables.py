"""The tables are complete, without a repetition, and list the same weights in every layout."""

import h5py
import pytest

from cwf_jax.conversion import tables
from cwf_jax.conversion.files import ConversionError, list_datasets
from cwf_jax.conversion.rules import Affine
from cwf_jax.models import parameters, registry
from tests.conversion.foreign import REAL

TABLES = tables.find_tables("mobilenet_v2")
WRITTEN = (tables.KERAS_H5, tables.KERAS3)
"""Layouts with tables of their own; the others share the first one's."""


@pytest.fixture(scope="module")
def shapes():
  listed = parameters.list_parameters(registry.build_abstract("mobilenet_v2"))
  return {path.removesuffix("/kernel"): leaf.shape for path, leaf in listed.items() if path.endswith("/kernel")}


def _expected(table, shapes):
  found = {}
  for rule in table.rules:
    found |= rule.sources(shapes[rule.target])
  return found


@pytest.mark.parametrize("layout", WRITTEN)
def test_every_parameter_has_one_rule_and_every_weight_one_use(layout, shapes):
  table = TABLES[layout]
  assert [rule.target for rule in table.rules] == list(dict.fromkeys(rule.target for rule in table.rules))
  assert {rule.target for rule in table.rules} == set(shapes)
  keys = [key for rule in table.rules for key in rule.sources(shapes[rule.target])]
  assert len(keys) == len(set(keys)) == 262  # arrays of `keras.applications.MobileNetV2().weights`
  assert len(table.layers) == 105 and {key.rpartition("/")[0] for key in keys} == set(table.layers)


def test_the_layouts_hold_the_same_weights(shapes):
  first, second = (list(_expected(TABLES[layout], shapes).values()) for layout in WRITTEN)
  assert first == second
  assert list(TABLES["keras3"].layers.values()) == list(TABLES["keras-h5"].layers)


@pytest.mark.parametrize(
  ("target", "kernel", "mean"),
  [
    ("conv1", "Conv1/kernel", "bn_Conv1/moving_mean"),
    ("block0_depthwise", "expanded_conv_depthwise/kernel", "expanded_conv_depthwise_BN/moving_mean"),
    ("block7_expand", "block_7_expand/kernel", "block_7_expand_BN/moving_mean"),
    ("block16_project", "block_16_project/kernel", "block_16_project_BN/moving_mean"),
    ("cam", "Conv_1/kernel", "Conv_1_bn/moving_mean"),
  ],
)
def test_names_of_keras_h5(target, kernel, mean):
  (rule,) = [rule for rule in TABLES["keras-h5"].rules if rule.target == target]
  assert (rule.kernel, rule.norm.mean, rule.epsilon) == (kernel, mean, 1e-3)
  assert rule.depthwise == target.endswith("depthwise")


@pytest.mark.parametrize(
  ("target", "kernel", "mean"),
  [
    ("conv1", "layers/conv2d/vars/0", "layers/batch_normalization/vars/2"),
    ("block0_depthwise", "layers/depthwise_conv2d/vars/0", "layers/batch_normalization_1/vars/2"),
    ("block0_project", "layers/conv2d_1/vars/0", "layers/batch_normalization_2/vars/2"),
    ("block1_expand", "layers/conv2d_2/vars/0", "layers/batch_normalization_3/vars/2"),
    ("block1_depthwise", "layers/depthwise_conv2d_1/vars/0", "layers/batch_normalization_4/vars/2"),
    ("cam", "layers/conv2d_34/vars/0", "layers/batch_normalization_51/vars/2"),
  ],
)
def test_numbers_of_keras3(target, kernel, mean):
  (rule,) = [rule for rule in TABLES["keras3"].rules if rule.target == target]
  assert (rule.kernel, rule.norm.mean) == (kernel, mean)
  assert TABLES["keras3"].rules[-1] == Affine("classifier", "layers/dense/vars/0", "layers/dense/vars/1")


def test_the_published_file_names_every_layer_once():
  aliases = TABLES["keras-h5"].aliases
  assert aliases["mobl1_conv_1_expand"] == "block_1_expand" and aliases["bn1_conv_1_bn_expand"] == "block_1_expand_BN"
  assert aliases["mobl0_conv_0_depthwise"] == "expanded_conv_depthwise" and aliases["Logits"] == "predictions"
  same = {"Conv1", "bn_Conv1", "Conv_1", "Conv_1_bn"}
  assert sorted([*aliases.values(), *same]) == sorted(TABLES["keras-h5"].layers)


@pytest.mark.parametrize("layout", WRITTEN)
def test_the_real_files_hold_these_weights_and_no_other(layout, shapes):
  if not REAL[layout].exists():
    pytest.skip("the project's data pack (shared/data/weights) is not here")
  with h5py.File(REAL[layout]) as file:
    found = {path: dataset.shape for path, dataset in list_datasets(file).items()}
  expected = _expected(TABLES[layout], shapes)
  if layout == "keras-h5":
    found = {path.split("/", 1)[1].replace("depthwise_kernel", "kernel").removesuffix(":0"): found[path] for path in found}
  assert found == expected


def test_what_is_not_there_is_named():
  with pytest.raises(ConversionError, match="no file of vgg16_cam_small is read, only those of mobilenet_v2, vgg16_cam"):
    tables.find_tables("vgg16_cam_small")
  with pytest.raises(ConversionError, match="no layout is named 'onnx'; there are: auto, keras-h5, keras3"):
    tables.check_layout("onnx")
