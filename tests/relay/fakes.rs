//! Owners and askers that speak the protocol and nothing else, so that the server is tested against what the protocol says
//! and not against what our own nodes do.

use super::group::{Fake, MIB, header, within};
use bailiwick::net::chunks::{ChunkError, accept_chunk, open_chunk};
use bailiwick::net::connection::Connection;
use bailiwick::wire::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use bailiwick::wire::frame::{ChunkRange, Frame};
use bailiwick::wire::ids::ContentId;
use bailiwick::wire::seal::TAG_BYTES;

impl Fake {
    /// Takes one chunk, and checks its bytes.
    pub(crate) async fn take(&self) -> ChunkHeader {
        self.next().await.unwrap()
    }

    /// Takes what comes, whole or given up by the server, until a chunk of this request is there.
    pub(crate) async fn take_of(&self, request: u64) {
        loop {
            match self.next().await {
                Ok(header) if header.request == request => return,
                Ok(_) | Err(ChunkError::Reset(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn next(&self) -> Result<ChunkHeader, ChunkError> {
        let mut stream = within(accept_chunk(&self.connection)).await.unwrap();
        let header = within(stream.read_header(CHUNK_HEADER_BYTES)).await?;
        let header = ChunkHeader::decode(&header.try_into().unwrap()).unwrap();
        let mut bytes = vec![0; header.stream_bytes()];
        within(stream.read_exact_into(&mut bytes)).await?;
        within(stream.expect_end()).await?;
        assert!(bytes == chunk(header.index), "chunk {} is another", header.index);
        Ok(header)
    }

    /// Serves whatever is asked for, as an owner, for ever.
    pub(crate) async fn serve(mut self) {
        while let Some(frame) = self.frame().await {
            let Frame::UploadChunk { request, ranges } = frame else { continue };
            for (content, index, length) in ranges.iter().flat_map(ChunkRange::chunks) {
                send(&self.connection, request, content, index, length).await;
            }
        }
    }
}

/// Sends one chunk; one that the server does not want any more is let go.
pub(crate) async fn send(connection: &Connection, request: u64, content: ContentId, index: u32, length: u32) {
    let header = header(request, content, index, length);
    let Ok(mut stream) = open_chunk(connection).await else { return };
    let written = stream.write_all_chunks(&mut [header.encode().to_vec().into(), chunk(index).into()]).await;
    if written.is_ok() {
        stream.finish();
    }
}

/// What a chunk's sealed bytes are in these tests.
pub(crate) fn chunk(index: u32) -> Vec<u8> {
    let mut bytes = vec![0; MIB as usize + TAG_BYTES];
    blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut bytes[..4096]);
    bytes
}
