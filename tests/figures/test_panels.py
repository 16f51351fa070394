"""Whatever panels hold, their texts neither overlap nor leave the figure, and frames are told apart in gray."""

import itertools

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from cwf_jax.figures.files import save_figure
from cwf_jax.figures.panels import FRAMES, Panel, connect, draw_panels
from tests.figures.layout import HOSTILE, check_layout

SHAPES = [(60, 90), (90, 60), (16, 600), (600, 16), (16, 16), (1000, 1400)]


def _pixels(height, width):
  return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _panels(count):
  """Names, pictures, maps, frames and boxes of every kind, in turn."""
  panels = []
  for place, (text, shape, frame) in enumerate(zip(*map(itertools.cycle, (HOSTILE, SHAPES, [*FRAMES, None])), strict=False)):
    if place == count:
      return panels
    missing = text if place % 7 == 5 else ""
    common = {"title": text, "name": HOSTILE[-place % 13], "notes": (text, "moped 9 %")[: place % 3], "frame": frame}
    common["summary"] = HOSTILE[-place % 7]
    if missing:
      panels.append(Panel(None, missing=missing, **common))
      continue
    heat = np.eye(3, dtype=np.float32) if place % 2 else None
    box = (0.0, 0.0, float(shape[1]), float(shape[0])) if place % 3 == 0 else None
    panels.append(Panel(_pixels(*shape), heat=heat, box=box, outer_box=None if place % 4 else box, **common))


@pytest.mark.parametrize(("count", "columns"), [(1, 6), (5, 2), (11, 4), (25, 6)])
def test_no_texts_overlap_and_none_leaves_the_figure(count, columns):
  title = HOSTILE[count % 8]
  check_layout(draw_panels(_panels(count), columns, title, HOSTILE[:4]))
  check_layout(draw_panels(_panels(count), columns, "", (), scale=2.0))


def test_every_text_is_told_in_order():
  panels = [Panel(_pixels(20, 30), f"title {n}", f"name {n}", "summary", ("first", f"second {n}")) for n in range(3)]
  texts = check_layout(draw_panels(panels, 2, "The heading", ("a note", "another")))
  expected = ["The heading"]
  for n in range(3):
    expected += [f"title {n}", f"name {n}", "summary", "first", f"second {n}"]
  assert texts == [*expected, "a note", "another"]


def test_long_names_keep_both_their_ends():
  texts = check_layout(draw_panels([Panel(_pixels(20, 30), name="folder/" + "x" * 300 + ".jpg")], 1, ""))
  assert len(texts) == 2 and texts[0].startswith("folder/") and texts[-1].endswith(".jpg") and "…" in "".join(texts)


def test_pictures_lie_in_rows_with_their_aspect_kept():
  figure = draw_panels([Panel(_pixels(*shape), "t") for shape in SHAPES], 4, "")
  positions = [axes.get_position() for axes in figure.axes]
  width, height = figure.get_size_inches()
  for position, shape in zip(positions, SHAPES, strict=True):
    assert position.width * width / (position.height * height) == pytest.approx(shape[1] / shape[0])
  assert len({round(position.y0, 9) for position in positions[:4]}) == 1 and positions[4].y1 < positions[0].y0
  assert positions[4].x0 == pytest.approx(positions[0].x0)
  assert [position.x0 for position in positions[:4]] == sorted(position.x0 for position in positions[:4])


