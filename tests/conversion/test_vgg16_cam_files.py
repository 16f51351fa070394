"""The paper's network from every kind of published file, compared with the plain parameters and with a NumPy forward."""

import io
import random
import zipfile

import h5py
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from cwf_jax.conversion import published, reading, sources
from cwf_jax.conversion.convert import read_network
from cwf_jax.conversion.files import ConversionError
from cwf_jax.models import parameters, registry
from tests.conversion import foreign_vgg16_cam as foreign
from tests.conversion.foreign import write_keras_h5
from tests.conversion.foreign_vgg16_cam import CAFFE, KERAS1, KERNELS, LAYERS, renamed, to_state

TABLES = published.find_tables("vgg16_cam")


def _read(path, layout="auto"):
  return reading.read(path, TABLES, layout, KERNELS)


def _parameters(found):
  return sources.apply_table(TABLES[found.layout][found.form], found.matched)


def _assert_same(found, weights):
  assert found.matched.problems.list_all() == []
  ours = _parameters(found)
  assert set(ours) == set(foreign.SHAPES)
  for layer, (kernel, bias) in weights.items():
    np.testing.assert_array_equal(ours[f"{layer}/kernel"], kernel)
    np.testing.assert_array_equal(ours[f"{layer}/bias"], bias)


@pytest.mark.parametrize("kind", foreign.WRITERS)
def test_every_kind_gives_the_same_parameters(tmp_path, kind):
  weights = foreign.draw()
  found = _read(foreign.WRITERS[kind](tmp_path / "x.h5x", weights))
  expected = {"keras03": "keras1-theano", "keras": "keras3", "caffe-v1": "caffe", "torch-legacy": "torch"}
  assert found.layout == expected.get(kind, kind)
  assert found.is_turn_known == (kind not in ("keras03", "keras1-theano", "keras1-tensorflow"))
  _assert_same(found, weights)


def test_the_names_of_the_authors_are_matched_by_order(tmp_path):
  found = _read(foreign.write_keras1(tmp_path / "x.h5", renamed(foreign.draw(), KERAS1)))
  assert found.matched.notes == [
    "kernels lie as [out in rows columns] and are turned by 180 degrees: read as Theano writes them",
    "layers are matched by their order, since some have other names: convolution2d_4 for conv1_1, convolution2d_5 for conv1_2, "
    "convolution2d_6 for conv2_1 and 9 more",
  ]


def test_layers_of_the_authors_in_another_order_are_refused(tmp_path):
  names = list(KERAS1)
  names[10], names[12] = names[12], names[10]
  found = _read(foreign.write_keras1(tmp_path / "x.h5", renamed(foreign.draw(), names)))
  assert found.matched.problems.list_all() == [
    "the layer relu5_3 is where conv5_1 is expected",
    "the layer relu5_1 is where conv5_3 is expected",
  ]


@pytest.mark.parametrize(
  ("order", "backend", "layout"),
  [("theano", "theano", "keras1-theano"), ("unturned", "tensorflow", "keras1-tensorflow")],
)
def test_a_stated_backend_says_whether_kernels_are_turned(tmp_path, order, backend, layout):
  weights = foreign.draw()
  path = foreign.write_keras1(tmp_path / "x.h5", renamed(weights, LAYERS), order, backend=backend)
  found = _read(path)
  assert (found.layout, found.is_turn_known) == (layout, True)
  _assert_same(found, weights)
  (other,) = {"keras1-theano", "keras1-tensorflow"} - {layout}
  with pytest.raises(ConversionError, match=f"is of the layout {layout}, not {other}"):
    _read(path, other)


def test_a_stated_layout_decides_where_the_file_does_not_say(tmp_path):
  weights = foreign.draw()
  path = foreign.write_keras1(tmp_path / "x.h5", renamed(weights, LAYERS), "unturned")
  found = _read(path, "keras1-tensorflow")
  assert not found.is_turn_known
  _assert_same(found, weights)


