"""`--mode=evaluate`: the toy pair end to end under both presets, taken up again and compared."""

import csv
import errno
import json
import shutil
import tarfile

import numpy as np
import pytest

from cwf_jax.cli import entry
from cwf_jax.extraction import passes
from cwf_jax.files import holding
from cwf_jax.toy import landmarks
from tests.cli.test_demo import SIZES

ROWS = ("raw", "raw+pca", "raw_cw", "raw_cw+pca", "spoc", "ucrow", "crow", "mac", "rmac", "gem", "cwr", "ofa", "ona", "fixed")


class Toys:
  """The outcomes of calls on the toy pair."""

  def __init__(self, folder, checkpoint, collections, run):
    self.folder, self.run = folder, run
    landmarks.TOY_OXFORD, landmarks.TOY_PARIS = collections
    self.data = f"--data_dir={folder / 'paper' / 'data'}"
    self.flags = ("--mode=evaluate", "--dataset=toy_oxford", f"--weights={checkpoint}", "--image_size=64")
    self.outcomes = {"paper": run(*self.flags, f"--output={folder / 'paper'}")}
    # The pictures are drawn once.
    self.outcomes["reference"] = run(*self.flags, "--protocol=reference", self.data, f"--output={folder / 'reference'}")

  def results(self, name="paper"):
    return json.loads((self.folder / name / "results.json").read_text())

  def report(self, name="paper"):
    return (self.folder / name / "report.md").read_text()


def _call(*arguments):
  import contextlib
  import io

  from tests.cli.conftest import Outcome

  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      code = entry.run(entry.parse(["main.py", *map(str, arguments)]))
    except SystemExit as ended:
      code = ended.code
  return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.long)])
def toys(request, tmp_path_factory, tiny_checkpoint):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(landmarks, "TOY_OXFORD", landmarks.TOY_OXFORD)
    patch.setattr(landmarks, "TOY_PARIS", landmarks.TOY_PARIS)
    yield Toys(tmp_path_factory.mktemp("evaluations"), tiny_checkpoint, SIZES[request.param], _call)


@pytest.mark.parametrize("preset", ["paper", "reference"])
def test_every_system_is_measured(toys, preset):
  found = toys.outcomes[preset]
  assert found.code == 0, found.err
  lines = found.out.splitlines()
  assert lines[0] == "toy Oxford: mAP" and lines[-1] == f"report: {toys.folder / preset / 'report.md'}"
  assert [line.split()[0].partition("@")[0] for line in lines[1:-1]] == list(ROWS)
  results = toys.results(preset)
  assert results["dataset"] == "toy_oxford" and results["preset"] == preset and results["changed_settings"] == {}
  for line, row in zip(lines[1:-1], results["systems"].values(), strict=True):
    assert line.split()[1] == f"{row['map']:.3f}" and 0.1 < row["map"] <= 1
    values = [value for value in row["per_query"].values() if value is not None]
    assert len(values) == len(row["per_query"]) and abs(np.mean(values) - row["map"]) < 1e-12
    assert row["zero"] == row["not_finite"] == 0
    assert bool(row["whitened_by"]) == (row["name"].partition("@")[0] not in ("raw", "raw_cw"))


def test_rows_say_on_what_they_ran(toys):
  systems = toys.results()["systems"]
  assert {name.partition("@")[2] for name in systems} == {"tiny"}
  made_of = {row["system"]: (row["map"], row["query"]) for row in _how(toys).values()}
  assert made_of["raw"] == ("conv5_1", "cells") and made_of["spoc"] == ("conv5_3", "box")
  assert made_of["rmac"] == ("pool5", "box") and made_of["gem"] == ("conv5_3", "box_in_proportion")


def _how(toys):
  """Of each row of the table How: its map and what it sees of a query."""
  found = {}
  for line in toys.report().partition("## How")[2].splitlines():
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if len(cells) == 8 and cells[0].startswith("`"):
      found[cells[0]] = {"system": cells[0].strip("`").partition("@")[0], "map": cells[2].split(", ")[1], "query": cells[4]}
  return found


