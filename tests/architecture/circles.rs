//! Dependency cycles inside a room: a module at the crate's root with the files below it.
//!
//! A file depends on another file of its room if it names something there. A declaration (`mod a;`) and a
//! re-export from below (`pub use a::A;`) are not dependencies; code that uses the re-exported name depends
//! on the file that defines it. Test-only code is ignored.

use std::collections::{BTreeMap, BTreeSet};

use crate::floors::OUTSIDE;
use crate::source::{Reading, Source};

/// A parent module that the files below it may name although it names them, because it holds their shared
/// parts.
pub(crate) struct Parent {
    pub(crate) file: &'static str,
    pub(crate) reason: &'static str,
}

pub(crate) const PARENTS: &[Parent] = &[
    Parent {
        file: "audit_log/mod.rs",
        reason: "its error and its bound, which the queue behind it answers with",
    },
    Parent { file: "broker/mod.rs", reason: "the broker, of which the files below implement a part each" },
    Parent {
        file: "carnet/mod.rs",
        reason: "the opened issuer, of which the files below implement a part each",
    },
    Parent { file: "cli/demo/mod.rs", reason: "how a step of the demo is told" },
    Parent { file: "cli/failure/mod.rs", reason: "the failure that a server's refusal is made into" },
    Parent { file: "cli/feed/mod.rs", reason: "the arguments of a subcommand" },
    Parent { file: "cli/grant/mod.rs", reason: "how the limits of a grant are shown" },
    Parent { file: "cli/key/mod.rs", reason: "the actor that every subcommand records" },
    Parent {
        file: "cli/serve/mod.rs",
        reason: "the signal that ends a server, also while it begins to listen",
    },
    Parent { file: "exchange/aws/mod.rs", reason: "the addresses of the calls" },
    Parent {
        file: "exchange/google_artifact_registry/mod.rs",
        reason: "the token that one call hands to the next",
    },
    Parent {
        file: "exchange/mod.rs",
        reason: "one call, its credential and its error, in which every provider answers",
    },
    Parent {
        file: "exchange/transport/mod.rs",
        reason: "the transport's error, in which a proxy's failures are told",
    },
    Parent {
        file: "feed/mod.rs",
        reason: "a feed and its errors, which the rules of each provider speak of",
    },
    Parent { file: "feeds/mod.rs", reason: "the service's error, in which its rules answer" },
    Parent { file: "access/grants/mod.rs", reason: "the service's error, in which its quotas answer" },
    Parent { file: "http/api/mod.rs", reason: "the state that every handler is called with" },
    Parent { file: "http/tls/mod.rs", reason: "the files and errors of the certificate that is read" },
    Parent { file: "sandbox/aws/mod.rs", reason: "the state that every handler is called with" },
    Parent { file: "sandbox/azure/mod.rs", reason: "the state that every handler is called with" },
    Parent { file: "sandbox/faults/mod.rs", reason: "the step whose answer a fault takes the place of" },
    Parent { file: "sandbox/google/mod.rs", reason: "the state that every handler is called with" },
    Parent { file: "signing_keys/mod.rs", reason: "a key and its stage, of which rotation decides" },
    Parent {
        file: "store/mod.rs",
        reason: "the store and its transaction, of which the files below implement a part each",
    },
    Parent { file: "check/mod.rs", reason: "why a step failed, in which every step answers" },
    Parent { file: "setup/mod.rs", reason: "the rule and its error, in which every provider answers" },
];

/// The dependencies of a file, each with the line of its first mention.
type Graph = BTreeMap<String, BTreeMap<String, usize>>;

pub(crate) fn violations(sources: &[Source], parents: &[Parent]) -> Vec<String> {
    let readings: Vec<(&str, Reading)> =
        sources.iter().filter_map(|source| Some((source.path.as_str(), source.read().ok()?))).collect();
    let mut graph = dependencies(&readings);
    let mut found = Vec::new();
    for Parent { file, reason } in parents {
        assert!(!reason.is_empty(), "{file} is allowed without a reason");
        let below = |from: &str| from.starts_with(&format!("{}/", folder(file)));
        // An exception must still close a cycle.
        let closes = graph.iter().any(|(from, to)| {
            below(from) && to.contains_key(*file) && path_between(&graph, file, from).is_some()
        });
        if !closes {
            found.push(format!("src/{file} is in no circle with a file below it: take it off the list"));
        }
        for (_, to) in graph.iter_mut().filter(|(from, _)| below(from)) {
            to.remove(*file);
        }
    }
    while let Some(circle) = shortest_circle(&graph) {
        let mut what = format!("a circle of {} files:", circle.len());
        for (at, from) in circle.iter().enumerate() {
            let to = &circle[(at + 1) % circle.len()];
            what += &format!("\n  src/{from}:{} uses src/{to}", graph[from][to]);
        }
        found.push(what);
        // Without this edge, the search finds the next cycle.
        let (last, first) = (&circle[circle.len() - 1], &circle[0]);
        graph.get_mut(last).and_then(|to| to.remove(first));
    }
    found
}

