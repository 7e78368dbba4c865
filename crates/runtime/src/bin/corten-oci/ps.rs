//! `ps`: the processes of a container, as numbers or as the host's `ps` shows them.

use std::process::Command;

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::store::Container;

pub fn ps(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let container = Container::open(global, arguments.id())?;
    let pids = container.cgroup()?.pids()?;
    match arguments.value("format").unwrap_or("table") {
        "json" => {
            let text = serde_json::to_string(&pids).map_err(Failure::during("ps"))?;
            output::line(text)?;
            Ok(0)
        }
        "table" => table(&pids, &arguments.words[1..]),
        other => Err(Failure::new(format!("--format: {other:?} is neither table nor json"))),
    }
}

fn table(pids: &[i32], options: &[String]) -> Outcome<u8> {
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let output = command.args(options).output().map_err(Failure::during("run ps"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_ascii_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Failure::new("the output of ps has no column PID"))?;
    output::line(head)?;
    for line in lines {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|field| field.parse::<i32>().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            output::line(line)?;
        }
    }
    Ok(0)
}
