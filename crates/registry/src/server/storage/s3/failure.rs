//! What a store's failures mean: whether it is away, full, or refuses us; in words that say what to do. Pure.

use std::error::Error as _;

use object_store::client::HttpError;

use crate::server::storage::StorageError;

/// Of what a store says in its own words.
const SAID_MAX: usize = 300;

/// What failed: `cannot STEP OBJECT` in the bucket `place`.
pub fn failed(
    step: &'static str,
    object: impl ToString,
    place: &str,
    error: &object_store::Error,
) -> StorageError {
    let said = Said::of(error);
    let why = format!("{place}: {}", said.words());
    match said.meaning() {
        Meaning::Away => StorageError::Away { step, object: object.to_string(), why },
        Meaning::Full => StorageError::Full { step, object: object.to_string(), why },
        Meaning::Refused => StorageError::Refused { step, object: object.to_string(), why },
    }
}

/// Whether an object, or an upload in parts, isn't there, in a bucket that is.
pub fn is_missing(error: &object_store::Error) -> bool {
    // An answer to HEAD has no words.
    matches!(error, object_store::Error::NotFound { .. }) && Said::of(error).code != "NoSuchBucket"
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// It may be well a little later.
    Away,
    Full,
    /// Somebody has to do something.
    Refused,
}

/// What an error tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// Of an answer, if there was one.
    status: Option<u16>,
    /// S3's own, if the answer had one.
    code: String,
    message: String,
    /// What became of the connection.
    connection: Option<(bool, String)>,
}

impl Said {
    fn of(error: &object_store::Error) -> Said {
        let text = error.to_string();
        let mut said = Said {
            status: after(&text, "status code: ").and_then(|rest| rest.get(..3)?.parse().ok()),
            code: element(&text, "Code").unwrap_or_default(),
            message: element(&text, "Message").unwrap_or_default(),
            connection: None,
        };
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(crate::Error::Unreachable { cause, why, .. }) = error.downcast_ref() {
                let lasting = matches!(cause, crate::Cause::Certificate | crate::Cause::Plain);
                said.connection = Some((!lasting, why.clone()));
            } else if error.is::<HttpError>() && said.connection.is_none() {
                said.connection = Some((true, error.to_string()));
            }
            cause = error.source();
        }
        if said.status.is_none() && said.connection.is_none() {
            said.message = text;
        }
        said
    }

    fn meaning(&self) -> Meaning {
        if let Some((may_pass, _)) = self.connection {
            return if may_pass { Meaning::Away } else { Meaning::Refused };
        }
        let full = ["QuotaExceeded", "StorageFull", "InsufficientStorage", "InsufficientCapacity", "NoSpace"];
        match (self.status, self.code.as_str()) {
            (Some(507), _) => Meaning::Full,
            (_, code) if full.iter().any(|full| code.contains(full)) => Meaning::Full,
            // Credentials that were handed out for a while are renewed.
            (_, "ExpiredToken") => Meaning::Away,
            (Some(408 | 429 | 500..), _) | (_, "SlowDown" | "RequestTimeout" | "InternalError") => {
                Meaning::Away
            }
            _ => Meaning::Refused,
        }
    }

    fn words(&self) -> String {
        let said = match (&self.connection, self.status) {
            (Some((_, why)), _) => why.clone(),
            (None, None) => self.message.clone(),
            (None, Some(status)) => match (self.code.as_str(), self.message.as_str()) {
                ("", _) => format!("status {status}"),
                (code, "") => format!("{code} (status {status})"),
                (code, message) => format!("{code}: {message}"),
            },
        };
        let said: String =
            said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_MAX).collect();
        match self.hint() {
            Some(hint) => format!("{said}; {hint}"),
            None => said,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        if self.connection.is_some() {
            return None;
        }
        Some(match (self.code.as_str(), self.status) {
            ("NoSuchBucket", _) => "make the bucket, or name another one in storage.s3.bucket",
            ("InvalidAccessKeyId", _) => "check access_key_id, or AWS_ACCESS_KEY_ID",
            ("SignatureDoesNotMatch", _) => {
                "check the secret key, the region, and whether a proxy changes requests on their way"
            }
            ("RequestTimeTooSkewed", _) => "check this host's clock",
            (
                "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException",
                _,
            )
            | (_, Some(301 | 307)) => "check storage.s3.region and storage.s3.endpoint",
            ("AccessDenied" | "", Some(401 | 403)) => {
                "these keys have to be allowed to get, put, delete and list objects there, and to list and abort uploads in parts"
            }
            _ => return None,
        })
    }
}

fn after<'t>(text: &'t str, mark: &str) -> Option<&'t str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// The text of an XML element in an answer that was put into an error's text.
fn element(text: &str, name: &str) -> Option<String> {
    let (inner, _) = after(text, &format!("<{name}>"))?.split_once(&format!("</{name}>"))?;
    Some(inner.replace("&quot;", "\"").replace("&apos;", "'").replace("&lt;", "<").replace("&gt;", ">"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str, message: &str) -> object_store::Error {
        let text = format!(
            "Error performing PUT http://s/hub/x in 1ms - Server returned non-2xx status code: {status} Some Words: \
             <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn failures_are_told_apart() {
        use Meaning::*;
        for (status, code, meaning) in [
            (503, "SlowDown", Away),
            (500, "InternalError", Away),
            (429, "", Away),
            (400, "ExpiredToken", Away),
            (400, "RequestTimeout", Away),
            (507, "XMinioStorageFull", Full),
            (409, "QuotaExceeded", Full),
            (400, "XMinioAdminBucketQuotaExceeded", Full),
            (403, "AccessDenied", Refused),
            (403, "SignatureDoesNotMatch", Refused),
            (404, "NoSuchBucket", Refused),
            (301, "PermanentRedirect", Refused),
            (400, "EntityTooLarge", Refused),
        ] {
            assert_eq!(Said::of(&error(status, code, "why")).meaning(), meaning, "{status} {code}");
        }
    }

    #[test]
    fn connections_that_fail_say_why() {
        let unreachable = |cause| crate::Error::Unreachable {
            url: "http://s/hub/x?secret".to_owned(),
            cause,
            why: "connect to s port 9000: connection refused".to_owned(),
        };
        for (cause, meaning) in
            [(crate::Cause::Down, Meaning::Away), (crate::Cause::Certificate, Meaning::Refused)]
        {
            let http = HttpError::new(object_store::client::HttpErrorKind::Connect, unreachable(cause));
            let error = object_store::Error::Generic { store: "S3", source: Box::new(http) };
            let said = Said::of(&error);
            assert_eq!(said.meaning(), meaning);
            assert_eq!(said.words(), "connect to s port 9000: connection refused");
        }
    }

    #[test]
    fn words_are_one_line_with_a_hint() {
        let told =
            failed("put blob", "sha256:1", "bucket hub", &error(403, "AccessDenied", "no\nway")).explain();
        assert!(
            told.starts_with("cannot put blob sha256:1: bucket hub: AccessDenied: no way; these keys"),
            "{told}"
        );
        let long = "x".repeat(5000);
        assert!(Said::of(&error(400, "Odd", &long)).words().len() < 400);
    }
}