fn dependencies(readings: &[(&str, Reading)]) -> Graph {
    let files: BTreeMap<&[String], &(&str, Reading)> =
        readings.iter().map(|file| (file.1.module.as_slice(), file)).collect();
    let of_tests: BTreeSet<&[String]> = readings
        .iter()
        .flat_map(|(_, reading)| &reading.declares)
        .filter_map(|(module, is_test)| is_test.then_some(module.as_slice()))
        .collect();
    let is_for_tests =
        |module: &[String]| (1..=module.len()).any(|length| of_tests.contains(&module[..length]));
    let mut graph = Graph::new();
    for (path, reading) in readings {
        let module = reading.module.as_slice();
        if module.first().is_none_or(|room| OUTSIDE.contains(&room.as_str())) || is_for_tests(module) {
            continue;
        }
        let own = graph.entry((*path).to_owned()).or_default();
        for mention in reading.mentions.iter().filter(|mention| !mention.is_test && !mention.passes_on) {
            let Some(target) = file_of(&files, module, &mention.path) else { continue };
            let is_other = target.1.module != reading.module;
            if is_other && target.1.module.first() == module.first() && !is_for_tests(&target.1.module) {
                own.entry(target.0.to_owned()).or_insert(mention.line);
            }
        }
    }
    graph
}

/// Returns the file that defines what `path` names, as seen from `module`.
fn file_of<'a>(
    files: &BTreeMap<&[String], &'a (&'a str, Reading)>,
    module: &[String],
    path: &[String],
) -> Option<&'a (&'a str, Reading)> {
    let mut path = absolute(files, module, path)?;
    // Names are re-exported through a few levels at most.
    for _ in 0..8 {
        let length = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
        let file = files[&path[..length]];
        let passed_on = path.get(length).and_then(|name| file.1.passes_on.get(name));
        let next = passed_on.and_then(|to| absolute(files, &file.1.module, to));
        match next {
            Some(next) if next.first() == path.first() => {
                let rest = path[length + 1..].to_vec();
                path = next.into_iter().chain(rest).collect();
            }
            _ => return Some(file),
        }
    }
    None
}

/// Returns the path from the crate's root, without `crate`; `None` for a path into another crate.
fn absolute(
    files: &BTreeMap<&[String], &(&str, Reading)>,
    module: &[String],
    path: &[String],
) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    if first == "crate" {
        return Some(rest.to_vec());
    }
    // A module below this one, by its bare name.
    let below: Vec<String> = module.iter().chain([first]).cloned().collect();
    files.contains_key(below.as_slice()).then(|| below.iter().chain(rest).cloned().collect())
}

/// The folder of the files below a module: `a` for `a.rs` and for `a/mod.rs`.
fn folder(file: &str) -> &str {
    file.strip_suffix("/mod.rs").or_else(|| file.strip_suffix(".rs")).unwrap_or(file)
}

/// Finds a shortest path along dependencies, including both ends.
fn path_between(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, Option<&str>> = BTreeMap::from([(from, None)]);
    let mut next = std::collections::VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            let mut path = vec![at.to_owned()];
            let mut step = at;
            while let Some(Some(before)) = came_from.get(step) {
                path.insert(0, (*before).to_owned());
                step = before;
            }
            return Some(path);
        }
        for other in graph.get(at).into_iter().flatten().map(|(other, _)| other.as_str()) {
            if !came_from.contains_key(other) {
                came_from.insert(other, Some(at));
                next.push_back(other);
            }
        }
    }
    None
}

