//! What no package ships as a file: accounts, the package database of the image, settings that maintainer scripts
//! make from templates, apt's sources and keys. Made from the packages' own templates, not from the host's
//! versions, which may hold its secrets.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use super::dpkg::Database;
use super::tree::Tree;
use super::{BaseError, alternatives, read_optional};

/// The `shadow` group of base-passwd, which may read the password files.
const SHADOW_GID: u32 = 42;
/// System accounts are below.
const UID_FIRST_HUMAN: u32 = 1000;

pub(super) fn add(
    tree: &mut Tree,
    database: &Database,
    selected: &BTreeSet<String>,
) -> Result<(), BaseError> {
    skeleton(tree);
    templates(tree)?;
    certificates(tree, selected)?;
    apt(tree, database, selected)?;
    links(tree)?;
    package_database(tree, database, selected)?;
    // Last: accounts follow from who owns the files.
    accounts(tree)
}

fn skeleton(tree: &mut Tree) {
    for (path, mode) in [
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run", 0o755),
        ("run/lock", 0o1777),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("root", 0o700),
        ("mnt", 0o755),
        ("media", 0o755),
        ("opt", 0o755),
        ("srv", 0o755),
    ] {
        tree.make_directory(path, mode);
    }
    // Every container gets its own.
    tree.make("etc/machine-id", 0o444, 0, Vec::new());
    tree.make("etc/environment", 0o644, 0, Vec::new());
    tree.remove("etc/hostname");
    tree.remove("etc/hosts");
    tree.remove("etc/resolv.conf");
    tree.make("etc/fstab", 0o644, 0, Vec::new());
}

/// Files that postinst scripts copy or render from the packages' share directories.
fn templates(tree: &mut Tree) -> Result<(), BaseError> {
    for (template, path) in [
        ("usr/share/base-files/profile", "etc/profile"),
        ("usr/share/base-files/motd", "etc/motd"),
        ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
        ("usr/share/base-files/dot.profile", "root/.profile"),
        ("usr/share/base-files/nsswitch.conf", "etc/nsswitch.conf"),
        ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ] {
        let text = read_optional(&tree.root().join(template))?;
        if tree.contains(&format!("/{template}")) && !text.is_empty() {
            tree.make(path, 0o644, 0, text.into_bytes());
        }
    }
    // PAM's stacks without any profile but pam_unix, as pam-auth-update makes them on a fresh system.
    for (name, primary, additional) in [
        ("auth", "auth\t[success=1 default=ignore]\tpam_unix.so nullok", ""),
        ("account", "account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so", ""),
        ("password", "password\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt", ""),
        ("session", "session\t[default=1]\tpam_permit.so", "session\trequired\tpam_unix.so"),
        ("session-noninteractive", "session\t[default=1]\tpam_permit.so", "session\trequired\tpam_unix.so"),
    ] {
        let template = format!("usr/share/pam/common-{name}");
        let text = read_optional(&tree.root().join(&template))?;
        if !tree.contains(&format!("/{template}")) || text.is_empty() {
            continue;
        }
        let render = |line: &str| match line.trim() {
            line if line.starts_with('$') && line.ends_with("_primary") => primary.to_owned(),
            line if line.starts_with('$') && line.ends_with("_additional") => additional.to_owned(),
            _ => line.to_owned(),
        };
        let text: String = text.lines().map(|line| render(line) + "\n").collect();
        tree.make(&format!("etc/pam.d/common-{name}"), 0o644, 0, text.into_bytes());
    }
    let shells = [
        "/bin/sh",
        "/usr/bin/sh",
        "/bin/bash",
        "/usr/bin/bash",
        "/bin/rbash",
        "/usr/bin/rbash",
        "/bin/dash",
        "/usr/bin/dash",
    ];
    let known: Vec<&str> = shells.into_iter().filter(|shell| tree.contains(shell)).collect();
    tree.make(
        "etc/shells",
        0o644,
        0,
        format!("# /etc/shells: valid login shells\n{}\n", known.join("\n")).into_bytes(),
    );
    if tree.contains("/usr/share/zoneinfo/Etc/UTC") {
        tree.make_link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC")?;
        tree.make("etc/timezone", 0o644, 0, b"Etc/UTC\n".to_vec());
    }
    Ok(())
}

