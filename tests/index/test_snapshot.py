"""The descriptors of a version in the order of the ids, whoever writes them, wherever they can be written."""

import os
import shutil
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from cwf_jax.index import snapshot
from cwf_jax.index.store import Index, open_index
from tests.index.rows import SETTINGS, make_columns, make_table


@pytest.fixture
def index(tmp_path):
  """Rows in two commits, not in the order of the ids."""
  made = Index.create(tmp_path / "i", SETTINGS, None)
  made.commit(make_table(SETTINGS, ["c", "a", "é"], 1))
  made.commit(make_table(SETTINGS, ["d", "b"], 2))
  return made


def _expected():
  first, second = (make_columns(SETTINGS, ids, seed)["descriptor"] for seed, ids in ((1, ["c", "a", "é"]), (2, ["d", "b"])))
  return np.stack([first[1], second[1], first[0], second[0], first[2]])


def _folders(index):
  return sorted(os.listdir(index.folder / "snapshots"))


def test_it_is_in_the_order_of_the_ids(index, monkeypatch):
  monkeypatch.setattr("cwf_jax.index.store._BLOCK", 24)  # two rows at a time
  found = index.snapshot
  assert np.array_equal(found.descriptors, _expected())
  assert found.rows.tolist() == [1, 4, 0, 3, 2]
  assert index.take(found.rows, ["id"])["id"].to_pylist() == ["a", "b", "c", "d", "é"]
  assert isinstance(found.descriptors, np.memmap) and not found.descriptors.flags.writeable
  assert _folders(index) == [index.snapshot_folder.name]


def test_every_version_has_its_own_and_old_ones_go(index):
  index.prepare()
  old = index.snapshot
  index.delete(["a"])
  index.commit(make_table(SETTINGS, ["0"], 3))
  assert np.array_equal(index.snapshot.descriptors[1:], _expected()[1:])
  assert index.take(index.snapshot.rows, ["id"])["id"].to_pylist() == ["0", "b", "c", "d", "é"]
  assert len(_folders(index)) == 2
  index.clean()
  assert _folders(index) == [index.snapshot_folder.name]
  assert np.array_equal(old.descriptors, _expected())  # open, so still there


def test_rows_that_were_exchanged_under_the_same_version_have_another_one(index, tmp_path):
  """The data set of an index that was made again elsewhere is copied over this one."""
  index.prepare()
  other = Index.create(tmp_path / "other", SETTINGS, None)
  other.commit(make_table(SETTINGS, ["c", "a", "é"], 5))
  other.commit(make_table(SETTINGS, ["d", "b"], 6))
  assert other.version == index.version
  shutil.rmtree(index.folder / "images.lance")
  shutil.copytree(other.folder / "images.lance", index.folder / "images.lance")
  assert np.array_equal(open_index(index.folder).snapshot.descriptors, other.snapshot.descriptors)


def test_one_that_is_there_is_not_written_again(index, monkeypatch):
  index.prepare()
  monkeypatch.setattr(snapshot, "write", None)
  assert np.array_equal(open_index(index.folder).snapshot.descriptors, _expected())
  index.prepare()


@pytest.mark.parametrize("name", ["descriptors.npy", "rows.npy"])
@pytest.mark.parametrize("size", [None, 0, 10, 130])
def test_one_that_was_cut_off_is_written_anew(index, name, size):
  index.prepare()
  path = index.snapshot_folder / name
  path.unlink() if size is None else os.truncate(path, size)
  assert np.array_equal(open_index(index.folder).snapshot.descriptors, _expected())
  assert np.array_equal(np.load(path.with_name("descriptors.npy")), _expected())


def test_an_index_without_rows_has_an_empty_one(tmp_path):
  made = Index.create(tmp_path / "i", SETTINGS, None)
  assert made.snapshot.descriptors.shape == (0, 3) and made.snapshot.rows.shape == (0,)
  assert open_index(tmp_path / "i").snapshot.descriptors.shape == (0, 3)


@pytest.mark.parametrize(
  "reason", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system"), OSError(28, "No space")]
)
def test_an_index_that_cannot_be_written_can_be_searched(index, monkeypatch, reason):
  """Root may write anywhere, so the refusal is made up."""
  mkdir = os.mkdir

  def refuse(path, *rest, **named):
    if str(path).startswith(str(index.folder)):
      raise reason
    return mkdir(path, *rest, **named)

  monkeypatch.setattr(os, "mkdir", refuse)
  assert np.array_equal(index.snapshot.descriptors, _expected())
  assert "snapshots" not in os.listdir(index.folder)
  with pytest.raises(OSError):
    index.prepare()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_can_be_searched(index):
  index.folder.chmod(0o555)
  try:
    assert np.array_equal(index.snapshot.descriptors, _expected())
  finally:
    index.folder.chmod(0o755)


def test_other_users_may_read_it(index):
  before = os.umask(0o022)
  try:
    index.prepare()
  finally:
    os.umask(before)
  folder = index.snapshot_folder
  assert stat.S_IMODE(folder.stat().st_mode) == 0o755
  assert stat.S_IMODE((folder / "descriptors.npy").stat().st_mode) == 0o644


def test_many_may_write_it_at_the_same_time(index):
  code = f"""
from cwf_jax.index.store import open_index
import sys
index = open_index({str(index.folder)!r})
sys.stdin.read()
print(index.snapshot.descriptors.sum())
"""
  processes = [
    subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
  ]
  told = [process.communicate()[0] for process in processes]
  assert told == [f"{_expected().sum()}\n"] * 3
  found, start = [], threading.Barrier(8)

  def read():
    opened = open_index(index.folder)
    start.wait()
    found.append(np.array(opened.snapshot.descriptors))

  index.commit(make_table(SETTINGS, ["f"], 4))
  threads = [threading.Thread(target=read) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(found) == 8 and all(np.array_equal(one, found[0]) for one in found)
  assert len(_folders(index)) == 2


def test_what_a_killed_writer_left_goes_after_an_hour(index):
  index.prepare()
  for name in (".writing-new", ".writing-old"):
    (index.folder / "snapshots" / name).mkdir()
  os.utime(index.folder / "snapshots/.writing-old", (1, 1))
  index.clean()
  assert _folders(index) == [".writing-new", index.snapshot_folder.name]
