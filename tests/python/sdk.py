"""What programs do with docker-py, against the engine at argv[1] that has the image busybox."""

import base64
import io
import os
import socket
import sys
import time

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import Mount

HOST = sys.argv[1]
client = docker.DockerClient(base_url=HOST, version="auto", timeout=120)
api = client.api


def run(*command, **options):
    return client.containers.run("busybox", list(command), detach=True, **options)


def refused(status, words, action):
    try:
        action()
    except APIError as error:
        assert error.response.status_code == status, (error.response.status_code, str(error))
        assert words in error.explanation, error.explanation
    else:
        raise AssertionError(f"not refused: {words}")


def runs_and_returns_the_output():
    out = client.containers.run("busybox", "echo hello", remove=True)
    assert out == b"hello\n", out
    lines = client.containers.run("busybox", ["sh", "-c", "echo one; echo two"], stream=True)
    assert list(lines) == [b"one\n", b"two\n"]
    ended = client.containers.list(all=True)[0]
    ended.wait()
    assert list(ended.logs(stream=True)) == [b"one\n", b"two\n"]
    try:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 7"])
    except docker.errors.ContainerError as error:
        assert error.exit_status == 7 and b"bad" in error.stderr
    else:
        raise AssertionError("exit status 7 is an error")


def passes_settings():
    container = run(
        "sh", "-c", "env; id -u; pwd; cat /proc/sys/kernel/hostname; echo $$; mount | grep /data; exit 3",
        environment={"A": "1", "GONE": None}, user="1000", working_dir="/tmp", hostname="box",
        mounts=[Mount("/data", "sdk-data")], mem_limit="32m", labels={"k": "v"}, init=True)
    assert container.wait()["StatusCode"] == 3
    out = container.logs().decode()
    assert "A=1" in out and "GONE" not in out and "\n1000\n/tmp\nbox\n" in out and " /data " in out, out
    container.reload()
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert host["Memory"] == 32 << 20 and host["MemorySwap"] == 64 << 20 and "GONE" in config["Env"]
    assert [c.id for c in client.containers.list(all=True, filters={"label": "k=v"})] == [container.id]
    container.remove()
    client.volumes.get("sdk-data").remove()


def executes():
    container = run("sleep", "100")
    code, (out, err) = container.exec_run(["sh", "-c", "echo o; echo e >&2; exit 42"], demux=True)
    assert (code, out, err) == (42, b"o\n", b"e\n")
    for command, expected in (["nosuch"], 127), (["/etc"], 126):
        code, out = container.exec_run(command)
        assert code == expected and b"OCI runtime exec failed" in out, (code, out)
    # The start says whether there are frames, not the creation.
    exec_id = api.exec_create(container.id, ["printf", "framed"], tty=True)
    assert api.exec_start(exec_id, tty=False) == b"framed"
    exec_id = api.exec_create(container.id, "cat", stdin=True)
    connection = api.exec_start(exec_id, socket=True)._sock
    connection.sendall(b"through\n")
    connection.shutdown(socket.SHUT_WR)
    received = b""
    while piece := connection.recv(4096):
        received += piece
    assert received[8:] == b"through\n", received
    assert api.exec_inspect(exec_id)["ExitCode"] == 0
    refused(409, "is not running", lambda: (container.kill(), container.wait(), container.exec_run("true")))
    container.remove()


def detaches():
    container = run("cat", tty=True, stdin_open=True)
    connection = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1, "detachKeys": "ctrl-x,q"})._sock
    connection.sendall(b"\x18q")
    connection.settimeout(60)
    received = b""
    while piece := connection.recv(4096):
        received += piece
    container.reload()
    assert container.status == "running", received
    container.remove(force=True)


def waits():
    container = client.containers.create("busybox", ["sh", "-c", "exit 5"])
    assert container.wait(condition="not-running")["StatusCode"] == 0

    def wait(condition):
        # The answer's head comes when the engine has begun to wait.
        url = api._url("/containers/{0}/wait", container.id)
        return api._post(url, params={"condition": condition}, stream=True, timeout=120)

    next_exit, removed = wait("next-exit"), wait("removed")
    container.start()
    assert next_exit.json()["StatusCode"] == 5
    container.remove()
    assert removed.json()["StatusCode"] == 5
    refused(404, "No such container", lambda: api.wait("nosuch"))
    container = run("true")
    refused(400, "invalid condition", lambda: api.wait(container.id, condition="whenever"))
    container.remove(force=True)


def tells_events_in_order():
    since = int(time.time())
    container = run("sleep", "100", name="eventful")
    container.exec_run("true")
    container.rename("renamed")
    container.pause()
    container.unpause()
    container.kill("TERM")
    container.stop(timeout=0)
    container.start()
    container.remove(force=True)
    events = client.events(since=since, until=time.time() + 1, decode=True, filters={"container": container.id})
    seen = []
    for event in events:
        actor = event["Actor"]
        assert event["Type"] == "container" and actor["ID"] == container.id and actor["Attributes"]["image"] == "busybox"
        assert event["time"] == event["timeNano"] // 10**9
        # Gone from API 1.52 on.
        assert event.get("status", event["Action"]) == event["Action"]
        seen.append(event["Action"])
    assert seen == [
        "create", "start", "exec_create: true", "exec_start: true", "exec_die", "rename", "pause", "unpause", "kill",
        "kill", "die", "stop", "start", "kill", "die", "destroy"], seen


