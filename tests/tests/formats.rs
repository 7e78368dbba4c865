//! `--format` of every command that has it, compared with the docker CLI's on the same engine: templates, tables, JSON.

use corten_tests::{Output, TestEngine, difference};

/// Runs both clients; equal when output and success are.
fn compare(engine: &TestEngine, args: &[&str], differences: &mut Vec<String>) {
    let printed = |output: Output| (output.code == 0).then_some(output.stdout);
    if let Some((ours, theirs)) = difference(|| (printed(engine.corten(args)), printed(engine.docker(args))))
    {
        differences.push(format!("{args:?}\n  ours   {ours:?}\n  docker {theirs:?}"));
    }
}

/// Over one container's `inspect`: everything that Docker's templates can do.
const TEMPLATES: &[&str] = &[
    "{{.Name}} {{.State.Status}} {{.RestartCount}} {{.State.Running}}",
    "{{json .Config.Labels}}",
    "{{json .State}} {{json .HostConfig.RestartPolicy}} {{json .HostConfig.LogConfig}} {{json .Mounts}}",
    "{{json .HostConfig.PortBindings}} {{json .Config.Env}} {{json .Config.Cmd}}",
    "{{range .Config.Env}}{{println .}}{{end}}",
    "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}",
    "{{range $k, $v := .Config.Labels}}{{$k}}->{{$v}} {{end}}",
    "{{range .HostConfig.Binds}}x{{else}}none{{end}}",
    "{{with .Config}}{{.Image}} {{$.Name}}{{end}}",
    "{{with .HostConfig.Binds}}x{{else}}no binds{{end}}",
    "{{if .State.Running}}up{{else if .State.Paused}}paused{{else}}down{{end}}",
    "{{if and .State.Running (not .State.Paused)}}yes{{end}}",
    "{{if or .State.Dead .State.Running}}yes{{end}}",
    "{{if eq .State.Status \"exited\" \"running\"}}one of them{{end}}",
    "{{ne .RestartCount 1}} {{lt .RestartCount 1}} {{le 1 1}} {{gt 2 1}} {{ge 1 2}}",
    "{{len .Config.Env}} {{len .Name}}",
    "{{index .Config.Env 0}}",
    "{{index .Config.Labels \"com.example.tier\"}}",
    "{{(index .Mounts 0).Destination}}",
    "{{slice .Id 0 12}} {{slice .Config.Env 0 1}}",
    "{{join .Config.Cmd \" \"}}",
    "{{split .Config.Image \":\"}}",
    "{{upper .Name}} {{lower \"ABC\"}} {{title \"abc def\"}}",
    "{{pad .Config.Image 2 3}}|",
    "{{truncate .Id 5}}",
    "{{println .Name}}{{print 1 2 \"a\" \"b\" 3}}",
    "{{printf \"%s %q %d %5.2f %v %t %x %-10s| %10s| %05d %%\" .Name .Name 42 3.14159 .Config.Cmd true 255 \"l\" \"r\" 7}}",
    "{{printf \"%v\" .State.Health}}",
    "{{.Name | printf \"%s-%s\" \"x\" | upper}}",
    "{{$n := .Name}}{{$n}} {{$n = \"other\"}}{{$n}}",
    "{{/* a comment */}}x{{- /* another */ -}} y",
    "a   {{- .Name -}}   b",
    "{{\"quoted \\\"text\\\"\"}} {{`raw \\n text`}} {{'a'}}",
    "{{true}} {{printf \"%v\" nil}}",
    "{{html \"<a&b>\"}} {{js \"it's\"}} {{urlquery \"a b&c\"}}",
    "{{not true}} {{not .Config.Labels}}",
    "{{.Config.Labels}} {{.Config.Cmd}} {{.HostConfig.Binds}}",
    "{{.NetworkSettings.Ports}}",
    "{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}}{{end}}",
    "{{range .Config.Env}}{{if eq . \"A=1\"}}{{break}}{{end}}{{.}};{{end}}",
    "{{range .Config.Env}}{{if eq . \"A=1\"}}{{continue}}{{end}}{{.}};{{end}}",
    "{{1.5}} {{0x10}} {{1e3}} {{-3}}",
    "{{1e6}} {{1234567.5}} {{123456789.0}} {{0.00001}}",
    "{{printf \"%+v %q %d %+d %06.2f %x %#x % x %[2]d %[1]v\" .Config.Cmd .Config.Cmd 42 42 3.14159 \"hi\" \"hi\" \"hi\"}}",
    "{{printf \"%6.3d|%-6d|%+06d|%#o|%O|%c|%U|%+q|%5t|%10v|\" 42 42 42 8 8 65 9786 9786 true .Config.Cmd}}",
    "{{printf \"%d %s\" 1}} {{printf \"%d\" 1 2 \"x\"}} {{printf \"%5d|\" \"x\"}} {{printf \"%*d\" -5 4}}|",
    "{{define \"x\"}}[{{.}}]{{end}}{{template \"x\" .Name}}{{block \"y\" .Id}}{{printf \"%.4s\" .}}{{end}}",
    "{{define \"e\"}}{{range .}}{{template \"f\" .}}{{end}}{{end}}{{define \"f\"}}{{.}};{{end}}{{template \"e\" .Config.Env}}",
    "{{template \"nosuch\"}}",
    "{{if true}}{{define \"x\"}}{{end}}{{end}}",
    "{{block \"x\"}}{{end}}",
    "{{define \"x\"}}1{{end}}{{define \"x\"}}2{{end}}",
    "{{call .Name}}",
    "{{.Nosuch}}",
    "{{.State.Nosuch}}",
    "{{.Config.Labels.nosuch}}",
    "{{index .Config.Env 99}}",
    "{{nosuch .Name}}",
    "{{.Name",
    "{{if .Name}}",
    "{{end}}",
    "{{else}}",
    "{{range}}{{end}}",
    "{{lt 1 \"a\"}}",
    "{{len 3}}",
    "plain text\\twith\\nescapes",
];

