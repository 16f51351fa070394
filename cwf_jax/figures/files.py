"""Figures as files: whole or not at all, the same bytes each time, and never in the place of somebody else's file."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.figures.text import FONT
from cwf_jax.files import write_whole

MARK = "cwf_jax figure"
"""Written into every figure; a file that holds it may be replaced by another figure."""

_FORMATS = {
  ".png": {"format": "png", "metadata": {"Software": MARK}},
  ".jpg": {"format": "jpeg", "pil_kwargs": {"quality": 90, "comment": MARK}},
  ".jpeg": {"format": "jpeg", "pil_kwargs": {"quality": 90, "comment": MARK}},
  ".pdf": {"format": "pdf", "metadata": {"Creator": MARK, "CreationDate": None}},
  ".svg": {"format": "svg", "metadata": {"Creator": MARK, "Date": None}},
}

_SETTINGS = {
  "font.sans-serif": [FONT],
  "pdf.fonttype": 42,
  "savefig.bbox": "standard",
  "savefig.transparent": False,
  "svg.fonttype": "path",  # looks the same where the font is not installed
  "svg.hashsalt": MARK,  # ids are random without one
  "svg.image_inline": True,
  "text.hinting": "none",  # hinted glyphs are whole pixels wide: lines grow and shrink by several points
}
"""What decides over the bytes, whatever the user's own matplotlibrc says."""

_MOST_BYTES = 2**26
"""A larger file is taken for no figure of ours."""


def check_figure_path(path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = ()) -> Path:
  """Whether a figure can be saved here; to be asked before any work. Nothing is written.

  Args:
    path: of the figure, new or in the place of an earlier figure.
    inputs: the photographs that the figure is about.

  Raises:
    InputError: the extension is of no format, the folder is not there or cannot be written, or the file is a folder, one
      of the inputs or anything else that `save_figure` did not write, as far as its mark shows.
  """
  path = Path(path)
  _format(path)
  if problem := _find_problem(path, inputs):
    raise InputError(f"the figure {printable(path)} cannot be written: {problem}")
  return path


def save_figure(figure: Figure, path: str | os.PathLike, dpi: int = 110) -> None:
  """Draws a figure on white into a file, in the format that its extension names; the same bytes for the same figure.

  Args:
    path: as for `check_figure_path`, which is asked once more.
    dpi: pixels to an inch, of a raster format and of what is rasterized in the others.

  Raises:
    InputError: as `check_figure_path`.
    OSError: it cannot be written: a full disk. What was there before is there still.
  """
  path = check_figure_path(path)
  drawn = io.BytesIO()
  with matplotlib.rc_context(_SETTINGS):
    figure.savefig(drawn, dpi=dpi, facecolor="white", **_format(path))
  write_whole(path, drawn.getbuffer())


def _format(path: Path) -> dict[str, object]:
  known = _FORMATS.get(path.suffix.lower())
  if known is None:
    raise InputError(f"the figure {printable(path)} must be named {', '.join(list(_FORMATS)[:-1])} or {list(_FORMATS)[-1]}")
  return known


def _find_problem(path: Path, inputs: Iterable[str | os.PathLike]) -> str | None:
  folder = path.parent
  try:
    if not folder.is_dir():
      return f"there is no folder {printable(folder)}; make it first"
    if not os.access(folder, os.W_OK | os.X_OK):
      return f"the folder {printable(folder)} may not be written to"
    size = path.stat().st_size
    if path.is_dir():
      return "it is a folder; name a file"
    if any(os.path.exists(name) and os.path.samefile(path, name) for name in inputs):
      return "it is one of the photographs that the figure is about; name another file"
    if not path.is_file() or size > _MOST_BYTES or MARK.encode() not in path.read_bytes():
      return "it is there already and is no figure of cwf_jax; name another file"
    return None if os.access(path, os.W_OK) else "it is read-only"
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:  # too long a name, no right to read it; a zero byte is a ValueError
    return reason_of(error)
