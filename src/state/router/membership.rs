//! What a server knows of one group's membership, and whether that is all there is.
//!
//! The chain holds membership headers of the master, each linked to the one before; its end is the *tip*. The group is
//! *settled* while the tip is the membership that the newest head vouches for: only then does the chain say who is a
//! member. Expulsions count always, in any order, and for ever.

use crate::wire::frame::Tip;
use crate::wire::ids::{DeviceKey, GroupId, Hash, Position, PublicId};
use crate::wire::log::{
    Head, Header, MembershipChange, NotTheMasters, SignedHead, SignedHeader, Standing, VerifiedHeader,
};
use std::collections::{BTreeSet, HashMap};

/// A membership header, checked.
#[derive(Debug, Clone)]
pub(super) struct Link {
    at: Position,
    hash: Hash,
    signed: SignedHeader,
    change: MembershipChange,
}

impl Link {
    fn of(signed: &SignedHeader, header: &Header, hash: Hash) -> Option<Link> {
        let change = header.membership.clone()?;
        Some(Link { at: header.at, hash, signed: signed.clone(), change })
    }
}

/// What must be on the disk before anybody hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A group that is new here.
    Group {
        /// The group.
        group: GroupId,
        /// Its master.
        master: DeviceKey,
    },
    /// The chain of a group ends at this place now, or is empty.
    Truncated {
        /// The group.
        group: GroupId,
        /// The last header that stays.
        after: Option<Position>,
    },
    /// The chain of a group has a header more.
    Header {
        /// The group.
        group: GroupId,
        /// The header's place.
        at: Position,
        /// The header.
        header: SignedHeader,
    },
    /// A device is expelled, for ever.
    Expulsion {
        /// The group.
        group: GroupId,
        /// The device.
        device: DeviceKey,
        /// The header that says so.
        header: SignedHeader,
    },
    /// A newer head was shown.
    Head {
        /// The group.
        group: GroupId,
        /// The head.
        head: SignedHead,
    },
}

/// What became of a header that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It changes no membership, or it was here already.
    Nothing,
    /// It is the new tip.
    Extended,
    /// It expels, and is remembered beside the chain.
    ExpelledEarly,
    /// Headers before it are missing, or it is older than what replaced it.
    Gap,
    /// The group has as many headers as it may.
    Full,
}

/// What became of a head that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Not newer than what is known.
    Old,
    /// Newer than every head before.
    Newer,
    /// It proves that the log forked.
    Fork,
}

/// A point of the log that the master vouched for, in a head or a header.
#[derive(Debug, Clone, Copy)]
struct Newest {
    at: Position,
    header: Hash,
    membership: Hash,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Membership {
    group: GroupId,
    master: DeviceKey,
    headers_max: usize,
    chain: Vec<Link>,
    places: HashMap<Hash, usize>,
    members: HashMap<DeviceKey, usize>,
    expelled: HashMap<DeviceKey, Link>,
    /// The expulsions that the chain lacks.
    early: BTreeSet<(Position, DeviceKey)>,
    ids: HashMap<PublicId, DeviceKey>,
    head: Option<(Head, SignedHead)>,
    newest: Option<Newest>,
}

impl Membership {
    pub(super) fn new(master: DeviceKey, headers_max: usize) -> Membership {
        Membership {
            group: GroupId::of(&master),
            master,
            headers_max,
            chain: Vec::new(),
            places: HashMap::new(),
            members: HashMap::new(),
            expelled: HashMap::new(),
            early: BTreeSet::new(),
            ids: HashMap::new(),
            head: None,
            newest: None,
        }
    }

    /// What was on the disk. It was verified when it went there.
    pub(super) fn restore(
        master: DeviceKey,
        headers_max: usize,
        head: Option<SignedHead>,
        chain: Vec<SignedHeader>,
        expulsions: Vec<SignedHeader>,
    ) -> Result<Membership, NotTheMasters> {
        let mut membership = Membership::new(master, headers_max);
        for signed in expulsions {
            let link = stored(&signed)?;
            membership.remember_expelled(link);
        }
        for signed in chain {
            membership.push(stored(&signed)?);
        }
        if let Some(signed) = head {
            let head: Head = crate::wire::codec::decode(&signed.bytes).map_err(|_| NotTheMasters::Newer)?;
            membership.show(head, signed);
        }
        Ok(membership)
    }

    pub(super) fn master(&self) -> DeviceKey {
        self.master
    }

    pub(super) fn tip(&self) -> Option<Tip> {
        self.chain.last().map(|link| Tip { at: link.at, hash: link.hash })
    }