def test_the_report_tells_all_of_it(toys):
  text = toys.report("reference")
  for part in ("table 1a", "first table", "not yet", "## Settings", "| `reversed_means` | True | False | True |"):
    assert part in text
  for part in ("images | sha256 ", "ground truth | sha256 ", "working directory | ", "measured | 20", "batch size | "):
    assert f"| {part}" in text
  for part in ("| command | `", "| preset | reference |", "sha256", "cwf_jax ", "jax ", "cpu", "images of toy_paris"):
    assert part in text
  assert "nan" not in text.replace("nan metre", "").lower().split()


def test_each_query_has_its_line(toys):
  with open(toys.folder / "paper" / "per_query.csv", newline="") as file:
    head, *lines = list(csv.reader(file))
  systems = toys.results()["systems"]
  assert head == ["query", *systems]
  for name, *values in lines:
    assert [float(value) for value in values] == [row["per_query"][name] for row in systems.values()]


def test_a_second_run_computes_nothing(toys, monkeypatch):
  monkeypatch.setattr(passes, "see", _stop)
  monkeypatch.setattr("cwf_jax.evaluation.scoring.describe", _stop)
  before = toys.results()
  again = toys.run(*toys.flags, f"--output={toys.folder / 'paper'}")
  assert again.out == toys.outcomes["paper"].out and again.code == 0, again.err
  for name, row in toys.results()["systems"].items():
    assert row == before["systems"][name] and row["made"]["device"].startswith("cpu, ")


def test_other_rankings_make_no_pass(toys, monkeypatch):
  monkeypatch.setattr(passes, "see", _stop)
  shutil.copytree(toys.folder / "paper", toys.folder / "other")
  settings = ("--set=ties=by_row", "--set=n_pca=3", "--set=query_row=replaced")
  where = (toys.data, f"--output={toys.folder / 'other'}")
  again = toys.run(*toys.flags, *settings, *where, f"--against={toys.folder / 'paper'}")
  assert again.code == 0, again.err
  assert toys.results("other")["changed_settings"] == {"n_pca": 3, "query_row": "replaced", "ties": "by_row"}
  title = f"toy Oxford, less the rows of {toys.folder / 'paper'}"
  assert len(toys.results("other")["differences"][title]) == len(ROWS)
  told = again.out.splitlines()[len(ROWS) + 1 : -1]
  assert told[0] == f"{title}: difference in mAP, 95 % interval" and told[1].split()[0] == "raw@tiny"
  assert [line.split()[0] for line in told[1 : len(ROWS) + 1]] == list(toys.results()["systems"])
  assert told[len(ROWS) + 1 :] == [
    "  n_pca: here 3; there 1", "  query_row: here replaced; there kept", "  ties: here by_row; there shuffled"
  ]  # fmt: skip
  assert "| `ties` | by_row (set) | shuffled | reversed |" in toys.report("other")


def test_an_interrupted_run_goes_on(toys, monkeypatch):
  """Passes that were made are kept, and the rows are those of an undisturbed run."""
  see, calls = passes.see, []

  def stop_later(*given):
    calls.append(given)
    return see(*given) if len(calls) < 30 else _stop()

  monkeypatch.setattr(passes, "see", stop_later)
  flags = (*toys.flags, toys.data, "--systems=raw,mac,ofa", f"--output={toys.folder / 'stopped'}")
  stopped = toys.run(*flags)
  assert stopped.code == 130 and stopped.err.splitlines()[-1] == "cwf_jax: interrupted; the same command goes on where it was"
  assert not (toys.folder / "stopped" / "results.json").exists()
  monkeypatch.setattr(passes, "see", lambda *given: calls.append(given) or see(*given))
  before = len(calls)
  assert toys.run(*flags).code == 0
  whole = {row["name"]: row["per_query"] for row in toys.results("paper")["systems"].values()}
  found = toys.results("stopped")["systems"]
  assert {name: row["per_query"] for name, row in found.items()} == {name: whole[name] for name in found}
  monkeypatch.setattr(passes, "see", lambda *given: calls.append(given) or see(*given))
  made = len(calls) - before
  calls.clear()
  assert toys.run(*flags[:-1], f"--output={toys.folder / 'anew'}").code == 0
  assert made < len(calls), "what was done before the stop was done again"


