//! A hub as a team has it: images for several platforms, layers that they share, signatures and other attachments, a chart, a module,
//! and things that somebody has pushed who means no good.

use corten_tests::registry::{MANIFEST, TestRegistry, Wire, bytes_of, digest};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A connection that pushes.
pub struct Hub {
    wire: Wire,
    headers: String,
}

impl Hub {
    pub fn new(registry: &TestRegistry) -> Self {
        Self { wire: registry.connect(), headers: String::new() }
    }

    /// With a password.
    pub fn by(registry: &TestRegistry, name: &str, password: &str) -> Self {
        let credentials = corten_api::base64::encode(format!("{name}:{password}").as_bytes());
        Self { wire: registry.connect(), headers: format!("Authorization: Basic {credentials}\r\n") }
    }

    pub fn blob(&mut self, repository: &str, kind: &str, bytes: &[u8]) -> Value {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", digest(bytes));
        let reply = self.wire.ask("POST", &path, &self.headers, bytes).expect("push a blob");
        assert_eq!(reply.status, 201, "{}", reply.text());
        json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
    }

    /// Pushes a manifest; its descriptor.
    pub fn manifest(&mut self, repository: &str, tag: Option<&str>, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let kind = manifest["mediaType"].as_str().expect("a media type");
        let reference = tag.map_or_else(|| digest(&bytes), str::to_owned);
        let headers = format!("{}Content-Type: {kind}\r\n", self.headers);
        let path = format!("/v2/{repository}/manifests/{reference}");
        let reply = self.wire.ask("PUT", &path, &headers, &bytes).expect("push a manifest");
        assert_eq!(reply.status, 201, "{repository}: {}", reply.text());
        json!({"mediaType": kind, "digest": digest(&bytes), "size": bytes.len()})
    }

