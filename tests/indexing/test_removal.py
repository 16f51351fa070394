"""Images that are taken out of an index, and those that are not."""

import shutil

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.index.store import open_index
from cwf_jax.indexing.removal import delete_images
from tests.indexing.rows import build_index, rows_of


@pytest.fixture
def index(copied, tmp_path, tiny_encoder):
  """An index of the twelve photographs, one of them in a folder whose name has brackets."""
  (copied / "x [1]").mkdir()
  (copied / "x 1").mkdir()
  (copied / "a/picture_00.png").rename(copied / "x [1]/p[1].png")
  (copied / "a/picture_01.png").rename(copied / "x 1/p1.png")
  build_index(copied, tmp_path / "i", tiny_encoder)
  return tmp_path / "i"


def test_ids_and_patterns_are_taken_literally_but_for_stars(index):
  before = rows_of(index)
  assert delete_images(index, ["x [1]/*"]).ids == ("x [1]/p[1].png",)
  others = tuple(sorted(before.keys() - {"x [1]/p[1].png"}))
  assert delete_images(index, ["b/*", "a/picture_0?.png", "x 1/p1.png"]).ids == others
  assert len(open_index(index)) == 0


def test_what_fits_no_row_deletes_nothing(index, tmp_path):
  for name in ("x [2]/*", "nope.png", "picture_02.png"):
    with pytest.raises(InputError, match="holds no image"):
      delete_images(index, ["b/*", name])
  with pytest.raises(InputError, match="no index at"):
    delete_images(tmp_path / "none", ["a"])
  assert len(open_index(index)) == 12 and not (tmp_path / "none").exists()


def test_the_others_keep_their_vectors(index):
  before = rows_of(index)
  delete_images(index, ["b/*"])
  after = rows_of(index)
  assert len(after) == 6 and all(np.array_equal(after[name], before[name]) for name in after)


def test_rows_without_files_go_but_not_those_of_a_folder_that_is_away(copied, index, tmp_path):
  (copied / "a/picture_02.png").unlink()
  (copied / "b/c").rename(tmp_path / "c")
  (copied / "b/c").mkdir()
  (copied / "b/c/.DS_Store").touch()
  shutil.rmtree(copied / "x 1")
  lost = tuple(sorted(name for name in rows_of(index) if name.startswith(("b/c/", "x 1/"))))
  assert delete_images(index, missing=True) == (("a/picture_02.png",), lost)
  assert delete_images(index, missing=True) == ((), lost)
  (copied / "x [1]/p[1].png").unlink()
  shutil.rmtree(copied)
  deletion = delete_images(index, missing=True)
  assert deletion.ids == () and len(deletion.away) == 11
