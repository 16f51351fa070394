"""The examples run as a user would run them, on a folder and without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


def _run(tmp_path, *arguments):
  command = [sys.executable, str(ROOT / "examples" / "search_a_folder.py"), *map(str, arguments)]
  environment = {**os.environ, "PYTHONWARNINGS": "error", "TMPDIR": str(tmp_path)}
  done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.long
def test_a_folder_is_indexed_searched_and_shown(photographs, tmp_path):
  printed = _run(tmp_path, photographs, tmp_path / "output")
  assert "12 photographs, 12 of them new, 0 skipped" in printed
  assert printed.count("in the box") == 3
  with Image.open(tmp_path / "output" / "answers.png") as sheet:
    assert sheet.width > 600
  assert "12 photographs, 0 of them new" in _run(tmp_path, photographs, tmp_path / "output")


@pytest.mark.long
def test_without_a_folder_it_takes_the_packages_photographs(tmp_path):
  pytest.importorskip("skimage", reason="the example's photographs come with scikit-image")
  printed = _run(tmp_path)
  assert "21 photographs" in printed and "1  " in printed and "astronaut.png" in printed
