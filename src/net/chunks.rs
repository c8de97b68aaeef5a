//! Chunk streams: one unidirectional stream a chunk, below the control stream in rank. A stream that ends without
//! [`ChunkSender::finish`] is reset: a chunk that was cut short never looks like a whole one.

use super::connection::{CloseReason, Connection, varint};
use super::limits::UDP_PAYLOAD_BYTES_MAX;
use crate::wire::close::StreamCode;
use bytes::Bytes;
use quinn::{ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, StoppedError, WriteError};

/// Pieces that one call of [`ChunkReceiver::read_segments`] gathers at most: 94 KiB of full packets.
const SEGMENTS_MAX: usize = 64;

/// A chunk stream does not carry on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The sender gave the stream up.
    #[error("the sender gave the chunk up: {0}")]
    Reset(StreamCode),
    /// The receiver stopped the stream.
    #[error("the receiver stopped the chunk: {0}")]
    Stopped(StreamCode),
    /// The stream ended before what was expected.
    #[error("the chunk is shorter than announced")]
    TooShort,
    /// The stream goes on after what was expected.
    #[error("the chunk is longer than announced")]
    TooLong,
    /// This side ended the stream itself.
    #[error("the chunk stream was ended by this side")]
    Ended,
    /// The connection ended.
    #[error("{0}")]
    Lost(CloseReason),
}

/// Opens a chunk stream; waits while as many are open as the peer allows.
pub async fn open_chunk(connection: &Connection) -> Result<ChunkSender, ChunkError> {
    let stream = connection.quic().open_uni().await?;
    Ok(ChunkSender { stream, ended: false })
}

/// The next chunk stream that the peer opened. Dropping the future loses nothing.
pub async fn accept_chunk(connection: &Connection) -> Result<ChunkReceiver, ChunkError> {
    let stream = connection.quic().accept_uni().await?;
    Ok(ChunkReceiver { stream, rest: Bytes::new() })
}

/// The sending end of a chunk stream. Dropped unfinished, it resets the stream with [`StreamCode::Failed`].
#[derive(Debug)]
pub struct ChunkSender {
    stream: SendStream,
    ended: bool,
}

impl ChunkSender {
    /// Writes `bytes` without copying them; waits while the windows are full.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ChunkError> {
        Ok(self.stream.write_chunk(bytes).await?)
    }

    /// Writes all `pieces` without copying them; waits while the windows are full.
    pub async fn write_all_chunks(&mut self, pieces: &mut [Bytes]) -> Result<(), ChunkError> {
        Ok(self.stream.write_all_chunks(pieces).await?)
    }

    /// Ends the stream after what was written; that still arrives, as long as the connection lives.
    pub fn finish(mut self) {
        self.ended = true;
        // Fails only for a stream that has ended, and this is the first end.
        let _ = self.stream.finish();
    }

    /// The same, and waits until the peer has taken all of it. Dropped before that, the stream is reset, and what of it is
    /// not sent yet stays here.
    pub async fn finish_and_wait(mut self) -> Result<(), ChunkError> {
        let _ = self.stream.finish();
        let stopped = self.stopped().await;
        self.ended = true;
        match stopped? {
            None => Ok(()),
            Some(code) => Err(ChunkError::Stopped(code)),
        }
    }

    /// Gives the stream up; what was written may never arrive.
    pub fn reset(mut self, code: StreamCode) {
        self.give_up(code);
    }

    /// Waits until the peer stops the stream, and tells its code; `None` if it took all there was. The future does
    /// not borrow the sender, so that it can be watched while writing.
    pub fn stopped(&self) -> impl Future<Output = Result<Option<StreamCode>, ChunkError>> + Send + 'static + use<> {
        let stopped = self.stream.stopped();
        async move { Ok(stopped.await?.map(|code| code.into_inner().into())) }
    }

    fn give_up(&mut self, code: StreamCode) {
        self.ended = true;
        // Fails only for a stream that has ended, and this is the first end.
        let _ = self.stream.reset(varint(code.into()));
    }
}

