"""Kept vectors: runs that are stopped and taken up, what changes compute anew, damage, a full disk, stretched pixels."""

import dataclasses
import errno
import json
import os
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from cwf_jax.evaluation import rows as cells
from cwf_jax.extraction import vectors
from cwf_jax.extraction.seeing import own_classes
from cwf_jax.images.image_set import ImageSet
from tests.evaluation.made_up import BOX, FOUND, IMAGES, QUERIES, by_name, changed, row_of

SYSTEMS_OF_STORES = ("raw", "rmac", "ofa", "ona", "fixed")


class TestStores:
  def _all(self, opened):
    return by_name(opened.make_rows(SYSTEMS_OF_STORES))

  def test_a_second_run_makes_no_pass_and_a_lost_row_none(self, open_, made_up, tmp_path):
    first = self._all(open_())
    assert len(made_up.passes) == 2 * (16 + 30 + 2)  # each image and each query with a box, at two sizes
    made_up.passes.clear()
    assert self._all(open_()) == first
    shutil.rmtree(tmp_path / "results" / "rows")
    assert self._all(open_()) == first and made_up.passes == []

  @pytest.mark.parametrize("after", [1, 3, 10, 40])
  def test_a_run_that_was_stopped_is_taken_up(self, open_, made_up, after):
    undisturbed = self._all(open_(folder="undisturbed"))
    total = len(made_up.passes)
    made_up.passes.clear()
    made_up.fails_after = after
    with pytest.raises(RuntimeError, match="stopped"):
      self._all(open_())
    made_up.fails_after = None
    assert self._all(open_()) == undisturbed
    assert len(made_up.passes) == total  # none was made twice

  def test_a_changed_file_is_passed_anew_and_no_other(self, open_, made_up, asked, others):
    first = self._all(open_())
    for listing, name in ((asked.listing, "b.jpg"), (asked.listing, "a.jpg"), (others.source, "07.jpg")):
      made_up.passes.clear()
      with open(listing.path(name), "ab") as file:
        file.write(b"more")
      made_up.given[name[:-4], "raw"] = np.arange(6)
      anew = ImageSet("others", others.source, others.ids)  # signatures are read once
      changed = self._all(open_(whitened_by=anew))
      assert {image for image, _ in made_up.passes} == ({"a", "a?"} if name == "a.jpg" else {name[:-4]})
      assert changed != first
      first = changed

  def test_a_file_that_was_only_touched_is_passed_anew(self, open_, made_up, asked):
    first = self._all(open_())
    made_up.passes.clear()
    os.utime(asked.listing.path("b.jpg"), ns=(5, 5))
    assert self._all(open_()) == first and {image for image, _ in made_up.passes} == {"b"}

  def test_a_query_of_another_box_is_passed_anew(self, open_, made_up, make_benchmark):
    self._all(open_())
    made_up.passes.clear()
    moved = make_benchmark(IMAGES, (("a", (0.0, 0.0, 20.0, 21.0)), *QUERIES[1:]), FOUND, ("c", "", "ij"))
    self._all(open_(benchmark=moved))
    assert {image for image, _ in made_up.passes} == {"a?"}

  def test_a_query_whose_image_left_the_database_is_passed_anew(self, open_, made_up, make_benchmark):
    """Only in the database is its box read as the settings say."""
    settings = changed(crow_box="size")
    list(open_(settings).make_rows(["crow"]))
    made_up.passes.clear()
    left = make_benchmark(IMAGES, QUERIES, ("bd", "cfg", "ehk"), ("", "", "ij"), database=IMAGES[1:])
    list(open_(settings, left).make_rows(["crow"]))
    assert [image for image, _ in made_up.passes] == ["a?"]

  def test_other_answers_are_another_row(self, open_, made_up, make_benchmark):
    self._all(open_())
    made_up.passes.clear()
    junk = make_benchmark(IMAGES, QUERIES, ("ab", "cf", "eh"), ("c", "", "ij"))
    assert self._all(open_(benchmark=junk)) == self._all(open_(benchmark=junk, folder="alone"))

  @pytest.mark.parametrize(
    ("changes", "passed"),
    [
      ({"ties": "by_row"}, ""),
      ({"seed": 3}, ""),
      ({"query_row": "replaced"}, ""),
      ({"eigenvalue_floor": 0.1}, ""),
      ({"n_pca": 1}, ""),
      ({"num_classes": 2, "n_pca": 3}, ""),
      ({"num_classes": 4}, ""),  # as many vectors: at least 64, or all
      ({"crow_epsilon": 0.5}, ""),
      ({"box_rule": "unscaled"}, "boxed"),
      ({"floor_boxes": False}, "boxed"),
      ({"query_images": "stretched"}, "plain"),
      ({"empty_maps": "divided"}, "boxed plain pool"),
      ({"size_rule": "fixed_frame"}, "boxed plain pool"),
    ],
    ids=str,
  )
  def test_other_settings_compute_only_what_they_change(self, open_, made_up, changes, passed):
    self._all(open_())
    made_up.passes.clear()
    self._all(open_(changed(**changes)))
    sets = {"boxed": {"a?", "e?"}, "plain": set(IMAGES), "pool": {f"{number:02d}" for number in range(30)}}
    assert {image for image, _ in made_up.passes} == set().union(*(sets[name] for name in passed.split()))

  def test_a_full_disk_leaves_nothing_half_written(self, open_, made_up, monkeypatch, tmp_path):
    undisturbed = self._all(open_(folder="undisturbed"))
    write, left = vectors.write_whole, [2]

    def fill(path, content):
      if left[0] == 0:
        raise OSError(errno.ENOSPC, "No space left on device")
      left[0] -= 1
      write(path, content)

    for module, room in ((vectors, 2), (cells, 1)):
      left[0] = room
      monkeypatch.setattr(module, "write_whole", fill)
      with pytest.raises(OSError, match="No space left"):
        self._all(open_())
      monkeypatch.setattr(module, "write_whole", write)
      files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
      assert files and all(path.suffix in (".npz", ".json") for path in files)
      for path in files:
        if path.suffix == ".json":
          json.loads(path.read_bytes())
        else:
          with np.load(path) as arrays:
            columns = set(arrays.files)
            assert path.name.startswith("fit-") or {len(arrays[name]) for name in columns} == {len(arrays["ids"])}
    assert self._all(open_()) == undisturbed

  def test_a_damaged_part_is_computed_again(self, open_, made_up, tmp_path):
    first = self._all(open_())
    for damage in (lambda content: content[: len(content) // 2], lambda content: b"\x00" * len(content)):
      shutil.rmtree(tmp_path / "results" / "rows")
      made_up.passes.clear()
      for path in (tmp_path / "results" / "vectors").glob("made-[0-9a-f]*/*.npz"):
        path.write_bytes(damage(path.read_bytes()))
      assert self._all(open_()) == first
      assert {image for image, _ in made_up.passes} == set(IMAGES)

  def test_parts_with_other_bytes_in_the_middle_are_computed_again(self, open_, made_up, tmp_path):
    """They open, and are found out when they are read."""
    first = self._all(open_())
    shutil.rmtree(tmp_path / "results" / "rows")
    for path in (tmp_path / "results" / "vectors").glob("*/part-*.npz"):
      with zipfile.ZipFile(path) as file:
        names = [info for info in file.infolist() if info.filename not in ("ids.npy", "signatures.npy")]
      content = bytearray(path.read_bytes())
      for info in names:
        content[info.header_offset + 160 + info.file_size // 4] ^= 1
      path.write_bytes(content)
    made_up.passes.clear()
    assert self._all(open_()) == first
    assert {image for image, _ in made_up.passes} >= set(IMAGES) | {"a?", "e?"}  # whitenings are kept

  def test_vectors_can_be_shared(self, open_, made_up, tmp_path):
    first = self._all(open_(vectors=tmp_path / "shared"))
    made_up.passes.clear()
    assert self._all(open_(folder="other", vectors=tmp_path / "shared")) == first and not made_up.passes
    assert not (tmp_path / "results" / "vectors").exists()

  def test_other_weights_are_other_vectors(self, open_, made_up, tiny_encoder):
    self._all(open_())
    made_up.passes.clear()
    settings = dataclasses.replace(tiny_encoder.settings, weights_sha256="other", weights="others'")
    rows = list(open_(encoder=dataclasses.replace(tiny_encoder, settings=settings)).make_rows(["raw"]))
    assert [row.name for row in rows] == ["raw@others'", "raw+pca@others'"]
    assert {image for image, _ in made_up.passes} >= set(IMAGES)


@pytest.mark.parametrize(
  ("count", "n_pca", "classes", "kept"),
  [(64, 1, 1000, 64), (3, 1, 1000, 64), (65, 1, 1000, 65), (1, 80, 1000, 80), (99, 1, 10, 10)],
)
def test_fewer_classes_are_those_that_are_kept(count, n_pca, classes, kept):
  encoder = SimpleNamespace(settings=SimpleNamespace(classes=range(classes)))
  column = own_classes(encoder, changed(num_classes=count, n_pca=n_pca))
  assert column.count == kept and column.name.startswith(f"own{kept}-")


class TestStretchedPixels:
  def test_row_17_of_the_database_images_that_are_boxed_queries(self, open_, made_up):
    row_of(open_(changed(query_images="stretched")), "raw")
    told = {images.name: images.stretched for images in made_up.sets}
    assert told == {"made": {"a.jpg", "e.jpg"}, "others": set()}
    made_up.sets.clear()
    row_of(open_(changed(query_images="stretched")), "mac")  # the paper's own systems alone see them so
    assert {images.stretched for images in made_up.sets} == {frozenset()}

  def test_the_set_is_not_stretched_where_another_is_whitened_by_it(self, open_, made_up, asked, make_benchmark):
    """Both keep vectors in one folder, under the set's name."""
    settings = changed(query_images="stretched")
    row_of(open_(settings), "raw")
    made_up.passes.clear()
    other = make_benchmark("qrst", (("q", BOX),), ("q",), ("",), name="other")
    row_of(open_(settings, other, whitened_by=ImageSet("made", asked.listing, asked.listing.ids)), "raw+pca")
    assert {image for image, _ in made_up.passes} >= set(IMAGES)
