//! Re-indents JSON without touching its order, numbers or escapes: `inspect` shows what the engine sent.

/// Indents by four spaces per level, as `docker inspect` does.
pub fn indent(json: &str) -> String {
    indent_by("    ", json)
}

/// Indents by `unit` per level. Empty objects and lists stay on one line.
pub fn indent_by(unit: &str, json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push(c);
                let mut escaped = false;
                for c in chars.by_ref() {
                    out.push(c);
                    match c {
                        _ if escaped => escaped = false,
                        '\\' => escaped = true,
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, unit, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, unit, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, unit, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

fn new_line(out: &mut String, unit: &str, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(unit, depth));
}

/// JSON without the white space between its tokens.
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if !c.is_ascii_whitespace() {
            out.push(c);
            in_string = c == '"';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{compact, indent};

    #[test]
    fn order_strings_and_empty_collections_stay() {
        let json = r#"[{"b":1,"a":"x, {\"y\": [1]}\\","e":{},"l":[ ],"n":[1.50,null]}]"#;
        let expected = r#"[
    {
        "b": 1,
        "a": "x, {\"y\": [1]}\\",
        "e": {},
        "l": [],
        "n": [
            1.50,
            null
        ]
    }
]"#;
        assert_eq!(indent(json), expected);
        assert_eq!(indent(expected), expected);
        assert_eq!(compact(expected), json.replace("[ ]", "[]"));
    }
}
