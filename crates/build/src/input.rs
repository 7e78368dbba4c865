//! What a build has made, for another one that goes on from there: a base of its stages, or a source of files.

use std::sync::Arc;

use corten_image::Platform;
use corten_image::build::BuildSession;

use crate::build::{Built, Outcome};
use crate::error::{Error, Result};
use crate::material::Material;
use crate::state::State;
use crate::variables::Args;

/// The outcome of another build. Its layers stay as long as the value does.
pub struct Input {
    parts: Vec<Part>,
    _keep: Arc<BuildSession>,
}

/// The outcome for one platform.
#[derive(Clone)]
pub struct Part {
    platform: Platform,
    pub state: State,
    /// What went in from outside.
    pub materials: Vec<Material>,
}

impl Input {
    pub fn of(built: &Built) -> Input {
        let part = |Outcome { platform, state, materials, .. }: &Outcome| Part {
            platform: platform.clone(),
            // What its ARGs have declared is its own affair.
            state: State { args: Args::default(), ..state.clone() },
            materials: materials.clone(),
        };
        Input { parts: built.outcomes.iter().map(part).collect(), _keep: built.session.clone() }
    }

    /// The part for a platform. Where there is one part alone it is for all: files may suit other platforms, too.
    pub fn part(&self, platform: &Platform) -> Result<&Part> {
        if let [only] = &self.parts[..] {
            return Ok(only);
        }
        let fitness = |part: &&Part| part.platform.fitness(platform);
        let fitting = self.parts.iter().filter(|part| fitness(part).is_some());
        fitting.min_by_key(fitness).ok_or_else(|| {
            let known: Vec<String> = self.parts.iter().map(|part| part.platform.to_string()).collect();
            Error::Invalid(format!("it was built for {}, and not for {platform}", known.join(", ")))
        })
    }
}
