"""Figures as files: whole or not at all, the same bytes each time, and never in the place of somebody else's file."""

import io
import os
import stat
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

_SEARCHED = 2**25
"""How many bytes of a file are searched for the mark, from its beginning and from its end."""


def check_figure_path(path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = ()) -> Path:
  """Whether a figure can be saved here; to be asked before any work. Nothing is written.

  Args:
    path: of the figure, new or in the place of an earlier figure.
    inputs: the photographs that the figure is about.

  Raises:
    InputError: the extension is of no format, the folder is not there or cannot be written, or the file is a folder, one
      of the inputs or anything else that `save_figure` did not write.
  """
  path = Path(path)
  _format(path)
  try:
    problem = _find_problem(path.parent)
    status = None if problem else _stat(path)
  except (OSError, ValueError) as error:  # too long a name; a zero byte is a ValueError
    problem, status = reason_of(error), None
  if problem:
    raise InputError(f"the figure {printable(path)} cannot be written: {problem}")
  if status is None:
    return path
  if stat.S_ISDIR(status.st_mode):
    raise InputError(f"{printable(path)} is a folder; name a file")
  if any(_is_same(status, name) for name in inputs):
    raise InputError(f"{printable(path)} is one of the photographs that the figure is about; name another file")
  if not stat.S_ISREG(status.st_mode) or not _is_ours(path):
    raise InputError(f"{printable(path)} is there already and is no figure of cwf_jax; name another file")
  if not os.access(path, os.W_OK):
    raise InputError(f"the figure {printable(path)} cannot be written: it is read-only")
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


def _find_problem(folder: Path) -> str | None:
  if not folder.exists():
    return f"there is no folder {printable(folder)}; make it first"
  if not folder.is_dir():
    return f"{printable(folder)} is no folder"
  if not os.access(folder, os.W_OK | os.X_OK):
    return f"the folder {printable(folder)} may not be written to"
  return None


def _stat(path: Path) -> os.stat_result | None:
  try:
    return path.stat()
  except FileNotFoundError:
    return None


def _is_same(status: os.stat_result, name: str | os.PathLike) -> bool:
  try:
    return os.path.samestat(status, os.stat(name))
  except (OSError, ValueError):
    return False


def _is_ours(path: Path) -> bool:
  mark = MARK.encode()
  try:
    with open(path, "rb") as file:
      if mark in file.read(_SEARCHED):
        return True
      file.seek(max(0, os.fstat(file.fileno()).st_size - _SEARCHED))  # a PDF names its creator at its end
      return mark in file.read(_SEARCHED)
  except OSError as error:
    raise InputError(f"{printable(path)} is there already and cannot be read: {reason_of(error)}; name another file") from None