    /// Pushes an image of steps: each is what the builder did, and the layer's number and size, if it made one.
    pub fn image(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        (platform, config): (&str, Value),
        steps: &[(&str, Option<(u64, usize)>)],
        annotations: Value,
    ) -> Value {
        let layers: Vec<Value> = steps
            .iter()
            .filter_map(|(_, layer)| *layer)
            .map(|(number, size)| self.blob(repository, LAYER, &bytes_of(number, size)))
            .collect();
        let history: Vec<Value> = steps
            .iter()
            .map(|(command, layer)| match layer {
                Some(_) => json!({"created": "2026-11-02T08:00:00Z", "created_by": command}),
                None => {
                    json!({"created": "2026-11-02T08:00:00Z", "created_by": command, "empty_layer": true})
                }
            })
            .collect();
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next().expect("a system"), parts.next().expect("an architecture"));
        let mut whole = json!({
            "created": "2026-11-02T08:00:00Z", "os": os, "architecture": architecture, "config": config,
            "rootfs": {"type": "layers", "diff_ids": []}, "history": history,
        });
        if let Some(variant) = parts.next() {
            whole["variant"] = variant.into();
        }
        let config = self.blob(repository, CONFIG, whole.to_string().as_bytes());
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        if !annotations.is_null() {
            manifest["annotations"] = annotations;
        }
        let mut descriptor = self.manifest(repository, tag, &manifest);
        descriptor["platform"] = json!({"os": os, "architecture": architecture});
        if let Some(variant) = platform.split('/').nth(2) {
            descriptor["platform"]["variant"] = variant.into();
        }
        descriptor
    }

    pub fn index(&mut self, repository: &str, tag: &str, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.manifest(repository, Some(tag), &index)
    }

    /// Pushes what is no image: its files with their names, perhaps about something else.
    pub fn artifact(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        kind: &str,
        files: &[(&str, &str, &[u8])],
        subject: Option<&Value>,
        annotations: Value,
    ) -> Value {
        let config = self.blob(repository, EMPTY, b"{}");
        let layers: Vec<Value> = files
            .iter()
            .map(|(name, kind, bytes)| {
                let mut layer = self.blob(repository, kind, bytes);
                layer["annotations"] = json!({"org.opencontainers.image.title": name});
                layer
            })
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": layers,
            "annotations": annotations,
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        self.manifest(repository, tag, &manifest)
    }

    /// What a team has.
    pub fn fill(&mut self) {
        self.servers();
        self.shop();
        self.others();
    }

    /// Images of programs that many know, for several platforms.
    fn servers(&mut self) {
        let debian = ("# debian.sh --arch 'amd64' out/ 'trixie' '@1762041600'", Some((1, 2_980_000)));
        for tag in ["12", "13", "13-slim", "latest"] {
            let base = if tag == "12" {
                ("# debian.sh --arch 'amd64' out/ 'bookworm'", Some((2, 2_850_000)))
            } else {
                debian
            };
            let config = json!({"Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
            self.image(
                "library/debian",
                Some(tag),
                ("linux/amd64", config),
                &[base, ("CMD [\"bash\"]", None)],
                Value::Null,
            );
        }
        let run = "RUN /bin/sh -c set -x     && groupadd --system --gid 101 nginx     && useradd --system --gid nginx --no-create-home \
            --home /nonexistent --comment \"nginx user\" --shell /bin/false --uid 101 nginx     && apt-get update     && apt-get install \
            --no-install-recommends --no-install-suggests -y gnupg1 ca-certificates     && apt-get install -y nginx=1.29.3-1~trixie \
            nginx-module-xslt nginx-module-geoip     && rm -rf /var/lib/apt/lists/* # buildkit";
        let mut platforms = Vec::new();
        for (at, platform) in
            ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/ppc64le"].iter().enumerate()
        {
            let base = if at == 0 { 1 } else { 10 + at as u64 };
            let config = json!({
                "Entrypoint": ["/docker-entrypoint.sh"], "Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT",
                "ExposedPorts": {"80/tcp": {}},
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NGINX_VERSION=1.29.3",
                    "PKG_RELEASE=1~trixie", "DYNPKG_RELEASE=1~trixie"],
                "Labels": {"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>",
                    "org.opencontainers.image.source": "https://github.com/nginx/docker-nginx"},
            });
            let steps = [
                ("# debian.sh --arch 'amd64' out/ 'trixie' '@1762041600'", Some((base, 2_980_000))),
                ("LABEL maintainer=NGINX Docker Maintainers <docker-maint@nginx.com>", None),
                ("ENV NGINX_VERSION=1.29.3", None),
                (run, Some((100 + at as u64, 4_330_000))),
                ("COPY docker-entrypoint.sh / # buildkit", Some((120, 1_620))),
                ("COPY 10-listen-on-ipv6-by-default.sh /docker-entrypoint.d # buildkit", Some((121, 2_120))),
                ("ENTRYPOINT [\"/docker-entrypoint.sh\"]", None),
                ("EXPOSE map[80/tcp:{}]", None),
                ("STOPSIGNAL SIGQUIT", None),
                ("CMD [\"nginx\" \"-g\" \"daemon off;\"]", None),
            ];
            let annotations = json!({"org.opencontainers.image.version": "1.29.3",
                "org.opencontainers.image.url": "https://hub.docker.com/_/nginx"});
            platforms.push(self.image("library/nginx", None, (platform, config), &steps, annotations));
        }
        let about = platforms[0]["digest"].clone();
        let config = self.blob("library/nginx", CONFIG, br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#);
        let mut layers = Vec::new();
        for (number, predicate) in
            [(130, "https://slsa.dev/provenance/v1"), (131, "https://spdx.dev/Document")]
        {
            let mut layer =
                self.blob("library/nginx", "application/vnd.in-toto+json", &bytes_of(number, 41_000));
            layer["annotations"] = json!({"in-toto.io/predicate-type": predicate});
            layers.push(layer);
        }
        let attestation =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut attestation = self.manifest("library/nginx", None, &attestation);
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about});
        platforms.push(attestation);
        let index =
            ["1.29", "1.29.3", "latest"].map(|tag| self.index("library/nginx", tag, &platforms))[0].clone();
        self.artifact(
            "library/nginx",
            None,
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            &[("bundle.json", "application/vnd.dev.sigstore.bundle.v0.3+json", &bytes_of(140, 6_200))],
            Some(&index),
            json!({"dev.sigstore.bundle.content": "message-signature"}),
        );
        let older = [
            ("# debian.sh --arch 'amd64' out/ 'trixie'", Some((1, 2_980_000))),
            ("RUN make", Some((150, 3_990_000))),
        ];
        for tag in ["1.27", "1.27.5", "1.28"] {
            self.image("library/nginx", Some(tag), ("linux/amd64", json!({})), &older, Value::Null);
        }
        let postgres = [
            debian,
            ("RUN apt-get install -y postgresql-18", Some((160, 6_400_000))),
            ("VOLUME [/var/lib/postgresql]", None),
        ];
        let config = json!({"Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["postgres"], "Volumes": {"/var/lib/postgresql": {}},
            "ExposedPorts": {"5432/tcp": {}}, "Env": ["PG_MAJOR=18"]});
        for tag in ["18", "18.1", "latest"] {
            self.image(
                "library/postgres",
                Some(tag),
                ("linux/amd64", config.clone()),
                &postgres,
                Value::Null,
            );
        }
    }

    /// What a team builds itself.
    fn shop(&mut self) {
        let debian = ("# debian.sh --arch 'amd64' out/ 'trixie' '@1762041600'", Some((1, 2_980_000)));
        for (at, name) in ["api", "frontend", "worker", "mail", "search"].iter().enumerate() {
            let repository = format!("team/shop/{name}");
            for version in 0..=at * 2 + 1 {
                let steps = [
                    debian,
                    (
                        "RUN /bin/sh -c apt-get update && apt-get install -y libssl3 ca-certificates # buildkit",
                        Some((200, 1_450_000)),
                    ),
                    ("WORKDIR /srv", None),
                    (
                        "COPY --chown=shop:shop target/release/shop /srv/ # buildkit",
                        Some((210 + (at * 16 + version) as u64, 610_000 + at * 90_000)),
                    ),
                    ("USER shop", None),
                    ("HEALTHCHECK {[\"CMD\" \"/srv/shop\" \"--check\"] 30s}", None),
                    ("CMD [\"/srv/shop\"]", None),
                ];
                let config = json!({
                    "Cmd": ["/srv/shop"], "User": "shop", "WorkingDir": "/srv", "ExposedPorts": {"8080/tcp": {}, "9090/tcp": {}},
                    "Env": ["RUST_LOG=info", "SHOP_CONFIG=/etc/shop.toml"], "Healthcheck": {"Test": ["CMD", "/srv/shop", "--check"]},
                    "Labels": {"org.opencontainers.image.revision": format!("4f3c{version:02}9a7be1"), "team": "shop"},
                });
                let tag = format!("2.{version}.0");
                let image = self.image(&repository, Some(&tag), ("linux/amd64", config), &steps, Value::Null);
                if *name == "api" {
                    self.artifact(
                        &repository,
                        None,
                        "application/spdx+json",
                        &[(
                            "sbom.spdx.json",
                            "application/spdx+json",
                            &bytes_of(300 + version as u64, 88_000),
                        )],
                        Some(&image),
                        json!({"org.opencontainers.image.created": "2026-11-20T10:00:00Z"}),
                    );
                    let signed = image["digest"].as_str().expect("a digest").replace(':', "-");
                    let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
                    let layer = self.blob(&repository, kind, &bytes_of(310 + version as u64, 240));
                    let config = self.blob(&repository, CONFIG, b"{}");
                    let signature = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
                    self.manifest(&repository, Some(&format!("{signed}.sig")), &signature);
                }
            }
        }
    }

    /// What is no image for Linux.
    fn others(&mut self) {
        let kind = "application/vnd.cncf.helm.config.v1+json";
        let chart = json!({"name": "shop", "version": "0.14.2", "appVersion": "2.3.0", "apiVersion": "v2", "type": "application",
            "description": "The shop, with its database and mail", "maintainers": [{"name": "Platform team"}]});
        let config = self.blob("charts/shop", kind, chart.to_string().as_bytes());
        let layer = self.blob(
            "charts/shop",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            &bytes_of(400, 18_300),
        );
        let chart = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
            "annotations": {"org.opencontainers.image.title": "shop", "org.opencontainers.image.description": "The shop, with its database and mail"}});
        self.manifest("charts/shop", Some("0.14.2"), &chart);
        let config = self.blob(
            "edge/filter",
            "application/vnd.wasm.config.v0+json",
            br#"{"architecture":"wasm","os":"wasip1","layerDigests":[]}"#,
        );
        let layer = self.blob("edge/filter", "application/wasm", &bytes_of(410, 1_930_000));
        let module = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.manifest("edge/filter", Some("1.0"), &module);
        let windows = json!({"os": "windows", "os.version": "10.0.26100.4349", "architecture": "amd64",
            "config": {"Cmd": ["c:\\windows\\system32\\cmd.exe"], "User": "ContainerUser"},
            "history": [{"created_by": "Apply image 10.0.26100.4349"}]});
        let config = self.blob("mirror/windows/nanoserver", CONFIG, windows.to_string().as_bytes());
        let layer = json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": digest(b"elsewhere"), "size": 122_000_000, "urls": ["https://mcr.example/layer"]});
        let image = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.manifest("mirror/windows/nanoserver", Some("ltsc2025"), &image);
        self.artifact(
            "data/models/embedding",
            Some("2026-11"),
            "application/vnd.example.model",
            &[
                ("weights.bin", "application/octet-stream", &bytes_of(420, 7_200_000)),
                ("tokenizer.json", "application/json", &bytes_of(421, 310_000)),
                ("README.md", "text/markdown", b"# A model\n"),
            ],
            None,
            json!({"org.opencontainers.image.licenses": "Apache-2.0"}),
        );
        let hello = [("COPY hello / # buildkit", Some((430, 9_800))), ("CMD [\"/hello\"]", None)];
        let config = json!({"Cmd": ["/hello"]});
        self.image("public/hello", Some("latest"), ("linux/amd64", config), &hello, Value::Null);
    }

    /// An image of somebody who wants pages to do what they shouldn't.
    pub fn hostile(&mut self, repository: &str) {
        let script = "<script>alert('pwned')</script>";
        let label = "<img src=x onerror=alert(1)>".repeat(35_000);
        let steps = [
            ("RUN </code></li><script>alert('history')</script>", Some((900, 1000))),
            ("RUN \u{202e}gpj.exe\u{2066}\u{0}\u{1b}[31mred\u{7}", None),
        ];
        let config = json!({
            "Cmd": ["\"><svg onload=alert(2)>", "a\u{202e}b"], "User": script, "WorkingDir": "javascript:alert(3)",
            "Env": [format!("A={script}"), "B=\u{200b}\u{feff}\u{ad}hidden"], "ExposedPorts": {"<b>80</b>": {}},
            "Labels": {"big": label, script: "x", "link": "javascript:alert(4)", "data": "data:text/html,<script>alert(5)</script>",
                "quote": "' onmouseover='alert(6)", "good": "https://example.org/a?b=1&c=2", "user": "https://good.example@evil.example/"},
        });
        let annotations = json!({
            "org.opencontainers.image.title": script, "org.opencontainers.image.url": "JaVaScRiPt:alert(7)",
            "break": "</dd></dl></main><h1>Signed by the registry</h1>", "attribute": "https://example.org/\" onclick=\"alert(8)",
        });
        let image = self.image(repository, Some("evil"), ("linux/<i>amd64</i>", config), &steps, annotations);
        self.artifact(
            repository,
            None,
            "application/<script>alert(9)</script>",
            &[("<script>alert(10)</script>", "text/<script>", b"x")],
            Some(&image),
            json!({"dev.sigstore.bundle.predicateType": script}),
        );
        let config = self.blob(repository, CONFIG, b"not JSON <script>alert(11)</script>");
        let odd = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        self.manifest(repository, Some("odd"), &odd);
        let config =
            self.blob(repository, "application/x-<script>", format!("{script}\n\u{202e}").as_bytes());
        let foreign = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        self.manifest(repository, Some("foreign"), &foreign);
        let config = self.blob(repository, CONFIG, &vec![b' '; (1 << 20) + 1]);
        let large = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        self.manifest(repository, Some("large"), &large);
    }
}
