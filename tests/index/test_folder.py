"""Folders that are no index, damaged ones, and the right to write: always one clear line."""

import os
import signal
import subprocess
import sys

import lance
import pyarrow as pa
import pytest

from cwf_jax.index import folder as folders
from cwf_jax.index.schema import FORMAT
from cwf_jax.index.store import Index, IndexFolderError, check_place, is_index, open_index, writing
from tests.index.rows import SETTINGS, make_table


@pytest.fixture
def index(tmp_path):
  """Two commits of 40 rows."""
  made = Index.create(tmp_path / "i", SETTINGS, None)
  for part in range(2):
    made.commit(make_table(SETTINGS, [f"{part}/{number:02}" for number in range(40)], part))
  return made


def _refusal(path):
  with pytest.raises(IndexFolderError) as caught:
    opened = open_index(path)
    opened.files("/photographs", "")
    opened.snapshot  # noqa: B018
  text = str(caught.value)
  assert "\n" not in text and ".rs" not in text and len(text) < 500
  assert str(path) in text
  return text


def test_what_is_no_index(tmp_path):
  (tmp_path / "file").write_text("x")
  (tmp_path / "empty").mkdir()
  (tmp_path / "photographs").mkdir()
  (tmp_path / "photographs/a.jpg").touch()
  assert "there is no index" in _refusal(tmp_path / "missing")
  assert "there is no index" in _refusal(tmp_path / "file/below")
  for name in ("file", "empty", "photographs"):
    assert "is not an index" in _refusal(tmp_path / name)
    assert not is_index(tmp_path / name)


def test_a_foreign_data_set_and_another_format(tmp_path, index):
  lance.write_dataset(pa.table({"id": ["a"]}), str(tmp_path / "foreign/images.lance"))
  assert "not an index of cwf_jax" in _refusal(tmp_path / "foreign")
  other = make_table(SETTINGS, ["a"])
  metadata = {key: value.replace(b'"format": %d' % FORMAT, b'"format": 99') for key, value in other.schema.metadata.items()}
  lance.write_dataset(other.replace_schema_metadata(metadata), str(tmp_path / "later/images.lance"))
  assert "its format is 99" in _refusal(tmp_path / "later")


def _cut(path):
  os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("place", ["_versions/*.manifest", "data/*"])
@pytest.mark.parametrize(
  "harm", [_cut, os.unlink, lambda path: path.write_bytes(os.urandom(path.stat().st_size)), lambda path: os.truncate(path, 0)]
)
def test_a_damaged_index_is_refused_in_one_line(index, place, harm):
  for path in (index.folder / "images.lance").glob(place):
    harm(path)
  assert "damaged" in _refusal(index.folder)


def test_a_panic_of_lance_is_damage_too(tmp_path):
  panic = type("PanicException", (BaseException,), {})
  with pytest.raises(IndexFolderError, match=r"damaged: index out of bounds$"), folders.reading_from(tmp_path):
    raise panic("index out of bounds\nbacktrace")
  with pytest.raises(OSError, match=r"cannot be written: No space left on device$"), folders.writing_to(tmp_path):
    raise OSError("LanceError(IO): No space left on device, /build/lance/rust/file.rs:12:3")


@pytest.mark.parametrize("context", [folders.reading_from, folders.writing_to])
def test_an_interruption_is_no_damage(tmp_path, context):
  """Lance makes an error of the KeyboardInterrupt that it meets while it reads."""
  for error in (KeyboardInterrupt(), pa.ArrowInvalid("External error: KeyboardInterrupt: "), OSError("KeyboardInterrupt")):
    with pytest.raises(KeyboardInterrupt), context(tmp_path):
      raise error
  with pytest.raises(SystemExit), context(tmp_path):
    raise SystemExit(1)


def test_a_run_that_was_killed_before_its_first_commit_leaves_no_index(tmp_path):
  (tmp_path / "i/images.lance/_transactions").mkdir(parents=True)
  (tmp_path / "i/images.lance/_versions").mkdir()
  (tmp_path / "i/.lock").touch()
  assert not is_index(tmp_path / "i")
  assert len(Index.create(tmp_path / "i", SETTINGS, None)) == 0


def test_an_index_takes_no_folder_of_something_else(tmp_path):
  (tmp_path / "photographs").mkdir()
  (tmp_path / "photographs/a.jpg").touch()
  (tmp_path / "file").touch()
  for call in (check_place, lambda path: writing(path).__enter__(), lambda path: Index.create(path, SETTINGS, None)):
    with pytest.raises(IndexFolderError, match=r"neither empty nor an index.*a.jpg"):
      call(tmp_path / "photographs")
    with pytest.raises(IndexFolderError, match="is a file"):
      call(tmp_path / "file")
  assert os.listdir(tmp_path / "photographs") == ["a.jpg"]
  with pytest.raises(IndexFolderError, match="is a file"), writing(tmp_path / "file/below"):
    pass
  for name in ("caf\udce9", "zero\0", "line\nbreak"):
    with pytest.raises(IndexFolderError, match="the name of the index"):
      open_index(tmp_path / name)


@pytest.mark.parametrize("name", ["with space", "100%25", "a#b?c", "é 中", "a:b", "it's", 'double"quote', "non\xa0breaking"])
def test_any_name_will_do(tmp_path, name, monkeypatch):
  monkeypatch.chdir(tmp_path)
  made = Index.create(name, SETTINGS, None)
  made.commit(make_table(SETTINGS, ["a"]))
  assert len(open_index(name)) == 1
  assert sorted(os.listdir(tmp_path / name)) == ["images.lance"]


def test_the_second_writer_is_refused(tmp_path):
  with writing(tmp_path / "i"):
    with pytest.raises(IndexFolderError, match="written by another run"), writing(tmp_path / "i"):
      pass
    code = f"from cwf_jax.index.store import writing\nwith writing({str(tmp_path / 'i')!r}): pass"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "written by another run" in ended.stderr
  with writing(tmp_path / "i"):
    pass


def test_the_lock_of_a_killed_run_is_no_obstacle(tmp_path):
  code = f"""
from cwf_jax.index.store import writing
import time
with writing({str(tmp_path / 'i')!r}):
  print("held", flush=True)
  time.sleep(60)
"""
  process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
  with process.stdout:
    assert process.stdout.readline() == "held\n"
  with pytest.raises(IndexFolderError), writing(tmp_path / "i"):
    pass
  process.send_signal(signal.SIGKILL)
  process.wait()
  with writing(tmp_path / "i"):
    pass
