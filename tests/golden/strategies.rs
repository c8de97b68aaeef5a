//! Any value of any type that travels.
//!
//! What may hold secrets has no `Debug`, which proptest needs; it comes [`Hidden`], and a failure shows its encoding.

use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::codec::encode;
use bailiwick::wire::envelope::*;
use bailiwick::wire::frame::*;
use bailiwick::wire::geometry::{CHUNK_BYTES_MAX, ChunkSize};
use bailiwick::wire::ids::*;
use bailiwick::wire::invite::*;
use bailiwick::wire::log::*;
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::path::RelPath;
use bailiwick::wire::seal::{Cipher, Epoch, SealedBody};
use bailiwick::wire::sign::{Secret32, Signature};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::result::maybe_ok;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A value that has no `Debug` of its own.
#[derive(Clone)]
pub(crate) struct Hidden<T>(pub(crate) T);

impl<T: Serialize> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&encode(&self.0)))
    }
}

/// A group.
pub(crate) const GROUP: GroupId = GroupId([7; 32]);

fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn group() -> impl Strategy<Value = GroupId> {
    any::<[u8; 32]>().prop_map(GroupId)
}

fn device_key() -> impl Strategy<Value = DeviceKey> {
    any::<[u8; 32]>().prop_filter_map("small order", |bytes| DeviceKey::parse(bytes).ok())
}

fn seal_key() -> impl Strategy<Value = SealKey> {
    any::<[u8; 32]>().prop_filter_map("small order", |bytes| SealKey::parse(bytes).ok())
}

fn public_id() -> impl Strategy<Value = PublicId> {
    any::<[u8; 16]>().prop_map(PublicId)
}

fn file_id() -> impl Strategy<Value = FileId> {
    any::<[u8; 16]>().prop_map(FileId)
}

fn content_id() -> impl Strategy<Value = ContentId> {
    any::<[u8; 16]>().prop_map(ContentId)
}

fn invite_id() -> impl Strategy<Value = InviteId> {
    any::<[u8; 16]>().prop_map(InviteId)
}

fn position() -> impl Strategy<Value = Position> {
    any::<(u32, u64)>().prop_map(|(generation, revision)| Position { generation, revision })
}

fn epoch_id() -> impl Strategy<Value = EpochId> {
    any::<(u32, u32)>().prop_map(|(generation, number)| EpochId { generation, number })
}

fn signature() -> impl Strategy<Value = Signature> {
    any::<([u8; 32], [u8; 32])>().prop_map(|(low, high)| {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Signature(bytes)
    })
}

fn path() -> impl Strategy<Value = RelPath> {
    vec("[a-zA-Z0-9 ._üß漢-]{1,20}", 1..5)
        .prop_filter_map("dots", |components| RelPath::parse(&components.join("/")).ok())
}

fn name() -> impl Strategy<Value = DeviceName> {
    "[a-zA-Z0-9 ._ü-]{1,30}".prop_filter_map("spaces", |text| DeviceName::parse(&text).ok())
}

fn signed_head() -> impl Strategy<Value = SignedHead> {
    (some_bytes(), signature()).prop_map(|(bytes, signature)| SignedHead { bytes, signature })
}

fn signed_header() -> impl Strategy<Value = SignedHeader> {
    (some_bytes(), signature()).prop_map(|(bytes, signature)| SignedHeader { bytes, signature })
}

fn signed_manifest() -> impl Strategy<Value = SignedManifest> {
    (some_bytes(), signature()).prop_map(|(bytes, signature)| SignedManifest { bytes, signature })
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![Just(Standing::Registered), Just(Standing::Approved), Just(Standing::Disapproved), Just(Standing::Left)]
}

fn membership() -> impl Strategy<Value = MembershipChange> {
    (public_id(), device_key(), seal_key(), standing(), any::<[u8; 16]>())
        .prop_map(|(id, device, seal, standing, nonce)| MembershipChange { id, device, seal, standing, nonce })
}

