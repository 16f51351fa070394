"""Rows in, rows out; whole versions only; what cannot be written leaves the index as it was."""

import dataclasses
import datetime
import subprocess
import sys

import lance
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.index import rewriting, schema, store
from cwf_jax.index.schema import WhiteningOrigin
from cwf_jax.index.store import Index, IndexFolderError, open_index
from tests.index.rows import KINDS, SETTINGS, make_columns, make_table

ARRAYS = {"mean": np.arange(6, dtype=np.float32), "projection": np.ones((6, 3), np.float32)}


@pytest.fixture
def index(tmp_path):
  return Index.create(tmp_path / "i", SETTINGS, None)


def _content(index):
  table = index.take(index.order(), schema.arrow_schema(index.settings).names)
  return {row["id"]: row for row in table.to_pylist()}


def _expected(table):
  return {row["id"]: row for row in table.to_pylist()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_committed_is_read_again(tmp_path, kind):
  table = make_table(KINDS[kind], ["b", "a", "it's", "line\nbreak", "é"])
  made = Index.create(tmp_path / "i", KINDS[kind], None)
  made.commit(table)
  for opened in (made, open_index(tmp_path / "i")):
    assert _content(opened) == _expected(table)
    assert opened.settings == KINDS[kind]
    assert len(opened) == 5


def test_rows_are_replaced_and_removed_by_id(index):
  names = ["a", "it's", "line\nbreak", "é", 'q"', "b\\"]
  index.commit(make_table(SETTINGS, names))
  changed = make_table(SETTINGS, ["it's", "new"], seed=9)
  index.commit(changed, replaces=True)
  assert _content(index)["it's"] == _expected(changed)["it's"]
  assert sorted(_content(index)) == sorted([*names, "new"])
  index.delete(["line\nbreak", "b\\", "it's", "never was"])
  assert sorted(_content(index)) == sorted(["a", "é", 'q"', "new"])
  version = index.version
  index.delete([])
  assert index.version == version


def test_many_rows_are_removed_at_once(index):
  names = [f"{number:06}" for number in range(25_000)]
  index.commit(make_table(SETTINGS, names))
  index.delete(names[:24_999])
  assert list(_content(index)) == names[24_999:]


def test_files_are_those_of_one_folder_and_prefix(index):
  for seed, (root, prefix) in enumerate((("/a", ""), ("/b", ""), ("/a", "p/"), ("/it's", "it's/"))):
    index.commit(make_table(SETTINGS, [f"{prefix}{root}"], seed, root=root, prefix=prefix))
  columns = make_columns(SETTINGS, ["it's//it's"], 3)
  stored = index.files("/it's", "it's/")
  assert stored == {"it's//it's": tuple(columns[name][0] for name in ("bytes", "mtime_ns", "sha256"))}
  assert set(index.files("/a", "p/")) == {"p//a"}
  assert index.files("/c", "") == {}
  assert sorted(index.others("/a", "")) == [("/b", "/b", ""), ("it's//it's", "/it's", "it's/"), ("p//a", "/a", "p/")]


def test_a_reader_sees_the_version_it_opened(index):
  index.commit(make_table(SETTINGS, ["a", "b"]))
  reader = open_index(index.folder)
  index.commit(make_table(SETTINGS, ["c"]))
  index.commit(make_table(SETTINGS, ["a"], seed=5), replaces=True)
  index.delete(["b"])
  assert _content(reader) == _expected(make_table(SETTINGS, ["a", "b"]))
  assert list(reader.snapshot.rows) == [0, 1]
  assert sorted(_content(open_index(index.folder))) == ["a", "c"]


def test_a_rewrite_exchanges_rows_settings_and_whitening_together(index):
  index.commit(make_table(SETTINGS, ["b", "a"]))
  reader = open_index(index.folder)
  changed = dataclasses.replace(SETTINGS, dimensions=2, whitening=WhiteningOrigin("self"))
  tables = [make_table(changed, ["a"], 1), make_table(changed, ["b"], 2)]
  index.rewrite(changed, {"mean": np.zeros(6), "projection": np.ones((6, 2))}, iter(tables))
  assert index.settings.dimensions == 2 and index.whitening["projection"].shape == (6, 2)
  assert _content(open_index(index.folder)) == {**_expected(tables[0]), **_expected(tables[1])}
  assert reader.settings == SETTINGS and reader.whitening is None
  assert _content(reader) == _expected(make_table(SETTINGS, ["b", "a"]))


@pytest.mark.parametrize("size", [1, 500, 2**28])
def test_a_rewrite_of_many_tables_keeps_their_order(index, monkeypatch, size):
  monkeypatch.setattr(rewriting, "FRAGMENT", size)
  index.commit(make_table(SETTINGS, ["old"]))
  ids = [f"{number:03}" for number in range(50)]
  whole = make_table(SETTINGS, ids)
  index.rewrite(SETTINGS, None, (whole.slice(start, 7) for start in range(0, 50, 7)))
  opened = open_index(index.folder)
  assert [one for batch in opened.scan(["id"]) for one in batch["id"].to_pylist()] == ids
  assert _content(opened) == _expected(whole)
  index.commit(make_table(SETTINGS, ["later"]))
  index.commit(make_table(SETTINGS, ["003"], 7), replaces=True)
  index.delete(["004"])
  assert len(open_index(index.folder)) == 50
  index.rewrite(SETTINGS, None, [])
  assert len(open_index(index.folder)) == 0


def test_a_rewrite_that_fails_midway_changes_nothing(index):
  index.commit(make_table(SETTINGS, ["b", "a"]))
  changed = dataclasses.replace(SETTINGS, dimensions=2)

  def tables():
    yield make_table(changed, ["a"])
    raise RuntimeError("midway")

  with pytest.raises(RuntimeError, match="midway"):
    index.rewrite(changed, None, tables())
  assert open_index(index.folder).settings == SETTINGS
  assert len(open_index(index.folder)) == 2


def test_the_whitening_is_held_by_the_hash_in_its_name(tmp_path):
  made = Index.create(tmp_path / "i", dataclasses.replace(SETTINGS, whitening=WhiteningOrigin("bundled")), ARRAYS)
  file = tmp_path / "i" / made.settings.whitening.file
  opened = open_index(tmp_path / "i")
  assert all(np.array_equal(opened.whitening[name], array) for name, array in ARRAYS.items())
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  with pytest.raises(IndexFolderError, match=r"its whitening .* is damaged"):
    open_index(tmp_path / "i")
  file.unlink()
  with pytest.raises(IndexFolderError, match=r"its whitening .* cannot be read .No such file"):
    open_index(tmp_path / "i")
  made.rewrite(made.settings, ARRAYS, [make_table(made.settings, ["a"])])
  assert open_index(tmp_path / "i").whitening is not None


def test_an_index_made_anew_takes_no_snapshot_of_the_one_before(tmp_path):
  import shutil

  for seed in (1, 2):
    made = Index.create(tmp_path / "i", SETTINGS, None)
    made.commit(make_table(SETTINGS, ["a"], seed))
    assert np.array_equal(made.snapshot.descriptors, make_columns(SETTINGS, ["a"], seed)["descriptor"])
    shutil.rmtree(tmp_path / "i/images.lance")


def test_reads_in_the_order_of_ids_do_not_depend_on_history(tmp_path):
  ids = ["b", "a", "é", "Z", "a/b", "a.b", "aa"]
  whole = Index.create(tmp_path / "whole", SETTINGS, None)
  whole.commit(make_table(SETTINGS, ids))
  parts = Index.create(tmp_path / "parts", SETTINGS, None)
  table = make_table(SETTINGS, ids)
  parts.commit(make_table(SETTINGS, ["gone", ids[3]], 7))
  for start in (4, 0, 2, 6):
    parts.commit(table.slice(start, 2), replaces=start == 2)
  parts.delete(["gone"])
  names = ["id", "descriptor", "class_vectors"]
  assert [one.to_pylist() for one in whole.scan_by_id(names, 3)] == [one.to_pylist() for one in parts.scan_by_id(names, 3)]
  assert [len(one) for one in parts.scan_by_id(["id"], 3)] == [3, 3, 1]
  assert parts.take(parts.order(), ["id"])["id"].to_pylist() == sorted(ids, key=str.encode)
  assert np.array_equal(whole.snapshot.descriptors, parts.snapshot.descriptors)


def test_a_disk_that_is_full_is_one_line_and_changes_nothing(index, monkeypatch):
  index.commit(make_table(SETTINGS, ["a"]))

  def fail(*_, **__):
    raise OSError("LanceError(IO): No space left on device (os error 28)\n, /build/lance/file.rs:1:2")

  with monkeypatch.context() as patched:
    patched.setattr(lance, "write_dataset", fail)
    patched.setattr(lance.LanceDataset, "delete", fail)
    patched.setattr(lance.LanceDataset, "merge_insert", fail)
    patched.setattr(lance.LanceDataset, "commit", fail)
    for call in (
      lambda: index.commit(make_table(SETTINGS, ["b"])),
      lambda: index.commit(make_table(SETTINGS, ["a"]), replaces=True),
      lambda: index.delete(["a"]),
      lambda: index.rewrite(SETTINGS, None, [make_table(SETTINGS, ["c"])]),
    ):
      with pytest.raises(OSError, match="cannot be written: No space left on device") as caught:
        call()
      assert "\n" not in str(caught.value) and ".rs" not in str(caught.value)
  assert list(_content(open_index(index.folder))) == ["a"]
  index.commit(make_table(SETTINGS, ["b"]))
  assert len(index) == 2


def test_a_real_limit_on_writing_is_one_line_and_changes_nothing(index):
  """The kernel refuses to write beyond a file's size limit, as it does on a full disk."""
  index.commit(make_table(SETTINGS, ["a"]))
  code = f"""
import resource, signal
from cwf_jax.index.store import open_index
from tests.index.rows import SETTINGS, make_table
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
index = open_index({str(index.folder)!r})
table = make_table(SETTINGS, [str(number) for number in range(50_000)])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for call in (index.commit, lambda one: index.commit(one, replaces=True), lambda one: index.rewrite(SETTINGS, None, [one])):
  try:
    call(table)
  except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
index.commit(table)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
  index.prepare()
except OSError as error:
  print("snapshot:", error)
"""
  ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  lines = ended.stdout.splitlines()
  assert ended.returncode == 0, ended.stderr
  assert len(lines) == 4 and all("too large" in line for line in lines), lines
  opened = open_index(index.folder)
  assert len(opened) == 50_001
  assert len(opened.snapshot.rows) == 50_001


def test_old_versions_go_when_they_were_replaced_long_ago(index, monkeypatch):
  index.commit(make_table(SETTINGS, ["a"]))
  reader, late = open_index(index.folder), open_index(index.folder)
  index.rewrite(SETTINGS, None, [make_table(SETTINGS, ["a", "b"])])
  (index.folder / "images.lance/data/killed.lance").write_bytes(b"left")
  index.clean()
  assert len(_content(reader)) == 1  # replaced a moment ago, however old it is
  assert not (index.folder / "images.lance/data/killed.lance").exists()
  monkeypatch.setattr(store, "_GRACE", datetime.timedelta(0))
  (index.folder / "whitening-old.npz").touch()
  index.clean()
  assert len(list((index.folder / "images.lance/_versions").glob("*.manifest"))) == 1
  assert not (index.folder / "whitening-old.npz").exists()
  assert len(_content(open_index(index.folder))) == 2
  with pytest.raises(IndexFolderError, match=r"rewritten since it was opened.*open it again"):
    late.files("/photographs", "")




def test_columns_are_listed_and_others_refused(tmp_path):
  index = Index.create(tmp_path / "i", SETTINGS, None)
  assert {"id", "path", "descriptor", "class_vectors"} <= set(index.columns)
  with pytest.raises(InputError, match="no column nosuch; there are: id, path"):
    next(index.scan(["id", "nosuch"]))
