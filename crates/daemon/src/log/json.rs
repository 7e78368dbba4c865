//! The log as JSON: one object per line, with the keys that dockerd's has (`time`, `level`, `msg`), the event's fields, and
//! those of the spans around it.

use std::fmt::Debug;
use std::io::{self, Write};

use corten_api::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Writes to stderr.
pub(super) struct JsonLog;

/// What is known of a span or an event, by name.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(name(field).to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(name(field).to_owned(), format!("{value:?}").into());
    }
}

fn name(field: &Field) -> &'static str {
    match field.name() {
        "message" => "msg",
        name => name,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLog {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                let named =
                    |(key, value): (&String, &Value)| (format!("{}_{key}", span.name()), value.clone());
                line.0.extend(fields.0.iter().map(named));
            }
        }
        event.record(&mut line);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            // As logrus, and so dockerd, spells it.
            tracing::Level::WARN => "warning",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        line.0.insert("level".to_owned(), level.into());
        line.0.insert("time".to_owned(), Timestamp::now().to_string().into());
        let mut text = Value::Object(line.0).to_string();
        text.push('\n');
        // There is nobody to tell that the log can't be written.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
