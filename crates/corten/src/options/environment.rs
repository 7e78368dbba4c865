//! Variables, labels and annotations, from flags and from files.

use corten_api::Map;
use corten_api::container::ContainerCreateRequest;

use super::values::key_value;
use super::{OptionError, Outside};

#[derive(Clone, Debug, Default, clap::Args)]
pub struct EnvironmentFlags {
    /// Set environment variables; a name alone takes its value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
}

impl EnvironmentFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest, outside: &Outside) -> Result<(), OptionError> {
        let mut env = variables(&self.env_file, &self.env, outside)?;
        // The proxies of the client's configuration: what is said of one here wins, also that it shall not be set.
        let said = |name: &str| {
            env.iter().any(|word| word.split_once('=').map_or(word.as_str(), |(name, _)| name) == name)
        };
        let proxies = outside.proxies.iter().filter(|(name, _)| !said(name));
        let mut proxies: Vec<String> = proxies.map(|(name, value)| format!("{name}={value}")).collect();
        env.append(&mut proxies);
        if !env.is_empty() {
            request.config.env = env.into();
        }
        let mut labels = Vec::new();
        for path in &self.label_file {
            for line in lines("--label-file", path, outside)? {
                labels.push(line);
            }
        }
        labels.extend(self.label.iter().cloned());
        request.config.labels = key_values("--label", &labels)?;
        request.host_config.annotations = key_values("--annotation", &self.annotation)?;
        Ok(())
    }
}

/// A map from `key=value` words; later words win, a key alone has an empty value.
pub fn key_values(flag: &'static str, words: &[String]) -> Result<Map<String>, OptionError> {
    let mut map = Map::empty();
    for word in words {
        let (key, value) = key_value(word);
        if key.is_empty() {
            return Err(OptionError::invalid(flag, word, "the name is empty"));
        }
        map.insert(key, value);
    }
    Ok(map)
}

/// The variables of files, then those of flags, which therefore win.
pub fn variables(files: &[String], flags: &[String], outside: &Outside) -> Result<Vec<String>, OptionError> {
    let mut variables = Vec::new();
    for path in files {
        for line in lines("--env-file", path, outside)? {
            // In a file, a name without a value here means nothing; as a flag it unsets the image's variable.
            if line.contains('=') {
                variables.push(line);
            } else if let Some(value) = (outside.variable)(&line) {
                variables.push(format!("{line}={value}"));
            }
        }
    }
    for word in flags {
        if word.is_empty() || word.starts_with('=') {
            return Err(OptionError::invalid("--env", word, "the name is empty"));
        }
        match (outside.variable)(word) {
            Some(value) if !word.contains('=') => variables.push(format!("{word}={value}")),
            _ => variables.push(word.clone()),
        }
    }
    Ok(variables)
}

/// The lines of a file that are neither empty nor comments, checked for a name without spaces.
fn lines(flag: &'static str, path: &str, outside: &Outside) -> Result<Vec<String>, OptionError> {
    let text = outside.read(flag, path)?;
    let mut lines = Vec::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(&text).lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() {
            return Err(OptionError::invalid(flag, line, format!("no name on this line of {path}")));
        }
        if name.trim_end().contains(char::is_whitespace) || (line.contains('=') && name != name.trim_end()) {
            return Err(OptionError::invalid(flag, line, format!("the name has spaces in {path}")));
        }
        lines.push(if line.contains('=') { line.to_owned() } else { line.trim_end().to_owned() });
    }
    Ok(lines)
}
