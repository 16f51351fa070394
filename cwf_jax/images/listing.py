"""Which images a folder or a list file names, and under which ids.

An image's id is its POSIX path relative to the folder, or to the list's folder. Links are followed for their content and
never change an id; each folder is walked once, however many links lead to it, so a walk always ends.
"""

import collections
import dataclasses
import fnmatch
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from cwf_jax.errors import InputError, compose, printable, reason_of
from cwf_jax.images.decoding import EXTENSIONS

LIST_EXTENSIONS = frozenset((".txt", ".lst", ".list"))
"""The endings of a list file: one path a line, relative to the list's folder; blank lines and lines after # are left out."""

HIDDEN = (
  *(".*", "@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information"),
  *("__MACOSX", "lost+found"),
)
"""Names of files and folders that hold thumbnails, bins or a system's own notes: copies of photographs that nobody chose."""

_HIDDEN = "hidden, thumbnails or bins"
_EXCLUDED = "matching --exclude"
_LINKED = "links to folders that are listed already"
_BROKEN = "links that lead nowhere"

_INDEX = "images.lance"
"""What a folder holds that is an index; it may lie among the photographs."""


class NoImagesError(InputError):
  """There is no such folder or list, or no image in it."""


@dataclasses.dataclass(frozen=True)
class Listing:
  """The images found.

  Attributes:
    root: the absolute folder that the ids are relative to.
    ids: sorted, each once.
    skipped: (name, reason) of what was named or found and has no id.
    unread_folders: prefixes of ids below folders that could not be read; rows of an index there are not treated as gone.
    remarks: one line for each kind of thing that was left out, with its number.
  """

  root: str
  ids: tuple[str, ...]
  skipped: tuple[tuple[str, str], ...] = ()
  unread_folders: tuple[str, ...] = ()
  remarks: tuple[str, ...] = ()

  def path(self, image_id: str) -> str:
    """The absolute path of an image."""
    return os.path.normpath(os.path.join(self.root, image_id))


def list_images(source: str | os.PathLike, exclude: Sequence[str] = (), include_hidden: bool = False) -> Listing:
  """Finds the images of a folder (with all folders below it) or of a list file.

  Args:
    source: the folder, or the list.
    exclude: patterns with `*` and `?` of files and folders to leave out: a pattern matches a name, or a path from the root.
    include_hidden: takes in what `HIDDEN` names; a list's files are taken whatever their names.

  Raises:
    NoImagesError: there is no such path, or it names no image.
    InputError: it is neither a folder nor a list, or cannot be read.
  """
  path = Path(source)
  try:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
      os.scandir(path).close()
  except (FileNotFoundError, NotADirectoryError):
    raise NoImagesError(f"there is no file or folder {printable(path)}") from None
  except (OSError, ValueError) as error:  # a zero byte is a ValueError
    raise InputError(f"{printable(path)[:200]} cannot be read: {reason_of(error)}") from None
  if stat.S_ISDIR(mode):
    listing = _Walk(_absolute(path), exclude, include_hidden).listing()
    wanted = f"no file to take ends in {', '.join(sorted(EXTENSIONS))}"
  elif path.suffix.lower() in LIST_EXTENSIONS:
    listing = _read_list(path, exclude)
    wanted = "it names no file"
  else:
    raise InputError(f"{printable(path)} is neither a folder nor a list of paths (a file that ends in .txt, .lst or .list)")
  if not listing.ids and not listing.skipped:
    raise NoImagesError("; ".join((f"there are no images in {printable(path)}: {wanted}", *listing.remarks)))
  return listing


def is_void(folder: str | os.PathLike) -> bool:
  """Whether a folder is gone, or holds nothing but hidden files and such folders, as where its disk is not mounted."""
  try:
    with os.scandir(folder) as entries:
      return all(matches(entry.name, HIDDEN) or (entry.is_dir() and is_void(entry.path)) for entry in entries)
  except (FileNotFoundError, NotADirectoryError):
    return True
  except OSError:
    return False


def is_list(source: str | os.PathLike) -> bool:
  """Whether the path looks like a folder or a list of images, rather than an image."""
  path = Path(source)
  return path.is_dir() or path.suffix.lower() in LIST_EXTENSIONS


