"""Runs a broad set of requests against an engine and compares every answer with a description of the API.

    answers.py SOCKET DESCRIPTION

The engine has the image `busybox` and is otherwise empty, and so it is afterwards. Says what does not fit and ends with 1.
"""

import http.client
import io
import json
import socket
import sys
import tarfile
import time
import urllib.parse

from description import Description


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Run:
    def __init__(self, path, description):
        self.path, self.description = path, description
        self.mistakes, self.missing, self.count, self.seen = [], set(), 0, set()

    def __call__(self, method, path, body=None, expect=None, kind="application/json"):
        """Sends a request, looks at the answer, gives its JSON (or its bytes)."""
        data = json.dumps(body).encode() if kind == "application/json" and body is not None else body
        connection = Connection(self.path)
        headers = {"Content-Type": kind} if data is not None else {}
        try:
            connection.request(method, f"/v{self.description.version}{path}", data, headers)
        except BrokenPipeError:
            pass  # An answer that came before the body was sent.
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.count += 1
        return self.look(method, path, answer, content, expect)

    def look(self, method, path, answer, content, expect):
        what = f"{method} {path} -> {answer.status}"
        template, operation = self.description.operation(method, path.split("?")[0])
        if operation is None:
            self.mistakes.append(f"{what}: the description has no such endpoint")
            return None
        self.seen.add((method, template))
        if expect is not None and answer.status != expect:
            self.mistakes.append(f"{what}: wanted {expect}: {content[:300]!r}")
        if answer.status == 501:
            self.missing.add(f"{method} {template}")
            return {}
        responses = operation["responses"]
        # 400 for what is malformed and 500 are understood, as is 409 for the state of an object.
        documented = answer.status in responses or answer.status in (400, 409, 500)
        if not documented:
            self.mistakes.append(f"{what}: not a documented status ({sorted(responses)})")
        schema = responses.get(answer.status, {}).get("schema")
        if answer.status >= 400 and schema is None:
            schema = {"$ref": "#/definitions/ErrorResponse"}
        media = answer.headers.get("Content-Type", "").split(";")[0]
        if not content or not media.startswith("application/json"):
            return content
        documents = [json.loads(line) for line in content.splitlines() if line.strip()]
        binary = schema is not None and schema.get("type") == "string"
        if schema is not None and not binary:
            for document in documents:
                self.mistakes += [f"{what}: {m}" for m in self.description.mistakes(schema, document)]
        return documents[-1] if documents else None


def quoted(value):
    return urllib.parse.quote(json.dumps(value))


def archive(name, data):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


CREATE = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"],
    "Env": ["A=b"],
    "Labels": {"test": "answers"},
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/anonymous": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000},
    "StopSignal": "SIGKILL",
    "HostConfig": {
        "Binds": ["named:/named"],
        "Memory": 64 << 20,
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        "Tmpfs": {"/t": "size=1m"},
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
        "Annotations": {"a": "b"},
        "CapAdd": ["NET_ADMIN"],
        "ExtraHosts": ["a:1.2.3.4"],
        "Mounts": [{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1 << 20}}],
    },
}


def system(run):
    run("GET", "/_ping", expect=200)
    run("HEAD", "/_ping", expect=200)
    run("GET", "/version", expect=200)
    run("GET", "/info", expect=200)
    run("GET", "/system/df", expect=200)
    run("GET", "/system/df?type=image&type=volume&verbose=1", expect=200)
    run("GET", "/system/df?type=nonsense", expect=400)
    run("POST", "/auth", {"username": "a", "password": "b", "serveraddress": "127.0.0.1:1"}, expect=500)
    run("GET", "/events?since=9&until=1", expect=400)


def images(run):
    for query in ("", "?all=1&shared-size=1&manifests=1&digests=1", "?filters=" + quoted({"dangling": ["false"]})):
        run("GET", "/images/json" + query, expect=200)
    run("GET", "/images/json?filters=" + quoted({"nonsense": ["x"]}), expect=400)
    run("GET", "/images/busybox/json", expect=200)
    run("GET", "/images/busybox/json?manifests=1", expect=200)
    run("GET", "/images/nosuch/json", expect=404)
    run("GET", "/images/busybox/history", expect=200)
    run("POST", "/images/busybox/tag?repo=answers/second&tag=one", expect=201)
    run("GET", "/images/answers/second:one/json", expect=200)
    saved = run("GET", "/images/busybox/get", expect=200)
    run("POST", "/images/load?quiet=1", saved, expect=200, kind="application/x-tar")
    run("DELETE", "/images/answers/second:one", expect=200)
    run("DELETE", "/images/nosuch", expect=404)
    run("POST", "/images/create?fromSrc=-&repo=answers/imported", archive("f", b"x"), 200, "application/x-tar")
    run("DELETE", "/images/answers/imported", expect=200)
    run("POST", "/images/prune?filters=" + quoted({"dangling": ["true"]}), expect=200)
    run("GET", "/images/search?term=x")
    run("POST", "/images/create?fromImage=127.0.0.1:1/nosuch")
    run("POST", "/build/prune", expect=200)
    run("GET", "/distribution/busybox/json")
    if run.description.version >= "1.55":
        run("GET", "/images/busybox/attestations", expect=200)


