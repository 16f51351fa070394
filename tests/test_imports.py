"""The house's one list of who may import whom, held by reading the source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cwf_jax"

ENCODED = {"encoder", "load", "ops", "models", "images", "datasets", "index"}
EXTRACTED = {"extraction", "systems", "queries", *ENCODED}
ALLOWED = {
  "version": set(),
  "errors": set(),
  "problems": set(),
  "files": set(),
  "protocol": set(),
  "keys": set(),
  "runtime": set(),
  "ops": set(),
  "metrics": set(),
  "models": set(),
  "images": set(),
  "index": set(),
  "datasets": {"images", "metrics"},
  "toy": {"datasets", "images"},
  "encoder": {"ops", "models"},
  "conversion": {"models"},
  "queries": {"encoder", "images", "ops"},
  "load": {"encoder", "conversion", "models", "ops"},
  "export": ENCODED,
  "systems": {"datasets", "encoder", "images", "ops", "queries"},
  "extraction": EXTRACTED,
  "indexing": EXTRACTED,
  "retrieval": EXTRACTED,
  "training": ENCODED,
  "labelled": {"images", "models", "training"},
  "figures": {"retrieval", *EXTRACTED},
  "evaluation": {"metrics", "retrieval", *EXTRACTED},
  "reporting": {"evaluation", "figures", "metrics", *EXTRACTED},
  "cli": {
    *("conversion", "evaluation", "figures", "indexing", "labelled", "metrics", "reporting", "retrieval", "toy", "training"),
    *EXTRACTED,
  },
}
"""What each folder or module may import besides itself and `BELOW`."""

BELOW = {"errors", "version", "problems", "protocol", "files", "keys", "runtime"}
"""What every module may import."""

_HEAVY = {"lance", "grain", "tensorflow_datasets", "absl"}
WITHOUT = dict.fromkeys(("ops", "models", "encoder", "load", "export", "training"), _HEAVY)
"""Third-party packages that a JAX programmer who wants the encoder need not have."""


def _imports(path: Path) -> set[str]:
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative imports hide where a name comes from"
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def _room(path: Path) -> str:
  return path.relative_to(PACKAGE).with_suffix("").parts[0]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_rooms_below_its_own(path):
  room = _room(path)
  assert room in ALLOWED, f"{room} is not in the list of rooms"
  names = _imports(path)
  rooms = {name.split(".")[1] for name in names if name.startswith("cwf_jax.")}
  assert rooms <= ALLOWED[room] | BELOW | {room}, f"{room} imports upward or sideways"
  assert not {name.split(".")[0] for name in names} & WITHOUT.get(room, set())


def test_no_file_imports_itself_through_others():
  """Imports inside functions count, too: a circle is a circle."""
  names = {".".join(("cwf_jax", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
  graph = {name: _list_modules(path, names) - {name} for name, path in names.items()}
  while free := [name for name, needed in graph.items() if not needed & graph.keys()]:
    for name in free:
      del graph[name]
  assert sorted(graph) == []


def _list_modules(path: Path, known: dict[str, Path]) -> set[str]:
  """The package's modules that a file imports, whole or a name of them."""
  return {found for name in _imports(path) for found in (name, name.rpartition(".")[0]) if found in known}


def test_only_the_command_line_knows_absl():
  users = {_room(path) for path in MODULES if any(name.split(".")[0] == "absl" for name in _imports(path))}
  assert users == {"cli"}


def test_main_imports_only_the_command_line():
  names = _imports(PACKAGE.parent / "main.py")
  assert {name for name in names if name.startswith("cwf_jax")} == {"cwf_jax.cli.entry"}
