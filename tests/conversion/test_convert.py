"""Files into checkpoints: the real ones, and what is refused before anything is written."""

import dataclasses

import h5py
import numpy as np
import pytest

from cwf_jax.conversion import files, published, self_check, tables
from cwf_jax.conversion.convert import Converted, convert, read_network
from cwf_jax.conversion.files import ConversionError
from cwf_jax.errors import InputError
from cwf_jax.load import load_weights
from cwf_jax.models import parameters, registry
from cwf_jax.models.class_names import ClassList
from tests.conversion.foreign import REAL, draw_weights, write_keras_h5, write_mobilenet_v2
from tests.conversion.foreign_vgg16_cam import LAYERS, write_keras1, write_npz

real = pytest.mark.skipif(
  not all(path.exists() for path in REAL.values()), reason="the project's data pack (shared/data/weights) is not here"
)


@pytest.fixture(scope="module")
def real_readings():
  return [read_network(REAL[layout], "mobilenet_v2") for layout in REAL]


@real
def test_both_real_files_give_the_same_parameters(real_readings):
  first, second = real_readings
  assert (first.layout, second.layout) == tuple(REAL) and first.notes == second.notes == ()
  expected = parameters.describe_arrays(parameters.list_parameters(registry.build_abstract("mobilenet_v2")))
  assert parameters.describe_arrays(first.arrays) == parameters.describe_arrays(second.arrays) == expected
  for path, array in first.arrays.items():
    np.testing.assert_array_equal(array, second.arrays[path])


@real
def test_a_checkpoint_says_where_it_comes_from(tmp_path):
  source = REAL[tables.KERAS_H5]
  converted = convert(source, "mobilenet_v2", tmp_path / "mine", origin={"license": "Apache-2.0"})
  sha256 = files.hash_file(source)
  assert converted == Converted(str(tmp_path / "mine"), "mobilenet_v2", "keras-h5", sha256, converted.notes)
  assert converted.notes[0] == "its input is RGB from -1 to 1 (--preprocessing=symmetric)"
  assert converted.notes[1].startswith("its first class for the photograph chelsea (a cat) is Egyptian cat (0.")
  loaded = load_weights(tmp_path / "mine")
  assert loaded.classes == ClassList.imagenet() and not loaded.is_random
  recorded = {"source": source.name, "source_sha256": sha256, "layout": "keras-h5", "license": "Apache-2.0"}
  assert (recorded | {"notes": list(converted.notes)}).items() <= loaded.metadata.items()
  assert "folded" in loaded.metadata["conversion"] and str(source.parent) not in str(loaded.metadata)
  with pytest.raises(InputError, match="exists already"):
    convert(source, "mobilenet_v2", tmp_path / "mine")


@real
def test_the_published_names_are_taken(tmp_path, real_readings):
  """The names of the file that Keras publishes, which is not here: known by what others wrote about it."""
  aliases = {layer: alias for alias, layer in published.find_tables("mobilenet_v2")["keras-h5"][0].aliases.items()}
  weights = {}
  with h5py.File(REAL[tables.KERAS_H5]) as file:
    for layer in (name.decode() for name in file.attrs["layer_names"]):
      names = [name.decode() for name in file[layer].attrs["weight_names"]]
      if names:
        weights[aliases.get(layer, layer)] = {
          name.rpartition("/")[2].removesuffix(":0"): file[layer][name][()] for name in names
        }
  read = read_network(write_keras_h5(tmp_path / "published.h5", weights), "mobilenet_v2")
  assert (read.layout, read.notes) == ("keras-h5", ())
  for path, array in real_readings[0].arrays.items():
    np.testing.assert_array_equal(read.arrays[path], array)


def test_another_network_is_refused_and_nothing_is_written(tmp_path):
  source = write_keras_h5(tmp_path / "small.h5", draw_weights())
  with pytest.raises(ConversionError, match="is of another network"):
    convert(source, "mobilenet_v2", tmp_path / "out")
  assert [path.name for path in tmp_path.iterdir()] == ["small.h5"]


def test_the_name_of_a_network_is_checked_first(tmp_path):
  with pytest.raises(InputError, match="did you mean 'mobilenet_v2'"):
    convert(tmp_path, "mobilenet_v3", tmp_path / "out")
  with pytest.raises(ConversionError, match=r"cannot convert vgg16_cam_small, only vgg16_cam, vgg16, .*; other"):
    convert(tmp_path, "vgg16_cam_small", tmp_path / "out")


def test_what_is_wrong_with_a_network_names_the_file_and_every_weight(tmp_path):
  source = write_mobilenet_v2(tmp_path / "x.weights.h5", {"layers/conv2d/vars/0": np.inf, "layers/dense/vars/1": np.nan})
  with h5py.File(source, "a") as file:
    del file["layers/conv2d_3/vars/0"]
  with pytest.raises(ConversionError) as caught:
    convert(source, "mobilenet_v2", tmp_path / "out")
  assert str(caught.value) == (
    f"{source} cannot become mobilenet_v2 (keras3): missing: layers/conv2d_3/vars/0 (1, 1, 96, 24); "
    "layers/conv2d/vars/0 holds values that are not finite; layers/dense/vars/1 holds values that are not finite"
  )
  assert not (tmp_path / "out").exists()


def test_what_overflows_in_the_fold_is_refused(tmp_path):
  changes = {"layers/batch_normalization/vars/0": 3e38, "layers/batch_normalization/vars/3": 0.0}
  source = write_mobilenet_v2(tmp_path / "x.weights.h5", changes)
  with pytest.raises(ConversionError, match=r"\(keras3\): conv1/kernel is not finite in float32; conv1/bias is not finite"):
    read_network(source, "mobilenet_v2")


