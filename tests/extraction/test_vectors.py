"""Vectors that are kept: by image and column, over interruptions, changed files, damage and a full disk."""

import errno
import random

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.extraction import vectors
from cwf_jax.extraction.vectors import DamagedVectorsError, VectorStore

IDS = tuple(f"b/{number}.jpg" for number in range(10))
SIGNED = {name: (100 + number, 10**18 + number) for number, name in enumerate(IDS)}


def _rows(names, column="raw"):
  """One vector an image, or three in half precision, that tell the image."""
  numbers = np.asarray([IDS.index(name) for name in names], np.float32)
  if column == "raw":
    return np.stack([numbers, numbers + 0.1], axis=1)[:, None]
  return np.stack([numbers, numbers * 2, numbers * 4], axis=1)[..., None].astype(np.float16)


def _add(store, names, columns=("raw",), signed=SIGNED):
  store.add(names, [signed[name] for name in names], {column: _rows(names, column) for column in columns})


def _read(store, column="raw", signed=SIGNED, **chosen):
  """By place."""
  found = {}
  for places, rows in store.read(column, signed, **chosen):
    assert not set(places) & set(found)
    found.update(zip(places.tolist(), rows, strict=True))
  return found


def _check_all(store, column="raw", signed=SIGNED):
  found = _read(store, column, signed)
  assert sorted(found) == list(range(len(signed)))
  for place, name in enumerate(signed):
    np.testing.assert_array_equal(found[place], _rows([name], column)[0])


def test_an_empty_store(tmp_path):
  store = VectorStore(tmp_path / "a" / "b")
  assert store.missing(SIGNED, ["raw"]) == IDS and store.missing({}, ["raw"]) == () and _read(store) == {}
  store.flush()
  assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("is_opened_again", [False, True])
def test_what_was_added_is_read(tmp_path, is_opened_again):
  store = VectorStore(tmp_path)
  for start in (6, 0, 3):  # not in the order of the images
    _add(store, IDS[start : start + 3], ("raw", "rmac"))
    store.flush()
  _add(store, IDS[9:], ("raw", "rmac"))
  store.flush()
  store = VectorStore(tmp_path) if is_opened_again else store
  for column in ("raw", "rmac"):
    assert store.missing(SIGNED, [column]) == ()
    _check_all(store, column)
  assert next(iter(store.read("rmac", SIGNED)))[1].dtype == np.float16
  chosen = _read(store, "rmac", chosen=[2, 0])
  np.testing.assert_array_equal(chosen[5], [[20], [5]])
  np.testing.assert_array_equal(_read(store, "rmac", chosen=slice(2))[5], [[5], [10]])
  some = {name: SIGNED[name] for name in (IDS[4], IDS[1])}
  np.testing.assert_array_equal(_read(store, signed=some)[0], _rows([IDS[4]])[0])


def test_columns_may_come_one_by_one(tmp_path):
  store = VectorStore(tmp_path)
  _add(store, IDS[:6], ("raw",))
  store.flush()
  _add(store, IDS[4:], ("rmac",))
  store.flush()
  assert store.missing(SIGNED, ["raw"]) == IDS[6:] and store.missing(SIGNED, ["rmac"]) == IDS[:4]
  assert store.missing(SIGNED, ["raw", "rmac"]) == IDS[:4] + IDS[6:]
  assert store.missing(SIGNED, ["other"]) == IDS and store.missing(SIGNED, []) == ()


def test_a_part_is_written_when_there_are_enough(tmp_path, monkeypatch):
  monkeypatch.setattr(vectors, "BYTES_A_PART", 4 * _rows(IDS[:1]).nbytes)
  store = VectorStore(tmp_path)
  for name in IDS:
    _add(store, [name])
  assert len(list(tmp_path.iterdir())) == 2  # and two images wait
  assert VectorStore(tmp_path).missing(SIGNED, ["raw"]) == IDS[8:]


def test_a_part_is_written_when_the_last_is_long_ago(tmp_path, monkeypatch):
  now = 100.0
  monkeypatch.setattr(vectors.time, "monotonic", lambda: now)
  store = VectorStore(tmp_path)
  _add(store, IDS[:1])
  assert not list(tmp_path.iterdir())
  now += vectors.SECONDS_A_PART + 1
  _add(store, IDS[1:2])
  assert VectorStore(tmp_path).missing(SIGNED, ["raw"]) == IDS[2:]


@pytest.mark.parametrize("changed", [(999, 10**18 + 3), (103, 5)], ids=["bytes", "time"])
def test_a_changed_file_is_missing_and_the_new_vectors_count(tmp_path, changed):
  store = VectorStore(tmp_path)
  _add(store, IDS)
  store.flush()
  signed = {**SIGNED, IDS[3]: changed}
  assert store.missing(signed, ["raw"]) == (IDS[3],) and 3 not in _read(store, signed=signed)
  store.add([IDS[3]], [changed], {"raw": np.full((1, 1, 2), 77, np.float32)})
  store.flush()
  for opened in (store, VectorStore(tmp_path)):
    assert opened.missing(signed, ["raw"]) == () and (_read(opened, signed=signed)[3] == 77).all()
    _check_all(opened)  # the file may come back


