//! One value for every type that travels or is signed, and for every derived value. Seeds, nonces and ids are bytes
//! that repeat, so that they are easy to find in the hexadecimal.

use bailiwick::state::replica::content_of;
use bailiwick::wire::beacon::BeaconKey;
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::envelope::*;
use bailiwick::wire::frame::*;
use bailiwick::wire::geometry::ChunkSize;
use bailiwick::wire::ids::*;
use bailiwick::wire::invite::*;
use bailiwick::wire::log::*;
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::path::RelPath;
use bailiwick::wire::seal::{Cipher, Epoch, SealedBody, chunk_key, open_sealed};
use bailiwick::wire::sign::{Context, Identity, Secret32, Signature};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

type Decode = Box<dyn Fn(&[u8]) -> Option<Vec<u8>>>;
type Same = Box<dyn Fn(&[u8]) -> bool>;

/// Something whose bytes are in the document.
pub(crate) struct Fixture {
    /// Its name there.
    pub(crate) label: &'static str,
    /// Its bytes, as the code makes them.
    pub(crate) bytes: Vec<u8>,
    /// Decodes bytes and encodes what came out; nothing for what is derived and never decoded.
    pub(crate) decode: Option<Decode>,
    /// How the document's bytes are compared, where they are not simply equal.
    same: Option<Same>,
}

impl Fixture {
    /// Whether the document holds these bytes.
    pub(crate) fn is_what_the_document_holds(&self, golden: &BTreeMap<String, Vec<u8>>) -> bool {
        golden.get(self.label).is_some_and(|written| match &self.same {
            Some(same) => same(written),
            None => *written == self.bytes,
        })
    }
}

fn wire<T: Serialize + DeserializeOwned>(label: &'static str, value: T) -> Fixture {
    let back = |bytes: &[u8]| decode::<T>(bytes).ok().map(|value| encode(&value));
    Fixture { label, bytes: encode(&value), decode: Some(Box::new(back)), same: None }
}

fn derived(label: &'static str, bytes: impl Into<Vec<u8>>) -> Fixture {
    Fixture { label, bytes: bytes.into(), decode: None, same: None }
}

pub(crate) fn master() -> Identity {
    Identity::from_seeds([1; 32], [2; 32])
}

pub(crate) fn client() -> Identity {
    Identity::from_seeds([3; 32], [4; 32])
}

fn group() -> GroupId {
    GroupId::of(&master().device_key())
}

fn position(revision: u64) -> Position {
    Position { generation: 1, revision }
}

fn name(text: &str) -> DeviceName {
    DeviceName::parse(text).unwrap()
}

fn epoch() -> Epoch {
    Epoch { id: EpochId { generation: 1, number: 2 }, secret: Secret32([0x2c; 32]) }
}

fn file() -> FileMeta {
    FileMeta {
        id: FileId([0xf1; 16]),
        content: ContentId([0xc1; 16]),
        path: RelPath::parse("Pictures/2024/a.jpg").unwrap(),
        kind: FileKind::File,
        size: 3_000_000,
        hash: Hash([0xb3; 32]),
        chunk: ChunkSize::parse(20).unwrap(),
        mtime_ms: 1_700_000_000_000,
        executable: false,
    }
}

fn folder() -> FileMeta {
    FileMeta {
        id: FileId([0xf2; 16]),
        content: ContentId([0xc2; 16]),
        path: RelPath::parse("Pictures/empty").unwrap(),
        kind: FileKind::Folder,
        size: 0,
        hash: Hash::of(b""),
        mtime_ms: -1,
        ..file()
    }
}

fn change() -> MembershipChange {
    MembershipChange {
        id: PublicId([0xd1; 16]),
        device: client().device_key(),
        seal: client().seal_key(),
        standing: Standing::Registered,
        nonce: [0x0e; 16],
    }
}

fn body() -> Body {
    Body::ClientRegistered { id: PublicId([0xd1; 16]), name: name("laptop") }
}

fn salted() -> SaltedBody {
    SaltedBody::new([0x5a; 32], &body())
}

fn header() -> Header {
    Header {
        group: group(),
        at: position(7),
        previous: Hash([0x06; 32]),
        previous_membership: Hash([0x01; 32]),
        time_ms: 1_700_000_000_000,
        audience: Audience::EVERYONE,
        membership: Some(change()),
        body: salted().commitment(),
    }
}

fn signed_header() -> SignedHeader {
    SignedHeader::sign(&master(), &header()).signed().clone()
}

