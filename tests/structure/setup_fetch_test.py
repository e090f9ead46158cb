#!/usr/bin/env python3
"""setup_fetch_test.py ROOT: tools/setup.d/fetch.py against an index of our own on this machine: resuming after a kill, a
server without ranges, damage on the way, a wrong hash, stale wheels. Skipped (77) where Python has no pip."""
import hashlib
import http.server
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zipfile
from pathlib import Path

FETCH = Path(sys.argv.pop(1)) / "tools/setup.d/fetch.py"
WHEEL = "demo-1.0-py3-none-any.whl"


def make_wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


class Server(http.server.ThreadingHTTPServer):
    """A simple index with one project. Knobs: ranges, stall_after (bytes sent before it waits), damage (first N replies)."""

    def __init__(self, wheel):
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.ranges, self.stall_after, self.damage = wheel, True, None, 0
        self.requests = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return "http://127.0.0.1:%d/simple" % self.server_port


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if not self.path.endswith(".whl"):
            self.reply(200, ('<!DOCTYPE html><a href="/files/%s">%s</a>' % (WHEEL, WHEEL)).encode(), "text/html")
            return
        begin = 0
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        if asked and self.server.ranges:
            begin = int(asked[len("bytes="):-1])
        body = self.server.wheel[begin:]
        if self.server.damage > 0:
            self.server.damage -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        self.reply(206 if begin else 200, body, "application/octet-stream")

    def reply(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "application/octet-stream" and self.server.stall_after is not None:
            self.wfile.write(body[:self.server.stall_after])
            self.wfile.flush()
            time.sleep(30)
            return
        self.wfile.write(body)


class SetupFetchTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.deps = Path(self.folder.name) / "deps"
        make_wheel(Path(self.folder.name) / WHEEL, {"demo/data.bin": os.urandom(6_000_000), "demo/version.py": "1.0\n"})
        self.server = Server((Path(self.folder.name) / WHEEL).read_bytes())
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.sha256 = hashlib.sha256(self.server.wheel).hexdigest()

    def command(self):
        pins = Path(self.folder.name) / "pins.txt"
        pins.write_text("# a list\nbase wheel demo 1.0 %s %s\n" % (self.sha256, WHEEL))
        return [sys.executable, str(FETCH), "--pins", str(pins), "--deps", str(self.deps), "--group", "base"]

    def environment(self):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        environment.update(PIP_INDEX_URL=self.server.url(), PIP_CONFIG_FILE=os.devnull, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
        return environment

    def fetch(self):
        return subprocess.run(self.command(), env=self.environment(), capture_output=True, text=True, timeout=120)

    def assert_unpacked(self):
        self.assertEqual((self.deps / "site/demo/version.py").read_text(), "1.0\n")
        self.assertEqual((self.deps / "site/demo/data.bin").stat().st_size, 6_000_000)
        self.assertEqual(list((self.deps / "downloads").iterdir()), [])

    def test_fetches_once(self):
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_unpacked()
        self.assertEqual(self.fetch().returncode, 0)
        self.assertEqual(self.server.requests, [None])

    def test_goes_on_after_a_kill(self):
        self.server.stall_after = 3_000_000
        process = subprocess.Popen(self.command(), env=self.environment(), stderr=subprocess.DEVNULL)
        part = self.deps / "downloads" / (WHEEL + ".part")
        deadline = time.monotonic() + 60
        while (not part.exists() or part.stat().st_size < 1_000_000) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.server.stall_after = None
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_unpacked()
        self.assertGreaterEqual(int(self.server.requests[-1][len("bytes="):-1]), 1_000_000)

    def test_server_without_ranges(self):
        self.server.ranges = False
        (self.deps / "downloads").mkdir(parents=True)
        (self.deps / "downloads" / (WHEEL + ".part")).write_bytes(self.server.wheel[:1000])
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_unpacked()

    def test_damage_on_the_way_is_fetched_again(self):
        self.server.damage = 1
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("SHA-256", result.stderr)
        self.assert_unpacked()

    def test_partial_file_of_something_else(self):
        (self.deps / "downloads").mkdir(parents=True)
        (self.deps / "downloads" / (WHEEL + ".part")).write_bytes(b"x" * 500)
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_unpacked()

    def test_kill_while_unpacking_is_repaired(self):
        self.assertEqual(self.fetch().returncode, 0)
        (self.deps / "markers" / WHEEL).unlink()
        (self.deps / "site/demo/data.bin").unlink()
        (self.deps / "tmp" / WHEEL).mkdir(parents=True)
        (self.deps / "tmp" / WHEEL / "rest").write_text("left behind")
        self.assertEqual(self.fetch().returncode, 0)
        self.assert_unpacked()
        self.assertFalse((self.deps / "site/rest").exists())

    def test_new_pin_removes_the_old_wheel(self):
        self.assertEqual(self.fetch().returncode, 0)
        path = Path(self.folder.name) / WHEEL
        make_wheel(path, {"demo/other.py": "2.0\n"})
        self.server.wheel = path.read_bytes()
        self.sha256 = hashlib.sha256(self.server.wheel).hexdigest()
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue((self.deps / "site/demo/other.py").exists())
        self.assertFalse((self.deps / "site/demo/version.py").exists())

    def test_unknown_file_names_project_and_remedy(self):
        pins = Path(self.folder.name) / "pins.txt"
        command = self.command()
        pins.write_text("base wheel demo 2.0 %s demo-2.0-py3-none-any.whl\n" % self.sha256)
        result = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, 1)
        self.assertIn("demo 2.0", result.stderr)
        self.assertIn("pip config list", result.stderr)

    def test_malformed_list_names_the_line(self):
        command = self.command()
        (Path(self.folder.name) / "pins.txt").write_text("# a list\nbase wheel demo\n")
        result = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, 1)
        self.assertIn("pins.txt:2", result.stderr)


class UnsafeArchiveTest(unittest.TestCase):
    def test_paths_that_leave_the_folder_are_refused(self):
        specification = importlib.util.spec_from_file_location("fetch", FETCH)
        fetch = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(fetch)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("../outside", "/outside", "a/../../outside"):
                make_wheel(Path(folder) / WHEEL, {name: "x"})
                with zipfile.ZipFile(Path(folder) / WHEEL) as archive, self.assertRaises(fetch.SetupError):
                    fetch.checked_members(archive, WHEEL)


if __name__ == "__main__":
    if importlib.util.find_spec("pip") is None:
        print("this Python has no pip")
        sys.exit(77)
    unittest.main()
