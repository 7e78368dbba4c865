//! Lists as clients write them: comma-separated values.

/// The fields of a line that are not empty: texts with commas stand in quotes, in which two are one.
pub fn fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields.retain(|field| !field.is_empty());
    fields
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn lists_are_csv() {
        assert_eq!(fields(r#"a,"b,""c""",d"#), ["a", "b,\"c\"", "d"]);
        assert!(fields("").is_empty());
    }
}
