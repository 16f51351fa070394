"""Whatever panels hold, their texts neither overlap nor leave the figure, and frames are told apart in gray."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from cwf_jax.figures.files import save_figure
from cwf_jax.figures.panels import FRAMES, Panel, draw_panels
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
    common = {"title": text, "name": HOSTILE[-place % 13], "notes": (text, "share 0.1")[: place % 3], "frame": frame}
    if missing:
      panels.append(Panel(None, missing=missing, **common))
      continue
    heat = np.eye(3, dtype=np.float32) if place % 2 else None
    box = (0.0, 0.0, float(shape[1]), float(shape[0])) if place % 3 == 0 else None
    panels.append(Panel(_pixels(*shape), heat=heat, box=box, regions=(None, (1.0, 2.0, 9.0, 15.0)), **common))


@pytest.mark.parametrize(("count", "columns"), [(1, 6), (5, 2), (11, 4), (25, 6)])
def test_no_texts_overlap_and_none_leaves_the_figure(count, columns):
  title = HOSTILE[count % 8]
  check_layout(draw_panels(_panels(count), columns, title, HOSTILE[:4]))
  check_layout(draw_panels(_panels(count), columns, "", (), scale=2.0))


def test_every_text_is_told_in_order():
  panels = [Panel(_pixels(20, 30), f"title {n}", f"name {n}", ("first", f"second {n}")) for n in range(3)]
  texts = check_layout(draw_panels(panels, 2, "The heading", ("a note", "another")))
  expected = ["The heading"]
  for n in range(3):
    expected += [f"title {n}", f"name {n}", "first", f"second {n}"]
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
  for axes, (patch,) in zip(figure.axes, drawn[:4], strict=False):
    assert not patch.get_fill() and not patch.get_clip_on()
    np.testing.assert_allclose(patch.get_window_extent().bounds, axes.get_window_extent().bounds)


def test_boxes_lie_where_they_are_in_the_picture():
  regions = ((1.0, 2.0, 30.5, 20.0), None, (5.0, 6.0, 7.0, 8.0))
  figure = draw_panels([Panel(_pixels(100, 200), box=(10.0, 20.0, 60.0, 90.0), regions=regions)], 1, "")
  [axes] = figure.axes
  assert axes.get_xlim() == (0, 200) and axes.get_ylim() == (100, 0)
  assert tuple(axes.images[0].get_extent()) == (0, 200, 100, 0)
  drawn = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
  found = [(*patch.get_xy(), patch.get_x() + patch.get_width(), patch.get_y() + patch.get_height()) for patch in drawn]
  expected = [box for box in (regions[0], regions[2], (10.0, 20.0, 60.0, 90.0)) for _ in range(2)]
  np.testing.assert_allclose(found, expected)
  widths = [patch.get_linewidth() for patch in drawn[1::2]]
  assert widths == sorted(widths) and len(set(widths)) == 3  # ever thicker, the box most of all
  for dark, light in zip(drawn[::2], drawn[1::2], strict=True):
    assert dark.get_linewidth() > light.get_linewidth() and to_rgb(dark.get_edgecolor()) != to_rgb(light.get_edgecolor())


def test_a_map_shades_the_part_that_it_covers():
  pixels, heat = np.full((40, 100, 3), 128, np.uint8), np.array([[0.0, 1.0]], np.float32)
  panels = [Panel(pixels), Panel(pixels, heat=heat), Panel(pixels, heat=heat, map_box=(0.0, 0.0, 50.0, 40.0))]
  plain, whole, half = (np.asarray(axes.images[0].get_array()) for axes in draw_panels(panels, 3, "").axes)
  assert (plain == pixels).all()
  assert whole[20, 50].sum() < whole[20, 99].sum() == half[20, 50].sum() == half[20, 99].sum()


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_figures_are_saved_without_a_warning(tmp_path, end):
  save_figure(draw_panels(_panels(8), 4, "$title$ 東京 \ud800", HOSTILE), tmp_path / f"a.{end}", dpi=50)
  assert (tmp_path / f"a.{end}").stat().st_size > 5000