def test_frames_are_told_apart_by_their_lines_and_not_only_by_color():
  truths = ("relevant", "not relevant", "junk")
  assert len({FRAMES[truth]["linestyle"] for truth in truths}) == 3
  assert len({to_rgb(frame["edgecolor"]) for frame in FRAMES.values()}) == len(FRAMES)
  figure = draw_panels([Panel(_pixels(20, 30), frame=name) for name in [*FRAMES, None]], 5, "")
  drawn = [axes.patches for axes in figure.axes]
  assert [len(patches) for patches in drawn] == [1, 1, 1, 1, 0]
  dashes = {name: patches[0].get_linestyle() for name, patches in zip(FRAMES, drawn, strict=False)}
  assert len({str(patches[0]._dash_pattern) for patches in drawn[1:4]}) == 3, dashes
  for (patch,) in drawn[:4]:
    assert not patch.get_fill() and not patch.get_clip_on()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_is_around_its_picture(shape):
  """Of the line, more than four fifths of which lie outside, a fifth of a point may lie on the picture."""
  [axes] = draw_panels([Panel(_pixels(*shape), frame="relevant")], 1, "").axes
  [patch] = axes.patches
  frame, picture, point = patch.get_window_extent(), axes.get_window_extent(), axes.figure.dpi / 72
  away = [picture.x0 - frame.x0, picture.y0 - frame.y0, frame.x1 - picture.x1, frame.y1 - picture.y1]
  assert away == pytest.approx([0.4 * patch.get_linewidth() * point] * 4)


@pytest.mark.parametrize("shape", [None, (100, 200)], ids=["picture", "thumbnail"])
def test_boxes_lie_where_they_are_in_the_picture(shape):
  """In the picture's pixels, where its thumbnail is shown as well."""
  box, outer = (0.0, 20.0, 200.0, 90.0), (1.0, 2.0, 30.5, 20.0)
  pixels = _pixels(100, 200) if shape is None else _pixels(25, 50)
  [axes] = draw_panels([Panel(pixels, box=box, outer_box=outer, shape=shape)], 1, "").axes
  assert axes.get_xlim() == (0, 200) and axes.get_ylim() == (100, 0)
  assert tuple(axes.images[0].get_extent()) == (0, 200, 100, 0)
  drawn = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
  np.testing.assert_allclose([patch.get_bbox().extents for patch in drawn], [outer, outer, box, box])
  for dark, light in zip(drawn[::2], drawn[1::2], strict=True):
    assert dark.get_linewidth() > light.get_linewidth() and to_rgb(dark.get_edgecolor()) != to_rgb(light.get_edgecolor())
    assert not dark.get_clip_on() and not light.get_clip_on()  # whole at the edge of the picture
  assert drawn[1].get_linestyle() != drawn[3].get_linestyle()


def test_a_place_may_be_empty():
  first, last = Panel(_pixels(20, 30), "first"), Panel(_pixels(20, 30), "last")
  figure = draw_panels([first, None, last, None, None, None], 2, "")
  assert check_layout(figure) == ["first", "last"]
  one, other = (axes.get_position() for axes in figure.axes)
  assert other.x0 == pytest.approx(one.x0) and other.y1 < one.y0


def test_lines_join_points_of_two_pictures():
  """From pixels of the first, shown as a thumbnail, to pixels of the second; a light line on a dark one, dots at the ends."""
  panels = [Panel(_pixels(50, 100), shape=(500, 1000)), Panel(_pixels(90, 60))]
  figure = draw_panels(panels, 2, "title")
  first, second = figure.axes
  lines = [((0.0, 0.0), (60.0, 90.0)), ((500.0, 250.0), (30.0, 45.0))]
  connect(figure, first, second, lines)
  one, other = first.get_position(), second.get_position()
  expected = np.array([
    [(one.x0, one.y1), (other.x1, other.y0)],
    [((one.x0 + one.x1) / 2, (one.y0 + one.y1) / 2), ((other.x0 + other.x1) / 2, (other.y0 + other.y1) / 2)],
  ])  # fmt: skip
  dark, light = (artist for artist in figure.artists if isinstance(artist, LineCollection))
  assert to_rgb(dark.get_colors()[0]) == to_rgb("black") and dark.get_linewidths()[0] > light.get_linewidths()[0]
  for drawn in (dark, light):
    np.testing.assert_allclose(drawn.get_segments(), expected)
  for dots in figure.lines:
    np.testing.assert_allclose(dots.get_xydata(), expected.reshape(-1, 2))
  before = len(figure.artists)
  connect(figure, first, second, [])
  assert len(figure.artists) == before
  check_layout(figure)