def test_the_file_of_a_whole_model_of_keras2_is_read(tmp_path):
  weights = foreign.draw()
  names = [layer.replace("conv", "block").replace("_", "_conv") for layer in LAYERS[:-2]] + ["cam_conv", "predictions"]
  found = _read(write_keras_h5(tmp_path / "x.h5", foreign.name_kinds(renamed(weights, names)), root="model_weights"))
  assert found.matched.notes == []
  _assert_same(found, weights)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_convolution_in_groups_becomes_a_dense_one(tmp_path, is_old):
  weights = foreign.draw()
  kernel, bias = weights["cam"]
  kernel = np.stack([kernel[:, :, :4, :4], kernel[:, :, 4:, 4:]])
  dense = np.zeros_like(weights["cam"][0])
  for row, column in np.ndindex(3, 3):
    dense[row, column, :4, :4], dense[row, column, 4:, 4:] = kernel[0, row, column], kernel[1, row, column]
  in_groups = renamed({**weights, "cam": (np.concatenate(kernel, -1), bias)}, CAFFE)
  found = _read(foreign.write_caffe(tmp_path / "x", in_groups, is_old, groups={"CAM_conv": 2}))
  _assert_same(found, {**weights, "cam": (dense, bias)})


def test_groups_that_do_not_divide_the_channels_are_refused(tmp_path):
  weights = foreign.draw()
  weights["cam"] = weights["cam"][0][:, :, :1], weights["cam"][1]
  path = foreign.write_caffe(tmp_path / "x", renamed(weights, CAFFE), groups={"CAM_conv": 8})
  assert not _read(path).matched.problems
  path = foreign.write_caffe(tmp_path / "x", renamed(weights, CAFFE), groups={"CAM_conv": 2**31})
  assert _read(path).matched.problems.list_all() == [f"CAM_conv/0 is (3, 3, {2**31}, 8), expected (3, 3, 8, 8)"]


def test_caffe_in_double_precision_and_without_a_bias(tmp_path):
  weights = foreign.draw()
  found = _read(foreign.write_caffe(tmp_path / "x", renamed(weights, CAFFE), is_double=True, without_bias=("CAM_fc",)))
  assert found.matched.notes == ["layers without a bias, which is zero: CAM_fc"]
  _assert_same(found, {**weights, "classifier": (weights["classifier"][0], np.zeros(6, np.float32))})


@pytest.mark.parametrize(
  "names",
  [
    LAYERS,
    CAFFE,
    [f"module.{layer}" for layer in CAFFE],
    [f"_orig_mod.model.features.{layer}" for layer in CAFFE],
    [f"features.{place}" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)] + ["cam", "classifier"],
    [f"net.{2 * number}" for number in range(15)],
  ],
)
@pytest.mark.parametrize("writer", [foreign.write_torch, foreign.write_safetensors, foreign.write_npz])
def test_names_of_a_state_dict(tmp_path, names, writer):
  weights = foreign.draw()
  found = _read(writer(tmp_path / "x", to_state(renamed(weights, names))))
  assert bool(found.matched.notes) == (names[0] == "net.0")
  _assert_same(found, weights)


@pytest.mark.parametrize("kind", foreign.WRITERS)
def test_a_classifier_of_other_classes_is_named(tmp_path, kind):
  weights = foreign.draw()
  kernel, bias = weights["classifier"]
  path = foreign.WRITERS[kind](tmp_path / "x", {**weights, "classifier": (kernel[:, :4], bias[:4])})
  assert _read(path).matched.problems.list_all() == ["it has 4 classes; only files of ImageNet's 6 are read"]


@pytest.mark.parametrize("writer", [foreign.write_torch, foreign.write_npz, foreign.write_keras3])
def test_a_file_without_a_classifier_is_named(tmp_path, writer):
  weights = foreign.draw()
  del weights["classifier"]
  path = writer(tmp_path / "x", weights if writer is foreign.write_keras3 else to_state(weights))
  assert _read(path).matched.problems.list_all() == [
    "it has no classifier (include_top=False in Keras); the complete file is needed"
  ]