fn head() -> Head {
    let header = SignedHeader::sign(&master(), &header());
    Head { group: group(), at: position(7), header: header.hash(), membership: header.hash(), nonce: [0; 16] }
}

fn signed_head() -> SignedHead {
    SignedHead::sign(&master(), &head())
}

fn pages() -> [Hash; 2] {
    [Hash::of(b"page 0"), Hash::of(b"page 1")]
}

fn manifest() -> Manifest {
    let Head { group, at, header, membership, .. } = head();
    Manifest { group, at, header, membership, pages: 2, content: content_of(pages()) }
}

fn server() -> ServerAddress {
    let addresses = ["192.0.2.1:4433", "[2001:db8::1]:4433", "server.example:4433"];
    ServerAddress {
        key: Identity::from_seeds([5; 32], [6; 32]).device_key(),
        addresses: addresses.iter().map(|text| Address::parse(text).unwrap()).collect(),
    }
}

pub(crate) fn invite() -> Invite {
    let (master, seal) = (master().device_key(), master().seal_key());
    Invite { server: server(), master, seal, secret: InviteSecret([0x1e; 16]) }
}

pub(crate) fn ticket() -> Ticket {
    Ticket { server: server(), admission: AdmissionSecret([0xad; 16]) }
}

pub(crate) fn short_code() -> String {
    SignedHeader::sign(&master(), &header()).short_code()
}

fn letter() -> Letter {
    Letter {
        from: client().device_key(),
        to: master().device_key(),
        number: 9,
        head: None,
        payload: Payload::FreshnessAsked([0x0f; 16]),
    }
}

fn signed_letter() -> (Vec<u8>, Signature) {
    let bytes = encode(&letter());
    let signature = client().sign(Context::Envelope, &group(), &bytes);
    (bytes, signature)
}

fn tip() -> Tip {
    Tip { at: position(7), hash: Hash([0x07; 32]) }
}

fn sealed_body() -> SealedBody {
    let header = SignedHeader::sign(&master(), &header());
    SealedBody::seal(&epoch(), [0x0c; 12], &header.hash(), salted().as_bytes())
}

fn chunk_header(cipher: Cipher) -> ChunkHeader {
    ChunkHeader {
        cipher,
        audience: Audience::EVERYONE,
        epoch: epoch().id,
        request: 0x1122_3344_5566_7788,
        content: ContentId([0xc1; 16]),
        index: 5,
        length: 11,
        nonce: [0x0c; 12],
    }
}

fn chunk_stream(cipher: Cipher) -> Vec<u8> {
    let header = chunk_header(cipher);
    let mut chunk = b"hello chunk".to_vec();
    chunk_key(&epoch(), &header.content, cipher).unwrap().seal(header.nonce, &header.bound(&group()), &mut chunk);
    [header.encode().to_vec(), chunk].concat()
}

/// All fixtures.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut all = derived_values();
    all.extend(signed_things());
    all.extend(bodies_and_rows());
    all.extend(letters());
    all.extend(frames());
    all.extend(chunks());
    all
}

fn derived_values() -> Vec<Fixture> {
    let signature = |context| master().sign(context, &group(), b"bailiwick").0;
    vec![
        derived("device-key", *master().device_key().as_bytes()),
        derived("seal-key", *master().seal_key().as_bytes()),
        derived("group-id", group().0),
        derived("invite-id", InviteSecret([0x1e; 16]).id().0),
        derived("signature-header", signature(Context::Header)),
        derived("signature-head", signature(Context::Head)),
        derived("signature-envelope", signature(Context::Envelope)),
        derived("signature-snapshot", signature(Context::Snapshot)),
        derived("header-hash", SignedHeader::sign(&master(), &header()).hash().0),
        derived("body-commitment", salted().commitment().0),
        derived("snapshot-content", content_of(pages()).0),
        derived("beacon", BeaconKey::of(&group()).beacon(&client().device_key(), [0x5a; 16]).to_bytes()),
        derived("chunk-bound", chunk_header(Cipher::Aes256Gcm).bound(&group())),
        derived("body-key", body_key()),
        derived("chunk-key-aes-256-gcm", raw_chunk_key(Cipher::Aes256Gcm)),
        derived("chunk-key-chacha20-poly1305", raw_chunk_key(Cipher::ChaCha20Poly1305)),
    ]
}

/// The document's rule, written a second time.
pub(crate) fn body_key() -> [u8; 32] {
    let Epoch { id, secret } = epoch();
    let material = [&secret.0[..], &id.generation.to_le_bytes(), &id.number.to_le_bytes()].concat();
    blake3::derive_key("bailiwick 2026 body key", &material)
}