def test_rows_that_were_not_asked_for_stay_in_the_report(toys, monkeypatch):
  """They are of the same weights, images and settings; with other settings they are not theirs."""
  monkeypatch.setattr(passes, "see", _stop)
  shutil.copytree(toys.folder / "paper", toys.folder / "fewer")
  flags = (*toys.flags, toys.data, "--systems=mac", f"--output={toys.folder / 'fewer'}")
  found = toys.run(*flags)
  assert found.code == 0, found.err
  assert [line.split()[0] for line in found.out.splitlines()[1:-1]] == ["mac@tiny"]
  systems = toys.results("fewer")["systems"]
  assert set(systems) == set(toys.results()["systems"]) and next(iter(systems)) == "mac@tiny"
  kept = [f"`{name}`" for name in toys.results()["systems"] if name != "mac@tiny"]
  when = toys.results()["systems"]["mac@tiny"]["made"]["measured"]
  assert f"Of an earlier run (measured: {when}): `mac@tiny`, {', '.join(kept)}." in toys.report("fewer")
  assert toys.run(*flags, "--set=ties=by_row").code == 0
  assert list(toys.results("fewer")["systems"]) == ["mac@tiny"]
  assert "| `raw` | not run: not asked for |" in toys.report("fewer")


def test_vectors_can_be_shared(toys, monkeypatch):
  monkeypatch.setattr(passes, "see", _stop)
  shared = f"--vectors={toys.folder / 'paper' / 'vectors'}"
  found = toys.run(*toys.flags, toys.data, f"--output={toys.folder / 'sharing'}", shared)
  assert found.code == 0, found.err
  assert found.out.splitlines()[:-1] == toys.outcomes["paper"].out.splitlines()[:-1]


