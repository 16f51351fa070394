import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.load import load_weights
from cwf_jax.models import checkpoint, parameters, registry
from cwf_jax.models.class_names import ClassList


def _save(folder, network, **changes):
  settings = {"network_name": "vgg16_cam_quarter", "classes": ClassList.numbered(10)} | changes
  checkpoint.save_checkpoint(folder, network, **settings)
  return folder


def _whitening(channels, dimensions=3):
  generator = np.random.default_rng(0)
  return {
    "mean": generator.normal(size=channels).astype(np.float32),
    "projection": generator.normal(size=(channels, dimensions)).astype(np.float32),
  }


def test_a_checkpoint_comes_back_as_it_was(tiny_network, tmp_path):
  whitening = _whitening(tiny_network.config.feature_channels)
  loaded = load_weights(_save(tmp_path / "mine", tiny_network, whitening=whitening, metadata={"epochs": 3}))
  assert parameters.hash_parameters(loaded.network) == parameters.hash_parameters(tiny_network) == loaded.sha256
  assert loaded.network.config == tiny_network.config
  assert (loaded.name, loaded.network_name, loaded.is_random) == ("mine", "vgg16_cam_quarter", False)
  assert loaded.classes == ClassList.numbered(10)
  assert loaded.metadata == {"epochs": 3}
  for name, array in whitening.items():
    np.testing.assert_array_equal(loaded.whitening[name], array)
  images, sizes = jnp.ones((1, 32, 32, 3)), jnp.array([[32, 32]])
  np.testing.assert_array_equal(loaded.network(images, sizes).logits, tiny_network(images, sizes).logits)


def test_a_checkpoint_is_never_written_over(tiny_network, tmp_path):
  _save(tmp_path / "mine", tiny_network)
  with pytest.raises(InputError, match="exists already"):
    _save(tmp_path / "mine", tiny_network)


def test_a_failed_write_leaves_nothing(tiny_network, tmp_path, monkeypatch):
  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(checkpoint, "_write_arrays", fail)
  with pytest.raises(OSError, match="No space left"):
    _save(tmp_path / "mine", tiny_network)
  assert list(tmp_path.iterdir()) == []


def test_parts_that_do_not_fit_are_refused_when_saving(tiny_network, tmp_path):
  with pytest.raises(InputError, match="3 classes are named, the network has 10"):
    _save(tmp_path / "a", tiny_network, classes=ClassList.numbered(3))
  with pytest.raises(InputError, match="are not"):
    _save(tmp_path / "b", tiny_network, whitening=_whitening(5))
  assert list(tmp_path.iterdir()) == []


def test_missing_and_extra_parameters_are_all_named(tiny_network, tmp_path, monkeypatch):
  whole = parameters.list_parameters(tiny_network)
  arrays = {path: np.asarray(array) for path, array in whole.items() if path not in ("cam/bias", "conv3_1/kernel")}
  arrays |= {"conv9/kernel": np.zeros(3, np.float32), "conv1_1/bias": np.zeros(99, np.float32)}
  folder = _save(tmp_path / "mine", tiny_network)
  monkeypatch.setattr(checkpoint, "_read_arrays", lambda *_: arrays)
  with pytest.raises(checkpoint.CheckpointError) as caught:
    checkpoint.load_checkpoint(folder)
  for text in ("missing parameters: cam/bias, conv3_1/kernel", "extra parameters: conv9/kernel", "conv1_1/bias is", "sha256"):
    assert text in str(caught.value)


def test_changed_arrays_are_noticed(tiny_network, tmp_path):
  folder = _save(tmp_path / "mine", tiny_network)
  content = json.loads((folder / "checkpoint.json").read_text())
  content["sha256"] = "0" * 64
  (folder / "checkpoint.json").write_text(json.dumps(content))
  with pytest.raises(checkpoint.CheckpointError, match="sha256 of the arrays"):
    checkpoint.load_checkpoint(folder)


def _damage_json(folder):
  (folder / "checkpoint.json").write_text("{")


