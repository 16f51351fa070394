"""Reasons are what a search computes: probabilities, maps, shares and scores are held to the encoder's and the oracle's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.images.queries import fit_query
from cwf_jax.indexing.build import build_index
from cwf_jax.load import load_encoder
from cwf_jax.ops.regions import THRESHOLDS
from cwf_jax.ops.whitening import fit_whitening
from cwf_jax.protocol import BoxError
from cwf_jax.queries import encode_query
from cwf_jax.retrieval.explanation import BOX_THRESHOLD, compare, explain, map_classes
from cwf_jax.retrieval.reasons import describe_common_classes, describe_places
from cwf_jax.retrieval.searcher import Searcher
from tests.oracle import encoding, regions

# Padding to a canvas regroups the sums of thirteen convolutions in float32.
THROUGH_THE_NETWORK = 1e-4
# Sums over classes and cells of numbers under 1 in float32, whitened.
ROUNDING = 2e-5

BOX = (20.0, 10.5, 80.25, 60.0)

_activate = jax.jit(Encoder.activate)


def _picture(height, width, seed=1):
  small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
  return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


WIDE, TALL = _picture(70, 100), _picture(100, 70, seed=2)
"""Computed as 64x91 and 91x64 pixels: a part of each lies beyond its last cell."""


@pytest.fixture(scope="module")
def encoders(tiny_encoder):
  """Without a whitening, and with one that is fitted on classes of some pictures."""
  encode = jax.jit(Encoder.__call__)
  images = jnp.stack([jnp.asarray(_picture(64, 64, seed)) for seed in range(4)])
  vectors = encode(tiny_encoder, images, jnp.full((4, 2), 64)).class_vectors
  own = fit_whitening(np.asarray(vectors).reshape(-1, vectors.shape[-1]), 8)
  return {"plain": tiny_encoder, "whitened": tiny_encoder.replace(whitening=own)}


@pytest.fixture(scope="module", params=["plain", "whitened"])
def encoder(request, encoders):
  return encoders[request.param]


def _activations(encoder, pixels, size=None):
  """Of an image alone, without any padding."""
  resized = encoder.settings.protocol.resized(*pixels.shape[:2]) if size is None else size
  pixels = np.asarray(Image.fromarray(pixels).resize(resized[::-1], Image.Resampling.BILINEAR))
  return _activate(encoder, jnp.asarray(pixels[None]), jnp.asarray([resized], jnp.int32))


def _check_regions(found, shape, resized):
  """Regions are the oracle's on the maps, scaled to pixels, and lie inside the photograph."""
  for reason in found:
    expected = regions.find_regions(reason.cam[None], THRESHOLDS)[0]
    assert len(reason.regions) == len(THRESHOLDS) and reason.box == reason.regions[THRESHOLDS.index(BOX_THRESHOLD)]
    for region, cells in zip(reason.regions, expected, strict=True):
      assert (region is None) == (not cells.any())
      if region is not None:
        scale = np.array([16 * shape[1] / resized[1], 16 * shape[0] / resized[0]] * 2)
        np.testing.assert_allclose(region, cells * scale, rtol=1e-9)
        assert 0 <= region[0] < region[2] <= shape[1] * (1 + 1e-9) and 0 <= region[1] < region[3] <= shape[0] * (1 + 1e-9)


@pytest.mark.parametrize("image", [WIDE, TALL], ids=["wide", "tall"])
def test_a_photograph_is_explained_by_its_most_probable_classes(encoder, image):
  found = explain(encoder, image, top=4)
  activations = _activations(encoder, image)
  probabilities = np.asarray(activations.probabilities)[0]
  ids = [reason.class_id for reason in found.classes]
  assert ids == encoding.choose_classes(probabilities[None], 4)[0].tolist()
  assert [reason.name for reason in found.classes] == [f"class {one}" for one in ids]
  np.testing.assert_allclose([reason.probability for reason in found.classes], probabilities[ids], atol=THROUGH_THE_NETWORK)
  assert [reason.probability for reason in found.classes] == sorted((one.probability for one in found.classes), reverse=True)
  assert len(found.shares) == 4 and sum(found.shares) == pytest.approx(1, abs=ROUNDING)
  weights = np.asarray(encoder.network.class_weights)[:, ids]
  maps = encoding.compute_cams(np.asarray(activations.cam_features), weights)[0]
  rows, columns = maps.shape[:2]
  for place, reason in enumerate(found.classes):
    assert reason.cam.shape == (rows, columns) and reason.cam.min() >= 0 and reason.cam.max() <= 1
    np.testing.assert_allclose(reason.cam, maps[..., place], atol=THROUGH_THE_NETWORK)
  resized = encoder.settings.protocol.resized(*image.shape[:2])
  _check_regions(found.classes, image.shape, resized)
  assert found.box is None and found.pixels is image
  expected = (0, 0, 16 * columns * image.shape[1] / resized[1], 16 * rows * image.shape[0] / resized[0])
  for reason in found.classes:
    np.testing.assert_allclose(reason.map_box, expected)
    assert reason.map_box[2] <= image.shape[1] and reason.map_box[3] <= image.shape[0]


