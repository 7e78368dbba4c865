//! Cache keys: all that decides what a step makes, and nothing else. No times: the same files copied later are the same.

use corten_image::Digest;
use corten_image::build::Stack;

/// When keys are made of other things, or steps make something else of the same.
const VERSION: &str = "corten-build-1";

/// A key in the making. Each part has its length in front, so that no two lists of parts look alike.
pub struct Key {
    bytes: Vec<u8>,
}

impl Key {
    pub fn new(kind: &str) -> Key {
        let mut key = Key { bytes: Vec::with_capacity(512) };
        key.text(VERSION).text(kind);
        key
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Key {
        self.bytes.extend((bytes.len() as u64).to_le_bytes());
        self.bytes.extend(bytes);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Key {
        self.bytes(text.as_bytes())
    }

    pub fn number(&mut self, number: i64) -> &mut Key {
        self.bytes(&number.to_le_bytes())
    }

    pub fn texts<T: AsRef<str>>(&mut self, texts: &[T]) -> &mut Key {
        self.number(texts.len() as i64);
        for text in texts {
            self.text(text.as_ref());
        }
        self
    }

    /// The files beneath, by content: whatever made them.
    pub fn stack(&mut self, stack: &Stack) -> &mut Key {
        self.number(stack.ids().len() as i64);
        for id in stack.ids() {
            self.bytes(id.as_bytes());
        }
        self
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}
