import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cwf_jax.ops.regions import THRESHOLDS, _find_regions, find_regions, label_components
from tests.ops.heatmaps import WORST, draw, draw_coarse, draw_spiral, list_turned, parse
from tests.oracle import regions
from tests.oracle.deviation import assert_close

SHAPES = [  # b i j
  (1, 1, 1),
  (3, 1, 1),
  (2, 1, 9),
  (2, 9, 1),
  (1, 2, 2),
  (3, 5, 4),
  (2, 12, 17),
  (2, 45, 64),
]

label = jax.jit(label_components)


def check(heatmaps, thresholds=THRESHOLDS, strict=True):
  """Holds boxes to the oracle's, exactly, and returns them."""
  found = find_regions(jnp.asarray(heatmaps), thresholds, strict)
  assert found.dtype == jnp.int32
  assert_close("regions", found, regions.find_regions(heatmaps, thresholds, strict), 0.0)
  return np.asarray(found)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@pytest.mark.parametrize("drawn", [draw, draw_coarse], ids=["fine", "coarse"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_oracle(shape, drawn, strict):
  check(drawn(shape), strict=strict)
  check(drawn(shape, seed=1), (0.25, 0.5, 0.75, 1.0, 0.0), strict)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_oracle_at_the_percolation_threshold(seed, strict):
  """Where four cells in ten are set, 8-connected components are largest and most ragged."""
  heatmaps = np.random.default_rng(seed).random((2, 45, 64)).astype(np.float32)
  check(heatmaps, (0.55, 0.59, 0.6, 0.65), strict)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, np.nan, -np.inf])
def test_a_map_without_a_positive_value_has_no_region(value, shape, strict):
  found = check(np.full(shape, value, np.float32), (0.0, *THRESHOLDS, 1.0), strict)
  assert not found.any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_constant_map_is_one_region(shape):
  heatmaps = np.full(shape, 0.3, np.float32)
  whole = np.array([0, 0, shape[2], shape[1]])
  assert (check(heatmaps) == whole).all()
  assert not check(heatmaps, (1.0,), strict=True).any()
  assert (check(heatmaps, (1.0,), strict=False) == whole).all()


def test_negative_values_are_no_obstacle():
  heatmaps = draw((2, 6, 7)) - np.float32(0.3)
  assert heatmaps.min() < 0 < heatmaps.max()
  assert check(heatmaps).any(-1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -3.0])
def test_a_bad_map_never_touches_another(value):
  good = draw((3, 6, 7))
  alone = np.asarray(find_regions(jnp.asarray(good), THRESHOLDS))
  assert alone.any(-1).all()
  bad = good.copy()
  bad[1] = value
  found = check(bad)
  np.testing.assert_array_equal(found[[0, 2]], alone[[0, 2]])
  assert not found[1].any()


def test_one_nan_cell_empties_its_map():
  heatmaps = draw((2, 6, 7))
  alone = check(heatmaps)
  heatmaps[0, 5, 6] = np.nan
  found = check(heatmaps)
  assert not found[0].any()
  np.testing.assert_array_equal(found[1], alone[1])


def test_boxes_by_hand():
  heatmap = parse(
    ".......",
    ".##..#.",
    ".##..#.",
    ".....##",
    ".....##",
  )
  np.testing.assert_array_equal(check(heatmap, (0.5,)), [[[5, 1, 7, 5]]])
  heatmap[0, 1:3, 1:3] = 2  # the maximum, so that half of it leaves the square alone
  np.testing.assert_array_equal(check(heatmap, (0.4, 0.5)), [[[5, 1, 7, 5], [1, 1, 3, 3]]])
  np.testing.assert_array_equal(check(heatmap, (0.4, 0.5), strict=False), [[[5, 1, 7, 5], [5, 1, 7, 5]]])


def test_cells_count_and_not_area():
  """METHOD 7.7: neither the hole of a ring counts nor is a line empty."""
  heatmap = parse(
    "####.....",
    "#..#.....",
    "#..#.....",
    "####.....",
    ".........",
    "...#.....",
    "...######",
    "...######",
  )
  np.testing.assert_array_equal(check(heatmap, (0.5,)), [[[3, 5, 9, 8]]])
  line = parse("#####..", ".......", "....##.", "....##.")
  np.testing.assert_array_equal(check(line, (0.5,)), [[[0, 0, 5, 1]]])


