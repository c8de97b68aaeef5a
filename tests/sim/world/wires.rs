//! The network: cuts, losses, sleep, frames on their way.

use super::*;

impl World {
    /// Cuts a node off, one way or both; `false, false` heals it.
    pub(crate) fn cut(&mut self, node: NodeId, inward: bool, outward: bool) {
        self.note(format!("{} is cut off: in {inward}, out {outward}", self.nodes[node].name));
        let one = &mut self.nodes[node];
        (one.cut_in, one.cut_out) = (inward, outward);
        one.cut_since = self.now;
        if inward || outward {
            self.straight_ways_die(node, None);
        }
        let links: Vec<ConnId> = self.links.values().filter(|link| link.node == node).map(|link| link.id).collect();
        for conn in links {
            if inward || outward {
                let skew = self.dice.below(KEEP_ALIVE_MS);
                let since = self.now;
                self.at(self.now + IDLE_MS - skew, Event::Idles(conn, Side::Node, since));
                let skew = self.dice.below(KEEP_ALIVE_MS);
                self.at(self.now + IDLE_MS - skew, Event::Idles(conn, Side::Server, since));
            } else {
                for side in [Side::Node, Side::Server] {
                    let soon = self.soon();
                    self.at(soon, Event::Deliver(conn, side));
                }
            }
        }
    }

    /// A node's connections are lost, at both ends.
    pub(crate) fn lose_connections(&mut self, node: NodeId) {
        self.note(format!("{} loses its connections", self.nodes[node].name));
        self.straight_ways_die(node, None);
        let links: Vec<ConnId> = self.links.values().filter(|link| link.node == node).map(|link| link.id).collect();
        for conn in links {
            for side in [Side::Node, Side::Server] {
                let late = self.dice.once_in(3);
                let learns = if late { self.dice.between(1, IDLE_MS) } else { self.dice.between(1, 200) };
                self.at(self.now + learns, Event::Dies(conn, side));
            }
        }
    }

    /// A device sleeps.
    pub(crate) fn sleep(&mut self, node: NodeId, ms: u64) {
        self.note(format!("{} sleeps for {ms} ms", self.nodes[node].name));
        self.nodes[node].frozen_until = self.now + ms;
        if ms > KEEP_ALIVE_MS {
            self.straight_ways_die(node, None);
        }
        let links: Vec<ConnId> = self.links.values().filter(|link| link.node == node).map(|link| link.id).collect();
        if ms > IDLE_MS {
            for conn in links {
                self.at(self.now + IDLE_MS, Event::Dies(conn, Side::Server));
                self.at(self.now + ms + 1, Event::Dies(conn, Side::Node));
            }
        }
    }

    pub(super) fn is_cut(&self, node: NodeId, to: Side) -> bool {
        match to {
            Side::Node => self.nodes[node].cut_in,
            Side::Server => self.nodes[node].cut_out,
        }
    }

