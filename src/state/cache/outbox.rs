//! Frames about many chunks are gathered while one input is handled, and sent as few.

use super::Effect;
use crate::state::conn::ConnId;
use crate::wire::frame::{ChunkRange, ChunkRefusal, Frame, ranges_of};
use crate::wire::ids::ContentId;
use crate::wire::limits::RANGES_PER_FRAME_MAX;
use std::collections::HashMap;

/// What is said of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Word {
    Upload,
    Cancel,
    Refused(ChunkRefusal),
}

type Chunk = (ContentId, u32, u32);
/// To whom, with which of its numbers, what.
type Topic = (ConnId, u64, Word);

#[derive(Default)]
pub(super) struct Outbox {
    topics: Vec<(Topic, Vec<Chunk>)>,
    places: HashMap<Topic, usize>,
}

impl Outbox {
    pub(super) fn add(&mut self, to: ConnId, request: u64, word: Word, chunk: Chunk) {
        let topic = (to, request, word);
        let place = *self.places.entry(topic).or_insert_with(|| {
            self.topics.push((topic, Vec::new()));
            self.topics.len() - 1
        });
        self.topics[place].1.push(chunk);
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Effect> + use<> {
        self.places.clear();
        std::mem::take(&mut self.topics).into_iter().flat_map(|((to, request, word), chunks)| {
            let ranges = ranges_of(chunks);
            let pages: Vec<Effect> = ranges
                .chunks(RANGES_PER_FRAME_MAX)
                .map(|page| Effect::Send { to, frame: frame(request, word, page.to_vec()) })
                .collect();
            pages
        })
    }
}

fn frame(request: u64, word: Word, ranges: Vec<ChunkRange>) -> Frame {
    match word {
        Word::Upload => Frame::UploadChunk { request, ranges },
        Word::Cancel => Frame::CancelChunk { request, ranges },
        Word::Refused(reason) => Frame::ChunkRefused { request, ranges, reason },
    }
}
