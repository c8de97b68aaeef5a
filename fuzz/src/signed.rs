//! What is signed and sealed. Whatever the bytes are: they count if the right key signed just them, in just this
//! context, for just this group, and not otherwise.

use crate::{Bytes, golden};
use bailiwick::state::chain::{Judgement, LogTip};
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::envelope::Letter;
use bailiwick::wire::ids::{EpochId, GroupId, Hash};
use bailiwick::wire::limits::{HEADER_BYTES_MAX, REVISION_MAX};
use bailiwick::wire::log::{Head, Header, Manifest, SaltedBody, SignedHead, SignedHeader, SignedManifest};
use bailiwick::wire::seal::{ChunkKey, Cipher, Epoch, SealedBody, chunk_key, seal_to};
use bailiwick::wire::sign::{Context, Identity, Secret32, Signature};
use std::sync::OnceLock;

struct People {
    master: Identity,
    client: Identity,
    group: GroupId,
    chunks: ChunkKey,
}

/// The parties of the golden values.
fn people() -> &'static People {
    static PEOPLE: OnceLock<People> = OnceLock::new();
    PEOPLE.get_or_init(|| {
        let master = Identity::from_seeds([1; 32], [2; 32]);
        let group = GroupId::of(&master.device_key());
        let content = bailiwick::wire::ids::ContentId([0xc1; 16]);
        let chunks = chunk_key(&epoch(), &content, Cipher::Aes256Gcm).expect("a cipher");
        People { master, client: Identity::from_seeds([3; 32], [4; 32]), group, chunks }
    })
}

fn epoch() -> Epoch {
    Epoch { id: EpochId { generation: 1, number: 2 }, secret: Secret32([0x2c; 32]) }
}

/// How a signature is made: in one way only it counts.
struct Signer {
    is_right: bool,
    signature: Signature,
}

fn signer(bytes: &mut Bytes<'_>, right: &Identity, context: Context, group: &GroupId, content: &[u8]) -> Signer {
    let people = people();
    let other = [Context::Header, Context::Head, Context::Envelope, Context::Snapshot];
    let how = bytes.byte();
    let mut signature = match how % 16 {
        1 => (if right.device_key() == people.master.device_key() { &people.client } else { &people.master })
            .sign(context, group, content),
        2 => {
            right.sign(other[other.iter().position(|one| *one == context).map_or(0, |at| (at + 1) % 4)], group, content)
        }
        3 => right.sign(context, &GroupId([9; 32]), content),
        _ => right.sign(context, group, content),
    };
    if how % 16 == 4 {
        signature.0[usize::from(bytes.byte()) % 64] ^= 1 << (bytes.byte() % 8);
    }
    if how % 16 == 5 {
        signature = Signature([0; 64]);
    }
    Signer { is_right: !(1..=5).contains(&(how % 16)), signature }
}

/// The first byte says what it is, the second how it is signed.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.byte() % 7 {
        0 => header(bytes),
        1 => head(bytes),
        2 => manifest(bytes),
        3 => letter(bytes),
        4 => salted(bytes),
        5 => sealed_body(bytes),
        _ => chunk(bytes),
    }
}

fn header(mut bytes: Bytes<'_>) {
    let people = people();
    let begin = bytes.byte();
    let content = bytes.0.get(2..).unwrap_or_default().to_vec();
    let Signer { is_right, signature } = signer(&mut bytes, &people.master, Context::Header, &people.group, &content);
    let decoded = decode::<Header>(&content).ok();
    let signed = SignedHeader { bytes: content, signature };
    let good = is_right
        && signed.bytes.len() <= HEADER_BYTES_MAX
        && decoded.as_ref().is_some_and(|it| it.group == people.group && it.at.revision <= REVISION_MAX);
    let verified = signed.clone().verify(&people.master.device_key());
    assert_eq!(verified.is_ok(), good);
    assert!(signed.clone().verify(&people.client.device_key()).is_err(), "nobody else is this group's master");
    let Ok(header) = verified else { return };
    assert_eq!(Some(header.header()), decoded.as_ref());
    assert_eq!(header.hash(), Hash::of(&signed.bytes));
    assert_eq!(*header.signed(), signed, "the bytes that were signed are those that travel");
    assert_eq!(header.short_code().len(), 9);
    let tip = if begin % 2 == 0 { LogTip::START } else { LogTip::after(&header) };
    if tip.judge(&header) == Judgement::Next {
        assert_eq!((header.header().previous, header.header().at.revision), (Hash::ZERO, 1));
    }
}

fn head(mut bytes: Bytes<'_>) {
    let people = people();
    let content = bytes.0.get(2..).unwrap_or_default().to_vec();
    let Signer { is_right, signature } = signer(&mut bytes, &people.master, Context::Head, &people.group, &content);
    let decoded = decode::<Head>(&content).ok();
    let good =
        is_right && decoded.as_ref().is_some_and(|it| it.group == people.group && it.at.revision <= REVISION_MAX);
    let verified = SignedHead { bytes: content, signature }.verify(&people.master.device_key());
    assert_eq!(verified.is_ok(), good);
}

