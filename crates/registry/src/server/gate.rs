//! The gate: the one place that says who asks and whether they may, before a request is dispatched, and that has it noted afterwards
//! what they did. Everything else of the server takes a request that got here as allowed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::access::{
    Access, Account, Action, Admission, BODY_BYTES_MAX, Entry, Identity, Reason, Standing, Visitor, Wanted,
};
use super::body::Body;
use super::name::RepositoryName;
use super::refusal::{Code, Refusal};
use super::route::Endpoint;

/// How long a client may take to send the form that asks for a token.
const FORM: Duration = Duration::from_secs(30);

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// See whether there is a registry; what `login` asks.
    Version,
    /// List all repositories.
    Catalogue,
    Read,
    Write,
    Delete,
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub tls: bool,
    /// The common name of its certificate.
    pub certificate: Option<String>,
    /// The upstream that it takes this registry for, by where it came in.
    pub mirror_of: Option<Arc<str>>,
}

/// Who asks.
#[derive(Clone)]
pub enum Caller {
    Anybody,
    Admitted(Admission),
}

impl Caller {
    /// Who they are, as rules name them; nobody known is nobody.
    pub fn name(&self) -> String {
        match self {
            Caller::Anybody => String::new(),
            Caller::Admitted(admission) if *admission.identity() == Identity::Anonymous => String::new(),
            Caller::Admitted(admission) => admission.identity().to_string(),
        }
    }

    /// Whether they may read another repository, too: a blob is mounted from there.
    pub fn may_read(&self, repository: &RepositoryName) -> bool {
        match self {
            Caller::Anybody => true,
            Caller::Admitted(admission) => admission.may(Action::Read, repository.as_str()),
        }
    }

    /// What decides what they see; `None` where everybody sees everything.
    pub fn standing(&self) -> Option<Standing> {
        match self {
            Caller::Anybody => None,
            Caller::Admitted(admission) => Some(admission.standing()),
        }
    }

    /// Who it is, where that is known.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Caller::Anybody => None,
            Caller::Admitted(admission) => Some(admission.identity()),
        }
    }

    /// Whether a repository is in the catalogue that they are shown.
    pub fn sees(&self, repository: &str) -> bool {
        match self {
            Caller::Anybody => true,
            Caller::Admitted(admission) => admission.sees(repository),
        }
    }
}

/// Whom to let in.
#[derive(Clone)]
pub enum Gate {
    /// Everybody, to do anything.
    Open,
    Guarded(Arc<Access>),
}

/// Hides who may do what.
impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Gate::Open => "Open",
            Gate::Guarded(_) => "Guarded",
        })
    }
}

/// A request at the gate.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    pub peer: &'a Peer,
    pub parts: &'a Parts,
    pub request_id: &'a str,
}

impl<'a> Arrival<'a> {
    fn visitor(&self) -> Visitor<'a> {
        let host = self.parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        Visitor {
            headers: &self.parts.headers,
            host: host.or_else(|| self.parts.uri.authority().map(|authority| authority.as_str())),
            address: self.peer.address.ip(),
            tls: self.peer.tls,
            certificate: self.peer.certificate.as_deref(),
            request_id: self.request_id,
        }
    }
}

