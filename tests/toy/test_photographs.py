"""The photographs that packages carry: copied as they are, opened by name, and nothing of anybody else's."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.toy import photographs

NAMES = sorted(Path(file).stem for files in photographs.SOURCES.values() for file in files)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
  folder = tmp_path_factory.mktemp("copied")
  return folder, photographs.write_photographs(folder / "new")


def test_each_name_is_there_once():
  assert len(set(NAMES)) == len(NAMES) >= 21


def test_the_photographs_are_copied_as_they_are(copied):
  folder, names = copied
  assert names == NAMES == sorted(path.stem for path in (folder / "new").iterdir())
  for package, files in photographs.SOURCES.items():
    home = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    for file in files:
      assert (folder / "new" / Path(file).name).read_bytes() == (home / file).read_bytes()


def test_a_second_time_nothing_is_written_and_foreign_files_are_left_alone(copied):
  folder = copied[0] / "new"
  (folder / "stray.txt").write_text("mine")
  times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  assert photographs.write_photographs(str(folder)) == NAMES
  assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  (folder / "stray.txt").unlink()


def test_a_damaged_copy_is_mended(tmp_path):
  photographs.write_photographs(tmp_path)
  good = (tmp_path / "moon.png").read_bytes()
  (tmp_path / "moon.png").write_bytes(good[:100])
  photographs.write_photographs(tmp_path)
  assert (tmp_path / "moon.png").read_bytes() == good


@pytest.mark.parametrize("name", NAMES)
def test_a_photograph_is_opened_by_name(name, copied):
  image = photographs.open_photograph(name)
  assert type(image) is Image.Image and image.mode == "RGB" and min(image.size) >= 170
  (path,) = (copied[0] / "new").glob(f"{name}.*")
  with Image.open(path) as whole:
    np.testing.assert_array_equal(np.asarray(image), np.asarray(whole.convert("RGB")))


def test_a_gray_photograph_has_three_equal_colors():
  with Image.open(Path(importlib.util.find_spec("skimage").submodule_search_locations[0]) / "data/moon.png") as moon:
    assert moon.mode == "L"
    gray = np.asarray(moon)
  np.testing.assert_array_equal(np.asarray(photographs.open_photograph("moon")), np.stack([gray] * 3, axis=-1))


@pytest.mark.parametrize("name", ["nobody", "", "moon.png", "data/moon", "../moon", "MOON"])
def test_a_name_that_no_photograph_has(name):
  with pytest.raises(InputError, match=r"^no photograph named '.*' is carried by skimage or sklearn$") as caught:
    photographs.open_photograph(name)
  assert repr(name) in str(caught.value)


def _without(monkeypatch, *missing):
  known = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else known(name, *rest))


@pytest.mark.parametrize(
  ("missing", "named"), [(("skimage",), "skimage"), (("sklearn",), "sklearn"), (("skimage", "sklearn"), "skimage")]
)
def test_a_package_that_is_not_installed_is_named_before_anything_is_written(missing, named, monkeypatch, tmp_path):
  photographs.check_installed()
  _without(monkeypatch, *missing)
  message = rf"come with {named}, which is not installed: pip install 'cwf_jax\[demo\]'$"
  with pytest.raises(InputError, match=message):
    photographs.check_installed()
  with pytest.raises(InputError, match=message):
    photographs.write_photographs(tmp_path / "new")
  assert not (tmp_path / "new").exists()
  with pytest.raises(InputError, match=message):
    photographs.open_photograph({"skimage": "moon", "sklearn": "china"}[named])


def test_a_photograph_of_the_other_package_can_still_be_opened(monkeypatch):
  _without(monkeypatch, "sklearn")
  assert photographs.open_photograph("moon").size == (512, 512)
