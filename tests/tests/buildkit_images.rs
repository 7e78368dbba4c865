//! The form of images that Docker's builder clients ask for: how their layers are compressed, their annotations, in archives and at
//! registries.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use corten_tests::buildx::Site;
use corten_tests::registry::TestRegistry;
use corten_tests::run;
use serde_json::Value;
use tempfile::TempDir;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image archive, unpacked.
struct Layout(TempDir);

impl Layout {
    /// What a build gives as `type=oci`.
    fn built(site: &Site, attributes: &str, more: &[&str]) -> Layout {
        let place = TempDir::new().expect("a place");
        let archive = place.path().join("image.tar");
        site.build(&[&["-o", &format!("type=oci,dest={}{attributes}", archive.display())], more].concat())
            .ok();
        Layout::unpacked(place)
    }

    /// Of `image.tar` in that directory.
    fn unpacked(place: TempDir) -> Layout {
        let archive = place.path().join("image.tar");
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(place.path())).ok();
        Layout(place)
    }

    fn json(&self, path: &str) -> Value {
        let bytes = fs::read(self.0.path().join(path)).expect("a document");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn blob(&self, descriptor: &Value) -> String {
        let digest = descriptor["digest"].as_str().expect("a digest");
        format!("blobs/sha256/{}", digest.strip_prefix("sha256:").expect("of SHA-256"))
    }

    /// What the only name stands for.
    fn top(&self) -> Value {
        let index = self.json("index.json");
        assert_eq!(index["manifests"].as_array().expect("a list").len(), 1, "{index}");
        self.json(&self.blob(&index["manifests"][0]))
    }

    /// The forms of the layers, bottom first, by their media types and by their first bytes.
    fn layers(&self) -> String {
        let top = self.top();
        let layers = top["layers"].as_array().expect("layers");
        let form = |layer: &Value| {
            let bytes = fs::read(self.0.path().join(self.blob(layer))).expect("a layer");
            let form = match &bytes[..4] {
                [0x1f, 0x8b, ..] => "gzip",
                [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
                _ => "tar",
            };
            assert!(layer["mediaType"].as_str().expect("a type").ends_with(form), "{layer}");
            form
        };
        layers.iter().map(form).collect::<Vec<_>>().join(" ")
    }

    /// Nothing but what the one image is made of.
    fn is_lean(&self) -> bool {
        let (index, top) = (self.json("index.json"), self.top());
        let layers = top["layers"].as_array().expect("layers").iter();
        let parts = layers.chain([&top["config"], &index["manifests"][0]]);
        let wanted: BTreeSet<String> = parts.map(|part| self.blob(part)).collect();
        let there = fs::read_dir(self.0.path().join("blobs/sha256")).expect("blobs").flatten();
        there.map(|blob| format!("blobs/sha256/{}", blob.file_name().display())).collect::<BTreeSet<_>>()
            == wanted
    }
}

#[test]
fn layers_are_compressed_as_it_is_asked_for() {
    let site = Site::new("FROM busybox\nRUN echo text >/made\n");
    for (name, wanted) in [("zstd", "zstd zstd"), ("gzip", "gzip gzip"), ("uncompressed", "tar tar")] {
        let layout =
            Layout::built(&site, &format!(",compression={name},rewrite-timestamp=true"), &["-t", "t"]);
        assert_eq!((layout.layers().as_str(), layout.is_lean()), (wanted, true), "{name}");
        assert_eq!(site.print(&["cat", "/made"]), "text");
        let archive = layout.0.path().join("image.tar");
        site.engine.docker(&["rmi", "-f", "t"]).ok();
        site.engine.docker(&["load", "-i", archive.to_str().expect("UTF-8")]).ok();
        assert_eq!(site.print(&["cat", "/made"]), "text");
    }
    // Without a name, and of an image that is here in another form.
    assert_eq!(Layout::built(&site, ",compression=zstd", &[]).layers(), "zstd zstd");

    // What is compressed already stays so, unless that is asked for.
    site.write("Dockerfile", "FROM busybox\nRUN echo base >/base\n");
    site.build(&["-t", "base", "-o", "type=image,compression=gzip"]).ok();
    site.write("Dockerfile", "FROM base\nRUN echo more >/more\n");
    assert_eq!(Layout::built(&site, ",compression=zstd", &["-t", "a"]).layers(), "gzip gzip zstd");
    assert_eq!(
        Layout::built(&site, ",compression=zstd,force-compression=true", &["-t", "a"]).layers(),
        "zstd zstd zstd"
    );
    let plain = Layout::built(&site, ",compression=uncompressed,force-compression=true", &["-t", "a"]);
    assert_eq!(plain.layers(), "tar tar tar");
    // The metadata are of what the name stands for.
    let metadata = tempfile::NamedTempFile::new().expect("a file");
    site.build(&["-t", "a", "--metadata-file", metadata.path().to_str().expect("UTF-8")]).ok();
    let metadata: Value =
        serde_json::from_slice(&fs::read(metadata.path()).expect("metadata")).expect("JSON");
    let known = site.engine.docker(&["image", "inspect", "-f", "{{json .RepoDigests}}", "a"]).ok();
    assert!(
        known.contains(metadata["containerimage.digest"].as_str().expect("a digest")),
        "{known} {metadata}"
    );
}

#[test]
fn registries_get_the_form_that_is_asked_for() {
    let site = Site::new("FROM busybox\nRUN echo text >/made\n");
    let place = TempDir::new().expect("a place");
    let registry = TestRegistry::start(&place.path().join("data"), &[]);
    for (form, wanted) in [("zstd", "tar+zstd"), ("gzip", "tar+gzip")] {
        let name = format!("{}/made:{form}", registry.address());
        let output =
            format!("type=image,push=true,compression={form},annotation.form={form},name-canonical=true");
        site.build(&["-t", &name, "-o", &output]).ok();
        let manifest =
            registry.connect().get(&format!("/v2/made/manifests/{form}")).expect("an answer").text();
        let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
        assert_eq!(manifest["annotations"]["form"], form);
        for layer in manifest["layers"].as_array().expect("layers") {
            assert!(layer["mediaType"].as_str().expect("a type").ends_with(wanted), "{form}: {layer}");
        }
        site.engine.docker(&["rmi", "-f", &name]).ok();
        assert_eq!(site.engine.docker(&["run", "--rm", &name, "cat", "/made"]).ok(), "text");
    }
}

#[test]
fn annotations_are_where_they_belong() {
    let site = Site::new("FROM busybox\nRUN echo text >/made\n");
    let layout = Layout::built(&site, "", &["-t", "t", "--annotation", "org.example.a=b"]);
    assert_eq!(layout.top()["annotations"]["org.example.a"], "b");
    assert_eq!(site.print(&["cat", "/made"]), "text");
    // The one in the store has them as well.
    let place = TempDir::new().expect("a place");
    site.engine.docker(&["save", "-o", place.path().join("image.tar").to_str().expect("UTF-8"), "t"]).ok();
    assert_eq!(Layout::unpacked(place).top()["annotations"]["org.example.a"], "b");
    let refused = site.build(&["-t", "t", "-o", "type=image", "--annotation", "index:a=b"]).fails(1);
    assert!(refused.contains("this image has none"), "{refused}");

    site.write("Dockerfile", "FROM scratch\nCOPY file /\n");
    site.write("file", "x");
    let both = ["-t", "t", "--platform", "linux/amd64,linux/arm64"];
    let annotated = [
        "index:a=of-index",
        "manifest:b=of-all",
        "manifest[linux/arm64]:b=of-one",
        "manifest-descriptor:c=listed",
    ];
    let flags: Vec<&str> =
        both.into_iter().chain(annotated.iter().flat_map(|text| ["--annotation", text])).collect();
    let layout = Layout::built(&site, "", &flags);
    let top = layout.top();
    assert_eq!(
        (top["mediaType"].as_str(), &top["annotations"]["a"]),
        (Some(INDEX), &Value::from("of-index"))
    );
    for (number, own) in ["of-all", "of-one"].into_iter().enumerate() {
        let listed = &top["manifests"][number];
        assert_eq!(listed["annotations"]["c"], "listed");
        assert_eq!(layout.json(&layout.blob(listed))["annotations"]["b"], own);
    }
    let other = ["--annotation", "manifest[linux/s390x]:b=c", "-o", "type=image"];
    let refused = site.build(&[&both[..], &other].concat()).fails(1);
    assert!(refused.contains("linux/s390x, which isn't built"), "{refused}");
}

#[test]
fn what_an_image_can_not_be_is_refused() {
    let site = Site::new("FROM scratch\nCOPY Dockerfile /\n");
    let out = site.context.path().join("out");
    let refused = |outputs: &[&str], why: &str| {
        let flags: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
        let told = site.build(&flags).fails(1);
        assert!(told.contains(why), "{why}: {told}");
    };
    refused(&["type=image,compression=estargz"], "layers are gzip, zstd or");
    refused(&["type=image,name=a.example/b,push=true,compression=uncompressed"], "where they aren't pushed");
    refused(&["type=image,compression=gzip,compression-level=9"], "at the same level");
    refused(&["type=image,name=a.example/b,push=true,registry.insecure=true"], "insecure-registries");
    let files = format!("type=local,dest={},annotation.a=b", out.display());
    refused(&[&files], "only an image has annotations");
    let archive = format!("type=oci,dest={},compression=zstd", out.display());
    refused(&[&archive, "type=image"], "the images of one build have one form");
    // These say what is done anyway.
    site.build(&["-o", "type=image,dangling-name-prefix=<none>,name-canonical=true,oci-mediatypes=true"])
        .ok();
}
