//! Straight connections between two devices: dialled, carrying frames and chunks, ending with or without a word.

use super::spots::Way;
use super::*;
use crate::network::Lane;
use bailiwick::wire::frame::{PROTOCOL_VERSION, PeerHello};
use bailiwick::wire::log::SignedHead;
use bailiwick::wire::log::Standing;
use std::net::SocketAddr;

/// A straight connection ends after this many milliseconds of silence at most.
const SILENCE_MS: u64 = 2_600;
/// How often a receiver that doesn't read is looked at again.
const LOOK_AGAIN_MS: u64 = 500;

/// One of the two ends of a straight connection.
struct End {
    node: NodeId,
    life: u32,
    /// Its name there.
    conn: ConnId,
    open: bool,
    /// Whether it was open at some time.
    opened: bool,
    /// What comes here.
    lane: Lane,
    /// Whether the other device's hello has come.
    greeted: bool,
    /// Whether chunk streams are taken.
    streams: bool,
}

/// A straight connection; the first end dialled.
pub(super) struct Straight {
    ends: [End; 2],
    /// Where each end sees the other's packets come from.
    seen: [SocketAddr; 2],
    /// Nothing passes on it any more, and no end has noticed.
    silent: bool,
}

/// A unit under way.
pub(super) struct Carried {
    way: u64,
    to: usize,
    header: ChunkHeader,
    upload: Upload,
    source: Box<UploadSource>,
}

impl World {
    pub(super) fn way_happens(&mut self, way: Way) {
        match way {
            Way::Probe { node, life, from, probe } if self.nodes[node].life == life => {
                self.probe_comes(node, from, probe);
            }
            Way::DialFails { node, life, dial } if self.nodes[node].life == life => {
                self.tell(node, Input::PeerDialFailed(dial, "no answer".to_owned()));
            }
            Way::Probe { .. } | Way::DialFails { .. } => {}
            Way::Arrives { way } => self.way_arrives(way),
            Way::Opens { way, node, life, dial } => self.way_opens(way, node, life, dial),
            Way::Deliver { way, end } => self.way_delivers(way, end),
            Way::Dies { way, end } => self.way_ends(way, end, None),
            Way::Chunk(carried) => self.chunk_comes(carried),
        }
    }

    fn later(&mut self, when: u64, way: Way) {
        self.at(when, Event::Straight(Box::new(way)));
    }

    /// The straight connection of this name at one of its ends, and which end that is.
    pub(super) fn way_of(&self, conn: ConnId) -> Option<(u64, usize)> {
        let is = |way: &Straight| way.ends.iter().position(|end| end.conn == conn);
        self.straights.iter().find_map(|(id, way)| Some((*id, is(way)?)))
    }

    pub(super) fn dial_peer(&mut self, node: NodeId, dial: u64, key: DeviceKey, to: SocketAddr) {
        self.check_dial(node, to);
        let life = self.nodes[node].life;
        let there = self.reaches(node, to).filter(|(target, _)| self.nodes[*target].alive);
        let back = there.and_then(|(target, source)| self.reaches(target, source));
        let (Some((target, source)), true) = (there, back.is_some_and(|(back, _)| back == node)) else {
            return self.later(self.now + DIAL_MS, Way::DialFails { node, life, dial });
        };
        if self.nodes[target].key() != key {
            // Somebody else is there: the handshake fails at once.
            let soon = self.soon();
            return self.later(soon, Way::DialFails { node, life, dial });
        }
        let end = |node: NodeId, life: u32, conn: u64| {
            let lane = Lane::default();
            End { node, life, conn: ConnId(conn), open: false, opened: false, lane, greeted: false, streams: false }
        };
        self.next_id += 3;
        let way = self.next_id;
        let ends = [end(node, life, way - 2), end(target, self.nodes[target].life, way - 1)];
        self.straights.insert(way, Straight { ends, seen: [to, source], silent: false });
        self.coverage.event("straight way dialled");
        let soon = self.soon();
        self.later(soon, Way::Arrives { way });
        let soon = soon.max(self.soon());
        self.later(soon + 1, Way::Opens { way, node, life, dial });
    }

