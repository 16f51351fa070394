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
  figure = draw_comparison(Comparison(0.5, first, second), names, ("a note",))
  texts = check_layout(figure)
  chart = figure.axes[-1]
  _check_chart(figure, chart)
  return figure, texts, chart


def _is_shown(label, chart):
  """Matplotlib keeps labels of ticks beyond the axes, too, which it does not draw."""
  low, high = chart.get_ylim()
  return low <= label.get_position()[1] <= high


def _check_chart(figure, chart):
  """The labels of the bars and the legend: inside the figure, and none over another or over a text beside the chart."""
  renderer = figure.canvas.get_renderer()
  labels = [*chart.get_xticklabels(), *chart.get_legend().get_texts(), *figure.texts]
  beside = [chart.yaxis.label, *(label for label in chart.get_yticklabels() if _is_shown(label, chart))]
  pictures = [axes.get_window_extent(renderer) for axes in figure.axes[:-1]]
  extents = [(label.get_text(), label.get_window_extent(renderer)) for label in [*labels, *beside] if label.get_text().strip()]
  extents += [("a picture", extent) for extent in pictures]
  for place, (one, first) in enumerate(extents):
    assert min(first.x0, first.y0) >= 0 and first.x1 <= figure.bbox.width and first.y1 <= figure.bbox.height, one
    for other, second in extents[place + 1 :]:
      apart = first.x1 <= second.x0 or second.x1 <= first.x0 or first.y1 <= second.y0 or second.y1 <= first.y0
      assert apart, f"{one!r} and {other!r} overlap"
  assert chart.get_ylabel() == "share of the score" and chart.yaxis.label.get_family() == [FONT]
  for label in labels:
    assert label.get_family() == [FONT] and not label.get_parse_math()


@pytest.mark.parametrize("count", [1, 4, 12])
def test_every_class_is_told(count):
  names = [f"class {place}" for place in range(count)]
  figure = draw_explanation(_explanation(names, (0.0, 0.0, 40.0, 40.0)), "a.jpg", ("a note",))
  texts = check_layout(figure)
  assert texts[:3] == ["What the network sees in the box", "the photograph", "a.jpg"] and texts[-1] == "a note"
  for place, name in enumerate(names):
    told = texts[texts.index(f"{place + 1}   {name}") :]
    assert told[1:3] == [f"probability {0.5 / (place + 1):.4f}", "share 0.2500"]
    assert (told[3] == "seen nowhere: no map") == (place == 2)
  told = " ".join(texts)  # each on one line or two
  for part in ("all 64 classes", "yellow line is at half of the map's maximum", "largest region above so many percent"):
    assert part in told
  pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
  assert len(pictures) == count + 1
  for place, picture in enumerate(pictures[1:]):
    assert (picture == PIXELS).all() == (place == 2)
    assert len(figure.axes[place + 1].patches) == (0 if place == 2 else 4)  # two regions, a dark and a light line each
    assert [text.get_text() for text in figure.axes[place + 1].texts] == ([] if place == 2 else ["1 %", "10 %"])
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
  assert texts[:3] == ["What made the score of 0.5000", "one.jpg", "two.jpg"] and texts[-1] == "a note"
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
  places[1, 2], places[0, 0], places[1, 4] = 0.4, -0.4, 0.1
  first, second = dataclasses.replace(first, places=places), dataclasses.replace(second, places=places / 2)
  figure, _, _ = _draw_pair(first, second)
  one, other = (np.asarray(axes.images[0].get_array()).sum(-1, dtype=int) for axes in figure.axes[:2])
  assert (one == other).all()  # each by its own largest place
  assert one.argmax() in np.flatnonzero(one == one[30, 40])
  assert one[5, 5] == one[50, 5] == one.min()  # what took away is as dark as what gave nothing
  quarter = one[20:40, 64:].max()
  assert (quarter - one.min()) / (one.max() - one.min()) == pytest.approx(np.sqrt(0.1 / 0.4), abs=0.03)


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_a_score_of_nothing_is_drawn(value):
  side = dataclasses.replace(_side(["a", "b"]), places=np.full((3, 5), value, np.float32), classes=(("a", value), ("b", value)))
  figure, _, _ = _draw_pair(side, side)
  assert all((np.asarray(axes.images[0].get_array()) == PIXELS).all() for axes in figure.axes[:2])


@pytest.mark.parametrize("share", [0.9, 0.03, 2e-3, 4e-4, 2e-5, 3e-7])
@pytest.mark.parametrize("lowest", [0.0, -0.3, -2.0])
def test_bars_of_any_size_have_room_for_their_numbers(share, lowest):
  side = dataclasses.replace(_side(["a", "b"]), classes=(("a", share), ("b", lowest * share)))
  _draw_pair(side, side)


@pytest.mark.parametrize(("score", "told"), [(0.12344, "0.1234"), (-0.5, "-0.5000"), (-1e-9, "0.0000")])
def test_the_score_is_in_the_title(score, told):
  texts = check_layout(draw_comparison(Comparison(score, _side(["a"]), _side(["a"])), ("one.jpg", "two.jpg")))
  assert texts[0] == f"What made the score of {told}"
  assert "each photograph by its own classes and on a scale of its own" in " ".join(texts)


def test_without_a_box_the_photograph_is_told_of():
  texts = check_layout(draw_explanation(_explanation(["a"])))
  assert texts[:3] == ["What the network sees in the photograph", "the photograph", "1   a"]


@pytest.mark.parametrize(
  ("regions", "expected"),
  [
    ("AAAAA", {"1–40 %": "A"}),  # noqa: RUF001
    ("ABBBB", {"1 %": "A", "10–40 %": "B"}),  # noqa: RUF001
    ("AABCC", {"1–10 %": "A", "20 %": "B", "30–40 %": "C"}),  # noqa: RUF001
    ("ABCDE", {"1 %": "A", "10 %": "B", "20 %": "C", "30 %": "D", "40 %": "E"}),
    ("ABA  ", {"1 %": "A", "10 %": "B", "20 %": "A"}),
    ("AA   ", {"1–10 %": "A"}),  # noqa: RUF001
    ("     ", {}),
  ],
)
def test_a_region_of_several_thresholds_is_drawn_once(regions, expected):
  boxes = {name: (float(place), 2.0, 40.0 + place, 50.0) for place, name in enumerate("ABCDE")} | {" ": None}
  [reason] = _explanation(["a"]).classes
  reason = reason._replace(regions=tuple(boxes[name] for name in regions))
  figure = draw_explanation(dataclasses.replace(_explanation(["a"]), classes=(reason,)))
  check_layout(figure)
  axes = figure.axes[1]
  assert [text.get_text() for text in axes.texts] == list(expected)
  drawn = [patch.get_bbox().extents.tolist() for patch in axes.patches]
  assert drawn == [[*boxes[name]] for name in expected.values() for _ in range(2)]


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_reasons_are_saved_without_a_warning(tmp_path, end):
  save_figure(draw_explanation(_explanation(HOSTILE[:5]), HOSTILE[4], ("n",)), tmp_path / f"a.{end}", dpi=50)
  comparison = Comparison(0.5, _side(HOSTILE), _side(HOSTILE[2:], LONG))
  save_figure(draw_comparison(comparison, ("_a.jpg", "$x^2$ 東京 \udce9")), tmp_path / f"b.{end}", dpi=50)
