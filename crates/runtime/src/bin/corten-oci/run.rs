//! `run`: create and start in one, and wait.

use std::os::fd::AsFd;

use crate::Global;
use crate::arguments::Arguments;
use crate::console;
use crate::create::{Begun, Bundle, begin, seal};
use crate::delete::remove;
use crate::failure::Outcome;
use crate::forward;
use crate::start::poststart;

pub fn run(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    seal()?;
    let bundle = Bundle::read(arguments)?;
    let detached = arguments.has("detach");
    console::check(bundle.terminal(), detached, arguments)?;
    let signals = if detached { None } else { Some(forward::Signals::block()?) };
    let Begun { child, container } = begin(global, arguments, &bundle, false)?;
    let started = match &child.console {
        Some(master) if detached => {
            console::send(arguments.value("console-socket").unwrap_or_default(), master.as_fd())
        }
        _ => Ok(()),
    };
    if let Err(failure) = started.and_then(|()| poststart(&container)) {
        // The first error is the one to report.
        let _ = remove(&container, true);
        return Err(failure);
    }
    let Some(signals) = signals else { return Ok(0) };
    let code = forward::until_end(&child, signals)?;
    if !arguments.has("keep") {
        remove(&container, true)?;
    }
    Ok(code)
}
