//! Lists of rows as a table, as JSON lines or through the user's template.

use super::tabwriter;
use super::template::{Template, TemplateError, Value};

/// What a listing command offers: its default columns and the title of each field.
pub struct Columns {
    /// A template such as `{{.ID}}\t{{.Names}}`.
    pub table: String,
    /// Printed by `--quiet`.
    pub quiet: &'static str,
    /// Titles of every field a template may name.
    pub titles: &'static [(&'static str, &'static str)],
}

/// How the user wants the rows.
#[derive(Debug, PartialEq, Eq)]
enum Layout {
    Table(String),
    Lines(String),
}

fn layout(format: &str, quiet: bool, columns: &Columns) -> Layout {
    // The shell hands `\t` over as two characters.
    let unescape = |template: &str| template.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
    match format {
        "" | "table" if quiet => Layout::Lines(columns.quiet.to_owned()),
        "" | "table" => Layout::Table(columns.table.clone()),
        "json" => Layout::Lines("{{json .}}".to_owned()),
        _ => match format.strip_prefix("table ") {
            Some(template) => Layout::Table(unescape(template)),
            None => Layout::Lines(unescape(format)),
        },
    }
}

/// Renders `rows` by `format` (empty for the default).
pub fn render(format: &str, quiet: bool, columns: &Columns, rows: &[Value]) -> Result<String, TemplateError> {
    match layout(format, quiet, columns) {
        Layout::Lines(source) => lines(&Template::parse(&source)?, rows),
        Layout::Table(source) => {
            let template = Template::parse(&source)?;
            let titles = Value::map(
                columns.titles.iter().map(|(name, title)| ((*name).to_owned(), Value::from(*title))),
            );
            let mut text = template.render_header(&titles)?;
            text.push('\n');
            text.push_str(&lines(&template, rows)?);
            Ok(tabwriter::align(&text))
        }
    }
}

fn lines(template: &Template, rows: &[Value]) -> Result<String, TemplateError> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&template.render(row)?);
        text.push('\n');
    }
    Ok(text)
}

/// Renders one object (`version`, `info`, `inspect`) by `format`: `json` or a template.
pub fn render_one(format: &str, value: &Value) -> Result<String, TemplateError> {
    let source = if format == "json" { "{{json .}}" } else { format };
    let mut text = Template::parse(&source.replace("\\t", "\t").replace("\\n", "\n"))?.render(value)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns {
            table: "{{.Driver}}\t{{.Name}}".to_owned(),
            quiet: "{{.Name}}",
            titles: &[("Driver", "DRIVER"), ("Name", "VOLUME NAME"), ("Labels", "LABELS")],
        }
    }

    fn rows() -> Vec<Value> {
        vec![
            Value::row([("Driver", Value::from("local")), ("Name", "data".into()), ("Labels", "a=1".into())]),
            Value::row([("Driver", Value::from("local")), ("Name", "db".into()), ("Labels", "".into())]),
        ]
    }

    fn show(format: &str, quiet: bool) -> String {
        render(format, quiet, &columns(), &rows()).unwrap()
    }

    #[test]
    fn default_table() {
        assert_eq!(show("", false), "DRIVER    VOLUME NAME\nlocal     data\nlocal     db\n");
        assert_eq!(show("table", false), show("", false));
        assert_eq!(render("", false, &columns(), &[]).unwrap(), "DRIVER    VOLUME NAME\n");
    }

    #[test]
    fn own_table() {
        assert_eq!(
            show("table {{.Name}}\\t{{upper .Labels}}", false),
            "VOLUME NAME   LABELS\ndata          A=1\ndb            \n"
        );
    }

    #[test]
    fn lines_and_json() {
        assert_eq!(show("{{.Name}}!", false), "data!\ndb!\n");
        assert_eq!(show("", true), "data\ndb\n");
        assert_eq!(
            show("json", false),
            "{\"Driver\":\"local\",\"Labels\":\"a=1\",\"Name\":\"data\"}\n{\"Driver\":\"local\",\"Labels\":\"\",\"Name\":\"db\"}\n"
        );
    }
}
