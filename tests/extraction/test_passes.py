"""One pass for all that is wanted of an image; each map's cells; the classes of a query; what cannot be read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax.encoder import Encoder, most_probable
from cwf_jax.errors import InputError
from cwf_jax.extraction import passes
from cwf_jax.extraction.passes import Column, see_images, see_query, with_protocol
from cwf_jax.images.canvases import Fitted, stack
from cwf_jax.images.image_set import ImageSet
from cwf_jax.images.listing import list_images
from cwf_jax.protocol import Protocol
from cwf_jax.systems.queries import FittedQuery
from cwf_jax.systems.settings import Settings

PAPER = Settings.preset("paper")
_activate = jax.jit(Encoder.activate)
COLUMNS = (Column("raw", "raw"), Column("rmac", "rmac"), Column("own2", count=2), Column("some", listed=(7, 1, 3)))


class TestCells:
  @pytest.mark.parametrize(
    ("canvas", "cells", "size", "expected"),
    [
      (96, 6, 64, 4),  # stride 16
      (96, 3, 64, 2),  # stride 32
      # a canvas that is not whole cells of 32 pixels
      (80, 2, 64, 2),
      (80, 2, 80, 2),
      (48, 1, 33, 1),
      (464, 14, 455, 14),
      (464, 14, 447, 13),
    ],
  )
  def test_they_are_those_inside_the_image(self, canvas, cells, size, expected):
    features, images = jnp.zeros((1, cells, cells, 1)), jnp.zeros((1, canvas, canvas, 3), jnp.uint8)
    mask = np.asarray(passes._mask_of(features, images, np.asarray([[size, canvas]], np.int32)))
    assert mask[0].any(1).tolist() == [True] * expected + [False] * (cells - expected) and mask[0, 0].all()


class TestWithProtocol:
  def test_row_1_means_in_the_wrong_order(self, tiny_encoder):
    reversed_ = with_protocol(tiny_encoder, Protocol.reference(64))
    assert tiny_encoder.settings.preprocessing.mean == (103.939, 116.779, 123.68)  # blue, green, red
    assert reversed_.settings.preprocessing.mean == (123.68, 116.779, 103.939)
    assert reversed_.settings.protocol == Protocol.reference(64) and reversed_.network is tiny_encoder.network
    # By hand, of a red pixel: blue is less by red's mean.
    pixel = np.asarray([[[[255, 0, 0]]]], np.uint8)
    found = reversed_.settings.preprocessing.apply(jnp.asarray(pixel))
    np.testing.assert_allclose(found[0, 0, 0], [-123.68, -116.779, 255 - 103.939], rtol=1e-6)

  def test_once_is_as_twice(self, tiny_encoder):
    once = with_protocol(tiny_encoder, Protocol.reference(64))
    assert with_protocol(once, Protocol.reference(64)).settings == once.settings
    assert with_protocol(once, Protocol.paper(64)).settings.preprocessing == tiny_encoder.settings.preprocessing


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Five pictures of one canvas."""
  folder = tmp_path_factory.mktemp("passes")
  for number in range(5):
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")
  return folder


def _set(folder):
  listing = list_images(folder)
  return ImageSet("made", listing, listing.ids)


def _see(encoder, images, ids=None, **more):
  found = {}
  for names, columns in see_images(encoder, images, images.ids if ids is None else ids, COLUMNS, PAPER, 2, **more):
    assert {len(rows) for rows in columns.values()} == {len(names)}
    found.update((name, {column: rows[place] for column, rows in columns.items()}) for place, name in enumerate(names))
  return found


def test_all_columns_come_from_one_pass(tiny_encoder, folder):
  images, told = _set(folder), []
  found = _see(tiny_encoder, images, progress=told.append)
  assert sorted(found) == list(images.ids) and told == [2, 2, 1]
  one = found["3.png"]
  assert {name: (rows.shape, rows.dtype.name) for name, rows in one.items()} == {
    "raw": ((1, 32), "float32"),
    "rmac": ((50, 32), "float16"),
    "own2": ((2, 32), "float16"),
    "own2.ids": ((2,), "int32"),
    "some": ((3, 32), "float16"),
  }
  # Of a class that is in both columns the vector is the same.
  for columns in found.values():
    for place, class_id in enumerate(columns["own2.ids"].tolist()):
      if class_id in (7, 1, 3):
        np.testing.assert_array_equal(columns["own2"][place], columns["some"][(7, 1, 3).index(class_id)])