    pub(super) fn head(&self) -> Option<&SignedHead> {
        self.head.as_ref().map(|(_, signed)| signed)
    }

    pub(super) fn head_at(&self) -> Option<Position> {
        self.head.as_ref().map(|(head, _)| head.at)
    }

    /// Whether the chain is all that the newest head vouches for.
    pub(super) fn is_settled(&self) -> bool {
        match (&self.head, self.newest, self.tip()) {
            (Some(_), Some(newest), Some(tip)) => tip.hash == newest.membership,
            _ => false,
        }
    }

    /// Where a device stands. An expulsion outranks all that the chain says.
    pub(super) fn standing(&self, device: &DeviceKey) -> Option<Standing> {
        self.own(device).map(|link| link.change.standing)
    }

    /// The header that says where a device stands.
    pub(super) fn own_header(&self, device: &DeviceKey) -> Option<&SignedHeader> {
        self.own(device).map(|link| &link.signed)
    }

    pub(super) fn id_of(&self, device: &DeviceKey) -> Option<PublicId> {
        self.own(device).map(|link| link.change.id)
    }

    pub(super) fn device_of(&self, id: &PublicId) -> Option<DeviceKey> {
        self.ids.get(id).copied()
    }

    fn own(&self, device: &DeviceKey) -> Option<&Link> {
        self.expelled.get(device).or_else(|| self.members.get(device).map(|place| &self.chain[*place]))
    }

    /// The membership headers above a place, oldest first, and before them the expulsions that the chain lacks.
    pub(super) fn headers_above(&self, at: Option<Position>) -> Vec<SignedHeader> {
        self.beside_chain().chain(self.chain_above(at)).map(|link| link.signed.clone()).collect()
    }

    /// The expulsions that the chain lacks.
    pub(super) fn expulsions_beside_chain(&self) -> Vec<SignedHeader> {
        self.beside_chain().map(|link| link.signed.clone()).collect()
    }

    /// The membership header at a place.
    pub(super) fn header_at(&self, at: Position) -> Option<&SignedHeader> {
        let place = self.chain.binary_search_by_key(&at, |link| link.at).ok()?;
        self.chain.get(place).map(|link| &link.signed)
    }

    /// A header of the chain that can't be in one log with this one, which is not in the chain: it has the same place, or
    /// follows the same header.
    pub(super) fn other_than(&self, header: &Header) -> Option<&SignedHeader> {
        let next = match self.places.get(&header.previous_membership) {
            Some(place) => self.chain.get(place + 1),
            None if header.previous_membership == Hash::ZERO => self.chain.first(),
            None => None,
        };
        let next = next.filter(|link| link.at.generation == header.at.generation);
        next.map(|link| &link.signed).or_else(|| self.header_at(header.at))
    }

    /// The expulsions above a place, and all that the chain lacks.
    pub(super) fn expulsions_above(&self, at: Option<Position>) -> Vec<SignedHeader> {
        let above = self.chain_above(at).filter(|link| link.change.standing.is_final());
        self.beside_chain().chain(above).map(|link| link.signed.clone()).collect()
    }

    fn chain_above(&self, at: Option<Position>) -> impl Iterator<Item = &Link> {
        let first = self.chain.partition_point(|link| Some(link.at) <= at);
        self.chain[first..].iter()
    }

    fn beside_chain(&self) -> impl Iterator<Item = &Link> {
        self.early.iter().filter_map(|(_, device)| self.expelled.get(device))
    }

    /// Checks a header, unless it is here already.
    pub(super) fn verify(&self, signed: SignedHeader) -> Result<Option<VerifiedHeader>, NotTheMasters> {
        if self.places.contains_key(&Hash::of(&signed.bytes)) {
            return Ok(None);
        }
        signed.verify(&self.master).map(Some)
    }

    /// Takes in a header that was shown; what must be stored is added to `records`.
    pub(super) fn take(&mut self, header: &VerifiedHeader, records: &mut Vec<Record>) -> Taken {
        let Some(link) = Link::of(header.signed(), header.header(), header.hash()) else { return Taken::Nothing };
        if self.places.contains_key(&link.hash) {
            return Taken::Nothing;
        }
        let length = self.length_before(header.header());
        if self.is_full(&link, length) {
            return Taken::Full;
        }
        let expels_now = self.expel(&link, records);
        match length {
            Some(length) => {
                self.truncate(length, records);
                records.push(Record::Header { group: self.group, at: link.at, header: link.signed.clone() });
                self.push(link);
                Taken::Extended
            }
            None if expels_now => Taken::ExpelledEarly,
            None if link.change.standing.is_final() || self.is_of_earlier_generation(&link) => Taken::Nothing,
            None => Taken::Gap,
        }
    }

