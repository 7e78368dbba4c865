//! What people look at: repositories with their sizes and times, and what is found among them; `images` has tags and what they stand
//! for, `shares` who takes how much. Whoever may not see a repository is told nothing of it: each question comes with `sees`.

mod images;
mod shares;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension, Row};

use super::{Catalogue, Result, Step};
pub use images::{ManifestDetails, ManifestSummary, ReferrerSummary, TagOrder, TagSummary, TagsPage};
pub use shares::{RepositoryUsage, Usage};

/// Whether somebody may see the repository of that name.
pub type Sees = Box<dyn Fn(&str) -> bool + Send>;

/// In which order repositories are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepositoryOrder {
    #[default]
    Name,
    Size,
    Tags,
    Pushed,
    Pulled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySummary {
    pub name: String,
    pub bytes: u64,
    pub tags: u64,
    pub pushed_at: Option<i64>,
    pub pulled_at: Option<i64>,
    /// Whether it is an upstream's.
    pub cached: bool,
}

/// Some of the repositories that somebody sees, and how many there are altogether.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoriesPage {
    pub repositories: Vec<RepositorySummary>,
    pub total: u64,
}

/// Tags that cosign (`sha256-HEX.sig`) and clients of registries without referrers (`sha256-HEX`) make.
const COMPANION: &str = "t.name >= 'sha256-' AND t.name < 'sha256.' AND length(t.name) >= 71";

impl Catalogue {
    /// Repositories whose names contain a text, the best matches first, as many as `count` after the first `from`.
    pub async fn browse_repositories(
        &self,
        search: String,
        order: RepositoryOrder,
        (from, count): (usize, usize),
        sees: Sees,
    ) -> Result<RepositoriesPage> {
        self.look(move |connection| {
            let step = "list repositories";
            let by = match order {
                RepositoryOrder::Name => "name",
                RepositoryOrder::Size => "bytes DESC, name",
                RepositoryOrder::Tags => "tag_count DESC, name",
                RepositoryOrder::Pushed => "coalesce(pushed_at, 0) DESC, name",
                RepositoryOrder::Pulled => "coalesce(pulled_at, 0) DESC, name",
            };
            // Names alone: an index has them in order, and only what is shown is looked up.
            let query = match search.is_empty() {
                true => format!("SELECT name, id FROM repositories WHERE ?1 = '' ORDER BY {by}"),
                // The whole name, its beginning, that of a segment, anything else.
                false => format!(
                    "SELECT name, id FROM repositories WHERE instr(name, ?1) > 0 ORDER BY name <> ?1,
                     CASE WHEN instr(name, ?1) = 1 THEN 0 WHEN instr(name, '/' || ?1) > 0 THEN 1 ELSE 2 END, {by}"
                ),
            };
            let view = connection.unchecked_transaction().step(step)?;
            let mut statement = view.prepare_cached(&query).step(step)?;
            let one = format!("SELECT {SUMMARY} FROM repositories WHERE id = ?1");
            let mut one = view.prepare_cached(&one).step(step)?;
            let mut rows = statement.query([&search]).step(step)?;
            let mut page = RepositoriesPage::default();
            while let Some(row) = rows.next().step(step)? {
                let name = row.get_ref(0).and_then(|name| Ok(name.as_str()?)).step(step)?;
                if !sees(name) {
                    continue;
                }
                if page.total >= from as u64 && page.repositories.len() < count {
                    let id: i64 = row.get(1).step(step)?;
                    page.repositories.push(one.query_row([id], summary).step(step)?);
                }
                page.total += 1;
            }
            Ok(page)
        })
        .await
    }

    /// Tags whose names contain a text: repository and tag, the latest first; no more than `count`.
    pub async fn browse_all_tags(
        &self,
        search: String,
        count: usize,
        sees: Sees,
    ) -> Result<Vec<(String, String)>> {
        self.look(move |connection| {
            let step = "search tags";
            let mut statement = connection
                .prepare_cached(&format!(
                    "SELECT t.repository, t.name FROM tags t WHERE instr(t.name, ?1) > 0 AND NOT ({COMPANION})"
                ))
                .step(step)?;
            let mut name_of = connection
                .prepare_cached("SELECT name FROM repositories WHERE id = ?1")
                .step(step)?;
            let mut rows = statement.query([&search]).step(step)?;
            let mut seen: HashMap<i64, Option<String>> = HashMap::new();
            let mut found = Vec::new();
            while let Some(row) = rows.next().step(step)? {
                let repository: i64 = row.get(0).step(step)?;
                let name = match seen.entry(repository) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        let name: String = name_of.query_row([repository], |row| row.get(0)).step(step)?;
                        place.insert(Some(name).filter(|name| sees(name)))
                    }
                };
                if let Some(name) = name {
                    found.push((name.clone(), row.get(1).step(step)?));
                }
                if found.len() >= count {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }
}

const SUMMARY: &str = "name, bytes, tag_count, pushed_at, pulled_at, cached, id";

fn summary(row: &Row<'_>) -> rusqlite::Result<RepositorySummary> {
    Ok(RepositorySummary {
        name: row.get(0)?,
        bytes: row.get::<_, i64>(1)? as u64,
        tags: row.get::<_, i64>(2)? as u64,
        pushed_at: row.get(3)?,
        pulled_at: row.get(4)?,
        cached: row.get(5)?,
    })
}

fn one_summary(connection: &Connection, name: &str) -> Result<Option<(i64, RepositorySummary)>> {
    connection
        .prepare_cached(&format!("SELECT {SUMMARY} FROM repositories WHERE name = ?1"))
        .and_then(|mut query| query.query_row([name], |row| Ok((row.get(6)?, summary(row)?))).optional())
        .step("look at a repository")
}

#[cfg(test)]
mod tests;
