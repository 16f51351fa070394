"""Reasons as pictures: every class and both photographs are told, and no text is in another's way."""

import dataclasses

import numpy as np
import pytest

from cwf_jax.explanation import ClassReason, Comparison, Explanation, Side
from cwf_jax.figures.files import save_figure
from cwf_jax.figures.reasons import draw_comparison, draw_explanation
from cwf_jax.figures.text import FONT
from tests.figures.layout import HOSTILE, check_layout

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
LONG = np.random.default_rng(1).integers(0, 256, (16, 600, 3), np.uint8)


def _explanation(names, box=None):
  """The third class is seen nowhere."""
  reasons = []
  for place, name in enumerate(names):
    cam = np.random.default_rng(place).random((3, 5)).astype(np.float32) * (place != 2)
    regions = (None,) * 5 if place == 2 else ((0.0, 0.0, 80.0, 60.0), (16.0, 0.0, 80.0, 48.0), None, None, None)
    reasons.append(ClassReason(place, name, 0.5 / (place + 1), 0.25, cam, regions))
  return Explanation(PIXELS, box, (0.0, 0.0, 80.0, 60.0), tuple(reasons), 64)


def _side(names, pixels=PIXELS, box=None, seed=0):
  random = np.random.default_rng(seed)
  shares = sorted(random.normal(0.1, 0.1, len(names)).tolist(), reverse=True)
  places = (random.random((3, 5)) - 0.2).astype(np.float32)
  return Side(pixels, box, (0.0, 0.0, 80.0, 60.0), places, None, tuple(zip(names, shares, strict=True)))


def _draw_pair(first, second, names=("one.jpg", "two.jpg")):
  figure = draw_comparison(Comparison(0.5, first, second), names, "What made the score", ("a note",))
  texts = check_layout(figure)
  chart = figure.axes[-1]
  _check_chart(figure, chart)
  return figure, texts, chart


def _check_chart(figure, chart):
  """The labels of the bars and the legend: inside the figure, and none over another or over a text beside the chart."""
  renderer = figure.canvas.get_renderer()
  labels = [*chart.get_xticklabels(), *chart.get_legend().get_texts(), *figure.texts]
  pictures = [axes.get_window_extent(renderer) for axes in figure.axes[:-1]]
  extents = [(label.get_text(), label.get_window_extent(renderer)) for label in labels if label.get_text().strip()]
  extents += [("a picture", extent) for extent in pictures]
  for place, (one, first) in enumerate(extents):
    assert min(first.x0, first.y0) >= 0 and first.x1 <= figure.bbox.width and first.y1 <= figure.bbox.height, one
    for other, second in extents[place + 1 :]:
      apart = first.x1 <= second.x0 or second.x1 <= first.x0 or first.y1 <= second.y0 or second.y1 <= first.y0
      assert apart, f"{one!r} and {other!r} overlap"
  for label in chart.get_yticklabels():
    assert label.get_window_extent(renderer).x0 >= 0
  for label in labels:
    assert label.get_family() == [FONT] and not label.get_parse_math()


@pytest.mark.parametrize("count", [1, 4, 12])
def test_every_class_is_told(count):
  names = [f"class {place}" for place in range(count)]
  figure = draw_explanation(_explanation(names, (0.0, 0.0, 40.0, 40.0)), "What the network sees", ("a note",))
  texts = check_layout(figure)
  assert texts[:2] == ["What the network sees", "the photograph"] and texts[-1] == "a note"
  for place, name in enumerate(names):
    told = texts[texts.index(f"{place + 1}   {name}") :]
    assert told[1:3] == [f"probability {0.5 / (place + 1):.4f}", "share 0.2500"]
    assert (told[3] == "seen nowhere: no map") == (place == 2)
  assert any("all 64 classes" in text for text in texts) and any("1, 10, 20, 30, 40 %" in text for text in texts)
  pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
  assert len(pictures) == count + 1
  for place, picture in enumerate(pictures[1:]):
    assert (picture == PIXELS).all() == (place == 2)
    assert len(figure.axes[place + 1].patches) == (0 if place == 2 else 4)  # two regions, a dark and a light line each
  assert (pictures[0] == PIXELS).all()


