//! `demo`: the whole story on one machine, told by the commands that a person would type, each run as a process of
//! its own. What arrives is checked against what was shared, byte by byte and by the catalog's hashes.

mod cast;
mod sample;
mod verify;

use super::args::{DemoArgs, Global};
use super::end::{End, INTERRUPTED, Outcome};
use super::group::{path_text, short};
use super::output::{Output, Rows};
use super::{place, units};
use crate::node::local::*;
use cast::{Cast, Device};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a step may take that needs no bytes to be moved.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a step looks whether it is done.
const POLL: Duration = Duration::from_millis(50);

/// `demo`.
pub(super) fn run(args: &DemoArgs, _global: &Global, output: Output) -> Outcome {
    let path = args.path.as_ref().map(|path| place::existing(std::slice::from_ref(path))).transpose()?;
    let path = path.and_then(|paths| paths.into_iter().next());
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let watched = interrupted.clone();
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            watched.store(true, Ordering::Relaxed);
        }
    });
    let story = Cast::new(output, interrupted.clone()).and_then(|mut cast| {
        let story = tell(&mut cast, path)?;
        cast.clear()?;
        Ok(story)
    });
    match (story, interrupted.load(Ordering::Relaxed)) {
        (_, true) => Err(End { code: INTERRUPTED, error: None }),
        (Ok(story), false) => summary(&story, output),
        (Err(end), false) => Err(end),
    }
}

/// What the table at the end shows.
#[derive(Serialize)]
struct Story {
    approved: Vec<ClientRow>,
    fetched: Vec<Fetched>,
}

/// One share, fetched by the device that asked.
#[derive(Serialize)]
struct Fetched {
    what: String,
    files: u64,
    folders: u64,
    bytes: u64,
    verified: u64,
    elapsed_ms: u64,
    rate: u64,
    path: Option<PathRow>,
}

/// Something that a device shares.
struct Shared<'a> {
    owner: &'a Device,
    path: PathBuf,
    /// Whether it is to come straight from its owner, or not at all.
    direct_only: bool,
}

fn tell(cast: &mut Cast, path: Option<PathBuf>) -> Outcome<Story> {
    let (pictures, notes) = cast.step("prepare", |cast| prepare(cast, path))?;
    let (vps, desktop) = cast.step("start a server and a master", start_group)?;
    let (laptop, tablet) = cast.step("start two clients", |cast| start_clients(cast, &desktop))?;
    let approved = cast.step("approve", |cast| approve(cast, &desktop, [&laptop, &tablet]))?;
    let shares = [
        Shared { owner: &desktop, path: pictures, direct_only: false },
        Shared { owner: &laptop, path: notes, direct_only: true },
    ];
    cast.step("share", |cast| share(cast, &shares, &tablet))?;
    let mut fetched = Vec::new();
    for shared in &shares {
        fetched.push(cast.step("fetch and verify", |cast| fetch(cast, shared, &tablet))?);
    }
    cast.step("stop", |cast| stop(cast, &[&tablet, &laptop, &desktop, &vps]))?;
    Ok(Story { approved, fetched })
}

/// What the master and a client share.
fn prepare(cast: &mut Cast, path: Option<PathBuf>) -> Outcome<(PathBuf, PathBuf)> {
    let home = cast.home("laptop")?.join("Notes");
    sample::notes(&home)?;
    let pictures = match path {
        Some(path) => path,
        None => {
            let pictures = cast.home("desktop")?.join("Pictures");
            sample::pictures(&pictures)?;
            pictures
        }
    };
    Ok((pictures, home))
}

fn start_group(cast: &mut Cast) -> Outcome<(Device, Device)> {
    let vps = cast.start("vps", &["server", "--listen", "127.0.0.1:0"])?;
    let ticket = vps.word(|ready| ready.ticket.as_ref())?;
    let desktop = cast.start("desktop", &["master", "--server", &ticket, "--name", "desktop"])?;
    Ok((vps, desktop))
}

/// The first by the invite that the master printed, the second by another.
fn start_clients(cast: &mut Cast, desktop: &Device) -> Outcome<(Device, Device)> {
    let first = desktop.word(|ready| ready.invite.as_ref())?;
    let laptop = start_client(cast, "laptop", &first)?;
    let another = ["invite", "--expires", "1h"];
    cast.echo(desktop.name, &another)?;
    let rows: Vec<InviteRow> = cast.read(desktop, &another)?;
    let second = rows.into_iter().next().ok_or_else(super::group::unexpected)?.invite;
    Ok((laptop, start_client(cast, "tablet", &second)?))
}

fn start_client(cast: &mut Cast, name: &'static str, invite: &str) -> Outcome<Device> {
    let downloads = cast.home(name)?.join("Downloads");
    cast.start(name, &["client", invite, "--name", name, "--downloads", &downloads.to_string_lossy()])
}