/// The document's rule, written a second time.
pub(crate) fn raw_chunk_key(cipher: Cipher) -> [u8; 32] {
    let material = [&epoch().secret.0[..], &[0xc1; 16], &[cipher.code()]].concat();
    blake3::derive_key("bailiwick 2026 chunk key", &material)
}

fn signed_things() -> Vec<Fixture> {
    vec![
        wire("position", position(7)),
        wire("header", header()),
        wire("header-without-membership", Header { membership: None, ..header() }),
        wire("signed-header", signed_header()),
        wire("head", head()),
        wire("signed-head", signed_head()),
        wire("manifest", manifest()),
        wire("signed-manifest", SignedManifest::sign(&master(), &manifest())),
        derived("salted-body", salted().as_bytes()),
        wire("sealed-body", sealed_body()),
        wire("file-meta", file()),
        wire("file-meta-folder", folder()),
        wire("server-address", server()),
        wire("invite", invite()),
        wire("ticket", ticket()),
    ]
}

fn bodies_and_rows() -> Vec<Fixture> {
    let id = PublicId([0xd1; 16]);
    let policy = Policy { master_away_wait_ms: 180_000, master_away_continue_ms: 28_800_000 };
    vec![
        wire("body-group-begun", Body::GroupBegun { name: name("desktop"), epoch: epoch().id }),
        wire("body-client-registered", body()),
        wire("body-client-approved", Body::ClientApproved { id }),
        wire("body-client-disapproved", Body::ClientDisapproved { id }),
        wire("body-client-left", Body::ClientLeft { id }),
        wire("body-client-renamed", Body::ClientRenamed { id, name: name("notebook") }),
        wire("body-files-added", Body::FilesAdded { owner: id, files: vec![file(), folder()] }),
        wire("body-files-changed", Body::FilesChanged { owner: id, files: vec![file()] }),
        wire("body-file-removed", Body::FileRemoved { owner: id, files: vec![FileId([0xf1; 16])] }),
        wire("body-policy-set", Body::PolicySet(policy.clone())),
        wire("body-servers-set", Body::ServersSet(vec![server()])),
        wire("body-epoch-begun", Body::EpochBegun(epoch().id)),
        wire("row-membership", SnapshotRow::Membership(signed_header())),
        wire("row-name", SnapshotRow::Name { id, name: name("laptop") }),
        wire("row-file", SnapshotRow::File { owner: id, file: file() }),
        wire("row-policy", SnapshotRow::Policy(policy)),
        wire("row-servers", SnapshotRow::Servers(vec![server()])),
        wire(
            "page",
            vec![SnapshotRow::Name { id, name: name("laptop") }, SnapshotRow::File { owner: id, file: file() }],
        ),
    ]
}

fn letters() -> Vec<Fixture> {
    let epochs = || vec![EpochSecret::from(&epoch())];
    let register =
        Payload::ClientRegister { secret: InviteSecret([0x1e; 16]), seal: client().seal_key(), name: name("laptop") };
    let refused = vec![(FileId([0xf1; 16]), FileRefusal::PathTaken)];
    let done = Answer::Done { at: position(8), refused };
    let entry = PlainEntry { header: signed_header(), salted: salted().as_bytes().to_vec() };
    let manifest = SignedManifest::sign(&master(), &manifest());
    let request = Payload::Request { generation: 1, request: Request::RemoveFile(vec![FileId([0xf1; 16])]) };
    let page = Payload::Page { manifest, page: 1, bytes: vec![0], epochs: epochs() };
    vec![
        wire("request-add-files", Request::AddFiles(vec![file()])),
        wire("request-change-files", Request::ChangeFiles(vec![file()])),
        wire("request-remove-file", Request::RemoveFile(vec![FileId([0xf1; 16])])),
        wire("request-rename", Request::Rename(name("notebook"))),
        wire("request-leave", Request::Leave),
        wire("answer-done", done.clone()),
        wire("answer-stale-number", Answer::StaleNumber { last: 300 }),
        wire("answer-other-generation", Answer::OtherGeneration),
        wire("answer-refused", Answer::Refused(RequestRefusal::NameTaken)),
        wire("payload-client-register", register),
        wire("payload-client-register-ack", Payload::ClientRegisterAck(Ok(signed_header()))),
        wire("payload-client-register-ack-refused", Payload::ClientRegisterAck(Err(RegisterRefusal::Expelled))),
        wire("payload-request", request),
        wire("payload-answer", Payload::Answer(done)),
        wire("payload-catch-up", Payload::CatchUp(CatchUp { since: position(7), page: None })),
        wire("payload-catch-up-page", Payload::CatchUp(CatchUp { since: position(7), page: Some((position(9), 3)) })),
        wire("payload-entries", Payload::Entries { entries: vec![entry], epochs: epochs() }),
        wire("payload-page", page),
        wire("payload-epoch-secrets", Payload::EpochSecrets(epochs())),
        wire("payload-freshness-asked", Payload::FreshnessAsked([0x0f; 16])),
        wire(
            "payload-freshness",
            Payload::Freshness(SignedHead::sign(&master(), &Head { nonce: [0x0f; 16], ..head() })),
        ),
        wire("payload-path-offer", Payload::PathOffer(path_offer())),
        wire("letter", letter()),
        wire("letter-with-head", Letter { head: Some(signed_head()), ..letter() }),
        wire("signed-letter", signed_letter()),
        envelope(),
    ]
}