@pytest.mark.parametrize("options", [{"order": "big"}, {"wrapper": "state_dict"}, {"wrapper": "model"}])
def test_other_forms_of_a_state_dict(tmp_path, options):
  weights = foreign.draw()
  _assert_same(_read(foreign.write_torch(tmp_path / "x", to_state(weights), **options)), weights)


@pytest.mark.parametrize("writer", [foreign.write_safetensors, foreign.write_npz])
def test_our_own_paths_are_names_too(tmp_path, writer):
  weights = foreign.draw()
  arrays = {f"{layer}/kernel": kernel for layer, (kernel, _) in weights.items()}
  arrays |= {f"{layer}/bias": bias for layer, (_, bias) in weights.items()}
  _assert_same(_read(writer(tmp_path / "x", arrays)), weights)


@pytest.mark.parametrize("writer", [foreign.write_torch, foreign.write_safetensors])
def test_bfloat16_is_read(tmp_path, writer):
  weights = {layer: tuple(array.astype(ml_dtypes.bfloat16) for array in pair) for layer, pair in foreign.draw().items()}
  _assert_same(reading.read_apart(writer(tmp_path / "x", to_state(weights)), TABLES, "auto", KERNELS), weights)


def _convolve_turned(maps, kernel, bias):
  """Convolution as mathematics and Theano have it, the kernel [out in rows columns] running backward; then ReLU."""
  height, width, _ = maps.shape
  padded = np.pad(maps, ((1, 1), (1, 1), (0, 0)))
  out = np.zeros((height, width, len(bias)))
  for row, column, channel in np.ndindex(height, width, len(bias)):
    total = bias[channel].astype(float)
    for i, j in np.ndindex(3, 3):
      total += padded[row + 2 - i, column + 2 - j] @ kernel[channel, :, i, j]
    out[row, column, channel] = max(total, 0)
  return out


def test_turned_kernels_compute_what_theano_computes(tmp_path):
  """A NumPy forward with the kernels as the file has them, against the converted network."""
  weights = foreign.draw()
  path = foreign.write_keras03(tmp_path / "x.h5", weights)
  image = np.random.default_rng(1).normal(size=(32, 48, 3))
  maps, block = image, "1"
  for layer in LAYERS[:-1]:
    if layer.startswith("conv") and layer[4] != block:
      block = layer[4]
      height, width, channels = maps.shape
      maps = maps.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))
    kernel, bias = weights[layer]
    maps = _convolve_turned(maps, foreign._theano(kernel), bias)
  kernel, bias = weights["classifier"]
  expected = maps.mean((0, 1)) @ kernel + bias
  network = parameters.with_parameters(registry.build_abstract("vgg16_cam", foreign.CONFIG), _parameters(_read(path)))
  found = network(jnp.asarray(image[None], jnp.float32), jnp.asarray([[32, 48]], jnp.int32))
  np.testing.assert_allclose(jax.device_get(found.cam_features[0]), maps, rtol=1e-4, atol=1e-5)  # float32, 14 layers
  np.testing.assert_allclose(jax.device_get(found.logits[0]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", foreign.WRITERS)
def test_a_file_cut_off_is_refused_by_name(tmp_path, kind):
  content = foreign.WRITERS[kind](tmp_path / "x.h5x", foreign.draw()).read_bytes()
  path = tmp_path / "cut"
  for size in [0, 1, 9, 600, len(content) // 2, len(content) - 1]:
    path.write_bytes(content[:size])
    try:
      problems = _read(path).matched.problems
    except ConversionError as error:
      assert str(path) in str(error) and "\n" not in str(error)
    else:
      assert problems and kind in ("caffe", "caffe-v1")


@pytest.mark.parametrize("kind", foreign.WRITERS)
def test_another_network_is_refused_in_one_sentence(tmp_path, kind):
  weights = {layer: (np.ones(2 * np.asarray(kernel.shape), np.float32), np.ones(2 * bias.size, np.float32))
             for layer, (kernel, bias) in foreign.draw().items()}  # fmt: skip
  path = foreign.WRITERS[kind](tmp_path / "x.h5x", weights)
  with pytest.raises(ConversionError, match=r"is of another network: .* none of these agree"):
    _read(path)


def _damage(content, generator):
  content = bytearray(content)
  for _ in range(generator.choice((1, 1, 2, 8))):
    place = generator.randrange(len(content))
    if generator.random() < 0.5:  # where the structure is
      place = generator.choice((place % 4096, len(content) - 1 - place % 2048)) % len(content)
    content[place] = generator.choice((content[place] ^ 1 << generator.randrange(8), generator.randrange(256), 0, 255))
  return bytes(content[: generator.randrange(len(content))] if generator.random() < 0.1 else content)


def _fuzz(kind, folder, count, seed, patience):
  content, generator = foreign.WRITERS[kind](folder / "whole.h5x", foreign.draw()).read_bytes(), random.Random(seed)
  path = folder / "damaged"
  refused = 0
  for _ in range(count):
    path.write_bytes(_damage(content, generator))
    try:
      refused += bool(reading.read_apart(path, TABLES, "auto", KERNELS, patience).matched.problems)
    except ConversionError as error:
      assert "\n" not in str(error)
      refused += 1
  return refused


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.long) for kind in foreign.WRITERS])
def test_many_wrong_bytes_are_survived(tmp_path, kind):
  assert _fuzz(kind, tmp_path, 500, seed=1, patience=10) > 20


