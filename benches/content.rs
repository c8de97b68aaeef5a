//! Hashing and checking chunks, in bytes a second: next to BLAKE3 alone, which is the ceiling.

use bailiwick::store::tree::{ListBuilder, check_chunk, check_list};
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::geometry::{ChunkSize, Geometry};
use bailiwick::wire::ids::{Audience, ContentId, EpochId, GroupId};
use bailiwick::wire::seal::{Cipher, Epoch, chunk_key};
use bailiwick::wire::sign::Secret32;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const CHUNKS: usize = 16;

fn content(criterion: &mut Criterion) {
    let chunk = ChunkSize::for_file(0);
    let bytes = chunk.bytes() as usize;
    let data = vec![7u8; bytes * CHUNKS];
    let mut group = criterion.benchmark_group("content");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("blake3 alone", |bencher| bencher.iter(|| blake3::hash(black_box(&data))));
    group.bench_function("hash into a list", |bencher| {
        bencher.iter(|| {
            let mut builder = ListBuilder::new(chunk);
            data.chunks(bytes).for_each(|piece| builder.push(black_box(piece)));
            builder.finish()
        });
    });
    let mut builder = ListBuilder::new(chunk);
    data.chunks(bytes).for_each(|piece| builder.push(piece));
    let hashed = builder.finish();
    let geometry = Geometry::new(hashed.size, chunk).expect("a geometry");
    group.bench_function("check chunks", |bencher| {
        bencher.iter(|| {
            data.chunks(bytes).enumerate().all(|(index, piece)| {
                check_chunk(&geometry, index as u32, black_box(piece), &hashed.hash, Some(&hashed.list))
            })
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("list");
    group.throughput(Throughput::Bytes(hashed.list.len() as u64));
    group.bench_function("check a list", |bencher| {
        bencher.iter(|| check_list(&geometry, black_box(&hashed.list), &hashed.hash));
    });
    group.finish();
}

fn seals(criterion: &mut Criterion) {
    let epoch = Epoch { id: EpochId { generation: 1, number: 1 }, secret: Secret32([1; 32]) };
    let group_id = GroupId([2; 32]);
    let mut group = criterion.benchmark_group("seal and open");
    let length = 1 << 20;
    group.throughput(Throughput::Bytes(length));
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        let header = ChunkHeader {
            cipher,
            audience: Audience::EVERYONE,
            epoch: epoch.id,
            request: 1,
            content: ContentId([3; 16]),
            index: 0,
            length: length as u32,
            nonce: [4; 12],
        };
        let key = chunk_key(&epoch, &header.content, cipher).expect("a sealing cipher");
        let bound = header.bound(&group_id);
        let mut chunk = vec![5u8; length as usize];
        group.bench_function(format!("{cipher:?}"), |bencher| {
            bencher.iter(|| {
                key.seal(header.nonce, &bound, &mut chunk);
                key.open(header.nonce, &bound, &mut chunk).expect("it opens");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, content, seals);
criterion_main!(benches);
