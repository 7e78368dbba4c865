//! The writes of the image database: each runs inside a transaction of [`super::Database::change`].

use rusqlite::{Transaction, params};

use super::{
    CompressedRow, DatabaseError, Garbage, LayerRow, NameRow, NewImage, SnapshotRow, Step, StepRow, digest,
};
use crate::digest::{Digest, ImageId};

/// The changes that can be made, within one transaction.
pub struct Change<'a> {
    transaction: &'a Transaction<'a>,
}

impl<'a> Change<'a> {
    pub(super) fn within(transaction: &'a Transaction<'a>) -> Change<'a> {
        Change { transaction }
    }

    fn execute(
        &self,
        step: &'static str,
        statement: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<usize, DatabaseError> {
        self.transaction.prepare_cached(statement).step(step)?.execute(parameters).step(step)
    }

    /// Adds an image with all its content, or what of it is new; gives it its names.
    pub fn add_image(&self, new: &NewImage) -> Result<(), DatabaseError> {
        let image = new.image.id.to_string();
        let parent = new.image.parent.map(|parent| parent.to_string());
        let made_as = new.image.made_as.map(|index| index.to_string());
        self.execute(
            "add an image",
            "INSERT INTO images (id, manifest, parent, stored_at, made_as) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET made_as = coalesce(excluded.made_as, made_as)",
            params![image, new.image.manifest.to_string(), parent, new.image.stored_at, made_as],
        )?;
        for document in &new.documents {
            let digest = document.digest.to_string();
            self.execute(
                "add a document",
                "INSERT INTO documents (digest, media_type, bytes) VALUES (?1, ?2, ?3)
                 ON CONFLICT (digest) DO NOTHING",
                params![digest, document.media_type, document.bytes],
            )?;
            self.add_content(&image, &digest)?;
        }
        new.layers.iter().try_for_each(|layer| self.add_layer(layer))?;
        for blob in &new.blobs {
            let digest = blob.digest.to_string();
            self.execute(
                "add a blob",
                "INSERT INTO blobs (digest, media_type, size, diff_id, stored) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (digest) DO UPDATE SET diff_id = coalesce(diff_id, excluded.diff_id)",
                params![
                    digest,
                    blob.media_type,
                    blob.size,
                    blob.diff_id.map(|id| id.to_string()),
                    blob.stored
                ],
            )?;
            self.add_content(&image, &digest)?;
        }
        for (position, (diff_id, blob)) in new.stack.iter().enumerate() {
            self.execute(
                "stack a layer",
                "INSERT INTO image_layers (image, position, diff_id, blob) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (image, position) DO NOTHING",
                params![image, position as i64, diff_id.to_string(), blob.to_string()],
            )?;
        }
        new.names.iter().try_for_each(|name| self.set_name(name))
    }

    fn add_layer(&self, layer: &LayerRow) -> Result<(), DatabaseError> {
        self.execute(
            "add a layer",
            "INSERT INTO layers (diff_id, tar_bytes, unpacked_bytes, disk_bytes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (diff_id) DO NOTHING",
            params![layer.diff_id.to_string(), layer.tar_bytes, layer.unpacked_bytes, layer.disk_bytes],
        )?;
        Ok(())
    }

    /// Remembers what a step has made; its layer lives as long as that. What was made again takes the place of what was there.
    pub fn add_step(&self, step: &StepRow) -> Result<(), DatabaseError> {
        step.layer.iter().try_for_each(|layer| self.add_layer(layer))?;
        self.execute(
            "remember a step",
            "INSERT INTO steps (key, diff_id, description, created_at, used_at, uses) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (key) DO UPDATE SET diff_id = excluded.diff_id, created_at = excluded.created_at,
                 used_at = excluded.used_at, uses = uses + 1",
            params![
                step.key.to_string(),
                step.layer.map(|layer| layer.diff_id.to_string()),
                step.description,
                step.created_at,
                step.used_at,
                step.uses
            ],
        )?;
        Ok(())
    }

    pub fn use_step(&self, key: &Digest, now: i64) -> Result<(), DatabaseError> {
        self.execute(
            "note the use of a step",
            "UPDATE steps SET used_at = ?2, uses = uses + 1 WHERE key = ?1",
            params![key.to_string(), now],
        )?;
        Ok(())
    }

    /// Forgets a step, unless somebody holds its layer; [`Change::collect`] then finds the layer, unless something else has it. Tells
    /// whether it was there and is gone.
    pub fn remove_step(&self, key: &Digest) -> Result<bool, DatabaseError> {
        let removed = self.execute(
            "forget a step",
            "DELETE FROM steps WHERE key = ?1
             AND NOT EXISTS (SELECT 1 FROM held WHERE digest = steps.diff_id)",
            [key.to_string()],
        )?;
        Ok(removed > 0)
    }

    /// Forgets the steps that made a layer.
    pub fn remove_steps_of(&self, layer: &Digest) -> Result<(), DatabaseError> {
        self.execute(
            "forget the steps of a layer",
            "DELETE FROM steps WHERE diff_id = ?1",
            [layer.to_string()],
        )?;
        Ok(())
    }

    /// Keeps content from being collected, whoever owns it no more, until [`Change::release`] or the engine's end.
    pub fn hold(&self, holder: u64, content: &Digest) -> Result<(), DatabaseError> {
        self.execute(
            "hold content",
            "INSERT INTO held (holder, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![holder, content.to_string()],
        )?;
        Ok(())
    }

    /// Lets go of all that a holder has; tells whether some of it has no owner by now.
    pub fn release(&self, holder: u64) -> Result<bool, DatabaseError> {
        let step = "let go of content";
        let is_orphaned = self
            .transaction
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM held WHERE holder = ?1
                 AND NOT EXISTS (SELECT 1 FROM image_layers WHERE diff_id = held.digest)
                 AND NOT EXISTS (SELECT 1 FROM image_content WHERE digest = held.digest)
                 AND NOT EXISTS (SELECT 1 FROM steps WHERE diff_id = held.digest))",
            )
            .step(step)?
            .query_row([holder], |row| row.get(0))
            .step(step)?;
        self.execute(step, "DELETE FROM held WHERE holder = ?1", [holder])?;
        Ok(is_orphaned)
    }

    fn add_content(&self, image: &str, digest: &str) -> Result<(), DatabaseError> {
        self.execute(
            "own content",
            "INSERT INTO image_content (image, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![image, digest],
        )?;
        Ok(())
    }

    /// Gives a name to an image; takes it from the one that had it.
    pub fn set_name(&self, name: &NameRow) -> Result<(), DatabaseError> {
        self.execute(
            "set a name",
            "INSERT INTO names (name, image, target, tagged_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET image = excluded.image, target = excluded.target,
                 tagged_at = excluded.tagged_at",
            params![name.name, name.image.to_string(), name.target.to_string(), name.tagged_at],
        )?;
        Ok(())
    }

    pub fn remove_name(&self, name: &str) -> Result<(), DatabaseError> {
        self.execute("remove a name", "DELETE FROM names WHERE name = ?1", [name])?;
        Ok(())
    }

    /// Makes an image that is there another platform's of `owner`: it lives as long as that.
    pub fn add_member(&self, member: &ImageId, owner: &ImageId) -> Result<(), DatabaseError> {
        self.execute(
            "add a platform",
            "INSERT INTO members (member, owner) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![member.to_string(), owner.to_string()],
        )?;
        Ok(())
    }

    /// Gives all that an image has and is known by to one of its members.
    pub fn succeed(&self, old: &ImageId, new: &ImageId) -> Result<(), DatabaseError> {
        let (old, new) = (old.to_string(), new.to_string());
        let step = "give an image to its successor";
        self.execute(step, "DELETE FROM members WHERE owner = ?1 AND member = ?2", params![old, new])?;
        self.execute(step, "UPDATE names SET image = ?2 WHERE image = ?1", params![old, new])?;
        self.execute(step, "UPDATE members SET owner = ?2 WHERE owner = ?1", params![old, new])?;
        self.execute(
            step,
            "INSERT INTO image_content (image, digest) SELECT ?2, digest FROM image_content WHERE image = ?1
             ON CONFLICT DO NOTHING",
            params![old, new],
        )?;
        Ok(())
    }

    /// An image no longer keeps content alive.
    pub fn disown_content(&self, image: &ImageId, content: &Digest) -> Result<(), DatabaseError> {
        self.execute(
            "let content go",
            "DELETE FROM image_content WHERE image = ?1 AND digest = ?2",
            params![image.to_string(), content.to_string()],
        )?;
        Ok(())
    }

    /// Removes an image, its names and its members without names; [`Change::collect`] then finds what nothing uses any more.
    pub fn remove_image(&self, image: &ImageId) -> Result<(), DatabaseError> {
        let image = image.to_string();
        self.execute(
            "remove an image's platforms",
            "DELETE FROM images WHERE id IN (SELECT member FROM members WHERE owner = ?1)
             AND id NOT IN (SELECT image FROM names)
             AND id NOT IN (SELECT member FROM members WHERE owner != ?1)",
            [&image],
        )?;
        self.execute("remove an image", "DELETE FROM images WHERE id = ?1", [&image])?;
        self.execute("forget a parent", "UPDATE images SET parent = NULL WHERE parent = ?1", [&image])?;
        Ok(())
    }

    /// Records a snapshot: from now on it keeps its layers alive, with or without its image.
    pub fn add_snapshot(&self, snapshot: &SnapshotRow) -> Result<(), DatabaseError> {
        let layers: Vec<String> = snapshot.layers.iter().map(|id| format!("\"{id}\"")).collect();
        self.execute(
            "add a snapshot",
            "INSERT INTO snapshots (id, image, layers) VALUES (?1, ?2, ?3)",
            params![snapshot.id, snapshot.image.to_string(), format!("[{}]", layers.join(","))],
        )?;
        Ok(())
    }

    pub fn remove_snapshot(&self, id: &str) -> Result<(), DatabaseError> {
        self.execute("remove a snapshot", "DELETE FROM snapshots WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Records what a layer was when it was compressed, unless it is gone by now.
    pub fn note_compressed(&self, row: &CompressedRow) -> Result<(), DatabaseError> {
        self.execute(
            "note a layer's compressed form",
            "INSERT INTO compressed (diff_id, media_type, digest, size)
             SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM layers WHERE diff_id = ?1)
             ON CONFLICT (diff_id, media_type) DO UPDATE SET digest = excluded.digest, size = excluded.size",
            params![row.diff_id.to_string(), row.media_type, row.digest.to_string(), row.size],
        )?;
        Ok(())
    }

    /// Records that content may not have reached the disk yet.
    pub fn mark_unsynced(&self, content: &Digest, boot: &str) -> Result<(), DatabaseError> {
        self.execute(
            "mark content as unsynced",
            "INSERT INTO unsynced (digest, boot) VALUES (?1, ?2) ON CONFLICT (digest) DO UPDATE SET boot = excluded.boot",
            params![content.to_string(), boot],
        )?;
        Ok(())
    }

    pub fn mark_synced(&self, content: &Digest) -> Result<(), DatabaseError> {
        self.execute(
            "mark content as synced",
            "DELETE FROM unsynced WHERE digest = ?1",
            [content.to_string()],
        )?;
        Ok(())
    }

    /// Deletes the rows that nothing owns and says which files may follow them.
    pub fn collect(&self) -> Result<Garbage, DatabaseError> {
        self.execute(
            "collect documents",
            "DELETE FROM documents WHERE digest NOT IN (SELECT digest FROM image_content)",
            [],
        )?;
        let (blobs, blob_bytes) = self.returning(
            "DELETE FROM blobs WHERE digest NOT IN (SELECT digest FROM image_content)
             AND digest NOT IN (SELECT digest FROM held)
             RETURNING CASE WHEN stored THEN digest END, CASE WHEN stored THEN size ELSE 0 END",
        )?;
        let (layers, layer_bytes) = self.returning(
            "DELETE FROM layers WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)
             AND diff_id NOT IN (SELECT diff_id FROM blobs WHERE diff_id IS NOT NULL AND NOT stored)
             AND diff_id NOT IN (SELECT value FROM snapshots, json_each(snapshots.layers))
             AND diff_id NOT IN (SELECT diff_id FROM steps WHERE diff_id IS NOT NULL)
             AND diff_id NOT IN (SELECT digest FROM held)
             RETURNING diff_id, disk_bytes",
        )?;
        for gone in blobs.iter().chain(&layers) {
            self.mark_synced(gone)?;
        }
        Ok(Garbage { blobs, layers, bytes: blob_bytes + layer_bytes })
    }

    /// Digests, and the sum of the numbers beside them.
    fn returning(&self, statement: &str) -> Result<(Vec<Digest>, u64), DatabaseError> {
        let step = "collect garbage";
        let mut statement = self.transaction.prepare_cached(statement).step(step)?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, u64>(1)?));
        let rows = statement.query_map([], read).step(step)?;
        let (mut digests, mut sum) = (Vec::new(), 0);
        for row in rows {
            let (text, bytes) = row.step(step)?;
            sum += bytes;
            if let Some(text) = text {
                digests.push(digest(&text)?);
            }
        }
        Ok((digests, sum))
    }
}
