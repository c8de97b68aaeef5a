//! Devices that are out of their group, and masters that are brought back: real nodes.

use crate::real::Nodes;
use crate::{bailiwick, run};

#[test]
fn after_an_import_the_command_that_is_named_starts_that_master() {
    let mut nodes = Nodes::new();
    nodes.start("desk", &["master", "--listen", "127.0.0.1:0", "--name", "desk"]);
    let (word, backup) = (nodes.dir("passphrase"), nodes.dir("group.backup"));
    std::fs::write(&word, "correct horse battery").unwrap();
    let (word, backup) = (format!("@{}", word.display()), backup.to_str().unwrap().to_owned());
    nodes.json("desk", &["export", &backup, "--passphrase", &word]);
    nodes.json("desk", &["stop"]);
    let mut import = bailiwick(&nodes.dir("none"));
    import.env_remove("BAILIWICK_STATE").args(["import", &backup, "--passphrase", &word]);
    let printed = run(import.arg("--state").arg(nodes.dir("it's new")));
    assert_eq!(printed.code, 0, "{}", printed.err);
    let command = format!(
        "`bailiwick master --state '{}/it'\\''s new'`",
        nodes.dir("").display().to_string().trim_end_matches('/')
    );
    assert!(printed.out.contains(&command), "{}", printed.out);
}
