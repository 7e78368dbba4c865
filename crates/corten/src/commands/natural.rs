//! Natural order of names: numbers inside by their value, so that `web2` comes before `web10`.

use std::cmp::Ordering;

/// Compares two names.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (left, left_rest) = number(a);
                let (right, right_rest) = number(b);
                let trimmed =
                    |digits: &[u8]| digits.iter().skip_while(|d| **d == b'0').copied().collect::<Vec<_>>();
                let (p, q) = (trimmed(left), trimmed(right));
                // The longer number is the larger one; equal numbers differ in their leading zeros.
                let order =
                    p.len().cmp(&q.len()).then_with(|| p.cmp(&q)).then_with(|| left.len().cmp(&right.len()));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (left_rest, right_rest);
            }
            (Some(x), Some(y)) if x != y => return x.cmp(y),
            _ => (a, b) = (&a[1..], &b[1..]),
        }
    }
}

fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn numbers_count() {
        let mut names = ["web10", "web2", "web", "a", "web02", "b1c10", "b1c9"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, ["a", "b1c9", "b1c10", "web", "web2", "web02", "web10"]);
    }
}
