//! OpenMetrics text as the text format of Prometheus 0.0.4, which tools older than OpenMetrics read.

/// Counters bear their suffix in what is said of them too; units and the mark at the end are unknown there.
pub fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The help stands before the type, of the same name.
        let of_counter = is_counter(line)
            || line.starts_with("# HELP ") && lines.peek().is_some_and(|following| is_counter(following));
        let mut words = line.splitn(4, ' ');
        match (of_counter, words.next(), words.next(), words.next(), words.next()) {
            (true, Some(mark), Some(what), Some(name), Some(rest)) => {
                text.push_str(&format!("{mark} {what} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn counters_get_their_suffix_and_the_end_no_mark() {
        let open = "# HELP a_b How often.\n# TYPE a_b counter\na_b_total 5\n# HELP g A thing.\n# TYPE g gauge\n# UNIT g seconds\ng{x=\"# TYPE y counter\"} 1\n# EOF\n";
        assert_eq!(
            plain(open),
            "# HELP a_b_total How often.\n# TYPE a_b_total counter\na_b_total 5\n# HELP g A thing.\n# TYPE g gauge\ng{x=\"# TYPE y counter\"} 1\n"
        );
    }
}
