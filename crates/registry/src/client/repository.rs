//! The distribution protocol for one repository: manifests, tags, referrers; blobs by `download` and `upload`.

use std::sync::Arc;

use bytes::Bytes;
use corten_image::Digest;
use corten_image::manifest::{Descriptor, media};
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::Shared;
use super::origin::{escaped, join};
use super::payload::Payload;
use super::refusal::{Object, Purpose};
use super::transport::{Answer, without_query};
use super::visit::{Ask, Endpoint, Notices, Target};
use crate::{Action, Error, RegistryAddress, Result};

/// Of a manifest; registries take 4 MiB.
pub(crate) const MANIFEST_BYTES_MAX: usize = 8 << 20;
const TAGS_MAX: usize = 200_000;
const PAGES_MAX: usize = 1000;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// What we can make something of.
const MANIFEST_TYPES: [&str; 4] =
    [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_INDEX, media::DOCKER_MANIFEST];

/// One repository at one registry as somebody sees it. Cheap to clone, used by many tasks at once.
#[derive(Clone)]
pub struct Repository {
    pub(super) inner: Arc<Inner>,
    notices: Option<Notices>,
}

pub(super) struct Inner {
    pub shared: Arc<Shared>,
    /// Mirrors, and then the registry.
    pub endpoints: Vec<Endpoint>,
    pub path: String,
    /// As people write it: `busybox`, `registry.example.com/busybox`.
    pub name: String,
}

/// A manifest, an index or an artifact, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub media_type: String,
    pub digest: Digest,
    pub bytes: Bytes,
}

impl Repository {
    pub(super) fn new(
        shared: Arc<Shared>,
        registry: &RegistryAddress,
        path: &str,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        let name = match registry.is_hub() {
            true => path.strip_prefix("library/").unwrap_or(path).to_owned(),
            false => format!("{registry}/{path}"),
        };
        Self { inner: Arc::new(Inner { shared, endpoints, path: path.to_owned(), name }), notices: None }
    }

    /// The same, with somebody who is told when something takes longer, as when the registry wants to be left alone for a while.
    pub fn with_notices(self, notices: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self { notices: Some(Arc::new(notices)), ..self }
    }

    /// The same as the registry itself has it: for those who push, whom no mirror can tell what is there.
    pub fn without_mirrors(self) -> Self {
        let Inner { shared, endpoints, path, name } = &*self.inner;
        let endpoints = endpoints.iter().filter(|endpoint| !endpoint.is_mirror).cloned().collect();
        let inner = Inner { shared: shared.clone(), endpoints, path: path.clone(), name: name.clone() };
        Self { inner: Arc::new(inner), ..self }
    }

    /// As people write it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A manifest by tag or digest. It has the digest that was asked for, and the one that the registry says.
    pub async fn manifest(&self, reference: &str) -> Result<Document> {
        let (answer, from) = self.pull(|| self.manifest_ask(Method::GET, reference)).await?;
        match self.document(reference, answer).await {
            // A mirror is not what is believed.
            Err(_) if from.is_mirror => {
                self.inner.shared.transport.known.rest(&from);
                let answer = self.ask(self.manifest_ask(Method::GET, reference)?).await?;
                self.document(reference, answer).await
            }
            done => done,
        }
    }

