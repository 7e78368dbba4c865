use super::*;

fn render(template: &str, data: &str) -> String {
    let data = Value::from_json(data.as_bytes()).unwrap();
    match Template::parse(template).and_then(|template| template.render(&data)) {
        Ok(text) => text,
        Err(error) => format!("ERROR {error}"),
    }
}

const CONTAINER: &str = r#"{
    "Id": "abc", "Name": "/web", "State": {"Running": true, "Pid": 42, "ExitCode": 0},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"b": "2", "a": "1"}, "Cmd": null},
    "NetworkSettings": {"IPAddress": "172.17.0.2",
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": null},
        "Networks": {"bridge": {"Gateway": "172.17.0.1"}}},
    "Mounts": [{"Type": "bind", "Source": "/a"}, {"Type": "volume", "Source": "/b"}],
    "SizeRw": 1234.5
}"#;

#[test]
fn fields_and_texts() {
    assert_eq!(render("{{.Id}} {{ .Name }}!", CONTAINER), "abc /web!");
    assert_eq!(render("{{.ID}}", CONTAINER), "abc");
    assert_eq!(render("{{.State.Running}}/{{.State.Pid}}", CONTAINER), "true/42");
    assert_eq!(render("{{$.Id}}", CONTAINER), "abc");
    assert_eq!(render("a {{- .Id -}} b", CONTAINER), "aabcb");
    assert_eq!(render("a{{/* nothing */}}b{{- /* trimmed */ -}} c", CONTAINER), "abc");
    assert_eq!(render("plain", CONTAINER), "plain");
    assert_eq!(render("{{`raw\\n`}}{{\"q\\n\\x41\\u00e9\"}}", CONTAINER), "raw\\nq\nAé");
}

#[test]
fn go_prints_collections() {
    assert_eq!(render("{{.Config.Env}}", CONTAINER), "[A=1 B=2]");
    assert_eq!(render("{{.Config.Labels}}", CONTAINER), "map[a:1 b:2]");
    assert_eq!(render("{{.State}}", CONTAINER), "{true 42 0}");
    assert_eq!(render("{{.Config.Cmd}}|{{.Config.Volumes}}|{{.State.Health}}", CONTAINER), "[]|map[]|<nil>");
    assert_eq!(render("{{.NetworkSettings.Ports}}", CONTAINER), "map[53/udp:[] 80/tcp:[{0.0.0.0 8080}]]");
    assert_eq!(render("{{.SizeRw}}", CONTAINER), "1234.5");
}

