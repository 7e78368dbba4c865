//! What upstreams list: tags and referrers. They are asked each time, as nothing else knows; where they can't be, what was fetched of
//! them is told.

use std::time::Duration;

use corten_image::manifest::Descriptor;
use hyper::StatusCode;

use super::failure::{Failure, Trouble};
use super::upstream::{Source, count};
use crate::server::digest::Digest;
use crate::server::registry::Registry;

/// What a client waits for at most where there is nothing else to tell.
const WAIT: Duration = Duration::from_secs(30);

/// Some of an upstream's tags, and what it wants to be asked for the next ones.
type TagsPage = (Vec<String>, Option<String>);

impl Registry {
    /// None when the upstream can't tell now.
    pub async fn upstream_tags(&self, source: &Source, query: &str) -> Result<Option<TagsPage>, Failure> {
        let page = async { Ok(source.open().await?.tags_page(query).await?) };
        self.listed(source, "tags", page).await
    }

    pub async fn upstream_referrers(
        &self,
        source: &Source,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Failure> {
        let subject = super::asked(&subject)?;
        let list = async { Ok(source.open().await?.referrers(&subject, artifact_type).await?) };
        self.listed(source, "referrers", list).await
    }

    async fn listed<T>(
        &self,
        source: &Source,
        what: &str,
        list: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        if source.upstream.is_resting() {
            count(&source.upstream.counts.stale);
            return Ok(None);
        }
        let listed = tokio::time::timeout(WAIT, list).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", WAIT.as_secs());
            Err(Failure::Trouble(Trouble::new(StatusCode::GATEWAY_TIMEOUT, why)))
        });
        match listed {
            Ok(listed) => Ok(Some(listed)),
            Err(failure) => {
                source.note_failure(what, &failure);
                let Failure::Trouble(trouble) = &failure else { return Err(failure) };
                source.upstream.rest(trouble);
                count(&source.upstream.counts.stale);
                Ok(None)
            }
        }
    }
}
