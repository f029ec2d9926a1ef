"""A stand-in for the Hub: the endpoints that huggingface_hub's client calls, over real HTTP.

Repos are dictionaries in memory. `faults` break the next matching answers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_API = re.compile(r"^/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w+)(?:/(.+))?)?$")
_FILE = re.compile(r"^/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass
class Fault:
    """What goes wrong with answers to a path."""

    path: str
    """A part of the path."""
    status: int | None = None
    cut_after: int | None = None
    """Bytes after which the connection is cut."""
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


class Hub:
    """Repos by kind and name; every commit is kept whole."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[str, dict[str, str]] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.cards: dict[str, dict[str, Any]] = {}
        self.large: dict[str, bytes] = {}
        """Large files by SHA-256, as they were put."""
        self.damaged: dict[str, bytes] = {}
        """What is sent in place of a file's content, by path."""
        self.on_request: Callable[[str], None] = lambda _: None
        hub = self

        class Handler(_Handler):
            store = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def create(self, key: str) -> None:
        if key not in self.heads:
            self.commits[key] = {}
            self.heads[key] = {}
            self.commit(key, {})

    def commit(self, key: str, files: dict[str, bytes | None]) -> str:
        before = self.files(key) if self.heads[key] else {}
        after = {path: data for path, data in (before | files).items() if data is not None}
        text = repr(sorted((p, hashlib.sha1(d).hexdigest()) for p, d in after.items()))  # noqa: S324
        oid = hashlib.sha1(f"{len(self.commits[key])}{text}".encode()).hexdigest()  # noqa: S324
        self.commits[key][oid] = after
        self.heads[key]["main"] = oid
        return oid

    def files(self, key: str, revision: str = "main") -> dict[str, bytes]:
        return self.commits[key][self.heads[key].get(revision, revision)]


class _Handler(BaseHTTPRequestHandler):
    store: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.respond()

    def do_PUT(self) -> None:
        self.respond()

    def respond(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.store.requests.append(f"{self.command} {path}")
        self.store.on_request(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        self.fault = next(
            (one for one in self.store.faults if one.path in path and one.times > 0), None
        )
        if self.fault and (self.fault.status is not None or self.command == "GET"):
            self.fault.times -= 1
        else:
            self.fault = None
        if self.fault and self.fault.status is not None:
            self.answer(self.fault.status, b"{}", self.fault.headers)
        elif path == "/api/repos/create":
            self.on_create(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self.on_batch(json.loads(body))
        elif self.command == "PUT":
            self.store.large[path.rpartition("/")[2]] = body
            self.answer(200, b"", {})
        elif path == "/api/validate-yaml":
            self.answer_json({"errors": [], "warnings": []})
        elif found := _API.match(path):
            self.on_api(found, body)
        elif found := _FILE.match(path):
            self.on_file(found)
        else:
            self.missing("EntryNotFound")

    def on_create(self, asked: dict[str, Any]) -> None:
        kind = "datasets" if asked.get("type") == "dataset" else "models"
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        self.store.create(f"{kind}/{name}")
        self.answer_json({"url": f"{self.store.url}/{name}", "name": name})

    def on_batch(self, asked: dict[str, Any]) -> None:
        known = self.store.large
        answers = []
        for one in asked["objects"]:
            action = {"upload": {"href": f"{self.store.url}/large/{one['oid']}"}}
            answers.append(one if one["oid"] in known else one | {"actions": action})
        self.answer_json({"transfer": "basic", "objects": answers})

    def on_api(self, found: re.Match[str], body: bytes) -> None:
        kind, name, what, rest = found.groups()
        key = f"{kind}/{name}"
        if key not in self.store.heads:
            self.missing("RepoNotFound")
            return
        revision, _, inside = (rest or "main").partition("/")
        if revision not in {*self.store.heads[key], *self.store.commits[key]}:
            self.missing("RevisionNotFound")
            return
        if what in {None, "revision"}:
            self.on_info(key, name, revision)
        elif what == "tree":
            self.on_tree(self.store.files(key, revision), inside)
        elif what == "preupload":
            asked = [one["path"] for one in json.loads(body)["files"]]
            modes = {one: "lfs" if is_large(one) else "regular" for one in asked}
            said = [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]
            self.answer_json({"files": said})
        elif what == "commit":
            self.on_commit(key, body)
        else:
            self.missing("EntryNotFound")

    def on_info(self, key: str, name: str, revision: str) -> None:
        files = self.store.files(key, revision)
        info = {
            "id": name,
            "sha": self.store.heads[key].get(revision, revision),
            "siblings": [{"rfilename": p, "size": len(d)} for p, d in files.items()],
            "private": False,
            "cardData": self.store.cards.get(key, {}),
        }
        self.answer_json(info)

    def on_tree(self, files: dict[str, bytes], inside: str) -> None:
        found = [entry(path, data) for path, data in files.items() if path.startswith(inside)]
        if inside and not found:
            self.missing("EntryNotFound")
        else:
            self.answer_json(found)

    def on_commit(self, key: str, body: bytes) -> None:
        changes: dict[str, bytes | None] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.store.large[value["oid"]]
            elif line["key"] == "deletedFile":
                changes[value["path"]] = None
        oid = self.store.commit(key, changes)
        url = f"{self.store.url}/{key}/commit/{oid}"
        self.answer_json({"commitOid": oid, "commitUrl": url, "success": True})

    def on_file(self, found: re.Match[str]) -> None:
        kind, name, revision, path = found.groups()
        key = f"{kind or 'models'}/{name}"
        if key not in self.store.heads:
            self.missing("RepoNotFound")
            return
        if revision not in {*self.store.heads[key], *self.store.commits[key]}:
            self.missing("RevisionNotFound")
            return
        files = self.store.files(key, revision)
        if path not in files:
            self.missing("EntryNotFound")
            return
        data = files[path]
        headers = {
            "ETag": f'"{promised(path, data)}"',
            "X-Repo-Commit": self.store.heads[key].get(revision, revision),
        }
        data = self.store.damaged.get(path, data)
        ranged = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if ranged:
            start = int(ranged[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[start:], headers)
        else:
            self.answer(200, data, headers)

    def missing(self, code: str) -> None:
        self.answer(404, b"{}", {"X-Error-Code": code})

    def answer_json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.fault.cut_after if self.fault else None
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


def entry(path: str, data: bytes) -> dict[str, Any]:
    found = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if is_large(path):
        found["lfs"] = {"oid": promised(path, data), "size": len(data), "pointerSize": 130}
    return found


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".parquet"))


def promised(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if is_large(path) else git_oid(data)


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - git's


if __name__ == "__main__":
    print(Hub().url, flush=True)  # noqa: T201
    threading.Event().wait()