fn path_offer() -> PathOffer {
    let candidates = vec!["192.168.1.2:50000".parse().unwrap(), "[2001:db8::7]:50000".parse().unwrap()];
    PathOffer { token: [0x0e; 8], candidates, answer: true }
}

fn peer_hello() -> PeerHello {
    let observed = "198.51.100.7:50000".parse().unwrap();
    PeerHello { version: PROTOCOL_VERSION, group: group(), head: Some(signed_head()), observed }
}

/// HPKE draws a fresh key for each seal, so the document's envelope is compared by what it opens to.
fn envelope() -> Fixture {
    let opens = |sealed: &[u8]| {
        let plain = open_sealed(&master(), &group(), sealed);
        let opened = Letter::open(&master(), &group(), &client().device_key(), sealed);
        plain == Ok(encode(&signed_letter())) && opened.is_ok_and(|opened| encode(&opened) == encode(&letter()))
    };
    let sealed = letter().seal(&client(), &group(), &master().seal_key());
    let back = move |sealed: &[u8]| opens(sealed).then(|| sealed.to_vec());
    Fixture { label: "envelope", bytes: sealed, decode: Some(Box::new(back)), same: Some(Box::new(opens)) }
}

fn frames() -> Vec<Fixture> {
    let (id, key) = (PublicId([0xd1; 16]), client().device_key());
    let range = ChunkRange { content: ContentId([0xc1; 16]), first: 0, count: 3, bytes: 1 << 20, last_bytes: 902_848 };
    let hello = Hello {
        version: PROTOCOL_VERSION,
        software: "bailiwick 0.1.0".to_owned(),
        role: Role::Client,
        group: group(),
        head: None,
    };
    let welcome = Welcome {
        version: PROTOCOL_VERSION,
        software: "bailiwick 0.1.0".to_owned(),
        class: Class::Approved,
        head: None,
        tip: Some(tip()),
        observed: "198.51.100.7:50000".parse().unwrap(),
    };
    let welcome_6 = Welcome { observed: "[2001:db8::7]:50000".parse().unwrap(), ..welcome.clone() };
    let registered = MasterRegistered { tip: Some(tip()), head: None, up_ms: 300 };
    let (invite, number) = (InviteSecret([0x1e; 16]).id(), 9);
    let envelope = || vec![0xee; 4];
    let asks = Frame::RequestChunk { request: 4, owner: id, ranges: vec![range] };
    let refused = Frame::ChunkRefused { request: 4, ranges: vec![range], reason: ChunkRefusal::OwnerAway };
    let away = Present { id, online: false, since_ms: 60_000 };
    vec![
        wire("frame-hello", Frame::Hello(hello.clone())),
        wire("frame-hello-master", Frame::Hello(Hello { role: Role::Master, head: Some(signed_head()), ..hello })),
        wire("frame-welcome", Frame::Welcome(welcome)),
        wire("frame-welcome-ipv6", Frame::Welcome(welcome_6)),
        wire("frame-master-register", Frame::MasterRegister { admission: Some(AdmissionSecret([0xad; 16])) }),
        wire("frame-master-register-ack", Frame::MasterRegisterAck(Ok(registered))),
        wire("frame-master-register-ack-refused", Frame::MasterRegisterAck(Err(MasterRefusal::Admission))),
        wire("frame-headers", Frame::Headers(vec![signed_header()])),
        wire("frame-headers-stored", Frame::HeadersStored(tip())),
        wire("frame-head", Frame::Head(signed_head())),
        wire("frame-open-invites", Frame::OpenInvites(vec![invite])),
        wire("frame-presence", Frame::Presence(vec![Present { id, online: true, since_ms: 0 }, away])),
        wire("frame-master-back", Frame::MasterBack(signed_head())),
        wire("frame-server-not-ready", Frame::ServerNotReady { number }),
        wire("frame-busy", Frame::Busy { number }),
        wire("frame-registration-held", Frame::RegistrationHeld(HeldRegistration::ServerNotReady)),
        wire("frame-expulsion-read", Frame::ExpulsionRead),
        wire("frame-request-chunk", asks),
        wire("frame-upload-chunk", Frame::UploadChunk { request: 70_000, ranges: vec![range] }),
        wire("frame-chunk-refused", refused),
        wire("frame-cancel-chunk", Frame::CancelChunk { request: 4, ranges: vec![range] }),
        wire("frame-client-register", Frame::ClientRegister { from: key, invite, number, envelope: envelope() }),
        wire("frame-routed", Frame::Routed { peer: key, number, envelope: envelope() }),
        wire("frame-broadcast", Frame::Broadcast { header: signed_header(), body: sealed_body() }),
        wire("frame-ping", Frame::Ping(128)),
        wire("frame-pong", Frame::Pong(128)),
        wire("frame-peer-hello", Frame::PeerHello(peer_hello())),
        wire("frame-observed", Frame::Observed(peer_hello().observed)),
        wire("frame-sight", Frame::Sight([7; 8])),
    ]
}