def test_a_single_cell_is_a_region():
  for i in range(3):
    for j in range(4):
      heatmap = np.zeros((1, 3, 4), np.float32)
      heatmap[0, i, j] = 5
      assert (check(heatmap) == [j, i, j + 1, i + 1]).all()


def test_of_equal_components_the_first_in_row_order():
  sides = parse("...##", ".....", "##...")
  np.testing.assert_array_equal(check(sides, (0.5,)), [[[3, 0, 5, 1]]])
  hooks = parse("..#.#", ".#..#", "#...#")
  np.testing.assert_array_equal(check(hooks, (0.5,)), [[[0, 0, 3, 3]]])
  # the first cell decides, and not the leftmost box
  later = parse("....#", "##.#.", "#..#.")
  np.testing.assert_array_equal(check(later, (0.5,)), [[[3, 0, 5, 3]]])
  larger = parse("#.#.#", ".....", "..##.")
  np.testing.assert_array_equal(check(larger, (0.5,)), [[[2, 2, 4, 3]]])


@pytest.mark.parametrize(("lines", "box"), [
  (("#..", ".#.", "..#"), (0, 0, 3, 3)),
  (("..#", ".#.", "#.."), (0, 0, 3, 3)),
  (("#.#.#", ".#.#."), (0, 0, 5, 2)),
  (("#...", "....", "..#.", ".#.#"), (1, 2, 4, 4)),
], ids=["falling", "rising", "zigzag", "a gap of one row"])  # fmt: skip
def test_diagonal_neighbors_are_connected(lines, box):
  np.testing.assert_array_equal(check(parse(*lines), (0.5,)), [[box]])


def test_rows_do_not_wrap_around():
  ends = parse("....##", "##....", "....##", "##....")
  np.testing.assert_array_equal(check(ends, (0.5,)), [[[4, 0, 6, 1]]])
  maps = np.concatenate([parse("....", "..##"), parse("##..", "....")])  # neighbors in memory, not in a map
  np.testing.assert_array_equal(check(maps, (0.5,)), [[[2, 1, 4, 2]], [[0, 0, 2, 1]]])


