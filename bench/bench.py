"""Corten beside its peers: sets up every engine that is installed, measures whole commands, prints one table.

Figures are medians of whole processes from outside (hyperfine -N where it is installed). Started by `bench/run`.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import build
import compose
import engines
import observe
import registry
from engines import Corten, Docker, Podman

RUNS = 20
GROUPS = ["start", "scale", "observe", "image", "logs", "net", "files", "compose", "registry", "build", "oci"]


class Table:
    """Rows of figures by label and engine; printed as they come and once more, whole, at the end."""

    def __init__(self):
        self.rows = {}
        self.units = {}
        self.limits = {}

    def add(self, label, engine, value, unit="ms", limit=None):
        self.rows.setdefault(label, {})[engine] = value
        self.units[label] = unit
        if limit is not None:
            self.limits[label] = limit
        print(f"  {label:44} {engine:8} {value:10.2f} {unit}", flush=True)

    def print(self, names):
        print(f"\n{'':46}" + "".join(f"{name:>12}" for name in names) + f"{'to reach':>12}{'best peer':>12}")
        for label, row in self.rows.items():
            cells = "".join(f"{row[name]:12.2f}" if name in row else f"{'-':>12}" for name in names)
            # An engine without a daemon has no idle memory.
            peers = [v for name, v in row.items() if name not in ("corten", "floor") and v]
            ratio = f"{row['corten'] / min(peers):11.2f}x" if peers and "corten" in row else f"{'':>12}"
            limit = f"{self.limits[label]:12.2f}" if label in self.limits else f"{'':>12}"
            print(f"{label + ' [' + self.units[label] + ']':46}{cells}{limit}{ratio}")


def hyperfine(command, prepare=None, runs=RUNS, ignore_failure=False):
    """Median in ms of a command without a shell."""
    with tempfile.NamedTemporaryFile() as out:
        args = ["hyperfine", "-N", "--warmup", "2", "--runs", str(runs), "--export-json", out.name]
        if prepare:
            args += ["--prepare", prepare]
        if ignore_failure:
            args.append("--ignore-failure")
        done = subprocess.run(args + [command], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr.strip().splitlines()[-1:]}")
        return json.load(open(out.name))["results"][0]["median"] * 1e3


def seconds(command, shell=True):
    start = time.monotonic()
    subprocess.run(command, shell=shell, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.monotonic() - start


def attempt(table, label, engine, measure, unit="ms", limit=None):
    try:
        table.add(label, engine.name, measure(), unit, limit)
    except (RuntimeError, subprocess.CalledProcessError, ValueError, OSError) as error:
        detail = getattr(error, "stderr", None) or error
        print(f"  {label:44} {engine.name:8} failed: {str(detail)[-160:]}", flush=True)


def bench_start(engine, table):
    cli, image, options = engine.cli, engine.image, engine.run_options
    attempt(table, "version, client only", engine, lambda: hyperfine(engine.version), limit=3)
    attempt(table, "run --rm true", engine, lambda: hyperfine(f"{cli} run --rm {image} true"), limit=15)
    attempt(table, "run --rm true, --network none", engine,
            lambda: hyperfine(f"{cli} run --rm --network none {image} true"), limit=10)
    subprocess.run(f"{cli} run -d {options} --name bench-exec {image} sleep 100000", shell=True, check=True, capture_output=True)
    attempt(table, "exec C true", engine, lambda: hyperfine(f"{cli} exec bench-exec true"), limit=6)
    attempt(table, "inspect", engine, lambda: hyperfine(f"{cli} inspect bench-exec"), limit=3)
    subprocess.run(f"{cli} rm -f bench-exec", shell=True, check=True, capture_output=True)


def bench_scale(engine, table, count=100):
    cli, image, options = engine.cli, engine.image, engine.run_options
    time.sleep(2)  # let an engine that was busy settle, so that its memory is its idle memory
    idle = engine.memory_kb()
    table.add("memory, idle (PSS)", engine.name, idle / 1024, "MB", 15)
    start = f"{cli} run -d {options} --name bench-%s {image} sleep 100000"
    attempt(table, f"{count} x run -d, one after the other", engine,
            lambda: seconds(f"for i in $(seq {count}); do {start % '$i'} || exit 1; done"), "s", 1.5)
    attempt(table, f"ps with {count} running", engine, lambda: hyperfine(f"{cli} ps"), limit=4)
    if engine.socket:
        attempt(table, f"stats of {count}, one by one: CPU", engine, lambda: observe.stats_one_by_one(engine, count))
    if engine.name == "corten":
        attempt(table, f"stats of {count} in one batch: CPU", engine, lambda: observe.stats_batch(engine), limit=30)
    time.sleep(2)
    table.add("memory per running container (PSS)", engine.name, (engine.memory_kb() - idle) / count / 1024, "MB", 0.4)
    table.add("private memory per monitor", engine.name, engine.monitor_private_kb(), "KiB", 400)
    attempt(table, f"stop -t 0 of {count} in one command, then rm", engine,
            lambda: seconds(f"{cli} stop -t 0 $({cli} ps -q) && {cli} rm $({cli} ps -aq)"), "s", 0.5)
    attempt(table, f"{count} x run -d, 8 at a time", engine,
            lambda: seconds(f"seq {count} | xargs -P8 -I% {start % '%'}"), "s", 0.9)
    engine.remove_all()


def bench_observe(engine, table, many=1000, lives=10_000):
    if not engine.socket:
        return
    observe.create(engine, many)
    attempt(table, f"ps -a of {many:,}", engine, lambda: hyperfine(f"{engine.cli} ps -a"), limit=15)
    observe.remove(engine, many)
    if engine.name != "corten":
        return  # the others need minutes for as many lives
    rate, lost = observe.lives(engine, lives)
    table.add("lives per second, 8 at a time", engine.name, rate, "/s")
    table.add(f"events lost of {lives:,} lives", engine.name, lost, "", 0)


def bench_image(engine, table, archive):
    saved = f"{engine.scratch}/saved.tar"
    size = os.path.getsize(archive)

    def load():
        engine.remove_image(engine.big)
        os.sync()
        return seconds(f"{engine.cli} load -i {archive}")

    attempt(table, f"load of a {size / 1e9:.2f} GB image", engine, lambda: statistics.median(load() for _ in range(3)), "s", 2)
    def save():
        pathlib.Path(saved).unlink(missing_ok=True)
        os.sync()
        return seconds(f"{engine.cli} save -o {saved} {engine.big}")

    attempt(table, "save of it", engine, lambda: statistics.median(save() for _ in range(3)), "s", 1.5)
    pathlib.Path(saved).unlink(missing_ok=True)
    engine.remove_image(engine.big)


def bench_logs(engine, table, lines):
    cli, image = engine.cli, engine.image
    run = f"{cli} run -d --network none --name bench-logs -v {lines}:/lines:ro {image} /lines && {cli} wait bench-logs"
    attempt(table, "1,000,000 lines: until the container ended", engine, lambda: seconds(run), "s", 0.3)
    attempt(table, "logs of all of them", engine,
            lambda: statistics.median(seconds(f"{cli} logs bench-logs") for _ in range(3)), "s", 0.5)
    attempt(table, "logs --tail 10", engine, lambda: hyperfine(f"{cli} logs --tail 10 bench-logs", runs=10), limit=4)
    subprocess.run(f"{cli} rm -f bench-logs", shell=True, capture_output=True)


def bench_files(engine, table):
    """10,000 new files in 100 directories; and one of 1 GiB there and back, beside a copy on the host at the same moment."""
    cli, image, scratch = engine.cli, engine.image, engine.scratch
    def run(command):
        subprocess.run(command, shell=True, check=True, capture_output=True)
    run(f"{cli} run -d {engine.run_options} --network none --name bench-files {image} sleep 100000")
    make = "mkdir /n; cd /n; for d in $(seq 1 100); do mkdir $d; for f in $(seq 1 100); do echo $d $f > $d/$f; done; done"
    run(f"{cli} exec bench-files sh -c '{make}'")
    os.sync()
    attempt(table, "diff of 10,000 new files", engine, lambda: hyperfine(f"{cli} diff bench-files", runs=10), limit=25)
    attempt(table, "commit of them", engine, lambda: hyperfine(f"{cli} commit bench-files bench-commit", runs=10), limit=150)
    run(f"{cli} rmi -f bench-commit")
    big, copy = f"{scratch}/gigabyte", f"{scratch}/copy"
    run(f"dd if=/dev/urandom of={big} bs=1M count=1024")

    def share(command):
        def once(command):
            pathlib.Path(copy).unlink(missing_ok=True)
            return seconds(command)
        # The best of three: what else the machine does only makes a copy slower.
        return min(once(f"cp {big} {copy}") for _ in range(3)) / min(once(command) for _ in range(3))

    attempt(table, "cp of 1 GiB in / copy on the host", engine, lambda: share(f"{cli} cp {big} bench-files:/big"), "", 0.7)
    attempt(table, "cp of 1 GiB out / copy on the host", engine, lambda: share(f"{cli} cp bench-files:/big {copy}"), "", 0.7)
    for path in (big, copy):
        pathlib.Path(path).unlink(missing_ok=True)
    run(f"{cli} rm -f bench-files")


def gbit(*args):
    done = subprocess.run(["iperf3", "-J", "-t", "2", *args], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e9


def bench_net(engine, table, iperf):
    """Throughput as a share of the loopback's, container on the default network."""
    cli, image = engine.cli, engine.image
    program = "/iperf/ld.so --library-path /iperf /iperf/iperf3"
    subprocess.run(f"{cli} run -d {engine.run_options} --name bench-net -p 127.0.0.1:5301:5201 -v {iperf}:/iperf:ro {image} {program} -s",
                   shell=True, check=True, capture_output=True)
    server = subprocess.Popen(["iperf3", "-s", "-B", "127.0.0.1", "-p", "5302"], stdout=subprocess.DEVNULL)
    try:
        address = subprocess.run(f"{cli} inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' bench-net",
                                 shell=True, check=True, capture_output=True, text=True).stdout.strip()
        time.sleep(1)  # both servers listen by now
        limit = ["-c", "127.0.0.1", "-p", "5302"]
        table.add("loopback, one TCP stream", engine.name, gbit(*limit), "Gbit/s")

        # Each beside the limit of the same moment: both swing with what else the machine does.
        def share(*way):
            return statistics.median(gbit(*way) / gbit(*limit) for _ in range(3))

        attempt(table, "host to container / loopback", engine, lambda: share("-c", address), "", 0.78)
        attempt(table, "container to host / loopback", engine, lambda: share("-c", address, "-R"), "", 0.78)
        attempt(table, "published port on 127.0.0.1 / loopback", engine,
                lambda: share("-c", "127.0.0.1", "-p", "5301"), "", 0.75)
    finally:
        server.terminate()
        server.wait()
        subprocess.run(f"{cli} rm -f bench-net", shell=True, capture_output=True)


