"""Docker Compose brings a stack of five services (tests/compose) up and down, with the same client on each engine."""

import os
import pathlib
import statistics
import subprocess
import time

RUNS = 3
PACKAGES = "nginx-light,postgresql,redis-server,python3,python3-psycopg2,python3-redis"
# What the image's users need of the root file system beside packages: the database's home.
HOOK = 'chroot "$1" install -d -o postgres -g postgres /var/lib/shop'


def services_tarball(scratch):
    """The root file system of the image `services`."""
    path = f"{scratch}/services.tar"
    suite = subprocess.run(". /etc/os-release && echo $VERSION_CODENAME", shell=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={HOOK}", suite, path],
                   check=True, capture_output=True)
    return path


def bench_compose(engine, table, here, tarball):
    """Rows for an engine that Docker's client can talk to; others have none."""
    host = getattr(engine, "host", None)
    if host is None:
        return
    root = pathlib.Path(here, "..")
    plugins = root / "target" / "clients"
    subprocess.run([root / "scripts" / "docker-plugins", plugins], check=True, capture_output=True)
    engine.call(f"import -c 'CMD [\"sh\"]' {tarball} services")
    project = root / "tests" / "compose"
    text = (project / "compose.yaml").read_text()
    # Compose looks at health every half second; without that wait the engines' own share is seen.
    unhurried = pathlib.Path(engine.scratch, "started.yaml")
    unhurried.write_text(text.replace("service_healthy", "service_started"))
    environment = dict(os.environ, DOCKER_HOST=host, DOCKER_CONFIG=str(plugins))

    def compose(file, *args):
        began = time.monotonic()
        subprocess.run(["docker", "compose", "-f", file, "--project-directory", project, *args],
                       check=True, capture_output=True, env=environment)
        return time.monotonic() - began

    for file, what in ((project / "compose.yaml", "waiting for health"), (unhurried, "not waiting for health")):
        up, down = [], []
        for _ in range(RUNS):
            up.append(compose(file, "up", "-d"))
            down.append(compose(file, "down", "-v", "-t", "0"))
        table.add(f"compose up, 5 services, {what}", engine.name, statistics.median(up), "s")
        table.add(f"compose down -v, {what}", engine.name, statistics.median(down), "s")
    engine.remove_image("services")