fn shortest_circle(graph: &Graph) -> Option<Vec<String>> {
    let edges = graph.iter().flat_map(|(from, to)| to.keys().map(move |to| (from, to)));
    edges.filter_map(|(from, to)| path_between(graph, to, from)).min_by_key(Vec::len)
}

/// Proves that the checker can fail.
#[test]
fn a_circle_is_found_in_small_trees_and_nothing_else_is_taken_for_one() {
    let tree = |files: &[(&str, &str)]| {
        let source = |(path, text): &(&str, &str)| Source { path: (*path).into(), text: (*text).into() };
        files.iter().map(source).collect::<Vec<_>>()
    };
    for (files, expected) in [
        (
            &[("a/mod.rs", "mod b; mod c;"), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "use super::b::B;")]
                [..],
            "a circle of 2 files:\n  src/a/c.rs:1 uses src/a/b.rs\n  src/a/b.rs:1 uses src/a/c.rs",
        ),
        // A parent that uses a file that uses it.
        (
            &[("a.rs", "mod b;\nfn f() { b::g() }"), ("a/b.rs", "use super::f;")],
            "a circle of 2 files:\n  src/a/b.rs:1 uses src/a.rs\n  src/a.rs:2 uses src/a/b.rs",
        ),
        (
            &[
                ("a/mod.rs", "mod b; mod c; mod d;"),
                ("a/b.rs", "fn f() { crate::a::c::g::<u8>() }"),
                ("a/c.rs", "fn g<T>() -> super::d::D {}"),
                ("a/d.rs", "fn h() { say!(\"{}\", super::b::f()) }"),
            ],
            "a circle of 3 files:",
        ),
        // A cycle through a name that the parent re-exports.
        (
            &[
                ("a/mod.rs", "mod b; mod c; pub(crate) use b::B; pub use c::C as Other;"),
                ("a/b.rs", "use super::Other;"),
                ("a/c.rs", "use crate::a::B;"),
            ],
            "a circle of 2 files:",
        ),
        // A cycle through a glob, and from a module within the file.
        (
            &[
                ("a/mod.rs", "mod b; mod x { use super::b::*; }"),
                ("a/b.rs", "mod y { use super::super::f; }"),
            ],
            "a circle of 2 files:",
        ),
    ] {
        let found = violations(&tree(files), &[]);
        assert!(found.len() == 1 && found[0].contains(expected), "{files:?}\ngave {found:#?}");
    }
    for files in [
        &[("a/mod.rs", "mod b; pub use b::B; fn f() {}"), ("a/b.rs", "use super::f;")][..],
        &[("a/mod.rs", "mod b; mod c;"), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "use other::b::B;")],
        // A cycle between two rooms is allowed.
        &[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;")],
        // A cycle in test-only code is allowed.
        &[
            ("a/mod.rs", "mod b; fn f() {}\n#[cfg(test)] mod t { use super::b::B; }"),
            ("a/b.rs", "use super::f;"),
        ],
        &[
            ("a.rs", "#[cfg(test)] mod tests; fn f() {}"),
            ("a/tests.rs", "mod x; use super::f;"),
            ("a/tests/x.rs", "use super::g;"),
        ],
        &[
            ("a/mod.rs", "mod b; mod c;"),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", "// super::b::B\nconst A: &str = \"super::b::B\";"),
        ],
    ] {
        let found = violations(&tree(files), &[]);
        assert!(found.is_empty(), "{files:?}\ngave {found:#?}");
    }
}

#[test]
fn a_parent_that_is_allowed_must_close_a_circle_and_excuses_no_other() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let parents = [Parent { file: "a/mod.rs", reason: "because" }];
    let mut sources = vec![source("a/mod.rs", "mod b; fn f() { b::g() }"), source("a/b.rs", "use super::f;")];
    assert_eq!(violations(&sources, &parents), [""; 0]);
    sources.push(source("a/b/c.rs", "use crate::a::b::B;"));
    sources[1].text = "mod c; use super::f; fn g() { c::h() }".to_owned();
    let found = violations(&sources, &parents);
    assert!(found.len() == 1 && found[0].contains("src/a/b.rs:1 uses src/a/b/c.rs"), "{found:#?}");
    let found = violations(&[source("a/mod.rs", "mod b;"), source("a/b.rs", "use super::f;")], &parents);
    assert!(found.len() == 1 && found[0].contains("src/a/mod.rs is in no circle"), "{found:#?}");
}
