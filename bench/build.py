"""Dockerfiles to images: whole commands of each engine's own client, and on Docker both of its builders; no network but loopback in it."""

import base64
import os
import pathlib
import random
import shutil
import statistics
import subprocess

from registry import Registry

BASE = "bench-base"
COLD_RUNS = 3

# A program with its vendored packages: 10 steps, 1,000 files copied, 50 MB made.
USUAL = f"""FROM {BASE}
ENV A=1 B=2
WORKDIR /app
RUN mkdir -p /var/lib/thing && dd if=/dev/zero of=/var/lib/thing/blob bs=1M count=50
COPY package.json .
RUN find /usr -name '*.so*' | sort > /app/libs.txt && tar cf /app/doc.tar /usr/share/doc
COPY vendor vendor
RUN for d in vendor/*; do cat $d/*.txt > $d/all.out; done
COPY src src
LABEL x=y
EXPOSE 80
CMD ["sh","src/m1.sh"]
"""

# Each stage keeps a core busy for about a second.
STAGES = f"""FROM {BASE} AS left
RUN head -c 150M /dev/zero | sha512sum > /left
RUN head -c 150M /dev/zero | sha256sum >> /left
FROM {BASE} AS right
RUN head -c 150M /dev/zero | sha384sum > /right
RUN head -c 150M /dev/zero | sha256sum >> /right
FROM {BASE}
COPY --from=left /left /
COPY --from=right /right /
"""

CONTEXT = f"FROM {BASE}\nCOPY . /all/\n"

# What it takes to make the files is part of it; tar is the fastest way that the base has.
FILES = f"FROM {BASE}\nCOPY many.tar /\nRUN mkdir /n && tar xf many.tar -C /n\n"


class Builder:
    """One way to build: its column in the table, a command line without its last arguments, and how to forget what is known."""

    def __init__(self, name, command, forget, by=""):
        self.name, self.command, self.forget, self.by = name, command, forget, by

    def build(self, context):
        return f"{self.command} -t bench-built {context}"


def base_tarball(scratch):
    path = f"{scratch}/base.tar"
    suite = subprocess.run(". /etc/os-release && echo $VERSION_CODENAME", shell=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", suite, path], check=True, capture_output=True)
    return path


def builders(engine, here):
    if engine.name == "podman":
        # Its prune takes the layers that no image names: all that its cache is made of.
        return [Builder("podman", f"{engine.cli} build", f"{engine.cli} image prune -f")]
    # By Docker's client on every engine that has one; Corten's and Docker's caches are pruned by the same request.
    plugins = pathlib.Path(here, "..", "target", "clients")
    subprocess.run([pathlib.Path(here, "..", "scripts", "docker-plugins"), plugins], check=True, capture_output=True)
    client = f"docker -H {engine.host}"
    forget = f"{client} builder prune -af"
    buildkit = f"env DOCKER_CONFIG={plugins} {client} build"
    if engine.name == "corten":
        return [Builder("corten", f"{engine.cli} build", forget), Builder("corten", buildkit, forget, ", by docker's client")]
    # The older builder's cache is its images.
    return [Builder("buildkit", buildkit, forget), Builder("docker", f"env DOCKER_BUILDKIT=0 {client} build", f"{forget}; {client} image prune -f")]


def usual_context(scratch):
    root = pathlib.Path(scratch, "usual")
    noise = random.Random(1)
    for package in range(200):
        (root / f"vendor/p{package}").mkdir(parents=True)
        for number in range(5):
            (root / f"vendor/p{package}/f{number}.txt").write_bytes(base64.encodebytes(noise.randbytes(4000)))
    (root / "src").mkdir()
    for number in range(20):
        (root / f"src/m{number}.sh").write_text(f"echo module {number}\n")
    (root / "package.json").write_text('{"deps":1}\n')
    (root / "Dockerfile").write_text(USUAL)
    return root


def large_context(scratch, files=50_000, size=10_500):
    root = pathlib.Path(scratch, "large")
    noise = random.Random(2).randbytes(size + files)
    for number in range(files):
        directory = root / f"d{number // 200}"
        if number % 200 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number}").write_bytes(noise[number:number + size])
    (root / "Dockerfile").write_text(CONTEXT)
    return root


