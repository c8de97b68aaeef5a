//! What a `get` found at its places: files that were there already, and names that were taken.

use super::end::Outcome;
use super::group::unexpected;
use super::output::Output;
use crate::api::client::Client;
use crate::node::local::*;
use std::collections::HashMap;

/// New names that a person is told; `--json` has all.
const RENAMES_SHOWN: usize = 5;
/// Files of the catalog that are looked at for new names, for each thing that was asked for.
const NAMES_MAX: u64 = 10_000;

/// How many of a job's files were there already: nothing came in for them.
pub(super) fn tell_there(job: &JobRow, rows: &[TransferRow], output: Output) -> Outcome {
    let is_there =
        |row: &&TransferRow| row.state == TransferState::Done && row.received_bytes == 0 && row.total_bytes > 0;
    match rows.iter().filter(is_there).count() as u64 {
        // Where nothing came in at all, the line above has said so.
        0 => Ok(()),
        _ if job.received_bytes == 0 => Ok(()),
        1 => output.line("1 of them was there already"),
        several => output.line(&format!("{several} of them were there already")),
    }
}

/// What lies under another name than the catalog's.
pub(super) async fn tell_renamed(node: &Client, asked: &[String], rows: &[TransferRow], output: Output) -> Outcome {
    let names = names(node, asked).await?;
    let is_done = |row: &&TransferRow| row.state == TransferState::Done;
    let renamed: Vec<(&str, &str)> = rows.iter().filter(is_done).filter_map(|row| renamed(row, &names)).collect();
    for (from, to) in renamed.iter().take(RENAMES_SHOWN) {
        output.line(&format!("renamed: {from} is {to} here"))?;
    }
    match renamed.len().saturating_sub(RENAMES_SHOWN) {
        0 => Ok(()),
        more => output.line(&format!("  … and {more} more; `bailiwick transfers --json` shows all")),
    }
}

/// The path in the catalog and the one below the job's folder, if the one doesn't end like the other.
fn renamed<'a>(row: &'a TransferRow, names: &'a HashMap<String, String>) -> Option<(&'a str, &'a str)> {
    let (name, path) = (row.name.as_deref()?, names.get(&row.file)?);
    let ends = path.strip_suffix(name).is_some_and(|above| above.is_empty() || above.ends_with('/'));
    (!ends).then_some((path, name))
}

/// Paths in the catalog, by the ids of the files.
async fn names(node: &Client, asked: &[String]) -> Outcome<HashMap<String, String>> {
    let mut names = HashMap::new();
    for query in asked {
        let command = Command::Files { query: Some(query.clone()), offset: 0, limit: Some(NAMES_MAX) };
        let Reply::Files(rows) = node.ask(&command).await? else { return Err(unexpected()) };
        names.extend(rows.into_iter().map(|row| (row.id, row.path)));
    }
    Ok(names)
}