impl Drop for ChunkSender {
    fn drop(&mut self) {
        if !self.ended {
            self.give_up(StreamCode::Failed);
        }
    }
}

/// The receiving end of a chunk stream. Dropped before the end, it stops the stream with [`StreamCode::NotWanted`].
#[derive(Debug)]
pub struct ChunkReceiver {
    stream: RecvStream,
    /// Taken from the stream, and more than the last caller wanted.
    rest: Bytes,
}

impl ChunkReceiver {
    /// Reads exactly `bytes` bytes. Dropping the future loses what was read.
    pub async fn read_header(&mut self, bytes: usize) -> Result<Vec<u8>, ChunkError> {
        let mut header = vec![0; bytes];
        self.read_exact_into(&mut header).await?;
        Ok(header)
    }

    /// Fills `buffer`. Dropping the future loses what was read.
    pub async fn read_exact_into(&mut self, buffer: &mut [u8]) -> Result<(), ChunkError> {
        let (from_rest, from_stream) = buffer.split_at_mut(self.rest.len().min(buffer.len()));
        from_rest.copy_from_slice(&self.rest.split_to(from_rest.len()));
        Ok(self.stream.read_exact(from_stream).await?)
    }

    /// Reads what has arrived, `bytes_max` bytes at most (not 0), and waits only if that is nothing; `None` at the end
    /// of the stream. The bytes are a copy of their own: QUIC's pieces would each keep a whole datagram's buffer alive.
    /// Dropping the future loses nothing.
    pub async fn read_segments(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ChunkError> {
        if self.rest.is_empty() {
            let mut pieces: [Bytes; SEGMENTS_MAX] = [const { Bytes::new() }; SEGMENTS_MAX];
            let wanted = bytes_max.div_ceil(UDP_PAYLOAD_BYTES_MAX.into()).clamp(1, SEGMENTS_MAX);
            let Some(count) = self.stream.read_chunks(&mut pieces[..wanted]).await? else { return Ok(None) };
            self.rest = pieces[..count].concat().into();
        }
        Ok(Some(self.rest.split_to(bytes_max.min(self.rest.len()))))
    }

    /// Waits for the end of the stream; a byte more is an error.
    pub async fn expect_end(&mut self) -> Result<(), ChunkError> {
        if self.rest.is_empty() && self.stream.read(&mut [0]).await?.is_none() {
            Ok(())
        } else {
            Err(ChunkError::TooLong)
        }
    }

    /// Tells the sender to stop.
    pub fn stop(mut self, code: StreamCode) {
        // Fails only for a stream that has ended, and then there is nothing to stop.
        let _ = self.stream.stop(varint(code.into()));
    }
}

impl From<ConnectionError> for ChunkError {
    fn from(error: ConnectionError) -> ChunkError {
        ChunkError::Lost(error.into())
    }
}

impl From<WriteError> for ChunkError {
    fn from(error: WriteError) -> ChunkError {
        match error {
            WriteError::Stopped(code) => ChunkError::Stopped(code.into_inner().into()),
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => ChunkError::Ended,
        }
    }
}

impl From<StoppedError> for ChunkError {
    fn from(error: StoppedError) -> ChunkError {
        match error {
            StoppedError::ConnectionLost(error) => error.into(),
            StoppedError::ZeroRttRejected => ChunkError::Ended,
        }
    }
}

impl From<ReadError> for ChunkError {
    fn from(error: ReadError) -> ChunkError {
        match error {
            ReadError::Reset(code) => ChunkError::Reset(code.into_inner().into()),
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => ChunkError::Ended,
        }
    }
}

impl From<ReadExactError> for ChunkError {
    fn from(error: ReadExactError) -> ChunkError {
        match error {
            ReadExactError::FinishedEarly(_) => ChunkError::TooShort,
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}
