use super::{ContentConnection, serve_content};
use async_trait::async_trait;
use bytes::Bytes;
use corten_build::{Content, ContentPieces, ContentWriter};
use corten_image::Digest;
use futures_util::{StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Blobs in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<HashMap<Digest, Bytes>>>);

impl Memory {
    fn with(blob: &'static [u8]) -> (Memory, Digest) {
        let memory = Memory::default();
        let digest = Digest::of(blob);
        memory.0.lock().unwrap().insert(digest, Bytes::from_static(blob));
        (memory, digest)
    }
}

#[async_trait]
impl Content for Memory {
    async fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        Ok(self.0.lock().unwrap().get(digest).map(|blob| blob.len() as u64))
    }

    async fn read(&self, digest: &Digest, offset: u64) -> io::Result<ContentPieces> {
        let blob = self.0.lock().unwrap().get(digest).cloned().ok_or(io::ErrorKind::NotFound)?;
        let pieces: Vec<_> =
            blob.slice(usize::try_from(offset).unwrap()..).chunks(2).map(Vec::from).collect();
        Ok(futures_util::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))).boxed())
    }

    async fn write(&self) -> io::Result<Box<dyn ContentWriter>> {
        Ok(Box::new(Writer { memory: self.clone(), bytes: Vec::new() }))
    }
}

struct Writer {
    memory: Memory,
    bytes: Vec<u8>,
}

#[async_trait]
impl ContentWriter for Writer {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>, digest: &Digest) -> io::Result<()> {
        if Digest::of(&self.bytes) != *digest {
            return Err(io::Error::other("another blob"));
        }
        let mut blobs = self.memory.0.lock().unwrap();
        if blobs.contains_key(digest) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        blobs.insert(*digest, self.bytes.into());
        Ok(())
    }
}

async fn connected(memory: &Memory) -> ContentConnection {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let stores = HashMap::from([("local:/a".to_owned(), Arc::new(memory.clone()) as Arc<dyn Content>)]);
    tokio::spawn(serve_content(theirs, stores));
    ContentConnection::open(ours).await.unwrap()
}

async fn read(content: &dyn Content, digest: &Digest, offset: u64) -> io::Result<Vec<u8>> {
    let pieces: Vec<Bytes> = content.read(digest, offset).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn blobs_are_read_from_where_one_wants() {
    let (memory, digest) = Memory::with(b"text of a blob");
    let content = connected(&memory).await.store("local:/a").unwrap();
    assert_eq!(content.size(&digest).await.unwrap(), Some(14));
    assert_eq!(read(&content, &digest, 0).await.unwrap(), b"text of a blob");
    assert_eq!(read(&content, &digest, 5).await.unwrap(), b"of a blob");
    assert_eq!(read(&content, &digest, 14).await.unwrap(), b"");
    let other = Digest::of(b"other");
    assert_eq!(content.size(&other).await.unwrap(), None);
    assert_eq!(read(&content, &other, 0).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_store_is_known_by_its_name_alone() {
    let (memory, digest) = Memory::with(b"text");
    let connection = connected(&memory).await;
    let other = connection.store("local:/etc").unwrap();
    assert!(read(&other, &digest, 0).await.unwrap_err().to_string().contains("unknown store local:/etc"));
    assert!(other.write().await.is_err());
    assert!(connection.store("a\nb").is_err());
}

#[tokio::test]
async fn blobs_are_written_whole_or_not_at_all() {
    let memory = Memory::default();
    let content = connected(&memory).await.store("local:/a").unwrap();
    let text = vec![7; 3 << 20];
    let digest = Digest::of(&text);
    let mut writer = content.write().await.unwrap();
    writer.send(Bytes::from(text.clone())).await.unwrap();
    writer.send(Bytes::new()).await.unwrap();
    assert_eq!(content.size(&digest).await.unwrap(), None);
    writer.finish(&digest).await.unwrap();
    assert_eq!(content.size(&digest).await.unwrap(), Some(text.len() as u64));

    let mut broken = content.write().await.unwrap();
    broken.send(Bytes::from_static(b"part")).await.unwrap();
    drop(broken);
    let mut other = content.write().await.unwrap();
    other.send(Bytes::from_static(b"other")).await.unwrap();
    let error = other.finish(&digest).await.unwrap_err();
    assert!(error.to_string().contains("another blob"), "{error}");
    assert_eq!(memory.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_blob_that_is_there_is_there_whole() {
    let (memory, digest) = Memory::with(b"text");
    let content = connected(&memory).await.store("local:/a").unwrap();
    let write = async || {
        let mut writer = content.write().await?;
        writer.send(Bytes::from_static(b"text")).await?;
        writer.finish(&digest).await
    };
    write().await.unwrap();
    memory.0.lock().unwrap().insert(digest, Bytes::from_static(b"te"));
    let error = write().await.unwrap_err();
    assert!(error.to_string().contains("is not whole"), "{error}");
}

#[tokio::test]
async fn a_client_that_is_gone_is_an_error() {
    let (memory, digest) = Memory::with(b"text");
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let stores = HashMap::from([("a".to_owned(), Arc::new(memory) as Arc<dyn Content>)]);
    let serving = tokio::spawn(serve_content(theirs, stores));
    let content = ContentConnection::open(ours).await.unwrap().store("a").unwrap();
    let mut writer = content.write().await.unwrap();
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert!(writer.send(Bytes::from_static(b"text")).await.is_err());
    assert!(content.size(&digest).await.is_err());
}
