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
    assert_eq!(
        render("{{1e6}} {{1234567.5}} {{100000.0}} {{0.00001}}", "{}"),
        "1e+06 1.2345675e+06 100000 1e-05"
    );
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

/// What docker's client writes for the same.
#[test]
fn printf_in_every_detail() {
    for (arguments, expected) in [
        (
            r#""%v %g %G %e %E %f %F" 1e6 1e6 1e6 1e6 1e6 1e6 1e6"#,
            "1e+06 1e+06 1E+06 1.000000e+06 1.000000E+06 1000000.000000 1000000.000000",
        ),
        (r#""%+v %#v %+d %+.2f %+q" 5 5 5 1.5 "é""#, r#"5 5 +5 +1.50 "\u00e9""#),
        (r#""%q|%d|%+q" .Cmd .Cmd .Cmd"#, r#"["sleep" "1"]|[%!d(string=sleep) %!d(string=1)]|["sleep" "1"]"#),
        (r#""%+v|%v" .State .State"#, "{Running:true Cmd:[a] Labels:map[a:1]}|{true [a] map[a:1]}"),
        (
            r#""%x|%X|% x|%#x|% X|%# x|%.2x" "hello" "hello" "hello" "hello" "hello" "hello" "hello""#,
            "68656c6c6f|68656C6C6F|68 65 6c 6c 6f|0x68656c6c6f|68 65 6C 6C 6F|0x68 0x65 0x6c 0x6c 0x6f|6865",
        ),
        (r#""%[2]d %[1]d" 1 2"#, "2 1"),
        (r#""%[3]*.[2]*[1]f" 12.0 2 6"#, " 12.00"),
        (r#""%[5]d|%[x]d" 1"#, "%!d(BADINDEX)|%!d(BADINDEX)"),
        (r#""%[1]d %d" 1 2"#, "1 2"),
        (
            r#""%6.3d|%06d|%-6d|% d|%+06d|%.0d|%x|%#o|%O|%#b|%#X" 42 42 42 42 42 0 -255 8 8 5 255"#,
            "   042|000042|42    | 42|+00042||-ff|010|0o10|0b101|0XFF",
        ),
        (
            r#""%c|%q|%#q|%U|%#U|%+q|%q" 65 65 65 65 9786 9786 39"#,
            r"A|'A'|'A'|U+0041|U+263A '☺'|'\u263a'|'\''",
        ),
        (r#""%5t|%-7t|%v|%d" true true true true"#, " true|true   |true|%!d(bool=true)"),
        (
            r#""%5s|%-5s|%.2s|%5.1s|%05s|%s|%5q" "abc" "abc" "abc" "abc" "abc" 5 "a""#,
            r#"  abc|abc  |ab|    a|00abc|%!s(int=5)|  "a""#,
        ),
        (r#""%!|%z|%" 1 2"#, "%!!(int=1)|%!z(int=2)|%!(NOVERB)"),
        (r#""%d" 1 2 "x" nil"#, "1%!(EXTRA int=2, string=x, <nil>)"),
        (r#""%d|%v|%5v|%s" nil nil nil nil"#, "%!d(<nil>)|<nil>|<nil>|%!s(<nil>)"),
        (
            r#""%8.3f|%-8.2f|%08.2f|%+08.2f|% f|%.0f" 3.14159 3.14159 3.14159 3.14159 3.14159 2.5"#,
            "   3.142|3.14    |00003.14|+0003.14| 3.141590|2",
        ),
        (
            r#""%6.2e|%.3g|%g|%10g" 12345.678 12345.678 0.00001234 1.5"#,
            "1.23e+04|1.23e+04|1.234e-05|       1.5",
        ),
        (r#""%*d|%-*d|%.*f|%*d" 5 42 5 42 2 3.14159 -5 42"#, "   42|42   |3.14|42   "),
        (r#""%*d" "x" 42"#, "%!(BADWIDTH)42"),
        (r#""%T %T %T %T %T" 1 1.5 "a" true nil"#, "int float64 string bool <nil>"),
        (r#""%10v|%-10v|" .Cmd "ab""#, "[     sleep          1]|ab        |"),
        (r#""%d%%|%5%" 50"#, "50%|%"),
        (
            r#""%s|%d|%f|%t|%10d|" true "x" 3 1 "x""#,
            "%!s(bool=true)|%!d(string=x)|%!f(int=3)|%!t(int=1)|%!d(string=         x)|",
        ),
        (r##""%#v|%#v|%#v|%#v" "a\"b" 1.0 true 1e6"##, r#""a\"b"|1|true|1e+06"#),
        (r#""%.3v|%.1v" "abcdef" 3.14"#, "abc|3"),
        (r#""%-010d|%0-10d|% 05d|%+ d" 42 42 42 42"#, "42        |42        | 0042|+42"),
        (r#""%U|%c|%q" -1 -1 -1"#, "U+FFFFFFFFFFFFFFFF|\u{fffd}|'\u{fffd}'"),
    ] {
        let data =
            r#"{"Cmd": ["sleep", "1"], "State": {"Running": true, "Cmd": ["a"], "Labels": {"a": "1"}}}"#;
        assert_eq!(render(&format!("{{{{printf {arguments}}}}}"), data), expected, "{arguments}");
    }
    assert!(render("{{printf \"%T\" .A}}", r#"{"A":[1]}"#).contains("%T of a list is not supported"));
    assert!(render("{{printf \"%#v\" .}}", r#"{"A":[1]}"#).contains("%#v of a object is not supported"));
}

#[test]
fn parts_have_names_and_a_value_of_their_own() {
    assert_eq!(render("{{define \"x\"}}[{{.}}]{{end}}{{template \"x\" .Name}}", CONTAINER), "[/web]");
    assert_eq!(
        render("{{block \"y\" .Name}}<{{.}}>{{end}}{{template \"y\" .Id | printf \"%.2s\"}}", CONTAINER),
        "</web><ab>"
    );
    assert_eq!(render("{{define \"a\"}}{{$}}{{end}}{{$v := 1}}{{template \"a\" 5}}{{$v}}", "{}"), "51");
    assert_eq!(render("{{define \"n\"}}{{.}}{{end}}{{template \"n\"}}", "{}"), "<no value>");
    assert_eq!(render("{{define \"e\"}} {{end}}{{define \"e\"}}2{{end}}{{template \"e\"}}", "{}"), "2");
    assert_eq!(render("x{{define \"w\"}} {{- \"a\" -}} {{end}}y{{template `w`}}", "{}"), "xya");
    let each = "{{define \"t\"}}{{range .}}{{template \"u\" .}}{{end}}{{end}}{{define \"u\"}}{{.}},{{end}}{{template \"t\" .Config.Env}}";
    assert_eq!(render(each, CONTAINER), "A=1,B=2,");
    for (template, why) in [
        ("{{template \"x\"}}", "there is no part \"x\""),
        ("{{template x}}", "{{template}} needs a name in quotes"),
        ("{{if 1}}{{define \"z\"}}{{end}}{{end}}", "{{define}} has no place within another action"),
        ("{{define \"d\"}}1{{end}}{{define \"d\"}}2{{end}}", "there are two parts \"d\""),
        ("{{block \"q\"}}x{{end}}", "this block needs a value behind its name"),
        ("{{define \"s\" .}}{{end}}", "expected }}"),
        ("{{define \"g\"}}{{else}}{{end}}", "{{else}} has no place in this define"),
        ("{{define \"g\"}}", "this define has no {{end}}"),
        ("{{range .A}}{{block \"b\" .}}{{break}}{{end}}{{end}}", "{{break}} outside of a range"),
    ] {
        let error = render(template, "{}");
        assert!(error.starts_with("ERROR") && error.contains(why), "{template}: {error}");
    }
}

/// With four million letters in `$x`.
fn long(template: &str) -> String {
    format!("{{{{$x := \"aaaa\"}}}}{{{{range 20}}}}{{{{$x = print $x $x}}}}{{{{end}}}}{template}")
}

#[test]
fn a_template_from_a_stranger_has_an_end() {
    let parentheses = format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
    let conditions = format!("{}{}", "{{if 1}}".repeat(10_000), "{{end}}".repeat(10_000));
    let deep = format!("{}x{}", "{{if 1}}".repeat(90), "{{end}}".repeat(90));
    assert_eq!(render(&deep, "{}"), "x");
    let recursive = format!(
        "{{{{define \"r\"}}}}{}{{{{template \"r\" .}}}}{}{{{{end}}}}{{{{template \"r\"}}}}",
        "{{if 1}}".repeat(90),
        "{{end}}".repeat(90)
    );
    for template in [
        parentheses.as_str(),
        &conditions,
        &recursive,
        "{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\" .}}",
        "{{range 100000000000}}{{end}}",
        "{{range 100000000000}}{{range 100000000000}}x{{end}}{{end}}",
        "{{$x := \"aaaaaaaa\"}}{{range 100}}{{$x = print $x $x}}{{end}}",
        "{{pad \"x\" 99999999999 0}}",
        // One call makes much of little.
        &["{{printf \"", &"%9999[1]d".repeat(100_000), "\" 1}}"].concat(),
        &long("{{range split $x \"\"}}{{end}}"),
        &long("{{printf \"%9999s\" (split (slice $x 0 99999) \"\")}}"),
        &long("{{join (split (slice $x 0 99999) \"\") $x}}"),
        // Copies cost, too.
        &long("{{range 1000000}}{{$y := $x}}{{end}}"),
        &long(&format!("{{{{print {}}}}}", "$x ".repeat(1000))),
    ] {
        let error = render(template, "{}");
        assert!(error.starts_with("ERROR"), "{}", &error[..error.len().min(100)]);
    }
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
