from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.cams import compute_cams
from cwf_jax.ops.regions import find_regions
from tests.oracle import encoding
from tests.oracle.deviation import assert_close

# A sum of D float32 products deviates by about sqrt(D) ulp of its largest terms (2e-6 for D = 1024); the maximum, by which
# it is divided, may be a tenth of those terms.
TOLERANCE = 1e-5

SHAPES = [  # b i j d c
  (1, 1, 1, 1, 1),
  (1, 1, 1, 8, 3),
  (3, 1, 1, 4, 2),
  (2, 1, 6, 3, 2),
  (1, 2, 7, 1, 4),
  (3, 4, 5, 8, 1),
  (3, 5, 3, 16, 6),
  (1, 9, 12, 64, 10),
  (1, 45, 64, 1024, 3),
]

SHARED = Path(__file__).parents[3] / "shared" / "data" / "cam_googlenet" / "cup.npz"

needs_googlenet = pytest.mark.skipif(not SHARED.is_file(), reason="the activations of GoogLeNet-CAM are not here")

CUP = (123, 105, 175, 138)
"""Where the cup is in the picture of 256x256 pixels: left, top, right, bottom, read off by eye."""

CROPS = [(0, 0), (32, 0), (0, 32), (32, 32), (16, 16)]
"""Left and top of Caffe's five crops of 224x224 pixels; five more are their mirrors."""

jitted = jax.jit(compute_cams)


def draw(shape, seed=0):
  b, i, j, d, c = shape
  random = np.random.default_rng(seed)
  features = np.maximum(random.normal(size=(b, i, j, d)), 0.0).astype(np.float32)
  return features, random.normal(size=(d, c)).astype(np.float32)


def draw_mask(shape, seed=0):
  mask = np.random.default_rng(seed).random(shape) < 0.6
  mask[:, 0, 0] = True
  return mask


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_oracle(shape):
  features, weights = draw(shape)
  result = np.asarray(jitted(jnp.asarray(features), jnp.asarray(weights)))
  expected = encoding.compute_cams(features, weights)
  assert_close("class activation maps", result, expected, TOLERANCE)
  largest = result.max((1, 2))
  assert np.isclose(largest[largest > 0], 1.0, rtol=1e-6).all()  # compiled, a division is a product with the reciprocal
  assert result.min() >= 0


@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_equals_the_oracle_with_a_mask_and_own_weights(shape):
  features, _ = draw(shape)
  weights = np.random.default_rng(1).normal(size=(shape[0], shape[3], shape[4])).astype(np.float32)
  mask = draw_mask(shape[:3])
  result = jitted(jnp.asarray(features), jnp.asarray(weights), jnp.asarray(mask))
  assert_close("class activation maps", result, encoding.compute_cams(features, weights, mask), TOLERANCE)
  assert not np.asarray(result)[~mask].any()


@pytest.mark.parametrize("case", ["negative", "zero features", "zero weights", "nothing inside the mask"])
def test_a_map_without_a_positive_value_is_zero(case):
  features, weights = draw((2, 3, 4, 8, 3))
  mask = np.ones((2, 3, 4), bool)
  if case == "negative":
    weights[:, 1] = -np.abs(weights[:, 1]) - 0.1
  elif case == "zero features":
    features[:] = 0.0
  elif case == "zero weights":
    weights[:, 1] = 0.0
  else:
    mask[:] = False
  result = np.asarray(jitted(jnp.asarray(features), jnp.asarray(weights), jnp.asarray(mask)))
  assert_close("class activation maps", result, encoding.compute_cams(features, weights, mask), TOLERANCE)
  assert not result[..., 1].any()