def test_hostile_names_of_classes_and_files():
  check_layout(draw_explanation(_explanation(HOSTILE), HOSTILE[0], tuple(HOSTILE)))
  for place in range(len(HOSTILE) - 1):
    names = (HOSTILE[place], HOSTILE[place + 1])
    _draw_pair(_side(HOSTILE[:5]), _side(HOSTILE[4:], LONG), names)


@pytest.mark.parametrize("counts", [(1, 1), (3, 3), (64, 64), (1, 64)])
def test_the_largest_shares_of_both_sides_have_bars(counts):
  first, second = (_side([f"class {n}" for n in range(count)], seed=count + k) for k, count in enumerate(counts))
  _, texts, chart = _draw_pair(first, second)
  assert texts[:3] == ["What made the score", "one.jpg", "two.jpg"] and texts[-1] == "a note"
  labels = [label.get_text().replace("\n", " ") for label in chart.get_xticklabels()]
  shares = [dict(side.classes) for side in (first, second)]
  most = {name: max(one.get(name, 0.0) for one in shares) for name in shares[0] | shares[1]}
  assert labels == sorted(most, key=lambda name: -most[name])[:8]
  for bars, one in zip(chart.containers, shares, strict=True):
    np.testing.assert_allclose([bar.get_height() for bar in bars], [one.get(name, 0.0) for name in labels])
  assert len({bars[0].get_hatch() for bars in chart.containers}) == 2  # told apart in gray


@pytest.mark.parametrize("names", [("_one.jpg", "_two.jpg"), ("one.jpg", "_two.jpg"), ("same.jpg", "same.jpg")])
def test_the_legend_names_both_files_whatever_their_names(names):
  _, _, chart = _draw_pair(_side(["a", "b"]), _side(["b", "c"]), names)
  assert tuple(text.get_text() for text in chart.get_legend().get_texts()) == names


def test_classes_of_one_name_share_a_bar():
  first, second = _side(["crane", "dome"]), _side(["crane", "dome"])
  first, second = (
    dataclasses.replace(side, classes=(("crane", 0.3), ("dome", 0.2), ("crane", 0.1))) for side in (first, second)
  )
  _, _, chart = _draw_pair(first, second)
  assert [label.get_text() for label in chart.get_xticklabels()] == ["crane", "dome"]
  np.testing.assert_allclose([bar.get_height() for bar in chart.containers[0]], [0.4, 0.2])


def test_classes_of_equal_shares_keep_their_order():
  names = [f"class {n}" for n in (5, 2, 9, 0, 7)]
  side = dataclasses.replace(_side(names), classes=tuple((name, 0.1) for name in names))
  _, _, chart = _draw_pair(side, dataclasses.replace(side, classes=side.classes[::-1]))
  assert [label.get_text() for label in chart.get_xticklabels()] == names


def test_places_are_as_bright_as_what_they_gave():
  first, second = (dataclasses.replace(_side(["a"]), pixels=np.full((60, 90, 3), 128, np.uint8)) for _ in range(2))
  places = np.zeros((3, 5), np.float32)
  places[1, 2], places[0, 0] = 0.4, -0.4
  first, second = dataclasses.replace(first, places=places), dataclasses.replace(second, places=places / 2)
  figure, _, _ = _draw_pair(first, second)
  one, other = (np.asarray(axes.images[0].get_array()).sum(-1) for axes in figure.axes[:2])
  assert one.argmax() in np.flatnonzero(one == one[30, 40]) and one[30, 40] > other[30, 40] > other[5, 5] == one[5, 5]


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_a_score_of_nothing_is_drawn(value):
  side = dataclasses.replace(_side(["a", "b"]), places=np.full((3, 5), value, np.float32), classes=(("a", value), ("b", value)))
  _draw_pair(side, side)


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_reasons_are_saved_without_a_warning(tmp_path, end):
  save_figure(draw_explanation(_explanation(HOSTILE[:5]), "t", ("n",)), tmp_path / f"a.{end}", dpi=50)
  comparison = Comparison(0.5, _side(HOSTILE), _side(HOSTILE[2:], LONG))
  save_figure(draw_comparison(comparison, ("_a.jpg", "$x^2$ 東京 \udce9")), tmp_path / f"b.{end}", dpi=50)
