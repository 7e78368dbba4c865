//! `pause` and `resume`.

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::store::{Container, Status};

pub fn pause(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let container = Container::open(global, arguments.id())?;
    match container.status() {
        Status::Running | Status::Created => container.cgroup()?.freeze()?,
        status => return Err(Failure::new(format!("container not running: it is {}", status.name()))),
    }
    Ok(0)
}

pub fn resume(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let container = Container::open(global, arguments.id())?;
    let cgroup = container.cgroup()?;
    if !cgroup.is_frozen()? {
        return Err(Failure::new("container not paused"));
    }
    cgroup.thaw()?;
    Ok(0)
}
