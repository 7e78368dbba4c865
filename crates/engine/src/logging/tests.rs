use corten_api::container::LogConfig;
use corten_runtime::monitor::protocol::{GelfCompression, RemoteFormat, SyslogFormat, Transport};

use super::remote::{Target, plan};
use super::*;

fn log(kind: &str, options: &[(&str, &str)]) -> LogConfig {
    let config = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    LogConfig { kind: kind.into(), config }
}

fn refusal(kind: &str, options: &[(&str, &str)]) -> String {
    check(&log(kind, options)).unwrap_err().message
}

fn record(log_config: LogConfig) -> Record {
    let mut record = Record { id: "0123456789abcdef".repeat(4), name: "web".into(), ..Record::default() };
    record.image_id = format!("sha256:{}", "f".repeat(64));
    record.config.image = "nginx:1".into();
    record.config.cmd = vec!["serve".to_owned(), "-v".to_owned()].into();
    record.config.env = vec!["A=1".to_owned(), "B_x=2".to_owned()].into();
    record.config.labels = [("com.example.a", "<x>"), ("b", "y z")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    record.host_config.log_config = log_config;
    record
}

#[test]
fn refusals_are_dockers() {
    for (kind, options, text) in [
        ("paper", vec![], "logger: no log driver named 'paper' is registered"),
        ("awslogs", vec![("awslogs-region", "x")], "logger: no log driver named 'awslogs' is registered"),
        ("json-file", vec![("x", "")], "unknown log opt 'x' for json-file log driver"),
        ("local", vec![("x", "")], "unknown log opt 'x' for log driver local"),
        ("syslog", vec![("max-size", "1")], "unknown log opt 'max-size' for syslog log driver"),
        ("journald", vec![("x", "")], "unknown log opt 'x' for journald log driver"),
        ("fluentd", vec![("x", "")], "unknown log opt 'x' for fluentd log driver"),
        ("gelf", vec![("gelf-address", "udp://h:1"), ("x", "")], "unknown log opt \"x\" for gelf log driver"),
        ("gelf", vec![], "gelf-address is a required parameter"),
        ("gelf", vec![("gelf-address", "udp://h")], "gelf: please provide gelf-address as proto://host:port"),
        ("gelf", vec![("gelf-address", "unix://h")], "gelf: endpoint needs to be TCP or UDP"),
        ("syslog", vec![("syslog-facility", "x")], "invalid syslog facility"),
        ("syslog", vec![("syslog-format", "x")], "Invalid syslog format"),
        ("syslog", vec![("syslog-address", "corge://h")], "unsupported scheme: 'corge'"),
        (
            "fluentd",
            vec![("fluentd-address", "tcp://h:1/x")],
            "invalid fluentd-address (tcp://h:1/x): should not contain a path element",
        ),
        ("json-file", vec![("mode", "x")], "logger: logging mode not supported: x"),
        (
            "json-file",
            vec![("max-buffer-size", "1m")],
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        ("json-file", vec![("max-file", "0")], "max-file cannot be less than 1"),
        (
            "json-file",
            vec![("compress", "true"), ("max-file", "1")],
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("syslog", vec![("cache-disabled", "x")], "invalid value for option cache-disabled: x"),
    ] {
        assert_eq!(refusal(kind, &options), text, "{kind} {options:?}");
    }
    for broken in ["labels-regex", "tag"] {
        assert!(check(&log("local", &[(broken, "{{(")])).is_err());
    }
    assert!(refusal("syslog", &[("syslog-address", "tcp+tls://h:1")]).contains("not supported"));
    assert!(check(&log("none", &[("whatever", "")])).is_ok());
}

#[test]
fn files_have_bounds_and_copies_their_own() {
    let file = |kind, options: &[(&str, &str)]| {
        let file = options::file(&log(kind, options)).unwrap();
        (file.driver, file.bytes_max, file.files_max, file.compress)
    };
    assert_eq!(file("json-file", &[]), (LogDriver::JsonFile, 100 << 20, 2, false));
    assert_eq!(file("json-file", &[("max-size", "10m")]), (LogDriver::JsonFile, 10_000_000, 2, false));
    assert_eq!(file("local", &[]), (LogDriver::Local, 20_000_000, 5, true));
    assert_eq!(file("local", &[("max-file", "1")]), (LogDriver::Local, 20_000_000, 1, false));
    assert_eq!(file("syslog", &[("cache-max-size", "1k")]), (LogDriver::Local, 1000, 5, true));
    assert_eq!(file("syslog", &[("cache-disabled", "true")]).0, LogDriver::None);
    assert_eq!(file("none", &[]).0, LogDriver::None);
}

#[test]
fn defaults_fill_in_for_the_same_driver_only() {
    let defaults = [("max-size".to_owned(), "1m".to_owned()), ("cache-max-size".to_owned(), "2m".to_owned())];
    let filled = |kind: &str, options: &[(&str, &str)]| {
        let mut log = log(kind, options);
        fill_defaults(&mut log, "local", &defaults);
        (log.kind, log.config.into_iter().collect::<Vec<_>>())
    };
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let both = [("cache-max-size", "2m"), ("max-size", "1m")].map(pair).to_vec();
    assert_eq!(filled("", &[]), ("local".to_owned(), both.clone()));
    assert_eq!(filled("local", &[("max-size", "1m")]).1, both);
    assert_eq!(filled("json-file", &[]).1, [("cache-max-size", "2m")].map(pair));
}

#[test]
fn attributes_and_tags() {
    let options =
        [("labels", "b,nosuch"), ("labels-regex", "^com"), ("env-regex", "^B"), ("tag", "{{.Name}}/{{.ID}}")];
    let record = record(log("json-file", &options));
    let source = Source { record: &record, host: "box" };
    assert_eq!(
        attributes::json(&source).unwrap(),
        "{\"B_x\":\"2\",\"b\":\"y z\",\"com.example.a\":\"\\u003cx\\u003e\",\"tag\":\"web/0123456789ab\"}"
    );
    assert_eq!(details(&source).unwrap(), "B_x=2,b=y+z,com.example.a=%3Cx%3E,tag=web%2F0123456789ab");
    for (template, tag) in [
        ("", "0123456789ab"),
        ("{{.ImageName}}|{{.ImageID}}|{{.Command}}", "nginx:1|ffffffffffff|serve -v"),
        ("{{upper .Hostname}} {{.DaemonName}}", "BOX corten"),
        ("{{index .ContainerLabels \"b\"}}", "y z"),
    ] {
        let record = self::record(log("syslog", &[("tag", template)]));
        assert_eq!(attributes::tag(&Source { record: &record, host: "box" }).unwrap(), tag);
    }
    let record = self::record(log("syslog", &[("tag", "{{.Nosuch}}")]));
    assert!(attributes::tag(&Source { record: &record, host: "box" }).is_err());
}

fn planned(kind: &str, options: &[(&str, &str)]) -> remote::Plan {
    let record = record(log(kind, options));
    plan(&Source { record: &record, host: "box" }).unwrap().unwrap()
}

#[test]
fn receivers_are_what_the_options_say() {
    let syslog = planned(
        "syslog",
        &[
            ("syslog-address", "tcp://[::1]:5140"),
            ("syslog-format", "rfc5424"),
            ("syslog-facility", "local3"),
        ],
    );
    assert_eq!(syslog.target, Target::Network { host: "::1".into(), port: 5140 });
    assert_eq!(syslog.transport, Transport::Stream);
    let RemoteFormat::Syslog(config) = syslog.format else { panic!() };
    assert_eq!((config.format, config.facility, config.host.as_str()), (SyslogFormat::Rfc5424, 19, "box"));
    assert_eq!(syslog.policy.buffer_bytes_max, None);
    let udp = planned("syslog", &[("syslog-address", "udp://h"), ("mode", "non-blocking")]);
    assert_eq!(udp.target, Target::Network { host: "h".into(), port: 514 });
    assert_eq!(udp.policy.buffer_bytes_max, Some(1 << 20));

    let fluentd = planned("fluentd", &[("fluentd-async", "true"), ("fluentd-retry-wait", "2s")]);
    assert_eq!(fluentd.target, Target::Network { host: "127.0.0.1".into(), port: 24224 });
    assert!(fluentd.lazy);
    assert_eq!((fluentd.policy.buffer_bytes_max, fluentd.policy.retry_ms), (Some(1 << 20), 2000));

    let gelf =
        planned("gelf", &[("gelf-address", "udp://h:1"), ("gelf-compression-level", "9"), ("env", "A")]);
    let RemoteFormat::Gelf { members, compression, .. } = gelf.format else { panic!() };
    assert_eq!(compression, GelfCompression::Gzip(9));
    assert!(members.contains("\"_A\":\"1\"") && members.contains("\"_container_name\":\"web\""), "{members}");

    let journald = planned("journald", &[("labels-regex", ".*")]);
    let RemoteFormat::Journald { fields } = journald.format else { panic!() };
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"COM_EXAMPLE_A") && names.contains(&"CONTAINER_ID_FULL"), "{names:?}");
    assert_eq!(remote::field_name("__a-b.c"), "A_B_C");
}

#[test]
fn durations_and_sizes_are_go_s() {
    assert_eq!(options::milliseconds("1m30.5s"), Some(90_500));
    assert_eq!(options::milliseconds("-1ms"), Some(-1));
    assert_eq!(options::milliseconds("0"), Some(0));
    assert_eq!(["", "5", "s", "5x"].map(options::milliseconds), [None; 4]);
    assert_eq!(options::decimal_bytes("1.5k"), Some(1500));
    assert_eq!(options::binary_bytes("1MiB"), Some(1 << 20));
    assert_eq!(["", "x", "-1"].map(options::binary_bytes), [None; 3]);
}
