// BuildKit's calls about builds that were: node history.mjs SOCKET. The engine has done two, the second of which failed. Ends with 0 and
// `ok`, or says what is wrong.
import assert from "node:assert/strict";
import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request { bool ActiveOnly = 1; string Ref = 2; bool EarlyExit = 3; repeated string Filter = 4; int32 Limit = 5; }
  message Time { int64 seconds = 1; int32 nanos = 2; }
  message Failure { int32 code = 1; string message = 2; }
  message Record { string Ref = 1; Failure error = 5; Time CreatedAt = 6; Time CompletedAt = 7; bool pinned = 14; int32 total = 16; }
  message Event { int32 type = 1; Record record = 2; }
  message Update { string Ref = 1; bool Pinned = 2; bool Delete = 3; bool Finalize = 4; }
  message Which { string Ref = 1; }
  message Vertex { string digest = 1; repeated string inputs = 2; string name = 3; bool cached = 4; }
  message Log { string vertex = 1; bytes msg = 4; }
  message Told { repeated Vertex vertexes = 1; repeated Log logs = 3; }
  message Nothing {}
`, { keepCase: true });
const client = new grpc.Client(`unix:${process.argv[2]}`, grpc.credentials.createInsecure());
const type = (name) => root.lookupType(name);
const encoder = (name) => (fields) => Buffer.from(type(name).encode(type(name).fromObject(fields)).finish());
const decoder = (name) => (bytes) => type(name).toObject(type(name).decode(bytes), { defaults: true, longs: Number });

function stream(method, input, output, fields) {
  return client.makeServerStreamRequest(`/moby.buildkit.v1.Control/${method}`, encoder(input), decoder(output), fields);
}
const listed = (fields) => stream("ListenBuildHistory", "Request", "Event", { EarlyExit: true, ...fields }).toArray();
const references = async (fields) => (await listed(fields)).map(({ record }) => record.Ref);
function update(fields) {
  return new Promise((done, failed) => {
    const answered = (error, answer) => (error ? failed(error) : done(answer));
    client.makeUnaryRequest("/moby.buildkit.v1.Control/UpdateBuildHistory", encoder("Update"), decoder("Nothing"), fields, answered);
  });
}

const all = await listed({});
assert.equal(all.length, 2);
const [good, bad] = all.map(({ record }) => record);
assert.ok(!good.error && bad.error.message.includes("exit code: 7"), "oldest first, and why it failed");
assert.ok(good.CompletedAt.seconds >= good.CreatedAt.seconds && good.CreatedAt.seconds > 1.6e9 && good.total > 0);
assert.deepEqual(await references({ Ref: good.Ref }), [good.Ref]);
assert.deepEqual(await references({ Limit: 1 }), [bad.Ref]);
assert.deepEqual(await references({ ActiveOnly: true }), []);
assert.deepEqual(await references({ Filter: ["status==error"] }), [bad.Ref]);
assert.deepEqual(await references({ Filter: ["status==error,duration>1h", `ref==${good.Ref}`] }), [good.Ref]);
await assert.rejects(references({ Filter: ["colour==red"] }), /invalid filter/);

// What it told is told again.
const told = await stream("Status", "Which", "Told", { Ref: bad.Ref }).toArray();
assert.ok(told.some(({ vertexes }) => vertexes.some(({ name }) => name.includes("RUN echo last words"))));
assert.match(Buffer.concat(told.flatMap(({ logs }) => logs.map(({ msg }) => msg))).toString(), /last words/);

// Who goes on listening hears of what changes.
const listening = stream("ListenBuildHistory", "Request", "Event", {});
const heard = [];
const gone = new Promise((done) => listening.on("data", ({ type, record }) => {
  heard.push([type, record.Ref, record.pinned]);
  if (type === 2) done();
}));
await update({ Ref: good.Ref, Pinned: true });
while (!heard.some(([, ref, pinned]) => ref === good.Ref && pinned)) await new Promise((done) => setTimeout(done, 10));
await update({ Ref: bad.Ref, Delete: true });
await gone;
assert.deepEqual(heard.at(-1).slice(0, 2), [2, bad.Ref]);
listening.on("error", () => {}).cancel();
assert.deepEqual(await references({}), [good.Ref]);
await assert.rejects(update({ Ref: "nobody", Delete: true }));
console.log("ok");
process.exit(0);
