// A client of BuildKit's protocol that means harm: node hostile.mjs SOCKET. Each case is a build whose session sends a context as no
// honest client would; what the engine says of it is printed, a line per case. The last build is an honest one.
import { randomUUID } from "node:crypto";
import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import Docker from "dockerode";

const docker = new Docker({ socketPath: process.argv[2] });
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Stat {
    string path = 1; uint32 mode = 2; uint32 uid = 3; uint32 gid = 4; int64 size = 5; int64 modTime = 6;
    string linkname = 7; int64 devmajor = 8; int64 devminor = 9; map<string, bytes> xattrs = 10;
  }
  message Packet { int32 type = 1; Stat stat = 2; uint32 ID = 3; bytes data = 4; }
`, { keepCase: true });
const Packet = root.lookupType("Packet");
const [STAT, REQ, DATA, FIN, ERR] = [0, 1, 2, 3, 4];
const [DIR, LINK, DEVICE, SOCKET] = [2 ** 31, 2 ** 27, 2 ** 26, 2 ** 24];

const plain = { serialize: (bytes) => bytes, deserialize: (bytes) => bytes };
const method = { ...plain, path: "/moby.filesync.v1.FileSync/DiffCopy", requestStream: true, responseStream: true };
const service = {
  DiffCopy: {
    path: method.path, requestStream: true, responseStream: true,
    requestSerialize: plain.serialize, requestDeserialize: plain.deserialize,
    responseSerialize: plain.serialize, responseDeserialize: plain.deserialize,
  },
};

const file = (path, text, more = {}) => ({ path, mode: 0o644, size: text.length, text, ...more });
const DOCKERFILE = file("Dockerfile", "FROM busybox\nCOPY . /all/\n");

/// An honest walk through `files`; `contents` may answer a request for one otherwise.
function send(call, files, contents) {
  const packet = (fields) => call.write(Buffer.from(Packet.encode(Packet.fromObject(fields)).finish()));
  files.forEach(({ text, ...stat }) => packet({ type: STAT, stat }));
  packet({ type: STAT });
  call.on("data", (bytes) => {
    const { type, ID } = Packet.decode(bytes);
    if (type === REQ && !(contents && contents(packet, ID, files[ID], call))) {
      packet({ type: DATA, ID, data: Buffer.from(files[ID]?.text ?? "") });
      packet({ type: DATA, ID });
    }
    if (type === FIN) {
      packet({ type: FIN });
      call.end();
    }
    if (type === ERR) call.end();
  });
  call.on("error", () => {});
}

/// Builds with a context that `serve` sends; gives what the engine says of it.
async function build(serve, t) {
  const id = randomUUID();
  const headers = {
    Upgrade: "h2c", "X-Docker-Expose-Session-Uuid": id, "X-Docker-Expose-Session-Name": "hostile",
    "X-Docker-Expose-Session-Grpc-Method": method.path,
  };
  const options = { method: "POST", path: "/session", hijack: true, headers, statusCodes: { 200: true, 500: "server error" } };
  const socket = await new Promise((done, failed) => docker.modem.dial(options, (error, socket) => (error ? failed(error) : done(socket))));
  socket.on("error", () => {});
  const server = new grpc.Server();
  server.addService(service, {
    DiffCopy(call) {
      const name = call.metadata.get("dir-name")[0];
      if (name === "dockerfile") send(call, [DOCKERFILE]);
      // It asks for the file with the patterns first.
      else if (call.metadata.get("include-patterns").length) send(call, []);
      else serve(call, () => socket.destroy());
    },
  });
  server.createConnectionInjector(grpc.ServerCredentials.createInsecure()).injectConnection(socket);
  // The modem takes the last character off.
  const path = `/build?version=2&remote=client-session&session=${id}&t=${t}&`;
  const answer = await new Promise((done, failed) => {
    const options = { method: "POST", path, isStream: true, statusCodes: { 200: true, 400: true, 500: true } };
    docker.modem.dial(options, (error, stream) => (error ? failed(error) : done(stream)));
  });
  let text = "";
  for await (const chunk of answer) text += chunk;
  server.forceShutdown();
  socket.destroy();
  const last = JSON.parse(text.trim().split("\n").at(-1));
  return last.error ?? last.message ?? "built";
}

/// Contexts that are made of these besides the Dockerfile's.
const lists = {
  above: [file("../evil", "x")],
  absolute: [file("/evil", "x")],
  within: [{ path: "a", mode: DIR | 0o755 }, file("a/../../evil", "x")],
  empty: [file("", "x")],
  nul: [file("a\0b", "x")],
  dot: [file(".", "x")],
  "out of order": [file("b", "x"), file("a", "x")],
  twice: [file("a", "x"), file("a", "y")],
  "below a link": [{ path: "l", mode: LINK | 0o777, linkname: "/tmp" }, file("l/evil", "x")],
  "below a file": [file("f", "x"), file("f/evil", "x")],
  "without its directory": [file("d/evil", "x")],
  "a link to what is not there": [file("h", "", { linkname: "../../../etc/passwd" })],
  "a device": [{ path: "d", mode: DEVICE | 0o600, devmajor: 1, devminor: 3 }],
  "a socket": [{ path: "s", mode: SOCKET | 0o600 }],
  "a long name": [file("n".repeat(5000), "x")],
  "a size below nothing": [file("a", "x", { size: -1 })],
};
const ways = {
  "no message": (call) => call.write(Buffer.from("this is none")),
  "an unknown type": (call) => call.write(Buffer.from(Packet.encode(Packet.fromObject({ type: 77 })).finish())),
  "an answer to nobody": (call) => {
    call.write(Buffer.from(Packet.encode(Packet.fromObject({ type: DATA, ID: 9, data: Buffer.from("x") })).finish()));
  },
  "an end too early": (call) => call.end(),
  "an error": (call) => call.write(Buffer.from(Packet.encode(Packet.fromObject({ type: ERR, data: Buffer.from("said the client") })).finish())),
  endless: (call) => send(call, [file("f", "1")], (packet, ID) => {
    const piece = Buffer.alloc(1 << 20);
    for (let count = 0; count < 80; count++) packet({ type: DATA, ID, data: piece });
    return true;
  }),
  "a hang-up": (call, hangUp) => send(call, [file("f", "1")], () => { hangUp(); return true; }),
};

for (const [name, files] of Object.entries(lists)) {

  console.log(`${name}: ${await build((call) => send(call, files), "evil")}`);
}
for (const [name, way] of Object.entries(ways)) console.log(`${name}: ${await build(way, "evil")}`);
console.log(`honest: ${await build((call) => send(call, [{ path: "d", mode: DIR | 0o755 }, file("d/f", "text"), file("g", "more")]), "good")}`);
process.exit(0);
