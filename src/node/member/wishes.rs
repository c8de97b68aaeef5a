//! What a person wishes for this device itself: another name, or to leave the group (DESIGN §2).
//!
//! A wish is on disk before anybody hears of it, and becomes a request by the difference with what the log says. So it
//! outlives restarts, and waits by itself while the master is away.

use super::core::{Cx, MemberCore};
use super::io::Output;
use super::opening::failed;
use crate::node::local::{ErrorCode, LocalError, RenameRow, Reply};
use crate::state::authority::NotDone;
use crate::store::member::{DbError, MemberStore};
use crate::wire::close::CloseCode;
use crate::wire::envelope::{Answer, Request};
use crate::wire::ids::PublicId;
use crate::wire::log::Standing;
use crate::wire::name::DeviceName;
use serde::{Deserialize, Serialize};

/// How a device leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Leaving {
    /// The keys stay until the master's header came.
    WhenHeard,
    /// The keys go at once.
    Now,
}

/// A name that this device would like to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameWish {
    name: DeviceName,
    /// Why the master refused it. It is not asked for again; it is kept to be shown.
    refused: Option<String>,
}

/// A device's wishes for itself, as they are kept.
#[derive(Default)]
pub(super) struct Wishes {
    leaving: Option<Leaving>,
    name: Option<NameWish>,
}

impl Wishes {
    pub(super) fn restore(store: &MemberStore) -> Result<Wishes, DbError> {
        let name: Option<NameWish> = store.get("name_wish")?;
        // A refusal is told until the node is started again.
        Ok(Wishes { leaving: store.get("leaving")?, name: name.filter(|wish| wish.refused.is_none()) })
    }

    /// A device that is leaving serves, fetches and shares nothing more.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }
}

impl MemberCore {
    /// The name that was given at the start, if it is another one than before: a wish.
    pub(super) fn wish_name_of_start(&mut self, before: Option<DeviceName>) -> Result<(), DbError> {
        let is_other = before.is_some_and(|before| before != self.name);
        if is_other && self.me.is_some() { self.wish_name(self.name.clone()) } else { Ok(()) }
    }

    /// The name that it had in an earlier generation of the log, if its person does not wish for another one by now.
    pub(super) fn wish_name_of_before(&mut self, before: DeviceName) -> Result<(), DbError> {
        let wishes_other = self.wishes.name.as_ref().is_some_and(|wish| wish.refused.is_none());
        if wishes_other { Ok(()) } else { self.wish_name(before) }
    }

    fn wish_name(&mut self, name: DeviceName) -> Result<(), DbError> {
        let wish = NameWish { name, refused: None };
        self.store.set("name_wish", &wish)?;
        self.wishes.name = Some(wish);
        Ok(())
    }

    /// The request that brings the log nearer to what this device wishes for itself.
    pub(super) fn wish_request(&self) -> Option<Request> {
        if self.wishes.is_leaving() {
            return Some(Request::Leave);
        }
        let wish = self.wishes.name.as_ref().filter(|wish| wish.refused.is_none())?;
        let own = self.roster().by_key(&self.key)?;
        (own.name != wish.name).then(|| Request::Rename(wish.name.clone()))
    }

    /// A wish for a name that the log fulfils is none any more.
    pub(super) fn drop_fulfilled_wish(&mut self) -> Result<(), DbError> {
        let Some(wish) = &self.wishes.name else { return Ok(()) };
        if self.roster().by_key(&self.key).is_some_and(|own| own.name == wish.name) {
            self.wishes.name = None;
            self.store.unset("name_wish")?;
        }
        Ok(())
    }

    /// The master said no to a name: the wish is dropped, and its person is told why.
    pub(super) fn name_refused(&mut self, name: &DeviceName, why: &str) -> Result<(), DbError> {
        if let Some(wish) = self.wishes.name.as_mut().filter(|wish| wish.name == *name) {
            wish.refused = Some(why.to_owned());
            self.store.set("name_wish", wish)?;
        }
        self.event("rename_refused", vec![("name", name.to_string()), ("reason", why.to_owned())]);
        Ok(())
    }

    /// The wish for a name, for the status.
    pub(super) fn rename_row(&self) -> Option<RenameRow> {
        let wish = self.wishes.name.as_ref()?;
        Some(RenameRow { name: wish.name.to_string(), refused: wish.refused.clone() })
    }

    /// The name that this device registered by, or was started with, if the master gave it another one.
    pub(super) fn asked_name(&self) -> Option<String> {
        let own = self.roster().by_key(&self.key)?;
        let is_other = own.name != self.name && self.wishes.name.is_none() && !self.is_master();
        is_other.then(|| self.name.to_string())
    }