def keeps_volumes():
    named, anonymous = client.volumes.create("sdk-named", labels={"a": "b"}), client.volumes.create()
    assert named.attrs["Driver"] == "local" and client.volumes.list(filters={"label": "a=b"}) == [named]
    pruned = client.volumes.prune()
    assert pruned["VolumesDeleted"] == [anonymous.id], pruned
    container = client.containers.create("busybox", volumes={"sdk-named": {"bind": "/v", "mode": "rw"}})
    refused(409, "volume is in use", named.remove)
    container.remove()
    named.remove()
    refused(404, "no such volume", lambda: client.volumes.get("sdk-named"))


def handles_images():
    image = client.images.get("busybox")
    assert image.tag("sdk/copy", tag="1") and "sdk/copy:1" in [t for i in client.images.list() for t in i.tags]
    saved = b"".join(client.images.get("sdk/copy:1").save(named="sdk/copy:1"))
    client.images.remove("sdk/copy:1")
    try:
        client.images.get("sdk/copy:1")
    except ImageNotFound:
        pass
    else:
        raise AssertionError("an image is there that was removed")
    loaded = client.images.load(saved)
    assert loaded[0].tags and "sdk/copy:1" in client.images.get("sdk/copy:1").tags
    client.images.remove("sdk/copy:1")
    try:
        client.images.load(b"abc")
    except docker.errors.ImageLoadError:
        pass
    else:
        raise AssertionError("rubbish was loaded")
    assert image.history()[0]["Id"] == image.id
    refused(404, "No such image", lambda: client.containers.create("nosuch:1"))
    refused(409, "unable to remove", lambda: (run("true"), client.images.remove("busybox")))
    for container in client.containers.list(all=True):
        container.remove(force=True)


def refuses_mistakes():
    container = run("sleep", "100", name="taken", ports={"80/tcp": ("127.0.0.1", 0)})
    container.reload()
    port = int(container.ports["80/tcp"][0]["HostPort"])
    refused(409, 'The container name "/taken" is already in use', lambda: run("true", name="taken"))
    refused(409, "stop the container before", container.remove)
    refused(404, "network nosuch not found", lambda: run("true", network="nosuch", name="lost"))
    client.containers.get("lost").remove()
    refused(400, "Invalid container name", lambda: run("true", name="-x"))
    refused(400, "Minimum memory limit", lambda: run("true", mem_limit=4096))
    refused(400, "executable file not found", lambda: run("nosuch"))
    refused(500, "port is already allocated", lambda: run("true", ports={"80/tcp": ("127.0.0.1", port)}))
    refused(404, "No such container", lambda: api.start("nosuch"))
    refused(409, "is not paused", container.unpause)
    assert api.stats(container.id, stream=False)["name"] == "/taken"
    for each in client.containers.list(all=True):
        each.remove(force=True)


def lists_networks():
    assert {n.name for n in client.networks.list()} == {"bridge", "host", "none"}
    container = run("sleep", "100")
    bridge = client.networks.get("bridge")
    assert container.id in bridge.attrs["Containers"]
    container.reload()
    assert container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    container.remove(force=True)


def attaches_by_websocket():
    container = run("cat", stdin_open=True)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(HOST.removeprefix("unix://"))
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /v1.41/containers/{container.id}/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    stream = connection.makefile("rb")
    assert b" 101 " in stream.readline()
    while stream.readline() != b"\r\n":
        pass
    # One masked text frame, with a mask of zeros.
    connection.sendall(b"\x81\x83\0\0\0\0hi\n")
    received = b""
    while b"hi\n" not in received:
        head = stream.read(2)
        received += stream.read(head[1] & 0x7F)
    connection.close()
    container.remove(force=True)


def imports():
    import tarfile
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    api.import_image_from_data(packed.getvalue(), repository="sdk/imported", tag="x", changes=["CMD /file"])
    assert client.images.get("sdk/imported:x").attrs["Config"]["Cmd"] == ["/bin/sh", "-c", "/file"]
    client.images.remove("sdk/imported:x")


SCENARIOS = [
    runs_and_returns_the_output, passes_settings, executes, detaches, waits, tells_events_in_order, keeps_volumes,
    handles_images, refuses_mistakes, lists_networks, attaches_by_websocket, imports]

assert client.ping() and client.version()["ApiVersion"] and client.info()["OSType"] == "linux"
for scenario in SCENARIOS:
    started = time.time()
    try:
        scenario()
    except NotFound as error:
        raise AssertionError(f"{scenario.__name__}: {error}") from error
    for left in client.containers.list(all=True):
        left.remove(force=True)
    print(f"{scenario.__name__}: {time.time() - started:.2f} s", flush=True)
client.close()
