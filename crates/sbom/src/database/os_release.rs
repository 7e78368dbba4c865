//! Which system it is: os-release(5).

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    pub id: String,
    pub version: String,
}

impl System {
    /// Takes what a file says; `/etc/os-release` goes before the other.
    pub fn take(&mut self, path: &str, text: &str) {
        if !self.id.is_empty() && !path.starts_with("etc/") {
            return;
        }
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            crate::package::clean(line.unwrap_or_default().trim().trim_matches(['"', '\'']))
        };
        (self.id, self.version) = (value("ID"), value("VERSION_ID"));
    }
}
