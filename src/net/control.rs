//! The control stream: one a connection, opened by who dials. Frames are a length (u32, little-endian) and as many
//! bytes; what they say is not known here. A length is checked before anything is allocated for it, and what waits
//! for a slow peer is bounded in bytes: sending never waits.

use super::connection::{CloseReason, Connection};
use super::limits::{CONTROL_FRAME_BYTES_MAX, CONTROL_TIMEOUT, SEND_WINDOW_BYTES, SEND_WINDOW_CONTROL_BYTES};
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

const PREFIX_BYTES: usize = size_of::<u32>();

/// Control outranks chunks, which have quinn's default of 0.
const PRIORITY: i32 = 1;

/// Frames that the writer takes from its queue at once, to hand them to QUIC as one piece.
const BATCH_FRAMES: usize = 64;

/// The control stream does not carry on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// A frame's length passes the limit.
    #[error("a control frame of {bytes} bytes, {limit} are allowed")]
    TooLong {
        /// What the prefix says.
        bytes: usize,
        /// The receiver's limit.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("the control stream ended inside a frame")]
    Truncated,
    /// The peer reset its control stream.
    #[error("the other side abandoned its control stream")]
    Abandoned,
    /// The peer opened no control stream in time, or let us open none.
    #[error("the other side said nothing")]
    Silent,
    /// The connection ended.
    #[error("{0}")]
    Lost(CloseReason),
}

/// A frame that was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// What waits for the peer already is all that may wait: close with `TOO_SLOW`.
    #[error("the other side does not read its control frames fast enough")]
    TooSlow,
    /// The frame passes [`CONTROL_FRAME_BYTES_MAX`].
    #[error("a control frame is too long to be sent")]
    TooLong,
    /// The connection is over, or the peer stopped its end of the stream.
    #[error("the control stream is over")]
    Over,
}

/// Opens the control stream of a connection that we dialled, if the peer lets us within [`CONTROL_TIMEOUT`]. It learns of
/// it by the first frame. At most `queue_bytes_max` bytes of frames wait to be sent.
pub async fn open_control(
    connection: &Connection,
    queue_bytes_max: usize,
) -> Result<(ControlSender, ControlReceiver), ControlError> {
    let opened = timeout(CONTROL_TIMEOUT, connection.quic().open_bi()).await.map_err(|_| ControlError::Silent)?;
    let (send, receive) = opened.map_err(|error| ControlError::Lost(error.into()))?;
    Ok(both_ends(connection, send, receive, queue_bytes_max))
}

/// Waits for the control stream of a connection that we accepted, for `limit` at most.
pub async fn accept_control(
    connection: &Connection,
    queue_bytes_max: usize,
    limit: Duration,
) -> Result<(ControlSender, ControlReceiver), ControlError> {
    let accepted = timeout(limit, connection.quic().accept_bi()).await.map_err(|_| ControlError::Silent)?;
    let (send, receive) = accepted.map_err(|error| ControlError::Lost(error.into()))?;
    Ok(both_ends(connection, send, receive, queue_bytes_max))
}

fn both_ends(
    connection: &Connection,
    send: SendStream,
    receive: RecvStream,
    queue_bytes_max: usize,
) -> (ControlSender, ControlReceiver) {
    // Fails for a stream that is over already; the first write will say so.
    let _ = send.set_priority(PRIORITY);
    let (queue, frames) = unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    tokio::spawn(write_out(connection.quic().clone(), send, frames, queued.clone()));
    (ControlSender { queue, queued, bytes_max: queue_bytes_max }, ControlReceiver::new(receive))
}

/// The sending half; clones feed the same stream, which is finished when the last is dropped and all is written.
#[derive(Debug, Clone)]
pub struct ControlSender {
    queue: UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl ControlSender {
    /// Queues one frame; never waits. The frames of one caller keep their order.
    pub fn try_send(&self, frame: impl Into<Bytes>) -> Result<(), SendError> {
        let frame = frame.into();
        if frame.len() > CONTROL_FRAME_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        let with_frame = |queued: usize| Some(queued + cost(&frame)).filter(|bytes| *bytes <= self.bytes_max);
        self.queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_frame)
            .map_err(|_| if self.queue.is_closed() { SendError::Over } else { SendError::TooSlow })?;
        self.queue.send(frame).map_err(|_| SendError::Over)
    }

