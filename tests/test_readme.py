"""The README's programs run as they stand."""

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_programs_run(tmp_path, monkeypatch, capsys):
  pytest.importorskip("skimage", reason="the README's photographs come with scikit-image")
  from cwf_jax.systems import system as systems
  from cwf_jax.toy.photographs import write_photographs

  monkeypatch.chdir(tmp_path)
  monkeypatch.setitem(systems.SYSTEMS, "mean", None)  # a program adds it; it is gone after the test
  names = write_photographs("photographs")
  for number, path in enumerate(sorted(Path("photographs").iterdir())):  # in two shapes, so that little is compiled
    if path.name != "coffee.png":
      with Image.open(path) as image:
        image.resize([(600, 400), (400, 600)][number % 2]).save(path)
  blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
  assert len(blocks) == 7
  shared = {}
  for block in blocks:
    exec(compile(block, "README.md", "exec"), shared)
  printed = capsys.readouterr().out
  assert f"{len(names)} photographs indexed, 0 skipped" in printed
  assert "1 coffee.png" in printed
  assert (tmp_path / "answers.png").stat().st_size > 10_000
  assert printed.count("(2, 672)") == 2 and f"({len(names)}, 672) 0" in printed and "(4, 672)" in printed
  assert systems.SYSTEMS["mean"].title == "mean pooling"
  loss = float(re.search(r"loss (\S+)", printed)[1])
  assert 0 < loss < 2  # that of chance is log 2


def test_every_mode_is_in_the_table():
  from cwf_jax.cli.call import MODES

  listed = re.findall(r"^\| `(\w+)` \|", README.split("## Modes")[1].split("## The library")[0], re.MULTILINE)
  assert set(listed) == set(MODES)


@pytest.mark.parametrize(
  "name", ["README.md", "BUILD.md", "weights/README.md", "benchmarks/README.md", "docs/method.md", "docs/reasons.md"]
)
def test_the_files_that_a_page_names_are_there(name):
  page = ROOT / name
  for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
    assert (page.parent / link).exists(), f"{name} links to {link}"
  for script in re.findall(r"benchmarks/\w+\.py", page.read_text(encoding="utf-8")):
    assert (ROOT / script).exists(), f"{name} names {script}"


def test_the_commands_are_targets_of_the_makefile():
  targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
  for name in ("README.md", "BUILD.md"):
    named = set(re.findall(r"^make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets
