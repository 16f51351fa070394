"""docs/method.md: citations of it resolve, what it names exists, and its numbers are those that the package prints."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from cwf_jax.reporting.published import TABLES
from cwf_jax.systems.settings import list_settings
from cwf_jax.systems.system import SYSTEMS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/method.md").read_text(encoding="utf-8")

EQUATIONS = dict(re.findall(r'^<a id="eq-(\d)"></a>\*\*Eq\. \1\*\*(.+(?:\n.+)*)', PAGE, re.MULTILINE))
ROWS = dict(re.findall(r"^\| (\d+b?\.\d+) (\|.*\|)$", PAGE, re.MULTILINE))
HEADINGS = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
CITABLE = {heading.split()[0].rstrip(".") for heading in HEADINGS if heading[0].isdigit()}
CITABLE |= ROWS.keys() | {f"eq. {number}" for number in EQUATIONS}

FOLDERS = ("cwf_jax", "tests", "benchmarks", "examples", "weights", "docs")
SOURCES = sorted(
  path
  for path in (*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
  if path.suffix in (".py", ".md", ".cfg", ".toml") and path != Path(__file__)
)

NUMBER = r"\d+b?(?:\.\d+)?"
CITATION = re.compile(rf"(?:METHOD|Jimenez et al\. 2017,)[\s#]+(eq\. )?({NUMBER}(?:(?:,| and| to)[\s#]+{NUMBER})*)(?!\w|\.\d)")
"""METHOD 2.5, METHOD 7.2 and 7.8, METHOD 2.1 to 2.3, METHOD eq. 1 to 4; a line may break inside."""


def list_citations(text: str) -> list[tuple[str, ...]]:
  """What each citation of a text refers to, the ends of ranges for ranges: ("eq. 1", "eq. 4"), ("7.2", "7.8")."""
  return [tuple((match[1] or "") + number for number in re.findall(NUMBER, match[2])) for match in CITATION.finditer(text)]


def import_name(name: str) -> object:
  """A module, or what is in one."""
  parts = name.split(".")
  for count in range(len(parts), 0, -1):
    try:
      result = importlib.import_module(".".join(parts[:count]))
    except ModuleNotFoundError:
      continue
    for part in parts[count:]:
      result = getattr(result, part)
    return result
  raise ModuleNotFoundError(name)


def test_the_form_of_a_citation():
  text = "(METHOD 2.5). METHOD 2b. METHOD\n  # 7.5 to 7.7,\n7.10 and 7.18. METHOD eq. 1 to 4; Jimenez et al. 2017, eq. 3"
  assert list_citations(text) == [("2.5",), ("2b",), ("7.5", "7.7", "7.10", "7.18"), ("eq. 1", "eq. 4"), ("eq. 3",)]


def test_every_citation_resolves():
  problems, count = [], 0
  for path in SOURCES:
    text = path.read_text(encoding="utf-8")
    citations = list_citations(text)
    count += len(citations)
    problems += [f"{path}: there is no {one}" for ones in citations for one in ones if one not in CITABLE]
    for match in re.finditer(r"\bMETHOD\b", text):
      if not CITATION.match(text, match.start()):
        problems.append(f"{path}: METHOD without a number: {text[match.start() :][:40]!r}")
    if path.suffix == ".py":
      bare = re.findall(r"(?<!\d{4}, )[Ss]ections? \d.{,20}|\(rows? \d.{,20}|# rows? \d.{,20}", text)
      problems += [f"{path}: a citation without METHOD: {one!r}" for one in bare]
  assert not problems, "\n".join(problems)
  assert count > 100


def test_no_file_refers_to_a_document_that_is_not_here():
  problems = []
  for path in SOURCES:
    for name in re.findall(r"(?:\b(?:docs|weights|benchmarks)/\w+|\b[A-Z]{3,})\.md\b", path.read_text(encoding="utf-8")):
      problems += [] if (ROOT / name).exists() else [f"{path} refers to {name}"]
  assert not problems, "\n".join(problems)


def test_links_to_a_part_of_it_lead_there():
  slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADINGS}
  anchors = slugs | set(re.findall(r'<a id="([^"]+)"', PAGE))
  documents = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.suffix == ".md")
  links = re.findall(r"\]\(#([^)]+)\)", PAGE) + re.findall(r"method\.md#([^)]+)\)", documents)
  assert links and set(links) <= anchors
  for name, file in re.findall(r"\[`([\w.]+)`\]\(\.\./(.+?)\.py\)", PAGE):
    assert name.startswith(file.replace("/", "."))


def test_the_code_that_it_names_exists():
  names = set(re.findall(r"`(cwf_jax[\w.]*)`", PAGE))
  assert len(names) > 40
  for name in names:
    import_name(name)
  for path in re.findall(r"`((?:weights|tests)/\w+\.py)`", PAGE):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_an_equation_names_its_function_and_the_function_names_the_equation(number):
  (name,) = re.findall(r"In code: `(cwf_jax[\w.]+)`", EQUATIONS[number])
  assert f"eq. {number}" in list_citations(inspect.getdoc(import_name(name)))[0]
  table = PAGE.split("## From the paper to the code")[1].split("\n## ")[0]
  assert re.search(rf"^\| eq\. {number},.*\(#eq-{number}\) \| \[`{name}`\]", table, re.MULTILINE)


def test_every_system_has_a_row_that_names_its_code():
  rows = {number: row.split(" | ")[-1] for number, row in ROWS.items() if number.startswith("2b")}
  assert all("`cwf_jax" in code or "not in the package" in code for code in rows.values())
  names = [name for code in rows.values() for name in re.findall(r"\(`(\w+)`\)", code)]
  assert sorted(names) == sorted(name for name, system in SYSTEMS.items() if system.classes is None)


def test_every_difference_names_its_settings():
  rows = {number: row.split(" | ")[-1] for number, row in ROWS.items() if number.startswith("7.")}
  assert list(rows) == [f"7.{number}" for number in range(20)]
  named = {(number, name) for number, code in rows.items() for name in re.findall(r"`(\w+)`", code)}
  cited = {(one, field.name) for field in list_settings() for one in field.metadata["row"].split(", ") if one}
  assert named == {(f"7.{number}", name) for number, name in cited if number.isdigit()}
  assert {number for number, _ in cited if not number.isdigit()} <= CITABLE


def test_the_published_numbers_are_those_of_its_tables():
  columns = {"Oxf5k": "oxford5k", "Par6k": "paris6k", "Oxf105k": "oxford105k", "Par106k": "paris106k"}
  columns |= {"Holidays": "holidays", "UKBench": "ukbench"}
  tables = {}
  for lines in re.findall(r"^\| row \|.*\n(?:\|.*\n)+", PAGE, re.MULTILINE):
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines())
    for name, _, dimensions, *numbers in rows:
      found = zip(header[3:], numbers, strict=True)
      tables[name.strip("`")] = (dimensions, {columns[column]: number for column, number in found if number != "-"})
  printed = {}
  for line in (line for table in TABLES for line in table.lines if line.published):
    dimensions, numbers = tables[line.system]
    assert line.dimensions == dimensions and line.published.items() <= numbers.items(), line.system
    printed.setdefault(line.system, {}).update(line.published)
  assert printed == {name: numbers for name, (_, numbers) in tables.items()}
