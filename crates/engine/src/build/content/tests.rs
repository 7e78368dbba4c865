use std::sync::Mutex;

use async_trait::async_trait;
use corten_image::manifest::{compose, media};
use futures_util::stream;
use tokio::sync::mpsc::{Receiver, channel};

use super::*;
use crate::image::PIECE_BYTES;

/// Blobs, with what they were called.
type Took = Arc<Mutex<Vec<(Vec<u8>, Digest)>>>;

/// A client that has one blob, which it gives and takes as it likes.
struct Client {
    size: Option<u64>,
    gives: fn() -> ContentPieces,
    took: Took,
}

impl Client {
    fn giving(gives: fn() -> ContentPieces) -> Arc<Client> {
        Arc::new(Client { size: None, gives, took: Arc::default() })
    }
}

#[async_trait]
impl Content for Client {
    async fn size(&self, _: &Digest) -> io::Result<Option<u64>> {
        Ok(self.size)
    }

    async fn read(&self, _: &Digest, _: u64) -> io::Result<ContentPieces> {
        Ok((self.gives)())
    }

    async fn write(&self) -> io::Result<Box<dyn ContentWriter>> {
        Ok(Box::new(Writer { took: self.took.clone(), bytes: Vec::new() }))
    }
}

struct Writer {
    took: Took,
    bytes: Vec<u8>,
}

#[async_trait]
impl ContentWriter for Writer {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        assert!(!bytes.is_empty() && bytes.len() <= PIECE_BYTES);
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>, digest: &Digest) -> io::Result<()> {
        self.took.lock().unwrap().push((self.bytes, *digest));
        Ok(())
    }
}

/// Runs what asks a client, as builds do it: in a thread.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn source(client: Arc<Client>) -> (ContentSource, Receiver<JsonMessage>) {
    let (listener, heard) = channel(1);
    (ContentSource::new(client, listener), heard)
}

fn endless() -> ContentPieces {
    stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; 1000]))).boxed()
}

fn manifest() -> Vec<u8> {
    compose(Descriptor::of(media::OCI_CONFIG, b"{}"), Vec::new())
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says() {
    let pieces = || {
        stream::iter(manifest().chunks(7).map(|p| Ok(Bytes::copy_from_slice(p))).collect::<Vec<_>>()).boxed()
    };
    let (source, _heard) = source(Client::giving(pieces));
    in_thread(move || {
        let wanted = Descriptor::of("", &manifest());
        assert!(matches!(document(&source, &wanted), Ok(Document::Manifest(_))));
        let other = Descriptor::of("", b"other");
        assert!(document(&source, &other).unwrap_err().contains("its manifest is not"));
    })
    .await;
}

#[tokio::test]
async fn what_has_no_end_is_read_to_the_end_that_was_told() {
    let (source, _heard) = source(Client::giving(endless));
    in_thread(move || {
        let told = Descriptor::new("", Digest::of(b""), 12_345);
        assert_eq!(source.manifest(&told).unwrap().len(), 12_346);
        let much = Descriptor::new("", Digest::of(b""), u64::MAX);
        assert_eq!(source.manifest(&much).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_read_for_one_who_is_gone() {
    let (source, heard) = source(Client::giving(|| stream::pending().boxed()));
    drop(heard);
    let blob = Descriptor::of("", b"text");
    let read = in_thread(move || source.blob(&blob, 0)?.read(&mut [0; 4])).await;
    assert!(read.unwrap_err().to_string().contains("given up"));
}

#[tokio::test]
async fn one_who_breaks_off_is_an_error() {
    let broken =
        || stream::iter([Ok(Bytes::from_static(b"te")), Err(io::ErrorKind::BrokenPipe.into())]).boxed();
    let (source, _heard) = source(Client::giving(broken));
    let blob = Descriptor::of("", b"text");
    let read = in_thread(move || source.blob(&blob, 0)?.read_to_end(&mut Vec::new())).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn blobs_go_there_whole() {
    let client = Arc::new(Client { size: Some(4), gives: endless, took: Arc::default() });
    let (target, took) = (ContentTarget::new(client.clone()), client.took.clone());
    let text = vec![7; PIECE_BYTES * 2 + 1];
    let sent = text.clone();
    in_thread(move || {
        assert_eq!(target.find(&Descriptor::of("", b"text")).unwrap(), Some(Place::Here));
        // Of another length it is another one.
        assert_eq!(target.find(&Descriptor::of("", b"texts")).unwrap(), None);
        for piece in [&sent[..3], &sent[3..]] {
            let mut dropped = target.blob().unwrap();
            dropped.write_all(piece).unwrap();
        }
        let mut blob = target.blob().unwrap();
        blob.write_all(&sent[..3]).unwrap();
        blob.write_all(&sent[3..]).unwrap();
        blob.finish(&Digest::of(&sent)).unwrap();
    })
    .await;
    let digest = Digest::of(&text);
    assert_eq!(*took.lock().unwrap(), [(text, digest)]);
}
