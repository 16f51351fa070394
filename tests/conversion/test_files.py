"""What a file is, by its first bytes; of HDF5 only plain numbers in their place are read."""

import gzip
import os
import pickle
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from cwf_jax.conversion import files
from cwf_jax.conversion.files import ConversionError
from tests.conversion.foreign import draw_weights, write_keras_h5


class _Harmful:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (str(self.path), "w"))


def _zip(path, *names):
  with zipfile.ZipFile(path, "w") as archive:
    for name in names:
      archive.writestr(name, b"x")


def _tar(path):
  with tarfile.open(path, "w") as archive:
    archive.add(__file__, "a")


def _numpy(save):
  def write(path):
    with path.open("wb") as file:
      save(file, np.ones(3))

  return write


def _write(content):
  return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda path: None, "there is no file"),
    (_write(b""), "is empty"),
    (_write(b"\x89HDF"), "cut off after 4 bytes"),
    (lambda path: path.mkdir(), "is a folder"),
    (lambda path: _zip(path, "a.txt"), "a zip archive without weights"),
    (_numpy(np.save), "an array of NumPy"),
    (_write(b"PK\x03\x04" + bytes(50)), "a zip archive that is cut off or damaged; download it again"),
    (_write(pickle.dumps([1], 2)), "a pickle"),
    (_write(pickle.dumps([1], 0)), "of an unknown kind"),
    (_write(gzip.compress(b"x")), "gzip"),
    (_tar, "a tar archive"),
    (_write(b"\x1c\x00\x00\x00TFL3" + bytes(50)), "TensorFlow Lite"),
    (_write(b"<!DOCTYPE html><html>"), "an HTML or XML page"),
    (_write(b'{"error": 404}'), "JSON"),
    (_write(b"version https://git-lfs.github.com/spec/v1"), "a pointer of git-lfs"),
    (_write(bytes(5000)), r"of an unknown kind .*What is read: HDF5, \.keras, .*; other weights come in from Python"),
    (_write(b"\n\x05VGG16, and text"), "of an unknown kind"),
    (_write(b"\n"), "of an unknown kind"),
    (_write(b"MATLAB 5.0 MAT-file"), "a MATLAB file"),
    (_write(b"weights"), "of an unknown kind .its first bytes are 77 65 69"),
  ],
)
def test_what_is_not_read_is_named(tmp_path, make, message):
  path = tmp_path / "given"
  make(path)
  with pytest.raises(ConversionError, match=message) as caught:
    files.find_kind(path)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("x.onnx", "a model of ONNX; export"),
    ("saved_model.pb", "a graph of TensorFlow; export"),
    ("vgg_16.ckpt", "a part of a checkpoint of TensorFlow; export Keras's .weights.h5 or a state dict"),
    ("x.data-00000-of-00001", "a part of a checkpoint of TensorFlow"),
    ("x.index", "a part of a checkpoint of TensorFlow"),
  ],
)
def test_a_kind_with_any_bytes_is_named_by_its_ending(tmp_path, name, message):
  (tmp_path / name).write_bytes(b"\x08\x07\x12\x07pytorch")
  with pytest.raises(ConversionError, match=message):
    files.find_kind(tmp_path / name)


@pytest.mark.parametrize(
  ("make", "kind"),
  [
    (lambda path: _zip(path, "config.json", "model.weights.h5"), files.KERAS_ZIP),
    (lambda path: _zip(path, "archive/data.pkl", "archive/data/0"), files.TORCH),
    (_numpy(np.savez), files.NPZ),
    (_write(b"\x02\x00\x00\x00\x00\x00\x00\x00{}      "), files.SAFETENSORS),
    (_write(b"\n\x05VGG16\x12\x00"), files.CAFFE),
    (_write(b"\n\x05VGG16\xa2\x06\x00"), files.CAFFE),
    (_write(b"\xa2\x06\x00"), files.CAFFE),
    (_write(b"\x89HDF\r\n\x1a\n"), files.HDF5),
    (_write(bytes(2048) + b"\x89HDF\r\n\x1a\n"), files.HDF5),
  ],
)
def test_what_is_read_is_known_by_its_first_bytes(tmp_path, make, kind):
  make(tmp_path / "given")
  assert files.find_kind(tmp_path / "given") == (tmp_path / "given", kind)


def test_a_checkpoint_of_ours_is_named(tiny_checkpoint):
  with pytest.raises(ConversionError, match="a checkpoint of cwf_jax already: --weights="):
    files.find_kind(tiny_checkpoint)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_never_run(tmp_path, protocol):
  made = tmp_path / "made"
  path = tmp_path / "weights.pkl"
  path.write_bytes(pickle.dumps(_Harmful(made), protocol))
  with pytest.raises(ConversionError):
    files.find_kind(path)
  assert not made.exists()
  pickle.loads(path.read_bytes()).close()
  assert made.exists()  # so the test would have noticed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  with pytest.raises(ConversionError, match="a device or a pipe"):
    files.find_kind(tmp_path / "pipe")


def test_a_name_that_no_file_can_have_is_refused():
  with pytest.raises(ConversionError, match="cannot be read: embedded null byte"):
    files.find_kind("a\0b")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_reported(tmp_path):
  path = tmp_path / "secret.h5"
  path.touch(0)
  with pytest.raises(ConversionError, match="cannot be read: Permission denied"):
    files.find_kind(path)


