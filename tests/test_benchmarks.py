"""Every benchmark runs at its `--smoke` size, and its page names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


SLOW = {"contact_sheet", "indexing_memory", "protocol_rows", "training"}
"""They take seconds at their tiny sizes, too."""


@pytest.mark.parametrize(
  "script", [pytest.param(path, id=path.stem, marks=[pytest.mark.long] if path.stem in SLOW else []) for path in SCRIPTS]
)
def test_a_benchmark_runs_at_a_tiny_size(script):
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, script, "--smoke"], env=environment, capture_output=True, text=True, timeout=300, check=False
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_page_names_every_benchmark(script):
  assert script.name in (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
