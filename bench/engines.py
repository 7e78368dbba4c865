"""The engines under measurement: how each is set up privately, told what to do, and taken down again."""

import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import tarfile
import time


class Named:
    def __init__(self, name):
        self.name = name


def processes(pattern):
    """(pid, path of smaps_rollup) of every process whose name matches."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if re.search(pattern, pathlib.Path("/proc", entry, "comm").read_text().strip()):
                    yield entry, f"/proc/{entry}/smaps_rollup"
            except OSError:
                pass


def parent(pid):
    try:
        return pathlib.Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[1]
    except OSError:
        return None


def memory(members, fields):
    total = []
    for _, path in members:
        try:
            lines = open(path).read().splitlines()[1:]
        except OSError:
            continue
        values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        total.append(sum(values[field] for field in fields))
    return total


class Engine:
    name = ""
    run_options = ""
    processes = ""
    monitors = ""
    image = "bench-busybox"
    big = "bench-big:1"
    # Where it speaks the Engine API, if it does.
    socket = None

    def own_pids(self):
        """The engine's own processes, without its containers' monitors."""
        return [self.daemon.pid]

    def call(self, args, **options):
        return subprocess.run(f"{self.cli} {args}", shell=True, check=True, capture_output=True, text=True, **options)

    def wait_until_ready(self):
        for _ in range(200):
            if subprocess.run(f"{self.cli} version", shell=True, capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not come up")

    def members(self):
        """(pid, path of smaps_rollup) of the engine's own processes."""
        return list(processes(self.processes))

    def memory_kb(self):
        return sum(memory(self.members(), ["Pss"]))

    def monitor_private_kb(self):
        """The median monitor's memory that it shares with nobody."""
        monitors = {pid for pid, _ in processes(self.monitors)}
        members = [member for member in self.members() if member[0] in monitors]
        each = sorted(memory(members, ["Private_Clean", "Private_Dirty"]))
        return float(each[len(each) // 2]) if each else 0.0

    def remove_all(self):
        subprocess.run(f"ids=$({self.cli} ps -aq); [ -z \"$ids\" ] || {self.cli} rm -f {self.force_options} $ids", shell=True, capture_output=True)

    force_options = ""

    def remove_image(self, name):
        subprocess.run(f"{self.cli} rmi -f {name}", shell=True, capture_output=True)

    def stop(self):
        self.remove_all()
        daemon = getattr(self, "daemon", None)
        if daemon:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


class Corten(Engine):
    name = "corten"
    processes = "^corten"
    monitors = "^corten-shim"

    @staticmethod
    def installed(bin_dir):
        return os.path.exists(f"{bin_dir}/corten")

    def __init__(self, scratch, bin_dir, tarball):
        self.scratch = scratch
        self.run = pathlib.Path("/run", "corten-bench-" + os.path.basename(scratch))
        socket = f"unix://{self.run}/corten.sock"
        self.socket = self.run / "corten.sock"
        self.host = socket
        self.cli = f"{bin_dir}/corten -H {socket}"
        self.version = f"{bin_dir}/corten version --client"
        log = open(f"{scratch}/corten.log", "w")
        self.daemon = subprocess.Popen(
            [f"{bin_dir}/corten", "daemon", "-H", socket, "--data-root", f"{scratch}/corten", "--exec-root", str(self.run)],
            stdout=log, stderr=log)
        self.wait_until_ready()
        self.call(f"import -c 'CMD [\"sh\"]' {tarball} {self.image}")

    def members(self):
        # The engine, its zygote, and the monitors that this forked; other engines may run on the host.
        family = {str(self.daemon.pid)}
        parents = {pid: parent(pid) for pid in os.listdir("/proc") if pid.isdigit()}
        while more := {pid for pid, its in parents.items() if its in family} - family:
            family |= more
        return [(pid, f"/proc/{pid}/smaps_rollup") for pid in family]

    def stop(self):
        super().stop()
        shutil.rmtree(self.run, ignore_errors=True)


class Docker(Engine):
    name = "docker"
    processes = "^(dockerd|containerd|containerd-shim|docker-proxy|runc)"
    monitors = "^containerd-shim"

    @staticmethod
    def installed(_):
        return shutil.which("dockerd") and shutil.which("docker")

    def __init__(self, scratch, _, tarball):
        self.scratch = scratch
        self.run = pathlib.Path("/run", "docker-bench-" + os.path.basename(scratch))
        self.socket = f"{self.run}.sock"
        self.host = f"unix://{self.run}.sock"
        self.cli = f"docker -H {self.host}"
        self.version = "docker --version"
        log = open(f"{scratch}/docker.log", "w")
        self.daemon = subprocess.Popen(
            ["dockerd", "-H", f"unix://{self.run}.sock", "--data-root", f"{scratch}/docker", "--exec-root", str(self.run),
             "--pidfile", f"{scratch}/docker.pid", "--storage-driver", "overlay2"], stdout=log, stderr=log)
        self.wait_until_ready()
        self.call(f"import -c 'CMD [\"sh\"]' {tarball} {self.image}")

    def own_pids(self):
        # Other daemons may run on the host: ours, and the containerd that it started.
        ours = str(self.daemon.pid)
        return [ours] + [pid for pid, _ in processes("^containerd$") if parent(pid) == ours]

    def stop(self):
        super().stop()
        subprocess.run(f"umount {self.run}/netns/* 2>/dev/null", shell=True)
        shutil.rmtree(self.run, ignore_errors=True)
        # dockerd leaves its bridge and chains behind; they are ours, as no docker0 was there before.
        subprocess.run("ip link del docker0; nft delete table ip nat; nft delete table ip filter", shell=True, capture_output=True)


class Podman(Engine):
    name = "podman"
    processes = "^(conmon|podman|aardvark|netavark)"
    monitors = "^conmon"
    run_options = "--stop-timeout 0"
    force_options = "-t 0"
    image = "localhost/bench-busybox"
    big = "localhost/bench-big:1"

    @staticmethod
    def installed(_):
        return shutil.which("podman")

    def __init__(self, scratch, _, tarball):
        self.scratch = scratch
        limit = subprocess.run("ulimit -n", shell=True, capture_output=True, text=True).stdout.strip()
        config = pathlib.Path(scratch, "containers.conf")
        # Without CAP_SYS_RESOURCE its own default limits fail.
        config.write_text(f'[containers]\ndefault_ulimits = ["nofile={limit}:{limit}","nproc=32000:32000"]\n'
                          '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n')
        os.environ["CONTAINERS_CONF"] = str(config)
        # Which of the two it makes depends on its version; one that somebody uses already stays.
        self.bridges = [name for name in ("podman0", "cni-podman0") if not os.path.exists(f"/sys/class/net/{name}")]
        self.cli = f"podman --root {scratch}/podman --runroot {scratch}/podman-run --storage-driver overlay"
        self.version = "podman --version"
        self.call(f"import -c 'CMD [\"sh\"]' {tarball} {self.image}")

    def stop(self):
        super().stop()
        for bridge in self.bridges:
            subprocess.run(["ip", "link", "del", bridge], capture_output=True)
        subprocess.run("nft delete table inet netavark", shell=True, capture_output=True)
        subprocess.run(f"umount {self.scratch}/podman/overlay 2>/dev/null", shell=True)


def busybox_rootfs(scratch):
    """A root file system around the static busybox, as a directory and as a tarball."""
    root = pathlib.Path(scratch, "rootfs")
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "usr", "var"]:
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "usr/bin").symlink_to("../bin")
    tarball = f"{scratch}/busybox.tar"
    subprocess.run(["tar", "-C", root, "-cf", tarball, "."], check=True)
    return str(root), tarball