    /// What a reference stands for now; `None` where there is no such manifest.
    pub async fn manifest_descriptor(&self, reference: &str) -> Result<Option<Descriptor>> {
        let (answer, _) = self.pull(|| self.manifest_ask(Method::HEAD, reference)).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            // Who doesn't know HEAD may know GET.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                return self.described(reference).await;
            }
            _ => {
                let purpose = self.purpose("HEAD", Action::Pull, self.manifest_object(reference));
                return Err(purpose.refused(answer).await);
            }
        }
        let digest = answer.header(CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let size = answer.header(CONTENT_LENGTH).and_then(|size| size.parse::<u64>().ok());
        let media_type =
            answer.header(CONTENT_TYPE).map(bare_type).filter(|text| media::kind(text).is_some());
        let asked = reference.parse::<Digest>().ok();
        match (digest, size, media_type) {
            (Some(digest), Some(size), Some(media_type)) if asked.is_none_or(|asked| asked == digest) => {
                Ok(Some(Descriptor::new(media_type, digest, size)))
            }
            _ => self.described(reference).await,
        }
    }

    async fn described(&self, reference: &str) -> Result<Option<Descriptor>> {
        match self.manifest(reference).await {
            Ok(found) => Ok(Some(Descriptor::of(&found.media_type, &found.bytes))),
            Err(Error::ManifestUnknown { .. } | Error::RepositoryUnknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The size of a blob; `None` where there is none.
    pub async fn blob_exists(&self, digest: &Digest) -> Result<Option<u64>> {
        let target = Target::Path(format!("{}/blobs/{digest}", self.inner.path));
        let purpose = self.purpose("HEAD", Action::Pull, Object::Blob(digest.to_string()));
        // Asked for by those who are about to push: only the registry itself counts.
        let ask = Ask::new(Method::HEAD, target, vec![self.scope("pull,push")], purpose.clone());
        let answer = self.ask(ask).await?;
        match answer.status {
            StatusCode::OK => size_of(&answer).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(purpose.refused(answer).await),
        }
    }

    /// The size of a blob that is to be pulled, from wherever it would come; `None` where there is none.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let purpose = self.purpose("HEAD", Action::Pull, Object::Blob(digest.to_string()));
        let ask = || {
            let target = Target::Path(format!("{}/blobs/{digest}", self.inner.path));
            Ok(Ask::new(Method::HEAD, target, vec![self.scope("pull")], purpose.clone()))
        };
        let (answer, _) = self.pull(ask).await?;
        match answer.status {
            StatusCode::OK => size_of(&answer).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(purpose.refused(answer).await),
        }
    }

    /// Stores a manifest under a tag or its digest.
    pub async fn put_manifest(&self, reference: &str, media_type: &str, bytes: Bytes) -> Result<Digest> {
        self.put(reference, media_type, bytes).await.map(|(digest, _)| digest)
    }

    /// Stores what refers to another manifest, by its digest. Where the registry keeps no account of that, it is kept in a tag
    /// (distribution specification, "Pushing Manifests with Subject").
    pub async fn put_referrer(&self, referrer: &Descriptor, bytes: Bytes, subject: &Digest) -> Result<()> {
        let (_, is_known) = self.put(&referrer.digest.to_string(), &referrer.media_type, bytes).await?;
        if is_known {
            return Ok(());
        }
        let mut all = self.referrers_by_tag(subject, None).await?;
        if all.iter().all(|known| known.digest != referrer.digest) {
            all.push(referrer.clone());
        }
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": all});
        let bytes = Bytes::from(index.to_string());
        self.put_manifest(&referrers_tag(subject), media::OCI_INDEX, bytes).await.map(drop)
    }

    /// The digest, and whether the registry has taken notice of the manifest's subject.
    async fn put(&self, reference: &str, media_type: &str, bytes: Bytes) -> Result<(Digest, bool)> {
        let digest = Digest::of(&bytes);
        let purpose = self.purpose("PUT", Action::Push, self.manifest_object(reference));
        let mut ask = Ask::new(
            Method::PUT,
            self.manifest_target(reference),
            vec![self.scope("pull,push")],
            purpose.clone(),
        )
        .header(CONTENT_TYPE, media_type)?;
        ask.payload = Payload::Whole(bytes);
        ask.patience = Some(super::upload::COMMIT_TIMEOUT);
        let answer = self.ask(ask).await?;
        if !answer.status.is_success() {
            return Err(purpose.refused(answer).await);
        }
        let said = answer.header(CONTENT_DIGEST).map(ToOwned::to_owned);
        let has_subject = answer.header(SUBJECT).is_some();
        answer.dismiss().await;
        match said {
            Some(said) if said.starts_with("sha256:") && said != digest.to_string() => {
                let what = format!("manifest {}", self.manifest_name(reference));
                Err(Error::Digest { what, wanted: digest.to_string(), found: said })
            }
            _ => Ok((digest, has_subject)),
        }
    }

    pub async fn delete_manifest(&self, reference: &str) -> Result<()> {
        let purpose = self.purpose("DELETE", Action::Delete, self.manifest_object(reference));
        let scopes = vec![self.scope("delete")];
        let ask = Ask::new(Method::DELETE, self.manifest_target(reference), scopes, purpose.clone());
        let answer = self.ask(ask).await?;
        if !answer.status.is_success() {
            return Err(purpose.refused(answer).await);
        }
        answer.dismiss().await;
        Ok(())
    }

    /// One page of the tags, as the registry gives it. `query` is what its last page's `Link` has said, or `n=…` to begin with; what
    /// comes beside the tags is that of the next page.
    pub async fn tags_page(&self, query: &str) -> Result<(Vec<String>, Option<String>)> {
        let purpose = self.purpose("GET", Action::Pull, Object::Repository);
        let mark = if query.is_empty() { "" } else { "?" };
        let target = Target::Path(format!("{}/tags/list{mark}{query}", self.inner.path));
        let answer =
            self.ask(Ask::new(Method::GET, target, vec![self.scope("pull")], purpose.clone())).await?;
        if answer.status != StatusCode::OK {
            return Err(purpose.refused(answer).await);
        }
        let next = next_page(&answer)?.and_then(|next| next.query().map(ToOwned::to_owned));
        let page: TagsPage = json(answer).await?;
        Ok((page.tags.unwrap_or_default(), next))
    }

    /// All tags, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let purpose = self.purpose("GET", Action::Pull, Object::Repository);
        let mut target = Target::Path(format!("{}/tags/list?n=1000", self.inner.path));
        let mut tags = Vec::new();
        for _ in 0..PAGES_MAX {
            let ask = Ask::new(Method::GET, target, vec![self.scope("pull")], purpose.clone());
            let answer = self.ask(ask).await?;
            if answer.status != StatusCode::OK {
                return Err(purpose.refused(answer).await);
            }
            let (next, url) = (next_page(&answer)?, answer.url.clone());
            let page: TagsPage = json(answer).await?;
            let page = page.tags.unwrap_or_default();
            let is_empty = page.is_empty();
            tags.extend(page);
            match next {
                Some(next) if !is_empty && next != url && tags.len() < TAGS_MAX => target = Target::Url(next),
                _ => return Ok(tags),
            }
        }
        Ok(tags)
    }

    /// What refers to a manifest: by the API, or by the tag of registries that don't have it.
    pub async fn referrers(&self, digest: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>> {
        let filter = artifact_type.map(|kind| format!("?artifactType={}", escaped(kind))).unwrap_or_default();
        let purpose = self.purpose("GET", Action::Pull, Object::Repository);
        let mut target = Target::Path(format!("{}/referrers/{digest}{filter}", self.inner.path));
        let mut found = Vec::new();
        let mut is_filtered = true;
        for page in 0..PAGES_MAX {
            let ask = Ask::new(Method::GET, target, vec![self.scope("pull")], purpose.clone())
                .header(ACCEPT, media::OCI_INDEX)?;
            let answer = self.ask(ask).await?;
            match answer.status {
                StatusCode::OK => {}
                // Registries of before 1.1 know no such path, and say so in several ways.
                status
                    if page == 0 && status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    answer.dismiss().await;
                    return self.referrers_by_tag(digest, artifact_type).await;
                }
                _ => return Err(purpose.refused(answer).await),
            }
            is_filtered &= answer.header(FILTERS_APPLIED).is_some_and(|what| what.contains("artifactType"));
            let (next, url) = (next_page(&answer)?, answer.url.clone());
            let index: Referrers = json(answer).await?;
            let is_empty = index.manifests.is_empty();
            found.extend(index.manifests);
            match next {
                Some(next) if !is_empty && next != url && found.len() < TAGS_MAX => {
                    target = Target::Url(next)
                }
                _ => break,
            }
        }
        if !is_filtered {
            found.retain(|one: &Descriptor| {
                artifact_type.is_none_or(|kind| one.artifact_type.as_deref() == Some(kind))
            });
        }
        Ok(found)
    }

    /// Distribution specification, "Referrers Tag Schema".
    async fn referrers_by_tag(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let index = match self.manifest(&referrers_tag(digest)).await {
            Ok(index) => index,
            Err(Error::ManifestUnknown { .. } | Error::RepositoryUnknown { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = serde_json::from_slice::<Referrers>(&index.bytes)
            .map(|index| index.manifests)
            .unwrap_or_default();
        found.retain(|one| artifact_type.is_none_or(|kind| one.artifact_type.as_deref() == Some(kind)));
        Ok(found)
    }

    async fn document(&self, reference: &str, answer: Answer) -> Result<Document> {
        if answer.status != StatusCode::OK {
            let purpose = self.purpose("GET", Action::Pull, self.manifest_object(reference));
            return Err(purpose.refused(answer).await);
        }
        let said = answer.header(CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let declared = answer.header(CONTENT_TYPE).map(|text| bare_type(text).to_owned());
        let bytes = answer.bytes(MANIFEST_BYTES_MAX).await?;
        let digest = Digest::of(&bytes);
        let asked = reference.parse::<Digest>().ok();
        if let Some(wanted) = asked.or(said).filter(|wanted| *wanted != digest) {
            let what = format!("manifest {}", self.manifest_name(reference));
            return Err(Error::Digest { what, wanted: wanted.to_string(), found: digest.to_string() });
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Embedded {
            media_type: Option<String>,
        }
        let media_type = match declared {
            Some(declared)
                if !matches!(
                    declared.as_str(),
                    "" | "application/json" | "application/octet-stream" | "text/plain"
                ) =>
            {
                declared
            }
            _ => {
                serde_json::from_slice::<Embedded>(&bytes).ok().and_then(|e| e.media_type).unwrap_or_default()
            }
        };
        Ok(Document { media_type, digest, bytes })
    }

    fn manifest_ask(&self, method: Method, reference: &str) -> Result<Ask> {
        let name = if method == Method::HEAD { "HEAD" } else { "GET" };
        let purpose = self.purpose(name, Action::Pull, self.manifest_object(reference));
        let ask = Ask::new(method, self.manifest_target(reference), vec![self.scope("pull")], purpose);
        ask.header(ACCEPT, &MANIFEST_TYPES.join(", "))
    }

    fn manifest_target(&self, reference: &str) -> Target {
        Target::Path(format!("{}/manifests/{reference}", self.inner.path))
    }

    fn manifest_object(&self, reference: &str) -> Object {
        Object::Manifest(self.manifest_name(reference))
    }

    fn manifest_name(&self, reference: &str) -> String {
        let mark = if reference.contains(':') { '@' } else { ':' };
        format!("{}{mark}{reference}", self.inner.name)
    }

    pub(super) fn purpose(&self, method: &'static str, action: Action, object: Object) -> Purpose {
        Purpose { method, action, repository: self.inner.name.clone(), object }
    }

    pub(super) fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.inner.path)
    }

    /// Asks the registry itself.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer> {
        self.visit(self.registry()?, ask).await
    }

    /// Asks the mirrors in their order, and then the registry. What a mirror has not, or can't give, is no error.
    pub(super) async fn pull(&self, ask: impl Fn() -> Result<Ask>) -> Result<(Answer, Endpoint)> {
        let known = &self.inner.shared.transport.known;
        for mirror in
            self.inner.endpoints.iter().filter(|endpoint| endpoint.is_mirror && !known.is_resting(endpoint))
        {
            match self.visit(mirror, ask()?).await {
                Ok(answer) if answer.status.is_success() => return Ok((answer, mirror.clone())),
                Ok(answer) => {
                    if answer.status != StatusCode::NOT_FOUND {
                        known.rest(mirror);
                    }
                    answer.dismiss().await;
                }
                Err(_) => known.rest(mirror),
            }
        }
        Ok((self.ask(ask()?).await?, self.registry()?.clone()))
    }

    async fn visit(&self, endpoint: &Endpoint, mut ask: Ask) -> Result<Answer> {
        ask.notices.clone_from(&self.notices);
        self.inner.shared.ask(endpoint, ask).await
    }

    fn registry(&self) -> Result<&Endpoint> {
        self.inner.endpoints.last().ok_or(Error::Address(self.inner.name.clone(), "it has no registry"))
    }
}

#[derive(Deserialize)]
struct TagsPage {
    tags: Option<Vec<String>>,
}

/// How large a blob is that was looked for.
fn size_of(answer: &Answer) -> Result<u64> {
    let size = answer.header(CONTENT_LENGTH).and_then(|size| size.parse().ok());
    let url = without_query(&answer.url.to_string()).to_owned();
    size.ok_or(Error::Protocol { url, why: "it doesn't say how large the blob is".to_owned() })
}

/// The tag that stands for the referrers of a manifest ("Referrers Tag Schema").
fn referrers_tag(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

#[derive(Deserialize)]
struct Referrers {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

pub(super) async fn json<T: serde::de::DeserializeOwned>(answer: Answer) -> Result<T> {
    let url = without_query(&answer.url.to_string()).to_owned();
    let body = answer.bytes(MANIFEST_BYTES_MAX).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::Protocol { url, why: format!("its answer can't be read: {error}") })
}

/// `Link: </v2/x/tags/list?last=y>; rel="next"` (RFC 8288).
pub(super) fn next_page(answer: &Answer) -> Result<Option<hyper::Uri>> {
    let Some(link) = answer.header(hyper::header::LINK) else { return Ok(None) };
    let next = link.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"));
    let target = next.and_then(|link| link.trim().strip_prefix('<')).and_then(|link| link.split('>').next());
    target.map(|target| join(&answer.url, target)).transpose()
}

/// A media type without its parameters.
fn bare_type(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}
