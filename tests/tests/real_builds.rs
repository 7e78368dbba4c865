//! Real programs built as people build them: with apt, pip, npm and Go's modules, and then run. `make real-builds` does it; it takes
//! minutes, and needs Debian's, Python's, Node's and Go's package registries.

use std::fs;

use corten_tests::TestEngine;
use tempfile::TempDir;

/// What the host trusts, programs in a step trust by this.
const TRUSTED: &str = "id=trusted,src=/etc/ssl/certs/ca-certificates.crt";

/// Builds it on a Debian twice, the second time with nothing to do, and gives what the image prints.
fn built_and_run(files: &[(&str, &str)]) -> String {
    let engine = TestEngine::start();
    engine.corten(&["image", "create-base", "debian:base"]).ok();
    let context = TempDir::new().unwrap();
    files.iter().for_each(|(name, text)| fs::write(context.path().join(name), text).unwrap());
    let path = context.path().display().to_string();
    let build = ["build", "--progress", "plain", "--secret", TRUSTED, "-t", "test", &path];
    engine.corten(&build).ok();
    let id = || engine.corten(&["inspect", "-f", "{{.Id}}", "test"]).ok();
    let first = id();
    let told = engine.corten(&build).stderr;
    assert!(!told.contains("DONE 1"), "nothing is done again: {told}");
    assert_eq!(id(), first);
    engine.corten(&["run", "--rm", "test"]).ok()
}

#[test]
#[ignore = "needs package registries, and minutes"]
fn a_program_in_python_with_pip() {
    let dockerfile = "FROM debian:base
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
WORKDIR /app
COPY requirements.txt .
RUN --mount=type=secret,id=trusted --mount=type=cache,target=/root/.cache/pip \\
    python3 -m venv . && PIP_CERT=/run/secrets/trusted bin/pip install -q -r requirements.txt
COPY app.py .
USER nobody
CMD [\"bin/python\", \"app.py\"]
";
    let app = "from tinydb import TinyDB
from tinydb.storages import MemoryStorage
store = TinyDB(storage=MemoryStorage)
store.insert({'steel': 1})
print(len(store), 'kept')
";
    let files = [("Dockerfile", dockerfile), ("requirements.txt", "tinydb==4.8.2\n"), ("app.py", app)];
    assert_eq!(built_and_run(&files), "1 kept");
}

#[test]
#[ignore = "needs package registries, and minutes"]
fn a_program_in_node_with_npm() {
    let dockerfile = "FROM debian:base
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\
    apt-get update -qq && apt-get install -y -qq --no-install-recommends npm >/dev/null
WORKDIR /app
COPY package.json .
RUN --mount=type=secret,id=trusted --mount=type=cache,target=/root/.npm \\
    NODE_EXTRA_CA_CERTS=/run/secrets/trusted npm install --no-audit --no-fund --silent
COPY app.js .
CMD [\"node\", \"app.js\"]
";
    let package = "{ \"private\": true, \"dependencies\": { \"semver\": \"7.6.3\" } }";
    let app = "console.log(require('semver').gt('2.10.0', '2.9.0'))\n";
    let files = [("Dockerfile", dockerfile), ("package.json", package), ("app.js", app)];
    assert_eq!(built_and_run(&files), "true");
}

#[test]
#[ignore = "needs package registries, and minutes"]
fn a_program_in_go_alone_in_its_image() {
    let dockerfile = "FROM debian:base AS build
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\
    apt-get update -qq && apt-get install -y -qq --no-install-recommends golang-go >/dev/null
WORKDIR /src
COPY . .
RUN --mount=type=secret,id=trusted --mount=type=cache,target=/root/go --mount=type=cache,target=/root/.cache \\
    SSL_CERT_FILE=/run/secrets/trusted CGO_ENABLED=0 go mod tidy && CGO_ENABLED=0 go build -o /program .
FROM scratch
COPY --from=build /program /program
ENTRYPOINT [\"/program\"]
";
    let module = "module program\n\ngo 1.15\n\nrequire rsc.io/quote v1.5.2\n";
    let program = "package main\n\nimport (\n\t\"fmt\"\n\t\"rsc.io/quote\"\n)\n\nfunc main() { fmt.Println(quote.Go()) }\n";
    let files = [("Dockerfile", dockerfile), ("go.mod", module), ("main.go", program)];
    assert_eq!(built_and_run(&files), "Don't communicate by sharing memory, share memory by communicating.");
}