def test_a_box_has_its_own_classes_and_cuts_the_maps(encoder):
  found = explain(encoder, WIDE, BOX, top=4)
  crop = WIDE[10:60, 20:81]
  probabilities = np.asarray(_activations(encoder, crop, encoder.settings.protocol.resized_crop(*crop.shape[:2])).probabilities)
  ids = [reason.class_id for reason in found.classes]
  assert ids == encoding.choose_classes(probabilities, 4)[0].tolist()
  np.testing.assert_allclose([reason.probability for reason in found.classes], probabilities[0, ids], atol=THROUGH_THE_NETWORK)
  assert sum(found.shares) == pytest.approx(1, abs=ROUNDING)
  left, top, right, bottom = encoder.settings.protocol.box_to_cells(BOX, (70, 100), (64, 91))
  assert (left, top, right, bottom) == (1, 0, 5, 4)  # 20 lies at 18.2, 10.5 at 9.6
  for reason in found.classes:
    outside = reason.cam.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any() and reason.cam.max() in (0, pytest.approx(1))
  _check_regions(found.classes, WIDE.shape, (64, 91))
  assert found.box == BOX and found.pixels is WIDE


def test_the_first_classes_are_the_same_whatever_number_is_wanted(encoders):
  encoder = encoders["whitened"]
  every, first = explain(encoder, WIDE, top=50), explain(encoder, WIDE, top=2)
  assert len(every.classes) == 4 and len(first.classes) == 2 and first.shares == every.shares[:2]
  for one, other in zip(first.classes, every.classes, strict=False):
    assert one._replace(cam=None) == other._replace(cam=None)
    np.testing.assert_array_equal(one.cam, other.cam)


def test_every_form_of_an_image_is_explained_alike(encoders, tmp_path):
  path = tmp_path / "wide.png"
  Image.fromarray(WIDE).save(path)
  one = explain(encoders["plain"], WIDE, BOX, 3)
  for image in (path, path.read_bytes(), Image.fromarray(WIDE)):
    other = explain(encoders["plain"], image, BOX, 3)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert [reason.regions for reason in one.classes] == [reason.regions for reason in other.classes]
  assert compare(encoders["plain"], path.read_bytes(), Image.fromarray(WIDE)).score == pytest.approx(1, abs=1e-6)


def test_maps_cover_whole_cells(encoders):
  """The right and bottom edge of a photograph may lie beyond the last cell."""
  for (height, width), covered in (((64, 96), (96, 64)), ((600, 800), (80 * 800 / 85, 600)), ((16, 600), (600, 16))):
    photograph = fit_query(_picture(height, width), None, encoders["plain"].settings.protocol)
    (one,) = map_classes(encoders["plain"], photograph, [1])
    assert one.map_box == (0, 0, *covered)


def test_maps_of_any_classes_are_of_the_whole_photograph(encoders, compilations):
  """Their probabilities, too, where none are given; one program serves them all."""
  encoder = encoders["plain"]
  photograph = fit_query(WIDE, None, encoder.settings.protocol)
  jax.clear_caches()
  every = map_classes(encoder, photograph, range(10))
  assert len([name for name in compilations if "_map" in name]) == 1
  compilations.clear()
  (one,) = map_classes(encoder, fit_query(WIDE, None, encoder.settings.protocol), [7])
  assert compilations == []
  assert one._replace(cam=None) == every[7]._replace(cam=None)
  np.testing.assert_array_equal(one.cam, every[7].cam)
  activations = _activations(encoder, WIDE)
  np.testing.assert_allclose([one.probability for one in every], activations.probabilities[0], atol=THROUGH_THE_NETWORK)
  expected = encoding.compute_cams(np.asarray(activations.cam_features), np.asarray(encoder.network.class_weights))[0]
  np.testing.assert_allclose(np.stack([one.cam for one in every], -1), expected, atol=THROUGH_THE_NETWORK)


