//! The public names of the crate: the list in `lib.rs`, compared with a checked file.

use std::path::Path;

use syn::{Attribute, Item, UseTree, Visibility};

/// The documentation of the crate shows them all on one page.
const MAX_NAMES: usize = 40;

/// A change of the public names takes a change of `surface.txt`, where a reviewer sees it.
#[test]
fn the_public_names_are_those_of_the_checked_list() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = public_names(&std::fs::read_to_string(package.join("src/lib.rs")).unwrap());
    let listed = std::fs::read_to_string(package.join("tests/architecture/surface.txt")).unwrap();
    assert_eq!(names.join("\n"), listed.trim_end(), "tests/architecture/surface.txt lists other names");
    assert!(names.len() <= MAX_NAMES, "{} public names are more than {MAX_NAMES}", names.len());
}

#[test]
fn names_are_found_in_every_form_of_publication() {
    let names = public_names(
        "pub use a::{B, c::D as E}; pub use f::G; use h::I; mod j; #[doc(hidden)] pub mod k;
         pub mod l; pub fn m() {} pub(crate) fn n() {} pub struct O; pub use p::*;",
    );
    assert_eq!(names, ["B", "E", "G", "O", "l", "m", "p::*"]);
}

/// Returns the public names of a root module in order, without hidden items.
fn public_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for item in syn::parse_file(text).unwrap().items {
        let (attributes, visibility, name) = match &item {
            Item::Use(used) => (&used.attrs, &used.vis, None),
            Item::Mod(item) => (&item.attrs, &item.vis, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, &item.vis, Some(&item.sig.ident)),
            Item::Struct(item) => (&item.attrs, &item.vis, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, &item.vis, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, &item.vis, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, &item.vis, Some(&item.ident)),
            Item::Const(item) => (&item.attrs, &item.vis, Some(&item.ident)),
            Item::Static(item) => (&item.attrs, &item.vis, Some(&item.ident)),
            _ => panic!("the test does not know how to name an item of the crate root"),
        };
        if !matches!(visibility, Visibility::Public(_)) || attributes.iter().any(is_hidden) {
            continue;
        }
        match (&item, name) {
            (Item::Use(used), _) => used_names(&used.tree, &mut Vec::new(), &mut names),
            (_, Some(name)) => names.push(name.to_string()),
            (_, None) => {}
        }
    }
    names.sort();
    names
}

fn is_hidden(attribute: &Attribute) -> bool {
    attribute.path().is_ident("doc")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "hidden")
}

fn used_names(tree: &UseTree, path: &mut Vec<String>, names: &mut Vec<String>) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            used_names(&inner.tree, path, names);
            path.pop();
        }
        UseTree::Name(name) => names.push(name.ident.to_string()),
        UseTree::Rename(renamed) => names.push(renamed.rename.to_string()),
        UseTree::Glob(_) => names.push(format!("{}::*", path.join("::"))),
        UseTree::Group(group) => group.items.iter().for_each(|tree| used_names(tree, path, names)),
    }
}
