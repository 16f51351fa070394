"""What an index holds, and rows that are taken out."""

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.index import schema
from cwf_jax.index.store import Index, open_index
from cwf_jax.index.upkeep import FolderInfo, delete_images, describe_index
from tests.index.rows import SETTINGS, make_columns


@pytest.fixture
def folder(tmp_path):
  """Four rows of photographs that are there, but for b/3.jpg, and two of a folder that is gone."""
  root, index = tmp_path / "photographs", Index.create(tmp_path / "i", SETTINGS, None)
  ids = ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg"]
  columns = make_columns(SETTINGS, ids, 1)
  columns |= {"root": [str(root)] * 4, "prefix": [""] * 4, "path": [str(root / image_id) for image_id in ids]}
  index.commit(schema.to_table(SETTINGS, columns))
  ids, away = ["x/5.jpg", "x/6.jpg"], tmp_path / "away"
  columns = make_columns(SETTINGS, ids, 2)
  columns |= {"root": [str(away)] * 2, "prefix": ["x/"] * 2, "path": [str(away / image_id[2:]) for image_id in ids]}
  index.commit(schema.to_table(SETTINGS, columns))
  for image_id in ("a/1.jpg", "a/2.jpg", "b/4.jpg"):
    (root / image_id).parent.mkdir(parents=True, exist_ok=True)
    (root / image_id).touch()
  return tmp_path / "i"


def _ids(folder):
  return sorted(next(open_index(folder).scan_by_id(["id"]))["id"].to_pylist())


def test_an_index_is_described(folder, tmp_path):
  index = open_index(folder)
  info = describe_index(index)
  assert (info.images, info.version, info.dimensions, info.weights) == (6, index.version, 3, SETTINGS.weights)
  assert info.folders == (FolderInfo(str(tmp_path / "away"), "x/", 2, 2), FolderInfo(str(tmp_path / "photographs"), "", 4, 1))
  assert sum(info.made_with.values()) == 6
  files = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
  assert info.bytes["rows"] > 0 and sum(info.bytes.values()) == files


def test_rows_go_by_id_and_by_pattern(folder):
  kept = {row["id"]: row["descriptor"] for row in next(open_index(folder).scan_by_id(["id", "descriptor"])).to_pylist()}
  assert delete_images(folder, ["a/1.jpg", "x/*"]) == ("a/1.jpg", "x/5.jpg", "x/6.jpg")
  index = open_index(folder)
  assert _ids(folder) == ["a/2.jpg", "b/3.jpg", "b/4.jpg"]
  expected = [kept[image_id] for image_id in _ids(folder)]
  assert np.array_equal(index.snapshot.descriptors, expected)
  with pytest.raises(InputError, match=r"holds no image a/2\.jpeg; nothing was deleted"):
    delete_images(folder, ["b/*", "a/2.jpeg"])
  assert len(_ids(folder)) == 3
  with pytest.raises(InputError, match="no index at"):
    delete_images(folder.parent / "none", ["a"])
  assert not (folder.parent / "none").exists()


@pytest.mark.parametrize("is_mount_point", [False, True])
def test_rows_without_files_go_but_not_those_of_a_folder_that_is_away(folder, tmp_path, is_mount_point):
  if is_mount_point:
    (tmp_path / "away").mkdir()
  assert delete_images(folder, missing=True) == ("b/3.jpg",)
  assert delete_images(folder, missing=True) == ()
  assert len(_ids(folder)) == 5