    fn way_arrives(&mut self, way: u64) {
        let Some(straight) = self.straights.get_mut(&way) else { return };
        let from = straight.ends[0].node;
        let end = &mut straight.ends[1];
        if self.nodes[end.node].life == end.life && self.nodes[end.node].core.is_some() {
            (end.open, end.opened) = (true, true);
            let (node, conn) = (end.node, end.conn);
            let key = self.nodes[from].key();
            self.tell(node, Input::PeerArrived(conn, key));
        }
    }

    fn way_opens(&mut self, way: u64, node: NodeId, life: u32, dial: u64) {
        if self.nodes[node].life != life {
            return self.later(self.now + SILENCE_MS, Way::Dies { way, end: 1 });
        }
        let answered = |straight: &&mut Straight| straight.ends[1].open || !straight.ends[0].lane.pieces.is_empty();
        let Some(straight) = self.straights.get_mut(&way).filter(answered) else {
            self.straights.remove(&way);
            return self.later(self.now + DIAL_MS, Way::DialFails { node, life, dial });
        };
        (straight.ends[0].open, straight.ends[0].opened) = (true, true);
        let conn = straight.ends[0].conn;
        self.tell(node, Input::PeerDialed(dial, conn));
        let due = self.soon();
        self.later(due, Way::Deliver { way, end: 0 });
    }

    /// What a device says on a connection, if it is a straight one.
    pub(super) fn sends_straight(&mut self, conn: ConnId, piece: Piece) -> bool {
        let Some((way, from)) = self.way_of(conn) else { return false };
        let due = self.soon();
        let Some(straight) = self.straights.get_mut(&way).filter(|straight| straight.ends[from].open) else {
            return true;
        };
        if straight.silent {
            return true;
        }
        let lane = &mut straight.ends[1 - from].lane;
        let due = due.max(lane.last_due);
        lane.last_due = due;
        lane.pieces.push_back((due, piece));
        self.later(due, Way::Deliver { way, end: 1 - from });
        true
    }

    pub(super) fn says_peer_hello(&mut self, node: NodeId, conn: ConnId, group: GroupId, head: Option<SignedHead>) {
        let Some((way, end)) = self.way_of(conn) else { return };
        let Some(straight) = self.straights.get(&way) else { return };
        let hello = PeerHello { version: PROTOCOL_VERSION, group, head, observed: straight.seen[end] };
        self.note(format!("{} {} says hello", self.nodes[node].name, conn.0));
        self.sends_straight(conn, Piece::Frame(Box::new(Frame::PeerHello(hello))));
    }

    pub(super) fn takes_streams_straight(&mut self, conn: ConnId) {
        let Some((way, end)) = self.way_of(conn) else { return };
        if let Some(straight) = self.straights.get_mut(&way) {
            straight.ends[end].streams = true;
        }
    }

    /// A device closes a connection, if it is a straight one.
    pub(super) fn closes_straight(&mut self, conn: ConnId, code: CloseCode) -> bool {
        let Some((way, end)) = self.way_of(conn) else { return false };
        if self.straights.get(&way).is_some_and(|straight| straight.ends[end].open) {
            let node = self.straights[&way].ends[end].node;
            self.note(format!("{} closes the straight way {}: {code:?}", self.nodes[node].name, conn.0));
            self.sends_straight(conn, Piece::Close(code));
            if let Some(straight) = self.straights.get_mut(&way) {
                straight.ends[end].open = false;
                straight.ends[end].lane.pieces.clear();
            }
            self.tell_later(node, Input::Lost(conn, Lost::Broken));
        }
        true
    }

