#!/usr/bin/env python3
"""Downloads the pinned files of pins.txt and unpacks the wheels among them. Called by tools/setup.

pip is the client: it knows the index, proxies, certificates, credentials and find-links folders of this machine. What is
added here is what `pip download` lacks: a partial file is resumed with HTTP Range, also after a kill, and every file is
held against the pinned SHA-256 before it gets its name.

Layout below the folder --deps:
  downloads/FILE, downloads/FILE.part   complete and partial downloads; a wheel is removed once it is unpacked
  tmp/                                  where archives are unpacked before their files move into place
  site/                                 the unpacked wheels, side by side as in site-packages
  markers/FILE                          the wheel FILE is in site/; holds its SHA-256 and the list of its files
"""
import argparse
import hashlib
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

PLATFORMS = ["manylinux_2_%d_x86_64" % minor for minor in range(28, 4, -1)] + [
    "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
CHUNK_BYTES = 1 << 20
ATTEMPTS = 6


class SetupError(Exception):
    """Something the user must know; the text says what to do."""


class Pin:
    def __init__(self, line, where):
        fields = line.split()
        if len(fields) != 6 or fields[1] not in ("wheel", "sdist") or len(fields[4]) != 64:
            raise SetupError("%s: expected GROUP KIND PROJECT VERSION SHA256 FILE, found: %s" % (where, line))
        self.group, self.kind, self.project, self.version, self.sha256, self.file = fields


def read_pins(path):
    pins = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            pins.append(Pin(line, "%s:%d" % (path, number)))
    return pins


class Progress:
    """A bar on a terminal, else a plain line about every five seconds."""

    def __init__(self, label, total, done=0):
        self.label, self.total, self.done, self.first = label, total, done, done
        self.bar = sys.stderr.isatty()
        self.start = self.shown = time.monotonic()

    def add(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.shown >= (0.1 if self.bar else 5.0):
            self.shown = now
            self._show()

    def _show(self):
        share = min(1.0, self.done / self.total) if self.total else 1.0
        speed = (self.done - self.first) / max(1e-3, time.monotonic() - self.start)
        text = "%s  %d %% of %.0f MB, %.1f MB/s" % (self.label, 100 * share, self.total / 1e6, speed / 1e6)
        if self.bar:
            filled = int(24 * share)
            sys.stderr.write("\r\033[K[%s%s] %s" % ("#" * filled, "." * (24 - filled), text))
        else:
            sys.stderr.write("setup: " + text + "\n")
        sys.stderr.flush()

    def end(self):
        if self.bar:
            sys.stderr.write("\r\033[K")
        seconds = time.monotonic() - self.start
        sys.stderr.write("setup: %s  %.0f MB in %.0f s\n" % (self.label, self.done / 1e6, seconds))
        sys.stderr.flush()


class Index:
    """pip's own session and finder, made once per kind of file."""

    def __init__(self):
        self._clients = {}

    def _client(self, kind):
        if kind not in self._clients:
            from pip._internal.cli.cmdoptions import make_target_python
            from pip._internal.commands import create_command
            command = create_command("download")
            arguments = ["--no-deps", "--no-binary", ":all:"]
            if kind == "wheel":
                arguments = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
                for platform in PLATFORMS:
                    arguments += ["--platform", platform]
            options, _ = command.parse_args(arguments)
            options.cache_dir = None  # The file is kept by us; a second copy in pip's cache would only take room.
            session = command._build_session(options)
            finder = command._build_package_finder(options=options, session=session,
                                                   target_python=make_target_python(options),
                                                   ignore_requires_python=True)
            self._clients[kind] = (session, finder)
        return self._clients[kind]

    def find(self, pin):
        """Returns (session, link) of exactly the pinned file."""
        session, finder = self._client(pin.kind)
        candidates = finder.find_all_candidates(pin.project)
        for candidate in candidates:
            if candidate.link.filename == pin.file:
                return session, candidate.link
        versions = sorted({str(candidate.version) for candidate in candidates})
        raise SetupError("%s %s: pip's index has no file %s (versions it offers: %s). Check the network, and the index "
                         "and find-links that `pip config list` shows."
                         % (pin.project, pin.version, pin.file, ", ".join(versions[-8:]) or "none"))


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def receive(session, url, part, pin):
    """One attempt: appends to `part` what is still missing."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = "bytes=%d-" % have
    response = session.get(url, headers=headers, stream=True)
    if response.status_code == 416:  # Nothing is missing, or the file is not the one we began: the hash decides.
        return
    response.raise_for_status()
    if response.status_code != 206:
        have = 0
    progress = Progress(pin.file, have + int(response.headers.get("Content-Length", 0)), have)
    with open(part, "ab" if have else "wb") as file:
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            progress.add(len(chunk))
    if progress.done < progress.total:
        raise OSError("the connection ended at byte %d of %d" % (progress.done, progress.total))
    progress.end()


def download(index, pin, folder):
    """Leaves the verified file at folder/FILE and returns its path."""
    target, part = folder / pin.file, folder / (pin.file + ".part")
    if target.exists():
        if sha256_of(target) == pin.sha256:
            return target
        target.unlink()
    failure = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(2 ** attempt, 15))
            sys.stderr.write("setup: %s: %s; trying again\n" % (pin.file, failure))
        try:
            session, link = index.find(pin)
            if link.is_file:
                shutil.copyfile(link.file_path, part)
            else:
                receive(session, link.url_without_fragment, part, pin)
        except (OSError, EOFError) as error:  # requests' errors are OSErrors; urllib3's come wrapped in them.
            failure = "%s: %s" % (type(error).__name__, error)
            if getattr(error, "errno", None) == 28:
                raise SetupError("no room for %s: free about 3 GB and run the same command again" % part)
            continue
        found = sha256_of(part) if part.exists() else "no file"
        if found == pin.sha256:
            os.replace(part, target)
            return target
        failure = "SHA-256 is %s, pinned is %s" % (found, pin.sha256)
        part.unlink(missing_ok=True)
    raise SetupError("%s could not be downloaded: %s. What has arrived is kept: run the same command again to go on."
                     % (pin.file, failure))


def checked_members(archive, wheel):
    members = []
    for member in archive.infolist():
        parts = Path(member.filename).parts
        if os.path.isabs(member.filename) or ".." in parts:
            raise SetupError("%s holds the unsafe path %s" % (wheel, member.filename))
        if not member.is_dir():
            members.append(member)
    return members


def unpack(wheel, pin, deps):
    """Unpacks beside the target first, then renames file by file, then writes the marker: a kill at any point leaves
    either no marker (and the same call does it again) or the whole wheel."""
    staging = deps / "tmp" / pin.file
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    site = deps / "site"
    with zipfile.ZipFile(wheel) as archive:
        members = checked_members(archive, wheel)
        progress = Progress("unpacking " + pin.project, sum(member.file_size for member in members))
        for member in members:
            target = staging / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as file:
                for chunk in iter(lambda: source.read(CHUNK_BYTES), b""):
                    file.write(chunk)
                    progress.add(len(chunk))
            if (member.external_attr >> 16) & 0o111:
                target.chmod(0o755)
    for member in members:
        target = site / member.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / member.filename, target)
    shutil.rmtree(staging, ignore_errors=True)
    progress.end()
    names = [member.filename for member in members]
    marker = deps / "tmp" / (pin.file + ".marker")
    marker.write_text("\n".join([pin.sha256] + names) + "\n")
    os.replace(marker, deps / "markers" / pin.file)


def remove_stale(deps, pins):
    """Takes out of site/ the files of wheels that are no longer pinned (an earlier version of the list)."""
    pinned = {pin.file: pin.sha256 for pin in pins}
    for marker in sorted((deps / "markers").iterdir()):
        lines = marker.read_text().splitlines()
        if not marker.name.endswith(".whl") or pinned.get(marker.name) == (lines or [""])[0]:
            continue
        sys.stderr.write("setup: removing %s, which is no longer pinned\n" % marker.name)
        for name in lines[1:]:
            (deps / "site" / name).unlink(missing_ok=True)
        marker.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pins", type=Path, required=True, help="the list of files")
    parser.add_argument("--deps", type=Path, required=True, help="the folder to fill")
    parser.add_argument("--group", action="append", required=True, help="group of the list to fetch; repeatable")
    arguments = parser.parse_args()
    deps = arguments.deps
    for name in ("downloads", "tmp", "site", "markers"):
        (deps / name).mkdir(parents=True, exist_ok=True)
    pins = read_pins(arguments.pins)
    remove_stale(deps, pins)
    index = Index()
    for pin in pins:
        if pin.group not in arguments.group or (deps / "markers" / pin.file).exists():
            continue
        path = download(index, pin, deps / "downloads")
        if pin.kind == "wheel":
            unpack(path, pin, deps)
            path.unlink()


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit("setup: " + str(error))
    except KeyboardInterrupt:
        sys.exit("\nsetup: stopped; run the same command again to go on")
    except OSError as error:
        sys.exit("setup: %s; run the same command again after putting it right" % error)