def _drop_json(folder):
  (folder / "checkpoint.json").unlink()


def _drop_arrays(folder):
  import shutil

  shutil.rmtree(folder / "arrays")


def _cut_arrays(folder):
  for path in sorted((folder / "arrays").rglob("*")):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut_whitening(folder):
  path = folder / "whitening.npz"
  path.write_bytes(path.read_bytes()[:40])


def _drop_whitening(folder):
  (folder / "whitening.npz").unlink()


def _other_format(folder):
  content = json.loads((folder / "checkpoint.json").read_text())
  (folder / "checkpoint.json").write_text(json.dumps(content | {"format": 99}))


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (_damage_json, "cannot be read as JSON"),
    (_drop_json, "holds no checkpoint.json"),
    (_drop_arrays, "no folder arrays/"),
    (_cut_arrays, "cannot be read|missing parameters|sha256"),
    (_cut_whitening, "whitening.npz cannot be read"),
    (_drop_whitening, "whitening.npz is missing"),
    (_other_format, "format 99"),
  ],
)
def test_a_damaged_checkpoint_is_refused(tiny_network, tmp_path, damage, message):
  folder = _save(tmp_path / "mine", tiny_network, whitening=_whitening(tiny_network.config.feature_channels))
  damage(folder)
  with pytest.raises(checkpoint.CheckpointError, match=message):
    load_weights(folder)


def test_a_whitening_of_cells_comes_back_and_is_verified(tiny_network, tmp_path):
  arrays = _whitening(tiny_network.config.feature_channels)
  folder = _save(tmp_path / "mine", tiny_network, cell_whitening=arrays)
  loaded = load_weights(folder)
  assert loaded.whitening is None
  np.testing.assert_array_equal(loaded.cell_whitening["projection"], arrays["projection"])
  (folder / "cells.npz").unlink()
  with pytest.raises(checkpoint.CheckpointError, match=r"cells\.npz is missing"):
    load_weights(folder)


def test_a_file_is_named_for_what_it_is(tmp_path):
  path = tmp_path / "weights.h5"
  path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
  with pytest.raises(checkpoint.CheckpointError, match="HDF5"):
    load_weights(path)


def test_weights_are_found_by_name(tiny_network, tmp_path, monkeypatch):
  monkeypatch.setenv("CWF_JAX_HOME", str(tmp_path))
  _save(tmp_path / "tiny", tiny_network)
  monkeypatch.chdir(os.sep)
  assert load_weights("tiny").folder == str(tmp_path / "tiny")
  with pytest.raises(InputError, match="tiny"):
    load_weights("tinny")


def test_random_weights_say_so():
  loaded = load_weights("random:vgg16_cam_quarter")
  assert loaded.is_random
  assert loaded.name == "random:vgg16_cam_quarter"
  assert loaded.classes == ClassList.imagenet()
  with pytest.raises(InputError, match="no network is named"):
    load_weights("random:vgg99")


def test_nothing_in_a_checkpoint_is_a_pickle(tiny_network, tmp_path):
  folder = _save(tmp_path / "mine", tiny_network, whitening=_whitening(tiny_network.config.feature_channels))
  for path in folder.rglob("*"):
    if path.is_file():
      assert not path.read_bytes().startswith(b"\x80"), path


def test_no_file_names_the_folder_that_it_was_saved_in(tiny_network, tmp_path):
  folder = _save(tmp_path / "mine", tiny_network)
  for path in folder.rglob("*"):
    if path.is_file():
      assert str(tmp_path).encode() not in path.read_bytes(), path


def test_the_default_width_has_its_published_shape():
  shapes = parameters.describe_arrays(parameters.list_parameters(registry.build_abstract("vgg16_cam")))
  assert shapes["conv5_1/kernel"] == "float32 (3, 3, 512, 512)"
  assert shapes["cam/kernel"] == "float32 (3, 3, 512, 1024)"
  assert shapes["classifier/kernel"] == "float32 (1024, 1000)"


