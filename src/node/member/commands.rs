//! What a person asks of this node.

use super::core::{Cx, MemberCore};
use super::io::{Input, Output};
use super::jobs::Control;
use super::opening::failed;
use super::pen::Pen;
use super::rows::{JOBS_KEPT, JOBS_LISTED, TRANSFERS_LISTED, invite_row};
use super::scan::Ask;
use super::share::{Adding, NotShared};
use crate::node::local::{Command, ErrorCode, FILES_PAGE_MAX, LocalError, Reply};
use crate::state::authority::{Gate, NotDone, STALE_HINT};
use crate::state::downloads::Way;
use crate::state::random::draw;
use crate::store::download::Conflict;
use crate::store::exclude::Exclusions;
use crate::store::member::{CatalogRow, DbError, JobPlace, LocalStatus};
use crate::wire::ids::{PublicId, hex};
use crate::wire::invite::{Invite, InviteSecret};
use crate::wire::log::Standing;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// The longest life of an invite.
const INVITE_LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

impl MemberCore {
    pub(super) fn local(&mut self, cx: &mut Cx<'_>, token: u64, command: Command) -> Result<(), DbError> {
        self.link.look(cx.now);
        let signs = matches!(
            command,
            Command::Approve { .. }
                | Command::Disapprove { .. }
                | Command::Rename { .. }
                | Command::SetPolicy { .. }
                | Command::SetContinue { .. }
                | Command::Remove { .. }
        );
        let command = match &mut self.pen {
            Pen::Master(master) if signs => match master.hold(Input::Local(token, command)) {
                Some(Input::Local(_, command)) => command,
                Some(_) => return Ok(()),
                None => {
                    if let Gate::Closed(stale) = master.gate {
                        let error = LocalError::new(ErrorCode::NotNow, stale.to_string(), STALE_HINT);
                        self.outputs.push(Output::Reply(token, Err(error)));
                    }
                    return Ok(());
                }
            },
            Pen::Master(_) | Pen::Replica(_) => command,
        };
        let reply = self.answer(cx, command);
        if let Err(error) = &reply {
            tracing::debug!(%error, "a command was refused");
        }
        self.outputs.push(Output::Reply(token, reply));
        Ok(())
    }

    fn answer(&mut self, cx: &mut Cx<'_>, command: Command) -> Result<Reply, LocalError> {
        match command {
            Command::Status => Ok(Reply::Status(Box::new(self.status()))),
            Command::Clients => Ok(Reply::Clients(self.client_rows())),
            Command::Doctor { id } => self.doctor(cx, id.as_deref()),
            Command::Files { query, offset, limit } => self.files(cx, query.as_deref(), offset, limit),
            Command::Shares => self.share_rows(),
            Command::ShareFiles { path } => {
                let files = self.store.local_of(&path).map_err(failed)?;
                let listed = files.iter().filter(|file| file.status != LocalStatus::Unlisted);
                Ok(Reply::Files(listed.map(|file| self.local_row(file)).collect()))
            }
            Command::Transfers { job } => self.transfers(cx, job),
            Command::Jobs { job } => self.jobs(cx, job),
            Command::Invites => {
                self.must_be_master()?;
                Ok(Reply::Invites(self.invite_rows(cx).map_err(failed)?))
            }
            Command::Invite { expires_s } => self.invite(cx, expires_s),
            Command::RevokeInvite { id } => self.revoke(cx, &id),
            Command::Approve { ids } => self.approve(cx, &ids),
            Command::Disapprove { ids } => self.disapprove(cx, &ids),
            Command::Rename { id, name } => self.rename(cx, id.as_deref(), &name),
            Command::Leave { now } => self.leave(cx, now),
            Command::Policy => self.policy(),
            Command::SetPolicy { master_away_wait_s } => self.set_master_away_wait(cx, master_away_wait_s),
            Command::SetContinue { master_away_continue_s } => {
                self.set_master_away_continue(cx, master_away_continue_s)
            }
            Command::Add { paths, copy, exclude } => self.add(cx, &paths, copy, &exclude),
            Command::Scan { paths, confirm } => self.scan(cx, &paths, confirm),
            Command::Remove { files, yes } => self.remove(cx, &files, yes),
            Command::Removals => self.removals(),
            Command::Get { files, dest, conflict, way } => self.get(cx, &files, dest, conflict, way),
            Command::Pause { ids, all } => self.control(cx, Control::Pause, &ids, all),
            Command::Resume { ids, all } => self.control(cx, Control::Resume, &ids, all),
            Command::Cancel { ids, all } => self.control(cx, Control::Cancel, &ids, all),
            Command::Ticket | Command::RotateTicket => Err(LocalError::new(
                ErrorCode::WrongRole,
                "this node runs no server",
                "ask the server's node: 'bailiwick ticket' with the server's --state or --profile",
            )),
            Command::Stop => Ok(Reply::Done),
        }
    }

