"""Images to a registry and from there: Debian's docker-registry for every engine, on loopback."""

import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time


class Registry:
    """A registry on a port and a directory of its own: Corten's program, or docker-registry."""

    def __init__(self, scratch, corten=None):
        self.data = pathlib.Path(scratch, "registry")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        if corten:
            command = [corten, "registry", "serve", "--data", str(self.data), "--listen", self.address]
        else:
            config = pathlib.Path(scratch, "registry.yml")
            config.write_text("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: '%s'}\n"
                              % (self.data, self.address))
            command = ["docker-registry", "serve", str(config)]
        log = open(f"{scratch}/registry.log", "w")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        host, port = self.address.split(":")
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{command[0]} does not come up")

    def empty(self):
        shutil.rmtree(self.data, ignore_errors=True)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.empty()


def peak_kb(pid):
    status = pathlib.Path("/proc", str(pid), "status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


def bench_registry(bench, engine, table, archive, corten):
    """Each figure is of whole commands; what was written before is on the disk when one begins."""
    registry = Registry(engine.scratch)
    insecure = "--tls-verify=false " if engine.name == "podman" else ""
    name = f"{registry.address}/bench/big:1"

    def sh(command):
        return subprocess.run(command, shell=True, check=True, capture_output=True, text=True)

    def push(options=""):
        registry.empty()
        os.sync()
        return bench.seconds(f"{engine.cli} push {insecure}{options} {name}")

    def pull():
        engine.remove_image(name)
        engine.remove_image(engine.big)
        os.sync()
        return bench.seconds(f"{engine.cli} pull {insecure}{name}")

    def push_own():
        own = Registry(tempfile.mkdtemp(dir=engine.scratch), corten)
        try:
            other = f"{own.address}/bench/big:1"
            sh(f"{engine.cli} tag {name} {other}")
            os.sync()
            took = bench.seconds(f"{engine.cli} push {insecure}{other}")
            engine.remove_image(other)
            return took
        finally:
            own.stop()

    def pull_growth():
        pid = engine.daemon.pid
        pull()
        time.sleep(2)
        pathlib.Path("/proc", str(pid), "clear_refs").write_text("5")
        before = peak_kb(pid)
        pull()
        return (peak_kb(pid) - before) / 1024

    try:
        sh(f"{engine.cli} load -i {archive}")
        sh(f"{engine.cli} tag {engine.big} {name}")
        size = os.path.getsize(archive) / 1e9
        if engine.name == "corten":
            bench.attempt(table, "push of it, zstd", engine, lambda: push("--compression zstd"), "s", 3)
        bench.attempt(table, f"push of a {size:.2f} GB image, gzip", engine, push, "s", 6)
        bench.attempt(table, "push of it, all there", engine, lambda: bench.hyperfine(f"{engine.cli} push {insecure}{name}"))
        bench.attempt(table, "pull of it", engine, lambda: statistics.median(pull() for _ in range(3)), "s", 3)
        bench.attempt(table, "pull of it, up to date", engine, lambda: bench.hyperfine(f"{engine.cli} pull {insecure}{name}"), limit=6)
        if engine.name == "corten":
            bench.attempt(table, "memory for a pull, beyond idle", engine, pull_growth, "MB", 80)
        bench.attempt(table, "push of it, pulled before, to a corten registry of this host", engine, push_own, "s")
        tiny = f"{registry.address}/bench/tiny"
        sh(f"{engine.cli} tag {engine.image} {tiny} && {engine.cli} push {insecure}{tiny}")
        sh(f"{engine.cli} rmi -f {engine.image}")
        bench.attempt(table, "run of a tiny image, to be pulled", engine,
                      lambda: bench.hyperfine(f"{engine.cli} run --rm {insecure}{tiny} true",
                                              prepare=f"{engine.cli} rmi -f {tiny}", ignore_failure=False), limit=40)
    finally:
        for image in (name, f"{registry.address}/bench/tiny", engine.big):
            engine.remove_image(image)
        registry.stop()