@pytest.mark.parametrize("kind", foreign.WRITERS)
def test_wrong_bytes_are_survived(tmp_path, kind):
  _fuzz(kind, tmp_path, 3, seed=0, patience=20)


def test_an_array_that_is_far_too_large_for_its_file_is_refused(tmp_path):
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**36,)})
  with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
    archive.writestr("conv1_1.weight.npy", header.getvalue())
  with pytest.raises(ConversionError, match=r"x\.npz cannot be read, it is damaged: Unable to allocate 256"):
    reading.read_apart(tmp_path / "x.npz", TABLES, "auto", KERNELS)


@pytest.mark.parametrize("network", ["vgg16_cam", "vgg16", "mobilenet_v2"])
def test_a_file_of_another_network_names_it(tmp_path, network):
  layers = published.find_tables("vgg19")["torch"][0].layers
  state = {f"module.{layer}.weight": np.ones((2, 2), np.float32) for layer in layers}
  with pytest.raises(ConversionError, match="its layers are those of vgg19; --network=vgg19"):
    read_network(foreign.write_torch(tmp_path / "x", state), network)


def test_a_network_of_which_this_kind_is_not_read_is_named(tmp_path):
  path = foreign.WRITERS["caffe"](tmp_path / "x", foreign.draw())
  with pytest.raises(ConversionError, match="is of the layout caffe; this network is read from: keras-h5, keras3"):
    reading.read(path, published.find_tables("mobilenet_v2"), "auto", KERNELS)


def test_layers_after_a_numbered_network_inside_a_layer_go_on_from_its_numbers(tmp_path):
  """Transfer learning with Keras 3: a CAM convolution and a classifier on top of the convolutions of VGG-16."""
  weights = foreign.draw()
  path = foreign.write_keras3(tmp_path / "x.h5", weights)
  with h5py.File(path, "a") as file:
    file.move("layers", "inner")
    file.move("inner", "layers/functional/layers")
    file.move("layers/functional/layers/conv2d_13", "layers/conv2d")
    file.move("layers/functional/layers/dense", "layers/dense")
  found = _read(path)
  assert found.matched.notes == ["the network lies inside the layer functional"]
  _assert_same(found, weights)
