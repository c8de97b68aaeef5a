//! One chunk stream's way in: header, bytes, seal, check, write.

use super::Command;
use super::buffers::Buffers;
use crate::net::chunks::{ChunkError, ChunkReceiver, accept_chunk};
use crate::net::connection::Connection;
use crate::node::member::io::Input;
use crate::state::conn::ConnId;
use crate::state::downloads::{Came, TransferId};
use crate::wire::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use crate::wire::close::StreamCode;
use crate::wire::ids::GroupId;
use crate::wire::seal::{Cipher, Epoch, chunk_key};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Bytes that are read from a stream at a time.
const PIECE_BYTES: usize = 128 * 1024;
/// How often a slow stream tells that it moves.
const HEARD_EVERY: Duration = Duration::from_millis(250);

/// The ends that a receiving task needs.
#[derive(Clone)]
pub(super) struct Inlet {
    /// The straight connection that it is for; none means through the server.
    pub(super) by: Option<ConnId>,
    pub(super) plane: mpsc::UnboundedSender<Command>,
    pub(super) core: mpsc::Sender<Input>,
    pub(super) buffers: Buffers,
}

/// Takes chunk streams for as long as the connection lives. The peer can't open more at a time than it was allowed.
pub(super) async fn accept(connection: Connection, inlet: Inlet) {
    while let Ok(receiver) = accept_chunk(&connection).await {
        tokio::spawn(receive(receiver, inlet.clone()));
    }
}

async fn receive(mut receiver: ChunkReceiver, inlet: Inlet) {
    let Ok(bytes) = receiver.read_header(CHUNK_HEADER_BYTES).await else { return };
    let header =
        <[u8; CHUNK_HEADER_BYTES]>::try_from(bytes.as_slice()).ok().and_then(|bytes| ChunkHeader::decode(&bytes).ok());
    let Some(header) = header else { return receiver.stop(StreamCode::Failed) };
    let (reply, landing) = oneshot::channel();
    if inlet.plane.send(Command::Claim(header, inlet.by, reply)).is_err() {
        return;
    }
    let landings = landing.await.unwrap_or_default();
    if landings.is_empty() {
        return receiver.stop(StreamCode::NotWanted);
    }
    match read(&mut receiver, &header, landings[0].asked.transfer, &inlet).await {
        Ok(bytes) => drop(inlet.plane.send(Command::Read(Box::new(header), landings, bytes, inlet.by))),
        Err(error) => {
            tracing::debug!(%error, "a chunk broke off");
            // The core has it asked for by another way when a straight connection is over.
            let is_told = inlet.by.is_some() && matches!(error, ChunkError::Lost(_));
            let _ = inlet.plane.send(Command::Broke(landings, !is_told));
        }
    }
}

async fn read(
    receiver: &mut ChunkReceiver,
    header: &ChunkHeader,
    transfer: TransferId,
    inlet: &Inlet,
) -> Result<Vec<u8>, ChunkError> {
    let length = header.stream_bytes();
    let mut bytes = inlet.buffers.take(length);
    bytes.resize(length, 0);
    let (mut at, mut told, mut since) = (0, 0, Instant::now());
    while at < length {
        let end = (at + PIECE_BYTES).min(length);
        receiver.read_exact_into(&mut bytes[at..end]).await?;
        at = end;
        if since.elapsed() >= HEARD_EVERY || at == length {
            // A full queue only means that the core hears enough already.
            let _ = inlet.core.try_send(Input::Heard(transfer, (at - told) as u64, inlet.by));
            (told, since) = (at, Instant::now());
        }
    }
    receiver.expect_end().await?;
    Ok(bytes)
}

/// Opens a unit's seal in place. Only a straight connection, which is sealed from end to end itself, carries plain ones.
pub(super) fn unseal(
    header: &ChunkHeader,
    straight: bool,
    epoch: Option<&Epoch>,
    group: &GroupId,
    bytes: &mut Vec<u8>,
) -> Result<(), Came> {
    if header.cipher == Cipher::Plain {
        return if straight { Ok(()) } else { Err(Came::Damaged) };
    }
    let epoch = epoch.ok_or(Came::NoSecret)?;
    let key = chunk_key(epoch, &header.content, header.cipher).ok_or(Came::Damaged)?;
    key.open(header.nonce, &header.bound(group), bytes).map_err(|_| Came::Damaged)
}
