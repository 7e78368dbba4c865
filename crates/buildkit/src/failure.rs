//! Errors on their way to a client: a status, and behind it details by which the client shows the place in the Dockerfile.

use crate::attributes::AttributeError;
use crate::output::OutputError;
use crate::session::SessionError;
use crate::wire::rpc::{Any, Status as RpcStatus};
use bytes::Bytes;
use corten_build::{Error, base64};
use prost::Message;
use serde::Serialize;
use tonic::{Code, Status};

/// A Dockerfile as it is shown with an error in it.
#[derive(Clone, Debug)]
pub struct Source {
    pub filename: String,
    pub text: Vec<u8>,
}

/// The status of a build that failed.
pub fn status(error: &Error, source: Option<&Source>) -> Status {
    let code = match error.cause() {
        Error::Canceled => Code::Cancelled,
        Error::NotFound(_) => Code::NotFound,
        // As BuildKit has it for everything that its front end finds, and for programs that fail.
        _ => Code::Unknown,
    };
    let message = error.to_string();
    let place = error.lines().zip(source).and_then(|(lines, source)| place(lines, source));
    let Some(place) = place else { return Status::new(code, message) };
    let details = RpcStatus { code: code as i32, message: message.clone(), details: vec![place] };
    Status::with_details(code, message, Bytes::from(details.encode_to_vec()))
}

/// What is wrong with a request is its asker's affair.
macro_rules! invalid_argument {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self(Status::invalid_argument(error.to_string()))
            }
        }
    )*};
}

/// Any refusal, ready to be sent.
#[derive(Debug)]
pub struct Failure(pub Status);

invalid_argument!(AttributeError, OutputError, SessionError);

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

/// `errdefs.Source`, in the form in which BuildKit's clients take it: JSON in an `Any`.
fn place((first, last): (usize, usize), source: &Source) -> Option<Any> {
    #[derive(Serialize)]
    struct Place<'s> {
        info: Info<'s>,
        ranges: [Range; 1],
    }
    #[derive(Serialize)]
    struct Info<'s> {
        filename: &'s str,
        data: String,
        language: &'static str,
    }
    #[derive(Serialize)]
    struct Range {
        start: Position,
        end: Position,
    }
    #[derive(Serialize)]
    struct Position {
        line: usize,
    }
    let place = Place {
        info: Info { filename: &source.filename, data: base64(&source.text), language: "Dockerfile" },
        ranges: [Range { start: Position { line: first }, end: Position { line: last } }],
    };
    let value = serde_json::to_vec(&place).ok()?;
    Some(Any { type_url: "github.com/moby/buildkit/errdefs.Source+json".into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_at_an_instruction_brings_its_lines() {
        let source = Source { filename: "Dockerfile".into(), text: b"FROM a\nRUN b\n".to_vec() };
        let error = Error::Exit { command: "b".into(), code: 3 }.at(2, 2);
        let status = status(&error, Some(&source));
        assert_eq!(status.message(), "process \"b\" did not complete successfully: exit code: 3");
        let details = RpcStatus::decode(status.details()).unwrap();
        assert_eq!(details.details[0].type_url, "github.com/moby/buildkit/errdefs.Source+json");
        let place: serde_json::Value = serde_json::from_slice(&details.details[0].value).unwrap();
        assert_eq!(place["ranges"][0]["start"]["line"], 2);
        assert_eq!(place["info"]["data"], base64(&source.text));
        assert_eq!(super::status(&Error::Canceled, None).code(), Code::Cancelled);
    }
}