    /// `rename`: any device's name at the master; its own at a client.
    pub(super) fn rename(&mut self, cx: &mut Cx<'_>, of: Option<&str>, name: &str) -> Result<Reply, LocalError> {
        let name = DeviceName::parse(name)
            .map_err(|error| LocalError::new(ErrorCode::Usage, error.to_string(), "choose another name"))?;
        let of = of.map(|of| self.find_device(of).map(|device| device.id)).transpose()?;
        match (self.is_master(), of.or(self.me)) {
            (true, Some(id)) => self.rename_device(cx, &id, name),
            (false, id) if of.is_none() || id == self.me => self.rename_self(cx, name),
            (_, _) => Err(LocalError::new(
                ErrorCode::WrongRole,
                "only the master can rename other devices",
                "run it at the group's master, or there: 'bailiwick rename NAME'",
            )),
        }
    }

    fn rename_device(&mut self, cx: &mut Cx<'_>, id: &PublicId, name: DeviceName) -> Result<Reply, LocalError> {
        if self.roster().device(id).is_some_and(|device| device.standing.is_final()) {
            return Err(super::commands::not_done(NotDone::Final));
        }
        let request = Request::Rename(name.clone());
        let answer = self.with_authority(cx, |authority, moment| authority.decide(moment, id, request, &Vec::new()));
        if let Some(Answer::Refused(why)) = answer {
            let error = format!("the device keeps its name: {why} ('{name}')");
            return Err(LocalError::new(
                ErrorCode::Refused,
                error,
                "'bailiwick clients' shows the names; choose another",
            ));
        }
        self.drain_pen(cx).map_err(failed)?;
        Ok(self.rows_of(&[*id]))
    }

    fn rename_self(&mut self, cx: &mut Cx<'_>, name: DeviceName) -> Result<Reply, LocalError> {
        self.must_not_be_out()?;
        self.store.set("name", &name).map_err(failed)?;
        self.name = name.clone();
        // A device that is not registered yet registers by the new name.
        self.wish_name(name).map_err(failed)?;
        self.drop_fulfilled_wish().map_err(failed)?;
        self.requests.wishes_changed(cx.now);
        Ok(self.rows_of(&self.me.into_iter().collect::<Vec<_>>()))
    }

    /// A device that is out, or is on its way out, does nothing more.
    pub(super) fn must_not_be_out(&self) -> Result<(), LocalError> {
        let refused = |error| Err(LocalError::new(ErrorCode::Refused, error, NEW_DEVICE_HINT));
        match self.standing() {
            _ if self.wishes.is_leaving() => refused("this device is leaving the group"),
            Some(Standing::Left) => refused("this device has left the group"),
            Some(Standing::Disapproved) => refused("this device was expelled from the group"),
            Some(Standing::Registered | Standing::Approved) | None => Ok(()),
        }
    }

    /// `leave`: everything stops at once. The keys go when the master's header came, or now.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>, now: bool) -> Result<Reply, LocalError> {
        if self.is_master() {
            return Err(LocalError::new(
                ErrorCode::Refused,
                "the master can't leave: it is the group",
                "to end the group, stop this node ('bailiwick stop') and delete its state directory",
            ));
        }
        let is_out = self.roster().is_expelled(&self.key);
        if !now && !is_out && self.standing() != Some(Standing::Approved) {
            return Err(LocalError::new(
                ErrorCode::NotNow,
                "this device is not a member yet, so there is nobody to tell that it leaves",
                "'bailiwick leave --now' erases its keys at once; if it waits for approval, the master's person can disapprove it",
            ));
        }
        let leaving = if now || is_out { Leaving::Now } else { Leaving::WhenHeard };
        self.store.set("leaving", &leaving).map_err(failed)?;
        let was_leaving = self.wishes.leaving.replace(leaving).is_some();
        if !was_leaving {
            self.stop_traffic(cx).map_err(failed)?;
            self.event("leaving", Vec::new());
        }
        if leaving == Leaving::Now {
            self.outputs.push(Output::Erase);
        } else {
            self.requests.wishes_changed(cx.now);
        }
        Ok(Reply::Done)
    }

    /// The connection goes, and with it all that is under way on it. The next one carries the wish to leave alone.
    fn stop_traffic(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        self.downloads.linked(cx.now, false);
        self.give_everything_up(cx)?;
        if let Some(conn) = self.link.current() {
            self.uploads.forget_held(conn);
            self.outputs.push(Output::Close(conn, CloseCode::Done));
        }
        Ok(())
    }

    /// This device is out. If it was to leave, its keys go now.
    pub(super) fn out_for_ever(&mut self) {
        if self.wishes.is_leaving() {
            self.outputs.push(Output::Erase);
        }
    }

    /// What a core that was just opened finds undone: the process ended between the header and the erasing.
    pub(super) fn go_on_leaving(&mut self) {
        if self.wishes.leaving == Some(Leaving::Now) || self.roster().is_expelled(&self.key) {
            self.out_for_ever();
        }
    }

    /// Why a device that is leaving is still there, in words.
    pub(super) fn or_leaving(&self, waits_for: Option<String>) -> Option<String> {
        if !self.wishes.is_leaving() {
            return waits_for;
        }
        let why = waits_for.unwrap_or_else(|| "the master is being told".to_owned());
        Some(format!("leaving the group: {why}"))
    }
}

/// What a device that is out can do.
pub(super) const NEW_DEVICE_HINT: &str =
    "to come back it needs a new state directory (--state or --profile) and a new invite from the master's person";
