//! What requests carry.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Passed on at once of what is whole.
const PIECE_BYTES: usize = 64 << 10;

/// The body of a request.
#[derive(Debug, Default)]
pub(crate) enum Payload {
    #[default]
    Nothing,
    Whole(Bytes),
    /// As it comes, its length unknown.
    Stream(mpsc::Receiver<Bytes>),
}

impl Payload {
    /// The same once more, where that is possible.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Nothing),
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Stream(_) => None,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let payload = self.get_mut();
        match payload {
            Self::Nothing => Poll::Ready(None),
            Self::Stream(stream) => {
                stream.poll_recv(context).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            // In pieces: hyper copies what it is given where it can't pass on several buffers at once, as below TLS.
            Self::Whole(bytes) => {
                Poll::Ready(Some(Ok(Frame::data(bytes.split_to(bytes.len().min(PIECE_BYTES))))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
