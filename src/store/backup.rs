//! A backup file, written and read as a stream of sealed segments: memory is two of them, whatever the log's size.

use crate::wire::backup::{BackupHeader, BackupKey, BadBackup, HEADER_BYTES, SEGMENT_BYTES};
use crate::wire::seal::TAG_BYTES;
use std::io::{self, BufRead, BufReader, Read, Write};

/// Seals what is written, segment by segment.
pub struct BackupWriter<W: Write> {
    out: W,
    key: BackupKey,
    number: u64,
    segment: Vec<u8>,
}

impl<W: Write> BackupWriter<W> {
    /// Writes the header.
    pub fn begin(mut out: W, header: &BackupHeader, key: BackupKey) -> io::Result<BackupWriter<W>> {
        out.write_all(&header.encode())?;
        Ok(BackupWriter { out, key, number: 0, segment: Vec::with_capacity(SEGMENT_BYTES + TAG_BYTES) })
    }

    /// Writes the last segment. Without it the file is incomplete, and says so.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_segment(true)?;
        Ok(self.out)
    }

    fn flush_segment(&mut self, last: bool) -> io::Result<()> {
        self.key.seal(self.number, last, &mut self.segment);
        self.out.write_all(&self.segment)?;
        self.segment.clear();
        self.number += 1;
        Ok(())
    }
}

impl<W: Write> Write for BackupWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full segment waits for what follows: only the end tells which one is the last.
        if self.segment.len() == SEGMENT_BYTES && !bytes.is_empty() {
            self.flush_segment(false)?;
        }
        let taken = bytes.len().min(SEGMENT_BYTES - self.segment.len());
        self.segment.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens segments as they are read. Errors of content are [`io::Error`]s around a [`BadBackup`].
pub struct BackupReader<R: Read> {
    from: BufReader<R>,
    key: BackupKey,
    number: u64,
    segment: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Reads a backup's header.
pub fn read_header(from: &mut impl Read) -> io::Result<BackupHeader> {
    let mut bytes = [0; HEADER_BYTES];
    match from.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(bad(BadBackup::Other)),
        Err(error) => Err(error),
        Ok(()) => BackupHeader::decode(&bytes).map_err(bad),
    }
}

/// What is wrong with a backup's content, if that is what an error says.
pub fn bad_backup(error: &io::Error) -> Option<BadBackup> {
    error.get_ref()?.downcast_ref::<BadBackup>().copied()
}

fn bad(why: BadBackup) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<R: Read> BackupReader<R> {
    /// Goes on after the header.
    pub fn begin(from: R, key: BackupKey) -> BackupReader<R> {
        let from = BufReader::with_capacity(SEGMENT_BYTES, from);
        BackupReader { from, key, number: 0, segment: Vec::new(), at: 0, ended: false }
    }

    /// Whether all was read, and the file ended where it should.
    pub fn finish(mut self) -> io::Result<()> {
        let mut byte = [0];
        if self.read(&mut byte)? == 0 { Ok(()) } else { Err(bad(BadBackup::Damaged)) }
    }

    fn next_segment(&mut self) -> io::Result<()> {
        self.segment.clear();
        self.at = 0;
        Read::by_ref(&mut self.from).take((SEGMENT_BYTES + TAG_BYTES) as u64).read_to_end(&mut self.segment)?;
        let last = self.from.fill_buf()?.is_empty();
        self.key.open(self.number, last, &mut self.segment).map_err(bad)?;
        self.number += 1;
        self.ended = last;
        Ok(())
    }
}

impl<R: Read> Read for BackupReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.segment.len() && !self.ended {
            self.next_segment()?;
        }
        let taken = out.len().min(self.segment.len() - self.at);
        out[..taken].copy_from_slice(&self.segment[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::backup::Cost;

    const HEADER: BackupHeader = BackupHeader { cost: Cost { memory_kib: 8, passes: 1, lanes: 1 }, salt: [5; 16] };

    fn key(passphrase: &[u8]) -> BackupKey {
        BackupKey::derive(&HEADER, passphrase).unwrap()
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut writer = BackupWriter::begin(Vec::new(), &HEADER, key(b"open sesame")).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn read(file: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, Option<BadBackup>> {
        let mut from = file;
        let why = |error: io::Error| bad_backup(&error);
        let header = read_header(&mut from).map_err(why)?;
        assert_eq!(header, HEADER);
        let mut reader = BackupReader::begin(from, key(passphrase));
        let mut plain = Vec::new();
        reader.read_to_end(&mut plain).map_err(why)?;
        reader.finish().map_err(why)?;
        Ok(plain)
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn what_was_written_is_read_at_every_length_around_a_segment() {
        for bytes in [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES, 200_000] {
            let plain = noise(bytes);
            let file = sealed(&plain);
            assert!(read(&file, b"open sesame") == Ok(plain), "{bytes}");
            assert_eq!(read(&file, b"open sesam"), Err(Some(BadBackup::Passphrase)), "{bytes}");
        }
    }

    #[test]
    fn no_byte_can_be_changed_dropped_added_or_moved() {
        let file = sealed(&noise(3 * SEGMENT_BYTES + 77));
        let segment = SEGMENT_BYTES + TAG_BYTES;
        for at in (HEADER_BYTES..file.len()).step_by(9_973) {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(read(&changed, b"open sesame").is_err(), "changed at {at}");
            assert!(read(&file[..at], b"open sesame").is_err(), "cut at {at}");
        }
        for segments in 0..4 {
            let cut = HEADER_BYTES + segments * segment;
            assert!(read(&file[..cut], b"open sesame").is_err(), "cut after {segments} segments");
        }
        let mut longer = file.clone();
        longer.push(0);
        assert_eq!(read(&longer, b"open sesame"), Err(Some(BadBackup::Damaged)));
        let mut moved = file.clone();
        let (first, second) = moved[HEADER_BYTES..].split_at_mut(segment);
        first.swap_with_slice(&mut second[..segment]);
        assert_eq!(read(&moved, b"open sesame"), Err(Some(BadBackup::Passphrase)));
        let mut salted = file;
        salted[40] ^= 1;
        let header = read_header(&mut &salted[..]).unwrap();
        assert!(header != HEADER, "the salt is the header's");
    }
}
