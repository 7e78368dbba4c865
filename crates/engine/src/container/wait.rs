//! Waiting for a container: not running, next exit, or gone.

use std::future::Future;

use corten_api::container::{WaitCondition, WaitError, WaitResponse};

use crate::Engine;
use crate::error::Result;

impl Engine {
    /// Finds the container at once; the future ends when the condition holds.
    pub fn container_wait(
        &self,
        key: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = WaitResponse> + Send + use<>> {
        let container = self.containers.find(key)?;
        let mut progress = container.progress.subscribe();
        let before = *progress.borrow();
        Ok(async move {
            let reached = progress
                .wait_for(|now| match condition {
                    // As in Docker an end counts even when a start follows by itself.
                    WaitCondition::NotRunning => {
                        !now.alive && !now.restarting || now.exits > before.exits || now.removed
                    }
                    WaitCondition::NextExit => now.exits > before.exits || now.removed,
                    WaitCondition::Removed => now.removed,
                })
                .await
                .map(|now| *now);
            match reached {
                Ok(now) => WaitResponse { status_code: i64::from(now.exit_code), error: None },
                Err(_) => WaitResponse {
                    status_code: 255,
                    error: Some(WaitError { message: "the engine is shutting down".to_owned() }),
                },
            }
        })
    }
}