#[test]
fn json_keeps_the_order_of_structs_and_sorts_maps() {
    assert_eq!(render("{{json .State}}", CONTAINER), r#"{"Running":true,"Pid":42,"ExitCode":0}"#);
    assert_eq!(render("{{json .Config.Labels}}", CONTAINER), r#"{"a":"1","b":"2"}"#);
    assert_eq!(render("{{.Config.Env | json}}", CONTAINER), r#"["A=1","B=2"]"#);
    assert_eq!(render("{{json .Config.Cmd}}", CONTAINER), "null");
    assert_eq!(render("{{json \"<&>\"}}", CONTAINER), "\"<&>\"");
}

#[test]
fn conditions() {
    assert_eq!(render("{{if .State.Running}}up{{else}}down{{end}}", CONTAINER), "up");
    let chain = "{{if eq .State.Pid 1}}one{{else if eq .State.Pid 42}}answer{{else}}other{{end}}";
    assert_eq!(render(chain, CONTAINER), "answer");
    assert_eq!(render("{{if not .Config.Cmd}}none{{end}}", CONTAINER), "none");
    assert_eq!(render("{{if and .State.Running (gt .State.Pid 40)}}yes{{end}}", CONTAINER), "yes");
    assert_eq!(render("{{or .Config.Cmd \"default\"}}", CONTAINER), "default");
    assert_eq!(render("{{if .State.Health}}x{{else}}no health{{end}}", CONTAINER), "no health");
    assert_eq!(render("{{with .Config.Labels}}{{.a}}{{end}}", CONTAINER), "1");
    assert_eq!(render("{{with .Config.Cmd}}a{{else with .Name}}{{.}}{{else}}c{{end}}", CONTAINER), "/web");
    assert_eq!(
        render("{{eq .Id \"x\" \"abc\"}} {{ne 1 2}} {{lt \"a\" \"b\"}} {{le 2 2}} {{ge 1 2}}", CONTAINER),
        "true true true true false"
    );
}

#[test]
fn ranges_and_variables() {
    assert_eq!(render("{{range .Config.Env}}{{.}};{{end}}", CONTAINER), "A=1;B=2;");
    assert_eq!(render("{{range $i, $e := .Config.Env}}{{$i}}:{{$e}} {{end}}", CONTAINER), "0:A=1 1:B=2 ");
    assert_eq!(render("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}},{{end}}", CONTAINER), "a=1,b=2,");
    assert_eq!(render("{{range .Config.Cmd}}x{{else}}empty{{end}}", CONTAINER), "empty");
    assert_eq!(render("{{range .Mounts}}{{.Type}}:{{.Source}} {{end}}", CONTAINER), "bind:/a volume:/b ");
    assert_eq!(
        render(
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{with $c}}{{(index . 0).HostPort}}{{end}};{{end}}",
            CONTAINER
        ),
        "53/udp -> ;80/tcp -> 8080;"
    );
    assert_eq!(render("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", CONTAINER), "2");
    assert_eq!(
        render("{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}", CONTAINER),
        "A=1"
    );
    assert_eq!(render("{{range 3}}{{.}}{{end}}", CONTAINER), "012");
    assert_eq!(render("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", CONTAINER), "172.17.0.1");
}

#[test]
fn functions() {
    let index = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
    assert_eq!(render(index, CONTAINER), "8080");
    assert_eq!(render("{{index .Config.Labels \"a\"}}|{{index .Config.Labels \"zz\"}}|", CONTAINER), "1||");
    assert_eq!(render("{{.Config.Labels.zz}}", CONTAINER), "<no value>");
    assert_eq!(render("{{index .Config.Env 1}} {{len .Config.Env}} {{len .Name}}", CONTAINER), "B=2 2 4");
    assert_eq!(
        render("{{slice .Name 1}} {{slice .Name 1 2}} {{slice .Config.Env 1}}", CONTAINER),
        "web w [B=2]"
    );
    assert_eq!(render("{{join .Config.Env \",\"}} {{split .Name \"/\"}}", CONTAINER), "A=1,B=2 [ web]");
    assert_eq!(render("{{upper .Id}} {{lower \"AB\"}} {{title \"one two\"}}", CONTAINER), "ABC ab One Two");
    assert_eq!(render("[{{pad .Id 1 2}}] {{truncate .Name 2}}", CONTAINER), "[ abc  ] /w");
    assert_eq!(render("{{print 1 2 \"a\" 3}}|{{println \"a\" 1}}", CONTAINER), "1 2a3|a 1\n");
}

#[test]
fn printf_follows_go() {
    assert_eq!(render("{{printf \"%s-%d-%v-%q\" .Id 7 true .Name}}", CONTAINER), "abc-7-true-\"/web\"");
    assert_eq!(render("{{printf \"[%5s][%-5s][%.2s]\" .Id .Id .Id}}", CONTAINER), "[  abc][abc  ][ab]");
    assert_eq!(
        render("{{printf \"%05d %x %X %#x %o %b %c %+d\" 42 255 255 255 8 5 65 3}}", CONTAINER),
        "00042 ff FF 0xff 10 101 A +3"
    );
    assert_eq!(
        render("{{printf \"%x\" \"hi\"}} {{printf \"%5.1f|%g|%e\" 3.14159 0.5 12345.678}}", CONTAINER),
        "6869   3.1|0.5|1.234568e+04"
    );
    assert_eq!(render("{{.State.Pid | printf \"%d%%\"}}", CONTAINER), "42%");
    assert_eq!(
        render("{{printf \"%d\" \"x\"}} {{printf \"%s\"}} {{printf \"a\" 1}}", CONTAINER),
        "%!d(string=x) %!s(MISSING) a%!(EXTRA int=1)"
    );
    assert_eq!(render("{{printf \"%s\" .Config.Env}}", CONTAINER), "[A=1 B=2]");
}

#[test]
fn mistakes_name_the_place() {
    assert_eq!(
        render("{{.Nope}}", r#"{"A":1,"B":2}"#),
        "ERROR template, column 3: there is no field .Nope; there are: A, B"
    );
    assert_eq!(render("{{if .A}}x", r#"{"A":1}"#), "ERROR template, column 3: this if has no {{end}}");
    assert_eq!(render("ab{{.A", r#"{"A":1}"#), "ERROR template, column 3: this action has no closing }}");
    assert_eq!(render("{{end}}", "{}"), "ERROR template, column 3: {{end}} without something to belong to");
    assert_eq!(
        render("{{define \"x\"}}{{end}}", "{}"),
        "ERROR template, column 3: {{define}} is not supported in a format"
    );
    assert_eq!(
        render("{{frob .A}}", r#"{"A":1}"#),
        "ERROR template, column 3: there is no function \"frob\""
    );
    assert_eq!(
        render("{{eq .A \"1\"}}", r#"{"A":1}"#),
        "ERROR template, column 3: can't compare a int with a string"
    );
    assert_eq!(
        render("{{index .A 3}}", r#"{"A":[1]}"#),
        "ERROR template, column 3: index 3 is out of range: the list has 1"
    );
    assert_eq!(
        render("{{.A.B}}", r#"{"A":null}"#),
        "ERROR template, column 3: can't take .B from an empty value; guard it with {{if}}"
    );
    assert_eq!(render("{{$x}}", "{}"), "ERROR template, column 3: the variable $x is not defined");
    assert_eq!(render("{{break}}", "{}"), "ERROR template, column 3: {{break}} outside of a range");
    assert_eq!(render("{{\"abc}}", "{}"), "ERROR template, column 3: this string is not closed");
}

#[test]
fn lookups_are_methods() {
    let labels = [("a".to_owned(), "1".to_owned())].into_iter().collect();
    let row = Value::row([("ID", Value::from("x")), ("Label", Value::Lookup(labels))]);
    let template = Template::parse("{{.Label \"a\"}}|{{.Label \"b\"}}|{{json .}}").unwrap();
    assert_eq!(template.render(&row).unwrap(), r#"1||{"ID":"x"}"#);
}

proptest::proptest! {
    #[test]
    fn no_template_panics(source in "[{}.$a-cA-C0-9 \"|()=:,/*-]{0,60}") {
        let data = Value::from_json(CONTAINER.as_bytes()).unwrap();
        if let Ok(template) = Template::parse(&source) {
            let _ = template.render(&data);
        }
    }
}
