"""What an index holds."""

import pytest

from cwf_jax.index import schema
from cwf_jax.index.store import Index, open_index
from cwf_jax.index.upkeep import FolderInfo, describe_index
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


def test_an_index_is_described(folder, tmp_path):
  index = open_index(folder)
  info = describe_index(index)
  assert (info.images, info.version, info.dimensions, info.weights) == (6, index.version, 3, SETTINGS.weights)
  assert info.folders == (FolderInfo(str(tmp_path / "away"), "x/", 2, 2), FolderInfo(str(tmp_path / "photographs"), "", 4, 1))
  assert sum(info.made_with.values()) == 6
  files = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
  assert info.bytes["rows"] > 0 and sum(info.bytes.values()) == files
