//! Whiteouts, duplicates, missing parents, links.
