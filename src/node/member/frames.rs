//! What comes on the control stream, and in its envelopes.

use super::core::{Cx, MemberCore};
use super::io::{Input, Output};
use super::pen::Pen;
use super::session::Purpose;
use super::wishes::NEW_DEVICE_HINT;
use crate::node::local::ErrorCode;
use crate::state::authority::{Gate, Registration};
use crate::state::conn::ConnId;
use crate::state::uploads::Asked;
use crate::store::member::DbError;
use crate::wire::close::CloseCode;
use crate::wire::codec::decode;
use crate::wire::envelope::{Letter, Payload, RegisterRefusal, Request};
use crate::wire::frame::{Class, Frame};
use crate::wire::ids::DeviceKey;
use crate::wire::log::Standing;
use crate::wire::seal::Epoch;

impl MemberCore {
    pub(super) fn frame(&mut self, cx: &mut Cx<'_>, conn: ConnId, frame: Frame) -> Result<(), DbError> {
        if self.link.current() != Some(conn) {
            return self.peer_frame(cx, conn, frame);
        }
        self.link.heard(cx.now);
        if matches!(self.pen.roster().standing(&self.key), Some(standing) if standing.is_final()) {
            return Ok(());
        }
        match frame {
            Frame::Welcome(welcome) => self.welcomed(cx, conn, welcome)?,
            Frame::MasterRegisterAck(outcome) => self.master_registered(cx, conn, outcome)?,
            Frame::Headers(headers) => self.headers_shown(cx, headers)?,
            Frame::HeadersStored(tip) => tracing::debug!(%tip.at, "the server has stored the membership"),
            Frame::Head(head) => self.head_shown(cx, &head)?,
            Frame::Presence(list) => self.present(cx, list),
            Frame::Observed(observed) => {
                if !self.session.sight.told(observed) {
                    self.session.observed = Some(observed);
                }
                self.addresses_changed(cx);
            }
            Frame::MasterBack(head) => {
                self.head_shown(cx, &head)?;
                self.master_present(cx, true);
                self.show_fork(conn)?;
            }
            Frame::ServerNotReady { number } => self.not_delivered(cx, number),
            Frame::Busy { number } => self.busy(cx, number),
            Frame::RegistrationHeld(why) => self.registration_held(why),
            Frame::UploadChunk { request, ranges } => {
                self.upload_asked(cx, Asked { conn, straight: false, request, ranges })?
            }
            Frame::ChunkRefused { request, ranges, reason } => {
                if self.downloads.way_of(request).is_none() {
                    self.chunks_refused(cx, request, &ranges, reason);
                }
            }
            Frame::CancelChunk { request, ranges } => self.upload_cancelled(conn, request, ranges),
            Frame::ClientRegister { from, envelope, .. } => self.client_registers(cx, conn, from, envelope)?,
            Frame::Routed { peer, envelope, number } => self.routed(cx, conn, peer, number, envelope)?,
            Frame::Broadcast { header, body } => {
                if let Pen::Replica(replica) = &mut self.pen {
                    replica.broadcast(cx.now, header, body);
                }
            }
            // Who reads the connection has answered it.
            Frame::Ping(_) | Frame::Pong(_) => {}
            Frame::Hello(_)
            | Frame::MasterRegister { .. }
            | Frame::OpenInvites(_)
            | Frame::ExpulsionRead
            | Frame::PeerHello(_)
            | Frame::Sight(_)
            | Frame::RequestChunk { .. } => {
                tracing::warn!("the server sent something that only members send");
                self.outputs.push(Output::Close(conn, CloseCode::Protocol));
            }
        }
        Ok(())
    }

    fn not_delivered(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(purpose) = self.session.take_routed(number).filter(|purpose| *purpose != Purpose::Offer) else {
            return;
        };
        if self.session.master_online {
            self.session.master_online = false;
            self.event("master_away", Vec::new());
        }
        match purpose {
            Purpose::Request => self.requests.not_delivered(cx.now, false),
            Purpose::CatchUp => {
                if let Pen::Replica(replica) = &mut self.pen {
                    replica.master_away();
                }
            }
            Purpose::Freshness => self.uploads.master_away(),
            Purpose::Offer | Purpose::Other => {}
        }
    }

