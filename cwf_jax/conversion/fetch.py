"""Published weights by name: downloaded, verified and converted into `$CWF_JAX_HOME/NAME`, where `--weights=NAME` finds them.

    fetch("vgg16_cam")
    load_weights("vgg16_cam")

The sources of a name are tried in order. A file is read only if it has the hash that the manifest knows. Where the manifest
knows none, the sha256 is recorded in `$CWF_JAX_HOME/fetched.json`, and a later download from the same address must have it.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import filelock

from cwf_jax.conversion import files
from cwf_jax.conversion.convert import Converted, convert
from cwf_jax.conversion.download import FetchError, Progress, download, split_address
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.manifest import Entry, Source, check_sha256, read_manifest
from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.files import holding, write_whole
from cwf_jax.models.checkpoint import load_checkpoint, search_folders

RECORDS = "fetched.json"
"""In `$CWF_JAX_HOME`: {address: {"sha256", "bytes", "date"}} of what was downloaded without a known sha256."""


def fetch(
  name: str,
  home: str | os.PathLike | None = None,
  *,
  source: str | None = None,
  sha256: str | None = None,
  progress: Progress = lambda done, total: None,
  manifest: Mapping[str, Entry] | None = None,
) -> Converted:
  """Fetches weights, unless they are fetched already.

  What was downloaded when a call fails or is interrupted stays in `downloads` of `home`, and the next call resumes.

  Args:
    name: of the manifest.
    home: where the checkpoint's folder goes; default: `$CWF_JAX_HOME`, or the user's cache folder.
    source: another address (http, https, file) or the path of a file, in place of the manifest's sources. Weights that are
      fetched already must be from there.
    sha256: that the file must have.
    progress: called with the bytes received and the total, as far as it is known.
    manifest: default: the package's own.

  Returns:
    The conversion. Its notes begin with the sources that failed, and with a sha256 that was recorded.

  Raises:
    ConversionError: the name is not known, the checkpoint's folder holds other weights, or `source` is not what it should be.
    FetchError: no source has the weights, with the reason of each; or another process fetches them.
    InputError: the records are damaged.
    OSError: the disk is full.
  """
  entries = read_manifest() if manifest is None else manifest
  if name not in entries:
    raise ConversionError(f"no weights to fetch are named {name!r}; there are: {', '.join(entries) or 'none'}")
  entry, sha256 = entries[name], None if sha256 is None else check_sha256(sha256)
  home = search_folders()[-1] if home is None else Path(home).expanduser().absolute()
  if os.path.lexists(home / name):
    return _find_fetched(home / name, source, sha256)
  failures: list[FetchError | ConversionError] = []
  downloads = home / "downloads" / name
  with contextlib.ExitStack() as lock:
    try:
      taken = FetchError(f"{name} is being fetched by another process; wait for it, then call again")
      lock.enter_context(holding(downloads, taken))
    except FetchError:
      raise
    except OSError as error:
      reason = f"{printable(home)} cannot be written: {reason_of(error)}"
      raise FetchError(f"{reason}; it is $CWF_JAX_HOME, or its default: set another, CWF_JAX_HOME=FOLDER") from None
    for candidate in (Source(source),) if source else entry.sources:
      try:
        converted = _fetch_source(entry, candidate, home, sha256, progress)
      except (FetchError, ConversionError) as error:
        failures.append(error)
        continue
      shutil.rmtree(downloads, ignore_errors=True)
      return dataclasses.replace(converted, notes=(*map(str, failures), *converted.notes))
  if source:
    raise failures[0]
  reasons = "; ".join(f"({number}) {error}" for number, error in enumerate(failures, 1))
  hint = "another address, or a file that you downloaded, goes in with --source=URL_OR_FILE"
  raise FetchError(f"{name} cannot be fetched: {reasons}; {hint}")


def _find_fetched(folder: Path, source: str | None, sha256: str | None) -> Converted:
  """The checkpoint that is there; if a source or a sha256 is asked for, it must have been made from that file.

  Of a source on the network whose sha256 is not asked for, the address must be the recorded one.
  """
  loaded = load_checkpoint(folder)
  found = loaded.metadata.get("source_sha256", "")
  local = _find_local(source) if source else None
  pairs = [("sha256", found, asked) for asked in (sha256, local and files.hash_file(local)) if asked]
  if source and not pairs:
    pairs = [("address", loaded.metadata.get("address", "not known"), _strip_address(source))]
  for kind, ours, asked in pairs:
    if ours != asked:
      raise ConversionError(
        f"{printable(folder)} is there already and was made from another file (its {kind} is {printable(ours)}, not "
        f"{printable(asked)}): remove it, or set another CWF_JAX_HOME"
      )
  layout = loaded.metadata.get("layout", "a checkpoint")
  return Converted(str(folder), loaded.network_name, layout, found, ("already fetched",))


def _fetch_source(entry: Entry, source: Source, home: Path, sha256: str | None, progress: Progress) -> Converted:
  """Downloads, verifies and converts a source. A download that is not what it should be is removed."""
  address, local = source.address, _find_local(source.address)
  key = hashlib.sha256(address.encode()).hexdigest()[:8]
  path = local or home / "downloads" / entry.name / f"{key}-{_file_name(source)}"
  records = {} if local else _read_records(home)
  if not local:
    download(address, path, source.bytes, progress)
  try:
    found = _verify(source, path, sha256, records)
    converted = convert(path, entry.network, home / entry.name, source.layout, _describe_origin(entry, source))
  except (FetchError, ConversionError) as error:
    if not local:
      path.unlink()
    raise type(error)(str(error).replace(printable(path), printable(address))) from None
  if local or len(source.sha256 or "") == 64:
    return converted
  _record(home, address, found, path.stat().st_size)
  if sha256 or source.sha256 or source.md5 or address in records:
    return converted
  note = f"no hash of {printable(address)} was known; its sha256, {found}, is recorded in {printable(home / RECORDS)}"
  return dataclasses.replace(converted, notes=(note, *converted.notes))


def _find_local(address: str) -> Path | None:
  """The file that a path or an address of a file names; None for an address on the network."""
  parts = split_address(address)
  if parts and parts.scheme != "file":
    return None
  return files.find_kind(urllib.request.url2pathname(parts.path) if parts else address)[0]


def _verify(source: Source, path: Path, sha256: str | None, records: Mapping[str, Any]) -> str:
  """The sha256 of a file that has every hash that is known of it.

  Raises:
    FetchError: one is another; the message has both.
  """
  shown, found = printable(source.address), files.hash_file(path)
  for expected in (sha256, source.sha256):
    if expected and not found.startswith(expected):
      raise FetchError(f"the sha256 of {shown} is {found}, expected {expected}: it is another file, or a damaged one")
  if source.md5:
    with path.open("rb") as file:
      md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != source.md5:
      raise FetchError(f"the md5 of {shown} is {md5}, expected {source.md5}: it is another file, or a damaged one")
  recorded = records.get(source.address)
  if recorded and recorded["sha256"] != found and not sha256:
    raise FetchError(
      f"the sha256 of {shown} is {found}, but was {recorded['sha256']} on {recorded['date']}: the file has changed. If you "
      f"trust the new one, call again with --sha256={found}, or remove the address from {RECORDS}"
    )
  return found


def _read_records(home: Path) -> dict[str, Any]:
  try:
    return json.loads((home / RECORDS).read_bytes())
  except FileNotFoundError:
    return {}
  except ValueError:
    raise InputError(f"{printable(home / RECORDS)} is damaged; remove it, and call again") from None


def _record(home: Path, address: str, sha256: str, size: int) -> None:
  with filelock.FileLock(home / f".{RECORDS}.lock"):
    records = _read_records(home)
    if records.get(address, {}).get("sha256") != sha256:
      records[address] = {"sha256": sha256, "bytes": size, "date": datetime.date.today().isoformat()}
      write_whole(home / RECORDS, json.dumps(records, indent=2).encode())


def _file_name(source: Source) -> str:
  """The last part of a source's address, or its path, as a harmless name of a file; of Google Drive the file's id."""
  parts = split_address(source.address)
  path = urllib.parse.unquote(parts.path).removesuffix("/view") if parts else Path(source.address).as_posix()
  return re.sub(r"[^\w.-]", "_", PurePosixPath(path).name)[-100:].lstrip(".") or "weights"


def _describe_origin(entry: Entry, source: Source) -> dict[str, str]:
  """What the checkpoint records of a source: of an address neither user, password nor query, of a file no folder."""
  origin = {"source": _file_name(source), "published_as": entry.name, "license": source.license, "citation": entry.citation}
  address = _strip_address(source.address)
  return origin | ({"address": address} if address else {})


def _strip_address(address: str) -> str:
  """An address on the network without user, password and query; empty of a file."""
  parts = split_address(address)
  return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts and parts.scheme != "file" else ""
