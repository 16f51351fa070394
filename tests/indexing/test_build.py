"""From files to rows: fresh, again, changed, removed, broken; every setting; whatever stopped it."""

import hashlib
import os
import shutil

import numpy as np
import pytest

from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.images.decoding import decode_image
from cwf_jax.index.store import IndexFolderError, open_index
from cwf_jax.indexing import build
from tests.indexing.rows import build_index, describe_directly, rows_of


def test_every_image_is_stored_with_its_descriptor(photographs, tmp_path, tiny_encoder):
  calls = []
  summary = build_index(photographs, tmp_path / "i", tiny_encoder, progress=lambda *state: calls.append(state))
  assert (summary.indexed, summary.unchanged, summary.removed, summary.skipped, summary.rows) == (12, 0, 0, (), 12)
  assert summary.class_note.startswith("the weights are random")
  assert calls[-1] == (12, 12, 0)
  rows = rows_of(tmp_path / "i")
  assert sorted(rows) == sorted(path.relative_to(photographs).as_posix() for path in photographs.rglob("*.png"))
  for name, descriptor in rows.items():
    # A batch of two against a batch of one: rounding of float32.
    np.testing.assert_allclose(descriptor, describe_directly(tiny_encoder, photographs / name), atol=1e-5)


def test_a_second_run_finds_nothing_to_do(photographs, tmp_path, tiny_encoder):
  build_index(photographs, tmp_path / "i", tiny_encoder)
  version = open_index(tmp_path / "i").version
  summary = build_index(photographs, tmp_path / "i", tiny_encoder)
  assert (summary.indexed, summary.unchanged) == (0, 12)
  assert open_index(tmp_path / "i").version == version


def test_new_changed_touched_and_removed_files_are_told_apart(copied, tmp_path, tiny_encoder):
  build_index(copied, tmp_path / "i", tiny_encoder)
  before = rows_of(tmp_path / "i")
  (copied / "a/picture_00.png").unlink()
  (copied / "a/picture_01.png").rename(copied / "a/renamed.png")
  shutil.copy(copied / "a/picture_03.png", copied / "a/picture_02.png")
  os.utime(copied / "a/picture_04.png", ns=(1, 1))
  summary = build_index(copied, tmp_path / "i", tiny_encoder)
  found = summary.indexed, summary.unchanged, summary.moved, summary.removed, summary.kept, summary.rows
  assert found == (1, 9, 1, 1, (), 11)
  after = rows_of(tmp_path / "i")
  assert "a/picture_00.png" not in after and "a/picture_01.png" not in after
  assert np.array_equal(after["a/renamed.png"], before["a/picture_01.png"])
  np.testing.assert_allclose(after["a/picture_02.png"], before["a/picture_03.png"], atol=1e-5)
  assert np.array_equal(after["a/picture_05.png"], before["a/picture_05.png"])