    /// Removal works at every limit: who is known can be expelled in a group that is full.
    fn is_full(&self, link: &Link, length: Option<usize>) -> bool {
        let removal = link.change.standing.is_final() && self.own(&link.change.device).is_some();
        length.unwrap_or(self.chain.len()) + self.expelled.len() >= self.headers_max && !removal
    }

    /// Members show such headers before they have heard of the new generation.
    fn is_of_earlier_generation(&self, link: &Link) -> bool {
        self.chain.last().is_some_and(|tip| link.at.generation < tip.at.generation)
    }

    fn expel(&mut self, link: &Link, records: &mut Vec<Record>) -> bool {
        let device = link.change.device;
        if !link.change.standing.is_final() || device == self.master || self.expelled.contains_key(&device) {
            return false;
        }
        records.push(Record::Expulsion { group: self.group, device, header: link.signed.clone() });
        self.remember_expelled(link.clone());
        true
    }

    fn remember_expelled(&mut self, link: Link) {
        self.ids.insert(link.change.id, link.change.device);
        self.early.insert((link.at, link.change.device));
        self.expelled.insert(link.change.device, link);
    }

    /// How long the chain is before this header, if it links to it. A higher generation may link to any header, or
    /// begin anew; within a generation only the tip goes on.
    fn length_before(&self, header: &Header) -> Option<usize> {
        let Some(tip) = self.chain.last() else {
            return (header.previous_membership == Hash::ZERO).then_some(0);
        };
        if header.at <= tip.at {
            return None;
        }
        let length = match self.places.get(&header.previous_membership) {
            Some(place) => place + 1,
            None if header.previous_membership == Hash::ZERO => 0,
            None => return None,
        };
        let newer_generation = header.at.generation > tip.at.generation;
        (newer_generation || length == self.chain.len()).then_some(length)
    }

    fn truncate(&mut self, length: usize, records: &mut Vec<Record>) {
        if length == self.chain.len() {
            return;
        }
        self.chain.truncate(length);
        let after = self.chain.last().map(|link| link.at);
        records.push(Record::Truncated { group: self.group, after });
        let kept = std::mem::take(&mut self.chain);
        self.places.clear();
        self.members.clear();
        self.ids = self.expelled.values().map(|link| (link.change.id, link.change.device)).collect();
        self.early = self.expelled.values().map(|link| (link.at, link.change.device)).collect();
        kept.into_iter().for_each(|link| self.push(link));
    }

    fn push(&mut self, link: Link) {
        let place = self.chain.len();
        self.early.remove(&(link.at, link.change.device));
        self.places.insert(link.hash, place);
        self.members.insert(link.change.device, place);
        self.ids.insert(link.change.id, link.change.device);
        self.chain.push(link);
    }

    /// Takes in a head that was shown, and verified.
    pub(super) fn show(&mut self, head: Head, signed: SignedHead) -> Shown {
        if self.raise(Newest { at: head.at, header: head.header, membership: head.membership }).is_err() {
            return Shown::Fork;
        }
        if self.head_at() >= Some(head.at) {
            return Shown::Old;
        }
        self.head = Some((head, signed));
        Shown::Newer
    }

    /// Takes in a header that the master has just broadcast: the log reaches that far.
    pub(super) fn broadcast(&mut self, header: &VerifiedHeader) -> Shown {
        let newest = Newest { at: header.header().at, header: header.hash(), membership: header.membership_hash() };
        match self.raise(newest) {
            Ok(()) => Shown::Newer,
            Err(Forked) => Shown::Fork,
        }
    }

    fn raise(&mut self, shown: Newest) -> Result<(), Forked> {
        match self.newest {
            Some(newest) if newest.at == shown.at && newest.header != shown.header => return Err(Forked),
            Some(newest) if newest.at >= shown.at => {}
            Some(_) | None => self.newest = Some(shown),
        }
        Ok(())
    }
}

struct Forked;

fn stored(signed: &SignedHeader) -> Result<Link, NotTheMasters> {
    let header: Header = crate::wire::codec::decode(&signed.bytes).map_err(|_| NotTheMasters::Newer)?;
    Link::of(signed, &header, Hash::of(&signed.bytes)).ok_or(NotTheMasters::Newer)
}