class _Walk:
  """The images of a folder and of all folders below it: first those that lie there, then those that links lead to."""

  def __init__(self, root: str, exclude: Sequence[str], include_hidden: bool):
    self._root, self._exclude, self._include_hidden = root, exclude, include_hidden
    self._ids: list[str] = []
    self._skipped: list[tuple[str, str]] = []
    self._unread: list[str] = []
    self._left_out: dict[str, list[str]] = {_HIDDEN: [], _EXCLUDED: [], _LINKED: [], _BROKEN: []}
    self._other_kinds: collections.Counter[str] = collections.Counter()
    self._folders, self._links = [root], []
    self._walked: set[tuple[int, int]] = set()

  def listing(self) -> Listing:
    while self._folders or self._links:
      if not self._folders:  # in the order of their names, so that the result does not depend on the disk's order
        self._links.sort(reverse=True)
        self._folders.append(self._links.pop())
      self._visit(self._folders.pop())
    return Listing(
      self._root, tuple(sorted(self._ids)), tuple(sorted(self._skipped)), tuple(sorted(self._unread)), self._remarks()
    )

  def _visit(self, folder: str) -> None:
    try:
      status = os.stat(folder)
      if (status.st_dev, status.st_ino) in self._walked:
        self._left_out[_LINKED].append(_id_of(folder, self._root) + "/")
        return
      self._walked.add((status.st_dev, status.st_ino))
      with os.scandir(folder) as entries:
        found = list(entries)
    except OSError as error:
      self._note_unread(folder, error)
      return
    if folder != self._root and any(entry.name == _INDEX for entry in found):
      return
    for entry in found:
      self._add(entry)

  def _add(self, entry: os.DirEntry) -> None:
    image_id = _id_of(entry.path, self._root)
    try:
      is_folder = entry.is_dir()
    except OSError as error:
      if not entry.is_symlink():  # of a disk that went away
        self._note_unread(entry.path, error)
        return
      is_folder = False  # a link to itself
    end = "/" if is_folder else ""
    if not self._include_hidden and matches(entry.name, HIDDEN):
      self._left_out[_HIDDEN].append(image_id + end)
    elif _is_excluded(image_id, self._exclude):
      self._left_out[_EXCLUDED].append(image_id + end)
    elif is_folder:
      (self._links if entry.is_symlink() else self._folders).append(entry.path)
    elif (ending := os.path.splitext(entry.name)[1].lower()) in EXTENSIONS:
      _add_id(image_id, self._ids, self._skipped)
    elif entry.is_symlink() and not os.path.exists(entry.path):
      self._left_out[_BROKEN].append(image_id)
    else:
      self._other_kinds[ending or "no ending"] += 1

  def _note_unread(self, folder: str, error: OSError) -> None:
    image_id = _id_of(folder, self._root)
    self._skipped.append((printable(image_id) + "/", f"the folder cannot be read: {error.strerror}"))
    self._unread.append("" if image_id == "." else image_id + "/")

  def _remarks(self) -> tuple[str, ...]:
    left_out = {kind: (sorted(names), len(names)) for kind, names in self._left_out.items()}
    endings = [ending for ending, _ in self._other_kinds.most_common()]
    left_out["files of other kinds"] = (endings, self._other_kinds.total())
    return tuple(_remark(kind, names, count) for kind, (names, count) in left_out.items() if names)


def _remark(kind: str, names: list[str], count: int) -> str:
  """One line on things that were left out: the first names, and how many there are."""
  shown = [printable(name) for name in names[:4]] + ["..."] * (len(names) > 4)
  return f"left out as {kind}: {', '.join(shown)} ({count} in all)"


def _is_excluded(image_id: str, patterns: Sequence[str]) -> bool:
  """Whether a pattern matches the path, one of the folders that it lies in, or the name of either."""
  parts = image_id.split("/")
  paths = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
  return bool(patterns) and any(matches(name, patterns) for name in (*parts, *paths))


def matches(name: str, patterns: Iterable[str]) -> bool:
  """Whether a pattern with `*` and `?` matches a name or a path; letters are compared in either form of Unicode.

  Brackets stand for themselves, as in the names of folders.
  """
  escaped = (compose(pattern).removeprefix("./").rstrip("/").replace("[", "[[]") for pattern in patterns)
  return any(fnmatch.fnmatchcase(compose(name), pattern) for pattern in escaped)


def _read_list(path: Path, exclude: Sequence[str]) -> Listing:
  root = _absolute(path.parent)
  try:
    # `splitlines` would split at characters that a name may hold.
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
  except OSError as error:
    raise InputError(f"the list {printable(path)} cannot be read: {error.strerror}") from None
  ids, skipped, excluded = [], [], []
  for line in dict.fromkeys(line.strip(" \t") for line in lines):
    if "\0" in line:
      raise InputError(f"{printable(path)} is not a list of paths in UTF-8: it holds zero bytes")
    if not line or line.startswith("#"):
      continue
    image_id = _id_of(find_any_form(os.path.join(root, line)), root)
    if _is_excluded(image_id, exclude):
      excluded.append(image_id)
    else:
      _add_id(image_id, ids, skipped)
  remarks = (_remark(_EXCLUDED, excluded, len(excluded)),) if excluded else ()
  return Listing(root, tuple(sorted(set(ids))), tuple(sorted(set(skipped))), remarks=remarks)


def find_any_form(path: str) -> str:
  """The path itself where it is there, else the one path that differs from it in the form of its Unicode alone.

  macOS writes "é" as two characters, other systems as one; both look the same. A path of which there is neither, or more
  than one, is returned as it is.
  """
  if os.path.lexists(path) or path.isascii():
    return path
  folder, name = os.path.split(path.rstrip("/"))
  if not name:
    return path
  folder = find_any_form(folder)
  try:
    alike = [other for other in os.listdir(folder) if compose(other) == compose(name)]
  except (OSError, ValueError):
    return path
  return os.path.join(folder, alike[0]) if len(alike) == 1 else path


def _absolute(folder: Path) -> str:
  """Without `..`, which is taken as it is written, links or not: the same words name the same root."""
  try:
    os.fspath(folder.absolute()).encode()
  except UnicodeEncodeError:
    raise InputError(f"the name of {printable(folder)} is not UTF-8; rename it, or make a link to it") from None
  return os.path.abspath(folder)


def _id_of(path: str, root: str) -> str:
  return Path(os.path.relpath(path, root)).as_posix()


def _add_id(image_id: str, ids: list[str], skipped: list[tuple[str, str]]) -> None:
  try:
    image_id.encode()
  except UnicodeEncodeError:
    skipped.append((printable(image_id), "the name is not UTF-8"))
  else:
    ids.append(image_id)
