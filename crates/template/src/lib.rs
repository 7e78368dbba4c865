//! Go's text templates, as far as Docker's `--format` and log tags use them.
//!
//! `lexer` → `parser` → `eval`, over the data of `value`; `functions` holds what a template can call and `print` how
//! Go writes values. A template may come from a stranger: its depth, its steps and its output are bounded. Knows nothing of
//! tables.

mod eval;
mod functions;
mod lexer;
mod parser;
mod print;
mod value;

#[cfg(test)]
mod tests;

use functions::FunctionSet;
pub use print::{exponent, general, quote};
pub use value::{Kind, Nil, Object, Value};

/// Why a template was refused or stopped, with the column where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("template, column {column}: {message}")]
pub struct TemplateError {
    pub column: usize,
    pub message: String,
}

impl TemplateError {
    fn new(column: usize, message: impl Into<String>) -> TemplateError {
        TemplateError { column, message: message.into() }
    }
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<parser::Node>,
    parts: parser::Parts,
}

impl Template {
    /// Parses `source`.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        let (nodes, parts) = parser::parse(source)?;
        Ok(Template { nodes, parts })
    }

    /// Writes the template over `data`.
    pub fn render(&self, data: &Value) -> Result<String, TemplateError> {
        eval::render(&self.nodes, &self.parts, data, FunctionSet::Data)
    }

    /// Writes the template over column titles: functions that reshape data leave titles as they are.
    pub fn render_header(&self, titles: &Value) -> Result<String, TemplateError> {
        eval::render(&self.nodes, &self.parts, titles, FunctionSet::Header)
    }
}
