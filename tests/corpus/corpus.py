#!/usr/bin/env python3
"""The corpus: Dockerfiles with their contexts, and what BuildKit makes of them.

A case NAME.case holds files, each behind a line `-- path --`. `prepare.sh`, if there, is run in the context and is no part of it;
`options.json` has `target`, `args` and `deviations`: where an image of ours differs, and why. NAME.json holds the facts of BuildKit's
image, or that it refuses the Dockerfile.

    corpus.py unpack CASE DIRECTORY            writes the context
    corpus.py facts ARCHIVE                    prints the facts of an image archive (OCI layout in a tar)
    corpus.py record BUILDCTL ADDRESS BASE [CASE…]
        makes NAME.json anew, of all; BASE is a directory with the base as OCI layout

Facts are of the layers above the base and of the configuration; times are left out.
"""

import gzip
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).parent
BASE_LAYERS = 1
KINDS = {
    tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "link", tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block",
}
# No program looks at it on Linux.
UNTOLD = {"ArgsEscaped"}
STRUCTURED = {"CMD", "ENTRYPOINT", "SHELL", "HEALTHCHECK", "EXPOSE", "VOLUME"}
# What a container has of its own while a step runs, left behind as empty files by some builders and not by others.
TRANSIENT = {"etc/hosts", "etc/resolv.conf", "etc/hostname", "proc", "sys", "dev", "dev/console", "dev/pts", "dev/shm", "etc/mtab"}


def unpack(case, directory):
    path, lines = None, []
    root = pathlib.Path(directory)

    def close():
        if path is not None:
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(lines))

    for line in (HERE / f"{case}.case").read_text().splitlines(keepends=True):
        if line.startswith("-- ") and line.endswith(" --\n"):
            close()
            path, lines = line[3:-4], []
        else:
            lines.append(line)
    close()
    prepare, options = root / "prepare.sh", root / "options.json"
    if prepare.exists():
        text = prepare.read_text()
        prepare.unlink()
        subprocess.run(["sh", "-e", "-c", text], cwd=root, check=True)
    found = json.loads(options.read_text()) if options.exists() else {}
    options.unlink(missing_ok=True)
    return found


def entry(tar, member):
    kind = KINDS.get(member.type, "file")
    fact = f"{kind} {member.mode:04o} {member.uid}:{member.gid}"
    if kind in ("symlink", "link"):
        return f"{fact} -> {member.linkname if kind == 'symlink' else clean(member.linkname)}"
    if kind in ("char", "block"):
        return f"{fact} {member.devmajor}:{member.devminor}"
    if kind == "file":
        content = tar.extractfile(member).read()
        return f"{fact} {len(content)} {hashlib.sha256(content).hexdigest()[:16]}"
    return fact


def clean(name):
    return name.strip("/").removeprefix("./").rstrip("/")


def merge(files, layer):
    """Lays a layer above those before; what the base had and is hidden is told as gone. Whether there was anything in it."""
    names = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            path = clean(member.name)
            if path in ("", ".") or path in TRANSIENT:
                continue
            folder, _, name = path.rpartition("/")
            below = folder + "/" if folder else ""
            if name == ".wh..wh..opq":
                for other in [known for known in files if known.startswith(below)]:
                    del files[other]
                names.setdefault(below + "*", "gone")
            elif name.startswith(".wh."):
                hidden = below + name[4:]
                for other in [known for known in files if known == hidden or known.startswith(hidden + "/")]:
                    del files[other]
                names.setdefault(hidden, "gone")
            else:
                fact = entry(tar, member)
                if not fact.startswith("dir"):
                    for other in [known for known in files if known.startswith(path + "/")]:
                        del files[other]
                names[path] = fact
    hard_links(names)
    files.update(names)
    return bool(names)


def hard_links(files):
    """Which of a file's names comes first in a layer is chance: each name gets the file's facts and all its names."""
    groups = {}
    for path, fact in files.items():
        if fact.startswith("link "):
            groups.setdefault(fact.split(" -> ")[1], []).append(path)
    for first, others in groups.items():
        if first not in files:
            continue
        together = sorted([first, *others])
        whole = f"{files[first]} = {' = '.join(together)}"
        for path in together:
            files[path] = whole


def told(by, has_files):
    """A step of the history: whether it has changed files, and its text. Lists and structures of words are written in many ways."""
    by = by.rstrip("/")
    first = by.split(" ")[0]
    return f"{'+' if has_files else '-'} {first if first in STRUCTURED else by}"


def facts(archive):
    with tarfile.open(archive) as tar:
        def blob(digest):
            return tar.extractfile("blobs/" + digest.replace(":", "/")).read()

        index = json.loads(tar.extractfile("index.json").read())
        manifest = json.loads(blob(index["manifests"][0]["digest"]))
        if "manifests" in manifest:
            manifest = json.loads(blob(manifest["manifests"][0]["digest"]))
        config = json.loads(blob(manifest["config"]["digest"]))
        base = json.loads(blob(manifest["config"]["digest"]))["rootfs"].get("diff_ids")
        files = {}
        # An image from scratch has nothing of the base.
        skip = BASE_LAYERS if base and any("busybox base" in (step.get("comment") or "") for step in config["history"]) else 0
        has_files = []
        for layer in (manifest["layers"] or [])[skip:]:
            content = blob(layer["digest"])
            has_files.append(merge(files, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content))
    kept = {key: value for key, value in sorted(config["config"].items()) if value and key not in UNTOLD}
    steps = [step for step in config["history"] if "busybox base" not in (step.get("comment") or "")]
    history = [told(step.get("created_by", ""), not step.get("empty_layer") and has_files.pop(0)) for step in steps]
    return {
        "config": kept, "history": history, "files": dict(sorted(files.items())),
        "platform": f"{config['os']}/{'ARCH' if config['architecture'] else ''}",
    }


def record(buildctl, address, base, cases):
    digest = json.loads(pathlib.Path(base, "index.json").read_text())["manifests"][0]["digest"]
    for case in cases or sorted(path.stem for path in HERE.glob("*.case")):
        with tempfile.TemporaryDirectory() as context, tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            options = unpack(case, context)
            command = [
                buildctl, "--addr", address, "build", "--frontend", "dockerfile.v0", "--local", f"context={context}",
                "--local", f"dockerfile={context}", "--oci-layout", f"base={base}", "--opt", f"context:busybox=oci-layout://base@{digest}", "--output", f"type=oci,dest={archive.name}", "--progress", "plain",
            ]
            if "target" in options:
                command += ["--opt", f"target={options['target']}"]
            for name, value in options.get("args", {}).items():
                command += ["--opt", f"build-arg:{name}={value}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if line.startswith(("error:", "ERROR"))]
                found = {"refused": said[-1] if said else done.stderr[-300:]}
            else:
                found = facts(archive.name)
        (HERE / f"{case}.json").write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        print(case, "refused: " + found["refused"] if "refused" in found else len(found["files"]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["unpack", name, directory]:
            print(json.dumps(unpack(name, directory)))
        case ["facts", archive]:
            print(json.dumps(facts(archive), indent=1, sort_keys=True, ensure_ascii=False))
        case ["record", buildctl, address, base, *names]:
            record(buildctl, address, base, names)
        case _:
            sys.exit(__doc__)
