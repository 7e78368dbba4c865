//! Alternatives (`/etc/alternatives`): the groups that have a candidate in the image, with those candidates only.
//! The format of `/var/lib/dpkg/alternatives/<name>` is update-alternatives' own: mode, link, pairs of slave name
//! and slave link, an empty line; then per candidate its path, its priority and a path (or nothing) per slave.

/// One group as the image will have it.
pub(super) struct Group {
    /// The administrative file.
    pub text: String,
    /// Symbolic links, absolute path to target.
    pub links: Vec<(String, String)>,
}

/// Reduces a group to the candidates that are in the image; `None` when there is none.
pub(super) fn reduce(name: &str, text: &str, exists: impl Fn(&str) -> bool) -> Option<Group> {
    let mut lines = text.lines();
    let _mode = lines.next()?;
    let link = lines.next()?;
    let mut slaves = Vec::new();
    loop {
        match lines.next()? {
            "" => break,
            slave => slaves.push((slave, lines.next()?)),
        }
    }
    let mut candidates: Vec<(i64, &str, Vec<&str>)> = Vec::new();
    while let Some(path) = lines.next().filter(|path| !path.is_empty()) {
        let priority = lines.next()?.parse().ok()?;
        let targets = slaves.iter().map(|_| lines.next().unwrap_or_default()).collect();
        if exists(path) {
            candidates.push((priority, path, targets));
        }
    }
    let (_, best, targets) = candidates.iter().max_by_key(|(priority, ..)| *priority)?;
    let mut links = Vec::new();
    let mut add = |name: &str, link: &str, target: &str| {
        if exists(target) {
            links.push((link.to_owned(), format!("/etc/alternatives/{name}")));
            links.push((format!("/etc/alternatives/{name}"), target.to_owned()));
        }
    };
    add(name, link, best);
    slaves.iter().zip(targets).for_each(|((slave, link), target)| add(slave, link, target));
    let mut text = format!("auto\n{link}\n");
    for (slave, link) in &slaves {
        text.push_str(&format!("{slave}\n{link}\n"));
    }
    text.push('\n');
    for (priority, path, targets) in &candidates {
        text.push_str(&format!("{path}\n{priority}\n"));
        targets.iter().for_each(|target| text.push_str(&format!("{target}\n")));
    }
    text.push('\n');
    Some(Group { text, links })
}

#[cfg(test)]
mod tests {
    use super::reduce;

    const AWK: &str = "manual\n/usr/bin/awk\nawk.1.gz\n/usr/share/man/man1/awk.1.gz\nnawk\n/usr/bin/nawk\n\n\
                       /usr/bin/gawk\n10\n/usr/share/man/man1/gawk.1.gz\n/usr/bin/gawk\n\
                       /usr/bin/mawk\n5\n/usr/share/man/man1/mawk.1.gz\n/usr/bin/mawk\n\n";

    #[test]
    fn keeps_what_is_in_the_image() {
        let group = reduce("awk", AWK, |path| path == "/usr/bin/mawk").unwrap();
        assert!(group.text.starts_with("auto\n/usr/bin/awk\n") && !group.text.contains("gawk"));
        assert!(group.text.ends_with("/usr/bin/mawk\n5\n/usr/share/man/man1/mawk.1.gz\n/usr/bin/mawk\n\n"));
        let links: Vec<_> = group.links.iter().map(|(link, to)| (link.as_str(), to.as_str())).collect();
        assert_eq!(
            links,
            [
                ("/usr/bin/awk", "/etc/alternatives/awk"),
                ("/etc/alternatives/awk", "/usr/bin/mawk"),
                ("/usr/bin/nawk", "/etc/alternatives/nawk"),
                ("/etc/alternatives/nawk", "/usr/bin/mawk"),
            ]
        );
        assert!(reduce("awk", AWK, |_| false).is_none());
        assert!(reduce("awk", "auto\n", |_| true).is_none());
    }
}
