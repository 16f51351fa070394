"""Flags: what is read, what is refused and with which words, and the texts of `--help`."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl import flags

from cwf_jax.cli.call import MODES, define_shared
from cwf_jax.version import __version__

ROOT = Path(__file__).parent.parent.parent


ALL = "index, search, info, delete, export, explain, evaluate, train, convert, fetch, demo"


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], f"--mode is missing: one of {ALL}"),
    (["index"], "--mode=index needs --images=PATH"),
    (["images"], "--mode is missing"),
    (["--mode=serch"], f"--mode is one of {ALL}; found 'serch'"),
    (["--mode="], "--mode is one of"),
    (["--mode"], "Missing value for flag --mode"),
    (["--mode=index", "--imagse=x"], "there is no flag --imagse; did you mean --images?"),
    (["--mode=search", "--qery=x"], "there is no flag --qery; did you mean --query?"),
    (["--mode=search", "--zzz"], "there is no flag --zzz (--help shows the flags)"),
    (["--mode=index", "--query=x"], "there is no flag --query"),
    (["--mode=search", "--top=x"], "--top takes a whole number of at least 1; found 'x'"),
    (["--mode=search", "--top=0"], "--top takes a whole number of at least 1; found '0'"),
    (["--mode=search", "--top=1.5"], "--top takes a whole number of at least 1; found '1.5'"),
    (["--mode=search", "--expand=-1"], "--expand takes a whole number of at least 0; found '-1'"),
    (["--mode=search", "--format=xml"], "--format takes one of table, json; found 'xml'"),
    (["--mode=search", "--partial=maybe"], "--partial takes no value, or true or false; found 'maybe'"),
    (["--mode=index", "--image_size=10"], "--image_size takes a whole number of at least 32; found '10'"),
    (["--mode=search", "--index"], "Missing value for flag --index"),
    (["--mode=index", "stray"], "everything is given by flags; found 'stray'"),
    (["--mode=index", "--flagfile=/nope"], "/nope"),
    (["--help=3"], "--help takes no value"),
  ],
)
def test_a_wrong_flag_or_value_is_one_line(refused, arguments, said):
  assert said in refused(*arguments)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_modes(cli, flag):
  found = cli(flag)
  assert (found.code, found.err) == (0, "")
  for name, what in MODES.items():
    assert f"--mode={name}" in found.out and what in found.out


@pytest.mark.parametrize("mode", MODES)
def test_the_help_of_a_mode_shows_its_flags_with_examples(cli, mode):
  found = cli(f"--mode={mode}", "--help")
  assert (found.code, found.err) == (0, "")
  values = flags.FlagValues()
  module = importlib.import_module(f"cwf_jax.cli.{mode}")
  without = getattr(module, "WITHOUT", ())
  module.define_flags(values)
  define_shared(values, without)
  assert not any(f"  --{name}=" in found.out for name in without)
  for name in values:
    assert f"  --{name}" in found.out
  assert f"python main.py --mode={mode}" in found.out
  assert max(map(len, found.out.splitlines())) <= 100
  assert "None" not in found.out


def test_texts_fit_the_terminal(cli):
  assert max(map(len, cli("--help").out.splitlines())) <= 100


@pytest.mark.parametrize("arguments", [["--version"], ["--mode=index", "--version"]])
def test_the_version(cli, arguments):
  assert cli(*arguments) == (0, f"cwf_jax {__version__}\n", "")


def test_help_is_quick_and_imports_nothing_heavy():
  code = (
    "import sys; sys.argv = ['main.py', *sys.argv[1:]]\n"
    "from cwf_jax.cli import entry\n"
    "try: entry.parse(sys.argv)\n"
    "except SystemExit: pass\n"
    "heavy = {'jax', 'numpy', 'PIL', 'lance', 'pyarrow', 'flax', 'grain', 'orbax', 'tensorflow_datasets'} & set(sys.modules)\n"
    "sys.exit(' '.join(sorted(heavy)) or 0)"
  )
  for line in ("--help", "--mode=search --help", "--mode=index --help", "--mode=demo --help", "--top=x"):
    done = subprocess.run([sys.executable, "-c", code, *line.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _seconds(*command):
  took = []
  for _ in range(5):
    start = time.monotonic()
    subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True)
    took.append(time.monotonic() - start)
  return min(took)


def test_help_starts_within_half_a_second_of_python():
  assert _seconds("main.py", "--help") - _seconds("-c", "pass") < 0.5


def test_search_does_not_import_what_only_indexing_and_checkpoints_need():
  code = (
    "import sys\n"
    "import cwf_jax.retrieval.searcher, cwf_jax.cli.search, cwf_jax.cli.encoders, cwf_jax.cli.answers\n"
    "heavy = {'grain', 'tensorflow_datasets', 'tensorflow', 'orbax.checkpoint', 'torch', 'cwf_jax.images.loading',\n"
    "         'cwf_jax.indexing'} & set(sys.modules)\n"
    "sys.exit(' '.join(sorted(heavy)) or 0)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
