"""Names that are hard to draw, and a check of where everything in a figure lies."""

import itertools

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg

HOSTILE = [
  "x" * 300, "many words " * 30, "$x^2$ $", "a\nb\nc\nd", "東京タワー" * 20, "🗼👩‍👧" * 9, "ירושלים مسجد " * 9,
  "\ud800\udce9.jpg", "W" * 300, "/a_b-c" * 60, "gjpqÅÄÖ|", "", " ",
]  # fmt: skip


def check_layout(figure):
  """No text overlaps another text or a picture, and nothing leaves the figure; in pixels of the Agg renderer."""
  with matplotlib.rc_context({"text.hinting": "none"}):
    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts if text.get_text().strip()]
    places = [(f"axes {place}", axes.get_window_extent(renderer)) for place, axes in enumerate(figure.axes)]
    for axes, (_, place) in zip(figure.axes, places, strict=True):
      for text in axes.texts:
        extent = text.get_window_extent(renderer)
        assert place.x0 <= extent.x0 and extent.x1 <= place.x1, f"{text.get_text()!r} leaves its place"
        assert place.y0 <= extent.y0 and extent.y1 <= place.y1, f"{text.get_text()!r} leaves its place"
  for text, extent in [*texts, *places]:
    outside = max(-extent.x0, -extent.y0, extent.x1 - figure.bbox.width, extent.y1 - figure.bbox.height)
    assert outside <= 0, f"{text!r} leaves the figure by {outside:.1f} pixels"
  for (one, first), (other, second) in itertools.combinations([*texts, *places], 2):
    across = min(first.x1, second.x1) - max(first.x0, second.x0)
    down = min(first.y1, second.y1) - max(first.y0, second.y0)
    assert across <= 0 or down <= 0, f"{one!r} and {other!r} overlap by {across:.1f}x{down:.1f} pixels"
  return [text for text, _ in texts]
