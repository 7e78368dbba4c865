//! One line of comma-separated values, as `--mount` and `--network` take it.
//!
//! A field may stand in double quotes when it holds commas; a quote inside is doubled.

/// Splits a line into its fields; the error says what is wrong with the quotes.
pub fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err("a quote may only stand at the beginning of a field");
            }
            fields.push(rest[..end].to_owned());
            match rest.get(end + 1..) {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, after) = quoted_field(quoted)?;
        fields.push(field);
        if after.is_empty() {
            return Ok(fields);
        }
        rest = after.strip_prefix(',').ok_or("expected a comma after the closing quote")?;
    }
}

/// Reads up to the closing quote; returns the field and what follows.
fn quoted_field(mut rest: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn plain_and_quoted() {
        assert_eq!(fields("a,b=c").unwrap(), ["a", "b=c"]);
        assert_eq!(fields("\"a,b\",c").unwrap(), ["a,b", "c"]);
        assert_eq!(fields("\"say \"\"hi\"\"\"").unwrap(), ["say \"hi\""]);
        assert_eq!(fields("a,").unwrap(), ["a", ""]);
        assert_eq!(fields("").unwrap(), [""]);
        for bad in ["\"a", "a\"b", "\"a\"b"] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }
}
