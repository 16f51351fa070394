"""Finished rows: written, read back to the bit, and computed again where they cannot be read."""

import errno
import json
import math

import pytest

from cwf_jax.evaluation import rows as cells
from cwf_jax.evaluation.rows import CellStore, Row, to_json

ROW = Row(
  "raw+pca", "raw", network="vgg16_cam", layer="conv5_1", sizes="shorter side 720", query="cells", dimensions=512,
  whitened_by="paris6k", vectors=6392, left_out=1, zero=2, not_finite=3, odd_queries=4, unreadable=("z.jpg",),
  made={"device": "cpu"},
  values={"mAP": [0.1, math.nan, 1 / 3], "mP@1": [0.0, math.nan, 1.0]}, seconds=1.25, classes=("dome", "pier"),
)  # fmt: skip


def _same(one, other):
  """NaN is not equal to itself."""
  assert one._replace(values={}) == other._replace(values={})
  assert to_json(one.values) == to_json(other.values)


def test_a_row_comes_back_as_it_was(tmp_path):
  store = CellStore(tmp_path / "rows")
  assert store.find("key") is None
  store.keep("key", ROW)
  for opened in (store, CellStore(tmp_path / "rows")):
    found = opened.find("key")
    _same(found, ROW)
    assert math.isnan(found.values["mAP"][1]) and found.classes == ("dome", "pier") and found.was_run
    assert opened.find("other") is None
  assert [path.name for path in (tmp_path / "rows").iterdir()] == ["key.json"]


def test_what_is_written_is_json_without_nan(tmp_path):
  CellStore(tmp_path).keep("key", ROW)
  content = json.loads((tmp_path / "key.json").read_text(), parse_constant=lambda name: pytest.fail(name))
  assert content["values"]["mAP"] == [0.1, None, 1 / 3]


def test_a_row_that_was_not_run():
  assert not Row("raw", "raw", "nothing is there").was_run and Row("raw", "raw").values == {}


@pytest.mark.parametrize(
  "content",
  [
    b"", b"{", b"[]", b"null", b"7", b'"row"', b"\xff\xfe", b'{"name": "raw"}', b'{"name": "a", "system": "b", "more": 1}',
    b'{"name": "a", "system": "b", "values": null}', b'{"name": "a", "system": "b", "values": {"mAP": 3}}',
    b'{"name": "a", "system": "b", "classes": 3}',
  ],
)  # fmt: skip
def test_a_damaged_row_is_none(tmp_path, content):
  store = CellStore(tmp_path)
  (tmp_path / "key.json").write_bytes(content)
  assert store.find("key") is None
  store.keep("key", ROW)
  _same(store.find("key"), ROW)


def test_a_row_cut_anywhere_is_none(tmp_path):
  store = CellStore(tmp_path)
  store.keep("key", ROW)
  content = (tmp_path / "key.json").read_bytes()
  for length in range(len(content)):
    (tmp_path / "key.json").write_bytes(content[:length])
    assert store.find("key") is None


def test_a_full_disk_leaves_the_row_that_was_there(tmp_path, monkeypatch):
  store = CellStore(tmp_path)
  store.keep("key", ROW)

  def write(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(cells, "write_whole", write)
  for key in ("key", "new"):
    with pytest.raises(OSError, match="No space left"):
      store.keep(key, ROW._replace(dimensions=1))
  assert [path.name for path in tmp_path.iterdir()] == ["key.json"]
  _same(store.find("key"), ROW)
