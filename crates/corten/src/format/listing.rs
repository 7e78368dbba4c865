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

/// The fields of a row that the user's template names: the others need not be worked out, a thousand times.
pub struct Wanted {
    names: Vec<String>,
    /// The row as a whole is named, as in `{{json .}}`.
    all: bool,
}

impl Wanted {
    pub fn of(format: &str, quiet: bool, columns: &Columns) -> Wanted {
        let (Layout::Lines(source) | Layout::Table(source)) = layout(format, quiet, columns);
        let mut wanted = Wanted { names: Vec::new(), all: false };
        // A dot in a string names nothing: then a field is worked out in vain.
        let actions = source.split("{{").skip(1).filter_map(|action| action.split("}}").next());
        for behind in actions.flat_map(|action| action.split('.').skip(1)) {
            let name: String = behind.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            wanted.all |= name.is_empty();
            wanted.names.push(name);
        }
        wanted
    }

    pub fn everything() -> Wanted {
        Wanted { names: Vec::new(), all: true }
    }

    /// Whether a field is named.
    pub fn has(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|known| known == name)
    }

    /// A row of what is named.
    pub fn row(&self, fields: &[(&'static str, &dyn Fn() -> Value)]) -> Value {
        let named = fields.iter().filter(|(name, _)| self.has(name));
        Value::row(named.map(|(name, value)| (*name, value())))
    }
}

/// Renders `rows` by `format` (empty for the default).
pub fn render(format: &str, quiet: bool, columns: &Columns, rows: &[Value]) -> Result<String, TemplateError> {
    match layout(format, quiet, columns) {
        Layout::Lines(source) => lines(&Template::parse(&source)?, columns, rows),
        Layout::Table(source) => {
            let template = Template::parse(&source)?;
            let titles = Value::map(
                columns.titles.iter().map(|(name, title)| ((*name).to_owned(), Value::from(*title))),
            );
            let mut text = template.render_header(&titles)?;
            text.push('\n');
            text.push_str(&lines(&template, columns, rows)?);
            Ok(tabwriter::align(&text))
        }
    }
}

fn lines(template: &Template, columns: &Columns, rows: &[Value]) -> Result<String, TemplateError> {
    let mut text = String::new();
    // A row may hold only what seemed to be wanted. All that could be are the titles, which therefore know better what is wrong.
    let explained = |error: TemplateError| {
        let titles = columns.titles.iter().map(|(name, title)| (*name, Value::from(*title)));
        template.render_header(&Value::row(titles)).err().unwrap_or(error)
    };
    for row in rows {
        text.push_str(&template.render(row).map_err(explained)?);
        text.push('\n');
    }
    Ok(text)
}

/// Renders one object (`version`, `info`, `inspect`) by `format`: `json` or a template.
pub fn render_one(format: &str, value: &Value) -> Result<String, TemplateError> {
    let source = if format == "json" { "{{json .}}" } else { format };
    let mut text = Template::parse(source)?.render(value)?;
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
    fn only_named_fields_are_worked_out() {
        let row = |format: &str| {
            let fields: [(&'static str, &dyn Fn() -> Value); 2] =
                [("Name", &|| "db".into()), ("Driver", &|| panic!("not asked for"))];
            Wanted::of(format, false, &columns()).row(&fields)
        };
        assert_eq!(row("{{.Name}}"), Value::row([("Name", Value::from("db"))]));
        assert_eq!(row("table {{upper .Name}}"), row("{{.Name}}"));
        assert!(
            Wanted::of("json", false, &columns()).all && Wanted::of("{{println .}}", false, &columns()).all
        );
        assert!(!Wanted::of("{{.Name}}.", false, &columns()).all);
        let nothing = Wanted::of("{{.Foo}}", false, &columns()).row(&[]);
        let error = render("{{.Foo}}", false, &columns(), &[nothing]).unwrap_err();
        assert_eq!(error.message, "there is no field .Foo; there are: Driver, Labels, Name");
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