@pytest.mark.parametrize("shape", [(3, 4), (9, 12), (45, 64)], ids=str)
@pytest.mark.parametrize("name", WORST)
def test_long_components_in_every_position(name, shape):
  for heatmap in list_turned(WORST[name](*shape)):
    found = check(heatmap, (0.5,))
    np.testing.assert_array_equal(found, [[[0, 0, heatmap.shape[2], heatmap.shape[1]]]])
    broken = heatmap.copy()
    inside = np.argwhere(heatmap[0])
    broken[0][tuple(inside[len(inside) // 2])] = 0
    check(broken, (0.5,))


@pytest.mark.parametrize("name", WORST)
@pytest.mark.parametrize("shape", [(9, 12), (45, 64), (180, 256)], ids=str)
def test_rounds_are_logarithmic(shape, name):
  """A cell's label travels thousands of cells along a path in a few rounds; a round a cell, or a turn, would be far more."""
  for heatmap in list_turned(WORST[name](*shape)):
    labels, rounds = label(jnp.asarray(heatmap > 0))
    assert len(np.unique(labels)) == 2  # of the one component, and of the cells outside it
    assert 1 <= rounds <= np.log2(heatmap.size)


@pytest.mark.parametrize("seed", range(5))
def test_rounds_are_logarithmic_on_ragged_components(seed):
  masks = np.random.default_rng(seed).random((5, 180, 256)) < np.array([0.2, 0.38, 0.4, 0.42, 0.6])[:, None, None]
  assert label(jnp.asarray(masks))[1] <= np.log2(masks[0].size)


def test_labels_are_the_first_cells():
  labels, rounds = label(jnp.asarray(np.concatenate([parse("..#", "#..", ".#."), parse("...", "...", "..#")]) > 0))
  np.testing.assert_array_equal(labels, [[[9, 9, 2], [3, 9, 9], [9, 3, 9]], [[9, 9, 9], [9, 9, 9], [9, 9, 8]]])
  assert rounds >= 1
  labels, rounds = label(jnp.zeros((2, 3, 4), bool))
  assert (labels == 12).all()
  assert rounds == 0


@pytest.mark.parametrize("density", [0.2, 0.38, 0.42, 0.6])
def test_labels_equal_those_of_scipy(density):
  ndimage = pytest.importorskip("scipy.ndimage", reason="scipy, which comes with the test extra, is not installed")
  masks = np.random.default_rng(0).random((4, 45, 64)) < density
  labels = np.asarray(label(jnp.asarray(masks))[0])
  for mask, found in zip(masks, labels, strict=True):
    peer, count = ndimage.label(mask, structure=np.ones((3, 3)))
    first = ndimage.minimum(np.arange(mask.size).reshape(mask.shape), peer, range(1, count + 1)).astype(int)
    np.testing.assert_array_equal(found, np.concatenate([[mask.size], first])[peer])


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@pytest.mark.parametrize("drawn", [draw, draw_coarse], ids=["fine", "coarse"])
def test_boxes_equal_those_of_scipy(drawn, strict):
  ndimage = pytest.importorskip("scipy.ndimage", reason="scipy, which comes with the test extra, is not installed")
  heatmaps = drawn((4, 45, 64), seed=2)
  found = np.asarray(find_regions(jnp.asarray(heatmaps), THRESHOLDS, strict))
  for b, heatmap in enumerate(heatmaps):
    for t, threshold in enumerate(THRESHOLDS):
      limit = np.float32(threshold) * heatmap.max()
      peer, _ = ndimage.label(heatmap > limit if strict else heatmap >= limit, structure=np.ones((3, 3)))
      best = np.bincount(peer.ravel())[1:].argmax()  # scipy numbers components in row order of their first cells
      down, across = ndimage.find_objects(peer)[best]
      np.testing.assert_array_equal(found[b, t], [across.start, down.start, across.stop, down.stop])


@hypothesis.given(st.integers(0, 99), st.integers(-60, 60), st.booleans())
def test_the_scale_of_a_map_does_not_matter(seed, exponent, strict):
  """By powers of two, which do not round."""
  heatmaps = draw((3, 6, 8), seed)
  scaled = np.ldexp(heatmaps, np.array([exponent, 0, -exponent])[:, None, None]).astype(np.float32)
  found = find_regions(jnp.asarray(scaled), THRESHOLDS, strict)
  np.testing.assert_array_equal(found, find_regions(jnp.asarray(heatmaps), THRESHOLDS, strict))


@hypothesis.given(st.integers(0, 99), st.booleans())
def test_a_batch_equals_batches_of_one(seed, strict):
  heatmaps = jnp.asarray(draw_coarse((5, 6, 8), seed)) * jnp.asarray([1.0, 0.0, -1.0, 3.0, jnp.nan])[:, None, None]
  one_by_one = jnp.concatenate([find_regions(heatmap[None], THRESHOLDS, strict) for heatmap in heatmaps])
  np.testing.assert_array_equal(find_regions(heatmaps, THRESHOLDS, strict), one_by_one)


@hypothesis.given(st.integers(0, 99))
@pytest.mark.long
def test_thresholds_are_independent_of_each_other(seed):
  heatmaps = jnp.asarray(draw((2, 6, 8), seed))
  one_by_one = [find_regions(heatmaps, (threshold,)) for threshold in THRESHOLDS]
  np.testing.assert_array_equal(find_regions(heatmaps, THRESHOLDS), jnp.concatenate(one_by_one, axis=1))
  np.testing.assert_array_equal(find_regions(heatmaps, THRESHOLDS[::-1]), jnp.concatenate(one_by_one[::-1], axis=1))


@hypothesis.given(st.integers(0, 99), st.booleans())
def test_equals_the_oracle_on_any_small_map(seed, strict):
  random = np.random.default_rng(seed)
  check(random.integers(-1, 4, (4, 5, 6)).astype(np.float32), (0.0, 1 / 3, 0.5, 1.0), strict)


def test_jit_and_vmap_equal_eager():
  heatmaps = np.concatenate([draw((2, 6, 8)), draw_spiral(6, 8)[None], np.zeros((1, 6, 8), np.float32)])
  heatmaps = jnp.asarray(np.concatenate([heatmaps, np.full((1, 6, 8), np.nan, np.float32)]))
  with jax.disable_jit():
    eager = np.asarray(find_regions(heatmaps, THRESHOLDS))
  assert eager[:3].any(-1).all()
  np.testing.assert_array_equal(jax.jit(lambda maps: find_regions(maps, THRESHOLDS))(heatmaps), eager)
  np.testing.assert_array_equal(jax.vmap(lambda heatmap: find_regions(heatmap[None], THRESHOLDS)[0])(heatmaps), eager)
  in_batches = jax.jit(jax.vmap(lambda maps: find_regions(maps, THRESHOLDS)))(heatmaps[None])
  np.testing.assert_array_equal(in_batches[0], eager)


def test_half_precision_maps_are_compared_in_float32():
  heatmaps = jnp.asarray(draw((2, 6, 8)), jnp.bfloat16)
  expected = regions.find_regions(np.asarray(heatmaps, np.float32), THRESHOLDS)
  np.testing.assert_array_equal(find_regions(heatmaps, THRESHOLDS), expected)


def test_one_program_a_shape():
  traces = []

  @jax.jit
  def traced(heatmaps):
    traces.append(heatmaps.shape)
    return find_regions(heatmaps, THRESHOLDS)

  _find_regions.clear_cache()
  for heatmaps in (draw((1, 7, 9)), draw((1, 7, 9), seed=1), draw_spiral(7, 9)[None], np.zeros((1, 7, 9), np.float32)):
    np.testing.assert_array_equal(traced(jnp.asarray(heatmaps)), find_regions(jnp.asarray(heatmaps), THRESHOLDS))
  assert traces == [(1, 7, 9)]
  assert _find_regions._cache_size() == 1  # called alone, too
  for thresholds in (list(THRESHOLDS), np.asarray(THRESHOLDS), tuple(np.asarray(THRESHOLDS))):
    find_regions(jnp.asarray(draw((1, 7, 9))), thresholds)
  assert _find_regions._cache_size() == 1  # whatever sequence the thresholds are
  find_regions(jnp.asarray(draw((1, 7, 9))))
  assert _find_regions._cache_size() == 1  # and without any


@pytest.mark.parametrize(
  "thresholds",
  [
    *([0.25, 0.5, 1], (np.float32(0.25), np.float64(0.5), np.int64(1))),
    *(np.array([0.25, 0.5, 1.0]), np.array([0.25, 0.5, 1.0], np.float32)),
  ],
  ids=["list", "NumPy's numbers", "array", "float32 array"],
)
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_thresholds_are_any_sequence_of_numbers(thresholds, strict):
  heatmaps = jnp.asarray(draw_coarse((2, 6, 8)))
  found = find_regions(heatmaps, thresholds, strict)
  assert found.shape == (2, 3, 4)
  np.testing.assert_array_equal(found, find_regions(heatmaps, (0.25, 0.5, 1.0), strict))
  np.testing.assert_array_equal(jax.jit(lambda maps: find_regions(maps, thresholds, strict))(heatmaps), found)


def test_without_thresholds_those_of_the_method_are_taken():
  heatmaps = jnp.asarray(draw((2, 6, 8)))
  np.testing.assert_array_equal(find_regions(heatmaps), find_regions(heatmaps, THRESHOLDS))
  np.testing.assert_array_equal(find_regions(heatmaps, strict=False), find_regions(heatmaps, THRESHOLDS, False))


def test_no_thresholds_and_no_images():
  assert find_regions(jnp.ones((2, 3, 4)), ()).shape == find_regions(jnp.ones((2, 3, 4)), np.zeros(0)).shape == (2, 0, 4)
  assert find_regions(jnp.ones((0, 3, 4)), THRESHOLDS).shape == (0, 5, 4)


@pytest.fixture
def without_checked_shapes():
  """Outside the tests nothing checks the annotations, and the function's own checks speak."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (1, 4, 5, 1), (1, 0, 5), (1, 5, 0)], ids=str)
def test_a_wrong_shape(shape, without_checked_shapes):
  with pytest.raises(ValueError) as caught:
    find_regions(jnp.zeros(shape), THRESHOLDS)
  assert "heatmaps are [b i j]" in str(caught.value)
  assert str(shape) in str(caught.value)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_out_of_range(threshold):
  with pytest.raises(ValueError) as caught:
    find_regions(jnp.ones((1, 3, 4)), (0.1, threshold))
  assert "in [0, 1]" in str(caught.value)
  assert str((0.1, threshold)) in str(caught.value)
  with pytest.raises(ValueError, match=r"in \[0, 1\]"):
    find_regions(jnp.ones((1, 3, 4)), np.array([0.1, threshold]))


def test_the_thresholds_of_the_method():
  assert THRESHOLDS == (0.01, 0.1, 0.2, 0.3, 0.4)
