//! A container's files.

use super::query::segment;
use super::{Answer, Body, Client, Error, Hijacked, Host, Query, Request, Response, Result};
use crate::archive::{
    ArchivePutOptions, CommitOptions, CommitResponse, FilesystemChange, PASSING_PROTOCOL, PATH_STAT_HEADER,
    PassedReply, PathStat,
};
use crate::container::ContainerConfig;
use crate::json::List;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName};

/// How an archive of a container's files comes.
pub enum Archive {
    Body(Response),
    /// By [`PASSING_PROTOCOL`].
    Passed(Hijacked),
}

impl Client {
    pub async fn container_stat_path(&self, id: &str, path: &str) -> Result<PathStat> {
        let request = self.request(Method::HEAD, format!("/containers/{}/archive", segment(id)));
        let response = request.query(Query::new().text("path", path)).send().await?;
        path_stat(response.headers())
    }

    /// The body is a tar archive of what the path names.
    pub async fn container_archive(&self, id: &str, path: &str) -> Result<(Response, PathStat)> {
        let request = self.get(format!("/containers/{}/archive", segment(id)));
        let response = request.query(Query::new().text("path", path)).send().await?;
        let stat = path_stat(response.headers())?;
        Ok((response, stat))
    }

    /// The same, with the descriptors of its large files where the server is on this host and passes them.
    pub async fn container_archive_passed(&self, id: &str, path: &str) -> Result<(Archive, PathStat)> {
        if !matches!(self.host(), Host::Unix(_)) {
            let (response, stat) = self.container_archive(id, path).await?;
            return Ok((Archive::Body(response), stat));
        }
        let request = self.get(format!("/containers/{}/archive", segment(id)));
        Ok(match request.query(Query::new().text("path", path)).upgrade(PASSING_PROTOCOL).await? {
            Answer::Switched(hijacked) => {
                let stat = path_stat(&hijacked.headers)?;
                (Archive::Passed(hijacked), stat)
            }
            Answer::Plain(response) => {
                let stat = path_stat(response.headers())?;
                (Archive::Body(response), stat)
            }
        })
    }

    /// Whether the server takes archives by [`PASSING_PROTOCOL`]; known after its first answer.
    pub fn passes_files(&self) -> bool {
        matches!(self.host(), Host::Unix(_)) && self.connections.is_corten()
    }

    /// Unpacks a tar archive in a directory of the container.
    pub async fn container_extract(
        &self,
        id: &str,
        path: &str,
        archive: Body,
        options: ArchivePutOptions,
    ) -> Result<()> {
        let request = self.extraction(id, path, options);
        request.body("application/x-tar", archive).send().await?.finish().await
    }

    /// The same by [`PASSING_PROTOCOL`]: the archive is sent over the socket, on which comes back what [`passed`] reads.
    pub async fn container_extract_passed(
        &self,
        id: &str,
        path: &str,
        options: ArchivePutOptions,
    ) -> Result<Hijacked> {
        self.extraction(id, path, options).hijack_for(PASSING_PROTOCOL).await
    }

    fn extraction(&self, id: &str, path: &str, options: ArchivePutOptions) -> Request<'_> {
        let query = Query::new()
            .text("path", path)
            .flag("noOverwriteDirNonDir", options.no_overwrite_dir_non_dir)
            .flag("copyUIDGID", options.copy_uid_gid);
        self.request(Method::PUT, format!("/containers/{}/archive", segment(id))).query(query)
    }

    pub async fn container_changes(&self, id: &str) -> Result<Vec<FilesystemChange>> {
        let changes: List<FilesystemChange> =
            self.get(format!("/containers/{}/changes", segment(id))).send().await?.json().await?;
        Ok(changes.into_vec())
    }

    /// The body is a tar archive of all files.
    pub async fn container_export(&self, id: &str) -> Result<Response> {
        self.get(format!("/containers/{}/export", segment(id))).send().await
    }

    /// `config` is what the image is to start as; the container's by default.
    pub async fn container_commit(
        &self,
        options: &CommitOptions,
        config: Option<&ContainerConfig>,
    ) -> Result<CommitResponse> {
        let query = Query::new()
            .text("container", &options.container)
            .text("repo", &options.repo)
            .text("tag", &options.tag)
            .text("comment", &options.comment)
            .text("author", &options.author)
            .boolean("pause", options.pause);
        let query = options.changes.iter().fold(query, |query, change| query.text("changes", change));
        self.post("/commit").query(query).json(&config)?.send().await?.json().await
    }
}

/// What the server says in the end of an archive that was passed.
pub fn passed(reply: &[u8]) -> Result<()> {
    let what = || "PUT archive".to_owned();
    let reply: PassedReply =
        serde_json::from_slice(reply).map_err(|source| Error::Decode { what: what(), source })?;
    match reply.status {
        200 => Ok(()),
        status => Err(Error::Server { status, message: reply.message }),
    }
}

fn path_stat(headers: &HeaderMap) -> Result<PathStat> {
    let header = headers.get(HeaderName::from_static(PATH_STAT_HEADER)).and_then(|value| value.to_str().ok());
    header.and_then(PathStat::from_header).ok_or_else(|| Error::Header { name: PATH_STAT_HEADER })
}
