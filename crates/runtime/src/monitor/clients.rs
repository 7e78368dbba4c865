//! What happens between attached clients and a process: input in, back-pressure, half-close, detaching.

use std::os::fd::OwnedFd;

use super::attached::{Attached, Gone};
use super::poll::{Id, Ready, Token};
use super::protocol::Attach;
use super::run::{CONTAINER, Monitor};
use crate::log::Stream;

/// Bytes of input taken at a time.
const INPUT: usize = 16 * 1024;

impl Monitor {
    /// Lets a client see and feed a session. A session that is over hangs up at once.
    pub(super) fn attach(&mut self, session: Id, mut attach: Attach, socket: OwnedFd) {
        let head = std::mem::take(&mut attach.stdin_head);
        let id = self.next_id();
        let client = Attached::new(id, session, socket, attach);
        if self.session(session).is_none_or(|s| s.is_over()) {
            return client.hang_up();
        }
        let fed = client.reading && !head.is_empty();
        self.clients.push(client);
        if fed {
            self.feed(id, &head);
        }
        self.rearm(session);
    }

    pub(super) fn client_ready(&mut self, id: Id, ready: Ready) {
        let Some(client) = self.clients.iter_mut().find(|c| c.id == id) else { return };
        if ready.contains(Ready::ERR) || (ready.contains(Ready::OUT) && client.flush().is_err()) {
            return self.drop_client(id);
        }
        let session = client.session;
        if ready.contains(Ready::IN) {
            self.read_client(id);
        } else if ready.contains(Ready::HUP) {
            let Some(client) = self.clients.iter_mut().find(|c| c.id == id) else { return };
            if !client.reading || client.closing {
                return self.drop_client(id);
            }
            // It has gone and left input that the process does not take yet: hang-ups can't be masked, only unwatched. An event
            // of the same batch may have made room meanwhile; then its input is reported next.
            if self.session(session).is_some_and(|s| s.input.is_blocked()) {
                let Some(client) = self.clients.iter_mut().find(|c| c.id == id) else { return };
                self.poll.remove(&*client);
                (client.watched, client.parked) = (None, true);
                return;
            }
        }
        self.rearm(session);
    }

    fn read_client(&mut self, id: Id) {
        let mut input = self.lend_input(INPUT);
        match self.clients.iter().find(|c| c.id == id).map_or(Err(Gone), |c| c.read(&mut input)) {
            Ok(None) => {}
            Ok(Some(0)) => self.half_closed(id),
            Ok(Some(n)) => self.feed(id, &input[..n]),
            Err(Gone) => self.drop_client(id),
        }
        self.return_input(input);
    }

    /// Lends the buffer for input; to be returned by [`Monitor::return_input`].
    fn lend_input(&mut self, len: usize) -> Vec<u8> {
        self.buffer_used = true;
        let mut input = std::mem::take(&mut self.input);
        input.resize(len, 0);
        input
    }

    fn return_input(&mut self, input: Vec<u8>) {
        self.input = input;
    }

    /// Hands a client's input to the process, unless it is what detaches the client.
    fn feed(&mut self, id: Id, bytes: &[u8]) {
        let Some(client) = self.clients.iter_mut().find(|c| c.id == id) else { return };
        let session = client.session;
        let mut filtered = Vec::new();
        let detached = !client.keys.is_empty() && client.keys.filter(bytes, &mut filtered);
        let bytes = if client.keys.is_empty() { bytes } else { &filtered };
        if detached {
            (client.reading, client.closing) = (false, true);
        }
        if let Some(session) = self.session_mut(session) {
            session.input.write(bytes);
        }
        if detached {
            self.finish_clients(session);
        }
    }

    /// The client has no more input. As in Docker, a process whose stdin is for one client gets its end; otherwise the
    /// client is done, and goes.
    fn half_closed(&mut self, id: Id) {
        let Some(client) = self.clients.iter_mut().find(|c| c.id == id) else { return };
        client.reading = false;
        let session = client.session;
        match self.sessions.iter_mut().find(|s| s.id == session) {
            Some(session) if session.stdin_once && !session.tty => session.input.close(),
            Some(_) => client.closing = true,
            None => {}
        }
        self.finish_clients(session);
    }