def containers(run):
    run("POST", "/containers/create?name=main", CREATE, expect=201)
    run("POST", "/containers/create?name=main", CREATE, expect=409)
    run("POST", "/containers/create", {**CREATE, "Image": "nosuch"}, expect=404)
    run("GET", "/containers/json?all=1&size=1", expect=200)
    run("GET", "/containers/main/json?size=1", expect=200)
    run("POST", "/containers/main/start", expect=204)
    run("POST", "/containers/main/start", expect=304)
    run("GET", "/containers/json", expect=200)
    run("GET", "/containers/main/json", expect=200)
    run("GET", "/containers/main/top", expect=200)
    run("GET", "/containers/main/logs?stdout=1&stderr=1", expect=200)
    run("GET", "/containers/main/logs", expect=400)
    run("GET", "/containers/main/changes", expect=200)
    run("GET", "/containers/main/stats?stream=0", expect=200)
    run("GET", "/containers/main/stats?stream=0&one-shot=1", expect=200)
    run("POST", "/containers/main/update", {"CpuShares": 512, "RestartPolicy": {"Name": "no"}}, expect=200)
    run("POST", "/containers/main/pause", expect=204)
    run("POST", "/containers/main/unpause", expect=204)
    run("POST", "/containers/main/rename?name=other", expect=204)
    run("POST", "/containers/other/rename?name=main", expect=204)
    run("HEAD", "/containers/main/archive?path=/bin", expect=200)
    run("GET", "/containers/main/archive?path=/bin/sh", expect=200)
    run("PUT", "/containers/main/archive?path=/", archive("put", b"x"), 200, "application/x-tar")
    run("POST", "/commit?container=main&repo=answers/commit", {}, expect=201)
    run("DELETE", "/images/answers/commit", expect=200)
    executed(run)
    run("POST", "/containers/main/kill?signal=NONSENSE", expect=400)
    run("POST", "/containers/main/stop?t=0", expect=204)
    run("POST", "/containers/main/stop", expect=304)
    run("POST", "/containers/main/wait", expect=200)
    run("GET", "/containers/main/json", expect=200)
    run("GET", "/containers/main/export", expect=200)
    run("POST", "/containers/main/restart?t=0", expect=204)
    run("POST", "/containers/main/kill", expect=204)
    run("POST", "/containers/main/wait?condition=not-running", expect=200)
    run("DELETE", "/containers/main?v=1", expect=204)
    run("POST", "/containers/prune", expect=200)
    for method, path in [
        ("GET", "json"), ("GET", "top"), ("GET", "logs?stdout=1"), ("GET", "changes"), ("GET", "export"),
        ("GET", "stats"), ("POST", "start"), ("POST", "stop"), ("POST", "restart"), ("POST", "kill"),
        ("POST", "pause"), ("POST", "unpause"), ("POST", "wait"), ("POST", "resize?h=1&w=1"),
        ("POST", "rename?name=x"), ("GET", "archive?path=/"),
    ]:
        run(method, f"/containers/nosuch/{path}", expect=404)
    run("DELETE", "/containers/nosuch", expect=404)
    run("POST", "/containers/nosuch/update", {}, expect=404)


def executed(run):
    made = run("POST", "/containers/main/exec", {"Cmd": ["true"], "AttachStdout": True}, expect=201)
    run("GET", f"/exec/{made['Id']}/json", expect=200)
    run("POST", f"/exec/{made['Id']}/start", {"Detach": True}, expect=200)
    run("GET", f"/exec/{made['Id']}/json", expect=200)
    run("GET", "/exec/nosuch/json", expect=404)
    run("POST", "/exec/nosuch/start", {}, expect=404)
    run("POST", "/containers/nosuch/exec", {"Cmd": ["true"]}, expect=404)


def volumes(run):
    run("POST", "/volumes/create", {"Name": "data", "Labels": {"a": "b"}}, expect=201)
    run("GET", "/volumes", expect=200)
    run("GET", "/volumes/data", expect=200)
    run("GET", "/volumes/nosuch", expect=404)
    run("DELETE", "/volumes/data", expect=204)
    run("DELETE", "/volumes/nosuch", expect=404)
    run("POST", "/volumes/prune?filters=" + quoted({"all": ["true"]}), expect=200)


def networks(run):
    run("GET", "/networks", expect=200)
    run("GET", "/networks/bridge?verbose=1", expect=200)
    run("GET", "/networks/none", expect=200)
    run("GET", "/networks/nosuch", expect=404)
    made = run("POST", "/networks/create", {"Name": "answers", "Labels": {"a": "b"}}, expect=201)
    if not made or not made.get("Id"):
        return
    run("POST", "/containers/create?name=member", {"Image": "busybox", "Cmd": ["sleep", "1000"]}, expect=201)
    run("POST", "/containers/member/start", expect=204)
    run("POST", "/networks/answers/connect", {"Container": "member"}, expect=200)
    run("GET", "/networks/answers", expect=200)
    run("GET", "/containers/member/json", expect=200)
    run("POST", "/networks/answers/disconnect", {"Container": "member"}, expect=200)
    run("DELETE", "/containers/member?force=1", expect=204)
    run("DELETE", "/networks/answers", expect=204)
    run("DELETE", "/networks/nosuch", expect=404)
    run("POST", "/networks/prune", expect=200)


def declined(run):
    for path in ("/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"):
        run("GET", path, expect=503)
    run("GET", "/plugins", expect=200)
    run("GET", "/plugins/nosuch/json", expect=404)


def main():
    run = Run(sys.argv[1], Description(sys.argv[2]))
    begun = int(time.time())
    for part in (system, images, containers, volumes, networks, declined):
        part(run)
    # What all of this told.
    run("GET", f"/events?since={begun}&until={int(time.time())}", expect=200)
    print(f"API {run.description.version}: {run.count} requests at {len(run.seen)} endpoints")
    for endpoint in sorted(run.missing):
        print(f"  not built: {endpoint}")
    for mistake in run.mistakes:
        print(f"  {mistake}", file=sys.stderr)
    sys.exit(1 if run.mistakes else 0)


main()
