"""Reasons are what a search computes: probabilities, maps, shares and scores are held to the encoder's and the oracle's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax import explanation
from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.explanation import compare, compute_maps, explain, map_box
from cwf_jax.images.canvases import fit_image
from cwf_jax.images.queries import fit_query
from cwf_jax.indexing.build import build_index
from cwf_jax.load import load_encoder
from cwf_jax.ops.regions import THRESHOLDS
from cwf_jax.ops.whitening import fit_whitening
from cwf_jax.protocol import BoxError
from cwf_jax.retrieval.searcher import Searcher
from tests.oracle import encoding, regions

# Padding to a canvas regroups the sums of thirteen convolutions in float32.
THROUGH_THE_NETWORK = 1e-4
# Sums over classes and cells of numbers under 1 in float32, whitened: see tests/ops/test_attribution.py.
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
    assert len(reason.regions) == len(THRESHOLDS)
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
  assert found.num_summed == 4 and sum(reason.share for reason in found.classes) == pytest.approx(1, abs=ROUNDING)
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
  np.testing.assert_allclose(found.map_box, expected)
  assert found.map_box[2] <= image.shape[1] and found.map_box[3] <= image.shape[0]


def test_a_box_has_its_own_classes_and_cuts_the_maps(encoder):
  found = explain(encoder, WIDE, BOX, top=4)
  crop = WIDE[10:60, 20:81]
  probabilities = np.asarray(_activations(encoder, crop, encoder.settings.protocol.resized_crop(*crop.shape[:2])).probabilities)
  ids = [reason.class_id for reason in found.classes]
  assert ids == encoding.choose_classes(probabilities, 4)[0].tolist()
  np.testing.assert_allclose([reason.probability for reason in found.classes], probabilities[0, ids], atol=THROUGH_THE_NETWORK)
  assert sum(reason.share for reason in found.classes) == pytest.approx(1, abs=ROUNDING)
  left, top, right, bottom = encoder.settings.protocol.box_to_cells(BOX, (70, 100), (64, 91))
  assert (left, top, right, bottom) == (1, 0, 5, 4)  # 20 lies at 18.2, 10.5 at 9.6
  for reason in found.classes:
    outside = reason.cam.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any() and reason.cam.max() in (0, pytest.approx(1))
  _check_regions(found.classes, WIDE.shape, (64, 91))
  assert found.box == BOX and found.pixels is WIDE


def test_the_first_classes_are_told_the_same_whatever_number_is_wanted(encoders):
  encoder = encoders["whitened"]
  every, first = explain(encoder, WIDE, top=50), explain(encoder, WIDE, top=2)
  assert len(every.classes) == 4 and len(first.classes) == 2 and first.num_summed == 4
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


def test_the_cells_at_the_edges_may_be_cut_off():
  assert map_box((64, 96), (64, 96)) == (0, 0, 96, 64)
  assert map_box((600, 800), (64, 85)) == (0, 0, 80 * 800 / 85, 600)
  assert map_box((16, 600), (16, 128)) == (0, 0, 600, 16)


def _check_side(side, score):
  assert side.places.sum() == pytest.approx(score, abs=ROUNDING)
  assert sum(share for _, share in side.classes) == pytest.approx(score, abs=ROUNDING)
  assert [share for _, share in side.classes] == sorted((share for _, share in side.classes), reverse=True)


@pytest.mark.parametrize("box", [None, BOX], ids=["whole", "box"])
def test_a_score_is_the_sum_of_what_either_side_gave(encoder, box):
  found = compare(encoder, WIDE, TALL, box)
  looks = [explain(encoder, WIDE, box, 4), explain(encoder, TALL, top=4)]
  vectors = []
  for look, image in zip(looks, (WIDE, TALL), strict=True):
    activations, cams = _activations(encoder, image), np.stack([reason.cam for reason in look.classes], -1)[None]
    cut = None if look.box is None else np.zeros(cams.shape[:3], bool)
    if look.box is not None:
      cut[:, 0:4, 1:5] = True
    features = np.asarray(activations.features)
    weights = encoding.compute_channel_weights(features, cut)
    vectors.append(encoding.pool_class_vectors(features, cams, weights, cut).astype(np.float32))
  descriptors = [np.asarray(encoder.describe(one))[0] for one in vectors]
  assert found.score == pytest.approx(float(np.vdot(*descriptors)), abs=THROUGH_THE_NETWORK)
  for side, look in zip((found.first, found.second), looks, strict=True):
    _check_side(side, found.score)
    assert side.map_box == look.map_box and side.box == look.box and side.pixels is look.pixels
    assert sorted(name for name, _ in side.classes) == sorted(reason.name for reason in look.classes)
    assert side.places.shape == look.classes[0].cam.shape
    seen = np.any([reason.cam > 0 for reason in look.classes], axis=0)
    assert not side.places[~seen].any()
    cells = regions.find_regions(side.places[None], (explanation.PLACES,))[0, 0]
    assert (side.region is None) == (not cells.any())
    if side.region is not None:
      height, width = side.pixels.shape[:2]
      resized = encoder.settings.protocol.resized(height, width)
      scale = np.array([16 * width / resized[1], 16 * height / resized[0]] * 2)
      np.testing.assert_allclose(side.region, cells * scale, rtol=1e-9)
  swapped = compare(encoder, TALL, WIDE)
  if box is None:
    assert swapped.score == pytest.approx(found.score, abs=1e-6)
    for one, other in ((swapped.first, found.second), (swapped.second, found.first)):
      np.testing.assert_array_equal(one.places, other.places)
      assert one.classes == other.classes and one.region == other.region


def test_an_image_with_itself_scores_one(encoder):
  found, own = compare(encoder, WIDE, WIDE), explain(encoder, WIDE, top=4)
  assert found.score == pytest.approx(1, abs=1e-6)
  np.testing.assert_array_equal(found.first.places, found.second.places)
  assert found.first.classes == found.second.classes
  _check_side(found.first, 1)
  shares = {reason.name: reason.share for reason in own.classes}
  assert dict(found.first.classes) == pytest.approx(shares, abs=ROUNDING)


def test_scores_and_shares_are_those_of_a_search(tiny_checkpoint, tmp_path):
  (tmp_path / "pictures").mkdir()
  for seed in range(4):
    Image.fromarray(_picture(*((70, 100), (100, 70))[seed % 2], seed)).save(tmp_path / "pictures" / f"{seed}.png")
  loaded = load_encoder(str(tiny_checkpoint), num_classes=4)
  build_index(tmp_path / "pictures", tmp_path / "index", loaded, whitening="self", n_pca=4)
  searcher = Searcher(tmp_path / "index")
  query = tmp_path / "pictures" / "1.png"
  for box in (None, (0, 20, 60, 90)):
    for answer in searcher.search([searcher.encode(query, box)])[0]:
      found = compare(searcher.encoder, query, answer.path, box)
      assert found.score == pytest.approx(answer.score, abs=ROUNDING)
      shares = {part.name: part.share for part in answer.classes if part.class_id is not None}
      assert {name: share for name, share in found.first.classes if name in shares} == pytest.approx(shares, abs=ROUNDING)


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
  with pytest.raises(BoxError, match="leaves the image"):
    explain(encoders["plain"], WIDE, (0, 0, 101, 70))
  with pytest.raises(BoxError, match="the least is 16x16"):
    compare(encoders["plain"], WIDE, TALL, (0, 0, 15, 70))


def _fit(encoder, images):
  return [fit_image(image, encoder.settings.protocol) for image in images]


@pytest.fixture
def batches(monkeypatch):
  """The canvas and the number of pictures of each batch that was made."""
  seen = []

  def stack(fitted, canvas, batch_size):
    seen.append((canvas, len(fitted)))
    return original(fitted, canvas, batch_size)

  original = explanation.stack
  monkeypatch.setattr(explanation, "stack", stack)
  return seen


def test_maps_in_a_batch_are_those_of_each_photograph(encoders, monkeypatch):
  monkeypatch.setattr(explanation, "AT_ONCE", 3)
  encoder = encoders["plain"]
  images = [WIDE, TALL, _picture(64, 64, 3), _picture(16, 600, 4), WIDE, WIDE, WIDE]
  boxes = [None, None, (0, 0, 32, 40), None, BOX, None, None]
  places = [0, 1, 2, 3, 0, 1, 2]
  reasons = [explain(encoder, *one, 4).classes[place] for *one, place in zip(images, boxes, places, strict=True)]
  protocol = encoder.settings.protocol
  cells = [None if box is None else fit_query(image, box, protocol).cells for image, box in zip(images, boxes, strict=True)]
  found = compute_maps(encoder, _fit(encoder, images), [reason.class_id for reason in reasons], cells)
  assert len(found) == 7
  for one, reason in zip(found, reasons, strict=True):
    assert one.shape == reason.cam.shape
    np.testing.assert_allclose(one, reason.cam, atol=THROUGH_THE_NETWORK)
  assert found[3].shape == (1, 8)
  assert found[2].any() and found[4].any()
  whole = compute_maps(encoder, _fit(encoder, images[:1]), [reasons[0].class_id])
  np.testing.assert_allclose(whole[0], reasons[0].cam, atol=THROUGH_THE_NETWORK)
  assert compute_maps(encoder, [], []) == []


def test_each_picture_is_computed_in_its_own_declared_canvas(encoders, batches, compilations, monkeypatch):
  monkeypatch.setattr(explanation, "AT_ONCE", 4)
  encoder = encoders["plain"]
  landscape, portrait = _picture(64, 128, 6), _picture(128, 64, 7)
  images = [landscape, portrait, landscape, WIDE, portrait]
  found = compute_maps(encoder, _fit(encoder, images), [1, 2, 3, 4, 5])
  assert sorted(batches) == [((64, 96), 1), ((64, 128), 2), ((128, 64), 2)]
  assert {canvas for canvas, _ in batches} <= set(encoder.settings.protocol.canvases)
  assert len([name for name in compilations if "_map" in name]) == 3
  every = encoder.replace(settings=_all_classes(encoder))
  for image, class_id, one in zip(images, [1, 2, 3, 4, 5], found, strict=True):
    cams = {reason.class_id: reason.cam for reason in explain(every, image, top=10).classes}
    np.testing.assert_allclose(one, cams[class_id], atol=THROUGH_THE_NETWORK)


def _all_classes(encoder):
  settings = encoder.settings
  return dataclasses.replace(settings, protocol=dataclasses.replace(settings.protocol, num_classes=10))


def test_one_program_serves_any_photographs_of_a_canvas(encoders, batches, compilations):
  encoder = encoders["whitened"]
  compute_maps(encoder, _fit(encoder, [WIDE, _picture(66, 96, 3)]), [0, 1])
  assert len([name for name in compilations if "_map" in name]) == 1
  compilations.clear()
  pictures = _fit(encoder, [_picture(66, 96, 5)] * 15)
  found = compute_maps(encoder, pictures, range(10, 25), [(1, 0, 5, 4), None])
  assert compilations == [] and len(found) == 15
  assert batches == [((64, 96), 2), ((64, 96), 12), ((64, 96), 3)]


def test_empty_slots_are_not_computed(encoders, monkeypatch):
  """An image goes through the network once for each picture, however large the batch is."""
  monkeypatch.setattr(explanation, "AT_ONCE", 7)  # of a shape of its own, so that it is traced here
  computed = []

  def activate(encoder, images, sizes):
    jax.debug.callback(lambda size: computed.append(size.tolist()), sizes)
    return original(encoder, images, sizes)

  original = Encoder.activate
  monkeypatch.setattr(Encoder, "activate", activate)
  encoder = encoders["plain"]
  for count in (3, 7, 9):
    computed.clear()
    compute_maps(encoder, _fit(encoder, [WIDE] * count), [1] * count)
    jax.effects_barrier()
    assert computed == [[[64, 91]]] * count
