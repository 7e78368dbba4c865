//! `list`: all containers below the root.

use corten_runtime::log::format_rfc3339;
use serde_json::Value;

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::state::{describe, owner};
use crate::store::{Container, Status};

pub fn list(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let containers = Container::all(global)?;
    if arguments.has("quiet") {
        for container in &containers {
            output::line(&container.record.id)?;
        }
        return Ok(0);
    }
    match arguments.value("format").unwrap_or("table") {
        "json" => {
            let all: Vec<Value> = containers.iter().map(describe).collect();
            // As runc's, which prints Go's nil slice.
            let text = if all.is_empty() { "null".into() } else { Value::from(all).to_string() };
            output::line(text)?;
        }
        "table" => table(&containers.iter().map(row).collect::<Vec<_>>())?,
        other => return Err(Failure::new(format!("--format: {other:?} is neither table nor json"))),
    }
    Ok(0)
}

const HEAD: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];

fn row(container: &Container) -> [String; 6] {
    let (status, record) = (container.status(), &container.record);
    [
        record.id.clone(),
        if status == Status::Stopped { 0 } else { record.pid }.to_string(),
        status.name().to_owned(),
        record.bundle.display().to_string(),
        format_rfc3339(record.created),
        owner(record.owner),
    ]
}

fn table(rows: &[[String; 6]]) -> Outcome<()> {
    let head = HEAD.map(str::to_owned);
    let all: Vec<&[String; 6]> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].len()).max().unwrap_or(0).max(8) + 4;
    for row in &all {
        let line: String = row.iter().enumerate().map(|(i, cell)| format!("{cell:<0$}", width(i))).collect();
        output::line(line.trim_end())?;
    }
    Ok(())
}
