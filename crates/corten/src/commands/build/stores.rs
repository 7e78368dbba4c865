//! What directories of the user's hold for a build: caches (`type=local`), and images that it begins with (`oci-layout://`). The engine
//! asks for blobs over a connection of its own; which directories are meant is known here alone.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use corten_api::build::{BuildCache, BuildCachePlace, BuildContent, BuildLayout};
use corten_api::client::{Client, Hijacked};
use corten_build::{CachePlace, CacheTarget, Content, client_store};
use corten_image::Digest;
use corten_image::manifest::Descriptor;
use tokio::io::AsyncReadExt;

use super::layout::Layout;
use crate::cli::Failure;
use crate::output;

const LOCAL: &str = "local";
/// The tag that a cache has where none is said.
const TAG: &str = "latest";

#[derive(Default)]
pub struct Stores {
    /// By the names that the engine has for them.
    served: HashMap<String, Layout>,
    /// By the place among the caches that go out.
    lists: BTreeMap<usize, List>,
}

/// Where a cache is listed when it is whole.
struct List {
    layout: Layout,
    tag: String,
    may_fail: bool,
}

impl Stores {
    /// Looks up caches that are in directories. One that can't be read is told of and left out.
    pub fn sources(&mut self, places: Vec<BuildCachePlace>) -> Result<Vec<BuildCachePlace>, Failure> {
        let mut found = Vec::new();
        for mut place in places {
            if place.kind == LOCAL {
                let directory = place.keys.get("src").filter(|path| !path.is_empty());
                let missing =
                    || Failure::new("--cache-from: a build cache of type local needs src=DIRECTORY");
                let directory = directory.ok_or_else(missing)?.clone();
                match self.source(&directory, &place) {
                    Ok(digest) => drop(place.keys.insert("digest".to_owned(), digest)),
                    // What is wrong with other keys is the engine's to say.
                    Err(_)
                        if place.keys.keys().any(|key| !["src", "tag", "digest"].contains(&key.as_str())) => {
                    }
                    Err(why) => {
                        output::talk(&format!("WARNING: the build cache {directory} is not used: {why}\n"));
                        continue;
                    }
                }
            }
            found.push(place);
        }
        Ok(found)
    }

    fn source(&mut self, directory: &str, place: &BuildCachePlace) -> Result<String, String> {
        let layout = Layout::open(Path::new(directory)).map_err(|error| error.to_string())?;
        let digest = match place.keys.get("digest") {
            Some(digest) => digest.clone(),
            None => {
                let tag = place.keys.get("tag").map_or(TAG, String::as_str);
                let found = layout.find(Some(tag)).map_err(|error| error.to_string())?;
                found.ok_or_else(|| format!("nothing in it has the tag {tag}"))?.to_string()
            }
        };
        self.served.insert(client_store(directory), layout);
        Ok(digest)
    }

    /// Opens the directories that caches go to.
    pub fn targets(&mut self, places: &[BuildCachePlace]) -> Result<(), Failure> {
        for (number, BuildCachePlace { kind, keys }) in places.iter().enumerate() {
            let target = CacheTarget::parse(kind, keys);
            let CacheTarget { place, may_fail, .. } =
                target.map_err(|error| Failure::new(format!("--cache-to: {error}")))?;
            let CachePlace::Client(directory) = place else { continue };
            if keys.contains_key("reset") {
                return Err(Failure::new(
                    "--cache-to: type=local takes no reset: what a cache has replaced is removed in any case",
                ));
            }
            let tag = keys.get("tag").map_or(TAG, String::as_str);
            if tag.is_empty() {
                return Err(Failure::new("--cache-to: tag= is empty: leave it out, or name the cache"));
            }
            let path = Path::new(&directory);
            let layout = std::fs::create_dir_all(path).and_then(|()| Layout::writable(path));
            let layout = layout.map_err(|error| unusable(&directory, &error))?;
            self.served.insert(client_store(&directory), layout.clone());
            self.lists.insert(number, List { layout, tag: tag.to_owned(), may_fail });
        }
        Ok(())
    }