/// The certificate bundle is generated from the packages' certificates; certificates are public.
fn certificates(tree: &mut Tree, selected: &BTreeSet<String>) -> Result<(), BaseError> {
    if !selected.contains("ca-certificates") {
        return Ok(());
    }
    tree.take_same("/etc/ca-certificates.conf")?;
    tree.take_same("/etc/ssl/certs/ca-certificates.crt")?;
    let directory = tree.root().join("etc/ssl/certs");
    let mut pending: Vec<(String, String)> = Vec::new();
    for name in names_in(&directory)? {
        if let Ok(target) = fs::read_link(directory.join(&name)) {
            let target = target.to_string_lossy().into_owned();
            let target = if target.starts_with('/') { target } else { format!("/etc/ssl/certs/{target}") };
            pending.push((format!("/etc/ssl/certs/{name}"), target));
        }
    }
    // Names link to the packages' files, hashes link to names.
    for _ in 0..2 {
        for (path, target) in &pending {
            if tree.contains(target) {
                tree.take_same(path)?;
            }
        }
    }
    Ok(())
}

/// Sources, keys and the settings without which this host's sources can't be used.
fn apt(tree: &mut Tree, database: &Database, selected: &BTreeSet<String>) -> Result<(), BaseError> {
    if !selected.contains("apt") {
        return Ok(());
    }
    let foreign: HashSet<&str> = database
        .packages()
        .filter(|package| !selected.contains(&package.name))
        .flat_map(|package| package.conffiles.iter().map(|(path, _)| path.as_str()))
        .collect();
    let root = tree.root().to_owned();
    let listed = |directory: &str, extensions: &[&str]| -> Result<Vec<String>, BaseError> {
        let names = names_in(&root.join(directory.trim_start_matches('/')))?;
        let fits = |name: &String| {
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
            extensions.is_empty() || extensions.contains(&extension)
        };
        Ok(names.into_iter().filter(fits).map(|name| format!("{directory}/{name}")).collect())
    };
    let mut paths = vec!["/etc/apt/sources.list".to_owned(), "/etc/apt/apt.conf".to_owned()];
    paths.extend(listed("/etc/apt/sources.list.d", &["list", "sources"])?);
    paths.extend(listed("/etc/apt/apt.conf.d", &[])?);
    paths.retain(|path| !foreign.contains(path.as_str()));
    let mut keys = vec!["/etc/apt/trusted.gpg".to_owned()];
    keys.extend(listed("/etc/apt/trusted.gpg.d", &["gpg", "asc"])?);
    keys.extend(listed("/etc/apt/keyrings", &["gpg", "asc"])?);
    for path in paths {
        let text = read_optional(&root.join(path.trim_start_matches('/')))?;
        if text.is_empty() || holds_secret(&text) {
            continue;
        }
        keys.extend(signed_by(&text));
        tree.take_same(&path)?;
    }
    for key in keys {
        tree.take_same(&key)?;
    }
    for (directory, mode) in [("etc/apt/preferences.d", 0o755), ("etc/apt/auth.conf.d", 0o755)] {
        tree.make_directory(directory, mode);
    }
    Ok(())
}

/// Whether a text has a URL with a user in it, or a password setting.
fn holds_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let in_url = lower.split("://").skip(1).any(|rest| {
        let end = rest.find(|letter: char| letter.is_whitespace() || "/\"'#;".contains(letter));
        rest[..end.unwrap_or(rest.len())].contains('@')
    });
    in_url || ["password", "sslkey", "login "].iter().any(|word| lower.contains(word))
}