    /// The process takes input again.
    pub(super) fn input_ready(&mut self, id: Id) {
        let Some(session) = self.session_mut(id) else { return };
        session.input.flush();
        self.rearm(id);
    }

    /// Removes a client that is gone, with what that means for the process's stdin.
    pub(super) fn drop_client(&mut self, id: Id) {
        let Some(at) = self.clients.iter().position(|c| c.id == id) else { return };
        let client = self.clients.swap_remove(at);
        self.poll.remove(&client);
        client.hang_up();
        if client.reading
            && let Some(session) = self.session_mut(client.session)
            && session.stdin_once
            && !session.tty
        {
            session.input.close();
        }
        self.rearm(client.session);
    }

    /// Lets go of a session's clients without a word: who asked for the session has their connections still, and tells them why
    /// it came to nothing.
    pub(super) fn forget_clients(&mut self, session: Id) {
        for client in self.clients.iter().filter(|c| c.session == session) {
            self.poll.remove(client);
        }
        self.clients.retain(|c| c.session != session);
    }

    /// Lets go of the clients that have got everything.
    pub(super) fn finish_clients(&mut self, session: Id) {
        while let Some(done) = self.clients.iter().find(|c| c.session == session && c.is_done()).map(|c| c.id)
        {
            self.drop_client(done);
        }
    }

    /// Makes epoll watch what the state of a session and its clients asks for.
    pub(super) fn rearm(&mut self, id: Id) {
        self.finish_clients(id);
        let blocked = self.session(id).is_some_and(|s| s.input.is_blocked());
        let mut broken = None;
        for client in self.clients.iter_mut().filter(|c| c.session == id) {
            let interest = client.interest(blocked);
            client.parked &= blocked && client.reading;
            if client.watched != Some(interest) && !client.parked {
                match self.poll.set(&*client, Token::Client(client.id), interest) {
                    Ok(()) => client.watched = Some(interest),
                    Err(_) => broken = Some(client.id),
                }
            }
        }
        if let Some(client) = broken {
            return self.drop_client(client);
        }
        self.rearm_input(id);
        let slow_log = id == CONTAINER && self.shipping.as_ref().is_some_and(|s| s.is_full());
        let full = slow_log || self.clients.iter().any(|c| c.session == id && c.is_full());
        match self.session(id).map(|s| s.paused) {
            Some(false) if full => self.pause(id),
            Some(true) if !full => self.resume(id),
            _ => {}
        }
    }

    fn rearm_input(&mut self, id: Id) {
        let Some(session) = self.sessions.iter_mut().find(|s| s.id == id) else { return };
        let input = &mut session.input;
        if let Some(fd) = input.take_ended() {
            // A terminal's descriptor is a copy: closing it does not remove it.
            self.poll.remove(&fd);
            return;
        }
        let blocked = input.is_blocked();
        if let Some(fd) = input.fd.as_ref().filter(|_| blocked != input.watched) {
            input.watched = blocked;
            if !blocked {
                self.poll.remove(fd);
            } else if let Err(error) = self.poll.set(fd, Token::Input(id), Ready::OUT) {
                self.complain("watch the input", &error);
            }
        }
    }

    fn pause(&mut self, id: Id) {
        let Some(session) = self.sessions.iter_mut().find(|s| s.id == id) else { return };
        session.paused = true;
        for output in session.outputs.iter().flatten() {
            self.poll.remove(output);
        }
    }

    /// Reads a session's output (again).
    pub(super) fn resume(&mut self, id: Id) {
        let Some(session) = self.sessions.iter_mut().find(|s| s.id == id) else { return };
        (session.paused, session.deserted) = (false, false);
        let mut failed = None;
        for (output, stream) in session.outputs.iter().zip([Stream::Stdout, Stream::Stderr]) {
            if let Some(Err(error)) =
                output.as_ref().map(|fd| self.poll.set(fd, Token::Output(id, stream), Ready::IN))
            {
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            self.complain("watch the output", &error);
        }
    }
}
