//! One action on many objects: side by side towards the engine, in the order given towards the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corten_api::client::{Client, Error};
use tokio::sync::oneshot;

use crate::cli::{Failure, Outcome};
use crate::output;

/// How many requests are under way at once, each worker on a connection of its own.
const WORKERS: usize = 32;

/// Whether an object that isn't there makes the command fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Fails,
    /// It is told of, no more: what is forced away is gone either way.
    IsFine,
}

/// Runs `action` for every name and prints the line that it returns. Failures don't stop the others.
pub async fn each<F, R>(client: &Client, names: Vec<String>, action: F) -> Outcome
where
    F: Fn(Client, String) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<String, Error>> + Send + 'static,
{
    each_or(Missing::Fails, client, names, action).await
}

/// As `each`, with a say about what is missing.
pub async fn each_or<F, R>(missing: Missing, client: &Client, names: Vec<String>, action: F) -> Outcome
where
    F: Fn(Client, String) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<String, Error>> + Send + 'static,
{
    let alone = names.len() == 1;
    side_by_side(missing, alone, client, names, action).await
}

/// As `each`, for one group of names after the other.
pub async fn each_in_order<F, R>(client: &Client, groups: Vec<Vec<String>>, action: F) -> Outcome
where
    F: Fn(Client, String) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<String, Error>> + Send + 'static,
{
    let alone = groups.iter().map(Vec::len).sum::<usize>() == 1;
    let mut status = 0;
    for names in groups {
        status |= side_by_side(Missing::Fails, alone, client, names, action.clone()).await?;
    }
    Ok(status)
}

/// `alone`: there is nothing else that a failure could stop.
async fn side_by_side<F, R>(
    missing: Missing,
    alone: bool,
    client: &Client,
    names: Vec<String>,
    action: F,
) -> Outcome
where
    F: Fn(Client, String) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<String, Error>> + Send + 'static,
{
    let mut status = 0;
    let mut receivers = Vec::with_capacity(names.len());
    let mut jobs = Vec::with_capacity(names.len());
    for name in names {
        let (sender, receiver) = oneshot::channel();
        receivers.push(receiver);
        jobs.push(std::sync::Mutex::new(Some((name, sender))));
    }
    let workers = jobs.len().min(WORKERS);
    let (jobs, next) = (Arc::new(jobs), Arc::new(AtomicUsize::new(0)));
    for worker in 0..workers {
        let (jobs, next, action) = (jobs.clone(), next.clone(), action.clone());
        let client = if worker == 0 { client.clone() } else { client.separate() };
        tokio::spawn(async move {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                // Each job is taken once, by the worker that drew its number.
                let Some((name, sender)) = job.lock().ok().and_then(|mut job| job.take()) else { continue };
                let _ = sender.send(action(client.clone(), name).await);
            }
        });
    }
    for receiver in receivers {
        let Ok(result) = receiver.await else { continue };
        match result {
            Ok(line) => output::line(&line)?,
            Err(error) => {
                let forgiven = missing == Missing::IsFine && error.is_not_found();
                let failure = Failure::from(error);
                // A missing engine is for the caller to start, an older one to be asked again.
                if failure.is_for_another_try() || (alone && !forgiven) {
                    return Err(failure);
                }
                failure.report();
                status |= u8::from(!forgiven);
            }
        }
    }
    Ok(status)
}
