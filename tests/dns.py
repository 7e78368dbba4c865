"""A DNS client and a DNS server, as small as tests need them.

dns.py ask SERVER NAME TYPE [tcp]     prints the code, then the answers
dns.py time SERVER NAME COUNT         prints the microseconds that a question takes
dns.py serve ADDRESS                  answers every A question with 192.0.2.7 over UDP, with 192.0.2.8 over TCP
"""
import socket
import struct
import sys
import threading
import time

CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
TYPES = {"A": 1, "PTR": 12, "TXT": 16, "AAAA": 28, "HTTPS": 65}


def question(name, kind):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".") if l)
    return struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", TYPES[kind], 1)


def name_at(message, at):
    labels = []
    while message[at]:
        if message[at] >= 0xC0:
            labels.append(name_at(message, struct.unpack_from(">H", message, at)[0] & 0x3FFF)[0])
            return ".".join(labels), at + 2
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels), at + 1


def read(message):
    number, flags, questions, answers = struct.unpack_from(">4H", message)
    assert number == 0x1234 and flags & 0x8000, "the answer to something else"
    at = 12
    for _ in range(questions):
        at = name_at(message, at)[1] + 4
    words = [CODES[flags & 15]]
    for _ in range(answers):
        at = name_at(message, at)[1]
        kind, _, _, length = struct.unpack_from(">2HIH", message, at)
        data = message[at + 10 : at + 10 + length]
        if kind == 1:
            words.append(socket.inet_ntop(socket.AF_INET, data))
        elif kind == 28:
            words.append(socket.inet_ntop(socket.AF_INET6, data))
        elif kind == 12:
            words.append(name_at(message, at + 10)[0])
        at += 10 + length
    return " ".join(words)


def receive(stream):
    def exactly(count):
        data = b""
        while len(data) < count:
            part = stream.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    return exactly(struct.unpack(">H", exactly(2))[0])


def ask(server, name, kind, tcp=None):
    message = question(name, kind)
    family = socket.AF_INET
    if tcp:
        with socket.create_connection((server, 53), 20) as stream:
            stream.sendall(struct.pack(">H", len(message)) + message)
            return read(receive(stream))
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect((server, 53))
        client.send(message)
        return read(client.recv(65535))


def measure(server, name, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect((server, 53))
        message = question(name, "A")
        begin = time.monotonic()
        for _ in range(int(count)):
            client.send(message)
            client.recv(65535)
        return f"{(time.monotonic() - begin) / int(count) * 1e6:.1f}"


def answer(message, address):
    end = name_at(message, 12)[1] + 4
    kind = struct.unpack_from(">H", message, end - 4)[0]
    record = b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4) + socket.inet_aton(address) if kind == 1 else b""
    return message[:2] + struct.pack(">5H", 0x8180, 1, int(bool(record)), 0, 0) + message[12:end] + record


def serve(address):
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, 53))
    streams = socket.create_server((address, 53))

    def serve_streams():
        while True:
            stream, _ = streams.accept()
            with stream:
                reply = answer(receive(stream), "192.0.2.8")
                stream.sendall(struct.pack(">H", len(reply)) + reply)

    threading.Thread(target=serve_streams, daemon=True).start()
    print("ready", flush=True)
    while True:
        message, client = datagrams.recvfrom(65535)
        datagrams.sendto(answer(message, "192.0.2.7"), client)


if __name__ == "__main__":
    told = {"ask": ask, "time": measure, "serve": serve}[sys.argv[1]](*sys.argv[2:])
    print(told)
