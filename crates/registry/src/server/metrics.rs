//! What is counted, and told to Prometheus at a listener of its own; and whether the registry is well.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::body::Body;
use super::refusal::{Code, Refusal};
use super::registry::Registry;
use super::storage::Traffic;

/// Connections at once: there is one Prometheus, as a rule.
const CONNECTIONS_MAX: usize = 16;
const HEAD: Duration = Duration::from_secs(10);

/// How many there were, and how long they took together in microseconds, by method and status.
type Requests = BTreeMap<(&'static str, u16), (u64, u64)>;

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<Requests>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    collected_blobs: AtomicU64,
    retired_tags: AtomicU64,
    webhooks_delivered: AtomicU64,
    webhooks_failed: AtomicU64,
    webhooks_dropped: AtomicU64,
    collected_bytes: AtomicU64,
}

impl Metrics {
    /// An answer of so many bytes, of which the client may not have taken all yet.
    pub fn answered(&self, method: &Method, status: StatusCode, bytes: u64, begun: Instant) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, sum) = requests.entry((method, status.as_u16())).or_default();
        *count += 1;
        *sum += took;
        drop(requests);
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn webhook_delivered(&self) {
        self.webhooks_delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt that came to nothing.
    pub fn webhook_failed(&self) {
        self.webhooks_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn webhook_dropped(&self, count: u64) {
        self.webhooks_dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub fn retired(&self) {
        self.retired_tags.fetch_add(1, Ordering::Relaxed);
    }

    pub fn collected(&self, bytes: u64) {
        self.collected_blobs.fetch_add(1, Ordering::Relaxed);
        self.collected_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// In Prometheus' text format, with what the catalogue says beside.
    fn text(
        &self,
        uploads: usize,
        waiting: u64,
        (repositories, blobs, bytes): (u64, u64, u64),
        store: Option<Traffic>,
    ) -> String {
        let mut text = String::new();
        let mut series = |name: &str, kind: &str, about: &str, lines: &[(String, String)]| {
            // Writing to a string can't fail.
            let _ =
                writeln!(text, "# HELP corten_registry_{name} {about}\n# TYPE corten_registry_{name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(text, "corten_registry_{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value.to_string())];
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let by = |value: fn((u64, u64)) -> String| -> Vec<(String, String)> {
            let labels = |method: &str, status: u16| format!("{{method=\"{method}\",status=\"{status}\"}}");
            requests.iter().map(|((method, status), sums)| (labels(method, *status), value(*sums))).collect()
        };
        series("requests_total", "counter", "Requests answered.", &by(|(count, _)| count.to_string()));
        let seconds = by(|(_, micros)| (micros as f64 / 1e6).to_string());
        series(
            "request_seconds_total",
            "counter",
            "Time until requests were answered, without bodies.",
            &seconds,
        );
        let read = |counter: &AtomicU64| one(counter.load(Ordering::Relaxed));
        series("received_bytes_total", "counter", "Bytes of blobs pushed.", &read(&self.received_bytes));
        series("sent_bytes_total", "counter", "Bytes of answers.", &read(&self.sent_bytes));
        series(
            "collected_blobs_total",
            "counter",
            "Blobs removed that nobody needed.",
            &read(&self.collected_blobs),
        );
        for (name, about, counter) in [
            ("webhooks_delivered_total", "Notices that a webhook has heard.", &self.webhooks_delivered),
            ("webhooks_failed_total", "Attempts that came to nothing.", &self.webhooks_failed),
            ("webhooks_dropped_total", "Notices that nobody heard in time.", &self.webhooks_dropped),
        ] {
            series(name, "counter", about, &read(counter));
        }
        series("webhooks_waiting", "gauge", "Notices that wait.", &one(waiting));
        series("retired_tags_total", "counter", "Tags that retention took away.", &read(&self.retired_tags));
        series("collected_bytes_total", "counter", "Bytes of these.", &read(&self.collected_bytes));
        if let Some(traffic) = store {
            let by = |value: fn(u64, u64) -> String| -> Vec<(String, String)> {
                let status = |status: u16| if status == 0 { "none".to_owned() } else { status.to_string() };
                let labels =
                    |method: &str, code| format!("{{method=\"{method}\",status=\"{}\"}}", status(code));
                let requests = traffic.requests.iter();
                requests
                    .map(|((method, code), (count, sum))| (labels(method, *code), value(*count, *sum)))
                    .collect()
            };
            let about = "Requests to the object store, each try.";
            series("s3_requests_total", "counter", about, &by(|count, _| count.to_string()));
            let about = "Time until these were answered, without bodies.";
            series(
                "s3_request_seconds_total",
                "counter",
                about,
                &by(|_, sum| (sum as f64 / 1e6).to_string()),
            );
            series("s3_sent_bytes_total", "counter", "Bytes put there.", &one(traffic.sent_bytes));
            series(
                "s3_received_bytes_total",
                "counter",
                "Bytes got from there.",
                &one(traffic.received_bytes),
            );
        }
        series("uploads", "gauge", "Uploads under way.", &one(uploads as u64));
        series("repositories", "gauge", "Repositories.", &one(repositories));
        series("blobs", "gauge", "Blobs, each once.", &one(blobs));
        series("blob_bytes", "gauge", "Bytes of these.", &one(bytes));
        text
    }
}

/// Whether the registry can answer: its catalogue does.
pub async fn health(registry: &Registry) -> Result<Response<Body>, Refusal> {
    match registry.catalogue.repositories(String::new(), 1).await {
        Ok(_) => Ok(text("ok\n".to_owned())),
        Err(error) => {
            let mut refusal = Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "the catalogue does not answer",
            );
            refusal.cause = Some(error.explain());
            Err(refusal)
        }
    }
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, registry: Registry) {
    let room = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept for metrics");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let registry = registry.clone();
                async move {
                    let answer = answer(&registry, request).await;
                    Ok::<_, Infallible>(answer.unwrap_or_else(Refusal::into_response))
                }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(%error, "metrics");
            }
            drop(place);
        });
    }
}

async fn answer(registry: &Registry, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let totals = registry.catalogue.totals().await?;
            let waiting = registry.catalogue.deliveries().await?;
            let store = registry.storage.traffic();
            let mut told = registry.metrics.text(registry.uploads.count(), waiting, totals, store);
            if registry.cache.size().is_some() {
                told.push_str(&registry.cache.metrics(registry.catalogue.cached_bytes().await?));
            }
            Ok(text(told))
        }
        (&Method::GET, "/healthz") => health(registry).await,
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, Code::Unsupported, "page not found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_reads_it() {
        let metrics = Metrics::default();
        metrics.answered(&Method::GET, StatusCode::OK, 10, Instant::now());
        metrics.answered(&Method::GET, StatusCode::OK, 5, Instant::now());
        metrics.answered(&Method::TRACE, StatusCode::METHOD_NOT_ALLOWED, 0, Instant::now());
        let text = metrics.text(3, 7, (1, 2, 4096), None);
        for line in [
            "# TYPE corten_registry_requests_total counter",
            "corten_registry_requests_total{method=\"GET\",status=\"200\"} 2",
            "corten_registry_requests_total{method=\"other\",status=\"405\"} 1",
            "corten_registry_sent_bytes_total 15",
            "corten_registry_uploads 3",
            "corten_registry_webhooks_waiting 7",
            "corten_registry_blob_bytes 4096",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