/// Key files that sources name: `Signed-By: /path` and `[signed-by=/path]`.
fn signed_by(text: &str) -> Vec<String> {
    let lower = text.to_ascii_lowercase();
    let mut keys = Vec::new();
    for (at, found) in lower.match_indices("signed-by") {
        let rest = text[at + found.len()..].trim_start_matches([':', '=', ' ']);
        let end = rest.find(|letter: char| letter.is_whitespace() || letter == ']').unwrap_or(rest.len());
        keys.extend(rest[..end].split(',').filter(|path| path.starts_with('/')).map(str::to_owned));
    }
    keys
}

/// The alternatives that have candidates in the image.
fn links(tree: &mut Tree) -> Result<(), BaseError> {
    let directory = tree.root().join("var/lib/dpkg/alternatives");
    tree.make_directory("etc/alternatives", 0o755);
    tree.make_directory("var/lib/dpkg/alternatives", 0o755);
    for name in names_in(&directory)? {
        let text = read_optional(&directory.join(&name))?;
        let mut present = BTreeSet::new();
        for path in text.lines().filter(|line| line.starts_with('/')) {
            if tree.contains(path) {
                present.insert(path.to_owned());
            }
        }
        let Some(group) = alternatives::reduce(&name, &text, |path| present.contains(path)) else { continue };
        for (link, target) in &group.links {
            tree.make_link(link, target)?;
        }
        tree.make(&format!("var/lib/dpkg/alternatives/{name}"), 0o644, 0, group.text.into_bytes());
    }
    Ok(())
}