fn manifest(mut bytes: Bytes<'_>) {
    let people = people();
    let content = bytes.0.get(2..).unwrap_or_default().to_vec();
    let Signer { is_right, signature } = signer(&mut bytes, &people.master, Context::Snapshot, &people.group, &content);
    let decoded = decode::<Manifest>(&content).ok();
    let good =
        is_right && decoded.as_ref().is_some_and(|it| it.group == people.group && it.at.revision <= REVISION_MAX);
    let verified = SignedManifest { bytes: content, signature }.verify(&people.master.device_key());
    assert_eq!(verified.is_ok(), good);
}

/// From the client to the master; sealed to the master, or to itself; and perhaps a bit is changed on its way.
fn letter(mut bytes: Bytes<'_>) {
    let People { master, client, group, .. } = people();
    let (sealing, bit) = (bytes.byte(), bytes.byte());
    let content = bytes.0.get(2..).unwrap_or_default().to_vec();
    let Signer { is_right, signature } = signer(&mut bytes, client, Context::Envelope, group, &content);
    let decoded = decode::<Letter>(&content).ok();
    let to = if sealing % 8 == 1 { client } else { master };
    let plain = if sealing % 8 == 2 { content } else { encode(&(content, signature)) };
    let mut sealed = seal_to(&to.seal_key(), group, &to.device_key(), &plain);
    if sealing % 8 == 3 {
        let at = usize::from(bit) * 7 % sealed.len();
        sealed[at] ^= 1;
    }
    let good = is_right
        && !(1..=3).contains(&(sealing % 8))
        && decoded.is_some_and(|it| it.from == client.device_key() && it.to == master.device_key());
    let opened = Letter::open(master, group, &client.device_key(), &sealed);
    assert_eq!(opened.is_ok() && sealing % 8 != 2, good);
    assert!(Letter::open(master, group, &master.device_key(), &sealed).is_err(), "it is from its signer alone");
}

fn salted(mut bytes: Bytes<'_>) {
    let committed = bytes.byte() % 8 != 1;
    let content = bytes.0.to_vec();
    let Some(golden) = golden_header() else { return };
    let body = if committed { Hash::of(&content) } else { Hash([7; 32]) };
    let checked = SaltedBody::check(content.clone(), &Header { body, ..golden.clone() });
    assert_eq!(checked.is_some(), committed && content.len() >= 32);
    let Some(salted) = checked else { return };
    assert_eq!(salted.commitment(), body);
    if let Ok(body) = salted.body() {
        let salt: [u8; 32] = salted.as_bytes()[..32].try_into().expect("a salt");
        assert_eq!(SaltedBody::new(salt, &body).body(), Ok(body));
    }
}

fn golden_header() -> Option<&'static Header> {
    static HEADER: OnceLock<Option<Header>> = OnceLock::new();
    HEADER.get_or_init(|| golden::blocks("header").iter().find_map(|bytes| decode(bytes).ok())).as_ref()
}

fn sealed_body(mut bytes: Bytes<'_>) {
    let (change, at) = (bytes.byte(), bytes.byte());
    let plain = bytes.0;
    let header = Hash([8; 32]);
    let mut sealed = SealedBody::seal(&epoch(), [change; 12], &header, plain);
    match change % 4 {
        0 => assert_eq!(sealed.open(&epoch(), &header).as_deref(), Ok(plain)),
        1 => assert!(sealed.open(&epoch(), &Hash([9; 32])).is_err()),
        2 => {
            let at = usize::from(at) % sealed.bytes.len();
            sealed.bytes[at] ^= 1;
            assert!(sealed.open(&epoch(), &header).is_err());
        }
        _ => {
            sealed.bytes = plain.to_vec();
            assert!(sealed.open(&epoch(), &header).is_err(), "nobody sealed this");
        }
    }
}

fn chunk(mut bytes: Bytes<'_>) {
    let (change, at) = (bytes.byte(), bytes.byte());
    let key = &people().chunks;
    let mut sealed = bytes.0.to_vec();
    match change % 4 {
        0 => {
            key.seal([change; 12], b"bound", &mut sealed);
            key.open([change; 12], b"bound", &mut sealed).expect("it opens");
            assert_eq!(sealed, bytes.0);
        }
        1 => {
            key.seal([change; 12], b"bound", &mut sealed);
            assert!(key.open([change; 12], b"other", &mut sealed).is_err());
        }
        2 => {
            key.seal([change; 12], b"bound", &mut sealed);
            let at = usize::from(at) % sealed.len();
            sealed[at] ^= 1;
            assert!(key.open([change; 12], b"bound", &mut sealed).is_err());
        }
        _ => assert!(key.open([change; 12], b"bound", &mut sealed).is_err(), "nobody sealed this"),
    }
}

/// The golden values, signed in every way.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for how in [0, 1, 2, 3, 4, 5] {
        let behind = |which: &[u8], label| {
            let which = which.to_vec();
            golden::blocks(label).into_iter().map(move |value| [&which[..], &[how, 0], &value].concat())
        };
        seeds.extend(behind(&[0, 0], "header"));
        seeds.extend(behind(&[1], "head"));
        seeds.extend(behind(&[2], "manifest"));
        for sealing in [0, 1, 2, 3] {
            seeds.extend(behind(&[3, sealing, 9], "letter"));
        }
    }
    seeds.extend(golden::blocks("salted-body").into_iter().map(|value| [vec![4, 0], value].concat()));
    for change in 0..4 {
        seeds.push([vec![5, change, 3], b"some body".to_vec()].concat());
        seeds.push([vec![6, change, 3], b"some chunk of a file".to_vec()].concat());
    }
    seeds
}
