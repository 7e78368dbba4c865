//! Renaming what an archive's entries begin with.

/// Replaces the first part of entries' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebase {
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Rebase {
    pub fn new(old: &str, new: &str) -> Rebase {
        let trim = |text: &str| text.trim_end_matches('/').as_bytes().to_vec();
        Rebase { old: trim(old), new: trim(new) }
    }

    /// The name of an entry, or the target of a hard link, after the change.
    pub fn apply(&self, name: &[u8]) -> Vec<u8> {
        if self.old.is_empty() {
            let start = name.iter().position(|&byte| byte != b'/').unwrap_or(name.len());
            let separator: &[u8] = if self.new.is_empty() { b"" } else { b"/" };
            return [&self.new, separator, &name[start..]].concat();
        }
        match name.strip_prefix(self.old.as_slice()) {
            Some(rest) if rest.is_empty() || rest[0] == b'/' => [&self.new, rest].concat(),
            _ => name.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_first_parts_are_replaced() {
        let rebase = Rebase::new("a", "x/y");
        for (name, new) in [("a/", "x/y/"), ("a/b", "x/y/b"), ("ab/c", "ab/c"), ("b/a", "b/a")] {
            assert_eq!(rebase.apply(name.as_bytes()), new.as_bytes());
        }
        assert_eq!(Rebase::new(".", "x").apply(b"./b"), b"x/b");
        assert_eq!(Rebase::new("/", "x").apply(b"/b"), b"x/b");
    }
}
