"""`--mode=demo` on small images: interrupted twice, finished, run again, compared with `--mode=evaluate`, and refused."""

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
from cwf_jax.datasets.groundtruth import read_groundtruth
from cwf_jax.extraction import passes
from cwf_jax.index.store import open_index
from cwf_jax.retrieval.searcher import Searcher
from cwf_jax.toy import landmarks
from tests.cli.conftest import Outcome

ROWS = ("raw", "raw+pca", "raw_cw", "raw_cw+pca", "ofa", "ona")
FLAGS = ("--image_size=64", "--weights=random:vgg16_cam_quarter")


def _call(*arguments):
  """A call in this process; `capsys` lives no longer than one test."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      code = entry.run(entry.parse(["main.py", *arguments]))
    except SystemExit as ended:
      code = ended.code
  return Outcome(code, out.getvalue(), err.getvalue())


def _run(output):
  return _call("--mode=demo", f"--output={output}", *FLAGS)


def _evaluate(output):
  """The call whose lines the demo prints."""
  return _call("--mode=evaluate", "--dataset=toy_oxford", "--systems=raw,raw_cw,ofa,ona", f"--output={output}", *FLAGS)


def _stop(*_, **__):
  raise KeyboardInterrupt


def _times(folder):
  files = (path for path in folder.rglob("*") if path.suffix in (".jpg", ".txt") or path.name == landmarks.BOXES)
  return {path: path.stat().st_mtime_ns for path in files}


class _Demo:
  """The output folder and the outcomes of four calls that share it, then of an evaluation in it and of one elsewhere."""

  def __init__(self, output: Path, oxford: landmarks.Landmarks, paris: landmarks.Landmarks, monkeypatch: pytest.MonkeyPatch):
    self.output, self.collections = output, {"toy_oxford": oxford, "toy_paris": paris}
    self.images = output / "data" / "toy_oxford" / "images"
    monkeypatch.setattr(landmarks, "TOY_OXFORD", oxford)
    monkeypatch.setattr(landmarks, "TOY_PARIS", paris)
    write, left = landmarks.write_if_changed, iter(range(20))
    with monkeypatch.context() as patch:
      patch.setattr(landmarks, "write_if_changed", lambda *given: write(*given) if next(left, None) is not None else _stop())
      self.stopped_early = _run(output)
    self.early = [path.name for path in output.rglob("*") if path.is_file()]
    # Each run draws the pictures anew and compares; here they are drawn once.
    draw, drawn = landmarks._draw_all, {}
    monkeypatch.setattr(
      landmarks, "_draw_all", lambda some, seed: drawn.get(some) or drawn.setdefault(some, list(draw(some, seed)))
    )
    with monkeypatch.context() as patch:
      patch.setattr("cwf_jax.indexing.build.build_index", _stop)
      self.stopped_late = _run(output)
    with monkeypatch.context() as patch:
      patch.setattr(demo_page, "write_page", self._write_page)
      patch.setattr(passes, "see", _stop)  # the passes are there
      self.first = _run(output)
    self.times = _times(output)
    self.pictures = {path.name: path.read_bytes() for path in output.glob("*.*g")}
    self.page = (output / "index.html").read_text(encoding="utf-8")
    self.second = _run(output)
    self.evaluations = [_evaluate(output), _evaluate(output.parent / "elsewhere")]

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


class _Page(html.parser.HTMLParser):
  """The elements of a page, the files of pictures and links, and the text; every element is closed."""

  def __init__(self, text):
    super().__init__()
    self.open, self.seen, self.sources, self.links, self.words, self.notes = [], [], [], [], [], 0
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.seen.append(tag)
    if tag not in ("meta", "img"):
      self.open.append(tag)
    self.notes += ("class", "note") in attrs
    self.sources += [value for name, value in attrs if name == "src"]
    self.links += [value for name, value in attrs if name == "href"]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words.append(data)


def test_it_prints_how_good_four_systems_are(demo):
  assert demo.first.code == 0, demo.first.err
  title, *rows, report, see, search = demo.first.out.splitlines()
  assert title == "toy Oxford: mAP" and [row.split()[0].partition("@")[0] for row in rows] == list(ROWS)
  assert 0.05 < float(rows[0].split()[1]) < 0.9  # neither chance nor solved: there is something to see
  assert report == f"report: {demo.output / 'report.md'}"
  assert see == f"see how and why: {demo.output / 'index.html'}"
  assert search.startswith(f"search it yourself: {program()} --mode=search --index=")


def test_an_evaluation_prints_the_same_lines(demo):
  """In the demo's folder, and where everything is computed again."""
  lines = demo.first.out.splitlines()[:-2]
  within, elsewhere = (found.out.splitlines() for found in demo.evaluations)
  assert within == lines and elsewhere[:-1] == lines[:-1]


