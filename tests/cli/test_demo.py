"""`--mode=demo` on small images: interrupted twice, finished, run again, and refused."""

import contextlib
import dataclasses
import html.parser
import importlib.util
import io
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from cwf_jax.cli import demo_page, entry
from cwf_jax.cli.notes import program
from cwf_jax.datasets import landmarks
from cwf_jax.index.store import open_index
from tests.cli.conftest import Outcome

LINE = (
  r"mAP on toy Oxford, QUERIES queries: raw sum pooling (\d\.\d{3}), channel weights (\d\.\d{3}), "
  r"class-weighted offline (\d\.\d{3}), class-weighted online (\d\.\d{3})"
)
FLAGS = ("--image_size=64", "--weights=random:vgg16_cam_quarter")


def _run(output, *arguments):
  """A call in this process; `capsys` lives no longer than one test."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      code = entry.run(entry.parse(["main.py", "--mode=demo", f"--output={output}", *arguments]))
    except SystemExit as ended:
      code = ended.code
  return Outcome(code, out.getvalue(), err.getvalue())


def _stop(*_, **__):
  raise KeyboardInterrupt


def _contents(folder):
  return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _times(folder):
  return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix in (".jpg", ".txt")}


class _Demo:
  """The output folder and the outcomes of four calls that share it."""

  def __init__(self, output: Path, oxford: landmarks.Landmarks, paris: landmarks.Landmarks, monkeypatch: pytest.MonkeyPatch):
    self.output, self.collections = output, {"toy_oxford": oxford, "toy_paris": paris}
    self.counts = {name: len(landmarks.list_files(some)["images"]) for name, some in self.collections.items()}
    self.queries = {name: len(some.scenes) * landmarks.QUERIES for name, some in self.collections.items()}
    monkeypatch.setattr(landmarks, "TOY_OXFORD", oxford)
    monkeypatch.setattr(landmarks, "TOY_PARIS", paris)
    write, left = landmarks.write_if_changed, iter(range(20))
    with monkeypatch.context() as patch:
      patch.setattr(landmarks, "write_if_changed", lambda *given: write(*given) if next(left, None) is not None else _stop())
      self.stopped_early = _run(output, *FLAGS)
    self.early = [path.name for path in output.rglob("*") if path.is_file()]
    # Each run draws the pictures anew and compares; here they are drawn once.
    draw, drawn = landmarks._draw_all, {}
    monkeypatch.setattr(
      landmarks, "_draw_all", lambda some, seed: drawn.get(some) or drawn.setdefault(some, list(draw(some, seed)))
    )
    with monkeypatch.context() as patch:
      patch.setattr("cwf_jax.evaluation.experiment.Experiment.make_rows", _stop)
      self.stopped_late = _run(output, *FLAGS)
    self.indexes = {name: _contents(output / f"{name}.index") for name in ("toy_oxford", "toy_paris")}
    with monkeypatch.context() as patch:
      patch.setattr(demo_page, "write_page", self._write_page)
      self.first = _run(output, *FLAGS)
    self.times = _times(output)
    self.pictures = {path.name: path.read_bytes() for path in output.glob("*.*g")}
    self.page = (output / "index.html").read_text(encoding="utf-8")
    self.second = _run(output)  # without flags: those of the first run

  def _write_page(self, *given, written=demo_page.write_page):
    self.told_before_the_page = sys.stdout.getvalue()
    written(*given)


def _keep_few(collection, scenes, distractors):
  kept = tuple(scene for scene in collection.scenes if scene.name in scenes)
  assert len(kept) == len(scenes)
  return dataclasses.replace(collection, scenes=kept, distractors=distractors)


SIZES = {
  "few": (
    _keep_few(landmarks.TOY_OXFORD, ("cat", "coffee", "motorcycle", "rocket"), 20),
    _keep_few(landmarks.TOY_PARIS, ("clock", "photographer", "tissue"), 24),
  ),
  "all": (landmarks.TOY_OXFORD, landmarks.TOY_PARIS),
}


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.long)])
def demo(request, tmp_path_factory):
  with pytest.MonkeyPatch.context() as monkeypatch:
    return _Demo(tmp_path_factory.mktemp("demo") / "output", *SIZES[request.param], monkeypatch)


def _numbers(demo):
  found = re.fullmatch(LINE.replace("QUERIES", str(demo.queries["toy_oxford"])), demo.first.out.splitlines()[0])
  assert found, demo.first
  return found.groups()


class _Page(html.parser.HTMLParser):
  """The elements of a page, the pictures' files, the text and a table's cells by row; every element is closed."""

  def __init__(self, text):
    super().__init__()
    self.open, self.seen, self.sources, self.words, self.rows, self.notes = [], [], [], [], [], 0
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.seen.append(tag)
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append("")
    if tag not in ("meta", "img"):
      self.open.append(tag)
    self.notes += ("class", "note") in attrs
    self.sources += [value for name, value in attrs if name == "src"]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words.append(data)
    if self.open and self.open[-1] in ("td", "th"):
      self.rows[-1][-1] += data


def test_it_prints_how_good_four_systems_are(demo):
  assert demo.first.code == 0, demo.first.err
  numbers = [float(number) for number in _numbers(demo)]
  assert all(0 <= number <= 1 for number in numbers)
  assert 0.05 < numbers[0] < 0.9  # neither chance nor solved: there is something to see
  lines = demo.first.out.splitlines()
  assert len(lines) == 3
  assert lines[1] == f"see how and why: {demo.output / 'index.html'}"
  assert lines[2].startswith(f"search it yourself: {program()} --mode=search --index=")


def test_the_numbers_are_told_before_the_pictures_are_drawn(demo):
  assert demo.told_before_the_page.splitlines() == demo.first.out.splitlines()[:1]


def test_commands_begin_as_the_program_was_started(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  for started, python, said in (
    ("main.py", tmp_path / ".venv/bin/python", ".venv/bin/python main.py"),
    ("main.py", tmp_path / "my tools/python", "'my tools/python' main.py"),
    ("main.py", "/opt/some python/bin/python3", "'/opt/some python/bin/python3' main.py"),
    ("/opt/bin/cwf-jax", "/opt/bin/python", "cwf-jax"),
    ("cwf-jax.exe", "/opt/bin/python", "cwf-jax"),
  ):
    monkeypatch.setattr(sys, "argv", [started, "--mode=demo"])
    monkeypatch.setattr(sys, "executable", str(python))
    assert program() == said


def test_the_page_s_commands_begin_so_too(demo):
  commands = [line for line in " ".join(_Page(demo.page).words).splitlines() if "--mode=" in line]
  assert len(commands) == 2 and all(command.strip().startswith(f"{program()} --mode=") for command in commands)


def test_it_says_what_it_made(demo):
  err = demo.first.err
  for name, collection in demo.collections.items():
    counts = f"{demo.counts[name]} pictures, {len(collection.scenes)} landmarks, {demo.queries[name]} queries"
    assert f"{demo.output / name}: {counts}" in err
  assert f"whitening: that of {demo.output / 'toy_paris.index'}" in err
  assert "the weights are random" in err
  for folder in demo.collections:
    assert len(list((demo.output / folder / "images").iterdir())) == demo.counts[folder]
    assert len(list((demo.output / folder / "groundtruth").iterdir())) == 4 * demo.queries[folder] + 1


def test_the_page_shows_the_numbers_and_every_picture(demo):
  page = _Page(demo.page)
  assert {"html", "head", "title", "body", "h1", "h2", "table", "tr", "td", "img", "pre"} <= set(page.seen)
  text = " ".join(page.words)
  for number in _numbers(demo):
    assert number in text
  assert page.notes == 1 and "the weights are random, so the names of classes mean nothing" in text
  assert sorted(map(unquote, page.sources)) == sorted(demo.pictures)


def test_the_table_has_each_system_s_dimensions(demo):
  head, *rows = _Page(demo.page).rows
  assert head == ["system", "dimensions", "all", *landmarks.KINDS[: landmarks.QUERIES]]
  assert [row[0].partition(":")[0] for row in rows] == ["raw", "raw+pca", "raw_cw+pca", "ofa", "ona"]
  dimensions = {row[0].partition(":")[0]: int(row[1]) for row in rows}
  index = open_index(demo.output / "toy_oxford.index")
  # A quarter of VGG-16's 512 channels; a whitening keeps one dimension for every three of toy Paris's pictures.
  kept = demo.counts["toy_paris"] // 3
  expected = {"raw": 128, "raw+pca": kept, "raw_cw+pca": kept} | dict.fromkeys(("ofa", "ona"), index.settings.dimensions)
  assert dimensions == expected
  for name, number in zip(("raw", "raw_cw+pca", "ofa", "ona"), _numbers(demo), strict=True):
    assert next(row for row in rows if row[0].startswith(f"{name}:"))[2] == number


def test_the_page_needs_no_network(demo):
  assert "http" not in demo.page and "//" not in demo.page
  assert str(demo.output) not in demo.page  # it can be moved


def test_every_picture_opens(demo):
  assert sorted(demo.pictures) == sorted(demo_page.PICTURES)
  for name, content in demo.pictures.items():
    with Image.open(io.BytesIO(content)) as image:
      image.load()
      assert min(image.size) > 300, name


def test_a_second_run_encodes_nothing_and_prints_the_same(demo):
  assert demo.second.code == 0, demo.second.err
  assert demo.second.out == demo.first.out
  assert "images a second" not in demo.second.err
  assert (demo.output / "index.html").read_text(encoding="utf-8") == demo.page
  assert {path.name: path.read_bytes() for path in demo.output.glob("*.*g") if path.name in demo.pictures} == demo.pictures
  collections = {path: time for path, time in demo.times.items() if path.parent != demo.output}
  assert len(collections) == sum(demo.counts.values()) + 4 * sum(demo.queries.values())
  assert {path: path.stat().st_mtime_ns for path in collections} == collections


def test_one_that_was_interrupted_while_it_drew_goes_on(demo):
  assert (demo.stopped_early.code, demo.stopped_early.out) == (130, "")
  assert demo.stopped_early.err.splitlines()[-1] == "cwf_jax: interrupted"
  assert len([name for name in demo.early if name.endswith(".jpg")]) == 20
  assert not [name for name in demo.early if name.endswith(".tmp")]
  assert demo.stopped_late.err.count("pictures, ") >= 2  # both collections were finished


def test_one_that_was_interrupted_after_indexing_goes_on_without_encoding_again(demo):
  assert (demo.stopped_late.code, demo.stopped_late.out) == (130, "")
  assert demo.stopped_late.err.count("images a second") == 2
  assert demo.first.code == 0 and "images a second" not in demo.first.err
  for name, contents in demo.indexes.items():
    rows = {path for path in contents if path.suffix == ".lance"}
    now = _contents(demo.output / f"{name}.index")
    assert rows and {path: now[path] for path in rows} == {path: contents[path] for path in rows}


def test_the_command_that_it_ends_with_works(demo, cli):
  command = shlex.split(demo.first.out.splitlines()[-1].split(f"{program()} ")[1])
  figure = demo.output / "answers.png"
  assert command[-1] == f"--figure={figure}" and not figure.exists()
  found = cli(*command)
  assert found.code == 0 and "rank   score" in found.out
  with Image.open(figure) as image:
    image.load()


@pytest.mark.parametrize(
  ("flag", "said"),
  [
    ("--image_size=96", "--image_size=96, but its own is 64"),
    ("--protocol=reference", "--protocol=reference, but its own is paper"),
    ("--num_classes=3", "--num_classes=3, but its own is 64"),
  ],
)
def test_flags_that_disagree_with_its_indexes_are_refused(demo, refused, flag, said):
  before = _times(demo.output)
  line = refused("--mode=demo", f"--output={demo.output}", flag)
  assert said in line and "Leave the flags out, or name a new --output" in line
  assert _times(demo.output) == before


def test_a_folder_that_is_not_the_demo_s_is_left_alone(refused, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  assert "holds files that are not the demo's" in refused("--mode=demo", f"--output={tmp_path}")
  assert "is a file, not a folder" in refused("--mode=demo", f"--output={tmp_path / 'mine.txt'}")
  assert "leave --index out" in refused("--mode=demo", f"--output={tmp_path / 'new'}", f"--index={tmp_path / 'i'}")
  assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
  assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.fixture
def unworked(monkeypatch, tmp_path):
  """A folder that is known as the demo's, where nothing may be done."""

  def fail(*_, **__):
    raise AssertionError("work was done")

  monkeypatch.setattr("cwf_jax.cli.demo._choose_encoder", fail)
  monkeypatch.setattr("cwf_jax.datasets.landmarks.write_landmarks", fail)
  (tmp_path / ".cwf_jax-demo").touch()
  for name in ("toy_oxford", "toy_paris"):
    for part in ("images", "groundtruth"):
      (tmp_path / name / part).mkdir(parents=True)
  return tmp_path