def _rounded(network):
  """The same network with the values that half precision has."""
  arrays = {path: np.asarray(array) for path, array in parameters.list_parameters(network).items()}
  return parameters.with_parameters(network, {path: a.astype(np.float16).astype(np.float32) for path, a in arrays.items()})


def _size(folder):
  return sum(path.stat().st_size for path in (folder / "arrays").rglob("*") if path.is_file())


def test_half_precision_on_disk_comes_back_rounded_and_in_float32(tiny_network, tmp_path):
  loaded = load_weights(_save(tmp_path / "half", tiny_network, stored="float16"))
  expected = _rounded(tiny_network)
  assert loaded.sha256 == parameters.hash_parameters(expected) == parameters.hash_parameters(loaded.network)
  assert loaded.sha256 != parameters.hash_parameters(tiny_network)
  held = parameters.list_parameters(loaded.network)
  assert {str(array.dtype) for array in held.values()} == {"float32"}
  for path, array in parameters.list_parameters(tiny_network).items():
    # 11 bits of mantissa; below 6e-5 they are fewer
    np.testing.assert_allclose(held[path], array, rtol=2**-11, atol=2**-25)
  content = json.loads((tmp_path / "half" / "checkpoint.json").read_text())
  assert content["stored"] == "float16" and set(content["parameters"]) == set(held)
  assert all(shape.startswith("float32 ") for shape in content["parameters"].values())  # what is loaded


def test_half_precision_takes_half_the_disk(tiny_network, tmp_path):
  whole, half = _save(tmp_path / "whole", tiny_network), _save(tmp_path / "half", tiny_network, stored="float16")
  assert json.loads((whole / "checkpoint.json").read_text())["stored"] == "float32"
  assert _size(half) < 0.6 * _size(whole)


def test_what_was_rounded_once_is_saved_as_it_is(tiny_network, tmp_path):
  first = load_weights(_save(tmp_path / "first", tiny_network, stored="float16"))
  for stored in ("float16", "float32"):
    again = load_weights(_save(tmp_path / stored, first.network, stored=stored))
    assert again.sha256 == first.sha256


@pytest.mark.parametrize("stored", ["bfloat16", "float64", "", None])
def test_another_precision_is_refused(tiny_network, tmp_path, stored):
  with pytest.raises(InputError, match=f"stored as float32 or float16, not {stored!r}"):
    _save(tmp_path / "mine", tiny_network, stored=stored)
  assert list(tmp_path.iterdir()) == []


def test_half_precision_under_another_name_is_refused(tiny_network, tmp_path):
  folder = _save(tmp_path / "mine", tiny_network, stored="float16")
  content = json.loads((folder / "checkpoint.json").read_text())
  for stored in ({"stored": "float32"}, {}):
    (folder / "checkpoint.json").write_text(json.dumps({k: v for k, v in content.items() if k != "stored"} | stored))
    with pytest.raises(checkpoint.CheckpointError, match=r"conv1_1/kernel is float16 .*, the network's is float32"):
      checkpoint.load_checkpoint(folder)


def test_a_checkpoint_of_before_half_precision_is_read(tiny_network, tmp_path):
  folder = _save(tmp_path / "mine", tiny_network)
  content = json.loads((folder / "checkpoint.json").read_text())
  del content["stored"]
  (folder / "checkpoint.json").write_text(json.dumps(content))
  assert checkpoint.load_checkpoint(folder).sha256 == parameters.hash_parameters(tiny_network)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_values_beyond_half_precision_are_refused(tiny_network, tmp_path):
  arrays = {path: np.array(array) for path, array in parameters.list_parameters(tiny_network).items()}
  arrays["cam/bias"][0] = 1e6
  large = parameters.with_parameters(tiny_network, arrays)
  with pytest.raises(InputError, match="cam/bias holds values that are not finite"):
    _save(tmp_path / "mine", large, stored="float16")
  assert list(tmp_path.iterdir()) == []
  assert load_weights(_save(tmp_path / "mine", large)).sha256 == parameters.hash_parameters(large)
