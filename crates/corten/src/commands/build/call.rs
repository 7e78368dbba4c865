//! `--call` and `--check`: questions about a Dockerfile, in buildx's words.

use std::str::FromStr;

use corten_api::build::{BuildAnswer, BuildEvent};
use corten_api::client::{Body, Client};

use super::request::Asked;
use super::show::{Mode, Show};
use crate::cli::{Failure, Outcome};
use crate::output;

/// What is asked, and how the answer is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// None: the build itself.
    method: Option<&'static str>,
    is_json: bool,
    /// What a check finds does not count as a failure.
    ignores_status: bool,
}

impl FromStr for Call {
    type Err = String;

    /// `METHOD[,format=json|text][,ignorestatus[=true]]`
    fn from_str(text: &str) -> Result<Call, String> {
        let mut fields = text.split(',');
        let method = match fields.next().unwrap_or_default() {
            "build" => None,
            "check" | "lint" => Some("check"),
            "outline" => Some("outline"),
            "targets" => Some("targets"),
            other => return Err(format!("unknown method {other:?}: it is build, check, outline or targets")),
        };
        let mut call = Call { method, ..Call::default() };
        for field in fields {
            match field {
                "format=json" => call.is_json = true,
                "format=text" => call.is_json = false,
                "ignorestatus" | "ignorestatus=true" => call.ignores_status = true,
                "ignorestatus=false" => call.ignores_status = false,
                other => return Err(format!("unknown option {other:?}: it is format=json or ignorestatus")),
            }
        }
        Ok(call)
    }
}

impl Call {
    pub fn check() -> Call {
        Call { method: Some("check"), ..Call::default() }
    }

    pub fn method(&self) -> Option<&'static str> {
        self.method
    }

    /// Prints an answer; the exit status says whether a check has found something.
    pub fn show(&self, answer: &BuildAnswer) -> Outcome {
        if self.is_json {
            output::line(&answer.json)?;
        } else {
            if self.method == Some("check") {
                match answer.warnings {
                    0 if answer.has_error => {}
                    0 => output::line("Check complete, no warnings found.")?,
                    1 => output::line("Check complete, 1 warning has been found!")?,
                    many => output::line(&format!("Check complete, {many} warnings have been found!"))?,
                }
            }
            output::print(&answer.text)?;
        }
        let is_clean = answer.warnings == 0 && !answer.has_error;
        Ok(if is_clean || self.ignores_status { 0 } else { 1 })
    }
}

pub async fn ask(client: &Client, asked: &Asked) -> Result<BuildAnswer, Failure> {
    let body = Body::from_reader(asked.body()?, None);
    let request = client.post("/corten/build").body("application/json", body);
    let mut definition = asked.request.definition.clone();
    let mut events = request.send().await?.messages::<BuildEvent>();
    while let Some(event) = events.next().await? {
        match event {
            BuildEvent::Answer(answer) => return Ok(answer),
            BuildEvent::Definition(found) => definition = found,
            BuildEvent::Error(error) => {
                return Err(
                    Show::new(Mode::Quiet, definition.name.clone())?.failure(&error, &definition.text)
                );
            }
            _ => {}
        }
    }
    Err(Failure::new("the engine ended before it had answered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        assert_eq!("build".parse::<Call>().unwrap().method(), None);
        assert_eq!("check".parse::<Call>().unwrap(), Call::check());
        let call = "check,format=json,ignorestatus=true".parse::<Call>().unwrap();
        assert!(call.is_json && call.ignores_status);
        for wrong in ["", "fly", "check,format=yaml", "outline,"] {
            assert!(wrong.parse::<Call>().is_err(), "{wrong}");
        }
    }
}