def bench_oci(scratch, bin_dir, rootfs, table):
    """The bare runtimes on one bundle, with a network namespace that nobody sets up."""
    for name, runtime in [("corten", f"{bin_dir}/corten-oci"), ("crun", shutil.which("crun")), ("runc", shutil.which("runc"))]:
        if not runtime:
            continue
        bundle = pathlib.Path(scratch, f"bundle-{name}")
        bundle.mkdir()
        subprocess.run([runtime, "spec"], cwd=bundle, check=True)
        path = bundle / "config.json"
        config = json.loads(path.read_text())
        config["process"].update(args=["true"], terminal=False)
        config["process"].pop("rlimits", None)
        config["root"]["path"] = rootfs
        path.write_text(json.dumps(config))
        engine = engines.Named(name)
        root = f"--root {scratch}/oci-{name}"
        attempt(table, "OCI runtime: run", engine, lambda: hyperfine(f"{runtime} {root} run --bundle {bundle} bench-{name}"))
        config["process"]["args"] = ["sleep", "100000"]
        path.write_text(json.dumps(config))
        subprocess.run(f"{runtime} {root} run -d --bundle {bundle} bench-x </dev/null >/dev/null 2>&1", shell=True, check=True)
        attempt(table, "OCI runtime: exec true", engine, lambda: hyperfine(f"{runtime} {root} exec bench-x true"))
        subprocess.run(f"{runtime} {root} delete -f bench-x", shell=True, capture_output=True)