def test_some_images_alone_are_as_among_all(tiny_encoder, folder):
  everything, some = _see(tiny_encoder, _set(folder)), _see(tiny_encoder, _set(folder), ("4.png", "1.png"))
  assert sorted(some) == ["1.png", "4.png"]
  for name, columns in some.items():
    for column, rows in columns.items():
      np.testing.assert_allclose(rows, everything[name][column], atol=1e-3)  # float16, 2^-11


def test_images_that_cannot_be_read_are_told_after_the_others(tiny_encoder, folder, tmp_path):
  for path in folder.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  (tmp_path / "1.png").write_bytes(b"nothing")
  (tmp_path / "3.png").unlink()
  (tmp_path / "3.png").mkdir()
  images = ImageSet("made", list_images(folder), ())
  images = dataclasses.replace(images, source=dataclasses.replace(images.source, root=str(tmp_path)))
  seen = []
  with pytest.raises(InputError) as caught:
    for names, _ in see_images(tiny_encoder, images, [f"{n}.png" for n in range(5)], COLUMNS, PAPER, 2):
      seen += names
  assert seen == ["0.png", "2.png", "4.png"]
  assert str(caught.value) == f"2 images of {tmp_path} cannot be read, the first is 1.png: not an image"


def test_other_settings_need_no_other_program_but_for_what_depends_on_them(tiny_encoder, folder, compilations):
  images = _set(folder)
  list(see_images(tiny_encoder, images, images.ids[:2], COLUMNS[:1], PAPER, 2))
  assert compilations.count("jit(see)") == 1
  for settings in (Settings.preset("paper", {"ties": "by_row", "n_pca": 3}), Settings.preset("paper", {"crow_epsilon": 0.5})):
    list(see_images(tiny_encoder, images, images.ids[2:], COLUMNS[:1], settings, 2))
  assert compilations.count("jit(see)") == 1


class TestQuery:
  COLUMNS = (COLUMNS[0], *COLUMNS[2:])  # R-MAC takes long to compile

  @pytest.fixture(scope="class")
  @classmethod
  def pictures(cls):
    """Two pictures, of unlike classes, at their sizes."""
    noise = np.random.default_rng(8).integers(0, 256, (64, 64, 3), np.uint8)
    spots = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8))
    smooth = np.asarray(spots.resize((64, 64), Image.Resampling.BICUBIC))
    return [Fitted(pixels, (64, 64), (64, 64)) for pixels in (noise, smooth)]

  def test_its_classes_are_those_of_its_crop(self, tiny_encoder, pictures):
    whole, crop = pictures
    found = see_query(tiny_encoder, FittedQuery(whole, (0, 0, 4, 4), crop), self.COLUMNS, PAPER)
    plain = see_query(tiny_encoder, FittedQuery(whole, None, None), self.COLUMNS, PAPER)
    batch = [stack([one], (64, 64), 1) for one in (whole, crop)]
    expected = [most_probable(_activate(tiny_encoder, *arrays), 2)[0].tolist() for arrays in batch]
    assert expected[0] != expected[1]
    assert [plain["own2.ids"][0].tolist(), found["own2.ids"][0].tolist()] == expected
    # The box is the whole image: what does not depend on the classes is the same.
    np.testing.assert_allclose(found["raw"], plain["raw"], atol=1e-6)
    np.testing.assert_allclose(found["some"].astype(float), plain["some"].astype(float), atol=1e-3)  # float16, 2^-11

  def test_cells_outside_its_box_do_not_count(self, tiny_encoder, pictures):
    whole, crop = pictures
    cut = see_query(tiny_encoder, FittedQuery(whole, (1, 2, 3, 3), crop), self.COLUMNS, PAPER)
    features = np.asarray(_activate(tiny_encoder, *stack([whole], (64, 64), 1)).features, np.float64)[0]
    expected = features[2, 1:3].sum(0)
    np.testing.assert_allclose(cut["raw"][0, 0], expected / np.linalg.norm(expected), atol=1e-5)  # float32, two programs

  def test_cells_of_another_map_are_refused(self, tiny_encoder, pictures):
    """A box is told in cells of 16 pixels; after the last pool they have 32."""
    query = FittedQuery(pictures[0], (1, 2, 3, 3), None)
    with pytest.raises(InputError, match=r"^a query is cut to cells of 16 pixels, and mac-a pools a map of 32: let it see BOX"):
      see_query(tiny_encoder, query, (Column("mac-a", "mac"),), PAPER)
