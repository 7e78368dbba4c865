//! Uploads under way. How far each has come is for the storage to say.

use rusqlite::{Connection, params};

use super::{Catalogue, Result, Step, now};
use crate::server::digest::Algorithm;
use crate::server::name::UploadId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    pub id: UploadId,
    pub repository: String,
    pub algorithm: Algorithm,
    pub started_at: i64,
}

impl Catalogue {
    /// Notes an upload. A power failure may take it back; the client begins anew then.
    pub async fn add_upload(&self, id: UploadId, repository: String, algorithm: Algorithm) -> Result<()> {
        self.note(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO uploads (id, repository, algorithm, started_at) VALUES (?1, ?2, ?3, ?4)",
                )
                .and_then(|mut add| add.execute(params![id.to_string(), repository, algorithm.name(), now()]))
                .map(drop)
                .step("add an upload")
        })
        .await
    }

    pub async fn forget_upload(&self, id: UploadId) -> Result<()> {
        self.remove(move |connection| forget(connection, id)).await
    }

    pub async fn uploads(&self) -> Result<Vec<UploadRow>> {
        self.read(|connection| {
            let step = "list uploads";
            let mut statement =
                connection.prepare("SELECT id, repository, algorithm, started_at FROM uploads").step(step)?;
            let rows = statement
                .query_map([], |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?))
                })
                .step(step)?;
            let mut uploads = Vec::new();
            for row in rows {
                let (id, repository, algorithm, started_at) = row.step(step)?;
                // What nobody can have written is nothing that anybody could go on with.
                if let (Ok(id), Ok(algorithm)) = (id.parse(), algorithm.parse()) {
                    uploads.push(UploadRow { id, repository, algorithm, started_at });
                }
            }
            Ok(uploads)
        })
        .await
    }
}

pub(super) fn forget(connection: &Connection, id: UploadId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM uploads WHERE id = ?1")
        .and_then(|mut statement| statement.execute([id.to_string()]))
        .map(drop)
        .step("forget an upload")
}
