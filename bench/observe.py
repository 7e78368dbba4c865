"""What it costs to look at many containers: lists, statistics, events. Over the API, for engines that have a socket."""

import http.client
import json
import os
import pathlib
import socket
import statistics
import threading
import time
import urllib.parse


class Api(http.client.HTTPConnection):
    """One connection to an engine's socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def ask(self, method, path, body=None, wanted=(200, 201, 204)):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.getresponse()
        text = answer.read()
        if answer.status not in wanted:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:200]}")
        return text


def cpu_ms(pids):
    """Processor time of processes, all threads, to the microsecond."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
            except OSError:
                pass
    return total / 1e6


def stats_one_by_one(engine, count):
    """CPU of the engine for one document of each of `count` containers, asked for one by one."""
    api = Api(engine.socket)
    names = [f"bench-{i}" for i in range(1, count + 1)]

    def once():
        before = cpu_ms(engine.own_pids())
        for name in names:
            api.ask("GET", f"/v1.41/containers/{name}/stats?stream=false&one-shot=true")
        return cpu_ms(engine.own_pids()) - before

    once()
    return statistics.median(once() for _ in range(5))


def stats_batch(engine):
    """CPU of the engine for a second of statistics of all containers in one stream."""
    api = Api(engine.socket)
    api.request("GET", "/corten/stats?stream=1")
    stream = api.getresponse()
    used = []
    stream.readline()
    stream.readline()
    for _ in range(4):
        before = cpu_ms(engine.own_pids())
        stream.readline()
        used.append(cpu_ms(engine.own_pids()) - before)
    api.close()
    return statistics.median(used)


def create(engine, count):
    api = Api(engine.socket)
    labels = {"com.docker.compose.project": "bench", "maintainer": "somebody <some@body.org>"}
    for number in range(count):
        wish = {"Image": engine.image, "Cmd": ["sleep", "100000"], "Labels": labels}
        api.ask("POST", f"/v1.41/containers/create?name=many-{number}", wish)


def remove(engine, count):
    api = Api(engine.socket)
    for number in range(count):
        api.ask("DELETE", f"/v1.41/containers/many-{number}")


def lives(engine, count, workers=8):
    """Lets `count` containers live, while somebody listens: lives per second, and how many of their events were lost."""
    listener = Api(engine.socket)
    listener.request("GET", "/v1.41/events?filters=" + urllib.parse.quote('{"type":["container"]}'))
    stream = listener.getresponse()
    if stream.status != 200:
        raise RuntimeError(f"events: {stream.status}")
    seen = {"create": 0, "start": 0, "die": 0, "destroy": 0}

    def listen():
        while seen["destroy"] < count:
            line = stream.readline()
            if not line:
                return
            action = json.loads(line)["Action"]
            if action in seen:
                seen[action] += 1

    def live(first):
        api = Api(engine.socket)
        wish = {"Image": engine.image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
        for number in range(first, count, workers):
            api.ask("POST", f"/v1.41/containers/create?name=life-{number}", wish)
            api.ask("POST", f"/v1.41/containers/life-{number}/start")
            api.ask("POST", f"/v1.41/containers/life-{number}/wait")
            api.ask("DELETE", f"/v1.41/containers/life-{number}")

    ear = threading.Thread(target=listen, daemon=True)
    ear.start()
    begun = time.monotonic()
    threads = [threading.Thread(target=live, args=(first,)) for first in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    ear.join(30)
    listener.close()
    return count / took, float(sum(count - number for number in seen.values()))
