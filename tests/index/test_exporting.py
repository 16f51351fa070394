"""Descriptors as files of other programs."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from cwf_jax.errors import InputError
from cwf_jax.index.exporting import export_index
from cwf_jax.index.store import Index
from tests.index.rows import SETTINGS, make_table


@pytest.fixture
def index(tmp_path):
  """Rows in two commits, not in the order of the ids."""
  made = Index.create(tmp_path / "i", SETTINGS, None)
  made.commit(make_table(SETTINGS, ["c", "a", "é"], 1))
  made.commit(make_table(SETTINGS, ["d", "b"], 2))
  return made


@pytest.mark.parametrize("rows", [2, 65536])
def test_both_formats_hold_the_rows_in_the_order_of_the_ids(index, tmp_path, monkeypatch, rows):
  monkeypatch.setattr("cwf_jax.index.exporting._ROWS", rows)
  for name in ("x.npz", "x.parquet"):
    export_index(index, tmp_path / name)
  with np.load(tmp_path / "x.npz") as arrays:
    ids, paths, descriptors = arrays["ids"], arrays["paths"], arrays["descriptors"]
  table = pq.read_table(tmp_path / "x.parquet")
  assert ids.tolist() == table["id"].to_pylist() == ["a", "b", "c", "d", "é"]
  assert paths.tolist() == table["path"].to_pylist() == index.take(index.snapshot.rows, ["path"])["path"].to_pylist()
  assert descriptors.dtype == np.float32 and np.array_equal(descriptors, index.snapshot.descriptors)
  assert np.array_equal(np.stack(table["descriptor"].to_numpy()), descriptors)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["i", "x.npz", "x.parquet"]


def test_it_depends_on_nothing_but_the_rows(index, tmp_path):
  export_index(index, tmp_path / "one.npz")
  other = Index.create(tmp_path / "j", SETTINGS, None)
  other.commit(make_table(SETTINGS, ["d", "b"], 2))
  other.commit(make_table(SETTINGS, ["c", "a", "é"], 1))
  export_index(other, tmp_path / "two.npz", "npz")
  assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_what_cannot_be_written_is_refused_and_leaves_nothing(index, tmp_path, monkeypatch):
  (tmp_path / "folder.npz").mkdir()
  for name, format, said in (
    ("x.csv", None, "ends in .npz or .parquet; found"),
    ("x.npz", "parquet", "ends in .parquet; found"),
    ("no/x.npz", None, "there is no folder"),
    ("folder.npz", None, "is a folder, not a file"),
  ):
    with pytest.raises(InputError, match=said):
      export_index(index, tmp_path / name, format)
  (tmp_path / "folder.npz").rmdir()
  (tmp_path / "x.npz").write_bytes(b"before")
  with pytest.raises(KeyboardInterrupt):
    export_index(index, tmp_path / "x.npz", progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
  assert (tmp_path / "x.npz").read_bytes() == b"before"
  assert sorted(path.name for path in tmp_path.iterdir()) == ["i", "x.npz"]