impl Gate {
    /// Who asks, if they may; what to answer otherwise.
    pub async fn admit(
        &self,
        arrival: Arrival<'_>,
        endpoint: &Endpoint,
        intent: Intent,
    ) -> Result<Caller, Response<Body>> {
        let Gate::Guarded(access) = self else { return Ok(Caller::Anybody) };
        let name = endpoint.repository().map(RepositoryName::as_str).unwrap_or_default();
        let repository = |action| Wanted::Repository { action, name };
        let wanted = match intent {
            Intent::Version => Wanted::Ping,
            Intent::Catalogue => Wanted::Catalogue,
            Intent::Read => repository(Action::Read),
            Intent::Write => repository(Action::Write),
            Intent::Delete => repository(Action::Delete),
        };
        let visitor = arrival.visitor();
        let refusal = match access.admit(&visitor, wanted).await {
            Ok(admission) => return Ok(Caller::Admitted(admission)),
            Err(refusal) => refusal,
        };
        let head = arrival.parts.method == Method::HEAD;
        // Those who only haven't shown yet who they are will; everything else is worth a line.
        if !matches!(refusal.reason, Reason::Stranger | Reason::Scope) {
            let reference = endpoint.reference();
            let action = match intent {
                Intent::Version => "login",
                Intent::Catalogue => "list",
                Intent::Read => "pull",
                Intent::Write => "push",
                Intent::Delete => "delete",
            };
            access.note_refusal(
                &visitor,
                &Entry {
                    action,
                    who: &refusal.who,
                    repository: Some(name).filter(|name| !name.is_empty()),
                    reference: reference.as_deref(),
                    status: refusal.status(head).as_u16(),
                    why: Some(refusal.reason.message()),
                },
                refusal.reason == Reason::Denied,
            );
        }
        let (parts, body) = refusal.into_response(head).into_parts();
        let body = body
            .collect()
            .await
            .map(|body| Body::from(body.to_bytes()))
            .unwrap_or_else(|never| match never {});
        Err(Response::from_parts(parts, body))
    }

    /// Who looks at pages: by what the request shows, or by a session. Strangers may as well; they see what they may read.
    pub async fn visit(&self, arrival: Arrival<'_>, session: Option<&str>) -> Result<Caller, Reason> {
        match self {
            Gate::Open => Ok(Caller::Anybody),
            Gate::Guarded(access) => access.visit(&arrival.visitor(), session).await.map(Caller::Admitted),
        }
    }

    /// A session for who has the password; `None` where nobody needs one.
    pub async fn sign_in(
        &self,
        arrival: Arrival<'_>,
        name: &str,
        password: &str,
    ) -> Option<Result<String, Reason>> {
        let Gate::Guarded(access) = self else { return None };
        Some(access.sign_in(&arrival.visitor(), name, password).await)
    }

    pub async fn sign_out(&self, session: &str) {
        if let Gate::Guarded(access) = self {
            access.sign_out(session).await;
        }
    }

    /// What somebody is told of themselves; `None` where everybody may do everything.
    pub async fn account(&self, caller: &Caller) -> Option<Account> {
        match (self, caller) {
            (Gate::Guarded(access), Caller::Admitted(admission)) => Some(access.account(admission).await),
            _ => None,
        }
    }

    /// The URL under which a visitor knows the registry, if their request says it.
    pub fn base_url(&self, arrival: Arrival<'_>) -> Option<String> {
        match self {
            Gate::Open => arrival.visitor().base_url(&[]),
            Gate::Guarded(access) => access.base_url(&arrival.visitor()),
        }
    }

    /// Has it noted what somebody who was let in has done, or tried to.
    pub fn note(&self, arrival: Arrival<'_>, endpoint: &Endpoint, who: &Caller, status: StatusCode) {
        let (Gate::Guarded(access), Caller::Admitted(admission)) = (self, who) else { return };
        let Some(action) = deed(endpoint, &arrival.parts.method, status, access.notes_pulls()) else {
            return;
        };
        let anonymous = *admission.identity() == Identity::Anonymous;
        let who = if anonymous { "anonymous".to_owned() } else { admission.identity().to_string() };
        let reference = endpoint.reference().or_else(|| query_digest(arrival.parts));
        access.note(
            &arrival.visitor(),
            &Entry {
                action,
                who: &who,
                repository: endpoint.repository().map(RepositoryName::as_str),
                reference: reference.as_deref(),
                status: status.as_u16(),
                why: None,
            },
        );
    }

