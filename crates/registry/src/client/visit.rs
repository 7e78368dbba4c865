//! Gets one request through to a registry: by the channel that it speaks, with what it wants to be shown, along redirects, and again
//! where that helps. What the final answer means is the caller's business.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use tokio::time::{Instant, sleep};

use super::mirrors::Mirror;
use super::origin::{Channel, Origin};
use super::payload::Payload;
use super::refusal::{Purpose, challenges};
use super::transport::{Answer, Request, without_query};
use super::{Shared, redirect, retry};
use crate::{Cause, Credentials, Error, RegistryAddress, Result};

/// Shorter waits aren't worth a word.
const NOTICE_FROM: Duration = Duration::from_secs(2);

/// A registry, or a mirror of one, and who we are there.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub registry: RegistryAddress,
    /// Before `/v2/`.
    pub prefix: String,
    /// Without TLS, by the operator's word.
    pub is_plain: bool,
    pub is_mirror: bool,
    pub credentials: Option<Credentials>,
}

/// One request of the distribution protocol.
pub(crate) struct Ask {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub payload: Payload,
    /// What a token has to be good for: `repository:library/busybox:pull`.
    pub scopes: Vec<String>,
    /// The client's, where there is none.
    pub patience: Option<Duration>,
    pub purpose: Purpose,
    pub notices: Option<Notices>,
}

/// Takes what people should know while something takes longer.
pub(crate) type Notices = Arc<dyn Fn(String) + Send + Sync>;

#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Behind `/v2/`.
    Path(String),
    /// As the registry gave it.
    Url(Uri),
}

impl Endpoint {
    pub fn of_registry(registry: &RegistryAddress, credentials: Option<Credentials>) -> Self {
        let registry = registry.clone();
        Self { registry, prefix: String::new(), is_plain: false, is_mirror: false, credentials }
    }

    /// Nobody's credentials for a registry are shown to its mirrors.
    pub fn of_mirror(mirror: &Mirror) -> Self {
        let Mirror { registry, prefix, is_plain } = mirror.clone();
        Self { registry, prefix, is_plain, is_mirror: true, credentials: None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_plain { "http" } else { "https" };
        write!(f, "{scheme}://{}{}", self.registry, self.prefix)
    }
}

impl Ask {
    pub fn new(method: Method, target: Target, scopes: Vec<String>, purpose: Purpose) -> Self {
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            payload: Payload::Nothing,
            scopes,
            patience: None,
            purpose,
            notices: None,
        }
    }

    pub fn header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let odd =
            |_| Error::Protocol { url: format!("{:?}", self.target), why: format!("{value:?} is no header") };
        self.headers.append(name, HeaderValue::from_str(value).map_err(odd)?);
        Ok(self)
    }
}

/// Has people know of a long wait.
fn tell(notices: Option<&Notices>, url: &Uri, wait: Duration) {
    if let Some(notices) = notices.filter(|_| wait >= NOTICE_FROM) {
        let host = url.authority().map(ToString::to_string).unwrap_or_default();
        notices(format!("{host} is busy: trying again in {} s", wait.as_secs()));
    }
}

