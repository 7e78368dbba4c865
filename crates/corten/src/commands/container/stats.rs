//! `stats`: what containers use, live as a table.

use corten_api::stats::{BatchStatsOptions, ContainerStats};

use crate::cli::{Context, Outcome, Verb};
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::format::{short_id, size};
use crate::output;
use crate::stream::{is_screen, window};

/// Shown of what this kernel does not tell.
const NONE: &str = "--";

#[derive(Clone, Debug, clap::Args)]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Stats {
    const ABOUT: &'static str = "Display a live stream of container(s) resource usage statistics";
    const USAGE: &'static str = "[OPTIONS] [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let format = context.format(self.format.as_deref(), false, "statsFormat");
        let screen = !self.no_stream && is_screen();
        let options =
            BatchStatsOptions { containers: self.containers, all: self.all, stream: !self.no_stream };
        let client = context.client()?;
        context.block_on_while_read(async {
            let mut lists = client.stats(&options).await?;
            while let Some(list) = lists.next().await? {
                let rows: Vec<Value> = list.iter().map(|stats| row(stats, !self.no_trunc)).collect();
                let text = listing::render(&format, false, &columns(), &rows)?;
                output::print(&if screen { redrawn(&text, window()) } else { text })?;
            }
            Ok(0)
        })
    }
}

/// From the screen's top left corner on, over what is there, so that nothing flickers; the rest of each line and of the screen
/// is cleared. What goes beyond the screen's end is only counted: it would push the rest out of sight, once a second.
fn redrawn(text: &str, window: Option<(u16, u16)>) -> String {
    let (height, width) = window.map_or((usize::MAX, usize::MAX), |(h, w)| (usize::from(h), usize::from(w)));
    let rows = |line: &str| line.chars().count().div_ceil(width).max(1);
    // The cursor needs the last row.
    let mut room = height.saturating_sub(1);
    let all: Vec<&str> = text.lines().collect();
    let mut shown = 0;
    for line in &all {
        // Unless this is the last, a row is kept for the count.
        let count = usize::from(shown + 1 < all.len());
        if rows(line).saturating_add(count) > room {
            break;
        }
        room -= rows(line);
        shown += 1;
    }
    let mut lines: String = all[..shown].iter().map(|line| format!("{line}\x1b[K\n")).collect();
    if shown < all.len() {
        lines.push_str(&format!("… {} more\x1b[K\n", all.len() - shown));
    }
    format!("\x1b[H{lines}\x1b[J")
}

fn columns() -> Columns {
    Columns {
        table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
            .to_owned(),
        quiet: "{{.ID}}",
        titles: &[
            ("Container", "CONTAINER"),
            ("ID", "CONTAINER ID"),
            ("Name", "NAME"),
            ("CPUPerc", "CPU %"),
            ("MemUsage", "MEM USAGE / LIMIT"),
            ("MemPerc", "MEM %"),
            ("NetIO", "NET I/O"),
            ("BlockIO", "BLOCK I/O"),
            ("PIDs", "PIDS"),
            ("Pressure", "PRESSURE CPU/MEM/IO"),
        ],
    }
}