    fn busy(&mut self, cx: &mut Cx<'_>, number: u64) {
        // Catching up and freshness ask again by themselves when no answer comes.
        if self.session.take_routed(number) == Some(Purpose::Request) {
            self.requests.not_delivered(cx.now, true);
        }
    }

    /// W4, at the master.
    fn client_registers(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        from: DeviceKey,
        envelope: Vec<u8>,
    ) -> Result<(), DbError> {
        if !self.may_answer() {
            return Ok(());
        }
        let Pen::Master(master) = &mut self.pen else { return Ok(()) };
        let frame = Frame::ClientRegister { from, invite: crate::wire::ids::InviteId([0; 16]), number: 0, envelope };
        let Some(Input::Frame(_, frame)) = master.hold(Input::Frame(conn, Box::new(frame))) else { return Ok(()) };
        let Frame::ClientRegister { from, envelope, .. } = *frame else { return Ok(()) };
        let letter = match Letter::open(&self.identity, &self.group.id(), &from, &envelope) {
            Ok(letter) => letter,
            Err(error) => {
                tracing::info!(%error, "a registration was refused");
                return Ok(());
            }
        };
        let Payload::ClientRegister { secret, seal, name } = letter.payload else { return Ok(()) };
        let known = self.store.registration_of(&from)?;
        let asked = Registration { key: from, number: letter.number, secret, seal, name };
        let new = self.with_authority(cx, |authority, moment| authority.register(moment, asked, known)).flatten();
        if let Some(id) = new {
            self.event("invite_used", vec![("id", id.to_string())]);
        }
        Ok(())
    }

    fn routed(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        peer: DeviceKey,
        number: u64,
        envelope: Vec<u8>,
    ) -> Result<(), DbError> {
        let is_known = peer == self.group.master || self.roster().is_member(&peer);
        if !is_known {
            return Ok(());
        }
        let letter = match Letter::open(&self.identity, &self.group.id(), &peer, &envelope) {
            Ok(letter) => letter,
            Err(error) => {
                tracing::info!(%error, "an envelope was refused");
                return Ok(());
            }
        };
        if let Some(head) = &letter.head {
            self.head_shown(cx, head)?;
        }
        if !self.may_answer() {
            return Ok(());
        }
        if let Payload::PathOffer(offer) = &letter.payload {
            self.offer_came(cx, peer, offer);
            return Ok(());
        }
        if self.is_master() {
            self.asked_of_master(cx, conn, peer, number, envelope, letter)
        } else if peer == self.group.master {
            self.told_by_master(cx, letter)
        } else {
            Ok(())
        }
    }

    /// An old copy of a master, and one that has not begun its generation, answer nobody: members would take its word for
    /// the newest.
    pub(super) fn may_answer(&self) -> bool {
        !matches!(&self.pen, Pen::Master(master) if matches!(master.gate, Gate::Closed(_) | Gate::Importing(_)))
    }

    /// Something that a member asks of this master.
    fn asked_of_master(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        peer: DeviceKey,
        number: u64,
        envelope: Vec<u8>,
        letter: Letter,
    ) -> Result<(), DbError> {
        let Some(device) = self.roster().by_key(&peer).cloned() else { return Ok(()) };
        match letter.payload {
            Payload::Request { generation, request } => {
                let Pen::Master(master) = &mut self.pen else { return Ok(()) };
                let again = Frame::Routed { peer, number, envelope };
                if master.hold(Input::Frame(conn, Box::new(again))).is_none() {
                    return Ok(());
                }
                let facts = self.facts_of(&device.id, &request)?;
                self.with_authority(cx, |authority, moment| {
                    authority.request(moment, &device.id, letter.number, generation, request, &facts);
                });
                Ok(())
            }
            Payload::CatchUp(asked) => self.catch_up_asked(cx, &device, asked),
            Payload::FreshnessAsked(nonce) => {
                let head = match &self.pen {
                    Pen::Master(master) => master.authority.head(nonce),
                    Pen::Replica(_) => return Ok(()),
                };
                self.send_letter(device.key, device.seal, letter.number, Payload::Freshness(head));
                Ok(())
            }
            Payload::ClientRegister { .. }
            | Payload::ClientRegisterAck(_)
            | Payload::Answer(_)
            | Payload::Entries { .. }
            | Payload::Page { .. }
            | Payload::EpochSecrets(_)
            | Payload::PathOffer(_)
            | Payload::Freshness(_) => Ok(()),
        }
    }

