"""A command line client at a terminal and in pipes: argv[1:] is the client with its flags; the image busybox is there."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

CLIENT = sys.argv[1:]


class Terminal:
    """A client at a terminal of its own."""

    def __init__(self, *args, rows=30, columns=100):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self.fd = 0
            self.resize(rows, columns)
            os.execvp(CLIENT[0], CLIENT + list(args))
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text)

    def expect(self, wanted, seconds=60):
        deadline = time.time() + seconds
        while wanted not in self.seen:
            left = deadline - time.time()
            assert left > 0 and self.read(left), (wanted, self.seen)
        self.seen = self.seen[self.seen.index(wanted) + len(wanted):]

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += piece
        return bool(piece)

    def ends(self, code):
        while self.read(60):
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        assert status == code, (status, self.seen)


def client(*args, **options):
    return subprocess.run(CLIENT + list(args), capture_output=True, timeout=60, **options)


def state(name):
    return client("inspect", "-f", "{{.State.Status}}", name).stdout.strip()


def eventually(condition):
    deadline = time.time() + 60
    while time.time() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true")


def runs_at_a_terminal():
    terminal = Terminal("run", "-it", "--rm", "--name", "term", "busybox", "sh")
    terminal.expect(b"# ")
    # The size comes right behind the start.
    terminal.type(b"until [ \"$(stty size)\" = '30 10''0' ]; do sleep 0.1; done; tty; echo TERM=$TERM; stty size\r")
    terminal.expect(b"/dev/pts/0")
    terminal.expect(b"TERM=xterm")
    terminal.expect(b"30 100")
    terminal.resize(40, 120)
    os.kill(terminal.pid, signal.SIGWINCH)
    eventually(lambda: b"40 120" in client("exec", "term", "sh", "-c", "stty size < /dev/pts/0").stdout)
    # The interrupt goes to the program inside, not to the client.
    terminal.type(b"sleep 100\r")
    terminal.expect(b"sleep 100")
    # In the foreground, and past its exec.
    eventually(lambda: b"sleep 100" in client("top", "term", "-o", "pid,args").stdout)
    terminal.type(b"\x03")
    terminal.type(b"echo $((6*7)); exit 9\r")
    terminal.expect(b"42")
    terminal.ends(9)
    eventually(lambda: client("inspect", "term").returncode == 1)


def detaches_and_attaches_again():
    terminal = Terminal("run", "-it", "--name", "keys", "busybox", "sh")
    terminal.expect(b"# ")
    terminal.type(b"\x10\x11")
    terminal.ends(0)
    assert state("keys") == b"running"
    terminal = Terminal("attach", "--detach-keys", "ctrl-a,d", "keys")
    terminal.type(b"echo again$((1+1))\r")
    terminal.expect(b"again2")
    terminal.type(b"\x01d")
    # The docker CLI takes a detachment by attach for an error of its own, 1; exit code 0 is as good.
    while terminal.read(5):
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) in (0, 1)
    os.close(terminal.fd)
    assert state("keys") == b"running"
    terminal = Terminal("attach", "keys")
    terminal.type(b"exit 4\r")
    terminal.ends(4)
    client("rm", "keys")


def executes_at_a_terminal():
    client("run", "-d", "--name", "target", "busybox", "sleep", "1000")
    terminal = Terminal("exec", "-it", "target", "sh")
    terminal.expect(b"# ")
    terminal.type(b"until [ \"$(stty size)\" = '30 10''0' ]; do sleep 0.1; done; stty size; exit 6\r")
    terminal.expect(b"30 100")
    terminal.ends(6)
    terminal = Terminal("exec", "-it", "target", "nosuch")
    terminal.expect(b"executable file not found")
    terminal.ends(127)
    for command, code, words in (["nosuch"], 127, b"not found"), (["/etc"], 126, b"exec failed"):
        result = client("exec", "target", *command)
        assert result.returncode == code and words in result.stdout + result.stderr, result
    client("rm", "-f", "target")


def proxies_signals():
    script = "trap 'echo got TERM; exit 33' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(CLIENT + ["run", "--rm", "busybox", "sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == b"got TERM\n" and process.wait(60) == 33


def closes_and_pours():
    assert client("run", "-i", "--rm", "busybox", "wc", "-c", input=b"x" * 3_000_000).stdout == b"3000000\n"
    result = client("run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo after", input=b"")
    assert result.stdout == b"after\n"
    # Input that nobody reads does not keep anybody.
    assert client("run", "-i", "--rm", "busybox", "sh", "-c", "exit 5", input=b"y" * 1_000_000).returncode == 5
    size = 100_000_000
    process = subprocess.Popen(
        CLIENT + ["run", "--rm", "--log-driver", "none", "busybox", "head", "-c", str(size), "/dev/zero"],
        stdout=subprocess.PIPE)
    received, slow = 0, 20
    while piece := process.stdout.read1(1 << 20):
        received += len(piece)
        if slow:
            slow -= 1
            time.sleep(0.02)
    assert received == size and process.wait(60) == 0
    # A reader that goes: the client ends, and the container is not stuck on it.
    process = subprocess.Popen(CLIENT + ["run", "--name", "pour", "busybox", "sh", "-c", "yes | head -n 2000000; exit 3"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.read(100)
    process.kill()
    process.wait()
    process.stdout.close()
    eventually(lambda: state("pour") == b"exited")
    assert client("wait", "pour").stdout == b"3\n"
    client("rm", "pour")


def attaches_without_stdin():
    # Whoever attaches hears some of it.
    script = "until test -e /go; do echo out; sleep 0.1; done; read line; echo $line; exit 2"
    client("run", "-di", "--name", "quiet", "busybox", "sh", "-c", script)
    process = subprocess.Popen(CLIENT + ["attach", "--no-stdin", "quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"not this\n")
    process.stdin.close()
    assert process.stdout.readline() == b"out\n"
    client("exec", "quiet", "touch", "/go")
    result = client("attach", "quiet", input=b"this\n")
    assert process.stdout.read().replace(b"out\n", b"") == b"this\n" and process.wait(60) == 2 and result.returncode == 2, result
    client("rm", "quiet")


for scenario in (runs_at_a_terminal, detaches_and_attaches_again, executes_at_a_terminal, proxies_signals, closes_and_pours,
                 attaches_without_stdin):
    started = time.time()
    scenario()
    print(f"{scenario.__name__}: {time.time() - started:.2f} s", flush=True)