def bench_floor(here, scratch, rootfs, table):
    program = f"{scratch}/floor"
    subprocess.run(["gcc", "-O2", "-o", program, f"{here}/floor.c"], check=True)
    for mode, label in [("exec", "floor: fork and exec"), ("none", "floor: namespaces, overlay, exec"), ("net", "floor: with a network namespace")]:
        out = subprocess.run([program, mode, "200", rootfs, f"{scratch}/floor-tree"], check=True, capture_output=True, text=True)
        table.add(label, "floor", float(out.stdout) / 1e3)


def iperf_bundle(scratch):
    """iperf3 with its libraries, for an image that has none."""
    target = pathlib.Path(scratch, "iperf")
    target.mkdir()
    shutil.copy(shutil.which("iperf3"), target)
    for line in subprocess.run(["ldd", shutil.which("iperf3")], capture_output=True, text=True, check=True).stdout.splitlines():
        for word in line.split():
            if word.startswith("/"):
                shutil.copy(word, target / ("ld.so" if "ld-linux" in word else os.path.basename(word)))
    return target


def attempt_compose(engine, table, here, services):
    try:
        compose.bench_compose(engine, table, here, services)
    except (RuntimeError, subprocess.CalledProcessError, OSError) as error:
        print(f"  compose  {engine.name:8} failed: {str(getattr(error, 'stderr', None) or error)[-300:]}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--engines", default="corten,docker,podman")
    parser.add_argument("groups", nargs="*", default=GROUPS)
    options = parser.parse_args()
    groups = options.groups or GROUPS
    here = pathlib.Path(__file__).parent
    scratch = tempfile.mkdtemp(prefix="corten-bench.", dir="/var/tmp")
    table = Table()
    running = []
    try:
        rootfs, tarball = engines.busybox_rootfs(scratch)
        bench_floor(here, scratch, rootfs, table)
        if "oci" in groups:
            bench_oci(scratch, options.bin, rootfs, table)
        lines = f"{scratch}/lines"
        subprocess.run(["gcc", "-O2", "-static", "-o", lines, here / "lines.c"], check=True)
        iperf = iperf_bundle(scratch) if "net" in groups else None
        archive = engines.big_archive(scratch) if "image" in groups else None
        host_archive = engines.host_archive(scratch) if "registry" in groups else None
        contexts = build.Contexts(scratch) if "build" in groups else None
        services = compose.services_tarball(scratch) if "compose" in groups else None
        wanted = options.engines.split(",")
        for kind in (Corten, Docker, Podman):
            if kind.name not in wanted or not kind.installed(options.bin):
                continue
            print(f"== {kind.name}", flush=True)
            engine = kind(scratch, options.bin, tarball)
            running.append(engine)
            if "start" in groups:
                bench_start(engine, table)
            if "scale" in groups:
                bench_scale(engine, table)
            if "observe" in groups:
                bench_observe(engine, table)
            if "logs" in groups:
                bench_logs(engine, table, lines)
            if "net" in groups:
                bench_net(engine, table, iperf)
            if "files" in groups:
                bench_files(engine, table)
            if "compose" in groups:
                attempt_compose(engine, table, here, services)
            if "image" in groups:
                bench_image(engine, table, archive)
            if "registry" in groups:
                registry.bench_registry(sys.modules[__name__], engine, table, host_archive, f"{options.bin}/corten")
            if "build" in groups:
                build.bench_build(sys.modules[__name__], engine, table, here, contexts)
            engine.stop()
            running.remove(engine)
        table.print([name for name in ("corten", "docker", "buildkit", "podman", "crun", "runc", "floor") if any(name in row for row in table.rows.values())])
    finally:
        for engine in running:
            engine.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
