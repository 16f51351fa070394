"""Each system against the oracle: with masks, of unit length, zero where nothing fires; sizes and rules of METHOD 2b."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.encoder import Activations, most_probable
from cwf_jax.evaluation.descriptors import fill_with_previous
from cwf_jax.systems import system as systems
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import NATIVE, PAPER, SQUARE, SYSTEMS, Seen, pool_classes, pool_vectors
from tests.oracle import encoding
from tests.oracle import systems as oracle
from tests.oracle.deviation import assert_close

# Sums of at most 40 float32 numbers of one sign, roots and logarithms of them: a few units of the last place, 6e-8 each.
TOLERANCE = 1e-5

SHAPE = (3, 4, 5, 8)
"""Of nearly all tests: each shape is compiled anew."""

PAPER_SETTINGS, REFERENCE = Settings.preset("paper"), Settings.preset("reference")
POOLED = [name for name, system in SYSTEMS.items() if system.pool is not None]
OF_MAPS = ["raw", "raw_cw", "spoc", "ucrow", "crow", "mac", "rmac", "gem"]


def _features(shape, seed=0):
  """Post-ReLU: about a third of the values are zero, and the last channel fires nowhere."""
  features = np.maximum(np.random.default_rng(seed).normal(0.4, 1.0, shape), 0).astype(np.float32)
  features[..., -1] = 0
  return features


def _masks(shape):
  """Nothing hidden, a part of each image at the right and bottom, and a box in the middle."""
  whole, part, box = np.ones(shape, bool), np.ones(shape, bool), np.zeros(shape, bool)
  part[:, (shape[1] + 1) // 2 :] = False
  part[0, :, (shape[2] + 1) // 2 :] = False
  box[:, shape[1] // 3 : shape[1] // 3 + 2, shape[2] // 3 : shape[2] // 3 + 1] = True
  return {"whole": whole, "part": part, "box": box}


def _pool(name, features, mask, settings=PAPER_SETTINGS):
  seen = Seen(jnp.asarray(features), jnp.asarray(mask), None, None, settings)
  return np.asarray(pool_vectors(SYSTEMS[name], seen))


def _present(vectors):
  """Of each image the vectors that are not zero, in an order of their own: that of regions does not matter."""
  kept = [[row for row in image.tolist() if any(row)] for image in np.round(np.asarray(vectors, np.float64), 9)]
  return [sorted(rows) for rows in kept]


def test_every_system_is_one_of_the_table():
  assert [*OF_MAPS, "cwr"] == POOLED and [name for name in SYSTEMS if name not in POOLED] == ["ofa", "ona", "fixed"]


def test_class_weights_and_regions(tiny_encoder):
  """The unit sum of an image's class vectors plus the unit sum of its regions' vectors."""
  generator = np.random.default_rng(1)
  images, sizes = generator.integers(0, 256, (2, 64, 96, 3), np.uint8), np.array([[64, 96], [64, 80]])
  activations = tiny_encoder.activate(images, sizes)
  class_ids = most_probable(activations, 3)
  settings = PAPER_SETTINGS.only(SYSTEMS["cwr"].vary)
  seen = Seen(activations.features, activations.mask, tiny_encoder, activations, settings, class_ids)
  found = pool_vectors(SYSTEMS["cwr"], seen)
  weights, masks = tiny_encoder.network.class_weights, np.asarray(activations.mask)
  classes, _ = encoding.encode(
    activations.features, activations.cam_features, activations.probabilities, weights, 3, masks
  )
  assert_close("systems.cwr, classes", found[:, :3], classes, TOLERANCE)
  regions = oracle.pool("rmac", activations.features, masks)
  expected = encoding.normalize(encoding.aggregate(classes) + encoding.aggregate(regions))
  assert_close("systems.cwr", SYSTEMS["cwr"].describe(found), expected, TOLERANCE)


@pytest.mark.parametrize("mask", ["whole", "part", "box"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), SHAPE], ids=str)
@pytest.mark.parametrize("name", OF_MAPS)
def test_vectors_are_the_oracle_s(name, shape, mask):
  features, mask = _features(shape), _masks(shape[:3])[mask]
  found, expected = _pool(name, features, mask), oracle.pool(name, features, mask)
  if name != "rmac":
    assert_close(f"systems.{name}", found, expected, TOLERANCE)
    return
  for ours, theirs in zip(_present(found), _present(expected), strict=True):
    assert len(ours) == len(theirs)
    assert_close("systems.rmac, vectors of regions", ours or [[0.0]], theirs or [[0.0]], TOLERANCE)
  assert_close("systems.rmac", encoding.aggregate(found), encoding.aggregate(expected), TOLERANCE)


@pytest.mark.parametrize("name", OF_MAPS)
def test_vectors_are_of_unit_length(name):
  features = _features(SHAPE) * np.asarray([1, 1e-6, 1e6], np.float32)[:, None, None, None]
  lengths = np.linalg.norm(_pool(name, features, np.ones(SHAPE[:3], bool)), axis=2)
  there = lengths > 0
  assert there[:, 0].all()
  np.testing.assert_allclose(lengths[there], 1, rtol=1e-6)  # float32


@pytest.mark.parametrize("name", OF_MAPS)
def test_what_is_not_there_stays_zero(name):
  features, mask = _features(SHAPE), np.ones(SHAPE[:3], bool)
  features[0], mask[1] = 0, False
  vectors = _pool(name, features, mask)
  assert not vectors[1].any() and vectors[2].any()
  # GeM has a floor, 1e-6: a map without a value is the same in every channel.
  np.testing.assert_allclose(vectors[0], 8**-0.5 if name == "gem" else 0, rtol=1e-6)


@pytest.mark.parametrize("name", OF_MAPS)
def test_what_the_mask_hides_does_not_count(name):
  features, mask = _features(SHAPE), _masks(SHAPE[:3])["part"]
  changed = np.where(mask[..., None], features, 1e9).astype(np.float32)
  np.testing.assert_array_equal(_pool(name, features, mask), _pool(name, changed, mask))


def test_crow_raises_a_channel_that_seldom_fires():
  features = np.zeros((1, 2, 2, 2), np.float32)
  features[..., 0], features[0, 0, 0, 1] = 1, 1
  mask = np.ones((1, 2, 2), bool)
  raw, by_channels, crow = (_pool(name, features, mask)[0, 0] for name in ("raw", "raw_cw", "crow"))
  # Raw sums are (4, 1). Channel weights are log(5/4) and log 5; the busy cell's weight is sqrt 2 of the others'.
  np.testing.assert_allclose(raw[1] / raw[0], 1 / 4, rtol=1e-6)
  np.testing.assert_allclose(by_channels[1] / by_channels[0], np.log(5) / np.log(5 / 4) / 4, rtol=1e-5)
  np.testing.assert_allclose(crow[1] / crow[0], np.sqrt(2) * np.log(5) / ((3 + np.sqrt(2)) * np.log(5 / 4)), rtol=1e-5)


def test_row_0_crow_is_channel_weights_alone():
  features, mask = _features(SHAPE), _masks(SHAPE[:3])["part"]
  np.testing.assert_array_equal(_pool("crow", features, mask, REFERENCE), _pool("raw_cw", features, mask))
  expected = oracle.pool("crow", features, mask, by_channels_alone=True)
  assert_close("systems.crow, by channels", _pool("crow", features, mask, REFERENCE), expected, TOLERANCE)
  assert np.abs(_pool("crow", features, mask) - _pool("raw_cw", features, mask)).max() > 1e-3


def test_the_epsilon_of_crow_s_own_paper():
  features, mask = _features(SHAPE), _masks(SHAPE[:3])["part"]
  settings = Settings.preset("paper", {"crow_epsilon": "0.25"})
  expected = oracle.pool("crow", features, mask, epsilon=0.25)
  assert_close("systems.crow, epsilon", _pool("crow", features, mask, settings), expected, TOLERANCE)
  # By hand, of one cell of three channels: Q = (1, 1, 0) and X = (2, 3, 0), whose weights are log((3 e + 2)/(e + 1)).
  found = _pool("crow", np.asarray([[[[2.0, 3.0, 0.0]]]], np.float32), np.ones((1, 1, 1), bool), settings)
  np.testing.assert_allclose(found[0, 0], np.asarray([2, 3, 0]) / 13**0.5, rtol=1e-6)


class TestClasses:
  """Class vectors over given maps and the tiny network's classifier."""

  @pytest.fixture
  def case(self, tiny_encoder):
    """Three images: one of any maps, one in which the map of class 7 is negative everywhere, one without any response."""
    weights = np.asarray(tiny_encoder.network.class_weights)
    generator = np.random.default_rng(3)
    responses = np.maximum(generator.normal(0.2, 1.0, (3, 4, 5, len(weights))), 0).astype(np.float32)
    responses[1] = generator.uniform(0.5, 1.5, (4, 5, 1)) * np.maximum(-weights[:, 7], 0)
    responses[2] = 0
    features, mask = _features((3, 4, 5, 32)), np.ones((3, 4, 5), bool)
    mask[0, 3:] = False
    ids = np.asarray([[2, 0, 5, 7], [7, 1, 7, 3], [4, 5, 6, 7]])
    activations = Activations(*map(jnp.asarray, (features, responses, mask, np.full((3, 10), 0.1))), {}, jnp.zeros((3, 10)))
    return types.SimpleNamespace(encoder=tiny_encoder, weights=weights, activations=activations, ids=ids)

  def _run(self, case, settings, mask):
    seen = Seen(case.activations.features, jnp.asarray(mask), case.encoder, case.activations, settings)
    return np.asarray(pool_classes(seen, jnp.asarray(case.ids)))

  @pytest.mark.parametrize("rule", ["no_vector", "divided"])
  @pytest.mark.parametrize("is_cut", [False, True])
  def test_class_vectors_are_the_oracle_s(self, case, rule, is_cut):
    whole = np.asarray(case.activations.mask)
    mask = whole & _masks((3, 4, 5))["box"] if is_cut else whole
    maps = np.asarray(case.activations.features), np.asarray(case.activations.cam_features)
    expected = oracle.pool_classes(*maps, case.weights, case.ids, mask, whole, divided=rule == "divided")
    found = self._run(case, Settings.preset("paper", {"empty_maps": rule}), mask)
    assert_close(f"systems.pool_classes, {rule}", found, expected, TOLERANCE)
    if not is_cut:
      # Row 11: no vector where a map is negative; the published code turns it positive. None where all is zero.
      assert found[1, 0].any() == (rule == "divided") and not found[2].any()

  def test_row_11_by_hand(self):
    # Of two cells the CAM is -1 and -4: divided by its maximum it is 1 and 4, so the second cell counts four times.
    maps = jnp.asarray([[[[1.0], [4.0]]]])
    network = types.SimpleNamespace(class_weights=jnp.asarray([[-1.0]]))
    features, mask = jnp.asarray([[[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]]]), jnp.ones((1, 1, 2), bool)
    activations = Activations(features, maps, mask, jnp.ones((1, 1)), {}, jnp.zeros((1, 1)))
    encoder = types.SimpleNamespace(network=network)
    found = pool_classes(Seen(features, mask, encoder, activations, REFERENCE), jnp.zeros((1, 1), int))
    # All three channels fire in half the cells, so their weights are equal: (1, 4, 2) of unit length.
    np.testing.assert_allclose(found[0, 0], np.asarray([1, 4, 2]) / 21**0.5, rtol=1e-6)

  def test_the_vector_before_fills_an_empty_one(self):
    rows = [[0, 0], [1, 2], [0, 0], [0, 0], [0, 5], [0, 0]]
    expected = [[0, 0], [1, 2], [1, 2], [1, 2], [0, 5], [0, 5]]
    found = fill_with_previous(jnp.asarray([rows, rows[::-1]], jnp.float32))
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], [[0, 0], [0, 5], [0, 5], [0, 5], [1, 2], [1, 2]])
    np.testing.assert_array_equal(found, oracle.fill([rows, rows[::-1]]))


