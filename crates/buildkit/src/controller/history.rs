//! The history of builds: who asks gets a record of each, what a build has told, and hears of changes.

use super::Controller;
use crate::board::Board;
use crate::builder::Past;
use crate::failure::status;
use crate::filters::Filters;
use crate::wire::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest,
    UpdateBuildHistoryRequest, UpdateBuildHistoryResponse,
};
use crate::wire::rpc;
use futures_util::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tonic::{Code, Status};

impl Controller {
    /// What there is; then, unless the client wants no more, what changes.
    pub(super) async fn listen_history(
        self: &Arc<Self>,
        request: BuildHistoryRequest,
    ) -> Result<impl Stream<Item = Result<BuildHistoryEvent, Status>> + Send + use<>, Status> {
        let filters = Filters::parse(&request.filter);
        let listener = Listener {
            changes: self.builder.history_changes(),
            controller: self.clone(),
            filters: filters.map_err(|error| Status::invalid_argument(error.to_string()))?,
            request,
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            is_first: true,
        };
        Ok(futures_util::stream::unfold(Some(listener), |listener| async {
            let mut listener = listener?;
            match listener.next().await {
                Ok(None) => None,
                Ok(Some(event)) => Some((Ok(event), Some(listener))),
                Err(status) => Some((Err(status), None)),
            }
        }))
    }

    pub(super) async fn update_history(
        &self,
        request: UpdateBuildHistoryRequest,
    ) -> Result<UpdateBuildHistoryResponse, Status> {
        // What is told of a build is written down when it ends: there is nothing to finalize.
        let updated = match request.finalize {
            true => Ok(()),
            false if request.delete => self.builder.forget(&request.r#ref).await,
            false => self.builder.pin(&request.r#ref, request.pinned).await,
        };
        updated.map(|()| UpdateBuildHistoryResponse {}).map_err(|error| status(&error, None))
    }

    /// What a build told that is over.
    pub(super) async fn told_by(&self, reference: &str) -> Option<Arc<Board>> {
        let events = self.builder.told(reference).await.ok()?;
        let board = Board::of(reference);
        events.into_iter().for_each(|event| board.add(event, None));
        board.close();
        Some(Arc::new(board))
    }
}

/// One client that listens.
struct Listener {
    controller: Arc<Controller>,
    request: BuildHistoryRequest,
    filters: Filters<Past>,
    changes: tokio::sync::watch::Receiver<u64>,
    /// What the client was told of, by reference.
    known: BTreeMap<String, Past>,
    waiting: VecDeque<BuildHistoryEvent>,
    is_first: bool,
}

impl Listener {
    /// The next event; none when there is no more.
    async fn next(&mut self) -> Result<Option<BuildHistoryEvent>, Status> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            if !self.is_first && (self.request.early_exit || self.changes.changed().await.is_err()) {
                return Ok(None);
            }
            self.is_first = false;
            self.look().await?;
        }
    }

    async fn look(&mut self) -> Result<(), Status> {
        self.changes.mark_unchanged();
        let mut found = self.controller.builder.history().await.map_err(|error| status(&error, None))?;
        let wanted = &self.request;
        found.retain(|past| wanted.r#ref.is_empty() || past.reference == wanted.r#ref);
        found.retain(|past| self.filters.take(past));
        if wanted.active_only {
            found.retain(|past| past.completed.is_none() || self.known.contains_key(&past.reference));
        }
        if let Some(limit) = usize::try_from(wanted.limit).ok().filter(|limit| *limit > 0) {
            found.truncate(limit);
        }
        let gone =
            self.known.values().filter(|known| found.iter().all(|now| now.reference != known.reference));
        let deleted = gone.map(|past| event(BuildHistoryEventType::Deleted, past));
        // Oldest first, as they would have been heard of.
        let changed = found.iter().rev().filter(|past| {
            let known = self.known.get(&past.reference);
            known.is_none_or(|known| (known.completed, known.is_pinned) != (past.completed, past.is_pinned))
        });
        let told = changed.map(|past| match past.completed {
            None => event(BuildHistoryEventType::Started, past),
            Some(_) => event(BuildHistoryEventType::Complete, past),
        });
        self.waiting = deleted.chain(told).collect();
        self.known = found.into_iter().map(|past| (past.reference.clone(), past)).collect();
        Ok(())
    }
}

fn event(kind: BuildHistoryEventType, past: &Past) -> BuildHistoryEvent {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let given = [
        ("context", &past.name),
        ("filename", &past.dockerfile),
        ("target", &past.target),
        ("platform", &past.platform),
        ("vcs:source", &past.repository),
    ];
    let given = given.into_iter().filter(|(_, value)| !value.is_empty());
    let mut exporter_response = BTreeMap::new();
    if !past.image.is_empty() {
        exporter_response.insert("containerimage.digest".to_owned(), past.image.clone());
    }
    if !past.image_names.is_empty() {
        exporter_response.insert("image.name".to_owned(), past.image_names.join(","));
    }
    let failed =
        || rpc::Status { code: Code::Unknown as i32, message: past.error.clone(), details: Vec::new() };
    let record = BuildHistoryRecord {
        r#ref: past.reference.clone(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: given.map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        exporters: Vec::new(),
        error: (!past.error.is_empty()).then(failed),
        created_at: past.started.map(Into::into),
        completed_at: past.completed.map(Into::into),
        exporter_response,
        generation: 1,
        pinned: past.is_pinned,
        cached_steps: count(past.cached_steps),
        total_steps: count(past.steps),
        completed_steps: count(past.completed_steps),
        warnings: count(past.warnings),
    };
    BuildHistoryEvent { r#type: kind as i32, record: Some(record) }
}
