"""Files that are moved, folders that are moved or away, and what is removed only when it is asked for."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.index.store import open_index
from tests.indexing.rows import build_index, rows_of


@pytest.fixture
def index(copied, tmp_path, tiny_encoder):
  """An index of the twelve photographs: six in a/, six in b/ and b/c/."""
  build_index(copied, tmp_path / "i", tiny_encoder)
  return tmp_path / "i"


def _paths(index):
  table = next(open_index(index).scan_by_id(["id", "path", "root"]))
  return {row["id"]: (row["path"], row["root"]) for row in table.to_pylist()}


def test_renamed_files_and_folders_are_not_encoded_again(copied, index, tiny_encoder):
  before = rows_of(index)
  (copied / "a").rename(copied / "z")
  (copied / "z/picture_00.png").rename(copied / "b/renamed.png")
  shutil.copy(copied / "b/renamed.png", copied / "b/twice.png")  # one of the two is new
  summary = build_index(copied, index, tiny_encoder)
  found = summary.indexed, summary.unchanged, summary.moved, summary.removed, summary.kept
  assert found == (1, 6, 6, 0, ())
  after = rows_of(index)
  assert len(after) == 13 and not any(name.startswith("a/") for name in after)
  assert np.array_equal(after["z/picture_01.png"], before["a/picture_01.png"])
  assert np.array_equal(after["b/renamed.png"], before["a/picture_00.png"])
  assert _paths(index)["b/renamed.png"] == (str(copied / "b/renamed.png"), str(copied))
  assert build_index(copied, index, tiny_encoder).unchanged == 13


def test_a_folder_that_was_moved_is_known_by_half_of_its_files(copied, index, tmp_path, tiny_encoder):
  before, away = rows_of(index), tmp_path / "away"
  copied.rename(away)
  (away / "a/picture_00.png").rename(away / "a/renamed.png")
  (away / "a/picture_01.png").unlink()
  os.utime(away / "a/picture_02.png", ns=(1, 1))
  summary = build_index(away, index, tiny_encoder)
  assert (summary.indexed, summary.unchanged, summary.moved, summary.removed, summary.kept) == (0, 0, 11, 1, ())
  after = rows_of(index)
  assert np.array_equal(after["a/renamed.png"], before["a/picture_00.png"])
  assert all(path == str(away / name) and root == str(away) for name, (path, root) in _paths(index).items())
  assert build_index(away, index, tiny_encoder).unchanged == 11


def test_a_folder_that_was_moved_without_a_part_keeps_its_rows(copied, index, tmp_path, tiny_encoder):
  shutil.rmtree(copied / "b/c")
  copied.rename(tmp_path / "away")
  summary = build_index(tmp_path / "away", index, tiny_encoder)
  lost = 12 - summary.moved
  assert lost and len(summary.kept) == lost and summary.rows == 12
  summary = build_index(tmp_path / "away", index, tiny_encoder)
  assert (summary.unchanged, summary.moved, len(summary.kept)) == (12 - lost, 0, lost)


@pytest.mark.parametrize("old_is_there", [True, False])
def test_another_folder_is_refused(copied, index, tmp_path, tiny_encoder, old_is_there):
  other = tmp_path / "other"
  (other / "a").mkdir(parents=True)
  for number in range(5):
    shutil.copy(copied / f"a/picture_0{number}.png", other / "a")
  if not old_is_there:
    shutil.rmtree(copied)
  words = "which is gone, and less than half of them" if not old_is_there else "under no prefix; give those of"
  with pytest.raises(InputError, match=words):
    build_index(other, index, tiny_encoder)
  assert len(open_index(index)) == 12


def test_rows_of_more_than_half_or_of_a_whole_folder_are_kept_until_removal_is_asked_for(copied, index, tiny_encoder):
  shutil.rmtree(copied / "b/c")
  (copied / "b/c").mkdir()  # where a disk was mounted
  lost = sorted(name for name in rows_of(index) if name.startswith("b/c/"))
  summary = build_index(copied, index, tiny_encoder)
  assert (summary.removed, list(summary.kept), summary.rows) == (0, lost, 12)
  for path in copied.rglob("*.png"):
    if path.name != "picture_01.png":
      path.unlink()
  summary = build_index(copied, index, tiny_encoder)
  assert (summary.removed, len(summary.kept), summary.unchanged, summary.rows) == (0, 11, 1, 12)
  summary = build_index(copied, index, tiny_encoder, remove=True)
  assert (summary.removed, summary.kept, summary.rows) == (11, (), 1)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_is_taken_out_by_its_prefix(copied, index, tmp_path, tiny_encoder, is_there):
  other = tmp_path / "other"
  shutil.copytree(copied / "a", other)
  build_index(other, index, tiny_encoder, prefix="x/")
  shutil.rmtree(other)
  if is_there:
    other.mkdir()
  with pytest.raises(InputError, match="no images in" if is_there else "no file or folder"):
    build_index(other, index, tiny_encoder, prefix="x/")
  with pytest.raises(InputError):
    build_index(other, index, tiny_encoder, prefix="y/", remove=True)
  summary = build_index(other, index, tiny_encoder, prefix="x/", remove=True)
  assert (summary.indexed, summary.removed, summary.rows) == (0, 6, 12)


def test_a_folder_that_was_moved_and_edited_goes_on_after_an_interruption(copied, index, tmp_path, tiny_encoder):
  copied.rename(tmp_path / "away")
  for number in (0, 1, 2):
    Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"away/a/picture_0{number}.png")
  (tmp_path / "away/a/picture_03.png").write_bytes(b"broken")

  def stop(*_):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    build_index(tmp_path / "away", index, tiny_encoder, batch_size=1, progress=stop)
  assert {root for _, root in _paths(index).values()} == {str(tmp_path / "away")}
  summary = build_index(tmp_path / "away", index, tiny_encoder)
  assert (summary.moved, summary.rows, len(summary.skipped)) == (0, 12, 1) and summary.indexed >= 2
  assert build_index(tmp_path / "away", index, tiny_encoder).unchanged == 11


def test_a_move_that_was_interrupted_goes_on(copied, index, tmp_path, tiny_encoder, monkeypatch):
  before = rows_of(index)
  monkeypatch.setattr("cwf_jax.index.store._ROWS_MOVED", 5)
  copied.rename(tmp_path / "away")
  (tmp_path / "away/a").rename(tmp_path / "away/z")
  moving = open_index(index)
  delete, calls = type(moving).delete, []

  def stop(self, ids):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return delete(self, ids)

  monkeypatch.setattr(type(moving), "delete", stop)
  with pytest.raises(KeyboardInterrupt):
    build_index(tmp_path / "away", index, tiny_encoder)
  monkeypatch.undo()
  assert len(rows_of(index)) > 12  # some are there under both names
  summary = build_index(tmp_path / "away", index, tiny_encoder)
  assert (summary.indexed, summary.kept, summary.rows) == (0, (), 12)
  after = rows_of(index)
  assert all(np.array_equal(after[name.replace("a/", "z/")], before[name]) for name in before)
