//! Staying with a container until it ends: `run`, `start -a` and `attach`.

use corten_api::client::{Client, Response};
use corten_api::container::{AttachOptions, WaitCondition, WaitResponse};

use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome};
use crate::stream::{
    DetachKeys, End, RawMode, Resized, Session, Wiring, follow_size, forward_signals, is_terminal,
};

/// The key sequence that leaves, as it is written and as it is looked for.
pub struct Keys {
    pub text: String,
    pub parsed: DetachKeys,
}

impl Keys {
    /// What the flag says, else the client's configuration; an empty text is the usual sequence, which also does where there is
    /// no terminal to watch.
    pub fn of(context: &Context, flag: &str, terminal: bool) -> Result<Keys, Failure> {
        let (text, source) = match flag {
            "" if !terminal => Default::default(),
            "" => (context.settings().text("detachKeys").unwrap_or_default(), "detachKeys in config.json"),
            flag => (flag.to_owned(), "--detach-keys"),
        };
        Keys::parse(text, source)
    }

    /// Those of who says nothing.
    pub fn usual() -> Result<Keys, Failure> {
        Keys::parse(String::new(), "the usual keys")
    }

    fn parse(text: String, source: &str) -> Result<Keys, Failure> {
        let parsed = DetachKeys::parse(&text)
            .map_err(|why| Failure::new(format!("invalid value for {source}: {why}")).exit(EXIT_ENGINE))?;
        Ok(Keys { text, parsed })
    }
}

/// A container that we stay with.
pub struct Attachment<'a> {
    pub client: &'a Client,
    pub id: &'a str,
    pub keys: Keys,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Signals that reach us go to the container.
    pub signals: bool,
    /// What counts as its end.
    pub until: WaitCondition,
}

impl Attachment<'_> {
    /// Starts the container once all is in place, and stays.
    pub async fn start(self) -> Outcome {
        let (client, id, keys) = (self.client, self.id, self.keys.text.clone());
        let removed = self.until == WaitCondition::Removed;
        let attached = self.attach().await?;
        if let Err(error) = client.container_start(id, &keys).await {
            if removed {
                // The engine removes what never ran; the prompt comes back when that is done.
                let _ = attached.waiting.finish().await;
            }
            return Err(start_failure(error));
        }
        attached.stay(client, id).await
    }

    /// Stays with one that runs.
    pub async fn join(self) -> Outcome {
        let (client, id) = (self.client, self.id);
        self.attach().await?.stay(client, id).await
    }

    async fn attach(self) -> Result<Attached, Failure> {
        if self.signals {
            forward_signals(self.client, self.id)?;
        }
        let options = AttachOptions {
            stream: true,
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            detach_keys: self.keys.text,
            ..AttachOptions::default()
        };
        // Both must be in place before the container starts; neither depends on the other.
        let (attached, waiting) = tokio::join!(
            self.client.container_attach(self.id, &options),
            self.client.container_wait(self.id, self.until)
        );
        let (attached, waiting) = (attached?, waiting?);
        let raw = if self.tty && self.stdin { RawMode::enter(!self.signals)? } else { None };
        let detach_keys = self.tty.then_some(self.keys.parsed);
        let session = Session::start(attached, Wiring { stdin: self.stdin, tty: self.tty, detach_keys })?;
        Ok(Attached { session, waiting, raw, tty: self.tty })
    }
}

/// What is in place while the container runs.
struct Attached {
    session: Session,
    waiting: Response,
    raw: Option<RawMode>,
    tty: bool,
}

impl Attached {
    async fn stay(self, client: &Client, id: &str) -> Outcome {
        if self.tty {
            follow_size(client, Resized::Container(id.to_owned()))?;
        }
        let end = self.session.end().await?;
        drop(self.raw);
        match end {
            End::Detached | End::Unread => Ok(0),
            End::Closed => exit_status(self.waiting).await,
        }
    }
}

/// `-t` with input that is no terminal is a mistake, not a request.
pub fn check_terminal(tty: bool, stdin: bool, hint: &str) -> Result<(), Failure> {
    if tty && stdin && !is_terminal() {
        return Err(Failure::new("the input device is not a TTY").hint(hint));
    }
    Ok(())
}

/// The container's exit status, as a shell would give it.
async fn exit_status(waiting: Response) -> Outcome {
    let result: WaitResponse =
        waiting.json().await.map_err(|error| Failure::from(error).exit(EXIT_ENGINE))?;
    if let Some(error) = result.error.filter(|error| !error.message.is_empty()) {
        return Err(Failure::new(format!("waiting for the container: {}", error.message)).exit(EXIT_ENGINE));
    }
    Ok(u8::try_from(result.status_code & 0xff).unwrap_or(EXIT_ENGINE))
}

/// 127 when the command isn't there, 126 when it can't be executed, 125 otherwise.
pub fn start_failure(error: corten_api::client::Error) -> Failure {
    let failure = Failure::from(error);
    let text = failure.message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let exit = if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory", "exec format error"]) {
        126
    } else {
        EXIT_ENGINE
    };
    failure.exit(exit)
}
