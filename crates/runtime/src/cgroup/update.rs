//! Changing the limits of a group that lives: all of them, or none.
//!
//! The kernel takes one value per write and may refuse any of them. What was in a file is noted before it is written, and put
//! back when a later write fails. What a file's text says about the value to put back is [`old_value`], which is pure.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::layout::{Controller, Version};
use super::settings::Setting;
use super::{Cgroup, Error, Warning, file};
use crate::spec::{Memory, Resources};

impl Cgroup {
    /// Changes the limits of a group, also of one with processes in it. What `resources` does not name stays; when it
    /// fails, everything stays.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<Warning>, Error> {
        self.check_before_update(resources.memory.as_ref())?;
        let mut journal = Journal::default();
        self.write_all(resources, &mut journal).map_err(|cause| journal.undo(cause))
    }

    fn write_all(&self, resources: &Resources, journal: &mut Journal) -> Result<Vec<Warning>, Error> {
        let mut warnings = self.apply_settings(resources, Some(journal))?;
        if !resources.devices.is_empty() {
            self.filter_devices(&resources.devices, false, &mut warnings)?;
        }
        Ok(warnings)
    }

    /// A limit below what is in use makes the kernel kill (v2) or refuse (v1); the user may ask us to refuse first.
    fn check_before_update(&self, memory: Option<&Memory>) -> Result<(), Error> {
        let Some(Memory { limit: Some(limit @ 1..), check_before_update: Some(true), .. }) = memory else {
            return Ok(());
        };
        let Some(group) = self.holder(Controller::Memory) else { return Ok(()) };
        let file = match group.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        let usage = file::number(&group.path, file)?;
        if usage > limit.unsigned_abs() {
            let reason = format!("{limit} bytes are less than the {usage} bytes in use");
            return Err(Error::Value { field: "memory.limit".into(), reason });
        }
        Ok(())
    }
}

/// What was in the files, in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    dir: PathBuf,
    file: String,
    value: String,
}

impl Journal {
    /// Notes what the file says that `setting` is about to write. A file that can't be read can't be written either.
    pub(super) fn note(&mut self, dir: &Path, setting: &Setting) {
        let own = (setting.file.as_ref(), &setting.value);
        let other = setting.otherwise.as_ref().map(|(name, value)| (*name, value));
        let found = std::iter::once(own).chain(other).find_map(|(name, value)| {
            let text = file::read(dir, name).ok()?;
            Some(Entry { dir: dir.to_owned(), file: name.to_owned(), value: old_value(name, value, &text) })
        });
        self.0.extend(found);
    }

    /// Puts everything back, last first. Which order the kernel takes depends on the values, hence the second round.
    fn undo(self, cause: Error) -> Error {
        let write = |entry: &Entry| file::write(&entry.dir, &entry.file, &entry.value);
        let refused: Vec<Entry> = self.0.into_iter().rev().filter(|entry| write(entry).is_err()).collect();
        // A file that the failed write did not reach, for lack of a device, say, refuses its old value as well.
        let left = refused.iter().filter(|entry| write(entry).is_err_and(|errno| errno != Errno::NODEV));
        let files: Vec<String> =
            left.map(|entry| entry.dir.join(&entry.file).display().to_string()).collect();
        if files.is_empty() { cause } else { Error::NotSetBack { cause: Box::new(cause), files } }
    }
}

/// What to write to `name` to undo that `written` is written to it, by the text that it has now. Files with a line per device
/// (or interface) say nothing of those without a value of their own.
fn old_value(name: &str, written: &str, text: &str) -> String {
    if name == "memory.oom_control" {
        let disabled = file::pairs(text).any(|(key, value)| key == "oom_kill_disable" && value == 1);
        return u8::from(disabled).to_string();
    }
    let first_word = |line: &str| line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
    let key = first_word(written);
    let by_device =
        key.contains(':') || key == "default" || matches!(name, "net_prio.ifpriomap" | "rdma.max");
    let mut lines = text.lines();
    if !by_device {
        // Nothing but a line's end empties a list of processors.
        return lines.next().filter(|line| !line.is_empty()).unwrap_or("\n").to_owned();
    }
    match lines.find(|line| first_word(line) == key) {
        Some(line) => line.to_owned(),
        None => match name {
            "io.max" => format!("{key} rbps=max wbps=max riops=max wiops=max"),
            "io.weight" | "io.bfq.weight" => format!("{key} default"),
            _ => format!("{key} 0"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_gets_its_text_back() {
        assert_eq!(old_value("memory.max", "1048576", "max\n"), "max");
        assert_eq!(old_value("cpu.max", "50000 100000", "max 100000\n"), "max 100000");
        assert_eq!(old_value("cpuset.cpus", "0", "\n"), "\n");
        assert_eq!(old_value("cpuset.cpus", "0", ""), "\n");
        assert_eq!(old_value("io.bfq.weight", "300", "default 100\n8:0 200\n"), "default 100");
        let control = "oom_kill_disable 1\nunder_oom 0\noom_kill 3\n";
        assert_eq!(old_value("memory.oom_control", "0", control), "1");
    }

    #[test]
    fn a_devices_line_is_found_or_cleared() {
        let max = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max\n";
        assert_eq!(old_value("io.max", "8:16 rbps=9", max), "8:16 rbps=2 wbps=max riops=max wiops=max");
        assert_eq!(old_value("io.max", "8:1 rbps=9", max), "8:1 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(old_value("io.weight", "default 200", "default 100\n8:0 5\n"), "default 100");
        assert_eq!(old_value("io.weight", "8:1 200", "default 100\n8:0 5\n"), "8:1 default");
        assert_eq!(old_value("blkio.throttle.read_bps_device", "8:0 5", "8:0 4096\n"), "8:0 4096");
        assert_eq!(old_value("blkio.throttle.read_bps_device", "8:0 5", ""), "8:0 0");
        assert_eq!(old_value("net_prio.ifpriomap", "lo 5", "lo 1\neth0 0\n"), "lo 1");
    }
}
