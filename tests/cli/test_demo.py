"""`--mode=demo` on small images: twice, interrupted before, and refused."""

import importlib.util

import pytest


@pytest.fixture(scope="module")
def output(tmp_path_factory):
  return tmp_path_factory.mktemp("demo") / "output"


def _run(cli, output):
  return cli("--mode=demo", f"--output={output}", "--image_size=64", "--weights=random:vgg16_cam_quarter")


def test_it_indexes_searches_and_counts(cli, output):
  found = _run(cli, output)
  assert found.code == 0, found.err
  lines = found.out.splitlines()
  assert len(lines) == 1 + 35 + 2
  right, total = (int(word) for word in lines[-2].split()[::2][:2])
  assert total == 35 and 10 < right <= 35
  assert sum("<- not its photograph" in line for line in lines) == total - right
  assert lines[-1].startswith("search it yourself: python main.py --mode=search --index=")
  assert "17 photographs in" in found.err and "the weights are random" in found.err


def test_a_second_run_is_up_to_date_and_finds_the_same(cli, output):
  first = _run(cli, output)
  files = {path: path.stat().st_mtime_ns for path in output.rglob("*.*g") if path.is_file()}
  second = _run(cli, output)
  assert second.code == 0 and second.out == first.out
  assert files == {path: path.stat().st_mtime_ns for path in output.rglob("*.*g") if path.is_file()}
  assert "images a second" not in second.err  # nothing was encoded


def test_the_command_that_it_ends_with_works(cli, output):
  import shlex

  command = shlex.split(_run(cli, output).out.splitlines()[-1].split("main.py ")[1])
  found = cli(*command)
  assert found.code == 0 and "rank   score" in found.out


def test_flags_that_disagree_with_its_index_are_refused(cli, refused, output):
  _run(cli, output)
  line = refused("--mode=demo", f"--output={output}", "--image_size=96")
  assert "--image_size=96, but its own is 64" in line and "name a new --output" in line


def test_a_folder_that_is_not_the_demo_s_is_left_alone(refused, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  assert "holds files that are not the demo's" in refused("--mode=demo", f"--output={tmp_path}")
  assert "is a file, not a folder" in refused("--mode=demo", f"--output={tmp_path / 'mine.txt'}")
  assert "leave --index out" in refused("--mode=demo", f"--output={tmp_path / 'new'}", f"--index={tmp_path / 'i'}")
  assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missing_extra_is_one_line(refused, monkeypatch, tmp_path):
  found = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else found(name, *rest))
  line = refused("--mode=demo", f"--output={tmp_path / 'new'}")
  assert "sklearn" in line and "pip install 'cwf_jax[demo]'" in line
  assert not (tmp_path / "new").exists()


def test_a_demo_that_was_stopped_early_goes_on(cli, monkeypatch, tmp_path):
  def stop(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr("cwf_jax.datasets.photographs.write_views", stop)
    assert _run(cli, tmp_path / "output").code == 130
  assert _run(cli, tmp_path / "output").code == 0
