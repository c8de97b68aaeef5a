//! `files` and `shares`.

use super::end::Outcome;
use super::group::{LAST_KNOWN, none_text, short, tell_out, unexpected};
use super::output::{self, Output, Rows};
use super::units;
use crate::api::client::Client;
use crate::node::local::*;

/// Rows asked for at once: a page is some megabytes.
const PAGE: u64 = 10_000;

/// What is said where a member sees no file.
const NO_FILES: &str = "no files yet; `bailiwick add PATH` shares some";

/// `files`.
pub(super) async fn files(node: &Client, query: Option<&str>, output: Output) -> Outcome {
    let mut offset = 0;
    loop {
        let rows = page(node, query, offset).await?;
        if output.json && offset == 0 {
            output.part("[")?;
        }
        match output.json {
            true => output.part(&joined(&rows, offset > 0))?,
            false => print_page(node, &rows, offset, query, output).await?,
        }
        offset += rows.len() as u64;
        if (rows.len() as u64) < PAGE {
            break;
        }
    }
    if output.json { output.part("]\n") } else { Ok(()) }
}

async fn page(node: &Client, query: Option<&str>, offset: u64) -> Outcome<Vec<FileRow>> {
    let command = Command::Files { query: query.map(str::to_owned), offset, limit: Some(PAGE) };
    match node.ask(&command).await? {
        Reply::Files(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

fn joined(rows: &[FileRow], goes_on: bool) -> String {
    let rows = rows.iter().map(output::json).collect::<Vec<_>>().join(",");
    if goes_on && !rows.is_empty() { format!(",{rows}") } else { rows }
}

async fn print_page(node: &Client, rows: &[FileRow], offset: u64, query: Option<&str>, output: Output) -> Outcome {
    match (rows.is_empty(), offset, query) {
        (false, offset, _) => {
            if offset == 0 {
                tell_out(node, LAST_KNOWN, output).await;
            }
            output.table(file_table(rows))
        }
        (true, 0, query) => {
            let holds = query.map(|query| format!("no file's NAME:PATH holds '{query}'"));
            let none = none_text(node, NO_FILES).await;
            output.line(holds.as_deref().filter(|_| none == NO_FILES).unwrap_or(none))
        }
        (true, 1.., _) => Ok(()),
    }
}

/// Files as a table.
pub(super) fn file_table(rows: &[FileRow]) -> Rows {
    let row = |file: &FileRow| {
        let slash = if file.kind == KindRow::Folder { "/" } else { "" };
        let size = if file.kind == KindRow::Folder { String::new() } else { units::size(file.size) };
        let away = if file.available { "" } else { ", owner away" };
        vec![
            format!("{}:{}{slash}", file.owner_name, file.path),
            size,
            format!("{}{away}", status_text(file.status)),
            short(&file.id),
        ]
    };
    Rows::new(&["FILE", ">SIZE", "STATUS", "ID"]).with(rows.iter().map(row))
}

fn status_text(status: FileStatus) -> &'static str {
    match status {
        FileStatus::Syncing => "syncing",
        FileStatus::Idle => "idle",
        FileStatus::Downloading => "downloading",
        FileStatus::Uploading => "uploading",
        FileStatus::Removed => "removed",
    }
}

/// Asks for the shares.
pub(super) async fn ask_shares(node: &Client) -> Outcome<Vec<ShareRow>> {
    match node.ask(&Command::Shares).await? {
        Reply::Shares(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

/// `shares`.
pub(super) async fn shares(node: &Client, output: Output) -> Outcome {
    let rows = ask_shares(node).await?;
    tell_out(node, "nothing is shared with the group any more", output).await;
    output.rows(&rows, "this device shares nothing; `bailiwick add PATH` shares something", share_table)
}

fn share_table(rows: &[ShareRow]) -> Rows {
    let row = |share: &ShareRow| {
        vec![
            share.path.display().to_string(),
            share.name.clone(),
            share.files.to_string(),
            units::size(share.bytes),
            share_state(share),
        ]
    };
    Rows::new(&["PATH", "NAME", ">FILES", ">SIZE", "STATE"]).with(rows.iter().map(row))
}

/// What a share is about, in words.
pub(super) fn share_state(share: &ShareRow) -> String {
    let mut parts = Vec::new();
    if share.scanning {
        parts.push("scanning".to_owned());
    }
    if share.syncing > 0 {
        parts.push(format!("{} syncing", share.syncing));
    }
    if share.leaving > 0 {
        parts.push(format!("{} leaving", share.leaving));
    }
    if share.missing > 0 {
        parts.push(format!("{} missing", share.missing));
    }
    let removed = share.removed.saturating_sub(share.taken_out);
    if removed > 0 {
        parts.push(format!("{removed} removed"));
    }
    if share.taken_out > 0 {
        let kept = match (share.copy, share.taken_out) {
            (false, _) => "",
            (true, 1) => "; the copy is kept",
            (true, _) => "; the copies are kept",
        };
        parts.push(format!("{} taken out by the master{kept}", share.taken_out));
    }
    if share.copy {
        parts.push("a copy".to_owned());
    }
    if !share.exclude.is_empty() {
        parts.push(format!("without {}", share.exclude.join(", ")));
    }
    if share.skipped_count > 0 {
        parts.push(format!("{} skipped", share.skipped_count));
    }
    parts.extend(share.reason.clone());
    if parts.is_empty() { "shared".to_owned() } else { parts.join(", ") }
}
