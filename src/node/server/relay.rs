//! The data plane: chunk bytes from an owner's stream to the streams of those who asked. No byte passes the core.
//!
//! Invariants: a chunk's segments are copies of their own, held once for all readers, so that memory is what the cache
//! has reserved. The task that reads an owner's stream never waits for an asker: each asker has a task of its own.

use super::shell::Event;
use crate::net::chunks::{ChunkError, ChunkReceiver, ChunkSender, accept_chunk, open_chunk};
use crate::net::connection::Connection;
use crate::state::cache::{EntryId, ForwardId};
use crate::state::conn::ConnId;
use crate::wire::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use crate::wire::close::{CloseCode, StreamCode};
use crate::wire::limits::SLOWEST_RATE;
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// Bytes that are read at once, at most; what has arrived is passed on without waiting for more. The slowest asker takes
/// a second for it, and so does not seem to be stalled.
const SEGMENT_BYTES: usize = 64 * 1024;
/// How often progress of one stream is told to the core. A fraction of its shortest stall time.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
/// How long an opened stream may take to send its header: it is one packet.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// Where tasks report what happened.
pub(super) type Events = mpsc::Sender<Event>;

/// A reader's way to an entry's segments, from the first to the last.
pub(super) type Segments = mpsc::UnboundedSender<Bytes>;

/// Takes the chunk streams that a device opens, for as long as it may.
pub(super) async fn accept_streams(conn: ConnId, connection: Connection, events: Events) {
    while let Ok(stream) = accept_chunk(&connection).await {
        tokio::spawn(read_header(conn, connection.clone(), stream, events.clone()));
    }
}

async fn read_header(conn: ConnId, connection: Connection, mut stream: ChunkReceiver, events: Events) {
    let Ok(Ok(bytes)) = timeout(HEADER_WAIT, stream.read_header(CHUNK_HEADER_BYTES)).await else {
        return stream.stop(StreamCode::NotWanted);
    };
    match <&[u8; CHUNK_HEADER_BYTES]>::try_from(bytes.as_slice()).map(ChunkHeader::decode) {
        Ok(Ok(header)) => {
            // Fails when the server ends, and the stream with it.
            let _ = events.send(Event::Arriving { conn, header, stream }).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(conn = conn.0, %error, "a chunk that can't be passed on");
            connection.close(CloseCode::Protocol);
        }
        Err(_) => stream.stop(StreamCode::NotWanted),
    }
}

/// Reads a chunk to its end, and hands it to all who come for it, until nobody can come any more: `readers` is closed
/// when the core drops the entry.
pub(super) async fn receive(
    entry: EntryId,
    bytes: usize,
    mut stream: ChunkReceiver,
    mut readers: mpsc::UnboundedReceiver<Segments>,
    events: Events,
) {
    let mut held = Held::default();
    let read = async {
        let mut told = Instant::now();
        while held.bytes < bytes {
            let segment = tokio::select! {
                biased;
                reader = readers.recv() => match reader {
                    Some(reader) => { held.add_reader(reader); continue }
                    None => return None,
                },
                segment = stream.read_segments(SEGMENT_BYTES.min(bytes - held.bytes)) => segment,
            };
            match segment {
                Ok(Some(segment)) => held.add(segment),
                Ok(None) => return Some(Err(ChunkError::TooShort)),
                Err(error) => return Some(Err(error)),
            }
            if told.elapsed() >= PROGRESS_PAUSE {
                told = Instant::now();
                let _ = events.send(Event::Progress(entry)).await;
            }
        }
        Some(stream.expect_end().await)
    };
    match read.await {
        None => return stream.stop(StreamCode::Cancelled),
        Some(Ok(())) => drop(events.send(Event::Complete(entry)).await),
        Some(Err(error)) => {
            tracing::debug!(entry = entry.0, %error, "a chunk did not come in whole");
            let _ = events.send(Event::Broken(entry)).await;
        }
    }
    while let Some(reader) = readers.recv().await {
        held.add_reader(reader);
    }
}

/// What has come in of a chunk, and who is reading it.
#[derive(Default)]
struct Held {
    segments: Vec<Bytes>,
    bytes: usize,
    readers: Vec<Segments>,
}

impl Held {
    fn add(&mut self, segment: Bytes) {
        self.bytes += segment.len();
        self.readers.retain(|reader| reader.send(segment.clone()).is_ok());
        self.segments.push(segment);
    }

    fn add_reader(&mut self, reader: Segments) {
        if self.segments.iter().all(|segment| reader.send(segment.clone()).is_ok()) {
            self.readers.push(reader);
        }
    }
}

/// One chunk on its way to one asker.
pub(super) struct Forwarding {
    pub(super) forward: ForwardId,
    pub(super) connection: Connection,
    /// With the asker's own number.
    pub(super) header: ChunkHeader,
    pub(super) segments: mpsc::UnboundedReceiver<Bytes>,
    /// The core wants no more of it.
    pub(super) ended: oneshot::Receiver<StreamCode>,
    pub(super) events: Events,
}

impl Forwarding {
    /// Passes the chunk on, until it is all written, or the asker or the core want no more of it.
    pub(super) async fn run(mut self) {
        let opened = tokio::select! {
            _ = &mut self.ended => return,
            opened = open_chunk(&self.connection) => opened,
        };
        // A connection that is lost is told of as a whole.
        let Ok(mut stream) = opened else { return };
        let written = tokio::select! {
            code = &mut self.ended => return stream.reset(code.unwrap_or(StreamCode::Failed)),
            written = write(&mut stream, self.forward, &self.header, &mut self.segments, &self.events) => written,
        };
        match written {
            Ok(()) => {
                stream.finish();
                let _ = self.events.send(Event::Forwarded(self.forward)).await;
            }
            Err(error) => {
                tracing::trace!(forward = self.forward.0, %error, "an asker took no more");
                let _ = self.events.send(Event::Unwanted(self.forward)).await;
            }
        }
    }
}

async fn write(
    stream: &mut ChunkSender,
    forward: ForwardId,
    header: &ChunkHeader,
    segments: &mut mpsc::UnboundedReceiver<Bytes>,
    events: &Events,
) -> Result<(), ChunkError> {
    let mut left = header.stream_bytes();
    let mut told = Instant::now();
    stream.write(Bytes::copy_from_slice(&header.encode())).await?;
    while left > 0 {
        let Some(segment) = segments.recv().await else {
            // The chunk broke off: the core says how this ends.
            return std::future::pending().await;
        };
        left -= segment.len();
        stream.write(segment).await?;
        if told.elapsed() >= PROGRESS_PAUSE {
            told = Instant::now();
            let _ = events.send(Event::Forwarding(forward)).await;
        }
    }
    Ok(())
}

const _: () = assert!(SEGMENT_BYTES as u64 <= SLOWEST_RATE);