def test_broken_images_among_good_ones_are_skipped_with_reasons(copied, tmp_path, tiny_encoder):
  content = (copied / "a/picture_01.png").read_bytes()
  (copied / "a/cut.png").write_bytes(content[: len(content) // 2])
  (copied / "a/empty.jpg").touch()
  (copied / "a/text.jpg").write_text("no image")
  (copied / "a/dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
  summary = build_index(copied, tmp_path / "i", tiny_encoder)
  assert summary.indexed == 12
  assert {file.id: file.reason for file in summary.skipped} == {
    "a/cut.png": "truncated",
    "a/dangling.jpg": "no such file",
    "a/empty.jpg": "empty file",
    "a/text.jpg": "not an image",
  }


def test_a_file_that_became_unreadable_keeps_its_row(copied, tmp_path, tiny_encoder):
  build_index(copied, tmp_path / "i", tiny_encoder)
  before = rows_of(tmp_path / "i")
  (copied / "a/picture_01.png").write_bytes(b"broken")
  summary = build_index(copied, tmp_path / "i", tiny_encoder)
  told = "not an image; the index keeps what it was made from before"
  assert [tuple(file) for file in summary.skipped] == [("a/picture_01.png", told)]
  assert (summary.indexed, summary.unchanged, summary.removed, summary.rows) == (0, 11, 0, 12)
  assert np.array_equal(rows_of(tmp_path / "i")["a/picture_01.png"], before["a/picture_01.png"])


def test_nothing_readable_leaves_an_index_without_rows(tmp_path, tiny_encoder):
  (tmp_path / "images").mkdir()
  (tmp_path / "images/a.jpg").write_text("no image")
  summary = build_index(tmp_path / "images", tmp_path / "i", tiny_encoder)
  assert (summary.indexed, summary.rows, len(summary.skipped)) == (0, 0, 1)


def test_an_empty_folder_is_a_wrong_call_and_removes_nothing(copied, tmp_path, tiny_encoder):
  build_index(copied, tmp_path / "i", tiny_encoder)
  shutil.rmtree(copied)
  copied.mkdir()
  with pytest.raises(InputError, match="no images in"):
    build_index(copied, tmp_path / "i", tiny_encoder)
  assert len(open_index(tmp_path / "i")) == 12


def test_what_lies_in_an_unreadable_folder_is_not_gone(copied, tmp_path, tiny_encoder, monkeypatch):
  build_index(copied, tmp_path / "i", tiny_encoder)
  scandir = os.scandir

  def refuse(path):
    if os.fspath(path).endswith("c"):
      raise PermissionError(13, "Permission denied", path)
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refuse)
  summary = build_index(copied, tmp_path / "i", tiny_encoder)
  assert (summary.removed, summary.unchanged, summary.rows) == (0, 6, 12)
  assert [file.id for file in summary.skipped] == ["b/c/"]


def test_several_folders_need_prefixes(copied, photographs, tmp_path, tiny_encoder):
  build_index(photographs, tmp_path / "i", tiny_encoder)
  with pytest.raises(InputError, match="--prefix=copied/"):
    build_index(copied, tmp_path / "i", tiny_encoder)
  summary = build_index(copied, tmp_path / "i", tiny_encoder, prefix="copied/")
  assert (summary.indexed, summary.rows) == (12, 24)
  (copied / "a/picture_00.png").unlink()
  summary = build_index(copied, tmp_path / "i", tiny_encoder, prefix="copied/")
  assert (summary.removed, summary.rows) == (1, 23)
  summary = build_index(photographs, tmp_path / "i", tiny_encoder)
  assert (summary.unchanged, summary.removed, summary.rows) == (12, 0, 23)
  with pytest.raises(InputError, match=r"images of .*copied under the prefix copied/; .*--prefix=b/"):
    build_index(photographs / "b", tmp_path / "i", tiny_encoder, prefix="copied/")


def test_no_id_stands_for_two_files(photographs, tmp_path, tiny_encoder):
  build_index(photographs, tmp_path / "i", tiny_encoder)
  with pytest.raises(InputError, match=r"holds a/picture_...png of .*photographs.* already; give .* another --prefix"):
    build_index(photographs / "a", tmp_path / "i", tiny_encoder, prefix="a/")
  assert build_index(photographs / "a", tmp_path / "i", tiny_encoder, prefix="a").rows == 18


def test_a_file_that_a_list_names_is_not_removed_when_it_is_gone(copied, tmp_path, tiny_encoder):
  listed = copied / "list.txt"
  listed.write_text("a/picture_00.png\na/picture_01.png\n")
  build_index(listed, tmp_path / "i", tiny_encoder)
  (copied / "a/picture_00.png").unlink()
  summary = build_index(listed, tmp_path / "i", tiny_encoder)
  assert (summary.removed, summary.rows) == (0, 2)
  assert summary.skipped[0].reason.startswith("no such file; the index keeps")
  listed.write_text("a/picture_01.png\n")
  (copied / "a/picture_00.png").touch()
  summary = build_index(listed, tmp_path / "i", tiny_encoder)
  assert summary.removed == 1
  told = "removed though the file is there, since it is not listed any more: a/picture_00.png (1 in all)"
  assert summary.remarks == (told,)


@pytest.mark.parametrize(
  ("flag", "value"),
  [
    ("batch_size", 0),
    ("threads", 0),
    ("prefix", "a\n"),
    ("prefix", "\udce9"),
    ("n_pca", 0),
    ("whitening", "slef"),
    ("store_classes", "x"),
  ],
)
def test_a_wrong_argument_leaves_nothing_behind(photographs, tmp_path, tiny_encoder, flag, value):
  with pytest.raises(InputError):
    build_index(photographs, tmp_path / "i", tiny_encoder, **{flag: value})
  assert not (tmp_path / "i").exists()


def test_a_folder_of_photographs_is_not_taken_for_an_index(copied, tmp_path, tiny_encoder):
  before = sorted(copied.rglob("*"))
  for index in (copied, copied / "a"):
    with pytest.raises(InputError, match="neither empty nor an index"):
      build_index(copied, index, tiny_encoder)
  with pytest.raises(InputError, match="is a file"):
    build_index(copied, copied / "a/picture_00.png", tiny_encoder)
  assert sorted(copied.rglob("*")) == before
  assert build_index(copied, copied / "its.index", tiny_encoder).rows == 12
  assert build_index(copied, copied / "its.index", tiny_encoder).unchanged == 12


def test_rows_record_their_files_and_their_makers(photographs, tmp_path, tiny_encoder):
  build_index(photographs, tmp_path / "i", tiny_encoder, prefix="p/")
  index = open_index(tmp_path / "i")
  names = ["id", "path", "root", "prefix", "bytes", "mtime_ns", "sha256", "height", "width", "made_with"]
  for row in index.take(index.order(), names).to_pylist():
    path = photographs / row["id"].removeprefix("p/")
    assert row["path"] == str(path) and row["root"] == str(photographs) and row["prefix"] == "p/"
    assert (row["bytes"], row["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row["height"], row["width"]) == decode_image(path).shape[:2]
    assert "float32, cpu" in row["made_with"]


def test_what_is_encoded_beside_an_image_does_not_matter(photographs, tmp_path, tiny_encoder):
  """Rounding apart: another number of images is another program."""
  build_index(photographs, tmp_path / "i", tiny_encoder, batch_size=1)
  build_index(photographs, tmp_path / "j", tiny_encoder, threads=1)
  build_index(photographs / "a", tmp_path / "k", tiny_encoder)
  one, two, part = (rows_of(tmp_path / name) for name in "ijk")
  for name, descriptor in one.items():
    np.testing.assert_allclose(two[name], descriptor, atol=1e-5)
  for name, descriptor in part.items():
    np.testing.assert_array_equal(descriptor, two[f"a/{name}"])  # the same program, other neighbors


def test_the_first_search_finds_its_snapshot(photographs, tmp_path, tiny_encoder):
  build_index(photographs, tmp_path / "i", tiny_encoder)
  assert (open_index(tmp_path / "i").snapshot_folder / "descriptors.npy").exists()


def test_a_list_file_names_images(photographs, tmp_path, tiny_encoder):
  listed = tmp_path / "list.txt"
  one = os.path.relpath(photographs / "a/picture_00.png", tmp_path)
  listed.write_text(f"# two\n{one}\n\n{photographs / 'b/c/picture_07.png'}\r\nmissing.jpg\n{one}\n", encoding="utf-8-sig")
  summary = build_index(listed, tmp_path / "i", tiny_encoder)
  assert summary.indexed == 2
  assert [(file.id, file.reason) for file in summary.skipped] == [("missing.jpg", "no such file")]
  assert one in rows_of(tmp_path / "i")


def test_settings_that_disagree_with_the_index_are_refused_with_both_named(photographs, tmp_path, tiny_encoder):
  build_index(photographs, tmp_path / "i", tiny_encoder)
  with pytest.raises(InputError) as caught:
    build_index(photographs, tmp_path / "i", tiny_encoder, whitening="self", store_classes="3", keep_raw=True)
  for told in ("its whitening is none, not self", "10 an image; not: 3 an image", "does not keep raw vectors"):
    assert told in str(caught.value)
  other = tiny_encoder.replace(settings=_replaced(tiny_encoder, fingerprint="0" * 64, weights="others"))
  with pytest.raises(InputError, match=r"weights tiny.*weights others"):
    build_index(photographs, tmp_path / "i", other)


def _replaced(encoder, **changes):
  import dataclasses

  return dataclasses.replace(encoder.settings, **changes)


def test_one_writer_at_a_time(photographs, tmp_path, tiny_encoder):
  from cwf_jax.index import store

  with store.writing(tmp_path / "i"), pytest.raises(IndexFolderError, match="another run"):
    build_index(photographs, tmp_path / "i", tiny_encoder)


def test_one_program_for_each_canvas(photographs, tmp_path, tiny_encoder, monkeypatch):
  traced = []
  original = Encoder.encode

  def counted(self, images, *rest, **named):
    traced.append(images.shape)
    return original(self, images, *rest, **named)

  import jax

  monkeypatch.setattr(build, "encode", jax.jit(counted, static_argnames=("num_classes", "listed")))
  build_index(photographs, tmp_path / "i", tiny_encoder)
  assert len(traced) == len(set(traced)) <= len(tiny_encoder.settings.protocol.canvases)
