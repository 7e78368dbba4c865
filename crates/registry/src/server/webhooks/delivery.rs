//! Says what is to be said: a task per hook, one delivery after the other. One that nobody hears is tried again, later each time, and
//! those behind it wait; what is too old or too much is dropped, the oldest first. What was heard just before a crash is said again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_api::client::TlsOptions;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ring::hmac;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::Hook;
use crate::server::catalogue::{Delivery, now};
use crate::server::registry::Registry;

/// As Docker's registry names it.
const ENVELOPE: &str = "application/vnd.docker.distribution.events.v1+json";
/// As GitHub names it, which many receivers check.
const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// How long to wait after the first failure, and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How often what is too much is looked for while nobody hears.
const TRIM: Duration = Duration::from_secs(1);
/// What is read of an answer, to keep its connection.
const ANSWER_MAX: usize = 64 << 10;
/// After an error of the catalogue's.
const TROUBLE: Duration = Duration::from_secs(5);

/// Delivers until it is dropped; to other hooks after a reload.
pub async fn serve(registry: Registry) {
    let mut changes = registry.subscribe();
    loop {
        let hooks = changes.borrow_and_update().settings.webhooks.clone();
        let names = hooks.iter().map(|hook| hook.name.clone()).collect();
        match registry.catalogue.keep_deliveries_of(names).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "webhooks are gone; what waited for them is dropped"),
            Err(error) => {
                tracing::warn!(error = error.explain(), "drop what waited for webhooks that are gone")
            }
        }
        let mut tasks = JoinSet::new();
        for hook in &hooks {
            tasks.spawn(Line::new(registry.clone(), hook.clone()).deliver());
        }
        loop {
            if changes.changed().await.is_err() {
                return;
            }
            if changes.borrow().settings.webhooks != hooks {
                break;
            }
        }
        tasks.shutdown().await;
    }
}

/// Whether a hook's files can be read.
pub fn check(hook: &Hook) -> Result<(), String> {
    let failed = |why| format!("webhook {}: {why}", hook.name);
    credentials(hook).map(drop).map_err(failed)
}

/// Reads a hook's files: what to sign with, and whom to believe.
fn credentials(hook: &Hook) -> Result<(Option<hmac::Key>, Option<Arc<rustls::ClientConfig>>), String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let key = match &hook.secret_file {
        None => None,
        Some(path) => {
            let secret = read(path)?;
            // Editors end files with a line's end.
            let secret = secret.trim_ascii_end();
            if secret.is_empty() {
                return Err(format!("{}: there is no secret in it", path.display()));
            }
            Some(hmac::Key::new(hmac::HMAC_SHA256, secret))
        }
    };
    let tls = match hook.tls {
        false => None,
        true => {
            let further_ca = hook.ca.as_deref().map(read).transpose()?.unwrap_or_default();
            let options = TlsOptions { verify: true, further_ca, ..TlsOptions::default() };
            Some(Arc::new(options.config().map_err(|error| error.to_string())?))
        }
    };
    Ok((key, tls))
}

/// What waits for one hook.
struct Line {
    registry: Registry,
    hook: Hook,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    fn new(registry: Registry, hook: Hook) -> Line {
        Line { registry, hook, connection: None }
    }

