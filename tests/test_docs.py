"""The examples in the docstrings run, the docstrings say what they have to, and pdoc makes whole pages of them."""

import ast
import doctest
import html
import importlib
import inspect
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

ROOMS = runpy.run_path(ROOT / "docs" / "write_pages.py")["ROOMS"]

PARTS = {"index": ("__init__", "store"), "indexing": ("__init__", "build")}
"""Of these rooms only so much is public."""


def _list_modules() -> dict[str, Path]:
  found = {}
  for room in ROOMS:
    for path in sorted([*ROOT.glob(f"cwf_jax/{room}.py"), *ROOT.glob(f"cwf_jax/{room}/*.py")]):
      if path.stem in PARTS.get(room, (path.stem,)):
        found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
  return found


MODULES = _list_modules()


def _parse(module: str) -> ast.Module:
  return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _list_public(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
  """Functions, classes and methods that a module or class defines, without those of a leading underscore."""
  for child in node.body:
    if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
      yield prefix + child.name, child
      if isinstance(child, ast.ClassDef):
        yield from _list_public(child, f"{child.name}.")


def _list_parameters(function: ast.FunctionDef) -> list[str]:
  arguments = function.args
  return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs) if one.arg not in ("self", "cls")]


def _read_section(node: ast.FunctionDef, title: str) -> set[str]:
  """The names that a section of a Google-style docstring lists."""
  found = re.search(rf"^{title}:\n((?:\n|  .*(?:\n|\Z))+)", ast.get_docstring(node) or "", re.MULTILINE)
  return set(re.findall(r"^  (\w+):", found[1], re.MULTILINE)) if found else set()


def _list_raised(function: ast.FunctionDef, module: object) -> Iterator[type[Exception]]:
  """The classes of the errors that a function raises itself, not in a function inside it."""
  pending = list(function.body)
  while pending:
    node = pending.pop()
    if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
      continue
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
      yield eval(ast.unparse(node.exc.func), vars(module))
    pending.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name):
  tree = _parse(name)
  assert ast.get_docstring(tree), f"{name} has no docstring"
  module = importlib.import_module(name)
  # a method without one may have that of the method which it overrides
  told = {public: ast.get_docstring(node) or inspect.getdoc(attrgetter(public)(module)) for public, node in _list_public(tree)}
  missing = [public for public, text in told.items() if not text]
  assert not missing, f"without a docstring in {name}: {', '.join(missing)}"


@pytest.mark.parametrize("name", MODULES)
def test_parameters_are_described_under_their_own_names(name):
  for public, node in _list_public(_parse(name)):
    if isinstance(node, ast.ClassDef):
      continue
    described, parameters = _read_section(node, "Args"), _list_parameters(node)
    assert described <= set(parameters), f"{name}.{public} describes what it does not take: {described - set(parameters)}"
    if name in ("cwf_jax.encoder", "cwf_jax.load") or name.startswith("cwf_jax.ops."):
      missing = set(parameters) - described if len(parameters) > 1 else set()
      assert not missing, f"{name}.{public} does not describe {', '.join(sorted(missing))}"


@pytest.mark.parametrize("name", MODULES)
def test_a_value_error_that_is_raised_is_told(name):
  module = importlib.import_module(name)
  for public, node in _list_public(_parse(name)):
    if isinstance(node, ast.FunctionDef):
      told = _read_section(node, "Raises")
      for error in _list_raised(node, module):
        known = told & {base.__name__ for base in error.__mro__}
        assert known or not issubclass(error, ValueError), f"{name}.{public} raises {error.__name__}: say so in Raises"


WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8")]