    /// Bytes of frames that QUIC has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

/// What a frame takes of the queue's bound.
fn cost(frame: &Bytes) -> usize {
    PREFIX_BYTES + frame.len()
}

/// Drains the queue to the stream. The bytes count as queued until QUIC has taken them.
async fn write_out(
    connection: quinn::Connection,
    mut stream: SendStream,
    mut frames: UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
) {
    let mut batch = Vec::new();
    while frames.recv_many(&mut batch, BATCH_FRAMES).await > 0 {
        let bytes = batch.iter().map(cost).sum();
        if let Err(error) = write_batch(&connection, &mut stream, &batch, bytes).await {
            return tracing::debug!(%error, "the control stream is over");
        }
        queued.fetch_sub(bytes, Ordering::Relaxed);
        batch.clear();
    }
    // Fails for a stream that is over already.
    let _ = stream.finish();
}

async fn write_batch(
    connection: &quinn::Connection,
    stream: &mut SendStream,
    batch: &[Bytes],
    bytes: usize,
) -> Result<(), WriteError> {
    let mut joined = Vec::with_capacity(bytes);
    for frame in batch {
        // The limit on frames is far below 4 GiB.
        joined.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        joined.extend_from_slice(frame);
    }
    let mut rest = Bytes::from(joined);
    while !rest.is_empty() {
        if let Some(written) = write_beyond_chunks(connection, stream, &mut rest) {
            written?;
        } else {
            stream.write_chunks(slice::from_mut(&mut rest)).await?;
        }
    }
    Ok(())
}

/// Writes what can be written at once, with room that chunks cannot take: on a slow link they fill the send window,
/// which is one for the whole connection, and control would wait for seconds behind them. `None`: the peer's own
/// windows leave no room either.
fn write_beyond_chunks(
    connection: &quinn::Connection,
    stream: &mut SendStream,
    rest: &mut Bytes,
) -> Option<Result<(), WriteError>> {
    connection.set_send_window(SEND_WINDOW_BYTES + SEND_WINDOW_CONTROL_BYTES);
    let written = stream.write_chunks(slice::from_mut(rest)).now_or_never();
    connection.set_send_window(SEND_WINDOW_BYTES);
    Some(written?.map(|_| ()))
}

/// The receiving half.
#[derive(Debug)]
pub struct ControlReceiver {
    stream: RecvStream,
    limit: usize,
    prefix: Filling<[u8; PREFIX_BYTES]>,
    body: Option<Filling<Vec<u8>>>,
}

/// A buffer of fixed length and how much of it is filled: kept in the receiver, so that dropping a future of
/// [`ControlReceiver::recv`] loses nothing.
#[derive(Debug)]
struct Filling<B> {
    bytes: B,
    filled: usize,
}

impl ControlReceiver {
    fn new(stream: RecvStream) -> ControlReceiver {
        let prefix = Filling { bytes: [0; PREFIX_BYTES], filled: 0 };
        ControlReceiver { stream, limit: CONTROL_FRAME_BYTES_MAX, prefix, body: None }
    }

    /// Sets the longest frame that is taken, in bytes; [`CONTROL_FRAME_BYTES_MAX`] at first and at most. A stranger
    /// gets a small one.
    pub fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes.min(CONTROL_FRAME_BYTES_MAX);
    }

    /// The next frame; `None` at the end of the stream. Dropping the future loses nothing. After an error the stream
    /// is of no more use.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, ControlError> {
        if self.body.is_none() {
            if !self.prefix.fill(&mut self.stream).await? {
                return if self.prefix.filled == 0 { Ok(None) } else { Err(ControlError::Truncated) };
            }
            let bytes = (&self.prefix.bytes[..]).get_u32_le() as usize;
            if bytes > self.limit {
                return Err(ControlError::TooLong { bytes, limit: self.limit });
            }
            self.prefix.filled = 0;
            self.body = Some(Filling { bytes: vec![0; bytes], filled: 0 });
        }
        if let Some(body) = &mut self.body
            && !body.fill(&mut self.stream).await?
        {
            return Err(ControlError::Truncated);
        }
        Ok(self.body.take().map(|body| body.bytes.into()))
    }
}

impl<B: AsMut<[u8]>> Filling<B> {
    /// Fills the buffer; false if the stream ends before it is full.
    async fn fill(&mut self, stream: &mut RecvStream) -> Result<bool, ControlError> {
        loop {
            let rest = &mut self.bytes.as_mut()[self.filled..];
            if rest.is_empty() {
                return Ok(true);
            }
            match stream.read(rest).await {
                Ok(Some(bytes)) => self.filled += bytes,
                Ok(None) => return Ok(false),
                Err(ReadError::ConnectionLost(error)) => return Err(ControlError::Lost(error.into())),
                Err(
                    ReadError::Reset(_)
                    | ReadError::ClosedStream
                    | ReadError::IllegalOrderedRead
                    | ReadError::ZeroRttRejected,
                ) => return Err(ControlError::Abandoned),
            }
        }
    }
}
