//! The short notation of mounts: `source:destination[:options]`, as in `-v` and `HostConfig.Binds`.

use crate::error::{Error, Result};

/// What one `-v` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// An absolute host path, a volume's name, or nothing (an anonymous volume).
    pub source: String,
    pub destination: String,
    pub read_only: bool,
    /// `rprivate`, `rshared`, … ; empty where not given.
    pub propagation: String,
    /// Don't fill a new volume with what the image has there.
    pub no_copy: bool,
    /// The option text as it was written, for inspection.
    pub mode: String,
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

impl Bind {
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("invalid volume specification: '{text}': {why}"));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, mode) = match parts[..] {
            [destination] => ("", destination, ""),
            [source, destination] => (source, destination, ""),
            [source, destination, mode] => (source, destination, mode),
            _ => return Err(invalid("too many colons")),
        };
        if parts.len() > 1 && source.is_empty() {
            return Err(invalid("empty section between colons"));
        }
        if !destination.starts_with('/') {
            return Err(invalid("mount path must be absolute"));
        }
        let destination = clean(destination);
        if destination == "/" {
            return Err(invalid("destination can't be '/'"));
        }
        let source = if source.starts_with('/') { clean(source) } else { source.to_owned() };
        if source.starts_with('.') || source.contains('/') && !source.starts_with('/') {
            return Err(invalid(&format!(
                "\"{source}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        let mut bind = Self {
            source,
            destination,
            read_only: false,
            propagation: String::new(),
            no_copy: false,
            mode: mode.to_owned(),
        };
        bind.apply_mode(mode)?;
        Ok(bind)
    }

    fn apply_mode(&mut self, mode: &str) -> Result<()> {
        let mut access = None;
        for option in mode.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "rw" => {
                    if access.replace(option).is_some_and(|earlier| earlier != option) {
                        return Err(Error::invalid(format!("invalid mode: {mode}")));
                    }
                    self.read_only = option == "ro";
                }
                "nocopy" => self.no_copy = true,
                // Labels matter under SELinux only; the last three are hints of Docker Desktop.
                "z" | "Z" | "consistent" | "cached" | "delegated" => {}
                other if PROPAGATIONS.contains(&other) => self.propagation = other.to_owned(),
                _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
            }
        }
        if !self.propagation.is_empty() && !self.is_host_path() {
            return Err(Error::invalid(format!("invalid mode: {mode}: propagation is for host paths only")));
        }
        if self.no_copy && self.is_host_path() {
            return Err(Error::invalid(format!("invalid mode: {mode}: nocopy is for volumes only")));
        }
        Ok(())
    }

    pub fn is_host_path(&self) -> bool {
        self.source.starts_with('/')
    }
}

/// Lexically: no double or trailing slashes, no `.` and `..`.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let bind = Bind::parse("/srv/data/:/data//x:ro,rslave").unwrap();
        assert_eq!((bind.source.as_str(), bind.destination.as_str()), ("/srv/data", "/data/x"));
        assert!(bind.read_only && bind.propagation == "rslave" && bind.is_host_path());
        let volume = Bind::parse("db:/var/lib/db:nocopy").unwrap();
        assert!(volume.no_copy && !volume.is_host_path());
        assert_eq!(Bind::parse("/cache").unwrap().source, "");
    }

    #[test]
    fn nonsense_is_refused_with_the_text() {
        for text in [
            "a:b",
            "/a:/",
            ":/b",
            "/a:/b:rw:x",
            "/a:/b:ro,rw",
            "/a:/b:fast",
            "v:/b:rshared",
            "./x:/b",
            "/a:/b:nocopy",
        ] {
            assert!(Bind::parse(text).is_err(), "{text}");
        }
    }
}
