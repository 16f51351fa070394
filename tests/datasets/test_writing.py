"""Files that are written whole or not at all, and only where they would change."""

import os

import pytest

from cwf_jax.datasets.writing import write_if_changed


def test_a_new_file(tmp_path):
  write_if_changed(tmp_path / "a.txt", b"one")
  assert (tmp_path / "a.txt").read_bytes() == b"one" and len(list(tmp_path.iterdir())) == 1
  write_if_changed(tmp_path / "empty", b"")
  assert (tmp_path / "empty").read_bytes() == b""


def test_the_same_bytes_are_not_written_again(tmp_path, monkeypatch):
  target = tmp_path / "a.txt"
  write_if_changed(target, b"one")
  os.utime(target, ns=(5, 7))

  def refuse(*_):
    raise AssertionError("written again")

  monkeypatch.setattr(os, "replace", refuse)
  write_if_changed(target, b"one")
  assert (target.stat().st_mtime_ns, target.read_bytes()) == (7, b"one")


@pytest.mark.parametrize("content", [b"two", b"", b"on", b"one\n"])
def test_other_bytes_replace_a_file(content, tmp_path):
  target = tmp_path / "a.txt"
  target.write_bytes(b"one")
  os.link(target, tmp_path / "kept")
  write_if_changed(target, content)
  assert target.read_bytes() == content and (tmp_path / "kept").read_bytes() == b"one"  # replaced, not written over
  assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "kept"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  target = tmp_path / "a.txt"
  target.write_bytes(b"one")

  def refuse(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", refuse)
  with pytest.raises(OSError, match="No space left"):
    write_if_changed(target, b"two")
  assert target.read_bytes() == b"one" and list(tmp_path.iterdir()) == [target]


def test_a_folder_is_not_made_and_not_replaced(tmp_path):
  with pytest.raises(FileNotFoundError):
    write_if_changed(tmp_path / "missing" / "a.txt", b"one")
  with pytest.raises(IsADirectoryError):
    write_if_changed(tmp_path, b"one")
  assert list(tmp_path.iterdir()) == []
