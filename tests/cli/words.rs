//! Invites and tickets in files, as people and programs write them there.

use crate::{bailiwick, run};
use bailiwick::wire::invite::{Address, Invite, InviteSecret, ServerAddress};
use bailiwick::wire::sign::Identity;
use tempfile::tempdir;

fn invite(secret: u8) -> String {
    let (server, master) = (Identity::from_seeds([9; 32], [9; 32]), Identity::from_seeds([1; 32], [2; 32]));
    let server = ServerAddress { key: server.device_key(), addresses: vec![Address::parse("192.0.2.1:4433").unwrap()] };
    let (seal, master) = (master.seal_key(), master.device_key());
    Invite { server, master, seal, secret: InviteSecret([secret; 16]) }.to_string()
}

/// What `client` says of a file with this text, where its state directory can't be had: the word comes first.
fn told(text: &str) -> String {
    let dir = tempdir().unwrap();
    let (file, state) = (dir.path().join("invite.txt"), dir.path().join("state"));
    std::fs::write(&file, text).unwrap();
    std::fs::write(&state, "").unwrap();
    let printed = run(bailiwick(&state).args(["client", &format!("@{}", file.display())]));
    assert_eq!(printed.code, 2, "{}", printed.err);
    printed.err
}

#[test]
fn the_one_invite_in_a_file_is_found_among_other_words() {
    let (one, other) = (invite(1), invite(2));
    let (begin, end) = one.split_at(40);
    let good = [
        format!("for one device, until 2026-01-01; on that device:\n  bailiwick client {one}\n"),
        format!("\"{one}\" and once more ({one}),"),
        format!("An invite begins with bwi1… .\n{begin}\n{end}\nSee you!"),
    ];
    for text in good {
        assert!(told(&text).contains("is not a folder"), "{text}: {}", told(&text));
    }
    let several = told(&format!("{one}\n{other}\n"));
    assert!(several.contains("holds 2 different invites") && several.contains("\n  hint: "), "{several}");
    let none = told("nothing of the kind");
    assert!(none.contains("holds no invite") && none.contains("\n  hint: "), "{none}");
    assert!(told(&format!("see {}", &one[..100])).contains("damaged or incomplete"));
}