def _damage(path, kind):
  content = path.read_bytes()
  damaged = {
    "truncated": content[: len(content) // 2],
    "empty": b"",
    "random": random.Random(0).randbytes(len(content)),
    "text": b"not a part",
    "pickle": b"\x80\x04N.",
    "one byte less": content[:-1],
  }[kind]
  path.write_bytes(damaged)


@pytest.mark.parametrize("kind", ["truncated", "empty", "random", "text", "pickle", "one byte less"])
def test_a_damaged_part_is_left_aside(tmp_path, kind):
  store = VectorStore(tmp_path)
  _add(store, IDS[:5])
  store.flush()
  (damaged,) = tmp_path.iterdir()
  _add(store, IDS[5:])
  store.flush()
  _damage(damaged, kind)
  store = VectorStore(tmp_path)
  assert store.missing(SIGNED, ["raw"]) == IDS[:5]
  _add(store, IDS[:5])
  store.flush()
  _check_all(store)


@pytest.mark.parametrize("kind", ["truncated", "empty", "random", "text", "pickle", "gone"])
def test_parts_that_are_damaged_while_they_are_open_are_removed(tmp_path, kind):
  store = VectorStore(tmp_path)
  for ids in (IDS[:2], IDS[2:5], IDS[5:]):
    _add(store, ids)
    store.flush()
  for damaged in sorted(tmp_path.iterdir())[:2]:
    damaged.unlink() if kind == "gone" else _damage(damaged, kind)
  with pytest.raises(DamagedVectorsError) as caught:
    _read(store)
  assert str(caught.value) == f"2 files were damaged in {tmp_path} and removed; the images in it are computed again"
  assert store.missing(SIGNED, ["raw"]) == VectorStore(tmp_path).missing(SIGNED, ["raw"]) == IDS[:5]
  assert len(list(tmp_path.iterdir())) == 1
  _add(store, IDS[:5])
  store.flush()
  _check_all(store)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES])
def test_what_says_nothing_of_the_files_removes_none(tmp_path, monkeypatch, number):
  store = VectorStore(tmp_path)
  for ids in (IDS[:5], IDS[5:]):
    _add(store, ids)
    store.flush()
  before = sorted(tmp_path.iterdir())

  def fail(*_, **__):
    raise OSError(number, "not now")

  with monkeypatch.context() as patch:
    patch.setattr(vectors.np, "load", fail)
    with pytest.raises(OSError, match="not now"):
      _read(store)
    with pytest.raises(OSError, match="not now"):
      VectorStore(tmp_path)
  # One part is damaged, and the others cannot be looked at: they stay.
  before[0].write_bytes(b"not a part")
  with monkeypatch.context() as patch:
    patch.setattr(vectors.zipfile, "ZipFile", fail)
    with pytest.raises(OSError, match="not now"):
      _read(store)
  assert sorted(tmp_path.iterdir()) == before
  with pytest.raises(DamagedVectorsError, match=r"^1 file was damaged"):
    _read(store)
  assert sorted(tmp_path.iterdir()) == before[1:]


def test_any_byte_that_is_other_is_right_left_aside_or_told(tmp_path):
  """Nothing else is raised, and no other vector comes out."""
  store = VectorStore(tmp_path)
  _add(store, IDS[:2], ("raw", "rmac"))
  store.flush()
  (path,) = tmp_path.iterdir()
  content, generator = path.read_bytes(), random.Random(1)
  two = {name: SIGNED[name] for name in IDS[:2]}
  outcomes = set()
  for place in range(0, len(content), 3):
    changed = bytearray(content)
    changed[place] ^= 1 << generator.randrange(8)
    path.write_bytes(changed)
    store = VectorStore(tmp_path)
    missing = store.missing(two, ["raw"])
    if missing:
      outcomes.add("left aside")
      continue
    try:
      _check_all(store, signed=two)
      outcomes.add("right")
    except InputError:
      outcomes.add("told")
  assert outcomes == {"left aside", "right", "told"}


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
  store = VectorStore(tmp_path)
  _add(store, IDS[:5])
  store.flush()
  before = sorted(tmp_path.iterdir())

  def write(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(vectors, "write_whole", write)
  _add(store, IDS[5:])
  with pytest.raises(OSError, match="No space left"):
    store.flush()
  monkeypatch.undo()
  assert sorted(tmp_path.iterdir()) == before
  for opened in (store, VectorStore(tmp_path)):
    assert opened.missing(SIGNED, ["raw"]) == IDS[5:]
  _add(store, IDS[5:])
  store.flush()
  _check_all(store)


def test_a_disk_that_fills_while_a_part_is_written_leaves_no_file(tmp_path, monkeypatch):
  store = VectorStore(tmp_path)
  _add(store, IDS)
  monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
  with pytest.raises(OSError, match="No space left"):
    store.flush()
  assert list(tmp_path.iterdir()) == []