class TestSizes:
  def test_each_system_s_network_map_and_dimensions(self):
    told = {name: (one.network, one.map, one.sizes, one.dimensions, one.plain) for name, one in SYSTEMS.items()}
    cam, native = ("vgg16_cam", "features", PAPER, 512), ("vgg16", "pooled", NATIVE)
    assert told == {
      **dict.fromkeys(("raw", "raw_cw"), (*cam, True)),
      **dict.fromkeys(("ofa", "ona", "fixed"), (*cam, False)),
      "spoc": ("vgg19", "last", SQUARE, 256, False),
      "ucrow": (*native, 256, False),
      **dict.fromkeys(("crow", "mac", "rmac"), (*native, 512, False)),
      "gem": ("any", "last", NATIVE, 512, False),
      "cwr": ("any", "features", PAPER, 512, False),
    }
    assert {name: one.classes for name, one in SYSTEMS.items() if one.classes} == {
      "ofa": "own", "ona": "query", "fixed": "listed"
    }  # fmt: skip

  @pytest.mark.parametrize(
    ("sizes", "preset", "image_size", "original", "expected"),
    [
      (PAPER, "paper", 720, (1536, 2048), (720, 960)),
      (PAPER, "paper", 720, (2048, 1536), (960, 720)),
      (PAPER, "paper", 720, (100, 300), (480, 1440)),  # at most twice as long as the shorter side
      # METHOD 7.2 and 7.8: stretched to the frame, turned for portraits; a square is landscape
      (PAPER, "reference", 720, (1536, 2048), (720, 1024)),
      (PAPER, "reference", 720, (2048, 1536), (1024, 720)),
      (PAPER, "reference", 720, (500, 500), (720, 1024)),
      (PAPER, "reference", 64, (501, 500), (91, 64)),
      (SQUARE, "paper", 720, (1536, 2048), (586, 586)),
      (SQUARE, "reference", 720, (1536, 2048), (586, 586)),
      (SQUARE, "paper", 64, (20, 2048), (52, 52)),  # 586/720 of 64 is 52.1
      (NATIVE, "paper", 720, (1024, 768), (1024, 768)),
      (NATIVE, "reference", 720, (1536, 2048), (768, 1024)),
      (NATIVE, "paper", 720, (300, 400), (300, 400)),  # never enlarged
      (NATIVE, "paper", 64, (128, 182), (64, 91)),
    ],
  )
  def test_at_which_sizes(self, sizes, preset, image_size, original, expected):
    assert sizes.protocol(Settings.preset(preset), image_size).resized(*original) == expected

  def test_row_1_is_of_the_paper_s_own_systems_alone(self):
    assert PAPER.protocol(REFERENCE, 720).reversed_means and not PAPER.protocol(PAPER_SETTINGS, 720).reversed_means
    assert not NATIVE.protocol(REFERENCE, 720).reversed_means and not SQUARE.protocol(REFERENCE, 720).reversed_means

  def test_what_is_seen_of_a_query(self):
    rules = {name: system.query_rule(PAPER_SETTINGS) for name, system in SYSTEMS.items()}
    assert rules == {
      **dict.fromkeys(("raw", "raw_cw", "cwr", "ofa", "ona", "fixed"), "cells"),
      **dict.fromkeys(("spoc", "ucrow", "crow", "mac", "rmac"), "box"),
      "gem": "box_in_proportion",
    }
    assert SYSTEMS["spoc"].query_rule(Settings.preset("paper", {"spoc_query": "image"})) == "image"
    assert {name for name, one in SYSTEMS.items() if one.box_rule(REFERENCE) == "size"} == {"crow", "ucrow"}
    assert all(one.box_rule(PAPER_SETTINGS) == "corners" for one in SYSTEMS.values())

  def test_vectors_under_other_settings_have_other_names(self):
    for setting, value, names in (
      ("crow_weights", "channels", {"crow"}),
      ("crow_epsilon", 0.5, {"crow"}),
      ("empty_maps", "divided", {"cwr", "ofa", "ona", "fixed"}),
      ("num_classes", 3, {"cwr"}),
      ("ties", "reversed", set()),
    ):
      changed = Settings.preset("paper", {setting: value})
      differ = {name for name, one in SYSTEMS.items() if one.column(name, changed) != one.column(name, PAPER_SETTINGS)}
      assert differ == names


def test_a_system_of_one_s_own(monkeypatch):
  """As the module's docstring has it: the mean is the sum, but for its length."""

  def pool_mean(seen):
    return systems.pool_gem(seen.features, seen.mask, exponent=1.0)

  mean = systems.System("mean pooling", "vgg16", "pooled", NATIVE, systems.BOX, pool_mean, 512)
  monkeypatch.setitem(SYSTEMS, "mean", mean)
  features, mask = _features(SHAPE), np.ones(SHAPE[:3], bool)
  # GeM's floor, 1e-6, in place of the zeros.
  np.testing.assert_allclose(_pool("mean", features, mask), _pool("raw", features, mask), atol=1e-5)
  assert dataclasses.replace(mean, title="") != mean