def test_the_aspect_is_the_pictures_and_not_its_thumbnails():
  figure = draw_panels([Panel(_pixels(1, 480), shape=(16, 6000)), Panel(_pixels(7, 10), shape=(2000, 3000))], 2, "")
  width, height = figure.get_size_inches()
  found = [axes.get_position().width * width / (axes.get_position().height * height) for axes in figure.axes]
  assert found == pytest.approx([6000 / 16, 1.5])


def _list_lines(axes):
  """Each contour's color and where it goes, dark first."""
  return [
    (to_rgb(lines.get_edgecolor()[0]), np.concatenate([path.vertices for path in lines.get_paths()]))
    for lines in axes.collections
  ]


def test_a_line_is_at_half_of_a_map():
  heat = np.zeros((4, 6), np.float32)
  heat[:, 3:] = 1
  panels = [
    Panel(_pixels(40, 120), heat=heat),
    Panel(_pixels(10, 30), heat=heat, map_box=(0.0, 0.0, 60.0, 32.0), shape=(40, 120)),
  ]
  panels.append(Panel(_pixels(40, 120), heat=np.tile(np.linspace(0, 1, 4, dtype=np.float32)[:, None], (1, 6))))
  whole, half, across = (_list_lines(axes) for axes in draw_panels(panels, 3, "").axes)
  for lines in (whole, half, across):
    assert [color for color, _ in lines] == [to_rgb("black"), to_rgb("#ffd27f")]
    np.testing.assert_array_equal(lines[0][1], lines[1][1])
  for lines, x, ys in ((whole, 60, (5, 35)), (half, 30, (4, 28))):
    np.testing.assert_allclose(lines[0][1][:, 0], x)
    assert (lines[0][1][:, 1].min(), lines[0][1][:, 1].max()) == pytest.approx(ys)
  np.testing.assert_allclose(across[0][1][:, 1], 20, rtol=1e-6)


@pytest.mark.parametrize(
  "heat", [None, np.ones((3, 3)), np.full((3, 3), 0.2), np.eye(3)[:1], np.eye(3)[:, :1], 0.4 * np.eye(3)], ids=str
)
def test_no_line_where_a_map_crosses_no_half_or_is_a_line_itself(heat):
  [axes] = draw_panels([Panel(_pixels(40, 120), heat=None if heat is None else heat.astype(np.float32))], 1, "").axes
  assert _list_lines(axes) == []


def test_a_map_shades_the_part_that_it_covers():
  pixels, heat = np.full((40, 100, 3), 128, np.uint8), np.array([[0.0, 1.0]], np.float32)
  panels = [Panel(pixels), Panel(pixels, heat=heat), Panel(pixels, heat=heat, map_box=(0.0, 0.0, 50.0, 40.0))]
  plain, whole, half = (np.asarray(axes.images[0].get_array()) for axes in draw_panels(panels, 3, "").axes)
  assert (plain == pixels).all()
  assert whole[20, 50].sum() < whole[20, 99].sum() == half[20, 50].sum() == half[20, 99].sum()
  panels = [Panel(pixels, heat=heat.T, map_box=(0.0, 0.0, 100.0, down)) for down in (40.0, 20.0)]
  panels.append(Panel(pixels, heat=heat.T, map_box=(0.0, 0.0, 1000.0, 200.0), shape=(400, 1000)))
  whole, half, thumbnail = (np.asarray(axes.images[0].get_array()) for axes in draw_panels(panels, 3, "").axes)
  assert whole[20, 50].sum() < whole[39, 50].sum() == half[20, 50].sum() == half[39, 50].sum()
  assert (thumbnail == half).all()


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_figures_are_saved_without_a_warning(tmp_path, end):
  save_figure(draw_panels(_panels(8), 4, "$title$ 東京 \ud800", HOSTILE), tmp_path / f"a.{end}", dpi=50)
  assert (tmp_path / f"a.{end}").stat().st_size > 5000
