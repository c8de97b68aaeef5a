//! Chunk streams: from an owner to the server, from there to who asked.

use super::*;
use bailiwick::state::downloads::Came;

impl World {
    pub(super) fn upload(&mut self, node: NodeId, upload: Upload, source: Box<UploadSource>) {
        self.nodes[node].uploads += 1;
        self.check_freshness(node, upload.conn);
        let one = &self.nodes[node];
        let Some(epoch) = one.plane.newest else { return };
        let is_straight = self.way_of(upload.conn).is_some();
        if !is_straight && !self.links.get(&upload.conn).is_some_and(|link| link.node_open) {
            return;
        }
        let is_away = one.disk.away.iter().any(|away| source.path.starts_with(away));
        let refused = match one.disk.shared.get(&source.path).filter(|_| !is_away) {
            None => Some(ChunkRefusal::Unreadable),
            Some(there) if there.stamp != source.stamp => Some(ChunkRefusal::Changed),
            Some(_) => None,
        };
        if let Some(why) = refused {
            return self.tell_later(node, Input::Served(upload, Served::No(why)));
        }
        let mut nonce = [0; NONCE_BYTES];
        bailiwick::state::random::Random::fill(&mut self.dice, &mut nonce);
        let header = ChunkHeader {
            cipher: if upload.sealed { Cipher::Aes256Gcm } else { Cipher::Plain },
            audience: Audience::EVERYONE,
            epoch,
            request: upload.request,
            content: upload.content,
            index: upload.index,
            length: upload.length,
            nonce,
        };
        if is_straight {
            return self.uploads_straight(header, upload, source);
        }
        self.check(upload.sealed, "what passes the server is sealed");
        self.next_id += 1;
        let id = StreamId(self.next_id);
        self.streams.insert(id, Stream { node, link: upload.conn, header, upload, source, entry: None });
        let soon = self.soon();
        self.at(soon, Event::Arrives(id));
    }

    /// Who serves has had a fresh word of the master about the members that it knows.
    fn check_freshness(&self, node: NodeId, conn: ConnId) {
        let one = &self.nodes[node];
        if one.is_master() || self.model.master_was_restored {
            return;
        }
        let tip = one.store().tip().expect("a store").unwrap_or_else(|| self.fail("it serves without a log"));
        // What comes before a new policy in a batch is decided by the old one.
        let policies = [one.policy(), one.policy_before.clone()];
        let straight = self.way_of(conn).is_some();
        let fresh_for = policies.iter().map(|policy| if straight { policy.continue_for() } else { policy.wait() });
        let fresh_for = fresh_for.max().unwrap_or_default().as_millis() as u64;
        if let Err(why) = self.model.may_serve(self.now, tip.membership, fresh_for) {
            self.fail(&format!("{} {why}", one.name));
        }
    }

    pub(super) fn arrives(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (conn, node, header) = (stream.link, stream.node, stream.header);
        let Some(link) = self.links.get(&conn).filter(|link| link.server_open) else {
            self.streams.remove(&id);
            return;
        };
        if !link.node_open {
            self.streams.remove(&id);
            return;
        }
        if self.nodes[node].cut_out {
            return self.at(self.now + 500, Event::Arrives(id));
        }
        self.tell_server(ServerInput::Arriving { conn, stream: id, header });
    }

    pub(super) fn received(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (conn, node, upload) = (stream.link, stream.node, stream.upload);
        let Some(entry) = stream.entry else { return };
        let node_open = self.links.get(&conn).is_some_and(|link| link.node_open);
        if node_open && self.nodes[node].cut_out {
            return self.at(self.now + 500, Event::Received(id));
        }
        if !node_open {
            // The rest of it never comes; the server learns when the connection ends.
            return;
        }
        if let Some(there) = self.server.entries.get_mut(&entry) {
            there.1 = true;
            self.tell_server(ServerInput::Complete(entry));
            self.tell_later(node, Input::Served(upload, Served::Sent));
            let waiting: Vec<ForwardId> =
                self.server.forwards.iter().filter(|(_, one)| one.0 == entry).map(|(id, _)| *id).collect();
            for forward in waiting {
                let soon = self.soon();
                self.at(soon, Event::Forwards(forward));
            }
        }
    }

    pub(super) fn stop_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.tell_later(stream.node, Input::Served(stream.upload, Served::Unwanted));
        }
    }

    pub(super) fn forwards(&mut self, forward: ForwardId) {
        let Some((entry, conn, request)) = self.server.forwards.get(&forward).copied() else { return };
        let Some((stream, true)) = self.server.entries.get(&entry).copied() else { return };
        let Some(stream) = self.streams.get(&stream) else { return };
        let Some(link) = self.links.get(&conn).filter(|link| link.server_open) else {
            self.server.forwards.remove(&forward);
            return;
        };
        let node = link.node;
        if self.nodes[node].stalled || self.is_cut(node, Side::Node) || self.nodes[node].frozen_until > self.now {
            return self.at(self.now + 500, Event::Forwards(forward));
        }
        self.server.forwards.remove(&forward);
        if !link.node_open {
            return;
        }
        if self.nodes[node].core.is_none() {
            return;
        }
        let (header, source) = (ChunkHeader { request, ..stream.header }, stream.source.clone());
        let told = if self.land(node, conn, None, &header, &source) {
            ServerInput::Forwarded(forward)
        } else {
            ServerInput::Unwanted(forward)
        };
        self.tell_server(told);
    }

    /// A unit comes, straight or through the server. Says whether anybody expected it: else its stream is stopped.
    pub(super) fn land(
        &mut self,
        node: NodeId,
        conn: ConnId,
        straight: Option<ConnId>,
        header: &ChunkHeader,
        source: &UploadSource,
    ) -> bool {
        let broken = self.dice.once_in(self.faults.broken_unit);
        let broken = broken.then(|| [Came::Broken, Came::Damaged][self.dice.below(2) as usize]);
        if broken.is_some() {
            self.coverage.event("unit came broken");
        }
        let one = &mut self.nodes[node];
        let landed = one.plane.land(&mut one.disk, header, straight, source, broken);
        let came: Vec<&Came> = landed.iter().map(|landed| &landed.came).collect();
        let note = format!("{} <~{} chunk {:?} {}: {came:?}", one.name, conn.0, header.content, header.index);
        self.note(note);
        if landed.is_empty() {
            return false;
        }
        self.nodes[node].units += 1;
        self.tell(node, Input::Heard(landed[0].asked.transfer, u64::from(header.length), straight));
        for Landed { asked, came, list } in landed {
            self.tell_later(node, Input::Came(asked, came));
            if let Some(list) = list {
                self.tell_later(node, Input::List(asked.transfer, Some(list)));
            }
        }
        true
    }
}
