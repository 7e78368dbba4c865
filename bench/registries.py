#!/usr/bin/env python3
"""Throughput and memory of registries on loopback: corten registry serve beside Debian's docker-registry.

  bench/registries.py CORTEN [--seconds N] [--pullers N] [--pushers N] [--blob MIB] [--only corten|docker-registry]
                             [--config FILE]

Pullers get manifests and layers over kept connections, as fast as they come; bodies are dropped in the kernel (MSG_TRUNC), so that
what is measured is the server. Pushers upload layers that nobody has (POST, PATCH, PUT, then a manifest), prepared before the
clock starts. Three rounds: pulling alone, pushing alone, both. Each server starts on an empty directory. With --config, corten is
measured with that configuration, too: one that names an object store, say, with nothing in it.
"""
import argparse, hashlib, http.client, json, multiprocessing, os, shutil, socket, subprocess, sys, tempfile, threading, time

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PROCESSES = 4


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, name, corten, place, config):
        self.name, self.port = name, free_port()
        data = os.path.join(place, name)
        if name.startswith("corten"):
            command = [corten, "registry", "serve", "--data", data, "--listen", f"127.0.0.1:{self.port}", "--log-level", "warn"]
            if name != "corten":
                command += ["--config", config]
        else:
            config = os.path.join(place, "config.yml")
            with open(config, "w") as f:
                f.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
                        f"storage: {{filesystem: {{rootdirectory: {data}}}, cache: {{blobdescriptor: inmemory}}}}\n"
                        f"http: {{addr: '127.0.0.1:{self.port}'}}\n")
            command = ["docker-registry", "serve", config]
        self.log = open(os.path.join(place, name + ".log"), "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                if self.ask("GET", "/v2/")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{name} does not answer")

    def ask(self, method, path, body=None, headers={}):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers

    def memory(self):
        """MiB: the most that was resident so far; and what is its own now."""
        with open(f"/proc/{self.process.pid}/status") as f:
            status = dict(line.split(":", 1) for line in f)
        return tuple(int(status[key].split()[0]) / 1024 for key in ("VmHWM", "RssAnon"))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Wire:
    """A kept connection that spends as little as it can."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def send(self, method, path, body=b"", headers=""):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
        if body:
            self.socket.sendall(head)
            self.socket.sendall(body)
        else:
            self.socket.sendall(head)

    def head(self):
        while b"\r\n\r\n" not in self.rest:
            more = self.socket.recv(4096)
            if not more:
                raise EOFError("the server has closed the connection")
            self.rest += more
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        return int(lines[0].split()[1]), {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}

    def drop(self, headers):
        length = int(headers.get("content-length", 0))
        left = length - len(self.rest)
        assert left >= 0
        self.rest = b""
        while left:
            # To TCP, MSG_TRUNC means: throw them away.
            count = len(self.socket.recv(min(left, 1 << 20), socket.MSG_TRUNC)) if left < 4096 else self.trunc(left)
            if not count:
                raise EOFError
            left -= count
        return length

    buffer = bytearray(1 << 20)

    def trunc(self, left):
        return self.socket.recv_into(Wire.buffer, min(left, 1 << 20), socket.MSG_TRUNC)

    def ask(self, method, path, body=b"", headers=""):
        self.send(method, path, body, headers)
        status, fields = self.head()
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status}")
        return fields, self.drop(fields)


def push(wire, name, blobs, config):
    """Layers and a manifest. Bytes that went over the wire."""
    sent = 0
    for data, name_of in [*blobs, config]:
        fields, _ = wire.ask("POST", f"/v2/{name}/blobs/uploads/")
        location = fields["location"].replace(f"http://localhost", "")
        fields, _ = wire.ask("PATCH", location, data, "Content-Type: application/octet-stream\r\n")
        location = fields["location"].replace(f"http://localhost", "")
        wire.ask("PUT", location + ("&" if "?" in location else "?") + "digest=" + name_of)
        sent += len(data)
    entry = lambda kind, item: {"mediaType": kind, "digest": item[1], "size": len(item[0])}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": entry(CONFIG, config),
                           "layers": [entry(LAYER, item) for item in blobs]}).encode()
    wire.ask("PUT", f"/v2/{name}/manifests/latest", manifest, f"Content-Type: {MANIFEST}\r\n")
    return sent


def blob(size, seed):
    unique = os.urandom(64) + seed.encode()
    data = unique + bytes(BASE[len(unique):size])
    return data, digest(data)


BASE = os.urandom(1 << 20) * 64


def pulling(port, threads, images, start, stop, out):
    counts = [[0, 0] for _ in range(threads)]

    def pull(number):
        wire = Wire(port)
        start.wait()
        while time.time() < stop.value:
            for name, layers in images[number % len(images):] + images:
                wire.ask("GET", f"/v2/{name}/manifests/latest", b"", f"Accept: {MANIFEST}\r\n")
                for layer in layers:
                    counts[number][0] += wire.ask("GET", f"/v2/{name}/blobs/{layer}")[1]
                    counts[number][1] += 1
                    if time.time() >= stop.value:
                        return

    workers = [threading.Thread(target=pull, args=(n,)) for n in range(threads)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    out.put(("pulled", sum(c[0] for c in counts), sum(c[1] for c in counts)))


def pushing(port, threads, process, size, rounds, ready, start, stop, out):
    config = (b'{"architecture":"amd64","os":"linux"}', digest(b'{"architecture":"amd64","os":"linux"}'))
    stock = [[blob(size, f"{process}/{n}/{r}") for r in range(rounds)] for n in range(threads)]
    counts = [[0, 0] for _ in range(threads)]
    ready.wait()

    def run(number):
        wire = Wire(port)
        start.wait()
        for r, item in enumerate(stock[number]):
            if time.time() >= stop.value:
                return
            counts[number][0] += push(wire, f"push/{process}-{number}-{r}", [item], config)
            counts[number][1] += 1
        print("a pusher has run out of blobs: fewer seconds, or more memory", file=sys.stderr)

    workers = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    out.put(("pushed", sum(c[0] for c in counts), sum(c[1] for c in counts)))


def measure(server, images, pullers, pushers, seconds, size):
    out, start, stop = multiprocessing.Queue(), multiprocessing.Event(), multiprocessing.Value("d", 0)
    processes = []
    ready = multiprocessing.Barrier(1 + (PROCESSES if pushers else 0))
    for n in range(PROCESSES):
        if pullers:
            processes.append(multiprocessing.Process(target=pulling, args=(server.port, pullers // PROCESSES, images, start, stop, out)))
        if pushers:
            rounds = max(2, int(seconds * 600e6 / size / pushers))
            processes.append(multiprocessing.Process(
                target=pushing, args=(server.port, pushers // PROCESSES, n, size, rounds, ready, start, stop, out)))
    [p.start() for p in processes]
    ready.wait()
    time.sleep(0.5)
    os.sync()
    server.forget_peak()
    cpu, begun = server.cpu(), time.time()
    stop.value = begun + seconds
    start.set()
    totals = {}
    for _ in processes:
        kind, count, number = out.get()
        have = totals.get(kind, (0, 0))
        totals[kind] = have[0] + count, have[1] + number
    took = time.time() - begun
    [p.join() for p in processes]
    peak, own = server.memory()
    text = ", ".join(f"{kind} {count / took / 1e6:.0f} MB/s ({number / took:.0f}/s)" for kind, (count, number) in sorted(totals.items()))
    print(f"  {server.name:16} {text}; cpu {(server.cpu() - cpu) / took:.2f} cores; memory {peak:.1f} MiB at most, {own:.1f} MiB its own", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corten")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--pullers", type=int, default=64)
    parser.add_argument("--pushers", type=int, default=16)
    parser.add_argument("--blob", type=float, default=8, help="MiB of a layer")
    parser.add_argument("--only")
    parser.add_argument("--config")
    args = parser.parse_args()
    size = int(args.blob * (1 << 20))
    place = tempfile.mkdtemp(prefix="bench-registry-", dir=os.environ.get("BENCH_DIR", "/var/tmp"))
    try:
        for name in ["corten", *(["corten (config)"] if args.config else []), "docker-registry"]:
            if args.only not in (None, name.split()[0]):
                continue
            server = Server(name, args.corten, place, args.config)
            try:
                config = (b"{}", digest(b"{}"))
                images = []
                wire = Wire(server.port)
                for n in range(8):
                    layers = [blob(size, f"{n}/{layer}") for layer in range(4)]
                    push(wire, f"pull/{n}", layers, config)
                    images.append((f"pull/{n}", [name_of for _, name_of in layers]))
                measure(server, images, args.pullers, 0, args.seconds, size)
                measure(server, images, 0, args.pushers, args.seconds, size)
                measure(server, images, args.pullers, args.pushers, args.seconds, size)
            finally:
                server.stop()
                shutil.rmtree(os.path.join(place, name), ignore_errors=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


main()
