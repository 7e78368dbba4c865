//! dpkg's database: which packages are installed, what they need, which files are theirs.
//! Formats: deb-control(5) stanzas in `status`, one path per line in `info/*.list`, triplets in `diversions`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use super::{BaseError, read, read_optional};

/// An installed package.
#[derive(Clone, Debug)]
pub(super) struct Package {
    pub name: String,
    pub architecture: String,
    /// The stanza as it stands in the status file.
    pub stanza: String,
    essential: bool,
    required: bool,
    depends: Vec<Vec<String>>,
    /// Configuration files and the MD5 sum each was shipped with.
    pub conffiles: Vec<(String, String)>,
}

pub(super) struct Database {
    root: PathBuf,
    packages: BTreeMap<String, Package>,
    /// Virtual package to the installed ones that provide it.
    provided: HashMap<String, Vec<String>>,
}

/// Where a package's file really lies because another package displaced it.
pub(super) type Diversions = BTreeMap<String, (String, String)>;

const SEEDS: [&str; 8] = [
    "apt",
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "debian-archive-keyring",
    "ubuntu-keyring",
    "dpkg",
];

impl Database {
    pub(super) fn read(root: &Path) -> Result<Database, BaseError> {
        let status = read(&root.join("var/lib/dpkg/status"))?;
        let mut packages = BTreeMap::new();
        let mut provided: HashMap<String, Vec<String>> = HashMap::new();
        for stanza in status.split("\n\n").map(str::trim_end).filter(|stanza| !stanza.trim().is_empty()) {
            let fields = fields(stanza);
            let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
            if !field("Status").ends_with(" ok installed") {
                continue;
            }
            let name = field("Package").to_owned();
            for provides in relations(field("Provides")).into_iter().flatten() {
                provided.entry(provides).or_default().push(name.clone());
            }
            let depends = [relations(field("Pre-Depends")), relations(field("Depends"))].concat();
            let package = Package {
                name: name.clone(),
                architecture: field("Architecture").to_owned(),
                stanza: stanza.trim_start_matches('\n').to_owned(),
                essential: field("Essential") == "yes",
                required: field("Priority") == "required",
                depends,
                conffiles: conffiles(field("Conffiles")),
            };
            // Of a package installed for several architectures the machine's own comes last in no order: keep the
            // first unless it is foreign.
            packages.entry(name).or_insert(package);
        }
        Ok(Database { root: root.to_owned(), packages, provided })
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    pub(super) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.get(name)
    }

    /// The essential packages, apt and its trust, the wanted ones, and whatever they depend on.
    pub(super) fn select(&self, wanted: &[String]) -> Result<BTreeSet<String>, BaseError> {
        if let Some(absent) = wanted.iter().find(|name| !self.packages.contains_key(name.as_str())) {
            return Err(BaseError::NotInstalled(absent.clone()));
        }
        let basic = self.packages.values().filter(|package| package.essential || package.required);
        let mut queue: VecDeque<String> = basic.map(|package| package.name.clone()).collect();
        queue.extend(
            SEEDS.iter().map(|name| (*name).to_owned()).filter(|name| self.packages.contains_key(name)),
        );
        queue.extend(wanted.iter().cloned());
        let mut selected = BTreeSet::new();
        while let Some(name) = queue.pop_front() {
            let Some(package) = self.packages.get(&name) else { continue };
            if selected.insert(name) {
                queue.extend(package.depends.iter().filter_map(|choice| self.satisfy(choice, &selected)));
            }
        }
        Ok(selected)
    }

    /// Of `a | b`, what is in already, else the first that is installed or provided.
    fn satisfy(&self, choice: &[String], selected: &BTreeSet<String>) -> Option<String> {
        let real = |name: &String| -> Vec<String> {
            let provided = self.provided.get(name).into_iter().flatten();
            let own = self.packages.contains_key(name).then_some(name);
            own.into_iter().chain(provided).cloned().collect()
        };
        let candidates: Vec<String> = choice.iter().flat_map(real).collect();
        candidates.iter().find(|name| selected.contains(*name)).or_else(|| candidates.first()).cloned()
    }

    /// A file of the database that belongs to a package: `libc6:amd64.list` where several architectures can be
    /// installed side by side, `bash.list` elsewhere.
    pub(super) fn info(&self, package: &Package, suffix: &str) -> Option<PathBuf> {
        let directory = self.root.join("var/lib/dpkg/info");
        let qualified = directory.join(format!("{}:{}.{suffix}", package.name, package.architecture));
        let plain = directory.join(format!("{}.{suffix}", package.name));
        [qualified, plain].into_iter().find(|path| path.exists())
    }

    /// The paths of a package, absolute, as it ships them.
    pub(super) fn files(&self, package: &Package) -> Result<Vec<String>, BaseError> {
        let list = self.info(package, "list").ok_or_else(|| BaseError::NoFileList(package.name.clone()))?;
        Ok(read(&list)?.lines().filter(|line| line.starts_with('/')).map(str::to_owned).collect())
    }

    /// Displaced path to its new place and the package that displaces it.
    pub(super) fn diversions(&self) -> Result<Diversions, BaseError> {
        let text = read_optional(&self.root.join("var/lib/dpkg/diversions"))?;
        let lines: Vec<&str> = text.lines().collect();
        let triplet = |lines: &[&str]| (lines[0].to_owned(), (lines[1].to_owned(), lines[2].to_owned()));
        Ok(lines.chunks_exact(3).map(triplet).collect())
    }
}

/// The fields of a stanza; continuation lines keep their line breaks.
fn fields(stanza: &str) -> HashMap<String, String> {
    let mut fields: HashMap<String, String> = HashMap::new();
    let mut last = String::new();
    for line in stanza.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(&last) {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.to_owned();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    fields
}

/// `a (>= 1) | b:any, c` as names: one list of choices per comma.
fn relations(text: &str) -> Vec<Vec<String>> {
    let name = |relation: &str| {
        let name = relation.split([' ', '(', '\n']).find(|part| !part.is_empty())?;
        Some(name.split(':').next().unwrap_or(name).to_owned())
    };
    let choices = |choice: &str| choice.split('|').filter_map(name).collect::<Vec<_>>();
    text.split(',').map(choices).filter(|choices| !choices.is_empty()).collect()
}

fn conffiles(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (path, rest) = line.trim().split_once(' ')?;
        // "obsolete" and "remove-on-upgrade" may follow the sum.
        Some((path.to_owned(), rest.split(' ').next()?.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_relations_and_conffiles() {
        assert_eq!(
            relations("libc6 (>= 2.34), awk | mawk (>> 1), perl:any"),
            [vec!["libc6"], vec!["awk", "mawk"], vec!["perl"]]
        );
        assert!(relations("").is_empty());
        let fields = fields("Package: x\nConffiles:\n /etc/a 00\n /etc/b 11 obsolete\nDescription: y");
        assert_eq!(
            conffiles(&fields["Conffiles"]),
            [("/etc/a".to_owned(), "00".to_owned()), ("/etc/b".to_owned(), "11".to_owned())]
        );
        assert_eq!(fields["Description"], "y");
    }
}
