//! `version`: of this program and of the engine.

use corten_api::API_VERSION;
use corten_api::system::SystemVersion;

use crate::cli::{Context, Failure, Outcome, VERSION, Verb};
use crate::format::listing::render_one;
use crate::format::template::{Nil, Value};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Version {
    /// Format output: 'json' or a Go TEMPLATE
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Only this program's version; asks no engine
    #[arg(long)]
    client: bool,
}

impl Verb for Version {
    const ABOUT: &'static str = "Show the version information";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        if self.client {
            output::print(&self.text(None, context)?)?;
            return Ok(0);
        }
        // Asking for the version is no reason to start an engine.
        let client = context.client_as_it_is()?;
        match context.block_on(client.version())? {
            Ok(server) => {
                output::print(&self.text(Some(&server), context)?)?;
                Ok(0)
            }
            Err(error) => {
                let mut failure = Failure::from(error);
                if failure.older_engine.is_some() {
                    return Err(failure);
                }
                if self.format.is_empty() || self.format == "json" || !self.format.contains(".Server") {
                    output::print(&self.text(None, context)?)?;
                }
                failure.no_engine = false;
                Err(failure)
            }
        }
    }
}

impl Version {
    fn text(&self, server: Option<&SystemVersion>, context: &Context) -> Result<String, Failure> {
        if self.format.is_empty() {
            // Which context it is takes a look into a file, for which somebody who asks no engine has no use.
            let name = (!self.client).then(|| context.name());
            return Ok(plain(server, name.as_deref()));
        }
        Ok(render_one(&self.format, &value(server, &context.name()))?)
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn plain(server: Option<&SystemVersion>, context: Option<&str>) -> String {
    let mut text = format!(
        "Client: Corten\n Version:           {VERSION}\n API version:       {API_VERSION}\n OS/Arch:           {}/{}\n",
        std::env::consts::OS,
        architecture()
    );
    if let Some(context) = context {
        text.push_str(&format!(" Context:           {context}\n"));
    }
    let Some(server) = server else { return text };
    let platform = if server.platform.name.is_empty() { "Engine" } else { &server.platform.name };
    text.push_str(&format!("\nServer: {platform}\n"));
    let mut section = |name: &str, lines: &[(&str, &str)]| {
        text.push_str(&format!(" {name}:\n"));
        for (key, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&format!("  {:<17} {value}\n", format!("{key}:")));
        }
    };
    if server.components.is_empty() {
        section("Engine", &[("Version", &server.version), ("API version", &server.api_version)]);
    }
    for component in &server.components {
        let detail = |key: &str| component.details.get(key).map(String::as_str).unwrap_or_default();
        let api = match (detail("ApiVersion"), detail("MinAPIVersion")) {
            ("", _) => String::new(),
            (api, "") => api.to_owned(),
            (api, minimum) => format!("{api} (minimum version {minimum})"),
        };
        let platform = match (detail("Os"), detail("Arch")) {
            ("", "") => String::new(),
            (os, arch) => format!("{os}/{arch}"),
        };
        let lines = [
            ("Version", component.version.as_str()),
            ("API version", &api),
            ("Git commit", detail("GitCommit")),
            ("Built", detail("BuildTime")),
            ("OS/Arch", &platform),
            ("Kernel", detail("KernelVersion")),
            ("Experimental", detail("Experimental")),
        ];
        section(&component.name, &lines);
    }
    text
}

fn value(server: Option<&SystemVersion>, context: &str) -> Value {
    let client = Value::row([
        ("Platform", Value::row([("Name", Value::from("Corten"))])),
        ("Version", VERSION.into()),
        ("ApiVersion", API_VERSION.into()),
        ("DefaultAPIVersion", API_VERSION.into()),
        ("GitCommit", "".into()),
        ("GoVersion", "".into()),
        ("Os", std::env::consts::OS.into()),
        ("Arch", architecture().into()),
        ("Context", context.into()),
    ]);
    let server =
        server.and_then(|server| Value::from_serialize(server).ok()).unwrap_or(Value::Nil(Nil::Pointer));
    Value::row([("Client", client), ("Server", server)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_reach_both_sides() {
        let server = SystemVersion { version: "9.9".into(), ..SystemVersion::default() };
        let render = |format: &str| render_one(format, &value(Some(&server), "here")).unwrap();
        assert_eq!(render("{{.Server.Version}}/{{.Client.Version}}"), format!("9.9/{VERSION}\n"));
        assert_eq!(render("{{.Client.APIVersion}} {{.Client.Context}}"), format!("{API_VERSION} here\n"));
    }
}
