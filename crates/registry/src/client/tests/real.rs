//! Beside Debian's `docker-registry`, where it is installed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_image::Digest;
use corten_image::manifest::{Descriptor, media};

use crate::{Client, ClientOptions, Credentials, Error, Mounted, RegistryAddress, Trust};

struct Registry {
    process: Child,
    address: RegistryAddress,
    _place: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `None`, and a word about it, where there is no such program.
async fn registry(password: Option<(&str, &str)>) -> Option<Registry> {
    let place = tempfile::tempdir().unwrap();
    let mut config = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
        place.path().display()
    );
    if let Some((name, password)) = password {
        let Ok(made) = Command::new("htpasswd").args(["-Bbn", "-C", "4", name, password]).output() else {
            eprintln!("htpasswd is not installed: skipped");
            return None;
        };
        std::fs::write(place.path().join("users"), made.stdout).unwrap();
        config += &format!("auth: {{htpasswd: {{realm: herds, path: {}/users}}}}\n", place.path().display());
    }
    let file = place.path().join("config.yml");
    std::fs::write(&file, config).unwrap();
    let log = place.path().join("log");
    let started = Command::new("docker-registry")
        .arg("serve")
        .arg(&file)
        .stderr(std::fs::File::create(&log).unwrap())
        .stdout(Stdio::null())
        .spawn();
    let Ok(process) = started else {
        eprintln!("docker-registry is not installed: skipped");
        return None;
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let told = std::fs::read_to_string(&log).unwrap();
        let of_address = |c: &char| c.is_ascii_digit() || matches!(c, '.' | ':');
        if let Some((_, address)) = told.split_once("listening on ") {
            let address: String = address.chars().take_while(of_address).collect();
            let address = RegistryAddress::parse(&address).unwrap();
            return Some(Registry { process, address, _place: place });
        }
        assert!(Instant::now() < deadline, "docker-registry does not listen: {told}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn client() -> Client {
    Client::new(ClientOptions {
        trust: Trust { directories: Vec::new(), ..Trust::default() },
        ..ClientOptions::default()
    })
}

/// Bytes that no two places share.
fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(next());
    }
    bytes.truncate(len);
    bytes.into()
}

#[tokio::test]
async fn pushes_and_pulls() {
    let Some(registry) = registry(None).await else { return };
    let repository = client().repository(&registry.address, "group/image", None);
    let (small, large) = (noise(1000), noise(5 << 20));
    for blob in [&small, &large] {
        let digest = Digest::of(blob);
        assert_eq!(repository.blob_exists(&digest).await.unwrap(), None);
        let mut upload = repository.upload().await.unwrap();
        for piece in blob.chunks(300_000) {
            upload.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        upload.finish(&digest).await.unwrap();
        assert_eq!(repository.blob_exists(&digest).await.unwrap(), Some(blob.len() as u64));
        for offset in [0, 1, 500, blob.len() as u64] {
            let mut download = repository.download(&Descriptor::of(media::OCI_LAYER, blob), offset);
            let mut got = Vec::new();
            while let Some(bytes) = download.chunk().await.unwrap() {
                got.extend_from_slice(&bytes);
            }
            assert!(got == blob[offset as usize..], "from {offset} on");
        }
    }
    let manifest = corten_image::manifest::compose(
        Descriptor::of(media::OCI_CONFIG, &small),
        vec![Descriptor::of(media::OCI_LAYER, &large)],
    );
    let manifest = Bytes::from(manifest);
    let digest = repository.put_manifest("one", media::OCI_MANIFEST, manifest.clone()).await.unwrap();
    repository.put_manifest("two", media::OCI_MANIFEST, manifest.clone()).await.unwrap();
    for reference in ["one", &digest.to_string()] {
        let found = repository.manifest(reference).await.unwrap();
        assert_eq!(
            (found.media_type.as_str(), found.digest, &found.bytes),
            (media::OCI_MANIFEST, digest, &manifest)
        );
        let descriptor = repository.manifest_descriptor(reference).await.unwrap();
        assert_eq!(descriptor, Some(Descriptor::of(media::OCI_MANIFEST, &manifest)));
    }
    assert_eq!(repository.tags().await.unwrap(), ["one", "two"]);
    assert_eq!(repository.referrers(&digest, None).await.unwrap(), []);
    let other = client().repository(&registry.address, "group/other", None);
    assert!(matches!(other.mount(&Digest::of(&large), "group/image").await, Ok(Mounted::Yes)));
    let Ok(Mounted::No(upload)) = other.mount(&Digest::of(b"nothing"), "group/image").await else {
        panic!("nothing to mount")
    };
    drop(upload);
    assert_eq!(repository.manifest_descriptor("three").await.unwrap(), None);
    let missing = repository.manifest("three").await.unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!(
            "manifest for {}/group/image:three not found: manifest unknown: manifest unknown",
            registry.address
        )
    );
    let missing =
        repository.download(&Descriptor::new("", Digest::of(b"none"), 4), 0).chunk().await.unwrap_err();
    assert!(matches!(missing, Error::BlobUnknown { .. }), "{missing}");
    repository.delete_manifest(&digest.to_string()).await.unwrap();
    assert_eq!(repository.manifest_descriptor("one").await.unwrap(), None);
}

#[tokio::test]
async fn a_password_is_shown_where_it_is_wanted() {
    let Some(registry) = registry(Some(("hannibal", "elephant"))).await else { return };
    let client = client();
    let of = |password: &str| {
        let credentials = Credentials::Password { name: "hannibal".into(), password: password.into() };
        client.repository(&registry.address, "image", Some(credentials))
    };
    let right = of("elephant");
    let blob = noise(2 << 20);
    let mut upload = right.upload().await.unwrap();
    upload.send(blob.clone()).await.unwrap();
    upload.finish(&Digest::of(&blob)).await.unwrap();
    assert!(right.blob_exists(&Digest::of(&blob)).await.unwrap().is_some());
    for wrong in [of("mouse"), client.repository(&registry.address, "image", None)] {
        let refused = wrong.manifest("latest").await.unwrap_err();
        assert_eq!(refused.to_string(), "unauthorized: authentication required");
        assert!(wrong.upload().await.is_err());
    }
}
