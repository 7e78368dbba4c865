//! One value for one file of a group: what the planners for version 1 and 2 produce.

use std::borrow::Cow;
use std::path::Path;

use rustix::io::{Errno, Result};

use super::file;

/// How bad it is when a setting cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// The user asked for it: an error.
    Demand,
    /// It has no effect on what the container may do: a warning.
    Wish,
    /// It only says what is so anyway.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: Cow<'static, str>,
    pub(super) value: String,
    /// File and value for kernels that lack the first file.
    pub(super) otherwise: Option<(&'static str, String)>,
    /// The configuration's name for it.
    pub(super) field: &'static str,
    pub(super) need: Need,
}

impl Setting {
    pub(super) fn new(field: &'static str, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Self {
        Self { file: file.into(), value: value.to_string(), otherwise: None, field, need: Need::Demand }
    }

    pub(super) fn or(self, file: &'static str, value: impl ToString) -> Self {
        Self { otherwise: Some((file, value.to_string())), ..self }
    }

    pub(super) fn need(self, need: Need) -> Self {
        Self { need, ..self }
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        match (file::write(dir, &self.file, &self.value), &self.otherwise) {
            (Err(Errno::NOENT), Some((file, value))) => file::write(dir, file, value),
            (result, _) => result,
        }
    }
}

/// `-1` and "no limit" as the kernel writes it.
pub(super) fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

/// In configurations of memory and cpu 0 means "not set", as it does in every runtime.
pub(super) fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}
