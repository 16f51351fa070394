"""A figure is written whole or not at all, the same each time, and never over a file that is not ours."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.figures.files import check_figure_path, save_figure

ROOT = Path(__file__).parent.parent.parent

NAMES = ("a.png", "a.PNG", "a.jpg", "a.JPEG", "a.pdf", "a.svg")


def _figure(text="tower $1 é"):
  figure = Figure(figsize=(3, 2), facecolor="black")
  axes = figure.add_axes((0.1, 0.1, 0.5, 0.8))
  axes.imshow(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5)
  axes.plot([0, 3], [0, 9], clip_on=True)
  figure.text(0.65, 0.5, text, parse_math=False)
  return figure


@pytest.mark.parametrize("name", NAMES)
def test_each_format_can_be_opened(tmp_path, name):
  path = tmp_path / name
  assert check_figure_path(str(path)) == path
  assert save_figure(_figure(), str(path)) is None
  content = path.read_bytes()
  assert b"cwf_jax figure" in content
  if name.lower().endswith("pdf"):
    assert content.startswith(b"%PDF") and b"%%EOF" in content[-8:] and b"CreationDate" not in content
    assert b"/Type3" not in content and b"/CIDFontType2" in content
  elif name.endswith("svg"):
    assert b"<svg" in content and b"</svg>" in content[-10:] and b"<dc:date>" not in content and b"<text" not in content
  else:
    with Image.open(path) as image:
      image.load()
      assert image.format == ("PNG" if name.lower().endswith("png") else "JPEG")
      assert image.size == (330, 220)
      assert image.info["Software" if image.format == "PNG" else "comment"] in ("cwf_jax figure", b"cwf_jax figure")
      assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)  # white, whatever the figure's own color
  assert os.listdir(tmp_path) == [name]


def test_the_resolution_is_the_callers(tmp_path):
  save_figure(_figure(), tmp_path / "a.png", dpi=50)
  with Image.open(tmp_path / "a.png") as image:
    assert image.size == (150, 100)


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_are_the_same_each_time(tmp_path, name):
  figure = _figure()
  contents = []
  for drawn in (figure, figure, _figure()):
    save_figure(drawn, tmp_path / name)
    contents.append((tmp_path / name).read_bytes())
  assert contents[0] == contents[1] == contents[2]
  with matplotlib.rc_context(
    {"pdf.fonttype": 3, "svg.fonttype": "none", "savefig.bbox": "tight", "text.hinting": "force_autohint", "svg.hashsalt": "x"}
  ):
    save_figure(_figure(), tmp_path / name)
  assert (tmp_path / name).read_bytes() == contents[0]


def test_the_bytes_are_the_same_in_another_process_and_at_another_time(tmp_path):
  program = (
    "import sys; from matplotlib.figure import Figure; from cwf_jax.figures.files import save_figure\n"
    "figure = Figure(figsize=(2, 1)); figure.text(0.1, 0.5, 'tower é ½'); figure.add_axes((0.5, 0.2, 0.3, 0.6)).plot([1, 2])\n"
    "[save_figure(figure, f'{sys.argv[1]}/a.{end}') for end in ('png', 'jpg', 'pdf', 'svg')]"
  )
  hashes = []
  for seed, epoch in (("1", "0"), ("2", "1700000000")):
    environment = {**os.environ, "PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": epoch}
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, cwd=ROOT, env=environment, timeout=120)
    hashes.append([hashlib.sha256((tmp_path / f"a.{end}").read_bytes()).hexdigest() for end in ("png", "jpg", "pdf", "svg")])
  assert hashes[0] == hashes[1]


def test_settings_of_matplotlib_are_as_before(tmp_path):
  before = dict(matplotlib.rcParams)
  save_figure(_figure(), tmp_path / "a.svg")
  assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_of_ours_is_replaced(tmp_path, name):
  save_figure(_figure("old"), tmp_path / name)
  old = (tmp_path / name).read_bytes()
  check_figure_path(tmp_path / name)
  save_figure(_figure("new"), tmp_path / name)
  assert (tmp_path / name).read_bytes() != old
  assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_a_file_of_somebody_else_stays(tmp_path, end):
  path = tmp_path / f"a.{end}"
  _figure().savefig(path)
  before = path.read_bytes()
  for content in (before, b"", b"cwf_jax figur"):
    path.write_bytes(content)
    for refusing in (check_figure_path, lambda path: save_figure(_figure(), path)):
      with pytest.raises(InputError, match=rf"a.{end} .* is there already and is no figure of cwf_jax; name another file"):
        refusing(path)
    assert path.read_bytes() == content
  assert os.listdir(tmp_path) == [path.name]


def test_the_photographs_are_never_overwritten(tmp_path):
  photo = tmp_path / "photo.png"
  save_figure(_figure(), photo)  # even one that holds our mark
  before = photo.read_bytes()
  (tmp_path / "link.png").symlink_to(photo)
  os.link(photo, tmp_path / "hard.png")
  for name in ("photo.png", "link.png", "hard.png", "../" + tmp_path.name + "/photo.png"):
    with pytest.raises(InputError, match="is one of the photographs that the figure is about; name another file"):
      check_figure_path(tmp_path / name, ["missing.jpg", "zero\0", str(photo)])
  assert photo.read_bytes() == before
  check_figure_path(tmp_path / "other.png", [photo])


@pytest.mark.parametrize("name", ["a", "a.gif", "a.png.txt", ".png", "", "a.", "a.tiff", "a.eps"])
def test_other_formats_are_refused(tmp_path, name):
  for refusing in (check_figure_path, lambda path: save_figure(_figure(), path)):
    with pytest.raises(InputError, match=r"must be named \.png, \.jpg, \.jpeg, \.pdf or \.svg$"):
      refusing(tmp_path / name)
  assert os.listdir(tmp_path) == []


def test_places_where_no_figure_can_be(tmp_path):
  (tmp_path / "folder.png").mkdir()
  (tmp_path / "file").write_bytes(b"x")
  (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
  os.mkfifo(tmp_path / "pipe.png")
  for name, message in {
    "folder.png": "it is a folder; name a file",
    "no/where/a.png": f"a.png cannot be written: there is no folder {tmp_path}/no/where; make it first",
    "new\nline/a.png": r"there is no folder .*new\\nline; make it first",
    "file/a.png": "there is no folder",
    "x" * 300 + ".png": "File name too long",
    "zero\0.png": "cannot be written",
    "zero\0/a.png": "cannot be written",
    "loop.png": "Too many levels",
    "pipe.png": "is there already and is no figure of cwf_jax",
  }.items():
    with pytest.raises(InputError, match=message) as caught:
      check_figure_path(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_figure_that_may_not_be_written(tmp_path, monkeypatch):
  """What the system says is replaced, since the tests may run as root, to whom it says yes."""
  save_figure(_figure(), tmp_path / "a.png")
  monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
  with pytest.raises(InputError, match=rf"b.png cannot be written: the folder {tmp_path} may not be written to"):
    check_figure_path(tmp_path / "b.png")
  monkeypatch.setattr(os, "access", lambda path, mode: str(path) == str(tmp_path))
  with pytest.raises(InputError, match=r"a.png cannot be written: it is read-only"):
    check_figure_path(tmp_path / "a.png")


class _Failing(Artist):
  def draw(self, renderer):
    raise RuntimeError("in the middle of drawing")


@pytest.mark.parametrize("name", NAMES)
def test_an_error_while_drawing_leaves_everything_as_it_was(tmp_path, name):
  failing = _figure()
  failing.add_artist(_Failing())
  with pytest.raises(RuntimeError, match="in the middle"):
    save_figure(failing, tmp_path / name)
  assert os.listdir(tmp_path) == []
  save_figure(_figure(), tmp_path / name)
  before = (tmp_path / name).read_bytes()
  with pytest.raises(RuntimeError, match="in the middle"):
    save_figure(failing, tmp_path / name)
  assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == before


def test_a_full_disk_is_told_and_leaves_everything_as_it_was(tmp_path, monkeypatch):
  save_figure(_figure("old"), tmp_path / "a.png")
  before = (tmp_path / "a.png").read_bytes()

  def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(OSError, match="No space left") as caught:
    save_figure(_figure("new"), tmp_path / "a.png")
  assert caught.value.errno == errno.ENOSPC
  assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == before


def test_names_are_as_long_and_as_strange_as_a_folder_takes(tmp_path):
  for name in ("n" * 251 + ".png", "new\nline.svg", "caf\udce9.jpg", "東京.pdf", " .png"):
    save_figure(_figure(), tmp_path / name)
    check_figure_path(tmp_path / name)
  assert len(os.listdir(tmp_path)) == 5


def test_the_file_can_be_read_by_whom_the_mask_allows(tmp_path):
  save_figure(_figure(), tmp_path / "a.png")
  (tmp_path / "plain").write_bytes(b"")
  assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