@pytest.mark.parametrize("box", [None, BOX], ids=["whole", "box"])
def test_a_score_is_the_sum_of_its_shares_from_either_side(encoder, box):
  found = compare(encoder, WIDE, TALL, box)
  queries = encode_query(encoder, WIDE, box), encode_query(encoder, TALL)
  descriptors = [np.asarray(encoder.describe(query.class_vectors[None]))[0] for query in queries]
  assert found.score == pytest.approx(float(np.vdot(*descriptors)), abs=ROUNDING)
  names = encoder.settings.classes.names
  for side, query, other in zip((found.first, found.second), queries, descriptors[::-1], strict=True):
    whitened = np.asarray(encoder.whiten(query.class_vectors), np.float64)
    shares = whitened @ other / np.linalg.norm(whitened.sum(0))
    expected = {names[class_id]: share for class_id, share in zip(query.class_ids, shares, strict=True)}
    assert dict(side.shares) == pytest.approx(expected, abs=ROUNDING)
    assert [share for _, share in side.shares] == sorted((share for _, share in side.shares), reverse=True)
    assert sum(share for _, share in side.shares) == pytest.approx(found.score, abs=ROUNDING)
  assert found.first.box == box and found.second.box is None
  assert found.first.pixels is WIDE and found.second.pixels is TALL


def test_an_image_with_itself_scores_one_and_all_its_places_match(encoder):
  found = compare(encoder, WIDE, WIDE)
  assert found.score == pytest.approx(1, abs=1e-6)
  assert found.first.shares == found.second.shares
  own = explain(encoder, WIDE, top=4)
  shares = {reason.name: share for reason, share in zip(own.classes, own.shares, strict=True)}
  assert dict(found.first.shares) == pytest.approx(shares, abs=ROUNDING)
  assert found.match.places > 0 and found.match.query_box == found.match.answer_box
  for one in found.common_classes:
    assert one.query_probability == pytest.approx(one.answer_probability, abs=THROUGH_THE_NETWORK)
  assert str(found) == f"score 1.0000: {describe_places(found.match)}; {describe_common_classes(found.common_classes)}"


@pytest.mark.parametrize("box", [None, BOX], ids=["whole", "box"])
def test_both_maps_are_of_the_first_common_class(encoders, monkeypatch, box):
  found = compare(encoders["plain"], WIDE, TALL, box)
  first = found.common_classes[0]
  maps = found.first.class_map, found.second.class_map
  assert [one.class_id for one in maps] == [first.class_id] * 2
  assert [one.probability for one in maps] == [first.query_probability, first.answer_probability]
  everything = {reason.class_id: reason for reason in explain(encoders["plain"], WIDE, box, 4).classes}
  if first.class_id in everything:
    np.testing.assert_allclose(maps[0].cam, everything[first.class_id].cam, atol=THROUGH_THE_NETWORK)
  monkeypatch.setattr("cwf_jax.retrieval.explanation.find_common_classes", lambda *_: ())
  found = compare(encoders["plain"], WIDE, TALL, box)
  strongest = encode_query(encoders["plain"], WIDE, box).strongest_class
  assert found.first.class_map.class_id == found.second.class_map.class_id == strongest


def test_scores_shares_and_reasons_are_those_of_a_search(tiny_checkpoint, tmp_path):
  (tmp_path / "pictures").mkdir()
  for seed in range(4):
    Image.fromarray(_picture(*((70, 100), (100, 70))[seed % 2], seed)).save(tmp_path / "pictures" / f"{seed}.png")
  loaded = load_encoder(str(tiny_checkpoint), num_classes=4)
  build_index(tmp_path / "pictures", tmp_path / "index", loaded, whitening="self", n_pca=4)
  searcher = Searcher(tmp_path / "index")
  path = tmp_path / "pictures" / "1.png"
  for box in (None, (0, 20, 60, 90)):
    query = searcher.encode(path, box)
    for answer in searcher.match(query, searcher.search([query])[0]):
      found = compare(searcher.encoder, path, answer.path, box)
      assert found.score == pytest.approx(answer.score, abs=ROUNDING)
      shares = {part.name: part.share for part in answer.classes if part.name != "(other classes)"}
      assert {name: share for name, share in found.first.shares if name in shares} == pytest.approx(shares, abs=ROUNDING)
      assert found.match == answer.match
      for one, other in zip(found.common_classes, answer.common_classes, strict=True):
        assert (one.class_id, one.name) == (other.class_id, other.name)
        assert one[2:] == pytest.approx(other[2:], abs=THROUGH_THE_NETWORK)


def test_what_cannot_be_read_or_cut_is_refused(encoders, tmp_path):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  calls = [
    lambda image: explain(encoders["plain"], image),
    lambda image: compare(encoders["plain"], image, WIDE),
    lambda image: compare(encoders["plain"], WIDE, image),
  ]
  for call in calls:
    with pytest.raises(InputError, match=r"broken\.jpg: not an image"):
      call(tmp_path / "broken.jpg")
    with pytest.raises(InputError, match="uint8"):
      call(np.zeros((32, 32, 3)))
  with pytest.raises(BoxError, match="lies outside the image"):
    explain(encoders["plain"], WIDE, (100, 0, 120, 70))
  with pytest.raises(BoxError, match="the least is 16x16"):
    compare(encoders["plain"], WIDE, TALL, (0, 0, 15, 70))
