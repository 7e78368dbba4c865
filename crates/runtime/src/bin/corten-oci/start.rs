//! `start`: lets a created container run.

use corten_runtime::hooks;
use corten_runtime::launch::start_held;
use corten_runtime::spec;

use crate::Global;
use crate::arguments::Arguments;
use crate::delete::remove;
use crate::failure::{Failure, Outcome};
use crate::store::{Container, Status};

pub fn start(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let container = Container::open(global, arguments.id())?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Failure::new("cannot start a container that has stopped")),
        _ => return Err(Failure::new("cannot start an already running container")),
    }
    let config = &container.record.config;
    if config.process.is_none() {
        return Err(Failure::new("cannot start a container without process in its configuration"));
    }
    start_held(&container.start_socket(), config, &container.hook_state(spec::Status::Created))?;
    std::fs::remove_file(container.start_socket()).map_err(Failure::during("start.sock"))?;
    poststart(&container).inspect_err(|_| {
        // As the specification has it since 1.0.2: a poststart hook that fails ends the container.
        let _ = remove(&container, true);
    })?;
    Ok(0)
}

/// Runs the hooks that come after the program's start.
pub fn poststart(container: &Container) -> Outcome<()> {
    let Some(lists) = &container.record.config.hooks else { return Ok(()) };
    Ok(hooks::run("poststart", &lists.poststart, &container.hook_state(spec::Status::Running))?)
}