def _find_examples(module: object) -> list[doctest.DocTest]:
  """The examples of a module and of what it defines; `doctest` by itself passes over functions with decorators."""
  finder = doctest.DocTestFinder(recurse=False)
  found = finder.find(module, module.__name__)
  finder = doctest.DocTestFinder()
  for name, value in vars(module).items():
    if callable(value) and getattr(value, "__module__", None) == module.__name__ and value.__name__ == name:
      found += finder.find(value, f"{module.__name__}.{name}", module=False, globs=vars(module))
  return [test for test in found if test.examples]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_run(name):
  module, printed = importlib.import_module(name), []
  examples = _find_examples(module)
  tree = _parse(name)
  written = [node for node in (tree, *dict(_list_public(tree)).values()) if ">>> " in (ast.get_docstring(node) or "")]
  assert len(examples) == len(written), "some are not found"
  with np.printoptions(precision=3, suppress=True):  # as the docstring of `ops` says
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples:
      runner.run(test, out=printed.append)
  assert runner.summarize(verbose=False).failed == 0, "".join(printed)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("cwf_jax.ops.") and name != "cwf_jax.ops.axes"])
def test_every_function_of_the_mathematics_has_an_example(name):
  functions = {node.name: ast.get_docstring(node) for node in _parse(name).body if isinstance(node, ast.FunctionDef)}
  missing = [function for function, text in functions.items() if not function.startswith("_") and ">>> " not in (text or "")]
  assert not missing


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
  """The pages that `make docs` makes, by their path, in a folder of the test's own."""
  pytest.importorskip("pdoc", reason="pdoc, which makes the pages, comes with the extra docs")
  folder = tmp_path_factory.mktemp("api")
  environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
  made = subprocess.run(
    ["make", "pages", f"RUN={sys.executable}", f"API={folder}"], cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert made.returncode == 0, made.stderr
  return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}


def test_every_module_has_a_page(pages):
  expected = {f"{name.replace('.', '/')}.html" for name in ("index", "cwf_jax", *MODULES)}
  assert set(pages) == expected


def test_the_names_of_the_face_show_with_their_docstrings(pages):
  import cwf_jax

  sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', pages["cwf_jax.html"], re.DOTALL))
  assert list(sections) == cwf_jax.__all__
  for name in set(sections) - {"__version__"}:
    first = inspect.getdoc(getattr(cwf_jax, name)).split("\n")[0]
    assert re.sub(r"\W+", " ", first) in re.sub(r"\W+", " ", _strip_tags(sections[name])), name
  assert 'id="Encoder.__call__"' in sections["Encoder"]


def _strip_tags(page: str) -> str:
  return html.unescape(re.sub(r"<[^>]*>", "", page))


TAGS = {"a", "blockquote", "code", "div", "em", "h6", "li", "p", "pre", "span", "strong", "ul"}
TAGS |= {"table", "tbody", "td", "th", "thead", "tr"}
"""What our docstrings become; another one is text that was taken for markup."""


def test_docstrings_become_what_they_mean(pages):
  for name, page in pages.items():
    for text in re.findall(r'<div class="docstring">(.*?)</div>\n', page, re.DOTALL):
      assert set(re.findall(r"<(\w+)", text)) <= TAGS, f"{name}: {text}"
      plain = _strip_tags(re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL))
      stray = re.search(r"`|>>>|\*|^ *(Args|Arguments|Raises|Returns|Example):.*\S", plain, re.MULTILINE)
      assert not stray or stray[0].rstrip().endswith(":"), f"{name}: {stray[0]!r} in {plain}"


def test_code_in_a_module_docstring_is_code():
  for name in MODULES:
    text = ast.get_docstring(_parse(name), clean=False)
    assert not re.search(r"^ {1,3}\S", text, re.MULTILINE), f"{name}: Markdown takes code by four spaces"


def test_signatures_read_as_in_the_source(pages):
  signatures = _strip_tags("".join(re.findall(r'<div class="attr function">(.*?)</div>', "".join(pages.values()), re.DOTALL)))
  assert "features: Float[Array, 'b i j k']," in signatures and "images: Real[Array | ndarray, 'b h w 3']," in signatures
  assert not re.findall(r".*(?:jaxtyping|jaxlib|Union\[(?:Float|Int|UInt8|Bool)).*", signatures)