def big_archive(scratch, layers=6, layer_bytes=170 << 20):
    """A `docker save` archive of about 1 GB in 6 layers of files of many sizes, the same at every run."""
    rng = random.Random(1)
    noise = rng.randbytes(4 << 20)

    def fill(tar, number):
        written, count = 0, 0
        while written < layer_bytes:
            size = min(int(rng.lognormvariate(8.5, 2)), 8 << 20)
            info = tarfile.TarInfo(f"usr/share/layer{number}/{count // 200}/file{count}")
            info.size, info.mode, info.mtime = size, 0o644, 1_700_000_000
            start = rng.randrange(len(noise))
            tar.addfile(info, Noise(noise, start, size))
            written += size
            count += 1

    return image_archive(scratch, layers, fill)


def host_archive(scratch, layers=6, layer_bytes=170 << 20):
    """The same of files of this host, so that they can be compressed as an image's usually can."""
    def files():
        for top in ("/usr/lib", "/usr/bin", "/usr/share", "/usr/include", "/usr/local", "/opt"):
            for directory, below, names in os.walk(top):
                below.sort()
                for name in sorted(names):
                    path = os.path.join(directory, name)
                    if os.path.isfile(path) and not os.path.islink(path):
                        yield path
    all_files = files()

    def fill(tar, _):
        written = 0
        for path in all_files:
            tar.add(path, arcname=path.lstrip("/"), recursive=False)
            written += os.path.getsize(path)
            if written >= layer_bytes:
                return

    return image_archive(scratch, layers, fill)


def image_archive(scratch, layers, fill):
    work = pathlib.Path(scratch, "big")
    work.mkdir()
    entries, diff_ids = [], []
    for number in range(layers):
        name = f"layer{number}.tar"
        with tarfile.open(work / name, "w") as tar:
            fill(tar, number)
        diff_ids.append("sha256:" + sha256(work / name))
        entries.append(name)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"layer {n}"} for n in range(layers)],
        "created": "2026-01-01T00:00:00Z",
    }
    text = json.dumps(config).encode()
    config_name = hashlib.sha256(text).hexdigest() + ".json"
    (work / config_name).write_bytes(text)
    manifest = [{"Config": config_name, "RepoTags": ["bench-big:1"], "Layers": entries}]
    (work / "manifest.json").write_text(json.dumps(manifest))
    archive = f"{scratch}/{fill.__qualname__.split('.')[0]}.tar"
    subprocess.run(["tar", "-C", work, "-cf", archive, config_name, *entries, "manifest.json"], check=True)
    shutil.rmtree(work)
    return archive


class Noise:
    """A file object that reads a stretch of a ring of random bytes."""

    def __init__(self, data, start, size):
        self.data, self.at, self.left = data, start, size

    def read(self, wanted):
        wanted = min(wanted, self.left)
        out = bytearray()
        while len(out) < wanted:
            piece = self.data[self.at:self.at + wanted - len(out)]
            out += piece
            self.at = (self.at + len(piece)) % len(self.data)
        self.left -= wanted
        return bytes(out)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
