//! `top`: the host's `ps`, reduced to the container's processes.

use std::process::{Command, Output};

use corten_api::container::TopResponse;

use super::Phase;
use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    pub async fn container_top(&self, key: &str, ps_args: &str) -> Result<TopResponse> {
        let args = if ps_args.trim().is_empty() { "-ef" } else { ps_args };
        check_args(args)?;
        let container = self.containers.find(key)?;
        if container.phase() == Phase::Restarting {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        if !container.settled_phase().await.is_alive() {
            return Err(super::stop::not_running(&container));
        }
        let group = self.cgroup(&container)?;
        let words: Vec<String> = args.split_ascii_whitespace().map(str::to_owned).collect();
        let top = crate::image::blocking(move || {
            let pids = group.pids().map_err(|e| Error::internal(format!("list processes: {e}")))?;
            parse(&ps(&words, &pids)?, &pids)
        });
        let top = top.await?;
        self.container_event(&container, "top", &[]);
        Ok(top)
    }
}

/// A column that is renamed to PID would be taken for it; Docker's text.
fn check_args(args: &str) -> Result<()> {
    for word in args.split_ascii_whitespace().skip(1) {
        for column in word.split(',') {
            if let Some((name, title)) = column.split_once('=')
                && title.starts_with("PID")
                && name != "pid"
            {
                return Err(Error::invalid(format!("specifying \"{name}={title}\" is not allowed")));
            }
        }
    }
    Ok(())
}

/// Runs the host's `ps` for these processes alone; some of its options (`f`, `m`) refuse that, and get all processes.
fn ps(words: &[String], pids: &[i32]) -> Result<String> {
    let list: Vec<String> = pids.iter().map(i32::to_string).collect();
    let few = run(Command::new("ps").args(words).arg(format!("-q{}", list.join(","))))?;
    let output = if few.status.success() { few } else { run(Command::new("ps").args(words))? };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let why =
        why.lines().find(|line| !line.is_empty()).map_or_else(|| output.status.to_string(), str::to_owned);
    Err(Error::internal(format!("ps: {why}")))
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().map_err(|e| Error::internal(format!("ps: run it on the host: {e}")))
}

/// Keeps the header and the lines of the wanted processes, with those of their threads (`-` for a number) below them; the last
/// column may hold blanks.
fn parse(text: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let pid_column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::internal("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    let mut wanted = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let row = columns(line, titles.len());
        let pid = row.get(pid_column).map_or("", String::as_str);
        if pid != "-" {
            let number = pid.parse::<i32>();
            let number = number.map_err(|e| Error::internal(format!("Unexpected pid '{pid}': {e}")))?;
            wanted = pids.contains(&number);
        }
        if wanted {
            processes.push(row.into());
        }
    }
    Ok(TopResponse { titles: titles.into(), processes: processes.into() })
}

fn columns(line: &str, count: usize) -> Vec<String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let single = words.len().min(count.saturating_sub(1));
    let mut row: Vec<String> = words[..single].iter().map(|word| (*word).to_owned()).collect();
    if words.len() > single {
        row.push(words[single..].join(" "));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_remain() {
        let text = "UID   PID  PPID CMD\nroot    1     0 /sbin/init splash\nroot   42     1 sleep   100\n";
        let top = parse(text, &[42]).unwrap();
        assert_eq!(top.processes.len(), 1);
        // Columns are joined by one blank, as Docker does.
        assert_eq!(top.processes[0].as_slice(), ["root", "42", "1", "sleep 100"]);
        assert!(parse("USER CMD\n", &[]).is_err());
    }

    #[test]
    fn threads_follow_their_process() {
        let text = "UID PID CMD\nroot 1 init\nroot - -\nroot 42 work\nroot - -\nroot - -\n";
        assert_eq!(parse(text, &[42]).unwrap().processes.len(), 3);
    }

    #[test]
    fn no_other_column_is_called_pid() {
        assert!(check_args("-o pid=PID,comm").is_ok());
        let error = check_args("-eo pid,ppid=PID").unwrap_err();
        assert_eq!(error.message, "specifying \"ppid=PID\" is not allowed");
    }
}
