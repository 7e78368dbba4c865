//! Syslog: RFC 3164 and RFC 5424, one message per line.

use std::io::Write;

use super::Message;
use crate::log::{Stream, civil};
use crate::monitor::protocol::{Syslog, SyslogFormat, Timestamp};

const ERROR: u8 = 3;
const INFO: u8 = 6;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(super) fn encode(config: &Syslog, message: &Message<'_>, out: &mut Vec<u8>) {
    let offset_s = corten_sys::zone::utc_offset_s(message.time.0.div_euclid(SECOND));
    encode_at(config, offset_s, rustix::process::getpid().as_raw_pid(), message, out);
}

/// In a zone that is so far ahead of UTC.
pub(super) fn encode_at(config: &Syslog, offset_s: i64, pid: i32, message: &Message<'_>, out: &mut Vec<u8>) {
    let severity = if message.stream == Stream::Stderr { ERROR } else { INFO };
    let priority = config.facility * 8 + severity;
    let Syslog { host, tag, .. } = config;
    let time = Wall::new(message.time, offset_s);
    // Into memory: cannot fail.
    let _ = match config.format {
        SyslogFormat::Unix => write!(out, "<{priority}>{} {tag}[{pid}]: ", time.stamp()),
        SyslogFormat::Rfc3164 => write!(out, "<{priority}>{} {host} {tag}[{pid}]: ", time.stamp()),
        SyslogFormat::Rfc5424 => {
            write!(out, "<{priority}>1 {} {host} {tag} {pid} {tag} - ", time.rfc3339(false))
        }
        SyslogFormat::Rfc5424Micro => {
            write!(out, "<{priority}>1 {} {host} {tag} {pid} {tag} - ", time.rfc3339(true))
        }
    };
    out.extend_from_slice(message.line);
    out.push(b'\n');
}

const SECOND: i64 = 1_000_000_000;

/// A moment as the clock on the wall shows it.
struct Wall {
    date: (i64, i64, i64),
    second_of_day: i64,
    micros: i64,
    offset_s: i64,
}

impl Wall {
    fn new(time: Timestamp, offset_s: i64) -> Self {
        let seconds = time.0.div_euclid(SECOND) + offset_s;
        let date = civil(seconds.div_euclid(86_400));
        let micros = time.0.rem_euclid(SECOND) / 1000;
        Self { date, second_of_day: seconds.rem_euclid(86_400), micros, offset_s }
    }

    fn clock(&self) -> String {
        let s = self.second_of_day;
        format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    }

    /// `Jan _2 15:04:05`.
    fn stamp(&self) -> String {
        let (_, month, day) = self.date;
        format!("{} {day:>2} {}", MONTHS[(month - 1).clamp(0, 11) as usize], self.clock())
    }

    fn rfc3339(&self, micros: bool) -> String {
        let (year, month, day) = self.date;
        let fraction = if micros { format!(".{:06}", self.micros) } else { String::new() };
        let minutes = self.offset_s.abs() / 60;
        let zone = match self.offset_s {
            0 => "Z".to_owned(),
            ahead => {
                format!("{}{:02}:{:02}", if ahead < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
            }
        };
        format!("{year:04}-{month:02}-{day:02}T{}{fraction}{zone}", self.clock())
    }
}