def test_a_full_disk_leaves_nothing_half_written(toys, monkeypatch):
  def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  output = toys.folder / "full"
  shutil.copytree(toys.folder / "paper", output)
  before = {path: path.read_bytes() for path in output.iterdir() if path.is_file()}
  monkeypatch.setattr("os.replace", fail)
  found = toys.run(*toys.flags, "--set=seed=1", f"--output={output}")
  assert (found.code, found.out) == (1, "")
  assert found.err.splitlines()[-1] == "cwf_jax: no space is left on the disk"
  assert {path: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_a_second_run_into_the_same_folder_is_refused(toys, cli):
  output = toys.folder / "held"
  with holding(output, RuntimeError()):
    found = cli(*toys.flags, toys.data, "--systems=raw", f"--output={output}")
  assert found.code == 2
  assert f"cwf_jax: {output} is being written by another run; wait for its end, or give another --output" in found.err


def _stop(*_, **__):
  raise KeyboardInterrupt


def test_absent_distractors_and_whitening_make_rows_not_run(toys, tmp_path, tiny_checkpoint, cli, monkeypatch):
  """A set whose name is known, but whose partner and distractors are not there."""
  from cwf_jax.datasets import catalogue

  known = catalogue.KnownSet("mine", "Mine", "oxford", None, whitened_by="other", distractors="more", with_distractors="Mine+")
  monkeypatch.setattr(catalogue, "KNOWN", {**catalogue.KNOWN, "mine": known})
  shutil.copytree(toys.folder / "paper" / "data" / "toy_oxford", tmp_path / "data" / "mine")
  flags = ("--mode=evaluate", "--dataset=mine", f"--weights={tiny_checkpoint}", "--image_size=64")
  found = cli(*flags, f"--data_dir={tmp_path / 'data'}", "--systems=raw", f"--output={tmp_path / 'out'}")
  assert found.code == 0, found.err
  where = tmp_path / "data"
  assert f"raw+pca@tiny  not run: other is not in {where}, to whiten by" in found.out
  assert f"Mine+: not run, more is not in {where}" in found.out
  assert "| Mine+, measured |" in (tmp_path / "out" / "report.md").read_text()


def test_with_distractors_a_second_table_column_is_measured(toys, tmp_path, tiny_checkpoint, cli, monkeypatch):
  from cwf_jax.datasets import catalogue

  known = catalogue.KnownSet("mine", "Mine", "oxford", None, distractors="more", with_distractors="Mine+")
  more = catalogue.KnownSet("more", "More", "none", None)
  monkeypatch.setattr(catalogue, "KNOWN", {**catalogue.KNOWN, "mine": known, "more": more})
  data = toys.folder / "paper" / "data"
  shutil.copytree(data / "toy_oxford", tmp_path / "data" / "mine")
  (tmp_path / "data/more/images").mkdir(parents=True)
  for path in sorted((data / "toy_paris/images").iterdir())[:8]:
    shutil.copy(path, tmp_path / "data/more/images")
  (tmp_path / "data/more/images/damaged.jpg").write_bytes(path.read_bytes()[:500])
  flags = ("--mode=evaluate", "--dataset=mine", f"--weights={tiny_checkpoint}", "--image_size=64")
  found = cli(
    *flags, f"--data_dir={tmp_path / 'data'}", "--systems=raw,mac,ona,fixed", "--whitening=none", f"--output={tmp_path / 'out'}"
  )  # fmt: skip
  assert found.code == 0, found.err
  results = json.loads((tmp_path / "out" / "results.json").read_text())
  larger = results["with_distractors"]["mine+"]["systems"]
  assert larger["ona@tiny"]["reason"] == "the distractors' vectors of all classes are not kept"
  assert found.err.splitlines()[-1].startswith("left out: damaged.jpg: ")
  for name in ("raw@tiny", "mac@tiny", "fixed@tiny"):
    assert larger[name]["unreadable"] == ["damaged.jpg"]
    alone = results["systems"][name]["per_query"]
    assert all(value <= alone[query] for query, value in larger[name]["per_query"].items())
  assert (tmp_path / "out" / "per_query_mine+.csv").exists()
  found = cli(
    *flags, f"--data_dir={tmp_path / 'data'}", "--systems=raw", "--whitening=none", "--distractors=none",
    f"--output={tmp_path / 'out'}",
  )  # fmt: skip
  assert found.code == 0 and sorted(path.name for path in (tmp_path / "out").glob("*.csv")) == ["per_query.csv"]


def test_the_evaluated_set_whitens_itself_only_by_name(toys, cli, tmp_path, monkeypatch):
  see = passes.see
  monkeypatch.setattr(passes, "see", _stop)
  images = toys.folder / "paper" / "data" / "toy_oxford" / "images"
  flags = (*toys.flags, toys.data, "--systems=raw", f"--output={toys.folder / 'paper'}")
  found = cli(*flags, f"--whitening={images}")
  count = len(list(images.iterdir()))
  assert found.code == 2 and found.err.endswith(
    f"are those of the evaluated set itself ({count} of {count}); "
    "say --whitening=toy_oxford to whiten by that set all the same\n"
  )
  shutil.copytree(images, tmp_path / "copy")
  with tarfile.open(tmp_path / "all.tar", "w") as tar:
    tar.add(images, "")
  for name in ("copy", "all.tar"):
    found = cli(*flags, f"--whitening={tmp_path / name}")
    assert found.code == 2 and "are those of the evaluated set itself" in found.err
  for path in sorted((tmp_path / "copy").iterdir())[2:]:
    path.unlink()
  others = sorted((toys.folder / "paper/data/toy_paris/images").iterdir())
  for path in others[:6]:
    shutil.copy(path, tmp_path / "copy" / f"other_{path.name}")
  with monkeypatch.context() as patch:
    patch.setattr(passes, "see", see)
    found = cli(*flags[:-1], f"--output={tmp_path / 'out'}", f"--whitening={tmp_path / 'copy'}")
  assert found.code == 0, found.err
  remark = "2 of the 8 images to whiten by are in the evaluated set, too: "
  assert remark in found.err and f"| remarks | {remark}" in (tmp_path / "out/report.md").read_text()
  assert cli(*flags, "--whitening=toy_oxford").code == 0
  assert "of toy_oxford, sha256 " in toys.report() and ": the evaluated set itself, as asked for |" in toys.report()
  assert toys.run(*toys.flags, f"--output={toys.folder / 'paper'}").code == 0


def test_a_known_set_to_whiten_by_is_checked(toys, tmp_path, tiny_checkpoint, cli, monkeypatch):
  from cwf_jax.datasets import catalogue

  partner = catalogue.KnownSet("partner", "Partner", "oxford", 4, bad_images=frozenset(("broken_1",)))
  others = {"whitened_by": "partner", "distractors": "more", "with_distractors": "Mine+"}
  known = catalogue.KnownSet("mine", "Mine", "oxford", None, **others)
  more = catalogue.KnownSet("more", "More", "none", 5)
  monkeypatch.setattr(catalogue, "KNOWN", {**catalogue.KNOWN, "mine": known, "partner": partner, "more": more})
  shutil.copytree(toys.folder / "paper" / "data" / "toy_oxford", tmp_path / "data" / "mine")
  for name, files in (("partner", ("broken_1", "a", "b")), ("more", ("a",))):
    (tmp_path / f"data/{name}/images").mkdir(parents=True)
    for file in files:
      shutil.copy(next((tmp_path / "data/mine/images").iterdir()), tmp_path / f"data/{name}/images/{file}.jpg")
  flags = ("--mode=evaluate", "--dataset=mine", f"--data_dir={tmp_path / 'data'}", "--systems=raw", "--image_size=64")
  flags = (*flags, f"--weights={tiny_checkpoint}")
  found = cli(*flags, f"--output={tmp_path / 'out'}")
  assert found.code == 2
  assert "1 file is a known corrupted one of Partner" in found.err
  assert "Partner has 4 images; found 2, 2 too few" in found.err
  found = cli(*flags, f"--output={tmp_path / 'out'}", "--whitening=none")
  assert found.code == 0 and "Mine+: not run, More has 5 images; found 1, 4 too few" in found.out


@pytest.mark.parametrize(
  "stray",
  [
    *("toy_oxford/images/mine.jpg", "toy_paris/images/distractor_999.jpg", "toy_oxford/groundtruth/mine_1_query.txt"),
    *("toy_paris/images/deeper/mine.jpg", "toy_paris/images/astronaut_000.jpg", "toy_oxford/images/new\nline\x1b.jpg"),
  ],
)
def test_other_files_among_the_toy_pictures_are_refused(refused, tmp_path, tiny_checkpoint, stray):
  path = tmp_path / "data" / stray
  path.parent.mkdir(parents=True)
  path.write_bytes(b"mine")
  (tmp_path / "data/toy_oxford/images").mkdir(parents=True, exist_ok=True)
  for name in ("coffee_003.jpg", ".left.tmp"):  # of a run that was killed
    (tmp_path / "data/toy_oxford/images" / name).touch()
  line = refused("--mode=evaluate", "--dataset=toy_oxford", f"--weights={tiny_checkpoint}", f"--output={tmp_path}")
  said = "/".join(stray.split("/")[:3]).encode("unicode_escape").decode()
  told = f"other files lie among the toy pictures and would be searched, too: {tmp_path / 'data'}/{said}; remove them"
  assert line == f"cwf_jax: {told}"
  assert len([path for path in (tmp_path / "data").rglob("*") if path.is_file()]) == 3


def test_of_many_other_files_the_first_are_told(refused, tmp_path, tiny_checkpoint):
  images = tmp_path / "data/toy_paris/images"
  images.mkdir(parents=True)
  for number in range(5):
    (images / f"mine_{number}.jpg").touch()
  line = refused("--mode=evaluate", "--dataset=toy_oxford", f"--weights={tiny_checkpoint}", f"--output={tmp_path}")
  assert line.endswith(f": {', '.join(str(images / f'mine_{number}.jpg') for number in range(3))} and more; remove them")
