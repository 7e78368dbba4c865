//! Java's archives: what Maven has put into one (`META-INF/maven/GROUP/ARTIFACT/pom.properties`), else what its manifest says (JAR file
//! specification, "JAR Manifest"), else how the file is called; and the archives in it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use zip::ZipArchive;

use crate::package::{Draft, Origin, clean};
use crate::{NOTES_MAX, Source, draft};

/// Archives within archives: an EAR has WARs, and these have JARs.
const DEPTH_MAX: usize = 4;
/// Of what is read to know the names in an archive: as an entry takes 46 bytes at least, no more than some hundred thousand.
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;
const DOCUMENT_BYTES_MAX: u64 = 1 << 20;
/// Of one archive in another, and of all that is unpacked of a file.
const ARCHIVE_BYTES_MAX: u64 = 64 << 20;
const UNPACKED_BYTES_MAX: u64 = 512 << 20;

pub fn is_archive(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    matches!(extension.as_deref(), Some("jar" | "war" | "ear"))
}

/// What was found in a file.
#[derive(Default)]
pub struct Found {
    /// Each with its place in the file: nothing, or `!/WEB-INF/lib/a.jar`.
    pub packages: Vec<Draft>,
    /// What could not be read, by its place, and why.
    pub unread: Vec<(String, String)>,
}

/// Stops behind `packages_max`: there is one more then.
pub fn packages(path: &str, source: &mut dyn Source, packages_max: usize) -> Found {
    let mut search = Search { found: Found::default(), bytes_left: UNPACKED_BYTES_MAX, packages_max };
    search.archive(path, source, "", 0);
    search.found
}

struct Search {
    found: Found,
    bytes_left: u64,
    packages_max: usize,
}

impl Search {
    /// `name` is the archive's own.
    fn archive(&mut self, name: &str, source: &mut dyn Source, place: &str, depth: usize) {
        if let Err(why) = self.entries(name, source, place, depth) {
            self.unread(place, why);
        }
    }

    fn unread(&mut self, place: &str, why: String) {
        if self.found.unread.len() < NOTES_MAX {
            self.found.unread.push((place.to_owned(), why));
        }
    }

    fn entries(
        &mut self,
        name: &str,
        source: &mut dyn Source,
        place: &str,
        depth: usize,
    ) -> Result<(), String> {
        let left = Cell::new(DIRECTORY_BYTES_MAX);
        let bounded = Bounded { source, left: &left };
        let mut archive = ZipArchive::new(bounded).map_err(|error| error.to_string())?;
        left.set(u64::MAX);
        let (mut manifest, mut projects) = (BTreeMap::new(), Vec::new());
        for index in 0..archive.len() {
            if self.found.packages.len() + projects.len() > self.packages_max {
                break;
            }
            let Some(Ok(entry)) = archive.name_for_index(index) else { continue };
            let entry = entry.into_owned();
            let within = format!("{place}!/{entry}");
            let is_project = entry.starts_with("META-INF/maven/") && entry.ends_with("/pom.properties");
            if entry == "META-INF/MANIFEST.MF" {
                manifest = fields(&unfolded(&self.document(&mut archive, index, &within)), ':');
            } else if is_project {
                projects.extend(project(&fields(&self.document(&mut archive, index, &within), '=')));
            } else if is_archive(&entry) && depth == DEPTH_MAX {
                self.unread(&within, "it is too deep within others".to_owned());
            } else if is_archive(&entry) {
                match self.unpacked(&mut archive, index, ARCHIVE_BYTES_MAX) {
                    Ok(bytes) => self.archive(&entry, &mut Cursor::new(bytes), &within, depth + 1),
                    Err(why) => self.unread(&within, why),
                }
            }
        }
        let told = |key: &str| manifest.get(key).cloned().unwrap_or_default();
        let either =
            |one: &str, other: &str| Some(told(one)).filter(|text| !text.is_empty()).unwrap_or(told(other));
        if projects.is_empty() {
            projects.extend(by_manifest(&told).or_else(|| by_name(name)));
        }
        // What is said of the whole is said of what it is, if that is one thing.
        if let [only] = &mut projects[..] {
            only.licence = told("Bundle-License");
            only.supplier = either("Implementation-Vendor", "Bundle-Vendor");
        }
        let here = |project| Draft { found_at: clean(place), ..project };
        let room = (self.packages_max + 1).saturating_sub(self.found.packages.len());
        self.found.packages.extend(projects.into_iter().take(room).map(here));
        Ok(())
    }

    /// A text; none where it can't be read.
    fn document<R: Read + Seek>(&mut self, archive: &mut ZipArchive<R>, index: usize, place: &str) -> String {
        match self.unpacked(archive, index, DOCUMENT_BYTES_MAX) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(why) => {
                self.unread(place, why);
                String::new()
            }
        }
    }

    fn unpacked<R: Read + Seek>(
        &mut self,
        archive: &mut ZipArchive<R>,
        index: usize,
        bytes_max: u64,
    ) -> Result<Vec<u8>, String> {
        let bytes_max = bytes_max.min(self.bytes_left);
        let file = archive.by_index(index).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
        read.map_err(|error| error.to_string())?;
        match bytes.len() as u64 > bytes_max {
            true => Err(format!("it has more than {bytes_max} bytes")),
            false => Ok(bytes),
        }
    }
}

/// Long lines of a manifest go on behind a blank.
fn unfolded(text: &str) -> String {
    text.replace("\r\n", "\n").replace("\n ", "")
}

/// The lines of a text until the first empty one, as names and values.
fn fields(text: &str, separator: char) -> BTreeMap<String, String> {
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(separator));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// What Maven says of what it has built.
fn project(fields: &BTreeMap<String, String>) -> Option<Draft> {
    let field = |name| fields.get(name).filter(|value| !value.is_empty() && !value.contains('/'));
    let name = format!("{}/{}", field("groupId")?, field("artifactId")?);
    draft(Origin::Maven, &name, field("version").map_or("", String::as_str))
}

/// A module of OSGi or of Java, or what the manifest calls it; without a group nobody knows it by Maven's names.
fn by_manifest(told: &dyn Fn(&str) -> String) -> Option<Draft> {
    let first = |keys: &[&str]| keys.iter().map(|key| told(key)).find(|value| !value.is_empty());
    let name = first(&["Bundle-SymbolicName", "Automatic-Module-Name", "Implementation-Title"])?;
    let version = first(&["Implementation-Version", "Bundle-Version", "Specification-Version"])?;
    // `a.b;singleton:=true`
    draft(Origin::Jar, name.split(';').next().unwrap_or_default(), &version)
}

/// `a-b-1.2.jar`
fn by_name(path: &str) -> Option<Draft> {
    let name = path.rsplit('/').next()?.rsplit_once('.')?.0;
    let is_version = |at: &usize| name[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    let at = name.match_indices('-').map(|(at, _)| at).find(is_version)?;
    draft(Origin::Jar, &name[..at], &name[at + 1..])
}

/// A source of which so many bytes may be read.
struct Bounded<'s> {
    source: &'s mut dyn Source,
    left: &'s Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 && !buffer.is_empty() {
            return Err(io::Error::other("its directory is too long"));
        }
        let wanted = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.source.read(&mut buffer[..wanted])?;
        self.left.set(self.left.get() - count as u64);
        Ok(count)
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.source.seek(to)
    }
}
