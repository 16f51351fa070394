"""What a run has to do: which files are new, changed, unchanged, moved or gone since the index was written."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Mapping

from cwf_jax.errors import InputError, printable
from cwf_jax.images.decoding import UnreadableImageError, read_file
from cwf_jax.images.listing import Listing, is_void
from cwf_jax.index.store import Index, Moved, StoredFile


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run does with each file, by id.

  Attributes:
    new: files that the index does not hold; without the run's prefix, sorted.
    changed: files whose content is not what the index was made from; without the prefix, sorted.
    unchanged: how many files are as they were.
    moved: the new location of each row whose file was found elsewhere, by the row's present id. If a whole folder was moved,
      its other rows are included.
    removed: ids, with the prefix, of rows whose files are gone.
    kept: ids, with the prefix, of rows whose files are gone but which are not removed, because a disk may be missing.
  """

  new: tuple[str, ...]
  changed: tuple[str, ...]
  unchanged: int
  moved: Mapping[str, Moved]
  removed: tuple[str, ...]
  kept: tuple[str, ...]

  @property
  def todo(self) -> tuple[str, ...]:
    """All files to encode, sorted."""
    return tuple(sorted(self.new + self.changed))


def make_plan(listing: Listing, index: Index, prefix: str, remove: bool = False) -> Plan:
  """Compares the files of a folder with the rows of the same folder and prefix.

  A file is unchanged if its size and time are the same, or else its content; of a folder that was moved, only its content
  counts. A file that is gone and a new file with the
  same hash are one file that was moved.

  Args:
    listing: the files.
    index: its rows.
    prefix: of the ids.
    remove: removes rows even if more than half, or a whole folder, have lost their files.

  Raises:
    InputError: the index holds another folder under this prefix that is not this one moved, or one of these ids for a file
      of another folder.
  """
  old_root = _check_others(listing, index, prefix)
  known = index.files(listing.root, prefix)
  elsewhere = {} if old_root is None else index.files(old_root, prefix)
  stored, moved = {**elsewhere, **known}, {}
  new, changed, unchanged = [], [], 0
  for image_id in listing.ids:
    row = prefix + image_id
    if row not in stored:
      new.append(image_id)
    elif not _is_unchanged(listing.path(image_id), stored[row], trust_time=row in known):
      changed.append(image_id)
    elif row in known:
      unchanged += 1
    else:
      moved[row] = _locate(listing, image_id, prefix)
  unread = tuple(prefix + folder for folder in listing.unread_folders)
  rows = {prefix + image_id for image_id in listing.ids}
  gone = {row: file for row, file in stored.items() if row not in rows and not row.startswith(unread)}
  renamed = _find_renamed(listing, new, gone)
  moved |= {row: _locate(listing, image_id, prefix) for row, image_id in renamed.items()}
  if elsewhere and not known and 2 * len(moved) < len(elsewhere):
    raise InputError(_other_folder(index, old_root, listing, prefix))
  gone = sorted(set(gone) - set(renamed))
  present = {stored[row].sha256 for row in (rows & stored.keys()) - {prefix + image_id for image_id in changed}}
  kept = set() if remove else _find_doubtful(listing, prefix, gone, len(stored))
  kept -= {row for row in kept if stored[row].sha256 in present}  # a move that was interrupted: the row is there twice
  for row in set(elsewhere) - set(moved) - (set(gone) - kept):
    image_id = row.removeprefix(prefix)
    moved[row] = Moved(row, listing.path(image_id), listing.root, elsewhere[row].mtime_ns)
  taken = set(renamed.values())
  return Plan(
    new=tuple(image_id for image_id in new if image_id not in taken),
    changed=tuple(changed),
    unchanged=unchanged,
    moved=moved,
    removed=tuple(row for row in gone if row not in kept),
    kept=tuple(row for row in gone if row in kept),
  )


def _check_others(listing: Listing, index: Index, prefix: str) -> str | None:
  """Returns the folder that the index holds under this prefix, if it is empty or gone: it may have been moved here."""
  own, old_root = None, None
  for image_id, root, its_prefix in index.others(listing.root, prefix):
    if its_prefix == prefix:
      if not is_void(root) or old_root not in (None, root):
        raise InputError(_other_folder(index, root, listing, prefix))
      old_root = root
      continue
    own = {prefix + listed for listed in listing.ids} if own is None else own
    if image_id in own:
      raise InputError(f"{index.folder} holds {image_id} of {root} already; give the images of {listing.root} another --prefix")
  return old_root


def _other_folder(index: Index, root: str, listing: Listing, prefix: str) -> str:
  moved = "" if not is_void(root) else f", which is gone, and less than half of them are in {printable(listing.root)}"
  return (
    f"{index.folder} holds images of {printable(root)} under {f'the prefix {prefix}' if prefix else 'no prefix'}{moved}; "
    f"give those of {printable(listing.root)} a --prefix of their own, such as "
    f"--prefix={printable(os.path.basename(listing.root))}/"
  )


def _locate(listing: Listing, image_id: str, prefix: str) -> Moved:
  path = listing.path(image_id)
  return Moved(prefix + image_id, path, listing.root, os.stat(path).st_mtime_ns)


def _find_renamed(listing: Listing, new: list[str], gone: dict[str, StoredFile]) -> dict[str, str]:
  """The new id of each row that is gone and whose content is found again; only files of the same sizes are read."""
  sizes = {file.bytes for file in gone.values()}
  paths_by_hash = collections.defaultdict(list)
  for image_id in reversed(new):
    path = listing.path(image_id)
    try:
      if os.stat(path).st_size in sizes:
        paths_by_hash[_hash(path)].append(image_id)
    except (OSError, UnreadableImageError):
      continue  # it is read once more when it is encoded, and the reason said then
  return {row: paths_by_hash[gone[row].sha256].pop() for row in sorted(gone) if paths_by_hash.get(gone[row].sha256)}


def _find_doubtful(listing: Listing, prefix: str, gone: list[str], count: int) -> set[str]:
  """Rows that may have lost their files because a disk or a folder is not there just now.

  All of them where they are more than half of the rows; else those below a folder that is empty or gone.
  """
  if 2 * len(gone) > count:
    return set(gone)
  parents = collections.defaultdict(list)
  for row in gone:
    folder = os.path.dirname(row.removeprefix(prefix))
    while folder:
      parents[folder].append(row)
      folder = os.path.dirname(folder)
  return {row for folder, rows in parents.items() if is_void(listing.path(folder)) for row in rows}


def _is_unchanged(path: str, stored: StoredFile, trust_time: bool) -> bool:
  try:
    found = os.stat(path)
    if found.st_size != stored.bytes:
      return False
    return (trust_time and found.st_mtime_ns == stored.mtime_ns) or _hash(path) == stored.sha256
  except (OSError, UnreadableImageError):
    return False


def _hash(path: str) -> str:
  return hashlib.sha256(read_file(path)).hexdigest()
