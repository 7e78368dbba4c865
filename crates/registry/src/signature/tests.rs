use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde_json::json;

use super::*;

/// Makes a key pair with OpenSSL; the private and the public file.
fn key_pair(directory: &Path, name: &str, options: &[&str]) -> (PathBuf, PathBuf) {
    let (private, public) = (directory.join(format!("{name}.key")), directory.join(format!("{name}.pub")));
    let mut command = Command::new("openssl");
    run(command.arg("genpkey").args(options).arg("-out").arg(&private));
    run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public));
    (private, public)
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sign(private: &Path, message: &[u8], is_raw: bool) -> Vec<u8> {
    let file = private.with_extension("message");
    std::fs::write(&file, message).unwrap();
    let mut command = Command::new("openssl");
    match is_raw {
        true => command.args(["pkeyutl", "-sign", "-rawin", "-inkey"]).arg(private).arg("-in").arg(&file),
        false => command.args(["dgst", "-sha256", "-sign"]).arg(private).arg(&file),
    };
    run(&mut command)
}

fn document() -> Document {
    let bytes = Bytes::from_static(b"{\"schemaVersion\":2}");
    Document { media_type: String::new(), digest: Digest::of(&bytes), bytes }
}

#[test]
fn keys_of_each_kind_verify_what_they_signed() {
    let directory = tempfile::tempdir().unwrap();
    for (name, options, is_raw) in [
        ("p256", vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], false),
        ("rsa", vec!["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], false),
        ("ed25519", vec!["-algorithm", "ED25519"], true),
    ] {
        let (private, public) = key_pair(directory.path(), name, &options);
        let key = Key::read(&public).unwrap();
        let signature = sign(&private, b"what is signed", is_raw);
        assert!(key.has_signed(b"what is signed", &signature), "{name}");
        assert!(!key.has_signed(b"what is not signed", &signature), "{name}");
        let private = Key::read(&private).unwrap_err().to_string();
        assert!(private.contains("is no public key in PEM"), "{private}");
    }
    let missing = Key::read(&directory.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none"), "{missing}");
    for (number, text) in
        ["", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nMAAw\n-----END PUBLIC KEY-----"]
            .iter()
            .enumerate()
    {
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, text).unwrap();
        assert!(Key::read(&path).is_err(), "{text}");
    }
}

#[test]
fn signatures_of_both_forms() {
    let directory = tempfile::tempdir().unwrap();
    let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let (private, public) = key_pair(directory.path(), "ours", &curve);
    let (_, other) = key_pair(directory.path(), "theirs", &curve);
    let (ours, theirs) = ([Key::read(&public).unwrap()], [Key::read(&other).unwrap()]);
    let image = document();
    let stranger = Digest::of(b"another image");

    let payload = |digest: &Digest| {
        json!({"critical": {"identity": {"docker-reference": "x"}, "image": {"docker-manifest-digest": digest.to_string()},
            "type": "cosign container image signature"}, "optional": null})
        .to_string()
        .into_bytes()
    };
    let signed = base64::encode(&sign(&private, &payload(&image.digest), false));
    assert!(payload_signs(&payload(&image.digest), Some(&signed), &image.digest, &ours));
    assert!(!payload_signs(&payload(&image.digest), Some(&signed), &image.digest, &theirs));
    assert!(!payload_signs(&payload(&image.digest), None, &image.digest, &ours));
    // What is signed for one image says nothing of another.
    let foreign = base64::encode(&sign(&private, &payload(&stranger), false));
    assert!(!payload_signs(&payload(&stranger), Some(&foreign), &image.digest, &ours));
    assert!(!payload_signs(&payload(&image.digest), Some(&foreign), &image.digest, &ours));

    let envelope = |digest: &Digest, predicate: &str| {
        let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": digest.hex()}}],
            "predicateType": predicate, "predicate": {}})
        .to_string();
        let signature = sign(&private, &authenticated(STATEMENT, statement.as_bytes()), false);
        json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {"publicKey": {"hint": "x"}},
            "dsseEnvelope": {"payload": base64::encode(statement.as_bytes()), "payloadType": STATEMENT,
            "signatures": [{"sig": base64::encode(&signature)}]}})
        .to_string()
    };
    let bundle = envelope(&image.digest, SIGN_PREDICATE);
    assert!(bundle_signs(bundle.as_bytes(), &image, &ours));
    assert!(!bundle_signs(bundle.as_bytes(), &image, &theirs));
    assert!(!bundle_signs(envelope(&stranger, SIGN_PREDICATE).as_bytes(), &image, &ours));
    // A bill of materials is no signature of the image.
    assert!(!bundle_signs(envelope(&image.digest, "https://spdx.dev/Document").as_bytes(), &image, &ours));
    let whole =
        json!({"messageSignature": {"signature": base64::encode(&sign(&private, &image.bytes, false))}});
    assert!(bundle_signs(whole.to_string().as_bytes(), &image, &ours));
    for odd in ["", "{}", "[]", r#"{"dsseEnvelope":{"payload":"*","payloadType":"","signatures":[]}}"#] {
        assert!(!bundle_signs(odd.as_bytes(), &image, &ours), "{odd}");
    }
}

#[test]
fn the_first_rule_that_fits_counts() {
    let policy: SignaturePolicy = serde_json::from_value(json!([
        {"repository": "docker.io/library/free", "mode": "off"},
        {"repository": "docker.io/library/*", "mode": "warn", "keys": ["/k"]},
        {"repository": "*/team/*/app", "mode": "enforce", "keys": ["/k"]},
    ]))
    .unwrap();
    policy.check().unwrap();
    let mode = |name: &str| policy.rule(name).map(|rule| rule.mode);
    assert_eq!(mode("docker.io/library/free"), None);
    assert_eq!(mode("docker.io/library/busybox"), Some(SignatureMode::Warn));
    assert_eq!(mode("host:5000/team/a/b/app"), Some(SignatureMode::Enforce));
    assert_eq!(mode("host:5000/team/app"), None);
    assert_eq!(mode("host:5000/other"), None);
    let keyless: SignaturePolicy =
        serde_json::from_value(json!([{"repository": "*", "mode": "enforce"}])).unwrap();
    assert!(keyless.check().is_err());
}
