"""Matching places: equal to plain loops in every number, and what must hold of any maps."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.ops.matching import LARGEST_MAP, MOST_MATCHES, MatchSettings, describe_cells, match_places, select_cells
from tests.ops.operations import draw_whitening
from tests.oracle import matching
from tests.oracle.deviation import assert_close

# Float32 sums of 16 products, and a mean that is subtracted from vectors near it.
TOLERANCE = 2e-6

FEW = MatchSettings(max_matches=12, rotations=(0.0, 90.0, 140.0), scales=(0.55, 1.0, 1.8))
"""Few matches and transformations, so that limits and ties decide more often and the loops are quick."""

SHAPES = [  # query i j, answer p q
  ((1, 1), (1, 1)),
  ((1, 1), (3, 4)),
  ((1, 6), (5, 1)),
  ((3, 4), (1, 1)),
  ((4, 5), (4, 5)),
  ((5, 3), (4, 7)),
]

match = jax.jit(match_places, static_argnames="settings")


def draw_distinct(*shape, dimensions=128, seed=0):
  """Unit cells, no two of them alike: a cosine of 0.5 is more than five standard deviations."""
  cells = np.random.default_rng(seed).normal(size=(*shape, dimensions))
  return (cells / np.linalg.norm(cells, axis=-1, keepdims=True)).astype(np.float32)


def draw_near(shape, seed):
  """Query and answer cells that show the same thing in part: many matches, and many that do not agree."""
  random = np.random.default_rng(seed)
  (rows, columns), (height, width) = shape
  query, answer = (
    draw_distinct(rows, columns, dimensions=32, seed=seed),
    draw_distinct(height, width, dimensions=32, seed=seed + 1000),
  )
  for row, column in np.ndindex(rows, columns):
    if random.random() < 0.8:
      answer[random.integers(height), random.integers(width)] = query[row, column] + random.normal(size=32) / 12
  return query, answer / np.linalg.norm(answer, axis=-1, keepdims=True)


def draw_tied(shape, seed):
  """Cells out of eight, whose cosines are quarters: most of them tie."""
  random = np.random.default_rng(seed)
  known = np.concatenate([np.eye(4), [[0.5, 0.5, 0.5, sign * 0.5] for sign in (1, -1)], np.zeros((2, 4))])
  return (known[random.integers(len(known), size=sides)].astype(np.float32) for sides in shape)


def draw_equal(shape, seed):
  """Every cell the same, so that no cosine decides."""
  cell = draw_distinct(seed=seed)
  return (np.broadcast_to(cell, (*sides, 128)) for sides in shape)


def whole(cells):
  """The mask of a map without padding."""
  return np.ones(cells.shape[:-1], bool)


def match_one(query, answer, query_mask=None, answer_mask=None, settings=FEW):
  """The matches of a single answer, without the batch axis; masks are whole if None."""
  masks = (whole(cells) if mask is None else mask for cells, mask in ((query, query_mask), (answer, answer_mask)))
  query_mask, answer_mask = masks
  found = match(*map(jnp.asarray, (query, query_mask, answer[None], answer_mask[None])), settings=settings)
  return {name: np.asarray(values)[0] for name, values in found._asdict().items()}


def assert_same(ours, theirs):
  for name, values in theirs.items():
    np.testing.assert_array_equal(ours[name], values, err_msg=name)


@pytest.mark.parametrize("min_cam", [0.0, 0.4, 1.0])
def test_a_query_s_cells_are_those_that_its_classes_look_at(min_cam):
  random = np.random.default_rng(0)
  masks = random.random((4, 5, 6)) < 0.7
  cams = np.where(masks[..., None], random.random((4, 5, 6, 3), np.float32), 0)
  cams[1] = 0  # no class looks anywhere
  expected = [matching.select_cells(*pair, min_cam) for pair in zip(cams, masks, strict=True)]
  np.testing.assert_array_equal(select_cells(jnp.asarray(cams), jnp.asarray(masks), min_cam), expected)
  np.testing.assert_array_equal(expected[1], masks[1])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("draw", [draw_near, draw_tied, draw_equal])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_equal_the_oracle(shape, draw, masked):
  for seed in range(6):
    query, answer = draw(shape, seed)
    random = np.random.default_rng(seed)
    query_mask, answer_mask = (random.random(sides) < (0.7 if masked else 1.0) for sides in shape)
    expected = matching.match_places(query, query_mask, answer, answer_mask, FEW)
    assert_same(match_one(query, answer, query_mask, answer_mask), expected)


@pytest.mark.parametrize("seed", range(3))
def test_maps_of_a_photograph_equal_the_oracle_with_the_settings_of_the_method(seed):
  settings = MatchSettings()
  query, answer = draw_near(((9, 8), (8, 9)), seed)
  ours = match_one(query, answer, settings=settings)
  assert_same(ours, matching.match_places(query, whole(query), answer, whole(answer), settings))
  assert 1 < ours["places"] < np.count_nonzero(ours["cosines"])


@pytest.mark.parametrize("changed", [{"min_cosine": 0.92}, {"max_matches": 4}, {"tolerance": 0.0}, {"tolerance": 4.0}], ids=str)
def test_every_setting_counts(changed):
  settings = dataclasses.replace(FEW, **changed)
  query, answer = draw_near(((6, 6), (6, 6)), 3)
  ours = match_one(query, answer, settings=settings)
  assert_same(ours, matching.match_places(query, whole(query), answer, whole(answer), settings))
  assert not np.array_equal(ours["agrees"], match_one(query, answer)["agrees"])


@pytest.mark.parametrize("empty", ["query", "answer", "both"])
def test_without_cells_nothing_matches(empty):
  query, answer = draw_near(((4, 5), (5, 3)), 0)
  query_mask, answer_mask = whole(query) & (empty == "answer"), whole(answer) & (empty == "query")
  assert not any(values.any() for values in match_one(query, answer, query_mask, answer_mask).values())


def test_zero_cells_match_nothing():
  zeros = np.zeros((3, 4, 8), np.float32)
  settings = MatchSettings(min_cosine=1e-6)
  assert not any(values.any() for values in match_one(zeros, zeros, settings=settings).values())


few_shapes = st.sampled_from([(1, 1), (1, 7), (5, 6)])  # each is compiled


@hypothesis.given(few_shapes, st.integers(0, 99))
def test_a_map_matches_itself_everywhere(shape, seed):
  rows, columns = shape
  cells = draw_distinct(rows, columns, seed=seed)
  found = match_one(cells, cells, settings=MatchSettings())
  assert found["places"] == rows * columns
  assert found["query_boxes"].tolist() == found["answer_boxes"].tolist() == [0, 0, columns, rows]
  np.testing.assert_array_equal(found["query_positions"], found["answer_positions"])


@hypothesis.given(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 99))
def test_a_moved_map_matches_where_both_show_the_same(right, down, seed):
  world = draw_distinct(12, 12, seed=seed)
  query, answer = world[3:9, 3:9], world[3 - down : 9 - down, 3 - right : 9 - right]
  found = match_one(query, answer, settings=MatchSettings())
  assert found["places"] == (6 - abs(right)) * (6 - abs(down))
  box = np.array([max(0, -right), max(0, -down), min(6, 6 - right), min(6, 6 - down)])
  np.testing.assert_array_equal(found["query_boxes"], box)
  np.testing.assert_array_equal(found["answer_boxes"], box + np.array([right, down, right, down]))


def test_a_turned_map_matches_under_its_rotation():
  cells = draw_distinct(5, 6)
  turned = np.rot90(cells, -1)  # clockwise
  places = [
    int(match_one(cells, turned, settings=MatchSettings(rotations=(degrees,), scales=(1.0,), tolerance=0.5))["places"])
    for degrees in (0.0, 90.0, 180.0, 270.0)
  ]
  assert places[1] == 30 > max(places[0], *places[2:])


def test_an_enlarged_map_matches_under_its_scale():
  cells = draw_distinct(4, 5)
  enlarged = np.zeros((8, 10, 128), np.float32)
  enlarged[::2, ::2] = cells
  places = {
    scale: int(match_one(cells, enlarged, settings=MatchSettings(rotations=(0.0,), scales=(scale,), tolerance=0.5))["places"])
    for scale in (0.5, 1.0, 2.0)
  }
  assert places[2.0] == 20 > max(places[0.5], places[1.0])
  assert match_one(cells, enlarged, settings=MatchSettings())["answer_boxes"].tolist() == [0, 0, 9, 7]


@hypothesis.given(few_shapes, few_shapes, st.sampled_from([0.0, 7.0, np.nan, np.inf]), st.integers(0, 99))
def test_padding_changes_nothing_whatever_it_holds(query_shape, answer_shape, value, seed):
  query, answer = draw_near((query_shape, answer_shape), seed)
  padding = ((0, 2), (0, 3), (0, 0))
  padded, masks = [], []
  for cells in (query, answer):
    padded.append(np.pad(cells, padding, constant_values=value))
    masks.append(np.pad(whole(cells), padding[:2]))
  assert_same(match_one(*padded, *masks), match_one(query, answer))


def test_a_box_cut_of_the_query_matches_in_its_box_only():
  cells = draw_distinct(6, 8)
  mask = np.zeros((6, 8), bool)
  mask[2:5, 1:4] = True
  found = match_one(cells, cells, mask)
  assert found["places"] == 9 and found["query_boxes"].tolist() == found["answer_boxes"].tolist() == [1, 2, 4, 5]


def test_a_cell_that_is_not_finite_is_left_out():
  query, answer = draw_near(((4, 5), (5, 6)), 2)
  spoiled, mask = answer.copy(), whole(answer)
  spoiled[1, 2, 0], spoiled[3, 4, 5] = np.nan, np.inf
  mask[1, 2] = mask[3, 4] = False
  assert_same(match_one(query, spoiled), match_one(query, answer, answer_mask=mask))


def test_queries_are_mapped_too():
  pairs = [draw_near(((4, 5), (5, 3)), seed) for seed in range(3)]
  queries, answers = (np.stack(cells) for cells in zip(*pairs, strict=True))
  masks = jnp.ones((4, 5), bool), jnp.ones((1, 5, 3), bool)
  mapped = jax.vmap(lambda query, answer: match_places(query, masks[0], answer[None], masks[1], FEW))
  found = jax.jit(mapped)(queries, answers)._asdict()
  for n, pair in enumerate(pairs):
    assert_same({name: values[n, 0] for name, values in found.items()}, match_one(*pair))


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4)], ids=str)
def test_cells_equal_the_oracle(shape, whitened):
  random = np.random.default_rng(0)
  features = np.maximum(random.normal(size=(*shape, 16)), 0).astype(np.float32) * 1e3
  features[0, 0, 0] = 0
  mask = random.random(shape) < 0.7
  whitening = draw_whitening(16, 5) if whitened else None
  ours = describe_cells(*map(jnp.asarray, (np.where(mask[..., None], features, np.nan),)), whitening, jnp.asarray(mask))
  arrays = (whitening.mean, whitening.projection) if whitened else None
  assert_close("described cells", ours, matching.describe_cells(features, arrays, mask), TOLERANCE)
  np.testing.assert_array_equal(describe_cells(jnp.asarray(features), whitening)[mask], ours[mask])


@pytest.mark.parametrize(
  ("changed", "words"),
  [
    ({"min_cosine": 0.0}, "min_cosine is above 0"),
    ({"max_matches": MOST_MATCHES + 1}, f"max_matches is 1 to {MOST_MATCHES}"),
    ({"rotations": ()}, "at least one finite"),
    ({"scales": (1.0, 11.0)}, "at most 10"),
    ({"tolerance": -1.0}, "tolerance is a number of cells from 0"),
  ],
  ids=str,
)
def test_settings_out_of_range_are_refused(changed, words):
  with pytest.raises(InputError, match=words):
    MatchSettings(**changed)


def test_the_largest_settings_and_maps_do_not_overflow():
  line = np.zeros((1, LARGEST_MAP, 2), np.float32)
  line[0, 0, 0] = line[0, -1, 1] = 1
  ends = line[:, [0, -1]]
  settings = MatchSettings(max_matches=MOST_MATCHES, rotations=(0.0, 40.0, 180.0), scales=(10.0, 1.0))
  assert match_one(line, ends, settings=settings)["places"] == match_one(ends, line, settings=settings)["places"] == 1
  many = draw_distinct(27, 26)  # all agree: no sum of votes is larger
  assert match_one(many, many, settings=settings)["places"] == MOST_MATCHES
  with pytest.raises(ValueError, match=r"^match_places: answer_masks \[b p q\] .* at most 32767 cells"):
    match_one(ends, np.zeros((1, LARGEST_MAP + 1, 2), np.float32))
