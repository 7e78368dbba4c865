// dockerode, the Docker client of Node.js, drives an engine: node dockerode.mjs SOCKET. Ends with 0 and `ok`, or says what is wrong.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import Docker from "dockerode";

const docker = new Docker({ socketPath: process.argv[2] });

async function text(stream) {
  let all = "";
  for await (const chunk of stream) all += chunk;
  return all;
}

/// Both streams of a connection in Docker's frames, to its end.
function demultiplexed(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on("end", () => [out, err].forEach((s) => s.end()));
  return Promise.all([text(out), text(err)]);
}

assert.equal((await docker.ping()).toString(), "OK");
assert.match((await docker.version()).ApiVersion, /^1\./);
const events = await docker.getEvents({ filters: { type: ["container"] } });

// run: create, attach, start, wait, remove.
const output = new PassThrough();
const said = text(output);
// It ends the output itself, when the connection has ended; who does that before leaves a connection that nobody reads to its end.
const [ended, hello] = await docker.run("busybox", ["sh", "-c", "echo hello; exit 3"], output, { HostConfig: {} });
assert.equal(ended.StatusCode, 3);
assert.match(await said, /hello/);
await hello.remove();

// Input, both outputs, and their ends, over one hijacked connection.
const talker = await docker.createContainer({
  Image: "busybox",
  Cmd: ["sh", "-c", "read line; echo out $line; echo err $line >&2"],
  OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
});
const line = await talker.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
const heard = demultiplexed(line);
await talker.start();
line.end("steel\n");
assert.deepEqual(await heard, ["out steel\n", "err steel\n"]);
assert.equal((await talker.wait()).StatusCode, 0);
await talker.remove();

// One that stays: exec, logs, stats, files, networks, limits.
const volume = await docker.createVolume({ Name: "dockerode-volume", Labels: { made: "here" } });
const network = await docker.createNetwork({ Name: "dockerode-network", CheckDuplicate: true });
const server = await docker.createContainer({
  name: "dockerode-server", Image: "busybox", Cmd: ["sh", "-c", "echo ready; exec sleep 1000"],
  ExposedPorts: { "80/tcp": {} },
  HostConfig: { Binds: [`${"dockerode-volume"}:/data`], Memory: 64 << 20, PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "" }] } },
});
await server.start();
const exec = await server.exec({ Cmd: ["sh", "-c", "cat; exit 5"], AttachStdin: true, AttachStdout: true, AttachStderr: true });
const stream = await exec.start({ hijack: true, stdin: true });
const echoed = demultiplexed(stream);
stream.end("through the exec");
assert.deepEqual(await echoed, ["through the exec", ""]);
assert.equal((await exec.inspect()).ExitCode, 5);
while (!(await server.logs({ stdout: true, stderr: true })).toString().includes("ready")) await new Promise((done) => setTimeout(done, 10));
const stats = await server.stats({ stream: false });
assert.ok(stats.memory_stats.usage > 0 && stats.memory_stats.limit > stats.memory_stats.usage && stats.cpu_stats.online_cpus > 0);
const seen = await server.inspect();
assert.ok(Number(seen.NetworkSettings.Ports["80/tcp"][0].HostPort) > 0);
assert.equal(seen.Mounts[0].Name, "dockerode-volume");
await network.connect({ Container: server.id, EndpointConfig: { Aliases: ["there"] } });
assert.ok((await server.inspect()).NetworkSettings.Networks["dockerode-network"].IPAddress);
await network.disconnect({ Container: server.id });
const archive = await server.getArchive({ path: "/etc/passwd" });
const bytes = Buffer.concat(await archive.toArray());
assert.match(bytes.toString(), /root/);
await server.putArchive(bytes, { path: "/data" });
await server.update({ Memory: 96 << 20, MemorySwap: 192 << 20 });
assert.equal((await server.inspect()).HostConfig.Memory, 96 << 20);
assert.ok((await server.top()).Processes.length > 0);
const image = await server.commit({ repo: "dockerode-image", tag: "one" });
assert.match(image.Id, /^sha256:/);
await server.stop({ t: 0 });
const listed = await docker.listContainers({ all: true, filters: { name: ["dockerode-server"] } });
assert.equal(listed[0].State, "exited");
await server.remove({ v: true });

// Builds: by the older builder from files of a directory, and by BuildKit with a session of the client's.
const site = await mkdtemp(join(tmpdir(), "dockerode-"));
await writeFile(join(site, "file"), "text");
await writeFile(join(site, "Dockerfile"), "FROM busybox AS first\nARG V\nCOPY file /\nRUN echo said $V > /said\nFROM busybox\n");
await writeFile(join(site, "Failing"), "FROM busybox\nRUN exit 7\n");
const built = async (stream) => {
  const all = await new Promise((done, failed) => docker.followProgress(stream, (error, all) => (error ? failed(error) : done(all))));
  const failed = all.find((event) => event.error);
  if (failed) throw new Error(failed.error);
  return all;
};
const context = { context: site, src: ["Dockerfile", "Failing", "file"] };
for (const version of ["1", "2"]) {
  const t = `dockerode-built:${version}`;
  const wish = { t, version, buildargs: { V: `version ${version}` }, labels: { made: "here" }, target: "first" };
  const all = await built(await docker.buildImage(context, wish));
  assert.ok(all.length > 2);
  const seen = await docker.getImage(t).inspect();
  assert.equal(seen.Config.Labels.made, "here");
  const files = await docker.createContainer({ Image: t, Cmd: ["cat", "/file", "/said"], Tty: true });
  const words = text(await files.attach({ stream: true, stdout: true, stderr: true }));
  await files.start();
  assert.equal((await words).trim(), `textsaid version ${version}`);
  await files.remove({ force: true });
  await docker.getImage(t).remove();
  await assert.rejects(docker.buildImage(context, { version, dockerfile: "Failing" }).then(built), /7/);
}
await rm(site, { recursive: true });

// Errors have a status and the engine's words.
await assert.rejects(server.inspect(), (error) => error.statusCode === 404 && /No such container/.test(error.message));

await docker.getImage("dockerode-image:one").remove();
await network.remove();
await volume.remove();
const told = new Promise((done) => {
  let all = "";
  events.on("data", (chunk) => {
    all += chunk;
    if (all.includes('"destroy"') && all.includes("dockerode-server")) done();
  });
});
await told;
events.destroy();
console.log("ok");
