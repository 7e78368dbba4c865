//! The small init (`--init`): the first process stays, forwards signals to the program and reaps orphans.
//!
//! It is this very process, so that nothing has to be brought into the container. It has the program's user, rights and
//! filter, and holds none of its streams.

use corten_sys::process::{self, Ended};
use corten_sys::signal;
use rustix::io::Errno;

use super::Child;

const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

impl Child<'_> {
    /// Returns in the program's process only.
    pub(super) fn init(&mut self) -> Result<(), Errno> {
        signal::set_mask(u64::MAX)?;
        let terminal = rustix::termios::isatty(rustix::stdio::stdin());
        if let Some(program) = process::fork()? {
            self.stay(program);
        }
        let _ = rustix::process::setpgid(None, None);
        if terminal {
            // Still with every signal blocked: SIGTTOU would stop us.
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
        }
        signal::set_mask(0).map(drop)
    }

    fn stay(&self, program: i32) -> ! {
        let _ = process::set_name(c"corten-init");
        // Streams and the channel are the program's: their ends have to be seen.
        if let Some(root) = &self.root {
            let _ = rustix::stdio::dup2_stdin(root);
            let _ = rustix::stdio::dup2_stdout(root);
            let _ = rustix::stdio::dup2_stderr(root);
        }
        let _ = corten_sys::fd::close_from(3);
        // Its memory is the launcher's, and nobody's business in the container.
        let _ = process::set_dumpable(false);
        loop {
            let Ok(number) = signal::wait(u64::MAX) else { continue };
            match number {
                SIGCHLD => {
                    while let Ok(Some((pid, ended))) = process::wait(-1, false) {
                        if pid == program {
                            process::exit(match ended {
                                Ended::Exited(code) => code,
                                Ended::Signaled(signal, _) => 128 + signal,
                            });
                        }
                    }
                }
                SIGTTIN | SIGTTOU => {}
                number => {
                    let _ = process::kill(program, number);
                }
            }
        }
    }
}
