//! One chunk's way out: read, check against the list, seal, send.

use super::buffers::Buffers;
use crate::net::chunks::{ChunkError, open_chunk};
use crate::net::connection::Connection;
use crate::node::clock::SystemRandom;
use crate::node::member::io::{Input, Served, Upload, UploadSource};
use crate::state::random::draw;
use crate::store::read::{Expected, ReadError, Source, read_unit};
use crate::wire::chunk::ChunkHeader;
use crate::wire::frame::ChunkRefusal;
use crate::wire::ids::{Audience, GroupId};
use crate::wire::seal::{Cipher, Epoch, TAG_BYTES, chunk_key};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of chunks that are read, sealed or on their way at a time.
pub(super) const OUTBOUND_BYTES: usize = 16 << 20;
/// What one chunk counts at least, so that many small ones do not become many tasks at work.
const UNIT_BYTES_MIN: u32 = 32 << 10;

/// What a sending task needs.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) core: mpsc::Sender<Input>,
    pub(super) buffers: Buffers,
    pub(super) room: Arc<Semaphore>,
}

/// Sends one unit, and says what became of it.
pub(super) async fn send(
    connection: Connection,
    group: GroupId,
    epoch: Epoch,
    upload: Upload,
    source: UploadSource,
    outlet: Outlet,
) {
    let Ok(room) = outlet.room.clone().acquire_many_owned(upload.length.max(UNIT_BYTES_MIN)).await else { return };
    let buffers = outlet.buffers.clone();
    let sealed = tokio::task::spawn_blocking(move || seal(&group, &epoch, &upload, &source, &buffers)).await;
    let served = match sealed {
        Ok(Ok((header, bytes))) => match transmit(&connection, &header, outlet.buffers.lend(bytes), room).await {
            Ok(()) => Served::Sent,
            Err(error) => {
                tracing::trace!(%error, "a chunk was not taken");
                Served::Unwanted
            }
        },
        Ok(Err(reason)) => Served::No(reason),
        Err(_) => Served::No(ChunkRefusal::Unreadable),
    };
    let _ = outlet.core.send(Input::Served(upload, served)).await;
}

fn seal(
    group: &GroupId,
    epoch: &Epoch,
    upload: &Upload,
    source: &UploadSource,
    buffers: &Buffers,
) -> Result<(ChunkHeader, Vec<u8>), ChunkRefusal> {
    let mut bytes = buffers.take(upload.length as usize + TAG_BYTES);
    let expected = Expected {
        stamp: &source.stamp,
        geometry: &source.geometry,
        root: &source.root,
        list: Some(source.list.as_slice()).filter(|list| !list.is_empty()),
    };
    let read = Source::open(&source.path).and_then(|file| read_unit(&file, expected, upload.index, &mut bytes));
    if let Err(error) = read {
        tracing::info!(%error, "a shared file can't be sent");
        buffers.give_back(bytes);
        return Err(refusal_of(&error));
    }
    let cipher = if upload.sealed { Cipher::fastest() } else { Cipher::Plain };
    let header = ChunkHeader {
        cipher,
        audience: Audience::EVERYONE,
        epoch: epoch.id,
        request: upload.request,
        content: upload.content,
        index: upload.index,
        length: upload.length,
        nonce: draw(&mut SystemRandom),
    };
    if upload.sealed {
        let key = chunk_key(epoch, &upload.content, cipher).ok_or(ChunkRefusal::NotReady)?;
        key.seal(header.nonce, &header.bound(group), &mut bytes);
    }
    Ok((header, bytes))
}

/// Returns when the chunk has arrived: until then it can be stopped, also what QUIC has taken and not sent yet. Others may
/// be read as soon as it has been taken.
async fn transmit(
    connection: &Connection,
    header: &ChunkHeader,
    bytes: Bytes,
    room: OwnedSemaphorePermit,
) -> Result<(), ChunkError> {
    let mut stream = open_chunk(connection).await?;
    stream.write_all_chunks(&mut [Bytes::copy_from_slice(&header.encode()), bytes]).await?;
    drop(room);
    stream.finish_and_wait().await
}

fn refusal_of(error: &ReadError) -> ChunkRefusal {
    match error {
        ReadError::Changed => ChunkRefusal::Changed,
        ReadError::NoSuchUnit => ChunkRefusal::Unknown,
        ReadError::Gone | ReadError::Denied | ReadError::TooLarge | ReadError::Io(_) => ChunkRefusal::Unreadable,
    }
}