@pytest.mark.parametrize(
  "stray",
  [
    *("toy_oxford/images/mine.jpg", "toy_paris/images/distractor_999.jpg", "toy_oxford/groundtruth/mine_1_query.txt"),
    *("toy_paris/images/deeper/mine.jpg", "toy_paris/images/astronaut_000.jpg", "toy_oxford/images/new\nline\x1b.jpg"),
  ],
)
def test_other_files_among_the_demo_s_are_refused_before_any_work(refused, unworked, stray):
  (unworked / "toy_oxford/images/coffee_003.jpg").write_bytes(b"a picture of the demo, to be mended")
  (unworked / "toy_oxford/images/.left.tmp").touch()
  (unworked / stray).parent.mkdir(exist_ok=True)
  (unworked / stray).write_bytes(b"mine")
  before = _contents(unworked)
  line = refused("--mode=demo", f"--output={unworked}")
  said = "/".join((unworked / stray).relative_to(unworked).parts[:3]).encode("unicode_escape").decode()
  told = f"files that are not the demo's would be searched, too: {unworked}/{said}; remove them or name another --output"
  assert line == f"cwf_jax: {told}"
  assert _contents(unworked) == before


def test_of_many_other_files_the_first_are_told(refused, unworked):
  for number in range(5):
    (unworked / "toy_paris/images" / f"mine_{number}.jpg").touch()
  line = refused("--mode=demo", f"--output={unworked}")
  told = ", ".join(str(unworked / "toy_paris/images" / f"mine_{number}.jpg") for number in range(3))
  assert f"files that are not the demo's would be searched, too: {told} and more; remove them or name another --output" in line


@pytest.mark.parametrize("picture", demo_page.PICTURES)
def test_pictures_that_are_no_figures_are_refused_before_any_work(refused, unworked, picture):
  Image.new("RGB", (8, 8)).save(unworked / picture)
  before = _contents(unworked)
  line = refused("--mode=demo", f"--output={unworked}")
  assert f"{unworked / picture} is there already and is no figure of cwf_jax; name another file" in line
  assert _contents(unworked) == before


@pytest.mark.parametrize("package", ["skimage", "sklearn"])
def test_a_missing_extra_is_one_line(refused, monkeypatch, tmp_path, package):
  found = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest))
  line = refused("--mode=demo", f"--output={tmp_path / 'new'}")
  assert package in line and "pip install 'cwf_jax[demo]'" in line
  assert not (tmp_path / "new").exists()


def test_wrong_weights_make_no_folder(refused, tmp_path):
  assert "no weights 'nosuch'" in refused("--mode=demo", f"--output={tmp_path / 'new'}", "--weights=nosuch")
  assert not (tmp_path / "new").exists()
