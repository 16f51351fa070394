"""Reasons as pictures: every class and both photographs are shown, and no text is in another's way."""

import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from cwf_jax.figures.files import save_figure
from cwf_jax.figures.reasons import MAP_LEGEND, draw_comparison, draw_explanation
from cwf_jax.retrieval.explanation import ClassMap, Comparison, Explanation, Side
from cwf_jax.retrieval.reasons import CommonClass, Match
from tests.figures.layout import HOSTILE, check_layout

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
LONG = np.random.default_rng(1).integers(0, 256, (16, 600, 3), np.uint8)
BOXES = ((0.0, 0.0, 80.0, 60.0), (0.0, 0.0, 80.0, 48.0), (16.0, 0.0, 80.0, 48.0), (16.0, 16.0, 64.0, 32.0), None)
WORDS = "score 0.8123: 41 places match; both show: class 4 62 % / 48 %"


def _map(name="class 4", probability=0.62, seed=0, empty=False):
  cam = np.random.default_rng(seed).random((3, 5)).astype(np.float32) * (not empty)
  return ClassMap(4, name, probability, cam, (0.0, 0.0, 80.0, 60.0), (None,) * 5 if empty else BOXES)


def _explanation(names, box=None):
  """The third class has an empty map."""
  classes = [_map(name, 0.5 / (place + 1), place, empty=place == 2) for place, name in enumerate(names)]
  return Explanation(PIXELS, box, tuple(classes), (0.25,) * len(names))


def _match(count):
  lines = tuple(((1.0 + line % 80, 2.0), (3.0, 4.0 + line % 50)) for line in range(count))
  return Match(count, (10.0, 20.0, 30.0, 40.0), (11.0, 12.0, 31.0, 42.0), lines)


def _comparison(count=41, name="class 4", pixels=PIXELS, box=None, class_map=True):
  sides = [Side(one, box, (("class 4", 0.8),), _map(name) if class_map else None) for one in (PIXELS, pixels)]
  sides[1] = dataclasses.replace(sides[1], box=None)
  return Comparison(0.81234, *sides, _match(count), (CommonClass(4, name, 0.62, 0.48),))


def _segments(figure):
  return [artist.get_segments() for artist in figure.artists if isinstance(artist, LineCollection)]


@pytest.mark.parametrize("count", [1, 4, 12])
def test_every_class_has_its_map_and_one_box(count):
  names = [f"class {place}" for place in range(count)]
  figure = draw_explanation(_explanation(names, (0.0, 0.0, 40.0, 40.0)), "a.jpg", ("a note",))
  texts = check_layout(figure)
  assert texts[:3] == ["What the network recognizes in the box", "the photograph", "a.jpg"] and texts[-1] == "a note"
  for place, name in enumerate(names):
    assert f"{place + 1}   {name} {50 / (place + 1):.0f} %" in texts
  assert texts.count("its map is empty") == (count > 2)
  words = " ".join(texts)  # each on one line or two
  assert MAP_LEGEND in words and "above 20 % of the map's maximum" in words
  pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
  assert len(pictures) == count + 1 and (pictures[0] == PIXELS).all()
  for place, (picture, axes) in enumerate(zip(pictures[1:], figure.axes[1:], strict=True)):
    assert (picture == PIXELS).all() == (place == 2)
    drawn = [patch.get_bbox().extents.tolist() for patch in axes.patches]
    assert drawn == ([] if place == 2 else [[*BOXES[2]]] * 2)  # a dark and a light line
    assert not axes.texts


def test_without_a_box_the_figure_is_of_the_photograph():
  texts = check_layout(draw_explanation(_explanation(["a"])))
  assert texts[:3] == ["What the network recognizes in the photograph", "the photograph", "1   a 50 %"]


@pytest.mark.parametrize("maps", [False, True])
def test_two_photographs_have_boxes_and_lines(maps):
  box = (5.0, 5.0, 60.0, 50.0)
  figure = draw_comparison(_comparison(box=box), ("one.jpg", "two.jpg"), ("a note",), maps)
  texts = check_layout(figure)
  assert texts[:3] == [WORDS, "one.jpg", "two.jpg"] and texts[-1] == "a note"
  assert (texts.count("class 4 62 %") == 2) == maps and (MAP_LEGEND in " ".join(texts)) == maps
  assert "7 of 8 with 30 or more" in " ".join(texts) and any(text.startswith("Dashed") for text in texts)
  assert len(figure.axes) == 2 + 2 * maps
  drawn = [[patch.get_bbox().extents.tolist() for patch in axes.patches] for axes in figure.axes]
  assert drawn[:2] == [[[*box]] * 2 + [[10, 20, 30, 40]] * 2, [[11, 12, 31, 42]] * 2]
  for place, axes in enumerate(figure.axes):
    assert (np.asarray(axes.images[0].get_array()) == PIXELS).all() == (place < 2)  # in plain color
  dark, light = _segments(figure)
  assert len(dark) == len(light) == 40


@pytest.mark.parametrize(("count", "lines"), [(12, 12), (40, 40), (150, 40)])
def test_lines_are_chosen_evenly(count, lines):
  figure = draw_comparison(_comparison(count), ("one.jpg", "two.jpg"))
  dark, _ = _segments(figure)
  assert len(dark) == lines
  one, other = (axes.get_position() for axes in figure.axes)
  for end, line in ((dark[0], _match(count).lines[0]), (dark[-1], _match(count).lines[-1])):
    places = zip((one, other), line, strict=True)
    expected = [(place.x0 + place.width * x / 90, place.y1 - place.height * y / 60) for place, (x, y) in places]
    np.testing.assert_allclose(end, expected)


@pytest.mark.parametrize(("count", "words"), [(0, "no place matches"), (11, "few places match")])
def test_few_places_are_no_evidence(count, words):
  figure = draw_comparison(_comparison(count), ("one.jpg", "two.jpg"))
  assert f"{words}; both show" in check_layout(figure)[0]
  assert not _segments(figure) and not any(axes.patches for axes in figure.axes)


def test_two_photographs_without_any_map():
  texts = check_layout(draw_comparison(_comparison(class_map=False), ("one.jpg", "two.jpg"), (), True))
  assert texts[:3] == [WORDS, "one.jpg", "two.jpg"]


def test_hostile_names_of_classes_and_files():
  check_layout(draw_explanation(_explanation(HOSTILE), HOSTILE[0], tuple(HOSTILE)))
  for names in itertools.pairwise(HOSTILE):
    check_layout(draw_comparison(_comparison(name=names[1], pixels=LONG), names, tuple(HOSTILE), True))


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_reasons_are_saved_without_a_warning(tmp_path, end):
  save_figure(draw_explanation(_explanation(HOSTILE[:5]), HOSTILE[4], ("n",)), tmp_path / f"a.{end}", dpi=50)
  comparison = _comparison(name=HOSTILE[2], pixels=LONG, box=(0.0, 0.0, 40.0, 40.0))
  save_figure(draw_comparison(comparison, ("_a.jpg", "$x^2$ 東京 \udce9"), (), True), tmp_path / f"b.{end}", dpi=50)