def test_values_by_hand():
  features = jnp.asarray([[[[1.0, 0.0], [2.0, 2.0]], [[0.0, 3.0], [4.0, 0.0]]]])
  weights = jnp.asarray([[1.0, -1.0], [-1.0, 0.5]])
  expected = [[[[0.25, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]]  # products 1, 0, -3, 4 and -1, -1, 1.5, -4
  np.testing.assert_array_equal(compute_cams(features, weights), expected)


def test_padding_does_not_count_whatever_it_holds():
  features, weights = draw((2, 3, 4, 8, 5))
  padded = np.random.default_rng(2).normal(scale=1e3, size=(2, 6, 7, 8)).astype(np.float32)
  padded[:, :3, :4] = features
  padded[:, 5, 6] = np.nan
  mask = np.zeros((2, 6, 7), bool)
  mask[:, :3, :4] = True
  result = np.asarray(jitted(jnp.asarray(padded), jnp.asarray(weights), jnp.asarray(mask)))
  alone = jitted(jnp.asarray(features), jnp.asarray(weights))
  np.testing.assert_allclose(result[:, :3, :4], alone, atol=1e-6)  # the same sums, in another order of vectors
  assert not result[~mask].any()


def test_under_vmap():
  features, weights = draw((3, 2, 5, 6, 4))
  one_by_one = jax.jit(jax.vmap(lambda image: compute_cams(image[None], jnp.asarray(weights))[0]))(jnp.asarray(features))
  np.testing.assert_allclose(one_by_one, jitted(jnp.asarray(features), jnp.asarray(weights)), atol=1e-6)


def test_gradient():
  features, weights = draw((1, 2, 3, 4, 2), seed=3)
  # central differences in float32, in a place without a kink within eps: see test_normalize
  check_grads(
    jitted, (jnp.asarray(features + 0.1), jnp.asarray(weights)), order=1, modes=["rev"], atol=5e-3, rtol=5e-3, eps=5e-3
  )


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_of_an_empty_map_is_finite(masked):
  mask = jnp.zeros((1, 2, 2), bool) if masked else None
  features = jnp.ones((1, 2, 2, 3)) if masked else jnp.zeros((1, 2, 2, 3))
  gradients = jax.jit(jax.grad(lambda *inputs: compute_cams(*inputs, mask).sum(), argnums=(0, 1)))(features, jnp.ones((3, 2)))
  assert all(np.isfinite(gradient).all() for gradient in gradients)


@hypothesis.given(st.integers(0, 99), st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(seed, scale):
  features, weights = draw((2, 3, 4, 8, 5), seed)
  result = jitted(jnp.asarray(features), jnp.asarray(weights * np.float32(scale)))
  np.testing.assert_allclose(result, jitted(jnp.asarray(features), jnp.asarray(weights)), atol=1e-5)  # rounding of the scaling


@pytest.fixture(scope="module")
def googlenet():
  """What GoogLeNet-CAM, trained on ImageNet, made of ten crops of a cup on a table, and what Caffe said of them."""
  with np.load(SHARED) as arrays:
    return {name: arrays[name] for name in arrays.files}


def compute_own_cams(googlenet, class_ids):
  """Maps [10 14 14 c] of each crop's own classes [10 c]."""
  weights = np.moveaxis(googlenet["class_weights"][:, class_ids], 0, 1)
  return np.asarray(jitted(jnp.asarray(googlenet["cam_features"]), jnp.asarray(weights))), weights


def to_picture(heatmap, crop):
  """The map of a crop as the picture has it, and the pixels of its left and upper edges; a cell is 16 pixels."""
  return (heatmap[:, ::-1] if crop >= 5 else heatmap), np.array(CROPS[crop % 5])


def find_peak(heatmap, crop):
  """The center of the largest cell, x and y in pixels of the picture."""
  heatmap, corner = to_picture(heatmap, crop)
  row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
  return tuple(corner + 16 * np.array([column + 0.5, row + 0.5]))


@needs_googlenet
def test_the_weights_of_a_real_network_give_the_predictions_it_was_seen_to_make(googlenet):
  """The mean of the CAM features over the cells, times the classifier, is what its probabilities come from."""
  logits = googlenet["cam_features"].astype(np.float64).mean((1, 2)) @ googlenet["class_weights"].astype(np.float64)
  powers = np.exp(logits - logits.max(1, keepdims=True))
  found = powers / powers.sum(1, keepdims=True)
  # 9e-4 was seen: Caffe's run was another, with its own rounding and resizing
  assert_close("probabilities: Caffe", found, googlenet["probabilities"], 1e-3 / googlenet["probabilities"].max())
  np.testing.assert_array_equal(found.argmax(1), googlenet["probabilities"].argmax(1))


@needs_googlenet
def test_maps_of_a_real_network_equal_the_oracle(googlenet):
  """Of the five most probable classes and the least probable one, and over the cells of a mask."""
  order = np.argsort(-googlenet["probabilities"], axis=1, kind="stable")
  maps, weights = compute_own_cams(googlenet, order[:, [0, 1, 2, 3, 4, -1]])
  assert_close("class activation maps: GoogLeNet", maps, encoding.compute_cams(googlenet["cam_features"], weights), TOLERANCE)
  mask = np.zeros((10, 14, 14), bool)
  mask[:, 3:11, 5:] = True
  found = jitted(*(jnp.asarray(array) for array in (googlenet["cam_features"], weights, mask)))
  expected = encoding.compute_cams(googlenet["cam_features"], weights, mask)
  assert_close("class activation maps: GoogLeNet", found, expected, TOLERANCE)


@needs_googlenet
def test_the_map_of_the_cup_lies_on_the_cup(googlenet):
  """In all ten crops the largest cell is the same place of the picture, and it is inside the cup."""
  cup = next(place for place, name in enumerate(googlenet["categories"]) if name.split()[1:] == ["cup"])
  maps = compute_own_cams(googlenet, np.full((10, 1), cup))[0][..., 0]
  peaks = {find_peak(heatmap, crop) for crop, heatmap in enumerate(maps)}
  assert len(peaks) == 1
  x, y = peaks.pop()
  assert CUP[0] < x < CUP[2] and CUP[1] < y < CUP[3]


@needs_googlenet
def test_the_map_of_the_most_probable_class_lies_on_the_cup(googlenet):
  """Cup in six crops, and soup bowl, espresso, espresso maker and consomme in the others: all for what the cup looks like."""
  maps = compute_own_cams(googlenet, googlenet["probabilities"].argmax(1)[:, None])[0][..., 0]
  for crop, heatmap in enumerate(maps):
    x, y = find_peak(heatmap, crop)
    assert CUP[0] < x < CUP[2] and CUP[1] < y < CUP[3]
    heatmap, corner = to_picture(heatmap, crop)
    places = [corner[at] + 16 * (np.arange(14) + 0.5) for at in (0, 1)]
    across, down = ((CUP[at] - 8 < places[at]) & (places[at] < CUP[at + 2] + 8) for at in (0, 1))  # cells that touch the cup
    assert heatmap[down][:, across].mean() > 3.5 * heatmap.mean()  # 3.9 to 6.2 was seen; the glass has a part of it, too
    left, top, right, bottom = 16 * np.asarray(find_regions(jnp.asarray(heatmap[None]), (0.4,)))[0, 0] + np.tile(corner, 2)
    center = (CUP[0] + CUP[2]) / 2, (CUP[1] + CUP[3]) / 2
    assert left < center[0] < right and top < center[1] < bottom