    pub(super) fn dials(&mut self, conn: ConnId, attempt: u64, life: u32) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let node = link.node;
        let reachable = self.server.core.is_some() && !self.nodes[node].cut_in && !self.nodes[node].cut_out;
        if !reachable {
            self.links.remove(&conn);
            return self.at(self.now + DIAL_MS, Event::DialFails(node, attempt, life));
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.server_open = true;
        }
        let remote = self.public(node);
        if let Some(link) = self.links.get_mut(&conn) {
            link.remote = Some(remote);
        }
        self.tell_server(ServerInput::Connected { conn, peer: self.nodes[node].key(), remote });
        let soon = self.soon();
        self.at(soon, Event::Dialed(conn, attempt, life));
    }

    pub(super) fn dialed(&mut self, conn: ConnId, attempt: u64, life: u32) {
        let Some(link) = self.links.get(&conn) else { return };
        let node = link.node;
        if self.nodes[node].life != life {
            return self.at(self.now + IDLE_MS, Event::Dies(conn, Side::Server));
        }
        if self.nodes[node].cut_in || !link.server_open {
            self.at(self.now + IDLE_MS, Event::Dies(conn, Side::Server));
            return self.at(self.now + DIAL_MS, Event::DialFails(node, attempt, life));
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.node_open = true;
        }
        self.tell(node, Input::Dialed(conn, attempt));
    }

    pub(super) fn send(&mut self, conn: ConnId, to: Side, frame: Frame) {
        let due = self.soon();
        let Some(link) = self.links.get_mut(&conn) else { return };
        if !link.is_open(to.other()) {
            return;
        }
        let lane = link.lane_to(to);
        if lane.pieces.len() >= LANE_FRAMES_MAX {
            return self.close(conn, to.other(), CloseCode::TooSlow);
        }
        let due = due.max(lane.last_due);
        lane.last_due = due;
        lane.pieces.push_back((due, Piece::Frame(Box::new(frame))));
        self.at(due, Event::Deliver(conn, to));
    }

    /// One side closes a connection. What it had not sent yet may be lost.
    pub(super) fn close(&mut self, conn: ConnId, by: Side, code: CloseCode) {
        let (due, lost) = (self.soon(), self.dice.once_in(2));
        let Some(link) = self.links.get_mut(&conn) else { return };
        if !link.is_open(by) {
            return;
        }
        link.set_open(by, false);
        let node = link.node;
        let lane = link.lane_to(by.other());
        if lost && by == Side::Node {
            lane.pieces.clear();
        }
        let due = due.max(lane.last_due);
        lane.last_due = due;
        lane.pieces.push_back((due, Piece::Close(code)));
        self.at(due, Event::Deliver(conn, by.other()));
        self.note(format!("{} {} closed by {by:?}: {code:?}", self.nodes[node].name, conn.0));
        match by {
            Side::Node => self.tell_later(node, Input::Lost(conn, Lost::Broken)),
            Side::Server => self.close_streams(conn),
        }
    }

    /// A side learns that its connection is over.
    pub(super) fn end_side(&mut self, conn: ConnId, side: Side, code: Option<CloseCode>) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let (node, was_open) = (link.node, link.is_open(side));
        link.set_open(side, false);
        link.lane_to(side).pieces.clear();
        let gone = !link.node_open && !link.server_open && link.to_node.pieces.is_empty();
        if gone && link.to_server.pieces.is_empty() {
            self.links.remove(&conn);
        }
        if !was_open {
            return;
        }
        self.note(format!("{} {} ended at {side:?} {code:?}", self.nodes[node].name, conn.0));
        if code.is_none() {
            // Whoever still has it hears nothing any more, and gives it up in time.
            let late = self.dice.between(1, IDLE_MS);
            self.at(self.now + late, Event::Dies(conn, side.other()));
        }
        match side {
            Side::Node => self.tell(node, Input::Lost(conn, code.map_or(Lost::Broken, Lost::Closed))),
            Side::Server => {
                self.close_streams(conn);
                self.tell_server(ServerInput::Closed { conn });
            }
        }
    }

    /// The chunk streams of a connection that is over at the server.
    pub(super) fn close_streams(&mut self, conn: ConnId) {
        let broken: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| stream.link == conn).map(|(id, _)| *id).collect();
        for id in broken {
            let Some(stream) = self.streams.get(&id) else { continue };
            let complete = stream.entry.is_some_and(|entry| self.server.entries.get(&entry).is_some_and(|one| one.1));
            if complete {
                continue;
            }
            let entry = stream.entry;
            self.streams.remove(&id);
            if let Some(entry) = entry {
                self.tell_server(ServerInput::Broken(entry));
            }
        }
    }

    pub(super) fn deliver(&mut self, conn: ConnId, to: Side) {
        loop {
            let Some(node) = self.links.get(&conn).map(|link| link.node) else { return };
            if self.is_cut(node, to) {
                return;
            }
            let now = self.now;
            let Some(link) = self.links.get_mut(&conn) else { return };
            let is_open = link.is_open(to);
            let lane = link.lane_to(to);
            if lane.pieces.front().is_none_or(|(due, _)| *due > now) {
                return;
            }
            let Some((_, piece)) = lane.pieces.pop_front() else { return };
            match piece {
                Piece::Close(code) => self.end_side(conn, to, Some(code)),
                Piece::Frame(_) if !is_open => {}
                Piece::Frame(frame) => self.frame_arrives(conn, node, to, *frame),
            }
        }
    }

    pub(super) fn frame_arrives(&mut self, conn: ConnId, node: NodeId, to: Side, frame: Frame) {
        let arrow = if to == Side::Node { "<-" } else { "->" };
        if let Some(mut intercept) = self.intercept.take() {
            let passes = intercept(&Passing { node, to, frame: &frame });
            self.intercept = Some(intercept);
            if !passes {
                return self.note(format!("{} {arrow}{} LOST {}", self.nodes[node].name, conn.0, label(&frame)));
            }
        }
        if !self.passes_lies(node, to, &frame) {
            return self.note(format!("{} {arrow}{} DROPPED {}", self.nodes[node].name, conn.0, label(&frame)));
        }
        self.note(format!("{} {arrow}{} {}", self.nodes[node].name, conn.0, label(&frame)));
        match to {
            Side::Node => {
                if let Frame::Ping(number) = frame
                    && self.nodes[node].frozen_until <= self.now
                    && self.nodes[node].core.is_some()
                {
                    self.send(conn, Side::Server, Frame::Pong(number));
                }
                self.tell(node, Input::Frame(conn, Box::new(frame)));
            }
            Side::Server => {
                let remote = self.public(node);
                if self.links.get_mut(&conn).is_some_and(|link| link.remote.replace(remote) != Some(remote)) {
                    self.tell_server(ServerInput::Moved { conn, remote });
                }
                self.tell_server(ServerInput::Frame { conn, frame });
            }
        }
    }
}
