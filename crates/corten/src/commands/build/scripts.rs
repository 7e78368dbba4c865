//! Flags of Docker's that scripts have: those that ask for what is so anyway are taken, the others are refused with what to do instead.

use crate::cli::{EXIT_ENGINE, Failure};
use crate::options::values::boolean;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct ScriptFlags {
    /// Always: no step leaves its container
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    rm: Option<bool>,
    /// Always: a step that fails leaves none either
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Of no effect, as with BuildKit: files are read where they lie, or sent as they are
    #[arg(long, hide = true)]
    compress: bool,
    /// Always: images are verified by their digests alone
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    disable_content_trust: Option<bool>,
    /// Always the kernel's: default, process
    #[arg(long, hide = true)]
    isolation: Option<String>,
    /// There is one builder: default
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, hide = true)]
    annotation: Vec<String>,
    #[arg(long, hide = true)]
    security_opt: Vec<String>,
    #[arg(long, hide = true)]
    squash: bool,
}

impl ScriptFlags {
    /// Refuses what can't be had, with what to do instead.
    pub fn check(&self) -> Result<(), Failure> {
        let isolation = self.isolation.as_deref().unwrap_or_default().to_ascii_lowercase();
        let refused = [
            (
                self.rm == Some(false),
                "--rm=false",
                "no step leaves its container",
                "--debug-on-failure opens a shell in that of a step that fails",
            ),
            (
                self.disable_content_trust == Some(false),
                "--disable-content-trust=false",
                "images are verified by digests, not by signatures",
                "name bases by their digests: FROM NAME@sha256:...",
            ),
            (
                !matches!(isolation.as_str(), "" | "default" | "process"),
                "--isolation",
                "steps are isolated by the kernel alone",
                "leave it out, or say --isolation default",
            ),
            (
                !matches!(self.builder.as_deref(), None | Some("" | "default")),
                "--builder",
                "the engine is the only builder",
                "choose another engine before the command: corten --host HOST build, or --context NAME",
            ),
            (
                !self.annotation.is_empty(),
                "--annotation",
                "only BuildKit's clients can ask for annotations",
                "--label says it in the image's configuration; docker buildx build --annotation annotates",
            ),
            (
                !self.security_opt.is_empty(),
                "--security-opt",
                "all steps have the engine's default profile",
                "leave it out",
            ),
            (
                self.squash,
                "--squash",
                "an image's layers stay apart",
                "for one layer end with an empty stage: FROM scratch, COPY --from=STAGE / /",
            ),
        ];
        match refused.into_iter().find(|(is_asked, ..)| *is_asked) {
            Some((_, flag, why, hint)) => {
                let failure = Failure::new(format!("{flag} is not supported: {why}"));
                Err(failure.hint(hint).exit(EXIT_ENGINE))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ScriptFlags,
    }

    fn check(flags: &str) -> Result<(), String> {
        let line = Line::try_parse_from(["build"].into_iter().chain(flags.split(' ')));
        line.map_err(|error| error.to_string())?.flags.check().map_err(|failure| failure.message)
    }

    #[test]
    fn what_is_so_anyway_is_taken() {
        let flags =
            "--rm --force-rm --compress --disable-content-trust --isolation default --builder default";
        assert_eq!(check(flags), Ok(()));
        assert_eq!(check("--rm=true --disable-content-trust=1 --isolation=process"), Ok(()));
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for flag in [
            "--rm=false",
            "--disable-content-trust=false",
            "--isolation=hyperv",
            "--builder=other",
            "--annotation=a=b",
            "--security-opt=seccomp=unconfined",
            "--squash",
        ] {
            let told = check(flag).unwrap_err();
            assert!(told.contains("is not supported") && told.contains(&flag[..8]), "{flag}: {told}");
        }
    }
}