#[test]
fn templates_do_what_docker_s_do() {
    let engine = TestEngine::with_busybox();
    let run = "run -d --name subject -l com.example.tier=front -l a=1 -e A=1 -e B=2 --tmpfs /t -v vol:/data --restart on-failure:3 busybox sleep 1000";
    engine.corten(&run.split(' ').collect::<Vec<_>>()).ok();
    let mut differences = Vec::new();
    for template in TEMPLATES {
        compare(&engine, &["inspect", "--format", template, "subject"], &mut differences);
    }
    engine.corten(&["rm", "-f", "subject"]).ok();
    engine.corten(&["volume", "rm", "vol"]).ok();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// A command, and the fields that its rows have.
const LISTS: &[(&str, &str)] = &[
    (
        "ps -a --no-trunc",
        "ID Image Command Ports State Size Names Labels Mounts Networks LocalVolumes CreatedAt",
    ),
    ("ps -a", "ID Image Names Command"),
    ("images", "ID Repository Tag Digest CreatedAt Size"),
    ("volume ls", "Name Driver Scope Mountpoint Labels"),
    ("network ls", "Name Driver Scope Internal IPv6 CreatedAt"),
    ("history busybox", "ID CreatedAt CreatedBy Size Comment"),
    ("context ls", "Name Description"),
];

#[test]
fn lists_are_formatted_as_docker_s() {
    let engine = TestEngine::with_busybox();
    for name in ["one", "second"] {
        let run = format!("run -d --name {name} -l tier=front -v vol-{name}:/data busybox sleep 1000");
        engine.corten(&run.split(' ').collect::<Vec<_>>()).ok();
    }
    let mut differences = Vec::new();
    for (command, fields) in LISTS {
        let words: Vec<&str> = command.split(' ').collect();
        let fields: Vec<&str> = fields.split(' ').collect();
        let every = fields.iter().map(|field| format!("{{{{.{field}}}}}"));
        let formats = [
            every.clone().collect::<Vec<_>>().join("|"),
            format!("table {}", every.clone().collect::<Vec<_>>().join("\\t")),
            format!("table {{{{upper .{}}}}}\\t{{{{.{}}}}}", fields[0], fields[1]),
            format!("table {{{{if .{0}}}}}{{{{.{0}}}}}{{{{end}}}}", fields[0]),
            format!("{{{{printf \"%.5s\" .{}}}}}", fields[0]),
            format!("{{{{len .{}}}}}", fields[0]),
            "{{.Nosuch}}".to_owned(),
            "table {{.Nosuch}}".to_owned(),
            "table".to_owned(),
            "{{json .Names}}{{json .Name}}".to_owned(),
        ];
        for format in &formats {
            compare(&engine, &[&words[..], &["--format", format]].concat(), &mut differences);
        }
    }
    let one = [
        "{{.ServerVersion}} {{.Driver}}",
        "{{json .Plugins}}",
        "{{.Nosuch}}",
        "{{range .SecurityOptions}}{{.}},{{end}}",
    ];
    for format in one {
        compare(&engine, &["info", "--format", format], &mut differences);
    }
    for format in
        ["{{.Server.Version}} {{.Server.APIVersion}}", "{{.Server.Os}}/{{.Server.Arch}}", "{{.Nosuch}}"]
    {
        compare(&engine, &["version", "--format", format], &mut differences);
    }
    engine.corten(&["rm", "-f", "one", "second"]).ok();
    engine.corten(&["volume", "rm", "vol-one", "vol-second"]).ok();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