fn chunks() -> Vec<Fixture> {
    let back = |bytes: &[u8]| {
        let header = <&[u8; 58]>::try_from(bytes).ok()?;
        ChunkHeader::decode(header).ok().map(|header| header.encode().to_vec())
    };
    let bytes = chunk_header(Cipher::Plain).encode().to_vec();
    vec![
        Fixture { label: "chunk-header", bytes, decode: Some(Box::new(back)), same: None },
        derived("chunk-stream-aes-256-gcm", chunk_stream(Cipher::Aes256Gcm)),
        derived("chunk-stream-chacha20-poly1305", chunk_stream(Cipher::ChaCha20Poly1305)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc;
    use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    fn open(algorithm: &'static Algorithm, key: &[u8], bound: &[u8], sealed: &[u8]) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key([0x0c; 12]);
        key.open_in_place(nonce, Aad::from(bound), &mut bytes).unwrap().to_vec()
    }

    /// The document's keys and bound bytes open the document's sealed bytes, without the code that sealed them.
    #[test]
    fn seals_are_what_the_document_says_they_are() {
        let golden = doc::golden();
        let body: SealedBody = decode(&golden["sealed-body"]).unwrap();
        assert_eq!(open(&AES_256_GCM, &golden["body-key"], &golden["header-hash"], &body.bytes), golden["salted-body"]);
        let ciphers: [(&str, &str, Cipher, &'static Algorithm); 2] = [
            ("chunk-key-aes-256-gcm", "chunk-stream-aes-256-gcm", Cipher::Aes256Gcm, &AES_256_GCM),
            (
                "chunk-key-chacha20-poly1305",
                "chunk-stream-chacha20-poly1305",
                Cipher::ChaCha20Poly1305,
                &CHACHA20_POLY1305,
            ),
        ];
        for (key, stream, cipher, algorithm) in ciphers {
            let bound = chunk_header(cipher).bound(&group());
            assert_eq!(open(algorithm, &golden[key], &bound, &golden[stream][58..]), b"hello chunk");
        }
        assert_eq!(chunk_header(Cipher::Aes256Gcm).bound(&group()), golden["chunk-bound"]);
    }

    #[test]
    fn words_are_those_of_the_document() {
        let (invite, ticket) = (invite().to_string(), ticket().to_string());
        for (label, text) in [("invite", &invite), ("ticket", &ticket), ("short-code", &short_code())] {
            let written = doc::blocks("words").remove(label).unwrap_or_default().concat();
            let lines: Vec<&str> =
                (0..text.len()).step_by(doc::WIDTH).map(|at| &text[at..text.len().min(at + doc::WIDTH)]).collect();
            let shown = lines.join("\n");
            assert_eq!(written, *text, "docs/protocol.md should say:\n\n```words name={label}\n{shown}\n```");
        }
        assert!(Invite::parse(&invite).unwrap() == super::invite());
        assert!(Ticket::parse(&ticket).unwrap() == super::ticket());
        for cut in [&invite[..invite.len() - 1], &format!("{invite}a")] {
            assert!(Invite::parse(cut).is_err());
        }
        for cut in [&ticket[..ticket.len() - 1], &format!("{ticket}a")] {
            assert!(Ticket::parse(cut).is_err());
        }
    }
}
