//! `doctor`: what this host lacks for containers, and how to mend it. Every finding comes from trying or reading the thing
//! itself, none from a version number. Asks no engine; knows nothing of how a container is run.

mod firewall;
mod groups;
mod kernel;
mod limits;
mod neighbours;

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::format::tabwriter;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Doctor {
    /// Where the engine keeps its data
    #[arg(long, value_name = "DIR", default_value = corten_daemon::DEFAULT_DATA_ROOT)]
    data_root: PathBuf,
    /// Format output: 'table' or 'json' (one object per finding)
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Show only what is wrong
    #[arg(short, long)]
    quiet: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Something will not work, or not well.
    Warning,
    /// No container will run.
    Fatal,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Finding {
    area: &'static str,
    what: String,
    verdict: Verdict,
    /// What was seen.
    seen: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "String::is_empty")]
    mend: String,
}

impl Finding {
    fn ok(area: &'static str, what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { area, what: what.into(), verdict: Verdict::Ok, seen: seen.into(), mend: String::new() }
    }

    fn bad(
        verdict: Verdict,
        area: &'static str,
        what: impl Into<String>,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { area, what: what.into(), verdict, seen: seen.into(), mend: mend.into() }
    }
}

impl Verb for Doctor {
    const ABOUT: &'static str = "Tell what this host lacks for containers, and how to mend it";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        if !matches!(self.format.as_str(), "table" | "json") {
            return Err(Failure::new(format!("unknown format {:?}: table and json are", self.format))
                .exit(EXIT_ENGINE));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new("only root can try what containers need").hint("sudo corten doctor"));
        }
        let mut findings = kernel::findings();
        findings.extend(groups::findings());
        findings.extend(limits::findings(&self.data_root));
        findings.extend(firewall::findings());
        findings.extend(neighbours::findings());
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        if self.quiet {
            findings.retain(|finding| finding.verdict != Verdict::Ok);
        }
        output::print(&match self.format.as_str() {
            "json" => lines(&findings)?,
            _ => table(&findings),
        })?;
        // A warning is for people, a script wants to know whether containers will run.
        Ok(if worst == Verdict::Fatal { 1 } else { 0 })
    }
}

fn lines(findings: &[Finding]) -> Result<String, Failure> {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&serde_json::to_string(finding).map_err(|error| Failure::new(error.to_string()))?);
        text.push('\n');
    }
    Ok(text)
}

fn table(findings: &[Finding]) -> String {
    let mut rows = String::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Fatal => "FATAL",
        };
        rows.push_str(&format!("{mark}\t{}\t{}\t{}\n", finding.area, finding.what, finding.seen));
    }
    let mut text = tabwriter::align(&rows);
    let mends: Vec<String> = findings
        .iter()
        .filter(|finding| !finding.mend.is_empty())
        .map(|finding| format!("  {} {}: {}\n", finding.area, finding.what, finding.mend))
        .collect();
    if !mends.is_empty() {
        text.push_str(&format!("\nTo mend:\n{}", mends.concat()));
    }
    text
}

/// A number in a file of /proc or /sys.
fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_a_way_out() {
        let findings = [
            Finding::ok("kernel", "overlay", "there"),
            Finding::bad(Verdict::Warning, "limits", "open files", "1024", "raise it"),
        ];
        let text = table(&findings);
        assert!(text.starts_with("ok "), "{text}");
        assert!(text.ends_with("\nTo mend:\n  limits open files: raise it\n"), "{text}");
        let json = lines(&findings).unwrap();
        assert!(json.lines().next().unwrap().ends_with(r#""Verdict":"ok","Seen":"there"}"#), "{json}");
    }

    #[test]
    fn verdicts_are_ordered() {
        assert!(Verdict::Ok < Verdict::Warning && Verdict::Warning < Verdict::Fatal);
    }
}
