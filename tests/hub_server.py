"""A stand-in for the Hub: the part of its HTTP protocol that models need, kept in memory.

The installed `huggingface_hub` client talks to it as to huggingface.co: metadata by HEAD, files by
GET with ranges, large files redirected to another path (the Hub's CDN), repositories made, and
commits of git files and LFS files in the client's own steps. It can be told to fail.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

LARGE = 2**16
"""From this many bytes on the server asks for LFS; so it does for .safetensors of any size."""


def git_hash(content: bytes) -> str:
    """Return what git calls a blob of this content, as the Hub's ETag of small files is."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """One model repository: its commits and what its branches and tags point to."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Add a commit with exactly these files."""
        names = json.dumps([len(self.commits), sorted((n, git_hash(c)) for n, c in files.items())])
        oid = hashlib.sha1(names.encode()).hexdigest()
        self.commits[oid], self.refs[ref] = dict(files), oid
        return oid

    def at(self, revision: str) -> str | None:
        """Return the commit a revision names."""
        revision = revision.replace("%2F", "/")
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Failure:
    """What goes wrong with the next requests that match: a status, a cut, or other bytes."""

    method: str
    path: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    change: Callable[[bytes], bytes] | None = None
    before: Callable[[], None] | None = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Say nothing of clients that hang up."""


class Hub:
    """A running server.

    Attributes:
        url: the endpoint.
        repos: by `org/name`.
        tokens: role (`read` or `write`) by token.
        failures: tried in order for every request.
        log: method, path and Range of every request.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens = {"reader": "read", "writer": "write"}
        self.failures: list[Failure] = []
        self.log: list[tuple[str, str, str | None]] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # Another host, as the Hub's CDN is: the client reads the headers of a redirect to it.
        self.cdn = f"http://localhost:{self._server.server_port}/cdn"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "Hub":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fail(self, method: str, path: str, **what: Any) -> Failure:
        """Let the next requests whose path matches a regular expression fail."""
        self.failures.append(Failure(method, path, **what))
        return self.failures[-1]

    def gets(self, path: str) -> list[str | None]:
        """Return the Range of every GET whose path matches."""
        return [r for m, p, r in self.log if m == "GET" and re.search(path, p)]


