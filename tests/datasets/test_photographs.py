"""The demo's photographs and their views: the same bytes from the same seed, and nothing of anybody else's."""

import hashlib
import importlib.util

import pytest
from PIL import Image

from cwf_jax.datasets import photographs
from cwf_jax.errors import InputError


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
  folder = tmp_path_factory.mktemp("copied")
  return folder, photographs.write_photographs(folder)


def _hashes(folder):
  return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_photographs_are_copied_as_they_are(copied):
  folder, names = copied
  assert names == sorted(path.stem for path in folder.iterdir())
  assert len(names) == sum(map(len, photographs.SOURCES.values()))
  times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  photographs.write_photographs(folder)
  assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_views_are_a_function_of_the_seed(copied, tmp_path):
  folder, names = copied
  shows = photographs.write_views(folder, tmp_path / "one")
  again = photographs.write_views(folder, tmp_path / "two")
  other = photographs.write_views(folder, tmp_path / "other", seed=1)
  one, two = _hashes(tmp_path / "one"), _hashes(tmp_path / "two")
  assert one == two and shows == again == other
  assert set(one) == set(shows) and set(shows.values()) == set(names)
  real = {f"{file.split('/')[-1]}" for _, file in photographs.REAL_VIEWS.values()}
  drawn = set(one) - real
  assert all(one[name] != _hashes(tmp_path / "other")[name] for name in drawn)
  assert len(set(one.values())) == len(one)


def test_views_can_be_read_and_differ_from_their_photograph(copied, tmp_path):
  folder, _ = copied
  for view, name in photographs.write_views(folder, tmp_path).items():
    with Image.open(tmp_path / view) as image, Image.open(next(folder.glob(f"{name}.*"))) as whole:
      assert min(image.size) >= 100
      assert image.size != whole.size or view in {"motorcycle_right.png"}


def test_foreign_files_are_left_alone(copied, tmp_path):
  folder, _ = copied
  stray = folder / "stray.txt"
  stray.write_text("mine")
  shows = photographs.write_views(folder, tmp_path)
  assert "stray" not in shows.values() and stray.read_text() == "mine"
  stray.unlink()


def test_a_package_that_is_not_installed_is_named_before_anything_is_written(monkeypatch, tmp_path):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(InputError, match=r"pip install 'cwf_jax\[demo\]'"):
    photographs.write_photographs(tmp_path / "new")
  assert not (tmp_path / "new").exists()