pub(crate) fn header() -> impl Strategy<Value = Header> {
    (group(), position(), hash(), hash(), any::<u64>(), any::<u32>(), of(membership()), hash()).prop_map(
        |(group, at, previous, previous_membership, time_ms, audience, membership, body)| Header {
            group,
            at,
            previous,
            previous_membership,
            time_ms,
            audience: Audience(audience),
            membership,
            body,
        },
    )
}

pub(crate) fn head() -> impl Strategy<Value = Head> {
    (group(), position(), hash(), hash(), any::<[u8; 16]>()).prop_map(|(group, at, header, membership, nonce)| Head {
        group,
        at,
        header,
        membership,
        nonce,
    })
}

pub(crate) fn manifest() -> impl Strategy<Value = Manifest> {
    (group(), position(), hash(), hash(), any::<u32>(), hash()).prop_map(
        |(group, at, header, membership, pages, content)| Manifest { group, at, header, membership, pages, content },
    )
}

fn file() -> impl Strategy<Value = FileMeta> {
    let kind = prop_oneof![Just(FileKind::File), Just(FileKind::Folder)];
    let chunk = (20u8..=22).prop_map(|log2| ChunkSize::parse(log2).unwrap());
    (file_id(), content_id(), path(), kind, any::<u64>(), hash(), chunk, any::<i64>(), any::<bool>()).prop_map(
        |(id, content, path, kind, size, hash, chunk, mtime_ms, executable)| FileMeta {
            id,
            content,
            path,
            kind,
            size,
            hash,
            chunk,
            mtime_ms,
            executable,
        },
    )
}

fn files() -> impl Strategy<Value = Vec<FileMeta>> {
    vec(file(), 0..4)
}

fn address() -> impl Strategy<Value = Address> {
    let v4 = (any::<[u8; 4]>(), 1u16..).prop_map(|(ip, port)| Address::V4(ip, port));
    let v6 = (any::<[u8; 16]>(), 1u16..).prop_map(|(ip, port)| Address::V6(ip, port));
    let name = ("[a-z][a-z0-9.-]{0,20}", 1u16..).prop_map(|(name, port)| Address::Name(name, port));
    prop_oneof![v4, v6, name]
}

fn server() -> impl Strategy<Value = ServerAddress> {
    (device_key(), vec(address(), 1..=8)).prop_map(|(key, addresses)| ServerAddress { key, addresses })
}

pub(crate) fn invite() -> impl Strategy<Value = Hidden<Invite>> {
    (server(), device_key(), seal_key(), any::<[u8; 16]>()).prop_map(|(server, master, seal, secret)| {
        Hidden(Invite { server, master, seal, secret: InviteSecret(secret) })
    })
}

pub(crate) fn ticket() -> impl Strategy<Value = Hidden<Ticket>> {
    (server(), any::<[u8; 16]>())
        .prop_map(|(server, admission)| Hidden(Ticket { server, admission: AdmissionSecret(admission) }))
}

fn policy() -> impl Strategy<Value = Policy> {
    any::<[u64; 2]>().prop_map(|[master_away_wait_ms, master_away_continue_ms]| Policy {
        master_away_wait_ms,
        master_away_continue_ms,
    })
}

pub(crate) fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (name(), epoch_id()).prop_map(|(name, epoch)| Body::GroupBegun { name, epoch }),
        (public_id(), name()).prop_map(|(id, name)| Body::ClientRegistered { id, name }),
        public_id().prop_map(|id| Body::ClientApproved { id }),
        public_id().prop_map(|id| Body::ClientDisapproved { id }),
        public_id().prop_map(|id| Body::ClientLeft { id }),
        (public_id(), name()).prop_map(|(id, name)| Body::ClientRenamed { id, name }),
        (public_id(), files()).prop_map(|(owner, files)| Body::FilesAdded { owner, files }),
        (public_id(), files()).prop_map(|(owner, files)| Body::FilesChanged { owner, files }),
        (public_id(), vec(file_id(), 0..5)).prop_map(|(owner, files)| Body::FileRemoved { owner, files }),
        policy().prop_map(Body::PolicySet),
        vec(server(), 0..3).prop_map(Body::ServersSet),
        epoch_id().prop_map(Body::EpochBegun),
    ]
}

