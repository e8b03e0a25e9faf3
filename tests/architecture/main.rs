//! Architecture tests: dependencies point downward, some crates are restricted to some modules, and the files
//! of a room form no cycle. The tests parse the source and report violations by file and line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a source tree that cannot be read should fail the test where it stands"
)]

mod circles;
mod floors;
mod source;
mod states;
mod surface;

use std::path::Path;

use crate::source::Source;

#[test]
fn dependencies_point_downward_and_doors_stay_shut() {
    let violations: Vec<String> = sources().iter().flat_map(floors::violations).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_files_of_a_room_form_no_circle() {
    let violations = circles::violations(&sources(), circles::PARENTS);
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// A module with files below it is their `mod.rs`, so that a folder holds all of a module.
#[test]
fn a_module_with_files_below_it_is_their_mod_file() {
    let sources = sources();
    let beside = |source: &&Source| {
        let folder = source.path.trim_end_matches(".rs").to_owned() + "/";
        sources.iter().any(|other| other.path.starts_with(&folder))
    };
    let found: Vec<&str> = sources.iter().filter(beside).map(|source| source.path.as_str()).collect();
    assert!(found.is_empty(), "move each to `mod.rs` of its folder: {found:?}");
}

/// Returns the files below `src/`.
fn sources() -> Vec<Source> {
    let src = &Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > 20, "the source tree was not found");
    sources
}