    /// Has it noted that a tag was taken away by a rule.
    pub fn note_retired(&self, repository: &str, tag: &str, why: &str) {
        let Gate::Guarded(access) = self else { return };
        access.note_own(&Entry {
            action: "retire",
            who: "registry",
            repository: Some(repository),
            reference: Some(tag),
            status: StatusCode::ACCEPTED.as_u16(),
            why: Some(why),
        });
    }

    /// Answers who asks for a token; `None` where none are given.
    pub async fn token(
        &self,
        arrival: Arrival<'_>,
        body: &mut Incoming,
    ) -> Option<Result<Response<Body>, Refusal>> {
        let Gate::Guarded(access) = self else { return None };
        let form = match arrival.parts.method {
            Method::POST => match receive(body).await {
                Ok(form) => form,
                Err(refusal) => return Some(Err(refusal)),
            },
            _ => Vec::new(),
        };
        let (method, query) = (&arrival.parts.method, arrival.parts.uri.query());
        let (parts, body) = access.token(&arrival.visitor(), method, query, &form).await.into_parts();
        let body = body.collect().await.unwrap_or_else(|never| match never {});
        Some(Ok(Response::from_parts(parts, Body::from(body.to_bytes()))))
    }
}

/// A form, as far as anybody sends one.
pub async fn receive(body: &mut Incoming) -> Result<Vec<u8>, Refusal> {
    let whole = tokio::time::timeout(FORM, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let refused = |status, text| Refusal::new(status, Code::Unsupported, text);
    match whole {
        Ok(Ok(whole)) => Ok(whole.to_bytes().to_vec()),
        Ok(Err(_)) => Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the form is too long, or was cut off")),
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the form did not come in time")),
    }
}

/// What a request did that is worth a line. Pure.
fn deed(endpoint: &Endpoint, method: &Method, status: StatusCode, pulls: bool) -> Option<&'static str> {
    let created = status == StatusCode::CREATED;
    match (endpoint, method) {
        (Endpoint::Manifest(..) | Endpoint::Blob(..), &Method::DELETE) => Some("delete"),
        (Endpoint::Manifest(..), &Method::PUT) => Some("push"),
        // The pieces of an upload change nothing that anybody sees.
        (Endpoint::Uploads(_), &Method::POST) if created => Some("blob"),
        (Endpoint::Upload(..), &Method::PUT) if created => Some("blob"),
        (Endpoint::Manifest(..), &Method::GET) if pulls => Some("pull"),
        _ => None,
    }
}

/// The digest that an upload ends with, or that is mounted.
fn query_digest(parts: &Parts) -> Option<String> {
    let query = super::route::Query::parse(parts.uri.query()).ok()?;
    query.get("digest").or_else(|| query.get("mount")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_worth_a_line() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let manifest = Endpoint::parse("/v2/a/manifests/latest").unwrap();
        let blob = Endpoint::parse(&format!("/v2/a/blobs/{digest}")).unwrap();
        let uploads = Endpoint::parse("/v2/a/blobs/uploads/").unwrap();
        let ok = StatusCode::OK;
        assert_eq!(deed(&manifest, &Method::PUT, StatusCode::CREATED, false), Some("push"));
        assert_eq!(deed(&manifest, &Method::DELETE, StatusCode::NOT_FOUND, false), Some("delete"));
        assert_eq!(deed(&blob, &Method::DELETE, StatusCode::ACCEPTED, false), Some("delete"));
        assert_eq!(deed(&uploads, &Method::POST, StatusCode::ACCEPTED, false), None);
        assert_eq!(deed(&uploads, &Method::POST, StatusCode::CREATED, false), Some("blob"));
        assert_eq!(deed(&manifest, &Method::GET, ok, false), None);
        assert_eq!(deed(&manifest, &Method::GET, ok, true), Some("pull"));
        assert_eq!(deed(&manifest, &Method::HEAD, ok, true), None);
        assert_eq!(deed(&blob, &Method::GET, ok, true), None);
        assert_eq!(
            (manifest.reference().unwrap(), blob.reference().unwrap()),
            ("latest".into(), digest.into())
        );
    }
}