    /// The image that is meant by `DIRECTORY[:TAG][@DIGEST]`, for the context of that name.
    pub fn context(&mut self, name: &str, text: &str) -> Result<BuildLayout, Failure> {
        let failed = |why: String| Failure::new(format!("--build-context {name}=oci-layout://{text}: {why}"));
        let (place, digest) = match text.rsplit_once('@') {
            Some((place, digest)) if digest.contains(':') => (place, Some(digest)),
            _ => (text, None),
        };
        let (directory, tag) = match place.rsplit_once(':') {
            Some((directory, tag)) if !tag.is_empty() && !tag.contains('/') => (directory, Some(tag)),
            _ => (place, None),
        };
        let layout = Layout::open(Path::new(directory)).map_err(|error| failed(error.to_string()))?;
        let digest = match digest {
            Some(digest) => digest.parse::<Digest>().map_err(|error| failed(error.to_string()))?,
            None => {
                let found = layout.find(tag).map_err(|error| failed(error.to_string()))?;
                found.ok_or_else(|| {
                    let tag = tag.unwrap_or(TAG);
                    failed(format!("nothing in it has the tag {tag}")).hint("see its index.json")
                })?
            }
        };
        let store = format!("oci:{name}");
        self.served.insert(store.clone(), layout);
        Ok(BuildLayout { store, digest: digest.to_string() })
    }

    /// Serves all of them on the connection that the engine has asked for, in a task of its own.
    pub fn serve(&self, client: &Client, asked: BuildContent) {
        let served = self.served.iter();
        let stores =
            served.map(|(name, layout)| (name.clone(), Arc::new(layout.clone()) as Arc<dyn Content>));
        let (stores, client) = (stores.collect(), client.clone());
        tokio::spawn(async move {
            let path = format!("/corten/build/connections/{}", asked.connection);
            // What breaks off is seen by the build.
            let Ok(Hijacked { socket, head, .. }) = client.post(path).hijack().await else { return };
            let (input, output) = tokio::io::split(socket);
            let stream = tokio::io::join(std::io::Cursor::new(head).chain(input), output);
            let _ = corten_buildkit::serve_content(stream, stores).await;
        });
    }

    /// Lists a cache whose blobs are all there.
    pub fn list(&self, sent: &BuildCache) -> Result<(), Failure> {
        let unknown =
            || Failure::new(format!("the engine sent the cache {}, which was not asked for", sent.cache));
        let List { layout, tag, may_fail } = self.lists.get(&sent.cache).ok_or_else(unknown)?;
        let digest = sent.digest.parse::<Digest>().map_err(|error| Failure::new(error.to_string()))?;
        let manifest = Descriptor::new(&sent.media_type, digest, sent.size);
        let place = layout.path().display();
        match layout.list(tag, &manifest) {
            Ok(None) => {}
            Ok(Some(why)) => output::talk(&format!(
                "WARNING: what the build cache in {place} needs no more is not all removed: {why}\n"
            )),
            Err(error) if *may_fail => {
                output::talk(&format!("WARNING: the build cache is not listed in {place}: {error}\n"));
            }
            Err(error) => {
                return Err(Failure::new(format!("failed to export the build cache to {place}: {error}")));
            }
        }
        Ok(())
    }
}

/// Why no cache can go to a directory, and what helps.
fn unusable(directory: &str, error: &io::Error) -> Failure {
    let (why, hint) = match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            ("it is a file, or within one".to_owned(), "name a directory")
        }
        // What is wrong with the list that is there is said with what it is in.
        ErrorKind::InvalidData => (error.to_string(), "name another directory, or remove what is there"),
        _ => (
            format!("it can't be made or written to: {error}"),
            "name a directory that is there, or can be made, and that can be written to",
        ),
    };
    Failure::new(format!("--cache-to: dest={directory} is no place for a build cache: {why}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_is_no_place_for_a_cache_is_named() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        let told = |directory: &Path| {
            let keys = [("dest".to_owned(), directory.display().to_string())].into();
            let target = BuildCachePlace { kind: LOCAL.to_owned(), keys };
            let failure = Stores::default().targets(&[target]).unwrap_err();
            (failure.message, failure.hint.unwrap())
        };
        for (directory, why) in [
            (file.clone(), "it is a file"),
            (file.join("below"), "it is a file"),
            (PathBuf::from("/proc/x"), "can't be made or written to"),
        ] {
            let (message, hint) = told(&directory);
            let named = format!("--cache-to: dest={} ", directory.display());
            assert!(message.starts_with(&named) && message.contains(why), "{message}");
            assert!(hint.contains("name a directory"), "{hint}");
        }
        std::fs::write(place.path().join("index.json"), "text").unwrap();
        let (message, hint) = told(place.path());
        assert!(message.contains("index.json can't be read") && hint.contains("name another"), "{message}");
    }
}
