//! Whose blobs lie in a bucket. An object names the registry that they belong to, so that no other one, and no catalogue that has
//! come from somewhere else, takes them for what nobody needs.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use super::failure::{failed, is_missing};
use super::{Place, S3};
use crate::server::storage::StorageError;

const NAME: &str = "registry.json";

#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    registry: String,
}

impl S3 {
    /// Sees that what lies there is this registry's, and that it may be written. `has_blobs`: its catalogue knows of some.
    pub async fn claim(&self, registry: &str, has_blobs: bool) -> Result<(), StorageError> {
        let name = self.name(NAME);
        let object = Path::from(name.as_str());
        let no = |why: String| StorageError::Refused {
            step: "use",
            object: "storage.s3".to_owned(),
            why: format!("{}: {why}", self.place),
        };
        let tell = |step| move |error: object_store::Error| failed(step, &name, &self.place, &error);
        match self.store.get(&object).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(tell("read"))?;
                let owner: Option<Owner> = serde_json::from_slice(&bytes).ok();
                if owner.is_none_or(|owner| owner.registry != registry) {
                    return Err(no(format!(
                        "what lies there belongs to another registry, says {}: name another prefix or bucket; or bring back that \
                         registry's registry.db",
                        self.name(NAME)
                    )));
                }
            }
            Err(error) if !is_missing(&error) => return Err(tell("read")(error)),
            Err(_) if has_blobs => {
                return Err(no(format!(
                    "there is no {}, so this registry's blobs are not there: are bucket and prefix right?",
                    self.name(NAME)
                )));
            }
            Err(_) => {
                if !self.page(Place::default()).await?.0.is_empty() {
                    return Err(no(format!(
                        "there are blobs below {} that this registry doesn't know: name another prefix or bucket, or remove them",
                        self.blobs_prefix()
                    )));
                }
            }
        }
        // Also where it is there: who may not write shall hear of it now.
        let owner = serde_json::to_vec(&Owner { registry: registry.to_owned() }).unwrap_or_default();
        let name = self.name(NAME);
        let put = self.store.put(&object, PutPayload::from(owner)).await;
        put.map(drop).map_err(|error| failed("write", name, &self.place, &error))
    }
}