    /// Something that the master says to this member.
    fn told_by_master(&mut self, cx: &mut Cx<'_>, letter: Letter) -> Result<(), DbError> {
        match letter.payload {
            Payload::ClientRegisterAck(Ok(header)) => return self.registered(header),
            Payload::ClientRegisterAck(Err(refusal)) => {
                self.held_because = Some(refusal.to_string());
                if self.registration.is_none() {
                    self.fatal(ErrorCode::Refused, refusal.to_string(), refusal_hint(refusal));
                }
            }
            Payload::Answer(answer) => {
                self.refresh_requests(cx);
                self.requests.answered(cx.now, letter.number, answer);
            }
            Payload::Entries { entries, epochs } => {
                self.epochs_came(epochs.into_iter().map(Epoch::from).collect());
                if let Pen::Replica(replica) = &mut self.pen {
                    replica.entries_came(cx.now, entries);
                }
            }
            Payload::Page { manifest, page, bytes, epochs } => {
                self.epochs_came(epochs.into_iter().map(Epoch::from).collect());
                if let Pen::Replica(replica) = &mut self.pen {
                    replica.page_came(cx.now, &manifest, page, bytes);
                }
            }
            Payload::EpochSecrets(epochs) => self.epochs_came(epochs.into_iter().map(Epoch::from).collect()),
            Payload::Freshness(head) => {
                if let Ok(head) = head.verify(&self.group.master) {
                    let tip = self.tip();
                    self.uploads.head_came(cx.now, cx.random, head, &tip);
                }
            }
            Payload::ClientRegister { .. }
            | Payload::Request { .. }
            | Payload::CatchUp(_)
            | Payload::PathOffer(_)
            | Payload::FreshnessAsked(_) => {}
        }
        Ok(())
    }

    fn epochs_came(&mut self, epochs: Vec<Epoch>) {
        if let Pen::Replica(replica) = &mut self.pen {
            replica.epochs_came(epochs);
        }
    }

    /// Whether this device stands as a member, by its own replica.
    pub(super) fn standing(&self) -> Option<Standing> {
        let by_roster = self.roster().standing(&self.key);
        by_roster.or_else(|| self.me.map(|_| Standing::Registered))
    }

    /// Decodes a frame from the network.
    pub fn decode_frame(bytes: &[u8]) -> Option<Frame> {
        decode(bytes).ok()
    }

    /// What the catalog holds of a request's files.
    pub(super) fn facts_of(
        &self,
        owner: &crate::wire::ids::PublicId,
        request: &Request,
    ) -> Result<crate::state::authority::RequestFacts, DbError> {
        use crate::state::authority::FileFact;
        let by_id = |id| Ok::<_, DbError>(self.store.file(id)?.map(|row| (row.owner, row.file)));
        match request {
            Request::AddFiles(files) | Request::ChangeFiles(files) => files
                .iter()
                .map(|file| {
                    let by_path = self.store.file_at(owner, &file.path)?.map(|row| row.file.id);
                    Ok(FileFact { by_id: by_id(&file.id)?, by_path })
                })
                .collect(),
            Request::RemoveFile(files) => {
                files.iter().map(|id| Ok(FileFact { by_id: by_id(id)?, by_path: None })).collect()
            }
            Request::Rename(_) | Request::Leave => Ok(Vec::new()),
        }
    }

    /// Whether the server lets this device take part.
    pub(super) fn is_let_in(&self) -> bool {
        match &self.pen {
            Pen::Master(master) => master.registered,
            Pen::Replica(_) => self.session.class == Some(Class::Approved),
        }
    }
}

/// What a person whose device was not registered does next.
fn refusal_hint(why: RegisterRefusal) -> &'static str {
    match why {
        RegisterRefusal::InviteNotOpen => "ask the master's person for a new invite ('bailiwick invite')",
        RegisterRefusal::Expelled => NEW_DEVICE_HINT,
        RegisterRefusal::GroupFull => {
            "the master's person makes room with 'bailiwick disapprove' of devices that nobody uses any more"
        }
    }
}
