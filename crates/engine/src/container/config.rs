//! The image's settings and the request's, merged into one, as Docker merges them.

use corten_api::container::{ContainerConfig, HealthConfig};
use corten_api::image::ImageConfig;

use crate::error::{Error, Result};

/// What the image says, where the request is silent.
pub fn merge(config: &mut ContainerConfig, image: &ImageConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.shell.is_empty() {
        config.shell = image.shell.clone();
    }
    // An entrypoint of one's own makes the image's command meaningless; `[""]` clears both.
    if config.entrypoint.is_empty() {
        if config.cmd.is_empty() {
            config.cmd = image.cmd.clone();
            config.args_escaped = image.args_escaped;
        }
        config.entrypoint = image.entrypoint.clone();
    } else if config.entrypoint.as_slice() == [""] {
        config.entrypoint = corten_api::List::default();
    }
    for (port, empty) in image.exposed_ports.iter() {
        config.exposed_ports.entry(port.clone()).or_insert(*empty);
    }
    if config.volumes.is_empty() {
        // As in the image: `null` rather than `{}` when there are none.
        config.volumes = corten_api::Map::default();
    }
    for (path, empty) in image.volumes.iter() {
        config.volumes.entry(path.clone()).or_insert(*empty);
    }
    for (name, value) in image.labels.iter() {
        config.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    config.env = environment(&config.env, &image.env).into();
    config.healthcheck = health(config.healthcheck.take(), image.healthcheck.as_ref());
    if config.labels.is_nil() {
        config.labels = corten_api::Map::empty();
    }
}

/// The request's variables, then those of the image that it says nothing of. A name alone stays: it says that the container is
/// to be without that variable.
fn environment(own: &[String], image: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let silent = |entry: &&String| !own.iter().any(|known| name(known) == name(entry));
    own.iter().chain(image.iter().filter(silent)).cloned().collect()
}

fn health(own: Option<HealthConfig>, image: Option<&HealthConfig>) -> Option<HealthConfig> {
    let (Some(mut own), Some(image)) = (own.clone(), image) else { return own.or_else(|| image.cloned()) };
    if own.test.is_empty() {
        own.test = image.test.clone();
    }
    let inherit = |own: &mut i64, image: i64| {
        if *own == 0 {
            *own = image;
        }
    };
    inherit(&mut own.interval, image.interval);
    inherit(&mut own.timeout, image.timeout);
    inherit(&mut own.start_period, image.start_period);
    inherit(&mut own.start_interval, image.start_interval);
    inherit(&mut own.retries, image.retries);
    Some(own)
}

/// The program with its arguments: entrypoint, then command.
pub fn arguments(config: &ContainerConfig) -> Result<Vec<String>> {
    let args: Vec<String> = config.entrypoint.iter().chain(config.cmd.iter()).cloned().collect();
    if args.is_empty() || args[0].is_empty() && args.len() == 1 {
        return Err(Error::invalid("no command specified"));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> corten_api::List<String> {
        words.iter().map(|s| (*s).to_owned()).collect()
    }

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: list(&["/entry"]),
            cmd: list(&["serve"]),
            env: list(&["PATH=/bin", "A=1"]),
            user: "app".into(),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn own_command_keeps_the_entrypoint_and_own_entrypoint_drops_the_command() {
        let mut config = ContainerConfig { cmd: list(&["shell"]), ..ContainerConfig::default() };
        merge(&mut config, &image());
        assert_eq!(arguments(&config).unwrap(), ["/entry", "shell"]);
        let mut config = ContainerConfig { entrypoint: list(&["/mine"]), ..ContainerConfig::default() };
        merge(&mut config, &image());
        assert_eq!(arguments(&config).unwrap(), ["/mine"]);
        let mut config = ContainerConfig { entrypoint: list(&[""]), ..ContainerConfig::default() };
        merge(&mut config, &image());
        assert!(arguments(&config).is_err());
    }

    #[test]
    fn variables_replace_and_unset() {
        let mut config = ContainerConfig { env: list(&["A=2", "B=3", "PATH"]), ..ContainerConfig::default() };
        merge(&mut config, &image());
        assert_eq!(config.env.as_slice(), ["A=2", "B=3", "PATH"]);
        assert_eq!(config.user, "app");
    }
}