def is_large(name: str, content: bytes) -> bool:
    return name.endswith(".safetensors") or len(content) >= LARGE


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._serve("HEAD")

        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def do_PUT(self) -> None:
            self._serve("PUT")

        def _serve(self, method: str) -> None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.failure: Failure | None = None
            path = self.path.split("?")[0]
            hub.log.append((method, path, self.headers.get("Range")))
            for failure in hub.failures:
                if failure.times and failure.method == method and re.search(failure.path, path):
                    failure.times -= 1
                    if failure.before is not None:
                        failure.before()
                    if failure.status:
                        self._answer(failure.status, b"{}", failure.headers)
                        return
                    self.failure = failure
                    break
            for verb, pattern, action in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and verb == ("GET" if method == "HEAD" else method):
                    action(self, **found.groupdict())
                    return
            self._answer(404, b"{}")

        def _answer(
            self, status: int, content: bytes = b"", headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            said = {"Content-Length": str(len(content)), "X-Request-Id": "test"} | (headers or {})
            for name, value in said.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = self.failure.cut if self.failure else None
            self.wfile.write(content[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True

        def _json(self, value: object, status: int = 200) -> None:
            self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _error(self, status: int, code: str) -> None:
            self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

        def _role(self) -> str | None:
            """Return what the token may do: "" without a token, None with one that is wrong."""
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            return hub.tokens.get(given) if given else ""

        def _repo(self, name: str, write: bool = False) -> Repo | None:
            """Return a repository if the token may see it, else answer with the Hub's error."""
            repo, role = hub.repos.get(name), self._role()
            if role is None:
                self._error(401, "InvalidToken")
            elif repo is None or (repo.private and not role):
                self._error(404 if role else 401, "RepoNotFound")
            elif repo.gated and role != "write":
                self._error(403 if role else 401, "GatedRepo")
            elif write and role != "write":
                self._error(403 if role else 401, "Forbidden")
            else:
                return repo
            return None

        def resolve(self, repo: str, revision: str, name: str) -> None:
            found = self._repo(repo)
            if found is None:
                return
            oid = found.at(revision)
            if oid is None:
                self._error(404, "RevisionNotFound")
                return
            name = name.replace("%2F", "/")
            common = {"X-Repo-Commit": oid}
            content = found.commits[oid].get(name)
            if content is None:
                self._answer(404, b"{}", common | {"X-Error-Code": "EntryNotFound"})
            elif is_large(name, content):
                digest = hashlib.sha256(content).hexdigest()
                hub.blobs[digest] = content
                common |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
                self._answer(302, b"", common | {"Location": f"{hub.cdn}/{digest}"})
            else:
                self._content(content, common | {"ETag": f'"{git_hash(content)}"'})

        def cdn(self, digest: str) -> None:
            self._content(hub.blobs[digest], {"ETag": f'"{digest}"'})

        def _content(self, content: bytes, headers: dict[str, str]) -> None:
            if self.failure and self.failure.change:
                content = self.failure.change(content)
            headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                self._answer(200, content, headers)
                return
            start, end = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            self._answer(206, content[start : end + 1], headers)

        def whoami(self) -> None:
            if not self._role():
                self._error(401, "InvalidToken")
            else:
                self._json({"type": "user", "name": "me", "orgs": [], "auth": {}})

        def create(self) -> None:
            asked = json.loads(self.body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if self._role() != "write":
                self._error(403 if self._role() else 401, "Forbidden")
            elif name in hub.repos:
                self._json({"error": "exists", "url": f"{hub.url}/{name}"}, 409)
            else:
                private = asked.get("private") or asked.get("visibility") == "private"
                hub.repos[name] = Repo(private=bool(private))
                hub.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
                self._json({"url": f"{hub.url}/{name}", "id": name, "name": name})

        def info(self, repo: str, revision: str = "main") -> None:
            found = self._repo(repo)
            if found is None:
                return
            oid = found.at(revision)
            if oid is None:
                self._error(404, "RevisionNotFound")
                return
            files = [{"rfilename": name} for name in found.commits[oid]]
            self._json(
                {"id": repo, "modelId": repo, "sha": oid, "private": found.private, "tags": []}
                | {"siblings": files}
            )

        def models(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            found = []
            for name, repo in hub.repos.items():
                oid = repo.refs["main"]
                text = repo.commits[oid].get("README.md", b"").decode()
                card = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---") else {}
                told = {"id": name, "sha": oid, "private": repo.private, "cardData": card}
                told["tags"] = [card.get("library_name"), *card.get("tags", ())]
                visible = not repo.private or self._role()
                wanted = {*asked.get("filter", ())} <= {*told["tags"]}
                if visible and wanted and name.split("/")[0] in asked["author"]:
                    found.append(told)
            self._json(found)

        def tree(self, repo: str, revision: str) -> None:
            found = self._repo(repo)
            if found is not None:
                oid = found.at(revision)
                self._json(
                    [
                        {"type": "file", "path": n, "size": len(c), "oid": git_hash(c)}
                        for n, c in found.commits[oid or ""].items()
                    ]
                )

        def validate(self) -> None:
            text = json.loads(self.body)["content"]
            good = text.startswith("---\n")
            self._json({"errors": [] if good else [{"message": "no metadata"}], "warnings": []})

        def preupload(self, repo: str, revision: str) -> None:
            if self._repo(repo, write=True) is None:
                return
            asked = json.loads(self.body)["files"]
            rows = []
            for row in asked:
                large = is_large(row["path"], b"x" * min(row["size"], LARGE))
                rows.append({"path": row["path"], "uploadMode": "lfs" if large else "regular"})
                rows[-1] |= {"shouldIgnore": False}
            self._json({"files": rows})

        def batch(self, repo: str) -> None:
            if self._repo(repo, write=True) is None:
                return
            objects = []
            for row in json.loads(self.body)["objects"]:
                actions = {
                    "upload": {"href": f"{hub.url}/lfs/{row['oid']}", "header": {}},
                    "verify": {"href": f"{hub.url}/verify/{row['oid']}", "header": {}},
                }
                known = row["oid"] in hub.blobs
                objects.append(row | ({} if known else {"actions": actions}))
            self._json({"transfer": "basic", "objects": objects})

        def upload(self, digest: str) -> None:
            if hashlib.sha256(self.body).hexdigest() != digest:
                self._error(422, "WrongHash")
                return
            hub.blobs[digest] = self.body
            self._answer(200)

        def verify(self, digest: str) -> None:
            size = json.loads(self.body)["size"]
            self._answer(200 if len(hub.blobs.get(digest, b"")) == size else 404)

        def commit(self, repo: str, revision: str) -> None:
            found = self._repo(repo, write=True)
            if found is None:
                return
            files = dict(found.commits[found.refs[revision]])
            for line in self.body.splitlines():
                row = json.loads(line)
                value = row["value"]
                if row["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif row["key"] == "lfsFile":
                    files[value["path"]] = hub.blobs[value["oid"]]
                elif row["key"] == "deletedFile":
                    del files[value["path"]]
            oid = found.commit(files, revision)
            url = f"{hub.url}/{repo}/commit/{oid}"
            self._json({"success": True, "commitOid": oid, "commitUrl": url})

    name = r"(?P<repo>[^/]+/[^/]+)"
    ROUTES: list[tuple[str, str, Callable[..., None]]] = [
        ("GET", rf"/{name}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", Handler.resolve),
        ("GET", r"/cdn/(?P<digest>\w+)", Handler.cdn),
        ("GET", r"/api/whoami-v2", Handler.whoami),
        ("GET", r"/api/models", Handler.models),
        ("GET", rf"/api/models/{name}", Handler.info),
        ("GET", rf"/api/models/{name}/revision/(?P<revision>[^/]+)", Handler.info),
        ("GET", rf"/api/models/{name}/tree/(?P<revision>[^/]+)", Handler.tree),
        ("POST", r"/api/repos/create", Handler.create),
        ("POST", r"/api/validate-yaml", Handler.validate),
        ("POST", rf"/api/models/{name}/preupload/(?P<revision>[^/]+)", Handler.preupload),
        ("POST", rf"/{name}\.git/info/lfs/objects/batch", Handler.batch),
        ("PUT", r"/lfs/(?P<digest>\w+)", Handler.upload),
        ("POST", r"/verify/(?P<digest>\w+)", Handler.verify),
        ("POST", rf"/api/models/{name}/commit/(?P<revision>[^/]+)", Handler.commit),
    ]
    return Handler
