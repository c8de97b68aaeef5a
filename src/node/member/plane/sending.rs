//! Which units are being sent, or wait to be: so that they can be stopped.

use super::{Command, Plane, send};
use crate::net::connection::Connection;
use crate::node::member::io::{Input, Served, Upload, UploadSource, Withdrawn};
use crate::state::conn::ConnId;
use crate::wire::frame::{ChunkRange, ChunkRefusal};
use crate::wire::ids::ContentId;
use std::collections::HashMap;
use tokio::task::AbortHandle;

/// A unit on its way out: on which connection, for which request, which content and unit.
pub(super) type SendingKey = (ConnId, u64, ContentId, u32);

/// Units on their way out.
#[derive(Default)]
pub(super) struct Sending(HashMap<SendingKey, (Upload, AbortHandle)>);

fn key_of(upload: &Upload) -> SendingKey {
    (upload.conn, upload.request, upload.content, upload.index)
}

impl Plane {
    pub(super) async fn upload(&mut self, connection: Connection, upload: Upload, source: UploadSource) {
        let (Some(group), Some(epoch)) = (self.group, self.newest.clone()) else {
            return self.tell(Input::Served(upload, Served::No(ChunkRefusal::NotReady))).await;
        };
        let (outlet, commands) = (self.outlet.clone(), self.commands.clone());
        let task = tokio::spawn(async move {
            send::send(connection, group, epoch, upload, source, outlet).await;
            let _ = commands.send(Command::Sent(key_of(&upload)));
        });
        self.sending.0.insert(key_of(&upload), (upload, task.abort_handle()));
    }

    pub(super) fn sent(&mut self, key: &SendingKey) {
        self.sending.0.remove(key);
    }

    /// Nobody wants these any more. A stream that was cut short is reset.
    pub(super) fn unsend(&mut self, conn: ConnId, request: u64, ranges: &[ChunkRange]) {
        for (content, index, _) in ranges.iter().flat_map(ChunkRange::chunks) {
            if let Some((_, task)) = self.sending.0.remove(&(conn, request, content, index)) {
                task.abort();
            }
        }
    }

    /// These may not be sent any more: who waits for them is told.
    pub(super) async fn stop_uploads(&mut self, which: Withdrawn) {
        let sending = self.sending.0.values().map(|(upload, _)| *upload);
        let stopped: Vec<Upload> = sending.filter(|upload| which.covers(upload)).collect();
        for upload in stopped {
            if let Some((_, task)) = self.sending.0.remove(&key_of(&upload)) {
                task.abort();
                self.tell(Input::Served(upload, Served::No(which.reason()))).await;
            }
        }
    }
}