    async fn deliver(mut self) {
        let mut woken = self.registry.notices.subscribe();
        let mut failures = 0;
        loop {
            woken.borrow_and_update();
            let next = self.registry.catalogue.next_delivery(self.hook.name.clone()).await;
            let delivery = match next {
                Ok(Some(delivery)) => delivery,
                Ok(None) => match woken.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                Err(error) => {
                    tracing::warn!(error = error.explain(), "look for what a webhook is to be told");
                    sleep(TROUBLE).await;
                    continue;
                }
            };
            match self.attempt(&delivery).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(webhook = self.hook.name, failures, "the webhook hears again");
                    }
                    failures = 0;
                    self.registry.metrics.webhook_delivered();
                    self.settle(Some(delivery.id)).await;
                }
                Err(why) => {
                    self.connection = None;
                    self.registry.metrics.webhook_failed();
                    if failures == 0 {
                        tracing::warn!(
                            webhook = self.hook.name,
                            why,
                            "the webhook doesn't hear; trying again"
                        );
                    } else {
                        tracing::debug!(webhook = self.hook.name, failures, why, "the webhook doesn't hear");
                    }
                    failures += 1;
                    self.wait(Instant::now() + pause(failures), &mut woken).await;
                }
            }
        }
    }

    /// Waits, and meanwhile sees to it that what waits doesn't become too much.
    async fn wait(&self, until: Instant, woken: &mut tokio::sync::watch::Receiver<()>) {
        self.settle(None).await;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                more = woken.changed() => {
                    if more.is_err() {
                        return;
                    }
                    sleep(TRIM).await;
                    self.settle(None).await;
                }
            }
        }
    }

    /// Forgets a delivery, and what is too old or too much.
    async fn settle(&self, done: Option<i64>) {
        let oldest = now().saturating_sub(i64::try_from(self.hook.keep.as_secs()).unwrap_or(i64::MAX));
        let (name, queue) = (self.hook.name.clone(), self.hook.queue);
        match self.registry.catalogue.settle_deliveries(name, done, queue, oldest).await {
            Ok(0) => {}
            Ok(count) => {
                self.registry.metrics.webhook_dropped(count);
                tracing::warn!(webhook = self.hook.name, count, "what a webhook was to be told is dropped");
            }
            Err(error) => {
                tracing::warn!(error = error.explain(), "note what a webhook was told");
                // It would be told again at once, and again.
                sleep(TROUBLE).await;
            }
        }
    }

    async fn attempt(&mut self, delivery: &Delivery) -> Result<(), String> {
        let is_kept = self.connection.is_some();
        match self.attempt_once(delivery).await {
            // Whoever is at the other end may have closed it long ago.
            Err(_) if is_kept => {
                self.connection = None;
                self.attempt_once(delivery).await
            }
            done => done,
        }
    }

    async fn attempt_once(&mut self, delivery: &Delivery) -> Result<(), String> {
        let time = self.hook.timeout;
        match timeout(time, self.say(delivery)).await {
            Ok(said) => said,
            Err(_) => Err(format!("no answer within {} s", time.as_secs())),
        }
    }

    async fn say(&mut self, delivery: &Delivery) -> Result<(), String> {
        let hook = self.hook.clone();
        // Read each time: a secret may be renewed.
        let (key, tls) = tokio::task::spawn_blocking(move || credentials(&hook)).await.map_err(words)??;
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect(tls).await?,
        };
        connection.ready().await.map_err(words)?;
        let path = self.hook.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.hook.url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::post(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, ENVELOPE)
            .header(USER_AGENT, concat!("corten-registry/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(delivery.body.clone())))
            .map_err(words)?;
        if let Some(key) = key {
            let tag = hmac::sign(&key, delivery.body.as_bytes());
            let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            let signature = HeaderValue::try_from(format!("sha256={hex}")).map_err(words)?;
            request.headers_mut().insert(SIGNATURE, signature);
        }
        for (name, value) in &self.hook.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let response = connection.send_request(request).await.map_err(words)?;
        let status = response.status();
        let read = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        if read.is_ok() {
            self.connection = Some(connection);
        }
        match status {
            // A redirect is none: whoever it leads to wasn't configured.
            status if status.is_success() => Ok(()),
            StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT => {
                Err(format!("it has moved ({status}): redirects are not followed"))
            }
            status => Err(format!("it answers {status}")),
        }
    }

    async fn connect(
        &self,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect((self.hook.host.as_str(), self.hook.port)).await.map_err(words)?;
        // Bodies are small and waited for.
        let _ = stream.set_nodelay(true);
        let Some(config) = tls else {
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(words)?;
            tokio::spawn(connection);
            return Ok(sender);
        };
        let name = ServerName::try_from(self.hook.host.clone()).map_err(words)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error: io::Error| format!("TLS: {error}"))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(words)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let pauses: Vec<u64> = [1, 2, 3, 9, 10, 11, 1000].map(|failures| pause(failures).as_secs()).to_vec();
        assert_eq!(pauses, [1, 2, 4, 256, 300, 300, 300]);
    }
}
