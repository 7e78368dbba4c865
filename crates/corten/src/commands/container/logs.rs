//! `logs`: what a container wrote.

use corten_api::Timestamp;
use corten_api::container::LogsOptions;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::format::time::parse_bound;
use crate::stream::Split;

#[derive(Clone, Debug, clap::Args)]
pub struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Logs {
    const ABOUT: &'static str = "Fetch the logs of a container";
    const USAGE: &'static str = "[OPTIONS] CONTAINER";

    fn run(self, context: &Context) -> Outcome {
        let options = self.options()?;
        let client = context.client()?;
        context.block_on_while_read(async {
            let mut response = client.container_logs(&self.container, &options).await?;
            let mut split = Split::to_stdio(response.is_multiplexed());
            while let Some(piece) = response.chunk().await? {
                match split.write(&piece) {
                    // The reader has seen enough.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
                    other => other?,
                }
            }
            Ok(0)
        })
    }
}

impl Logs {
    fn options(&self) -> Result<LogsOptions, Failure> {
        // Docker shows everything when the number makes no sense.
        let tail = self.tail.parse().ok();
        Ok(LogsOptions {
            follow: self.follow,
            stdout: true,
            stderr: true,
            since: bound("--since", self.since.as_deref())?,
            until: bound("--until", self.until.as_deref())?,
            timestamps: self.timestamps,
            tail,
            details: self.details,
        })
    }
}

/// Reads `--since` and `--until`.
pub fn bound(flag: &str, text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match parse_bound(text) {
        Some(time) => Ok(Some(time)),
        None => Err(Failure::new(format!("invalid value {text:?} for {flag}")).hint(
            "expected a time (2013-01-02T13:23:37Z), seconds since 1970, or a span back from now (42m)",
        )),
    }
}