pub(crate) fn row() -> impl Strategy<Value = SnapshotRow> {
    prop_oneof![
        signed_header().prop_map(SnapshotRow::Membership),
        (public_id(), name()).prop_map(|(id, name)| SnapshotRow::Name { id, name }),
        (public_id(), file()).prop_map(|(owner, file)| SnapshotRow::File { owner, file }),
        policy().prop_map(SnapshotRow::Policy),
        vec(server(), 0..3).prop_map(SnapshotRow::Servers),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        files().prop_map(Request::AddFiles),
        files().prop_map(Request::ChangeFiles),
        vec(file_id(), 0..5).prop_map(Request::RemoveFile),
        name().prop_map(Request::Rename),
        Just(Request::Leave),
    ]
}

fn file_refusal() -> impl Strategy<Value = FileRefusal> {
    prop_oneof![
        Just(FileRefusal::PathTaken),
        Just(FileRefusal::IdTaken),
        Just(FileRefusal::Quota),
        Just(FileRefusal::Unknown)
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let refusal =
        prop_oneof![Just(RequestRefusal::Malformed), Just(RequestRefusal::NameTaken), Just(RequestRefusal::Master)];
    prop_oneof![
        (position(), vec((file_id(), file_refusal()), 0..4)).prop_map(|(at, refused)| Answer::Done { at, refused }),
        any::<u64>().prop_map(|last| Answer::StaleNumber { last }),
        Just(Answer::OtherGeneration),
        refusal.prop_map(Answer::Refused),
    ]
}

fn epochs() -> impl Strategy<Value = Vec<(EpochId, [u8; 32])>> {
    vec((epoch_id(), any::<[u8; 32]>()), 0..3)
}

fn secrets(epochs: Vec<(EpochId, [u8; 32])>) -> Vec<EpochSecret> {
    let secret = |(id, secret)| EpochSecret::from(&Epoch { id, secret: Secret32(secret) });
    epochs.into_iter().map(secret).collect()
}

fn entries() -> impl Strategy<Value = Vec<PlainEntry>> {
    vec((signed_header(), some_bytes()).prop_map(|(header, salted)| PlainEntry { header, salted }), 0..3)
}

fn payload() -> impl Strategy<Value = Hidden<Payload>> {
    let refusal = prop_oneof![
        Just(RegisterRefusal::InviteNotOpen),
        Just(RegisterRefusal::Expelled),
        Just(RegisterRefusal::GroupFull)
    ];
    let register = (any::<[u8; 16]>(), seal_key(), name())
        .prop_map(|(secret, seal, name)| Hidden(Payload::ClientRegister { secret: InviteSecret(secret), seal, name }));
    let asked = (position(), of((position(), any::<u32>()))).prop_map(|(since, page)| CatchUp { since, page });
    let page = (signed_manifest(), any::<u32>(), some_bytes(), epochs());
    prop_oneof![
        register,
        maybe_ok(signed_header(), refusal).prop_map(|outcome| Hidden(Payload::ClientRegisterAck(outcome))),
        (any::<u32>(), request()).prop_map(|(generation, request)| Hidden(Payload::Request { generation, request })),
        answer().prop_map(|answer| Hidden(Payload::Answer(answer))),
        asked.prop_map(|asked| Hidden(Payload::CatchUp(asked))),
        (entries(), epochs())
            .prop_map(|(entries, epochs)| Hidden(Payload::Entries { entries, epochs: secrets(epochs) })),
        page.prop_map(|(manifest, page, bytes, epochs)| {
            Hidden(Payload::Page { manifest, page, bytes, epochs: secrets(epochs) })
        }),
        epochs().prop_map(|epochs| Hidden(Payload::EpochSecrets(secrets(epochs)))),
        any::<[u8; 16]>().prop_map(|nonce| Hidden(Payload::FreshnessAsked(nonce))),
        signed_head().prop_map(|head| Hidden(Payload::Freshness(head))),
        path_offer().prop_map(|offer| Hidden(Payload::PathOffer(offer))),
    ]
}

fn socket_address() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn path_offer() -> impl Strategy<Value = PathOffer> {
    let candidates = vec(socket_address(), 0..18);
    (any::<[u8; 8]>(), candidates, any::<bool>()).prop_map(|(token, candidates, answer)| PathOffer {
        token,
        candidates,
        answer,
    })
}

fn peer_hello() -> impl Strategy<Value = PeerHello> {
    (any::<u16>(), group(), of(signed_head()), socket_address())
        .prop_map(|(version, group, head, observed)| PeerHello { version, group, head, observed })
}

pub(crate) fn letter() -> impl Strategy<Value = Hidden<Letter>> {
    (device_key(), device_key(), any::<u64>(), of(signed_head()), payload())
        .prop_map(|(from, to, number, head, Hidden(payload))| Hidden(Letter { from, to, number, head, payload }))
}

fn tip() -> impl Strategy<Value = Tip> {
    (position(), hash()).prop_map(|(at, hash)| Tip { at, hash })
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![
        Just(Class::Stranger),
        Just(Class::Registered),
        Just(Class::Approved),
        Just(Class::Master),
        Just(Class::Expelled),
        Just(Class::Unsettled),
        Just(Class::UnknownGroup),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let role = prop_oneof![Just(Role::Master), Just(Role::Client)];
    (any::<u16>(), ".{0,20}", role, group(), of(signed_head()))
        .prop_map(|(version, software, role, group, head)| Hello { version, software, role, group, head })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (any::<u16>(), ".{0,20}", class(), of(signed_head()), of(tip()), socket_address()).prop_map(
        |(version, software, class, head, tip, observed)| Welcome { version, software, class, head, tip, observed },
    )
}

fn range() -> impl Strategy<Value = ChunkRange> {
    (content_id(), any::<(u32, u32, u32, u32)>()).prop_map(|(content, (first, count, bytes, last_bytes))| ChunkRange {
        content,
        first,
        count,
        bytes,
        last_bytes,
    })
}

fn ranges() -> impl Strategy<Value = Vec<ChunkRange>> {
    vec(range(), 0..4)
}

fn chunk_refusal() -> impl Strategy<Value = ChunkRefusal> {
    prop_oneof![
        Just(ChunkRefusal::OwnerUnknown),
        Just(ChunkRefusal::OwnerExpelled),
        Just(ChunkRefusal::OwnerAway),
        Just(ChunkRefusal::OwnerStalled),
        Just(ChunkRefusal::OverQuota),
        Just(ChunkRefusal::Expired),
        Just(ChunkRefusal::Malformed),
        Just(ChunkRefusal::OwnerNotFresh),
        Just(ChunkRefusal::Unknown),
        Just(ChunkRefusal::Changed),
        Just(ChunkRefusal::Unreadable),
        Just(ChunkRefusal::Paused),
        Just(ChunkRefusal::NotReady),
    ]
}

fn sealed_body() -> impl Strategy<Value = SealedBody> {
    (epoch_id(), any::<[u8; 12]>(), some_bytes()).prop_map(|(epoch, nonce, bytes)| SealedBody { epoch, nonce, bytes })
}

fn of_masters() -> impl Strategy<Value = Hidden<Frame>> {
    let refusal = prop_oneof![
        Just(MasterRefusal::Admission),
        Just(MasterRefusal::ServerFull),
        Just(MasterRefusal::Key),
        Just(MasterRefusal::Superseded),
    ];
    let registered = (of(tip()), of(signed_head()), any::<u64>()).prop_map(|(tip, head, up_ms)| MasterRegistered {
        tip,
        head,
        up_ms,
    });
    prop_oneof![
        of(any::<[u8; 16]>())
            .prop_map(|secret| Hidden(Frame::MasterRegister { admission: secret.map(AdmissionSecret) })),
        maybe_ok(registered, refusal).prop_map(|it| Hidden(Frame::MasterRegisterAck(it))),
        tip().prop_map(|it| Hidden(Frame::HeadersStored(it))),
        vec(invite_id(), 0..4).prop_map(|it| Hidden(Frame::OpenInvites(it))),
        (signed_header(), sealed_body()).prop_map(|(header, body)| Hidden(Frame::Broadcast { header, body })),
    ]
}

fn of_all() -> impl Strategy<Value = Hidden<Frame>> {
    let held = prop_oneof![
        Just(HeldRegistration::ServerNotReady),
        Just(HeldRegistration::InviteNotOpen),
        Just(HeldRegistration::Busy)
    ];
    let present =
        (public_id(), any::<bool>(), any::<u64>()).prop_map(|(id, online, since_ms)| Present { id, online, since_ms });
    let register = (device_key(), invite_id(), any::<u64>(), some_bytes());
    prop_oneof![
        hello().prop_map(|it| Hidden(Frame::Hello(it))),
        welcome().prop_map(|it| Hidden(Frame::Welcome(it))),
        vec(signed_header(), 0..3).prop_map(|it| Hidden(Frame::Headers(it))),
        signed_head().prop_map(|it| Hidden(Frame::Head(it))),
        vec(present, 0..4).prop_map(|it| Hidden(Frame::Presence(it))),
        signed_head().prop_map(|it| Hidden(Frame::MasterBack(it))),
        any::<u64>().prop_map(|number| Hidden(Frame::ServerNotReady { number })),
        any::<u64>().prop_map(|number| Hidden(Frame::Busy { number })),
        held.prop_map(|it| Hidden(Frame::RegistrationHeld(it))),
        Just(Hidden(Frame::ExpulsionRead)),
        register.prop_map(|(from, invite, number, envelope)| Hidden(Frame::ClientRegister {
            from,
            invite,
            number,
            envelope
        })),
        (device_key(), any::<u64>(), some_bytes()).prop_map(|(peer, number, envelope)| Hidden(Frame::Routed {
            peer,
            number,
            envelope
        })),
        any::<u64>().prop_map(|it| Hidden(Frame::Ping(it))),
        any::<u64>().prop_map(|it| Hidden(Frame::Pong(it))),
        peer_hello().prop_map(|hello| Hidden(Frame::PeerHello(hello))),
        socket_address().prop_map(|address| Hidden(Frame::Observed(address))),
        any::<[u8; 8]>().prop_map(|token| Hidden(Frame::Sight(token))),
    ]
}

fn of_chunks() -> impl Strategy<Value = Hidden<Frame>> {
    prop_oneof![
        (any::<u64>(), public_id(), ranges()).prop_map(|(request, owner, ranges)| Hidden(Frame::RequestChunk {
            request,
            owner,
            ranges
        })),
        (any::<u64>(), ranges()).prop_map(|(request, ranges)| Hidden(Frame::UploadChunk { request, ranges })),
        (any::<u64>(), ranges(), chunk_refusal()).prop_map(|(request, ranges, reason)| Hidden(Frame::ChunkRefused {
            request,
            ranges,
            reason
        })),
        (any::<u64>(), ranges()).prop_map(|(request, ranges)| Hidden(Frame::CancelChunk { request, ranges })),
    ]
}

pub(crate) fn frame() -> impl Strategy<Value = Hidden<Frame>> {
    prop_oneof![of_masters(), of_all(), of_chunks()]
}

pub(crate) fn chunk_header() -> impl Strategy<Value = ChunkHeader> {
    let cipher = prop_oneof![Just(Cipher::Plain), Just(Cipher::Aes256Gcm), Just(Cipher::ChaCha20Poly1305)];
    let numbers = (any::<u32>(), any::<u64>(), any::<u32>(), 0..=CHUNK_BYTES_MAX);
    (cipher, epoch_id(), content_id(), any::<[u8; 12]>(), numbers).prop_map(
        |(cipher, epoch, content, nonce, (audience, request, index, length))| ChunkHeader {
            cipher,
            audience: Audience(audience),
            epoch,
            request,
            content,
            index,
            length,
            nonce,
        },
    )
}
