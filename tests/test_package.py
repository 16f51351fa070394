"""The wheel: what it holds, what it needs, and that it works where the checkout is not."""

import ast
import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LARGEST = 13_000_000  # bytes

if not (ROOT / ".git").exists():
  pytest.skip("git lists the files of the package, and this is no checkout", allow_module_level=True)

OPTIONAL = {"demo", "gdown", "heif"}
"""The extras whose packages the product imports where they are there."""

_UNREACHABLE = re.compile(r"connection broken by|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError")


def _list_files() -> list[str]:
  """The files of the checkout: those that git tracks, and new ones that it does not ignore."""
  command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
  listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
  return sorted({name for name in listed if name and (ROOT / name).is_file()})


FILES = _list_files()


def _list_modules() -> list[str]:
  names = [name.removesuffix(".py").replace("/", ".") for name in FILES if re.match(r"cwf_jax/.*\.py$", name)]
  return [name.removesuffix(".__init__") for name in names]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  """Of a process that knows nothing of the checkout or of the tests' own cache."""
  kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "JAX_"))}
  return {**kept, "CWF_JAX_HOME": str(tmp_path_factory.mktemp("home")), "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, environment):
  """The wheel, built from a copy, so that nothing is left in the checkout; what builds it is in the extra test."""
  source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
  for name in FILES:
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, source / name)
  command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
  done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stdout + done.stderr
  (built,) = folder.iterdir()
  return built


@pytest.fixture(scope="module")
def contents(wheel):
  """The wheel's files, without its own metadata; and those of the metadata, by their last names."""
  with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
    told = {name.rsplit("/", 1)[-1]: archive.read(name).decode() for name in names if ".dist-info/" in name}
  return [name for name in names if ".dist-info/" not in name], told


@pytest.fixture(scope="module")
def metadata(contents):
  return email.message_from_string(contents[1]["METADATA"])


def test_the_wheel_holds_the_package_and_nothing_else(contents):
  assert sorted(contents[0]) == [name for name in FILES if name.startswith("cwf_jax/")]
  assert {"cwf_jax/py.typed", "cwf_jax/models/imagenet_classes.txt"} <= set(contents[0])


def test_the_wheel_says_what_it_is(wheel, contents, metadata):
  assert re.search(r"^\[console_scripts\]\ncwf-jax = cwf_jax\.cli\.entry:main$", contents[1]["entry_points.txt"], re.MULTILINE)
  assert "Apache License" in contents[1]["LICENSE"]
  assert (metadata["License-Expression"] or metadata["License"]) == "Apache-2.0"
  assert metadata["Requires-Python"] == ">=3.11"
  assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
  assert wheel.stat().st_size < LARGEST


def _normalize(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_that_is_imported_is_declared(metadata):
  declared = set()
  for line in metadata.get_all("Requires-Dist"):
    extra = re.search(r'extra == "(\w+)"', line)
    if extra is None or extra[1] in OPTIONAL:
      declared.add(_normalize(re.match(r"[\w.-]+", line)[0]))
  providers, undeclared = packages_distributions(), []
  for path in (ROOT / name for name in FILES if name.startswith("cwf_jax/") and name.endswith(".py")):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
      names += [node.module] if isinstance(node, ast.ImportFrom) else []
      tops = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"cwf_jax"}
      for top in sorted(tops):
        if declared.isdisjoint(map(_normalize, providers.get(top, [top]))):
          undeclared.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {top}")
  assert not undeclared, "\n".join(undeclared)


@pytest.fixture(scope="module")
def installed(wheel, environment, tmp_path_factory):
  """Runs a program of a fresh environment that holds the wheel and what it depends on, away from the checkout."""
  away = tmp_path_factory.mktemp("away")

  def run(program, *arguments):
    command = [str(away / "venv" / "bin" / program), *map(str, arguments)]
    return subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, timeout=600)

  subprocess.run([sys.executable, "-m", "venv", str(away / "venv")], cwd=away, env=environment, check=True, timeout=120)
  done = run("python", "-m", "pip", "install", "--no-compile", str(wheel))
  if done.returncode and _UNREACHABLE.search(done.stderr):
    pytest.skip("the package registry, from which the wheel's dependencies are installed, cannot be reached")
  assert done.returncode == 0, done.stdout + done.stderr
  yield run
  shutil.rmtree(away)  # a gigabyte


@pytest.fixture(scope="module")
def unpacked(wheel, environment, tmp_path_factory):
  """Runs code with the wheel's files, away from the checkout, among the packages that the tests have: fast, and offline."""
  away = tmp_path_factory.mktemp("unpacked")
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(away / "files")

  def run(code):
    command = [sys.executable, "-c", code]
    given = environment | {"PYTHONPATH": str(away / "files")}
    return subprocess.run(command, cwd=away, env=given, capture_output=True, text=True, timeout=600)

  return away / "files", run


def test_an_unpacked_wheel_imports_itself_and_lazily(unpacked):
  folder, run = unpacked
  done = run("import sys, cwf_jax; print(cwf_jax.__file__, 'jax' in sys.modules, sep='\\n')")
  assert done.stdout.splitlines() == [str(folder / "cwf_jax" / "__init__.py"), "False"], done.stderr


_EXTRAS = ("skimage", "sklearn", "pillow_heif", "gdown", "faiss", "flatbuffers", "hypothesis", "beartype", "keras", "torch",
           "pdoc")  # fmt: skip


def test_every_module_of_an_unpacked_wheel_can_be_imported_without_the_extras(unpacked):
  hidden = f"import sys; sys.modules |= dict.fromkeys({_EXTRAS})"
  done = unpacked[1]("\n".join([hidden, *(f"import {name}" for name in _list_modules())]))
  assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_an_installed_wheel_imports_itself_and_lazily(installed):
  said = "import sys, cwf_jax; print(cwf_jax.__file__, sys.prefix, 'jax' in sys.modules, sep='\\n')"
  file, prefix, imports_jax = installed("python", "-c", said).stdout.splitlines()
  assert Path(file).is_relative_to(prefix) and not Path(file).is_relative_to(ROOT)
  assert Path(prefix).name == "venv" and imports_jax == "False"


@pytest.mark.long
def test_every_module_can_be_imported_without_the_extras(installed):
  done = installed("python", "-c", "\n".join(f"import {name}" for name in _list_modules()))
  assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_an_installed_command_indexes_and_searches(installed, photographs):
  from cwf_jax.version import __version__

  assert __version__ in installed("cwf-jax", "--version").stdout
  done = installed("cwf-jax", "--mode=index", f"--images={photographs}", "--index=my.index", "--image_size=64")
  assert done.returncode == 0, done.stderr
  assert done.stdout == "12 indexed, 0 unchanged, 0 moved, 0 removed, 0 skipped; 12 images in my.index\n"
  done = installed("cwf-jax", "--mode=search", "--index=my.index", f"--query={photographs}", "--format=json")
  assert done.returncode == 0, done.stderr
  answers = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(answers) == 12
  for answer in answers:
    first = answer["results"][0]
    assert first["id"] == answer["query"] and first["score"] == pytest.approx(1, abs=1e-5)  # float32 sums of 128 products
