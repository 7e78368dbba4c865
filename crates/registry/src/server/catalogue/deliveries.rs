//! What webhooks are still to be told. It is entered with the change that it is about, and so is there exactly if that is.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Catalogue, Result, Step, now};
use crate::server::webhooks::Notice;

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: i64,
    pub body: String,
}

impl Catalogue {
    /// The oldest that waits for a hook.
    pub async fn next_delivery(&self, hook: String) -> Result<Option<Delivery>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT id, body FROM deliveries WHERE hook = ?1 ORDER BY id LIMIT 1")
                .and_then(|mut query| {
                    let row = |row: &rusqlite::Row<'_>| Ok(Delivery { id: row.get(0)?, body: row.get(1)? });
                    query.query_row([hook], row).optional()
                })
                .step("look for what a webhook is to be told")
        })
        .await
    }

    /// Forgets one that was told, what was made before `oldest`, and all but the newest so many. How many were not told.
    pub async fn settle_deliveries(
        &self,
        hook: String,
        done: Option<i64>,
        count_max: u64,
        oldest: i64,
    ) -> Result<u64> {
        self.remove(move |connection| {
            let step = "forget what a webhook was told";
            if let Some(id) = done {
                connection
                    .prepare_cached("DELETE FROM deliveries WHERE id = ?1")
                    .and_then(|mut delete| delete.execute([id]))
                    .step(step)?;
            }
            let dropped = connection
                .prepare_cached(
                    "DELETE FROM deliveries WHERE hook = ?1 AND (made_at < ?2 OR id <=
                        (SELECT id FROM deliveries WHERE hook = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?3))",
                )
                .and_then(|mut delete| {
                    delete.execute(params![hook, oldest, i64::try_from(count_max).unwrap_or(i64::MAX)])
                })
                .step(step)?;
            Ok(dropped as u64)
        })
        .await
    }

    /// Forgets what waits for other hooks than these. How many that were.
    pub async fn keep_deliveries_of(&self, hooks: Vec<String>) -> Result<u64> {
        let hooks = serde_json::to_string(&hooks).unwrap_or_default();
        let others = "hook NOT IN (SELECT value FROM json_each(?1))";
        let question = hooks.clone();
        let any = self.read(move |connection| {
            connection
                .prepare(&format!("SELECT EXISTS (SELECT 1 FROM deliveries WHERE {others})"))
                .and_then(|mut query| query.query_row([question], |row| row.get::<_, bool>(0)))
                .step("look for what nobody is to be told")
        });
        if !any.await? {
            return Ok(0);
        }
        self.remove(move |connection| {
            connection
                .prepare(&format!("DELETE FROM deliveries WHERE {others}"))
                .and_then(|mut delete| delete.execute([&hooks]))
                .map(|count| count as u64)
                .step("forget what nobody is to be told")
        })
        .await
    }

    /// Enters what is to be told of something that changes nothing here.
    pub async fn tell(&self, notices: Vec<Notice>) -> Result<()> {
        self.note(move |connection| enter(connection, &notices)).await
    }

    /// How many deliveries wait.
    pub async fn deliveries(&self) -> Result<u64> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT count(*) FROM deliveries")
                .and_then(|mut query| query.query_row([], |row| row.get::<_, i64>(0)))
                .map(|count| count as u64)
                .step("count what webhooks are to be told")
        })
        .await
    }
}

/// Enters what is to be told of a change, in the change's transaction.
pub(super) fn enter(connection: &Connection, notices: &[Notice]) -> Result<()> {
    for Notice { hook, body } in notices {
        connection
            .prepare_cached("INSERT INTO deliveries (hook, body, made_at) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![hook, body, now()]))
            .step("enter what a webhook is to be told")?;
    }
    Ok(())
}