def test_the_numbers_are_told_before_the_pictures_are_drawn(demo):
  assert demo.told_before_the_page.splitlines() == demo.first.out.splitlines()[:-2]


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
  assert "whitening: none" in demo.first.err and "the weights are random" in demo.first.err
  for name, collection in demo.collections.items():
    for part, names in landmarks.list_files(collection).items():
      assert {path.name for path in (demo.output / "data" / name / part).iterdir()} == names
  assert len(open_index(demo.output / "toy_oxford.index")) == len(list(demo.images.iterdir()))


def test_the_page_shows_the_lines_and_every_picture(demo):
  page = _Page(demo.page)
  assert {"html", "head", "title", "body", "h1", "h2", "img", "pre", "a"} <= set(page.seen)
  assert "\n".join(demo.first.out.splitlines()[:-3]) in page.words
  text = " ".join(page.words)
  assert page.notes == 1 and "the weights are random, so the names of classes mean nothing" in text
  assert sorted(map(unquote, page.sources)) == sorted(demo.pictures)
  assert page.links == ["report.md"] and (demo.output / "report.md").exists()


def test_a_sheet_s_caption_counts_its_relevant_answers(demo):
  truth = {query.name: query for query in read_groundtruth(demo.output / "data/toy_oxford/groundtruth")}
  captions = [word for word in _Page(demo.page).words if "answers are relevant" in word]
  assert len(captions) == 3 and captions[0].startswith("motorcycle_5: ")
  searcher = Searcher(demo.output / "toy_oxford.index")
  for caption in captions:
    name, relevant, shown = re.search(r"(\w+): (\d+) of the (\d+) answers are relevant", caption).groups()
    query = truth[name]
    found = searcher.search([searcher.encode(demo.images / f"{query.image}.jpg", query.box)], top=int(shown))[0]
    assert sum(Path(result.id).stem in query.positives for result in found) == int(relevant)


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
  files = [landmarks.list_files(collection) for collection in demo.collections.values()]
  assert len(collections) == sum(len(names) for parts in files for names in parts.values())
  assert {path: path.stat().st_mtime_ns for path in collections} == collections


def test_one_that_was_interrupted_while_it_drew_goes_on(demo):
  assert (demo.stopped_early.code, demo.stopped_early.out) == (130, "")
  assert demo.stopped_early.err.splitlines()[-1] == "cwf_jax: interrupted; the same command goes on where it was"
  assert len([name for name in demo.early if name.endswith(".jpg")]) == 20
  assert not [name for name in demo.early if name.endswith(".tmp")]


def test_one_that_was_interrupted_after_the_evaluation_goes_on_with_the_index(demo):
  assert (demo.stopped_late.code, demo.stopped_late.out.splitlines()) == (130, demo.first.out.splitlines()[:-2])
  assert demo.first.code == 0 and demo.first.err.count("images a second") == 1


def test_the_command_that_it_ends_with_works(demo, cli):
  command = shlex.split(demo.first.out.splitlines()[-1].split(f"{program()} ")[1])
  figure = demo.output / "answers.png"
  assert command[-1] == f"--figure={figure}" and not figure.exists()
  found = cli(*command)
  assert found.code == 0 and "rank   score" in found.out
  with Image.open(figure) as image:
    image.load()


@pytest.mark.parametrize("flag", ["--image_size=96", "--protocol=reference", "--num_classes=3"])
def test_flags_that_disagree_with_its_index_are_refused(demo, refused, flag):
  before = _times(demo.output)
  line = refused("--mode=demo", f"--output={demo.output}", *FLAGS, flag)
  assert "toy_oxford.index was made with another --weights, --protocol, --image_size, --num_classes or --feature_map" in line
  assert _times(demo.output) == before


def test_a_folder_that_is_not_the_demo_s_is_left_alone(refused, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  assert "holds files that are not the demo's" in refused("--mode=demo", f"--output={tmp_path}")
  assert "is a file, not a folder" in refused("--mode=demo", f"--output={tmp_path / 'mine.txt'}")
  assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
  assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("picture", demo_page.PICTURES)
def test_pictures_that_are_no_figures_are_refused_before_any_work(refused, tmp_path, picture):
  (tmp_path / ".cwf_jax-demo").touch()
  Image.new("RGB", (8, 8)).save(tmp_path / picture)
  line = refused("--mode=demo", f"--output={tmp_path}")
  assert f"{tmp_path / picture} cannot be written: it is there already and is no figure of cwf_jax" in line
  assert len(list(tmp_path.iterdir())) == 2


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
