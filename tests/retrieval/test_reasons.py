"""Reasons: matching places of real photographs by the real default network, common classes by hand, and their words."""

import numpy as np
import pytest

from cwf_jax.load import load_encoder
from cwf_jax.queries import encode_query
from cwf_jax.retrieval.reasons import (
  MIN_PROBABILITY,
  MOST_COMMON,
  PLACES_IN_WORDS,
  CommonClass,
  Match,
  describe_common_classes,
  describe_places,
  describe_query_cells,
  explain_places,
  find_common_classes,
  match_photographs,
)
from cwf_jax.toy.photographs import open_photograph

CROP = (45, 20, 405, 260)
"""A part of the cat's photograph of 451x300 pixels: enlarged by 1.25 in the map, in a canvas of 256x384 as the whole is."""

CELL = 300 / 256 * 16
"""The side of a cell of the whole photograph, in its pixels; the crop's is smaller."""

NAMES = [f"class {number}" for number in range(10)]


@pytest.fixture(scope="module")
def matches():
  """The matches of a cat's photograph with a part of it, enlarged, a file that is no image, and a cup of coffee."""
  encoder, cat = load_encoder(), open_photograph("chelsea")
  return match_photographs(encoder, encode_query(encoder, cat), [cat.crop(CROP), b"no image", open_photograph("coffee")])


def test_a_part_of_a_photograph_matches_where_it_was_cut(matches):
  match = matches[0]
  assert match.is_evidence and match.places == len(match.lines) >= 2 * PLACES_IN_WORDS[0][0]
  query, answer = np.moveaxis(np.asarray(match.lines), 1, 0)
  moved = np.abs(query - CROP[:2] - answer)
  assert np.median(moved) < CELL / 2 and moved.max() < 2 * CELL
  query_box, answer_box = (np.reshape(box, (2, 2)) for box in (match.query_box, match.answer_box))
  np.testing.assert_allclose(query_box - CROP[:2], answer_box, atol=2 * CELL)


def test_match_boxes_hold_their_places_and_lie_inside_their_photographs(matches):
  sides = zip(("query_box", "answer_box"), ((451, 300), (CROP[2] - CROP[0], CROP[3] - CROP[1])), (0, 1), strict=True)
  for name, size, side in sides:
    left, top, right, bottom = getattr(matches[0], name)
    points = np.asarray(matches[0].lines)[:, side]
    assert (points > (left, top)).all() and (points < (right, bottom)).all()
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def test_all_cells_of_a_box_are_compared_and_of_a_photograph_those_that_its_classes_look_at(tiny_encoder):
  cat = open_photograph("chelsea")
  in_box, in_whole = encode_query(tiny_encoder, cat, CROP), encode_query(tiny_encoder, cat)
  left, top, right, bottom = in_box.photograph.cells
  assert describe_query_cells(tiny_encoder, in_box).any(-1).sum() == (right - left) * (bottom - top)
  height, width = in_whole.photograph.whole.size
  assert 0 < describe_query_cells(tiny_encoder, in_whole).any(-1).sum() < (height // 16) * (width // 16)


def test_another_photograph_hardly_matches(matches):
  assert not matches[2].is_evidence
  assert describe_places(matches[2]) in ("few places match", "no place matches")


def test_an_unreadable_file_has_no_match(matches):
  assert matches[1] is None
  assert describe_places(None) == "its photograph cannot be read"


def test_common_classes_are_ordered_by_the_smaller_probability_then_by_id():
  query, answer = np.zeros(10), np.zeros(10)
  query[[1, 2, 3, 4, 5]] = 0.3, 0.06, 0.2, 0.2, 0.04
  answer[[1, 2, 3, 4, 5]] = 0.05, 0.5, 0.2, 0.3, 0.9
  found = find_common_classes(NAMES, query, np.arange(10)[::-1], answer[::-1])
  assert found == (
    CommonClass(3, "class 3", 0.2, 0.2),
    CommonClass(4, "class 4", 0.2, 0.3),
    CommonClass(2, "class 2", 0.06, 0.5),
    CommonClass(1, "class 1", 0.3, 0.05),
  )


def test_a_class_is_common_from_its_least_probability_on():
  query = np.full(10, MIN_PROBABILITY)
  answer = np.where(np.arange(10) < 3, MIN_PROBABILITY, np.nextafter(MIN_PROBABILITY, 0))
  assert [one.class_id for one in find_common_classes(NAMES, query, np.arange(10), answer)] == [0, 1, 2]


def test_a_class_that_is_not_stored_with_the_answer_is_not_common():
  query = np.full(10, 0.1)
  assert [one.class_id for one in find_common_classes(NAMES, query, np.array([7, 2]), np.array([0.5, 0.6]))] == [2, 7]
  assert find_common_classes(NAMES, query, np.array([], int), np.array([])) == ()


def test_at_most_five_classes_are_common():
  found = find_common_classes(NAMES, np.full(10, 0.1), np.arange(10), np.full(10, 0.1))
  assert [one.class_id for one in found] == list(range(MOST_COMMON))


def make_match(places):
  """A match of which only the number of places counts."""
  return Match(places, None, None, ())


def test_places_in_words():
  least = PLACES_IN_WORDS[-1][0]
  assert describe_places(make_match(least)) == f"{least} places match"
  assert describe_places(make_match(least - 1)) == "few places match"
  assert describe_places(make_match(0)) == "no place matches"


def test_every_threshold_is_explained():
  for number, share in PLACES_IN_WORDS:
    assert str(number) in explain_places() and share in explain_places()


def test_common_classes_in_words():
  assert describe_common_classes(()) == "no class stands out in both"
  classes = (CommonClass(1, "motor scooter", 0.62, 0.478), CommonClass(2, "moped", 0.1, 0.054))
  assert describe_common_classes(classes) == "both show: motor scooter 62 % / 48 %, moped 10 % / 5 %"