impl Shared {
    pub async fn ask(&self, endpoint: &Endpoint, mut ask: Ask) -> Result<Answer> {
        let channel = match endpoint.is_plain {
            true => Channel::Plain,
            false => self.transport.channel(&endpoint.registry).await?,
        };
        let home = Origin::of_registry(&endpoint.registry, channel);
        let (url, channel) = self.place(endpoint, &home, &ask.target).await?;
        let is_home = Origin::of_url(&url, channel).is_some_and(|origin| origin == home);
        let mut shown = match is_home {
            true => self.tokens.present(self, endpoint, &home, &ask).await?,
            false => None,
        };
        // Nothing, or something that is no longer good, and then something fresh: what is refused after that stays refused.
        loop {
            let mut headers = ask.headers.clone();
            if let Some(shown) = &shown {
                headers.insert(AUTHORIZATION, shown.value.clone());
            }
            let again = ask.payload.again();
            let payload = std::mem::take(&mut ask.payload);
            let patience = ask.patience.unwrap_or(self.transport.options().patience.answer);
            let request =
                Request { method: ask.method.clone(), url: url.clone(), channel, headers, payload, patience };
            let answer = self.persist(request, redirect::REDIRECTS_MAX, ask.notices.as_ref()).await;
            if channel == Channel::Plain && matches!(answer, Err(Error::Unreachable { .. })) {
                self.transport.known.forget(&endpoint.registry);
            }
            let answer = answer?;
            let is_refused = answer.status == StatusCode::UNAUTHORIZED
                && Origin::of_url(&answer.url, answer.channel).is_some_and(|origin| origin == home);
            match again {
                Some(again) if is_refused && shown.as_ref().is_none_or(|shown| !shown.is_fresh) => {
                    let wanted = challenges(&answer);
                    match self.tokens.satisfy(self, endpoint, &home, &ask, &wanted, shown.as_ref()).await? {
                        Some(fresh) => shown = Some(fresh),
                        None => return Ok(answer),
                    }
                    answer.dismiss().await;
                    ask.payload = again;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// The URL of a request, and the channel to it.
    async fn place(&self, endpoint: &Endpoint, home: &Origin, target: &Target) -> Result<(Uri, Channel)> {
        match target {
            Target::Path(path) => {
                let url = format!("{home}{}/v2/{path}", endpoint.prefix);
                let odd = |_| Error::Protocol { url: url.clone(), why: "it is no URL".to_owned() };
                Ok((url.parse().map_err(odd)?, home.channel))
            }
            Target::Url(url) => {
                let channel = self.channel_to(url, home.channel, url).await?;
                Ok((url.clone(), channel))
            }
        }
    }

    async fn channel_to(&self, from: &Uri, at: Channel, to: &Uri) -> Result<Channel> {
        let insecure = match Origin::of_url(to, Channel::Proven).map(|origin| origin.registry()) {
            Some(registry) => self.transport.is_insecure(&registry?).await,
            None => false,
        };
        redirect::channel(from, at, to, insecure)
    }

    /// Sends a request, again after what passes by itself, where that can do no harm.
    pub async fn persist(
        &self,
        mut request: Request,
        redirects_max: usize,
        notices: Option<&Notices>,
    ) -> Result<Answer> {
        let is_repeatable =
            matches!(request.method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE);
        let origin = Origin::of_url(&request.url, request.channel);
        let (mut tries, mut waited) = (0, Duration::ZERO);
        loop {
            if let Some(wait) = origin.as_ref().and_then(|origin| self.transport.pool.closed_for(origin)) {
                tell(notices, &request.url, wait);
                sleep(wait).await;
            }
            let again = request.payload.again().filter(|_| is_repeatable);
            let parts = (request.method.clone(), request.url.clone(), request.headers.clone());
            let (channel, patience) = (request.channel, request.patience);
            tries += 1;
            let outcome = self.follow(request, redirects_max).await;
            let Some(payload) = again else { return outcome };
            let wait = match &outcome {
                Ok(answer) => retry::after_answer(answer.status, &answer.headers, tries, waited),
                Err(error) if error.is_temporary() => {
                    // Who hasn't answered for so long is given one more chance only.
                    tries += u32::from(matches!(error, Error::Unreachable { cause: Cause::Timeout, .. }));
                    retry::after_break(tries)
                }
                Err(_) => None,
            };
            let Some(wait) = wait else { return outcome };
            tell(notices, &parts.1, wait);
            if let Ok(answer) = outcome {
                if retry::retry_after(&answer.headers).is_some()
                    && let Some(origin) = Origin::of_url(&answer.url, answer.channel)
                {
                    self.transport.pool.close_until(&origin, Instant::now() + wait);
                }
                answer.dismiss().await;
            }
            sleep(wait).await;
            waited += wait;
            let (method, url, headers) = parts;
            request = Request { method, url, channel, headers, payload, patience };
        }
    }

    /// Sends a request to where it is sent on to.
    async fn follow(&self, mut request: Request, redirects_max: usize) -> Result<Answer> {
        for _ in 0..=redirects_max {
            let again = request.payload.again();
            let (method, patience) = (request.method.clone(), request.patience);
            let mut headers = request.headers.clone();
            let answer = self.transport.send(request).await?;
            let target = redirect::target(&answer, &method, again.is_some())?;
            let (Some(to), Some(payload)) = (target.filter(|_| redirects_max > 0), again) else {
                return Ok(answer);
            };
            let channel = self.channel_to(&answer.url, answer.channel, &to).await?;
            let (from, at) = (Origin::of_url(&answer.url, answer.channel), Origin::of_url(&to, channel));
            if from.zip(at).is_none_or(|(from, at)| !redirect::keeps_credentials(&from, &at)) {
                redirect::strip(&mut headers);
            }
            answer.dismiss().await;
            request = Request { method, url: to, channel, headers, payload, patience };
        }
        Err(Error::Unreachable {
            url: without_query(&request.url.to_string()).to_owned(),
            cause: Cause::Redirect,
            why: format!("more than {redirects_max} redirects: they lead in a circle"),
        })
    }
}
