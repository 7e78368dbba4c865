//! `top`: the host's `ps`, reduced to the container's processes.

use corten_api::container::TopResponse;

use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    pub async fn container_top(&self, key: &str, ps_args: &str) -> Result<TopResponse> {
        let container = self.containers.find(key)?;
        if !container.phase().is_alive() {
            return Err(super::stop::not_running(&container));
        }
        let pids = self
            .cgroup(&container)?
            .pids()
            .map_err(|e| Error::internal(format!("processes of container {key}: {e}")))?;
        let args = if ps_args.trim().is_empty() { "-ef" } else { ps_args };
        let words: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let output =
            tokio::task::spawn_blocking(move || std::process::Command::new("ps").args(&words).output())
                .await
                .map_err(|e| Error::internal(e.to_string()))?
                .map_err(|e| Error::internal(format!("Error running ps on the host: {e}")))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Error::invalid(format!("ps: {}", why.lines().next().unwrap_or("failed"))));
        }
        parse(&String::from_utf8_lossy(&output.stdout), &pids)
    }
}

/// Keeps the header and the lines of the wanted processes; the last column may hold blanks.
fn parse(text: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let pid_column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let processes = lines
        .map(|line| columns(line, titles.len()))
        .filter(|row| {
            row.get(pid_column).and_then(|pid| pid.parse().ok()).is_some_and(|pid: i32| pids.contains(&pid))
        })
        .map(Into::into)
        .collect();
    Ok(TopResponse { titles: titles.into(), processes })
}

fn columns(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut row = Vec::with_capacity(count);
    while row.len() + 1 < count && !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        row.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() {
        row.push(rest.trim_end().to_owned());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_remain() {
        let text = "UID   PID  PPID CMD\nroot    1     0 /sbin/init splash\nroot   42     1 sleep 100\n";
        let top = parse(text, &[42]).unwrap();
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0].as_slice(), ["root", "42", "1", "sleep 100"]);
        assert!(parse("USER CMD\n", &[]).is_err());
    }
}
