//! Columns as Go's `text/tabwriter` aligns them with Docker's settings: at least 10 wide, 3 apart, spaces only.
//!
//! A column is a run of neighbouring lines that all have a tab-terminated cell there; the last cell of a line belongs
//! to none. Widths count characters, not bytes or display cells, since Go's do.

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns the tab-separated cells of `text`, line by line.
pub fn align(text: &str) -> String {
    align_from(MIN_WIDTH, text)
}

/// As `align`, with columns at least `min_width` wide.
pub fn align_from(min_width: usize, text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 2);
    let mut widths = Vec::new();
    write_block(&lines, min_width, &mut widths, &mut out);
    // `split` sees one empty line behind the last newline.
    out.pop();
    out
}

/// Writes lines whose first `widths.len()` columns are settled, settling further ones as they come.
fn write_block(lines: &[Vec<&str>], min_width: usize, widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let in_column = |line: &Vec<&str>| column + 1 < line.len();
    let mut at = 0;
    while at < lines.len() {
        if !in_column(&lines[at]) {
            write_line(&lines[at], widths, out);
            at += 1;
            continue;
        }
        let end = at + lines[at..].iter().take_while(|line| in_column(line)).count();
        let widest = lines[at..end].iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        widths.push((widest + PADDING).max(min_width));
        write_block(&lines[at..end], min_width, widths, out);
        widths.pop();
        at = end;
    }
}

fn write_line(line: &[&str], widths: &[usize], out: &mut String) {
    for (column, cell) in line.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(column) {
            let missing = width.saturating_sub(cell.chars().count());
            out.extend(std::iter::repeat_n(' ', missing));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_are_ten_wide_and_three_apart() {
        let text = "CONTAINER ID\tIMAGE\tNAMES\nabcdefabcdef\tbusybox\tweb\n";
        assert_eq!(align(text), "CONTAINER ID   IMAGE     NAMES\nabcdefabcdef   busybox   web\n");
    }

    #[test]
    fn empty_cells_keep_their_width() {
        assert_eq!(align("A\tB\tC\n1\t\t3\n"), "A         B         C\n1                   3\n");
    }

    #[test]
    fn a_trailing_empty_cell_leaves_spaces_behind() {
        assert_eq!(align("NAME\tPORTS\nweb\t\n"), "NAME      PORTS\nweb       \n");
    }

    #[test]
    fn characters_count_not_bytes() {
        assert_eq!(align("\"sleep 3600 with lo…\"\tx\n"), "\"sleep 3600 with lo…\"   x\n");
    }

    #[test]
    fn lines_with_fewer_cells_end_a_column() {
        assert_eq!(align("a\tb\nplain\nlonger than ten\tc\n"), "a         b\nplain\nlonger than ten   c\n");
    }
}
