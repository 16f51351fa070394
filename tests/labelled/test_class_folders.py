"""Class folders in a folder and in a tar: the same pool; what is refused, and in what words."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.labelled.class_folders import open_pool
from cwf_jax.labelled.pool import Pool

EXTENSIONS = frozenset((".jpg", ".png"))
SHARED = Path(__file__).parents[3] / "shared" / "data" / "train"

FLOWERS = {
  "rose/2.jpg": b"rose two",
  "rose/10.JPG": b"rose ten",
  "tulip/deep/er/1.png": b"tulip",
  "tulip/0.jpg": b"another tulip",
  "tulip/notes.txt": b"no image",
  "tulip/.hidden.jpg": b"no image",
  ".git/objects/1.jpg": b"no image",
  "daisy/a b.png": b"daisy",
}
"""Files by name: three classes, five images."""


def _write_folder(root, files):
  for name, content in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return root


def _write_tar(path, files, members=None):
  """`members` are (type, link target) of those without content, by name."""
  with tarfile.open(path, "w") as tar:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
    for name, (kind, target) in (members or {}).items():
      member = tarfile.TarInfo(name)
      member.type, member.linkname = kind, target
      tar.addfile(member)
  return path


def _write(tmp_path, kind, files):
  if kind == "tar":
    return _write_tar(tmp_path / "data.tar", files)
  (tmp_path / "data").mkdir(exist_ok=True)
  return _write_folder(tmp_path / "data", files)


def _contents(pool: Pool):
  return [(name, pool.classes[pool.labels[index]], pool.read(index)) for index, name in enumerate(pool.names)]


def _refusal(source, **settings):
  with pytest.raises(InputError) as caught:
    open_pool(source, EXTENSIONS, **settings)
  assert "\n" not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_images_anywhere_below_a_class_folder_are_its_own(tmp_path, kind):
  pool = open_pool(_write(tmp_path, kind, FLOWERS), EXTENSIONS)
  assert pool.classes == ("daisy", "rose", "tulip")
  assert _contents(pool) == [
    ("daisy/a b.png", "daisy", b"daisy"),
    ("rose/10.JPG", "rose", b"rose ten"),
    ("rose/2.jpg", "rose", b"rose two"),
    ("tulip/0.jpg", "tulip", b"another tulip"),
    ("tulip/deep/er/1.png", "tulip", b"tulip"),
  ]
  assert len(pool) == 5 and pool.labels.dtype == np.int32 and pool.skipped == ()


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("held_out", ["val", "validation", "test"])
def test_splits_are_folders(tmp_path, kind, held_out):
  files = {f"train/{name}": content for name, content in FLOWERS.items()}
  files |= {f"{held_out}/rose/9.jpg": b"held out", "meta/README.txt": b"no image"}
  source = _write(tmp_path, kind, files)
  train = open_pool(source, EXTENSIONS)
  assert train.classes == ("daisy", "rose", "tulip") and len(train) == 5
  assert all(name.startswith("train/") for name in train.names)
  assert _contents(open_pool(source, EXTENSIONS, "val")) == [(f"{held_out}/rose/9.jpg", "rose", b"held out")]


def test_the_first_of_several_held_out_folders_is_the_validation_set(tmp_path):
  files = {f"{split}/{name}/1.jpg": split.encode() for split in ("train", "test", "val", "validation") for name in "ab"}
  assert {content for _, _, content in _contents(open_pool(_write_folder(tmp_path, files), EXTENSIONS, "val"))} == {b"val"}


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("start", ["", "train/"])
def test_a_split_that_is_not_there(tmp_path, kind, start):
  source = _write(tmp_path, kind, {start + name: content for name, content in FLOWERS.items()})
  assert open_pool(source, EXTENSIONS, "val", optional=True) is None
  assert "there is no folder val or validation or test with images" in _refusal(source, split="val")


def test_only_held_out_images(tmp_path):
  assert "there is no folder train" in _refusal(_write_folder(tmp_path, {"val/a/1.jpg": b"", "val/b/1.jpg": b""}))


def test_classes_may_have_names_of_splits(tmp_path):
  pool = open_pool(_write_folder(tmp_path, {"train/1.jpg": b"", "bus/1.jpg": b"", "val/1.jpg": b""}), EXTENSIONS)
  assert pool.classes == ("bus", "train", "val")


def test_splits_beside_other_folders_are_ambiguous(tmp_path):
  source = _write_folder(tmp_path, {"train/a/1.jpg": b"", "train/b/1.jpg": b"", "unlabeled/1.jpg": b""})
  assert "images in other folders (unlabeled); name the folder" in _refusal(source)


@pytest.mark.parametrize("start", ["./", "flowers/", "./data/flowers/", "flowers/train/", "/home/someone/"])
def test_folders_around_everything_in_a_tar(tmp_path, start):
  source = _write_tar(tmp_path / "data.tar", {start + name: content for name, content in FLOWERS.items()})
  pool = open_pool(source, EXTENSIONS)
  assert pool.classes == ("daisy", "rose", "tulip") and len(pool) == 5
  assert pool.names[0] == f"{start}daisy/a b.png".lstrip("./")


def test_a_tar_is_read_from_many_threads(tmp_path):
  files = {f"{number % 3}/{number}.jpg": bytes([number]) * (1000 + number) for number in range(200)}
  pool = open_pool(_write_tar(tmp_path / "data.tar", files), EXTENSIONS)
  with ThreadPoolExecutor(8) as executor:
    read = list(executor.map(pool.read, list(range(len(pool))) * 5))
  assert read == [files[name] for name in pool.names] * 5


def test_a_pool_closes_its_tar(tmp_path):
  source = _write_tar(tmp_path / "data.tar", FLOWERS)
  before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("no /proc")
  pool = open_pool(source, EXTENSIONS)
  kept = pool.keep([0])
  del pool
  assert kept.read(0) == b"daisy"
  del kept
  assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_tar_names_is_never_followed(tmp_path):
  (tmp_path / "secret.jpg").write_bytes(b"secret")
  members = {
    "rose/link.jpg": (tarfile.SYMTYPE, "../secret.jpg"),
    "rose/hard.jpg": (tarfile.LNKTYPE, "rose/2.jpg"),
    "rose/pipe.jpg": (tarfile.FIFOTYPE, ""),
    "link": (tarfile.SYMTYPE, "/"),
    "../elsewhere": (tarfile.DIRTYPE, ""),
  }
  files = FLOWERS | {"../evil.jpg": b"evil", "rose/../../evil.jpg": b"evil"}
  source = _write_tar(tmp_path / "data.tar", files, members=members)
  pool = open_pool(source, EXTENSIONS)
  assert len(pool) == 5 and pool.classes == ("daisy", "rose", "tulip")
  assert pool.skipped == (
    ("../evil.jpg", "its name holds '..'"),
    ("rose/../../evil.jpg", "its name holds '..'"),
    ("rose/hard.jpg", "a link inside a tar"),
    ("rose/link.jpg", "a link inside a tar"),
    ("rose/pipe.jpg", "not a regular file"),
  )
  assert sorted(path.name for path in tmp_path.iterdir()) == ["data.tar", "secret.jpg"]


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no GNU tar")
@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_sparse_files_of_a_tar_are_told(tmp_path, form):
  _write_folder(tmp_path / "data", FLOWERS)
  with (tmp_path / "data" / "rose" / "holes.jpg").open("wb") as file:
    file.truncate(10**6)
    file.seek(500_000)
    file.write(b"image")
  command = ["tar", "-S", f"--format={form}", "-C", tmp_path / "data", "-cf", tmp_path / "data.tar", "."]
  if subprocess.run(command, capture_output=True).returncode:
    pytest.skip("this tar does not write sparse files")
  pool = open_pool(tmp_path / "data.tar", EXTENSIONS)
  assert pool.skipped == (("rose/holes.jpg", "a sparse file inside a tar"),)
  assert _contents(pool) == _contents(open_pool(_write_folder(tmp_path / "again", FLOWERS), EXTENSIONS))


def test_the_last_member_of_a_name_counts(tmp_path):
  source = _write_tar(tmp_path / "data.tar", FLOWERS)
  with tarfile.open(source, "a") as tar:
    member = tarfile.TarInfo("rose/2.jpg")
    member.size = 3
    tar.addfile(member, io.BytesIO(b"new"))
  pool = open_pool(source, EXTENSIONS)
  assert len(pool) == 5 and pool.read(pool.names.index("rose/2.jpg")) == b"new"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_every_form_of_tar(tmp_path, form):
  names = [f"{'deep/' * 20}{letter * 40}/é.jpg" for letter in "ab"]
  with tarfile.open(tmp_path / "data.tar", "w", format=form) as tar:
    for name in names:
      member = tarfile.TarInfo(name)
      member.size = 5
      tar.addfile(member, io.BytesIO(b"image"))
  pool = open_pool(tmp_path / "data.tar", EXTENSIONS)
  assert pool.names == tuple(names) and pool.classes == ("a" * 40, "b" * 40) and pool.read(1) == b"image"


def test_a_tar_cut_anywhere_is_refused(tmp_path):
  source = _write_tar(tmp_path / "data.tar", {"a/1.jpg": b"x" * 700, "b/1.jpg": b"y" * 10, "b/2.jpg": b"z" * 512})
  content = source.read_bytes()
  end = 512 * (1 + 2 + 1 + 1 + 1 + 1)  # headers and contents; the end mark follows
  assert content[end - 1 :] == b"z" + bytes(len(content) - end)
  for length in [*range(0, end, 37), *range(0, end + 1, 512), end + 100, end + 511]:
    source.write_bytes(content[:length])
    message = _refusal(source)
    assert "truncated or damaged" in message or (length <= 512 and "neither a folder" in message), (length, message)
  source.write_bytes(content[: end + 512])
  assert len(open_pool(source, EXTENSIONS)) == 3


def test_a_tar_that_shrinks_while_it_is_used(tmp_path):
  source = _write_tar(tmp_path / "data.tar", FLOWERS)
  pool = open_pool(source, EXTENSIONS)
  os.truncate(source, 600)
  with pytest.raises(OSError, match="0 of 5 bytes are there"):
    pool.read(0)


def test_damage_inside_a_tar(tmp_path):
  source = _write_tar(tmp_path / "data.tar", FLOWERS)
  content = bytearray(source.read_bytes())
  content[1024 + 130] ^= 1  # in the second header
  source.write_bytes(content)
  assert "damaged: there is neither a file nor an end mark at byte 1024" in _refusal(source)


def test_a_member_that_reaches_beyond_the_end(tmp_path):
  member = tarfile.TarInfo("a/1.jpg")
  member.size = 10**6
  (tmp_path / "data.tar").write_bytes(member.tobuf() + bytes(2048))
  assert "a/1.jpg reaches beyond its end" in _refusal(tmp_path / "data.tar")


@pytest.mark.parametrize(
  ("ending", "module", "command"), [("gz", gzip, "gunzip"), ("bz2", bz2, "bunzip2"), ("xz", lzma, "unxz")]
)
def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path, ending, module, command):
  source = _write_tar(tmp_path / "data.tar", FLOWERS)
  compressed = tmp_path / f"data.tar.{ending}"
  compressed.write_bytes(module.compress(source.read_bytes()))
  message = _refusal(compressed)
  assert "is compressed" in message and f"{command} -k data.tar.{ending}" in message


def test_a_zip_is_refused_with_the_way_out(tmp_path):
  (tmp_path / "data.zip").write_bytes(b"PK\x03\x04" + bytes(2000))
  assert "unzip data.zip" in _refusal(tmp_path / "data.zip")


def test_sources_that_are_none(tmp_path):
  (tmp_path / "text.tar").write_bytes(b"not a tar " * 200)
  (tmp_path / "empty.tar").write_bytes(b"")
  (tmp_path / "nothing.tar").write_bytes(bytes(10240))
  os.mkfifo(tmp_path / "pipe")
  assert "there is no file or folder" in _refusal(tmp_path / "missing")
  assert "there is no file or folder" in _refusal(tmp_path / "text.tar" / "below")
  assert "neither a folder of class folders nor a tar" in _refusal(tmp_path / "text.tar")
  assert "neither a folder of class folders nor a tar" in _refusal(tmp_path / "empty.tar")
  assert "there are no images in" in _refusal(tmp_path / "nothing.tar")
  assert "neither a folder of class folders nor a tar" in _refusal(tmp_path / "pipe")
  assert "there is no file or folder" in _refusal(f"{tmp_path}/a\nb")
  assert "cannot be read" in _refusal("x" * 3000)
  _refusal("a\0b")


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_pools_that_nothing_can_be_learned_from(tmp_path, kind):
  def refusal(files):
    for path in (tmp_path / "data.tar", tmp_path / "data"):
      if path.exists():
        path.rename(tmp_path / f"old {len(list(tmp_path.iterdir()))}")
    return _refusal(_write(tmp_path, kind, files))

  message = "a network learns to tell classes apart: at least 2 class folders, found 1: rose"
  assert message in refusal({"rose/1.jpg": b""})
  assert message in refusal({"train/rose/1.jpg": b"", "val/rose/1.jpg": b"", "val/tulip/1.jpg": b""})
  assert "there are no images in" in refusal({"rose/1.txt": b"", "tulip/1.gif": b""})
  assert "it ends in .jpg, .png" in refusal({"rose/1.txt": b""})
  assert "its 2 images lie right in it; put" in refusal({"1.jpg": b"", "2.jpg": b""})
  assert "/train: its 1 images lie right in it; put" in refusal({"train/1.jpg": b"", "val/2.jpg": b""})
  files = {"a/1.jpg": b"", "b/1.jpg": b"", **{f"empty {number}/notes.txt": b"" for number in range(10)}}
  if kind == "folder":  # a tar tells of a folder only where it is a member
    message = refusal(files)
    assert "10 class folders of" in message and "empty 0, empty 1" in message and "and 2 more" in message


def test_empty_class_folders_of_a_tar(tmp_path):
  source = _write_tar(tmp_path / "data.tar", FLOWERS, members={"lily": (tarfile.DIRTYPE, "")})
  assert "1 class folders of" in _refusal(source) and _refusal(source).endswith(": lily")


def test_images_beside_the_class_folders_are_told(tmp_path):
  pool = open_pool(_write_folder(tmp_path, FLOWERS | {"poster.jpg": b""}), EXTENSIONS)
  assert len(pool) == 5 and pool.skipped == (("poster.jpg", "not in a class folder"),)


def test_names_that_are_not_utf8_are_told(tmp_path):
  (tmp_path / "data").mkdir()
  _write_folder(tmp_path / "data", FLOWERS)
  try:
    Path(os.fsdecode(os.fsencode(tmp_path / "data" / "rose") + b"/\xff.jpg")).write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/\xfe")).mkdir()
  except OSError:
    pytest.skip("the file system takes names in UTF-8 only")
  with tarfile.open(tmp_path / "data.tar", "w", format=tarfile.GNU_FORMAT) as tar:
    tar.add(tmp_path / "data", "")
  folder, tar = (open_pool(tmp_path / name, EXTENSIONS) for name in ("data", "data.tar"))
  assert folder.names == tar.names and folder.classes == tar.classes == ("daisy", "rose", "tulip")
  assert ("rose/\\udcff.jpg", "the name is not UTF-8") in folder.skipped
  assert ("rose/\\udcff.jpg", "the name is not UTF-8") in tar.skipped


def test_links_in_folders(tmp_path):
  _write_folder(tmp_path / "real", {"1.jpg": b"lily", "more/2.jpg": b"lily two"})
  source = _write_folder(tmp_path / "data", FLOWERS)
  (source / "lily").symlink_to(tmp_path / "real")
  (source / "rose" / "loop").symlink_to(source / "rose")
  (source / "rose" / "file.jpg").symlink_to(tmp_path / "real" / "1.jpg")
  (source / "rose" / "broken.jpg").symlink_to(tmp_path / "nowhere")
  os.mkfifo(source / "rose" / "pipe.jpg")
  pool = open_pool(source, EXTENSIONS)
  assert {"lily/1.jpg", "lily/more/2.jpg", "rose/file.jpg", "rose/loop/2.jpg"} <= set(pool.names)
  assert "rose/loop/loop/2.jpg" not in pool.names
  assert pool.read(pool.names.index("rose/file.jpg")) == b"lily"
  assert {("rose/broken.jpg", "not a regular file"), ("rose/pipe.jpg", "not a regular file")} <= set(pool.skipped)


def test_some_images_of_a_pool(tmp_path):
  pool = open_pool(_write_folder(tmp_path, FLOWERS), EXTENSIONS)
  kept = pool.keep([4, 1])
  assert _contents(kept) == [("rose/10.JPG", "rose", b"rose ten"), ("tulip/deep/er/1.png", "tulip", b"tulip")]
  assert kept.classes == ("rose", "tulip") and kept.labels.dtype == np.int32
  assert _contents(kept.keep([1])) == [("tulip/deep/er/1.png", "tulip", b"tulip")]
  assert len(pool.keep([])) == 0


def test_an_image_that_is_gone(tmp_path):
  pool = open_pool(_write_folder(tmp_path, FLOWERS), EXTENSIONS)
  (tmp_path / pool.names[0]).unlink()
  with pytest.raises(FileNotFoundError):
    pool.read(0)


def test_folders_need_no_tensorflow_datasets():
  loaded = "any(name in sys.modules for name in ('tensorflow_datasets', 'jax'))"
  code = f"import sys, cwf_jax.labelled.class_folders; sys.exit({loaded})"
  assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real tars are not here")
@pytest.mark.parametrize(
  ("name", "split", "images", "classes"),
  [("tiny_imagenet", "train", 43430, 202), ("tiny_imagenet", "val", 2020, 202), ("imagenet_samples", "train", 959, 959)],
)
def test_real_tars(name, split, images, classes):
  pool = open_pool(SHARED / f"{name}.tar", EXTENSIONS | {".jpeg", ".webp"}, split)
  assert (len(pool), len(pool.classes), pool.skipped) == (images, classes, ())
  with tarfile.open(SHARED / f"{name}.tar", "r:") as tar:
    for index in np.random.default_rng(0).integers(len(pool), size=5):
      assert pool.read(index) == tar.extractfile(pool.names[index]).read()