def test_all_problems_go_to_a_file_if_a_message_cannot_hold_them(tmp_path):
  bad = {f"layers/conv2d_{number}/vars/0": np.inf for number in range(1, 6)}
  source = write_mobilenet_v2(tmp_path / "x.weights.h5", bad)
  with h5py.File(source, "a") as file:
    del file["layers/dense/vars/1"]
  report = tmp_path / "out.problems.txt"
  with pytest.raises(ConversionError) as caught:
    convert(source, "mobilenet_v2", tmp_path / "out")
  assert str(caught.value) == (
    f"{source} cannot become mobilenet_v2 (keras3): missing: layers/dense/vars/1 (1000,); "
    "layers/conv2d_1/vars/0 holds values that are not finite; layers/conv2d_2/vars/0 holds values that are not finite; "
    f"layers/conv2d_3/vars/0 holds values that are not finite; and 2 more (all of them are in {report})"
  )
  lines = report.read_text().splitlines()
  assert len(lines) == 6 and lines[0] == "missing: layers/dense/vars/1 (1000,)"
  assert not (tmp_path / "out").exists()


def test_a_file_whose_names_are_not_pytorchs_needs_a_preprocessing(tmp_path, trained):
  weights = {path.replace("/kernel", "_W").replace("/bias", "_b"): array for path, array in trained.items()}
  source = write_npz(tmp_path / "vgg16_weights.npz", weights)
  with pytest.raises(ConversionError, match=r"--preprocessing=NAME says it: caffe .*, rgb_means .RGB less ImageNet"):
    convert(source, "vgg16_cam", tmp_path / "out")
  assert not (tmp_path / "out").exists()
  converted = convert(source, "vgg16_cam", tmp_path / "out", preprocessing="rgb_means")
  assert "its input is RGB less ImageNet's means (--preprocessing=rgb_means)" in converted.notes
  network = load_weights(tmp_path / "out").network
  np.testing.assert_array_equal(network.config.preprocessing.apply(np.full((1, 1, 1, 3), 124))[0, 0, 0],
                                np.float32([124, 124, 124]) - np.float32([123.68, 116.779, 103.939]))  # fmt: skip
  np.testing.assert_array_equal(parameters.list_parameters(network)["conv1_1/kernel"], trained["conv1_1/kernel"])


def _write_keras1(path, arrays, order):
  """Keras 1 without a word of the library below it."""
  weights = {layer: (arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]) for layer in LAYERS}
  return write_keras1(path, weights, order)


@pytest.fixture
def trained(monkeypatch):
  """The parameters of trained weights with the layers of VGG-16-CAM, which `vgg16_cam` stands for meanwhile."""
  loaded = load_weights("vgg16_cam_small")
  entry = registry.Entry(type(loaded.network), loaded.network.config)
  monkeypatch.setattr(registry, "NETWORKS", {**registry.NETWORKS, "vgg16_cam": entry})
  (form,) = published.find_published("vgg16_cam")
  monkeypatch.setitem(published.NETWORKS, "vgg16_cam", lambda: (dataclasses.replace(form, config=loaded.network.config),))
  return {path: np.asarray(array) for path, array in parameters.list_parameters(loaded.network).items()}


def test_kernels_that_are_turned_the_other_way_are_refused(tmp_path, trained):
  source = _write_keras1(tmp_path / "right.h5", trained, "theano")
  converted = convert(source, "vgg16_cam", tmp_path / "right")
  assert converted.layout == "keras1-theano" and not any("warning" in note for note in converted.notes)
  for path, array in parameters.list_parameters(load_weights(tmp_path / "right").network).items():
    np.testing.assert_array_equal(array, trained[path])
  source = _write_keras1(tmp_path / "wrong.h5", trained, "unturned")
  with pytest.raises(ConversionError, match=r"its kernels seem to be turned the other way: .* of 0\.\d+, and of 0\.\d+ with"):
    convert(source, "vgg16_cam", tmp_path / "wrong")
  assert not (tmp_path / "wrong").exists()
  assert convert(source, "vgg16_cam", tmp_path / "named", "keras1-tensorflow").layout == "keras1-tensorflow"
  assert convert(source, "vgg16_cam", tmp_path / "wrong", force=True).layout == "keras1-theano"


def test_turned_kernels_in_the_order_of_tensorflow_are_refused_too(tmp_path, trained):
  """Keras's files named "tf_dim_ordering_th_kernels"."""
  source, report = _write_keras1(tmp_path / "x.h5", trained, "tensorflow turned"), tmp_path / "out.problems.txt"
  report.touch()  # of an earlier call
  with pytest.raises(ConversionError, match="its kernels seem to be turned the other way"):
    convert(source, "vgg16_cam", tmp_path / "out")
  converted = convert(source, "vgg16_cam", tmp_path / "out", "keras1-theano")
  assert converted.notes[0] == "kernels lie as [rows columns in out] and are turned by 180 degrees: read as Theano writes them"
  assert not report.exists()
  for path, array in parameters.list_parameters(load_weights(tmp_path / "out").network).items():
    np.testing.assert_array_equal(array, trained[path])


@pytest.mark.parametrize(
  ("probabilities", "warning"),
  [
    (np.full((3, 10), 0.1), "its first class is the same for three different photographs"),
    (np.full((3, 10), 0.1) + np.eye(3, 10) * 0.01, "its probabilities are flat: the largest for three photographs is 0.11"),
    (np.full((3, 10), np.nan), "its probabilities are not finite"),
    (np.eye(3, 10), None),
  ],
)
def test_probabilities_that_say_nothing_are_reported(probabilities, warning):
  notes = self_check.report_probabilities(probabilities, ClassList.numbered(10))
  assert len(notes) == (1 if warning is None else 2)
  assert warning is None or (notes[1].startswith("warning: ") and warning in notes[1])
