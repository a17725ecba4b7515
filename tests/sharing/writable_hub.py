"""A small Hub in this process that takes uploads, and huggingface_hub's own client pointed at it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from faults.hub_server import Handler, against

Files = dict[str, bytes]


@dataclass
class Hub:
    """Repositories by name, each a list of commits (files by path); `me` owns those called `me/...`.

    Attributes:
        repos: Of models.
        private: Those that only a token may read.
        requests: Method and path of every request.
        fails: Part of a path to the HTTP status with which it is answered.
        delay: Seconds before each answer.
    """

    repos: dict[str, list[Files]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    delay: float = 0.0

    def files(self, repo: str) -> Files:
        """Those of the newest commit."""
        return self.repos[repo][-1]

    def oid(self, repo: str, number: int) -> str:
        """The name of a commit, from 0."""
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def downloads(self) -> set[str]:
        """The files that were fetched since the last call."""
        got = {found[1] for one in self.requests if (found := re.search(r"^GET /.*?/resolve/[^/]+/(.+)$", one))}
        self.requests.clear()
        return got

    def __call__(self, handler: Handler) -> None:
        time.sleep(self.delay)
        path = unquote(urlsplit(handler.path).path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        token = handler.headers.get("Authorization")
        self.requests.append(f"{handler.command} {path}")
        for part, status in self.fails.items():
            if part in path:
                return handler.reply(status, b'{"error": "planned"}')
        if path.startswith("/api/whoami"):
            user = {"type": "user", "name": "me", "orgs": [{"name": "lab"}], "auth": {"type": "access_token"}}
            return _json(handler, user) if token == "Bearer good" else handler.reply(401, b"{}")
        if path == "/api/validate-yaml":
            wrong = [{"message": '"license" must be one of [mit]'}] * ("license: wrong" in json.loads(body)["content"])
            return _json(handler, {"errors": wrong, "warnings": []}, 400 if wrong else 200)
        if path == "/api/repos/create":
            return self._create(handler, json.loads(body))
        found = re.match(r"(?:/api/models)?/([^/]+/[^/]+)(?:/(\w+)/?([^/]*)/?(.*))?$", path)
        repo, verb, revision, rest = found.groups() if found else (None, None, None, None)
        if repo not in self.repos or (repo in self.private and token != "Bearer good"):
            return handler.reply(404, b"{}", X_Error_Code="RepoNotFound")
        commits = self.repos[repo]
        names = {"main": len(commits) - 1, "": len(commits) - 1} | {self.oid(repo, n): n for n in range(len(commits))}
        if verb == "preupload":
            how = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": one["path"], **how} for one in json.loads(body)["files"]]
            return _json(handler, {"files": files})
        if verb == "commit":
            return self._commit(handler, repo, body)
        if (revision or "") not in names:
            return handler.reply(404, b"{}", X_Error_Code="RevisionNotFound")
        number = names[revision or ""]
        files = commits[number]
        if verb == "tree":
            return _json(
                handler, [{"type": "file", "path": n, "size": len(c), "oid": _sha(c)} for n, c in files.items()]
            )
        if verb == "resolve":
            if rest not in files:
                return handler.reply(404, b"{}", X_Error_Code="EntryNotFound")
            return handler.reply(200, files[rest], ETag=f'"{_sha(files[rest])}"', X_Repo_Commit=self.oid(repo, number))
        siblings = [{"rfilename": name} for name in files]
        about = {"id": repo, "sha": self.oid(repo, number), "private": repo in self.private, "siblings": siblings}
        return _json(handler, about | {"tags": [], "downloads": 0, "likes": 0})

    def _create(self, handler: Handler, asked: dict) -> None:
        owner = asked.get("organization") or "me"
        repo = f"{owner}/{asked['name']}"
        if owner not in ("me", "lab"):
            return handler.reply(403, b'{"error": "no rights"}')
        if repo in self.repos:
            return _json(handler, {"url": f"{repo}", "error": "You already created this model repo"}, 409)
        self.repos[repo] = [{".gitattributes": b""}]
        self.private |= {repo} if asked.get("private") or asked.get("visibility") == "private" else set()
        return _json(handler, {"url": f"http://{handler.headers['Host']}/{repo}", "name": repo})

    def _commit(self, handler: Handler, repo: str, body: bytes) -> None:
        files = dict(self.files(repo))
        for item in map(json.loads, body.splitlines()):
            if item["key"] == "file":
                files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            elif item["key"] == "deletedFile":
                del files[item["value"]["path"]]
        self.repos[repo].append(files)
        oid = self.oid(repo, len(self.repos[repo]) - 1)
        _json(
            handler,
            {"success": True, "commitOid": oid, "commitUrl": f"http://{handler.headers['Host']}/{repo}/commit/{oid}"},
        )


def _json(handler: Handler, content: object, status: int = 200) -> None:
    handler.reply(status, json.dumps(content).encode(), Content_Type="application/json")


def _sha(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def writable_hub() -> Iterator[Hub]:
    """Such a Hub, with an empty cache on this side."""
    hub = Hub()
    with against(hub):
        yield hub