    /// Nothing passes on a device's straight ways any more, or on those to another one: both ends notice in time.
    pub(super) fn straight_ways_die(&mut self, node: NodeId, only: Option<NodeId>) {
        let dead: Vec<u64> =
            self.straights.iter().filter(|(_, one)| one.joins(node, only)).map(|(id, _)| *id).collect();
        for way in dead {
            // At once, or with the second end that notices: until then more of what is said gets through.
            let is_silent = self.dice.once_in(2);
            if let Some(straight) = self.straights.get_mut(&way) {
                straight.silent |= is_silent;
            }
            for end in 0..2 {
                let notices = self.dice.between(SILENCE_MS / 2, SILENCE_MS);
                self.later(self.now + notices, Way::Dies { way, end });
            }
        }
    }

    /// Nothing passes any more, from now on, on a device's straight ways.
    pub(crate) fn straight_ways_fall_silent(&mut self, node: NodeId) {
        self.straights.values_mut().filter(|one| one.joins(node, None)).for_each(|one| one.silent = true);
    }

    /// The straight ways that a device has.
    pub(crate) fn straight_ways(&self, node: NodeId) -> Vec<u64> {
        self.straights.iter().filter(|(_, one)| one.joins(node, None)).map(|(id, _)| *id).collect()
    }

    /// A device's process is gone without a word, or it says that it is.
    pub(super) fn leaves_straight_ways(&mut self, node: NodeId, says: Option<CloseCode>) {
        let conns = self.straights.values().flat_map(|straight| &straight.ends).filter(|end| end.node == node);
        let conns: Vec<ConnId> = conns.filter(|end| end.open).map(|end| end.conn).collect();
        for conn in conns {
            if let Some(code) = says {
                self.closes_straight(conn, code);
                continue;
            }
            let Some((way, end)) = self.way_of(conn) else { continue };
            let notices = self.dice.between(1, SILENCE_MS);
            let kept = self.dice.below(8) as usize;
            if let Some(straight) = self.straights.get_mut(&way) {
                straight.ends[end].open = false;
                straight.ends[end].lane.pieces.clear();
                straight.ends[1 - end].lane.pieces.truncate(kept);
            }
            self.later(self.now + notices, Way::Dies { way, end: 1 - end });
        }
    }

    fn way_ends(&mut self, way: u64, end: usize, code: Option<CloseCode>) {
        let Some(straight) = self.straights.get_mut(&way) else { return };
        let one = &mut straight.ends[end];
        let (node, conn, was_open) = (one.node, one.conn, std::mem::take(&mut one.open));
        one.lane.pieces.clear();
        if !straight.ends.iter().any(|end| end.open || !end.lane.pieces.is_empty()) {
            self.straights.remove(&way);
        }
        if was_open {
            self.note(format!("{}: the straight way {} ended {code:?}", self.nodes[node].name, conn.0));
            self.coverage.event("straight way ended");
            if code.is_none() {
                let notices = self.dice.between(1, SILENCE_MS);
                self.later(self.now + notices, Way::Dies { way, end: 1 - end });
            }
            self.tell(node, Input::Lost(conn, code.map_or(Lost::Broken, Lost::Closed)));
        }
    }

    fn way_delivers(&mut self, way: u64, end: usize) {
        loop {
            let Some(straight) = self.straights.get(&way) else { return };
            let (from, to) = (straight.ends[1 - end].node, straight.ends[end].node);
            if !self.passes(from, to) {
                return self.later(self.now + LOOK_AGAIN_MS, Way::Deliver { way, end });
            }
            let now = self.now;
            let Some(straight) = self.straights.get_mut(&way) else { return };
            let one = &mut straight.ends[end];
            let (conn, is_open) = (one.conn, one.open);
            if one.lane.pieces.front().is_none_or(|(due, _)| *due > now) {
                return;
            }
            let is_dialling = !is_open && end == 0 && one.life == self.nodes[to].life && !one.opened;
            if is_dialling {
                // It comes when the dialler has heard that it is through.
                return;
            }
            let Some((_, piece)) = one.lane.pieces.pop_front() else { return };
            match piece {
                Piece::Close(code) => self.way_ends(way, end, Some(code)),
                Piece::Frame(_) if !is_open => {}
                Piece::Frame(frame) => {
                    one.greeted |= matches!(*frame, Frame::PeerHello(_));
                    self.note(format!("{} <={} {}", self.nodes[to].name, conn.0, label(&frame)));
                    if let Frame::Ping(number) = *frame
                        && self.nodes[to].frozen_until <= self.now
                        && self.nodes[to].core.is_some()
                    {
                        self.sends_straight(conn, Piece::Frame(Box::new(Frame::Pong(number))));
                    }
                    self.tell(to, Input::Frame(conn, frame));
                }
            }
        }
    }