/// The database as it would be with only the selected packages installed.
fn package_database(
    tree: &mut Tree,
    database: &Database,
    selected: &BTreeSet<String>,
) -> Result<(), BaseError> {
    let root = tree.root().to_owned();
    let info = root.join("var/lib/dpkg/info");
    let mut status = String::new();
    let mut prefixes = BTreeSet::new();
    for package in database.packages().filter(|package| selected.contains(&package.name)) {
        status.push_str(&package.stanza);
        status.push_str("\n\n");
        prefixes.insert(package.name.clone());
        prefixes.insert(format!("{}:{}", package.name, package.architecture));
    }
    tree.make("var/lib/dpkg/status", 0o644, 0, status.into_bytes());
    tree.make("var/lib/dpkg/available", 0o644, 0, Vec::new());
    for name in names_in(&info)? {
        let owner = name.rsplit_once('.').map_or(name.as_str(), |(owner, _)| owner);
        if prefixes.contains(owner) || name == "format" {
            tree.take_same(&format!("/var/lib/dpkg/info/{name}"))?;
        }
    }
    for directory in ["var/lib/dpkg/updates", "var/lib/dpkg/parts", "var/lib/dpkg/triggers"] {
        tree.make_directory(directory, 0o755);
    }
    for name in names_in(&root.join("var/lib/dpkg/triggers"))? {
        if matches!(name.as_str(), "Lock" | "Unincorp") {
            continue;
        }
        let text = read_optional(&root.join("var/lib/dpkg/triggers").join(&name))?;
        let interested = |line: &&str| {
            let package = line.rsplit(' ').next().unwrap_or_default();
            let package = package.split(['/', ':']).next().unwrap_or_default();
            selected.contains(package)
        };
        let kept: String = text.lines().filter(interested).map(|line| format!("{line}\n")).collect();
        if !kept.is_empty() || name == "File" {
            tree.make(&format!("var/lib/dpkg/triggers/{name}"), 0o644, 0, kept.into_bytes());
        }
    }
    let kept: String = database
        .diversions()?
        .iter()
        .filter(|(_, (_, by))| selected.contains(by))
        .map(|(from, (to, by))| format!("{from}\n{to}\n{by}\n"))
        .collect();
    tree.make("var/lib/dpkg/diversions", 0o644, 0, kept.into_bytes());
    let overrides = read_optional(&root.join("var/lib/dpkg/statoverride"))?;
    let mut kept = String::new();
    for line in overrides.lines() {
        if line.rsplit(' ').next().is_some_and(|path| tree.contains(path)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    tree.make("var/lib/dpkg/statoverride", 0o644, 0, kept.into_bytes());
    Ok(())
}

/// Accounts of base-passwd, apt's own, and system accounts that own a file. Nobody has a password.
fn accounts(tree: &mut Tree) -> Result<(), BaseError> {
    let root = tree.root().to_owned();
    let (uids, gids) = tree.owners();
    let users = account_lines(&root, "passwd", |name, uid| name == "_apt" || uids.contains(&uid))?;
    let user_groups: BTreeSet<u32> =
        users.values().filter_map(|line| line.split(':').nth(3)?.parse().ok()).collect();
    let groups = account_lines(&root, "group", |_, gid| gids.contains(&gid) || user_groups.contains(&gid))?;
    let (mut passwd, mut shadow, mut group, mut gshadow) = Default::default();
    let append = |text: &mut String, line: String| text.push_str(&line);
    for line in users.values() {
        let fields: Vec<&str> = line.split(':').collect();
        append(&mut passwd, format!("{}:x:{}\n", fields[0], fields[2..].join(":")));
        // Day 1 is as good as any: 0 would ask for a new password at the first login.
        append(&mut shadow, format!("{}:*:1:0:99999:7:::\n", fields[0]));
    }
    for line in groups.values() {
        let fields: Vec<&str> = line.split(':').collect();
        append(&mut group, format!("{}:x:{}:\n", fields[0], fields[2]));
        append(&mut gshadow, format!("{}:*::\n", fields[0]));
    }
    for (path, mode, gid, text) in [
        ("etc/passwd", 0o644, 0, passwd),
        ("etc/group", 0o644, 0, group),
        ("etc/shadow", 0o640, SHADOW_GID, shadow),
        ("etc/gshadow", 0o640, SHADOW_GID, gshadow),
    ] {
        tree.make(path, mode, gid, String::into_bytes(text));
    }
    for path in ["etc/subuid", "etc/subgid"] {
        tree.make(path, 0o644, 0, Vec::new());
    }
    Ok(())
}

/// base-passwd's accounts and those of the host's that are wanted, by number.
fn account_lines(
    root: &Path,
    kind: &str,
    wanted: impl Fn(&str, u32) -> bool,
) -> Result<BTreeMap<u32, String>, BaseError> {
    let master = read_optional(&root.join(format!("usr/share/base-passwd/{kind}.master")))?;
    let host = read_optional(&root.join(format!("etc/{kind}")))?;
    let number = |line: &str| line.split(':').nth(2)?.parse::<u32>().ok();
    let mut lines = BTreeMap::new();
    for line in master.lines() {
        if let Some(id) = number(line) {
            lines.insert(id, line.to_owned());
        }
    }
    for line in host.lines() {
        let name = line.split(':').next().unwrap_or_default();
        if let Some(id) = number(line).filter(|id| *id < UID_FIRST_HUMAN)
            && wanted(name, id)
        {
            lines.entry(id).or_insert_with(|| line.to_owned());
        }
    }
    Ok(lines)
}

/// The names in a directory, sorted; none if there is no such directory.
fn names_in(directory: &Path) -> Result<Vec<String>, BaseError> {
    let error = |source| BaseError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(error)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(error)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_secrets_and_keys() {
        assert!(holds_secret("deb https://me:pw@host/debian stable main"));
        assert!(holds_secret("Acquire::https::SslKey \"/etc/x\";"));
        assert!(!holds_secret("URIs: http://deb.debian.org/debian\nX: a@b"));
        let keys = signed_by("deb [arch=amd64 signed-by=/a/b.gpg] http://x y z\nSigned-By: /c.asc\n");
        assert_eq!(keys, ["/a/b.gpg", "/c.asc"]);
    }
}