def test_a_truncated_file_tells_how_much_is_there(tmp_path):
  path = write_keras_h5(tmp_path / "cut.h5", draw_weights())
  whole = path.read_bytes()
  path.write_bytes(whole[:9000])
  with pytest.raises(ConversionError, match=f"is cut off: 9000 bytes are here of {len(whole)}"), files.open_hdf5(path):
    pass


def test_a_file_is_hashed_by_its_bytes(tmp_path):
  (tmp_path / "abc").write_bytes(b"abc")
  assert files.hash_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_link_is_not_followed(made, tmp_path):
  with h5py.File(tmp_path / "other.h5", "w") as other:
    other["secret"] = np.ones(3)
  made["group/inner"] = np.ones(3)
  made["outside"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")
  made["inside"] = h5py.SoftLink("/group/inner")
  made["group/up"] = h5py.SoftLink("/outside")
  for path in ("outside", "inside", "group/up", "inside/x"):
    with pytest.raises(ConversionError, match="is a link; only what lies in its place is read"):
      files.open_child(made, path)
  with pytest.raises(ConversionError, match="is a link"):
    files.list_datasets(made)
  assert files.open_child(made, "group/inner").shape == (3,)


@pytest.mark.parametrize("path", ["nothing", "group/nothing", "group/inner/deeper", "", ".", "group//inner", "/group"])
def test_what_is_not_there_is_none(made, path):
  made["group/inner"] = np.ones(3)
  assert files.open_child(made, path) is None


def test_a_type_in_the_place_of_an_array_is_refused(made):
  made["kind"] = np.dtype("f8")
  with pytest.raises(ConversionError, match="neither a group nor a data set"):
    files.open_child(made, "kind")


def test_a_loop_of_groups_comes_to_an_end(made, monkeypatch):
  monkeypatch.setattr(files, "MOST_OBJECTS", 50)
  made.create_group("a/b")
  made["a/b/back"] = made["a"]
  with pytest.raises(ConversionError, match="more than 50 groups and data sets, or a loop"):
    files.list_datasets(made)


def test_data_sets_are_listed_by_their_paths(made):
  made["a/b/c"], made["d"] = np.ones(2), np.ones(3)
  assert {path: one.shape for path, one in files.list_datasets(made).items()} == {"a/b/c": (2,), "d": (3,)}


def test_an_array_in_another_file_is_refused(made, tmp_path):
  (tmp_path / "raw").write_bytes(bytes(12))
  made.create_dataset("raw", (3,), "f4", external=[(str(tmp_path / "raw"), 0, 12)])
  layout = h5py.VirtualLayout((3,), "f4")
  layout[:] = h5py.VirtualSource(str(tmp_path / "raw.h5"), "x", (3,))
  made.create_virtual_dataset("virtual", layout)
  for name in ("raw", "virtual"):
    assert files.find_storage_problem(made[name]) == "has its values in another file, expected in this one"


def test_a_piece_that_is_too_large_is_refused(made):
  pieces = made.create_dataset("pieces", (3,), "f4", chunks=(2**27,), maxshape=(None,))
  assert files.find_storage_problem(pieces) == f"is cut into pieces of ({2**27},), too large for its (3,)"


def test_known_filters_are_taken_and_no_other(made):
  packed = {"compression": "gzip", "shuffle": True, "fletcher32": True}
  assert files.find_storage_problem(made.create_dataset("gzip", (3,), "f4", **packed)) is None
  assert files.find_storage_problem(made.create_dataset("lzf", (3,), "f4", compression="lzf")) is None
  scaled = made.create_dataset("scaled", (3,), "f4", scaleoffset=2)
  message = "is packed by the filter 6 of HDF5, expected gzip, shuffle, fletcher32, lzf or none"
  assert files.find_storage_problem(scaled) == message


def test_texts_are_read_as_keras_writes_them(made):
  made.attrs["fixed"] = np.asarray([b"a", b"bc"])
  made.attrs["free"] = [b"a", b"bc"]
  made.attrs["one"] = "name"
  made.attrs["none"] = np.asarray([])
  for number in range(3):
    made.attrs[f"long{number}"] = np.asarray([f"{number}".encode()])
  made.attrs["numbers"] = np.ones(3)
  found = {name: files.read_texts(made, name) for name in ("fixed", "free", "one", "none", "long", "numbers", "absent")}
  assert found == {"fixed": ["a", "bc"], "free": ["a", "bc"], "one": ["name"], "none": [], "long": ["0", "1", "2"],
                   "numbers": None, "absent": None}  # fmt: skip


def test_a_file_is_closed_when_reading_it_fails(tmp_path):
  path = write_keras_h5(tmp_path / "a.h5", draw_weights())
  with pytest.raises(ConversionError, match="it is damaged: odd"), files.open_hdf5(path) as file:
    raise RuntimeError("odd\nsecond line")
  assert not file


def test_an_interrupt_is_no_damage(tmp_path):
  path = write_keras_h5(tmp_path / "a.h5", draw_weights())
  with pytest.raises(KeyboardInterrupt), files.open_hdf5(path):
    raise KeyboardInterrupt
