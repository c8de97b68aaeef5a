//! Chunk streams: bytes, ends, and the codes that say why.

use crate::common::*;
use bailiwick::net::chunks::{ChunkError, ChunkReceiver, ChunkSender, accept_chunk, open_chunk};
use bailiwick::net::connection::CloseReason;
use bailiwick::wire::close::{CloseCode, StreamCode};
use bytes::Bytes;
use futures_util::FutureExt;

/// A chunk stream whose first byte, a header, has been read.
async fn begun(pair: &Pair) -> (ChunkSender, ChunkReceiver) {
    let mut sender = within(open_chunk(&pair.dialled)).await.unwrap();
    sender.write(Bytes::from_static(b"h")).await.unwrap();
    let mut receiver = within(accept_chunk(&pair.accepted)).await.unwrap();
    assert_eq!(within(receiver.read_header(1)).await.unwrap(), b"h");
    (sender, receiver)
}

fn content(bytes: usize) -> Bytes {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

#[tokio::test]
async fn a_chunk_arrives_whole_into_a_buffer() {
    let pair = pair().await;
    let (mut sender, mut receiver) = begun(&pair).await;
    let sent = content(1 << 20);
    let mut pieces = [sent.slice(..1000), sent.slice(1000..)];
    let mut got = vec![0; sent.len()];
    let write = async {
        sender.write_all_chunks(&mut pieces).await.unwrap();
        sender.finish();
    };
    let read = async {
        receiver.read_exact_into(&mut got).await.unwrap();
        receiver.expect_end().await.unwrap();
    };
    within(async { tokio::join!(write, read) }).await;
    assert!(got == sent);
}

#[tokio::test]
async fn a_chunk_arrives_whole_in_segments_that_end_where_they_must() {
    let pair = pair().await;
    let (mut sender, mut receiver) = begun(&pair).await;
    let sent = content(1 << 20);
    let write = async {
        sender.write(sent.clone()).await.unwrap();
        sender.finish();
    };
    let read = async {
        let mut got = Vec::new();
        // Odd limits and a mixture of calls, so that something stays over each time.
        while let Some(segment) = receiver.read_segments(1 + got.len() % 5000).await.unwrap() {
            assert!(!segment.is_empty() && segment.len() <= 1 + got.len() % 5000);
            got.extend_from_slice(&segment);
            if got.len() < sent.len() - 100 {
                got.extend(receiver.read_header(100).await.unwrap());
            }
        }
        receiver.expect_end().await.unwrap();
        got
    };
    let ((), got) = within(async { tokio::join!(write, read) }).await;
    assert!(got == sent);
}

#[tokio::test]
async fn the_senders_code_arrives() {
    let pair = pair().await;
    let (sender, mut receiver) = begun(&pair).await;
    sender.reset(StreamCode::Changed);
    assert_eq!(within(receiver.read_segments(100)).await, Err(ChunkError::Reset(StreamCode::Changed)));
}

#[tokio::test]
async fn the_receivers_code_arrives() {
    let pair = pair().await;
    let (mut sender, receiver) = begun(&pair).await;
    receiver.stop(StreamCode::Cancelled);
    assert_eq!(within(sender.stopped()).await, Ok(Some(StreamCode::Cancelled)));
    let error = within(sender.write(Bytes::from_static(b"x"))).await;
    assert_eq!(error, Err(ChunkError::Stopped(StreamCode::Cancelled)));
}

#[tokio::test]
async fn who_lets_go_of_a_chunk_tells_the_other() {
    let pair = pair().await;
    let (sender, mut receiver) = begun(&pair).await;
    drop(sender);
    assert_eq!(within(receiver.read_header(1)).await, Err(ChunkError::Reset(StreamCode::Failed)));
    let (sender, receiver) = begun(&pair).await;
    drop(receiver);
    assert_eq!(within(sender.stopped()).await, Ok(Some(StreamCode::NotWanted)));
}

#[tokio::test]
async fn a_chunk_of_another_length_is_an_error() {
    let pair = pair().await;
    let (sender, mut receiver) = begun(&pair).await;
    sender.finish();
    assert_eq!(within(receiver.read_header(1)).await, Err(ChunkError::TooShort));
    let (mut sender, mut receiver) = begun(&pair).await;
    sender.write(Bytes::from_static(b"xy")).await.unwrap();
    assert_eq!(within(receiver.expect_end()).await, Err(ChunkError::TooLong));
}

#[tokio::test]
async fn a_chunk_dies_with_its_connection() {
    let pair = pair().await;
    let (_sender, mut receiver) = begun(&pair).await;
    pair.dialled.close(CloseCode::Replaced);
    let Err(ChunkError::Lost(reason)) = within(receiver.read_header(1)).await else { panic!("the chunk goes on") };
    assert_eq!(reason, CloseReason::Peer(CloseCode::Replaced));
}

#[tokio::test]
async fn the_acceptor_decides_how_many_streams_there_are() {
    let pair = pair_with(|config| config.first_uni_streams = 0).await;
    assert!(open_chunk(&pair.dialled).now_or_never().is_none());
    pair.accepted.raise_streams(1);
    let first = within(open_chunk(&pair.dialled)).await.unwrap();
    assert!(open_chunk(&pair.dialled).now_or_never().is_none());
    drop(first);
}