    /// A unit goes straight to who asked, and only to who is a member and has shown its head.
    pub(super) fn uploads_straight(&mut self, header: ChunkHeader, upload: Upload, source: Box<UploadSource>) {
        let Some((way, from)) = self.way_of(upload.conn) else { return };
        let Some(straight) = self.straights.get(&way) else { return };
        let (here, there) = (&straight.ends[from], &straight.ends[1 - from]);
        let (name, other) = (&self.nodes[here.node].name, &self.nodes[there.node].name);
        self.check(!upload.sealed, &format!("{name} spends no seal on what goes straight to {other}"));
        self.check(here.greeted, &format!("{name} knows the head of {other} before it sends anything"));
        let to = 1 - from;
        let soon = self.soon() + self.dice.between(0, self.straight_delay_max);
        self.later(soon, Way::Chunk(Box::new(Carried { way, to, header, upload, source })));
    }

    fn chunk_comes(&mut self, carried: Box<Carried>) {
        let Carried { way, to, header, upload, .. } = *carried;
        let Some(straight) = self.straights.get(&way) else { return };
        let (here, there) = (&straight.ends[1 - to], &straight.ends[to]);
        let (from, node, conn, takes) = (here.node, there.node, there.conn, there.open && there.streams);
        if !here.open || !there.open {
            if self.dice.once_in(2) {
                self.tell_later(from, Input::Served(upload, Served::Unwanted));
            }
            return;
        }
        let one = &self.nodes[node];
        if !takes || straight.silent || one.stalled || one.frozen_until > self.now || !self.passes(from, node) {
            return self.later(self.now + LOOK_AGAIN_MS, Way::Chunk(carried));
        }
        let landed = self.land(node, conn, Some(conn), &header, &carried.source);
        let served = if landed { Served::Sent } else { Served::Unwanted };
        if landed {
            self.coverage.event("chunk came straight");
            self.nodes[node].straight_units += 1;
        }
        self.tell_later(from, Input::Served(upload, served));
    }

    /// A device has no straight way to who is no member by its own roster.
    pub(super) fn check_ways(&self, node: NodeId) {
        let ends = self.straights.values().filter_map(|straight| {
            let end = straight.ends.iter().position(|end| end.node == node && end.open)?;
            Some(straight.ends[1 - end].node)
        });
        let mut ends = ends.peekable();
        if ends.peek().is_none() {
            return;
        }
        let changes = changes_of(self.nodes[node].store(), &self.model.master);
        for other in ends {
            let key = self.nodes[other].key();
            let is_member = changes.get(&key).is_some_and(|change| change.standing == Standing::Approved);
            let is_out = self.model.shows_expelled(self.nodes[node].store(), &key);
            if is_out || (!is_member && key != self.model.master) {
                let (name, other) = (&self.nodes[node].name, &self.nodes[other].name);
                self.fail(&format!("{name} has a straight way to {other}, which is no member"));
            }
        }
    }
}

impl Straight {
    fn joins(&self, node: NodeId, other: Option<NodeId>) -> bool {
        let nodes = [self.ends[0].node, self.ends[1].node];
        nodes.contains(&node) && other.is_none_or(|other| nodes.contains(&other))
    }
}