    pub(super) fn must_be_master(&self) -> Result<(), LocalError> {
        if self.is_master() {
            return Ok(());
        }
        Err(LocalError::new(ErrorCode::WrongRole, "only the master can do that", "run it at the group's master"))
    }

    fn files(
        &mut self,
        cx: &Cx<'_>,
        query: Option<&str>,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<Reply, LocalError> {
        let limit = limit.unwrap_or(FILES_PAGE_MAX).min(FILES_PAGE_MAX);
        let page = match query.and_then(|query| query.split_once(':')) {
            Some((name, path)) => self.files_by_name(name, path, offset, limit)?,
            None => {
                let owners = query.map(|query| self.owners_matching(query)).unwrap_or_default();
                self.store.files_page(query, &owners, offset, limit).map_err(failed)?
            }
        };
        Ok(Reply::Files(page.iter().map(|row| self.file_row(cx, row)).collect()))
    }

    /// Files whose `NAME:PATH` holds `name:path`: the name ends with the one part and the path begins with the other.
    fn files_by_name(&self, name: &str, path: &str, offset: u64, limit: u64) -> Result<Vec<CatalogRow>, LocalError> {
        let (name, path) = (name.to_lowercase(), path.to_lowercase());
        let mut rows = Vec::new();
        for device in self.roster().devices().filter(|device| device.name.folded().ends_with(&name)) {
            rows.extend(self.store.files_of(&device.id).map_err(failed)?);
        }
        rows.retain(|row| row.file.path.as_str().to_lowercase().starts_with(&path));
        Ok(rows.into_iter().skip(offset as usize).take(limit as usize).collect())
    }

    fn share_rows(&mut self) -> Result<Reply, LocalError> {
        let shares = self.store.shares().map_err(failed)?;
        Ok(Reply::Shares(shares.into_iter().map(|share| self.share_row(share)).collect()))
    }

    fn transfers(&mut self, cx: &Cx<'_>, job: Option<u64>) -> Result<Reply, LocalError> {
        let stored = match job {
            Some(job) => self.store.transfers_of(job),
            None => self.store.newest_transfers(TRANSFERS_LISTED),
        }
        .map_err(failed)?;
        let mut places: HashMap<u64, JobPlace> = HashMap::new();
        let mut rows = Vec::with_capacity(stored.len());
        for row in &stored {
            if !places.contains_key(&row.job) {
                places.extend(self.store.job_place(row.job).map_err(failed)?.map(|place| (row.job, place)));
            }
            rows.extend(places.get(&row.job).map(|place| self.transfer_row(cx, row, place)));
        }
        if job.is_none() {
            rows.extend(self.upload_rows(cx).map_err(failed)?);
        }
        Ok(Reply::Transfers(rows))
    }

    fn jobs(&mut self, cx: &Cx<'_>, job: Option<u64>) -> Result<Reply, LocalError> {
        let jobs = self.store.jobs(job, JOBS_LISTED).map_err(failed)?;
        if let (Some(job), true) = (job, jobs.is_empty()) {
            return Err(LocalError::new(
                ErrorCode::NotFound,
                format!("there is no job {job}"),
                "'bailiwick transfers' shows the jobs",
            ));
        }
        Ok(Reply::Jobs(jobs.into_iter().map(|job| self.job_row(cx, job)).collect()))
    }

    fn invite(&mut self, cx: &mut Cx<'_>, expires_s: u64) -> Result<Reply, LocalError> {
        self.must_be_master()?;
        if expires_s == 0 || expires_s > INVITE_LIFE_MAX.as_secs() {
            return Err(LocalError::new(
                ErrorCode::Usage,
                "an invite lives between a second and a year",
                "give --expires, for example 24h",
            ));
        }
        if let Pen::Master(master) = &self.pen
            && let Gate::Closed(stale) = master.gate
        {
            // Who came with it would be registered by nobody.
            return Err(LocalError::new(ErrorCode::NotNow, stale.to_string(), STALE_HINT));
        }
        if self.servers.moving.is_some() {
            return Err(LocalError::new(
                ErrorCode::NotNow,
                "the group is on its way to another server, where invites of the old one are void",
                "make it in half a minute; 'bailiwick status' tells when it is there",
            ));
        }
        let secret = InviteSecret(draw(cx.random));
        let (id, expires) = (secret.id(), cx.wall_ms + expires_s * 1_000);
        let invite =
            Invite { server: self.group.server.clone(), master: self.key, seal: self.identity.seal_key(), secret };
        let wall_ms = cx.wall_ms;
        let opened = self.with_authority(cx, |authority, _| authority.open_invite(wall_ms, id, expires)).flatten();
        if opened.is_none() {
            return Err(LocalError::new(
                ErrorCode::NotNow,
                "too many invites are open",
                "revoke some with 'bailiwick invite --revoke ID'",
            ));
        }
        let text = invite.to_string();
        self.store.keep_invite(&id, &text, expires).map_err(failed)?;
        Ok(Reply::Invites(vec![invite_row(&id, text, expires)]))
    }

    fn revoke(&mut self, cx: &mut Cx<'_>, text: &str) -> Result<Reply, LocalError> {
        self.must_be_master()?;
        let digits = text.replace('-', "").to_ascii_lowercase();
        let invites = self.store.invites().map_err(failed)?;
        let mut found = invites.into_iter().filter(|(id, _, _)| !digits.is_empty() && hex(&id.0).starts_with(&digits));
        match (found.next(), found.next()) {
            (Some((id, invite, expires)), None) => {
                self.with_authority(cx, |authority, _| authority.revoke_invite(&id));
                Ok(Reply::Invites(vec![invite_row(&id, invite, expires)]))
            }
            (None, _) => Err(LocalError::new(
                ErrorCode::NotFound,
                format!("there is no open invite '{text}'"),
                "'bailiwick invites' shows them",
            )),
            (Some(_), Some(_)) => Err(LocalError::new(
                ErrorCode::Ambiguous,
                format!("'{text}' means several invites"),
                "give more digits of the id; 'bailiwick invites' shows them",
            )),
        }
    }

    /// All the devices are found before anything is decided.
    fn devices(&self, ids: &[String]) -> Result<Vec<PublicId>, LocalError> {
        self.must_be_master()?;
        ids.iter().map(|id| self.find_device(id).map(|device| device.id)).collect()
    }

    pub(super) fn rows_of(&self, ids: &[PublicId]) -> Reply {
        let rows = ids.iter().filter_map(|id| self.roster().device(id)).map(|device| self.client_row(device));
        Reply::Clients(rows.collect())
    }

    fn approve(&mut self, cx: &mut Cx<'_>, ids: &[String]) -> Result<Reply, LocalError> {
        let ids = self.devices(ids)?;
        if let Some(master) = ids.iter().find(|id| self.me == Some(**id)) {
            return Err(LocalError::new(
                ErrorCode::Failed,
                format!("{} is the master itself", self.owner_name(master)),
                "name a device that waits: 'bailiwick approve' shows them",
            ));
        }
        self.all_can_be(cx, &ids, Standing::Approved)?;
        for id in &ids {
            self.with_authority(cx, |authority, moment| authority.approve(moment, id)).transpose().map_err(not_done)?;
        }
        Ok(self.rows_of(&ids))
    }

    fn disapprove(&mut self, cx: &mut Cx<'_>, ids: &[String]) -> Result<Reply, LocalError> {
        let ids = self.devices(ids)?;
        self.all_can_be(cx, &ids, Standing::Disapproved)?;
        for id in &ids {
            self.with_authority(cx, |authority, moment| authority.disapprove(moment, id))
                .transpose()
                .map_err(not_done)?;
        }
        Ok(self.rows_of(&ids))
    }

    /// Before anything is done: what can't be done for one of them is done for none.
    fn all_can_be(&mut self, cx: &mut Cx<'_>, ids: &[PublicId], standing: Standing) -> Result<(), LocalError> {
        let checked =
            self.with_authority(cx, |authority, _| ids.iter().try_for_each(|id| authority.check(id, standing)));
        checked.transpose().map_err(not_done).map(drop)
    }

    fn add(&mut self, cx: &mut Cx<'_>, paths: &[PathBuf], copy: bool, exclude: &[String]) -> Result<Reply, LocalError> {
        self.must_not_be_out()?;
        if let Err(bad) = Exclusions::parse(exclude) {
            return Err(LocalError::new(
                ErrorCode::Usage,
                bad.to_string(),
                "give names such as '*.tmp', or paths such as 'build/**'",
            ));
        }
        let mut shares = Vec::new();
        for path in paths {
            match self.add_share(cx, path, &Adding { copy, exclude }) {
                Ok(share) => shares.push(share),
                Err(NotShared::No(error)) => return Err(error),
                Err(NotShared::Db(error)) => return Err(failed(error)),
            }
        }
        self.rows_of_shares(&shares)
    }

    /// Looks at shares now; at all of them if none is named.
    fn scan(&mut self, cx: &mut Cx<'_>, paths: &[PathBuf], confirm: bool) -> Result<Reply, LocalError> {
        self.must_not_be_out()?;
        let mut shares = Vec::new();
        for path in paths {
            let Some((share, _)) = self.share_above(path).map_err(failed)? else {
                return Err(LocalError::new(
                    ErrorCode::NotFound,
                    format!("{} is not shared", path.display()),
                    "'bailiwick shares' shows what is; 'bailiwick add' shares it",
                ));
            };
            shares.push(share);
        }
        if paths.is_empty() {
            let all = self.store.shares().map_err(failed)?;
            shares.extend(all.into_iter().filter(|share| !share.copy && !share.ending).map(|share| share.path));
        }
        for share in &shares {
            if self.store.share(share).map_err(failed)?.is_some_and(|sum| sum.copy) {
                return Err(LocalError::new(
                    ErrorCode::Usage,
                    format!("{} is shared as a copy, which does not change by itself", share.display()),
                    format!("'bailiwick add --copy {}' makes a new copy", share.display()),
                ));
            }
            self.store.set_scanning(share).map_err(failed)?;
            self.ask_scan(cx, share, Ask { waited_for: true, confirmed: confirm }).map_err(failed)?;
        }
        self.rows_of_shares(&shares)
    }

    fn rows_of_shares(&mut self, paths: &[PathBuf]) -> Result<Reply, LocalError> {
        let rows = self.store.shares().map_err(failed)?;
        let rows = rows.into_iter().filter(|share| paths.contains(&share.path));
        Ok(Reply::Shares(rows.map(|share| self.share_row(share)).collect()))
    }

    fn get(
        &mut self,
        cx: &mut Cx<'_>,
        files: &[String],
        dest: Option<PathBuf>,
        conflict: Option<Conflict>,
        way: Option<Way>,
    ) -> Result<Reply, LocalError> {
        self.must_not_be_out()?;
        if self.standing() != Some(Standing::Approved) {
            let why = self.waiting().unwrap_or_else(|| "waiting for approval".to_owned());
            return Err(LocalError::new(
                ErrorCode::NotNow,
                format!("this device is not a member yet: {why}"),
                "the master's person approves it with 'bailiwick approve'; 'bailiwick wait approved' waits for it",
            ));
        }
        let dest = dest.unwrap_or_else(|| self.downloads_dir.clone());
        let what = files.join(" ");
        let job = match self.store.open_job(&what, &dest).map_err(failed)? {
            // Whoever asks for it again wants it to go on.
            Some(job) => {
                if let Some(conflict) = conflict {
                    self.store.set_conflict(job, conflict).map_err(failed)?;
                }
                self.go_on_with(cx, job).map_err(failed)?;
                job
            }
            None => {
                let transfers = self.find_files(files)?;
                let conflict = conflict.unwrap_or_default();
                self.store.forget_old_jobs(JOBS_KEPT).map_err(failed)?;
                let job = self.store.put_job(&what, &dest, conflict, &transfers).map_err(failed)?;
                if conflict == Conflict::Fail {
                    self.look_at(job, 0).map_err(failed)?;
                }
                job
            }
        };
        if let Some(way) = way {
            self.store.set_way(job, way).map_err(failed)?;
            self.downloads.set_way(cx.now, job, way);
        }
        self.downloads.more(cx.now);
        self.event("job", vec![("job", job.to_string()), ("what", what)]);
        self.jobs(cx, Some(job))
    }
}

pub(super) fn not_done(why: NotDone) -> LocalError {
    match why {
        NotDone::Unknown => {
            LocalError::new(ErrorCode::NotFound, why.to_string(), "'bailiwick clients' shows who there is")
        }
        NotDone::Final => LocalError::new(
            ErrorCode::Refused,
            why.to_string(),
            "the device needs a new state directory and a new invite",
        ),
        NotDone::Master => LocalError::new(ErrorCode::Refused, why.to_string(), "name another device"),
    }
}