fn approve(cast: &mut Cast, desktop: &Device, clients: [&Device; 2]) -> Outcome<Vec<ClientRow>> {
    let waiting = cast.until("both clients are registered", |cast| {
        let mut rows: Vec<ClientRow> = cast.read(desktop, &["clients"])?;
        rows.retain(|row| row.standing == StandingRow::Registered);
        Ok((rows.len() == clients.len()).then_some(rows))
    })?;
    cast.show(desktop, &["clients"])?;
    let mut command = vec!["approve"];
    command.extend(waiting.iter().map(|row| row.id.as_str()));
    cast.show(desktop, &command)?;
    clients.iter().try_for_each(|client| cast.show(client, &["wait", "approved"]))?;
    Ok(waiting)
}

/// Shares, and waits until the one who will fetch sees all of it.
fn share(cast: &mut Cast, shares: &[Shared<'_>], reader: &Device) -> Outcome {
    for shared in shares {
        cast.show(shared.owner, &["add", &shared.path.to_string_lossy()])?;
    }
    cast.until("the catalog has arrived", |cast| {
        for shared in shares {
            let query = query_of(shared)?;
            let own: Vec<FileRow> = cast.read(shared.owner, &["files", &query])?;
            let seen: Vec<FileRow> = cast.read(reader, &["files", &query])?;
            if own.is_empty() || seen.len() < own.len() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    cast.show(reader, &["files"])
}

/// `NAME:PATH` of what is shared.
fn query_of(shared: &Shared<'_>) -> Outcome<String> {
    let name = shared.path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name =
        name.ok_or_else(|| place::usage("the root of a disk has no name to share it by", "give another path"))?;
    Ok(format!("{}:{name}", shared.owner.name))
}

fn fetch(cast: &mut Cast, shared: &Shared<'_>, reader: &Device) -> Outcome<Fetched> {
    let what = query_of(shared)?;
    let dest = cast.home(reader.name)?.join("Downloads");
    let start = Instant::now();
    let dest_text = dest.to_string_lossy();
    let mut command = vec!["get", &what, "-o", &dest_text];
    command.extend(shared.direct_only.then_some("--direct-only"));
    cast.show(reader, &command)?;
    let elapsed = start.elapsed();
    let rows: Vec<FileRow> = cast.read(reader, &["files", &what])?;
    let transfers: Vec<TransferRow> = cast.read(reader, &["transfers"])?;
    let ids: std::collections::HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let path = transfers.iter().filter(|row| ids.contains(row.file.as_str())).find_map(|row| row.path);
    let name = shared.path.file_name().map(PathBuf::from).unwrap_or_default();
    let checked = verify::verify(&shared.path, &dest.join(name), &rows)?;
    cast.say(&format!("verified {what}: {} are what was shared", units::count(checked.files, "file")))?;
    Ok(Fetched {
        what,
        files: checked.files,
        folders: checked.folders,
        bytes: checked.bytes,
        verified: checked.files,
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        rate: units::mean_rate(checked.bytes, elapsed),
        path,
    })
}

fn stop(cast: &mut Cast, devices: &[&Device]) -> Outcome {
    devices.iter().try_for_each(|device| cast.show(device, &["stop"]))
}

fn summary(story: &Story, output: Output) -> Outcome {
    if output.json {
        return output.value(story);
    }
    output.line("")?;
    let approved = story.approved.iter().map(|row| format!("{} ({})", row.name, short(&row.id)));
    output.line(&format!("approved: {}", approved.collect::<Vec<_>>().join(", ")))?;
    let row = |fetched: &Fetched| {
        vec![
            fetched.what.clone(),
            fetched.files.to_string(),
            fetched.folders.to_string(),
            units::size(fetched.bytes),
            format!("{} of {}", fetched.verified, fetched.files),
            units::time(Duration::from_millis(fetched.elapsed_ms)),
            units::rate(fetched.rate),
            fetched.path.map(path_text).unwrap_or_default().to_owned(),
        ]
    };
    let titles = &["FETCHED", ">FILES", ">FOLDERS", ">SIZE", ">VERIFIED", ">TIME", ">RATE", "PATH"];
    output.table(Rows::new(titles).with(story.fetched.iter().map(row)))
}

/// An error of the demo itself.
fn failed(error: impl Into<String>) -> End {
    LocalError::new(ErrorCode::Failed, error, "run it again with -v; the output above tells what happened").into()
}

/// An error of the file system, with the path.
fn at(path: &Path) -> impl Fn(std::io::Error) -> End {
    let path = path.display().to_string();
    move |error| failed(format!("{path}: {error}"))
}