/// The fields that a template may name.
fn row(stats: &ContainerStats, cut: bool) -> Value {
    let id = if cut { short_id(&stats.id) } else { &stats.id };
    let memory = &stats.memory_stats;
    let name = stats.name.strip_prefix('/').unwrap_or(&stats.name);
    Value::row([
        ("Container", Value::from(id)),
        ("ID", id.into()),
        ("Name", name.into()),
        ("CPUPerc", percent(processors(stats)).into()),
        ("MemUsage", pair(size::binary(memory.used() as f64), size::binary(memory.limit as f64)).into()),
        ("MemPerc", percent(share(memory.used(), memory.limit)).into()),
        ("NetIO", network(stats).into()),
        ("BlockIO", blocks(stats).into()),
        ("PIDs", stats.pids_stats.current.to_string().into()),
        ("Pressure", pressure(stats).into()),
    ])
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

fn pair(left: String, right: String) -> String {
    format!("{left} / {right}")
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

/// Of one processor: four that are busy are 400 %.
fn processors(stats: &ContainerStats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let passed = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let count = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        count => f64::from(count),
    };
    if used > 0.0 && passed > 0.0 { used / passed * count * 100.0 } else { 0.0 }
}

fn network(stats: &ContainerStats) -> String {
    let sum = |bytes: fn(&corten_api::stats::NetworkStats) -> u64| -> u64 {
        stats.networks.values().map(bytes).sum()
    };
    let decimal = |bytes: u64| size::decimal(i64::try_from(bytes).unwrap_or(i64::MAX));
    pair(decimal(sum(|network| network.rx_bytes)), decimal(sum(|network| network.tx_bytes)))
}

fn blocks(stats: &ContainerStats) -> String {
    let sum = |operation: &str| -> u64 {
        let entries = stats.blkio_stats.io_service_bytes_recursive.iter();
        entries.filter(|entry| entry.op.eq_ignore_ascii_case(operation)).map(|entry| entry.value).sum()
    };
    let decimal = |bytes: u64| size::decimal(i64::try_from(bytes).unwrap_or(i64::MAX));
    pair(decimal(sum("read")), decimal(sum("write")))
}

/// How much of the last ten seconds some process waited for processors, memory and disks.
fn pressure(stats: &ContainerStats) -> String {
    let Some(all) = &stats.pressure_stats else { return NONE.to_owned() };
    let one = |pressure: Option<corten_api::stats::Pressure>| {
        pressure.map_or_else(|| NONE.to_owned(), |pressure| percent(pressure.some.avg10))
    };
    format!("{} / {} / {}", one(all.cpu), one(all.memory), one(all.io))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::stats::{BlkioEntry, NetworkStats};

    fn busy() -> ContainerStats {
        let mut stats = ContainerStats {
            id: "4f5e3a0b9c8d7e6f".into(),
            name: "/web".into(),
            ..ContainerStats::default()
        };
        stats.cpu_stats.cpu_usage.total_usage = 3_000;
        stats.precpu_stats.cpu_usage.total_usage = 2_000;
        (stats.cpu_stats.system_cpu_usage, stats.precpu_stats.system_cpu_usage) = (10_000, 6_000);
        stats.cpu_stats.online_cpus = 2;
        (stats.memory_stats.usage, stats.memory_stats.limit) = (6 << 20, 16 << 20);
        stats.memory_stats.stats.insert("total_inactive_file".into(), 2 << 20);
        let network = NetworkStats { rx_bytes: 1234, tx_bytes: 5, ..NetworkStats::default() };
        stats.networks.insert("eth0".into(), network);
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 0, op: op.into(), value };
        stats.blkio_stats.io_service_bytes_recursive =
            vec![entry("Read", 4096), entry("Write", 10), entry("Total", 4106)].into();
        stats.pids_stats.current = 7;
        stats
    }

    #[test]
    fn the_table_is_dockers() {
        let stopped = ContainerStats { id: "0123".into(), name: "/old".into(), ..Default::default() };
        let rows = [row(&busy(), true), row(&stopped, true)];
        assert_eq!(
            listing::render("", false, &columns(), &rows).unwrap(),
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O       BLOCK I/O     PIDS\n\
             4f5e3a0b9c8d   web       50.00%    4MiB / 16MiB        25.00%    1.23kB / 5B   4.1kB / 10B   7\n\
             0123           old       0.00%     0B / 0B             0.00%     0B / 0B       0B / 0B       0\n"
        );
    }

    #[test]
    fn a_screen_is_drawn_over() {
        assert_eq!(redrawn("a\nb\n", None), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(redrawn("a\nb\n", Some((3, 80))), redrawn("a\nb\n", None));
        assert_eq!(redrawn("a\nb\nc\n", Some((3, 80))), "\x1b[Ha\x1b[K\n… 2 more\x1b[K\n\x1b[J");
        assert_eq!(redrawn("long\nb\nc\n", Some((4, 2))), "\x1b[Hlong\x1b[K\n… 2 more\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_clock_that_stands_is_no_use() {
        let mut stats = busy();
        stats.precpu_stats.system_cpu_usage = 10_000;
        assert_eq!(processors(&stats), 0.0);
        assert_eq!(share(1, 0), 0.0);
    }
}