def files_context(scratch, files=10_000):
    root = pathlib.Path(scratch, "files")
    made = root / "made"
    for number in range(files):
        directory = made / f"d{number // 100}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_text(f"{number}\n" * 50)
    subprocess.run(["tar", "-C", made, "-cf", root / "many.tar", "."], check=True)
    shutil.rmtree(made)
    (root / "Dockerfile").write_text(FILES)
    return root


def stages_context(scratch):
    root = pathlib.Path(scratch, "stages")
    root.mkdir()
    (root / "Dockerfile").write_text(STAGES)
    return root


class Contexts:
    def __init__(self, scratch):
        self.base = base_tarball(scratch)
        self.usual = usual_context(scratch)
        self.stages = stages_context(scratch)
        self.large = large_context(scratch)
        self.files = files_context(scratch)


def bench_build(bench, engine, table, here, contexts):
    engine.call(f"import -c 'CMD [\"sh\"]' {contexts.base} {BASE}")

    def sh(command):
        subprocess.run(command, shell=True, check=True, capture_output=True, text=True)

    for builder in builders(engine, here):
        def cold(context):
            def once():
                subprocess.run(f"{engine.cli} rmi -f bench-built; {builder.forget}", shell=True, capture_output=True)
                os.sync()
                return bench.seconds(builder.build(context))
            return statistics.median(once() for _ in range(COLD_RUNS))

        def changed():
            path = contexts.usual / "src/m7.sh"
            return bench.hyperfine(builder.build(contexts.usual), prepare=f"sh -c 'date +%N > {path}'", runs=10)

        def again(context):
            sh(builder.build(context))
            return bench.hyperfine(builder.build(context), runs=10)

        def more_files():
            # The step alone is done again: what it needs is there.
            sh(builder.build(contexts.files))
            dockerfile = contexts.files / "Dockerfile"
            def once(number):
                dockerfile.write_text(FILES.replace("mkdir /n", f": {number}; mkdir /n"))
                os.sync()
                return bench.seconds(builder.build(contexts.files))
            took = statistics.median(once(number) for number in range(COLD_RUNS))
            dockerfile.write_text(FILES)
            return took

        def warm():
            # A host that has the base alone builds with what another has sent: an image with its steps.
            registry = Registry(engine.scratch)
            name = f"{registry.address}/bench/warm:1"
            try:
                sh(f"{builder.command} --build-arg BUILDKIT_INLINE_CACHE=1 -t {name} {contexts.usual} && {engine.cli} push {name}")
                def once():
                    subprocess.run(f"{engine.cli} rmi -f bench-built {name}; {builder.forget}", shell=True, capture_output=True)
                    os.sync()
                    return bench.seconds(f"{builder.command} --cache-from {name} -t bench-built {contexts.usual}")
                return statistics.median(once() for _ in range(COLD_RUNS))
            finally:
                subprocess.run(f"{engine.cli} rmi -f {name}", shell=True, capture_output=True)
                registry.stop()

        def row(label, measure, unit="ms", limit=None):
            bench.attempt(table, label + builder.by, builder, measure, unit, None if builder.by else limit)

        row("build of 10 steps, cold", lambda: cold(contexts.usual), "s", 0.6)
        row("build of them, nothing changed", lambda: again(contexts.usual), limit=25)
        row("build of them, the last COPY changed", changed, limit=50)
        if builder.name in ("corten", "buildkit"):
            row("build of them on another host, cache from a registry", warm, "s")
        row("build of two independent stages, cold", lambda: cold(contexts.stages), "s")
        row("build of 50,000 files in 500 MiB, cold", lambda: cold(contexts.large), "s")
        row("build of them again, nothing changed", lambda: again(contexts.large), limit=300)
        row("build step that adds 10,000 files", more_files, "s")
        subprocess.run(f"{engine.cli} rmi -f bench-built; {builder.forget}", shell=True, capture_output=True)
    engine.remove_image(BASE)
