"""Files that are there whole or not at all, and written only where they would change."""

import os

import pytest

from cwf_jax.files import write_if_changed, write_whole

BOTH = pytest.mark.parametrize("write", [write_whole, write_if_changed])


@BOTH
def test_a_new_file(write, tmp_path):
  write(tmp_path / "a.txt", b"one")
  assert (tmp_path / "a.txt").read_bytes() == b"one" and len(list(tmp_path.iterdir())) == 1
  write(tmp_path / "empty", b"")
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


def test_the_same_bytes_can_be_written_anew(tmp_path):
  target = tmp_path / "a.txt"
  write_whole(target, b"one")
  os.utime(target, ns=(5, 7))
  write_whole(target, memoryview(b"one"))
  assert target.read_bytes() == b"one" and target.stat().st_mtime_ns != 7


def test_the_longest_name_of_a_folder_can_be_written(tmp_path):
  target = tmp_path / ("a" * 255)
  write_whole(target, b"one")
  write_if_changed(target, b"two")
  assert target.read_bytes() == b"two" and list(tmp_path.iterdir()) == [target]


def test_what_is_half_written_is_never_under_the_name(tmp_path, monkeypatch):
  target, seen, replace = tmp_path / "a.txt", [], os.replace
  target.write_bytes(b"one")

  def look(source, end):
    seen.append((target.read_bytes(), source.read_bytes(), source.parent))
    replace(source, end)

  monkeypatch.setattr(os, "replace", look)
  write_whole(target, b"two")
  assert seen == [(b"one", b"two", tmp_path)] and target.read_bytes() == b"two"


@pytest.mark.parametrize("content", [b"two", b"", b"on", b"one\n"])
@BOTH
def test_other_bytes_replace_a_file(write, content, tmp_path):
  target = tmp_path / "a.txt"
  target.write_bytes(b"one")
  os.link(target, tmp_path / "kept")
  write(target, content)
  assert target.read_bytes() == content and (tmp_path / "kept").read_bytes() == b"one"  # replaced, not written over
  assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "kept"}


@BOTH
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(write, tmp_path, monkeypatch):
  target = tmp_path / "a.txt"
  target.write_bytes(b"one")

  def refuse(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", refuse)
  with pytest.raises(OSError, match="No space left"):
    write(target, b"two")
  assert target.read_bytes() == b"one" and list(tmp_path.iterdir()) == [target]


@BOTH
def test_a_folder_is_not_made_and_not_replaced(write, tmp_path):
  with pytest.raises(FileNotFoundError):
    write(tmp_path / "missing" / "a.txt", b"one")
  with pytest.raises(IsADirectoryError):
    write(tmp_path, b"one")
  assert list(tmp_path.iterdir()) == []
